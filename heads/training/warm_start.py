"""A new EAGLE-3 head that begins as the target's own last layer, and the tokens that it may draft.

The last layer makes the target's final rows of what enters it: close to what the head has to learn. Knows
llama.cpp's names of tensors.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import HeadError, UnsupportedModel
from adapters.gguf_header import Header, read_headers
from adapters.gguf_weights import find_weights
from heads.spec import EagleSpec, Family, Head, Rope
from heads.target_weights import TargetWeights

# llama.cpp stores the rows of these architectures' q and k in pairs, for its interleaved rotary positions
_INTERLEAVED = frozenset(("llama", "mistral3", "granite", "minicpm", "olmo"))
_NAMES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def draft_vocabulary(texts: Iterable[Sequence[int]], n: int) -> Tensor:
    """The `n` most frequent tokens of `texts`, ascending `[<= n]` int64."""
    counts = Counter(token for text in texts for token in text)
    return torch.tensor(sorted(token for token, _ in counts.most_common(n)), dtype=torch.int64)


def places_of(ids: Tensor, n_vocab: int) -> Tensor:
    """Of each of the target's `n_vocab` tokens the place in the draft vocabulary `ids`, -1 outside: `[V]`."""
    places = torch.full((n_vocab,), -1, dtype=torch.int64)
    places[ids] = torch.arange(len(ids))
    return places


def warm_head(path: Path, taps: tuple[int, ...], d2t: Tensor) -> Head:
    """An EAGLE-3 head before training, float32. d2t: the target's ids that it may draft."""
    begun = _Begun(path)
    h, layer = begun.h, begun.layer
    for name in ("q", "k", "v"):  # the embedding's half begins silent
        silent = torch.zeros_like(layer[f"layers.0.{name}.weight"])
        layer[f"layers.0.{name}.weight"] = torch.cat([silent, layer[f"layers.0.{name}.weight"]], dim=1)
    fuse = torch.zeros(h, len(taps) * h)
    fuse[:, -h:] = torch.eye(h)  # the highest tap is nearest to the end
    tensors = {
        **layer,
        "fc.weight": fuse,
        "layers.0.input_norm.weight": torch.ones(h),
        "norm.weight": begun.weights.final_norm.clone(),
        "output.weight": begun.weights.output[d2t].clone(),
        "d2t": d2t,
    }
    spec = begun.spec("eagle3", n_vocab=len(d2t), n_taps=len(taps), taps=taps)
    return Head(spec, tensors, str(path), ("begun as the target's last layer",))


def with_vocabulary(head: Head, d2t: Tensor, weights: TargetWeights) -> Head:
    """An EAGLE-3 head that may draft the target's ids `d2t`: what it has learned of each stays, and those
    that are new to it become of the target's rows what these have become."""
    spec, had = head.spec, head.tensors.get("d2t")
    if not isinstance(spec, EagleSpec) or had is None:
        raise HeadError(f"{head.source}: drafts all of the target's tokens; it takes no other vocabulary")
    learned, width = head.tensors["output.weight"], weights.output.shape[1]
    if learned.shape[1] != width:
        raise HeadError(
            f"{head.source}: its rows are {learned.shape[1]} wide and the target's {width}, so new tokens "
            "have nothing to begin with; go on with its own vocabulary, without --new-vocab"
        )
    known = places_of(had, len(weights.output))[d2t]
    output = _moved(weights.output[had].float(), learned.float(), weights.output[d2t].float())
    output = torch.where(known[:, None] >= 0, learned.float()[known], output).to(learned.dtype)
    tensors = {**head.tensors, "output.weight": output, "d2t": d2t}
    return Head(replace(spec, n_vocab=len(d2t)), tensors, head.source, head.notes)


def _moved(before: Tensor, after: Tensor, rows: Tensor) -> Tensor:
    """`rows` `[n, h]` moved as rows `before` `[m, h]` have moved to `after`: by the affine map that explains
    it best (ridge regression). The target's own rows would not do: among those that training has
    pushed down they would win every choice."""
    inputs = torch.cat([before, torch.ones(len(before), 1)], dim=1)
    gram = inputs.T @ inputs
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
    change: Tensor = torch.linalg.solve(gram, inputs.T @ (after - before))
    return rows + torch.cat([rows, torch.ones(len(rows), 1)], dim=1) @ change


def warm_eagle(path: Path) -> Head:
    """An EAGLE-1 head before training, float32: it passes the feature on, by the target's last layer with its
    two ways out closed."""
    begun = _Begun(path)
    layer = {name: tensor for name, tensor in begun.layer.items() if "_norm" not in name or "post" in name}
    for name in ("o", "down"):
        layer[f"layers.0.{name}.weight"] = torch.zeros_like(layer[f"layers.0.{name}.weight"])
    passed_on = torch.cat([torch.zeros(begun.h, begun.h), torch.eye(begun.h)], dim=1)
    spec = begun.spec("eagle", n_vocab=len(begun.weights.embedding))
    return Head(spec, {**layer, "fc.weight": passed_on}, str(path))


class _Begun:
    """The target's last layer, and the sizes that follow from it."""

    def __init__(self, path: Path) -> None:
        headers = read_headers(path)
        self._path, self.weights, self._fields = path, TargetWeights(path), headers[0].fields
        architecture = self.weights.architecture
        parts = _last_layer(headers, int(self._number("block_count")) - 1, path)
        self.n_heads = int(self._number("attention.head_count"))
        self.h, n_query = parts["o.weight"].shape
        self.head_dim = n_query // self.n_heads
        self.n_kv = len(parts["k.weight"]) // self.head_dim
        self.n_mlp = len(parts["up.weight"])
        if architecture in _INTERLEAVED:
            parts["q.weight"] = _apart(parts["q.weight"], self.n_heads)
            parts["k.weight"] = _apart(parts["k.weight"], self.n_kv)
        self.layer = {f"layers.0.{name}": tensor for name, tensor in parts.items()}

    def _number(self, key: str, default: float | None = None) -> float:
        name = f"{self.weights.architecture}.{key}"
        value = self._fields.get(name, default)
        if not isinstance(value, int | float):
            raise UnsupportedModel(f"{self._path}: {name} is {value!r}; no head can be made for it yet")
        return float(value)

    def spec(self, family: Family, *, n_vocab: int, n_taps: int = 1, taps: tuple[int, ...] = ()) -> EagleSpec:
        return EagleSpec(
            family=family,
            hidden_size=self.h,
            width=self.h,
            n_layers=1,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv,
            head_dim=self.head_dim,
            intermediate_size=self.n_mlp,
            n_vocab=n_vocab,
            rope=Rope(self._number("rope.freq_base", 10000.0)),
            eps=self.weights.eps,
            n_taps=n_taps,
            taps=taps,
        )


def _last_layer(headers: list[Header], layer: int, path: Path) -> dict[str, Tensor]:
    def found(name: str) -> Tensor:
        return torch.from_numpy(find_weights(headers, f"blk.{layer}.{name}").read().copy())

    stored = {name for header in headers for name in header.tensors}
    missing = [name for name in _NAMES.values() if f"blk.{layer}.{name}.weight" not in stored]
    if missing:
        raise UnsupportedModel(
            f"{path}: its last layer has no {missing[0]}, so no head can be made of it yet; "
            "models with Llama's layers can be used"
        )
    parts: dict[str, Tensor] = {}
    for name, gguf in _NAMES.items():
        for kind in ("weight", "bias"):
            if f"blk.{layer}.{gguf}.{kind}" in stored:
                parts[f"{name}.{kind}"] = found(f"{gguf}.{kind}")
    norms: Mapping[str, str] = {"hidden_norm": "attn_norm", "post_norm": "ffn_norm"}
    parts |= {f"{ours}.weight": found(f"{gguf}.weight").flatten() for ours, gguf in norms.items()}
    for name in ("q_norm", "k_norm"):
        if f"blk.{layer}.attn_{name}.weight" in stored:
            parts[f"{name}.weight"] = found(f"attn_{name}.weight").flatten()
    return {name: tensor.flatten() if name.endswith(".bias") else tensor for name, tensor in parts.items()}


def _apart(rows: Tensor, n_heads: int) -> Tensor:
    """Rows of interleaved pairs -> the two halves of rotate-half positions."""
    n_out, n_in = rows.shape
    return rows.view(n_heads, n_out // n_heads // 2, 2, n_in).transpose(1, 2).reshape(n_out, n_in)
