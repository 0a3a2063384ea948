"""A new EAGLE-3 head that begins as the target's own last layer, and the tokens that it may draft.

The last layer makes the target's final rows of what enters it: close to what the head has to learn. Knows
llama.cpp's names of tensors.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import UnsupportedModel
from adapters.gguf_header import Header, read_headers
from adapters.gguf_weights import find_weights
from heads.spec import EagleSpec, Head, Rope
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


def draft_vocabulary(answers: Iterable[Sequence[int]], n: int) -> Tensor:
    """The `n` most frequent tokens of the target's own answers, ascending `[<= n]` int64."""
    counts = Counter(token for answer in answers for token in answer)
    return torch.tensor(sorted(token for token, _ in counts.most_common(n)), dtype=torch.int64)


def warm_head(path: Path, taps: tuple[int, ...], d2t: Tensor) -> Head:
    """The head before training, float32. d2t: the target's ids that it may draft."""
    headers, weights = read_headers(path), TargetWeights(path)
    architecture, fields = weights.architecture, headers[0].fields

    def number(key: str) -> float:
        value = fields.get(f"{architecture}.{key}")
        if not isinstance(value, int | float):
            raise UnsupportedModel(
                f"{path}: {architecture}.{key} is {value!r}; no head can be made for it yet"
            )
        return float(value)

    n_layer, n_heads = int(number("block_count")), int(number("attention.head_count"))
    parts = _last_layer(headers, n_layer - 1, path)
    h, n_query = parts["o.weight"].shape
    head_dim = n_query // n_heads
    n_kv = len(parts["k.weight"]) // head_dim
    if architecture in _INTERLEAVED:
        parts["q.weight"] = _apart(parts["q.weight"], n_heads)
        parts["k.weight"] = _apart(parts["k.weight"], n_kv)
    layer = {f"layers.0.{name}": tensor for name, tensor in parts.items()}
    for name in ("q", "k", "v"):  # the embedding's half begins silent
        silent = torch.zeros_like(parts[f"{name}.weight"])
        layer[f"layers.0.{name}.weight"] = torch.cat([silent, parts[f"{name}.weight"]], dim=1)
    spec = EagleSpec(
        family="eagle3",
        hidden_size=h,
        width=h,
        n_layers=1,
        n_heads=n_heads,
        n_kv_heads=n_kv,
        head_dim=head_dim,
        intermediate_size=len(parts["up.weight"]),
        n_vocab=len(d2t),
        rope=Rope(float(fields.get(f"{architecture}.rope.freq_base", 10000.0))),
        eps=weights.eps,
        n_taps=len(taps),
        taps=taps,
    )
    fuse = torch.zeros(h, len(taps) * h)
    fuse[:, -h:] = torch.eye(h)  # the highest tap is nearest to the end
    tensors = {
        **layer,
        "fc.weight": fuse,
        "layers.0.input_norm.weight": torch.ones(h),
        "norm.weight": weights.final_norm.clone(),
        "output.weight": weights.output[d2t].clone(),
        "d2t": d2t,
    }
    return Head(spec, tensors, str(path), ("begun as the target's last layer",))


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
