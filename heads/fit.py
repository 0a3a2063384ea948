"""Whether a head can serve a target, and what it costs in memory.

Knows sizes of both; asks before any decode, so that a mismatch is one clear error. How well a head drafts
is for measuring to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

import torch

from adapters.errors import HeadError
from heads.spec import EagleSpec, Head, MedusaSpec, default_taps

_PADDING = 128  # rows by which vocabularies of the same tokenizer may differ


@dataclass(frozen=True, slots=True)
class HeadBytes:
    """Memory that a head takes, in bytes. borrowed: copies of the target's embedding and projection."""

    weights: int
    borrowed: int
    kv_per_1000_tokens: int

    def total(self, n_ctx: int) -> int:
        return self.weights + self.borrowed + self.kv_per_1000_tokens * n_ctx // 1000


class TargetSizes(Protocol):
    """What a head must fit: a GGUF's facts (`GgufFacts`) and a loaded model have these."""

    @property
    def n_embd(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def architecture(self) -> str: ...


def check_fit(head: Head, target: TargetSizes, *, layer_inputs: bool = True) -> tuple[str, ...]:
    """What to know about this pair; raises HeadError when the head cannot serve this target.

    layer_inputs: whether the inputs of the target's layers can be read at all, where that matters yet.
    """
    spec, architecture = head.spec, target.architecture
    if spec.hidden_size != target.n_embd:
        _fail(
            head,
            f"was made for a hidden size of {spec.hidden_size}, "
            f"the target ({architecture}) has {target.n_embd}",
        )
    notes = _check_vocabulary(head, target.n_vocab)
    if isinstance(spec, EagleSpec) and spec.family == "eagle3":
        if not layer_inputs:
            _fail(
                head,
                f"reads the inputs of layers, which this llama.cpp does not give for {architecture}",
                "use an EAGLE-1/2 or Medusa head",
            )
        taps = taps_of(head, target.n_layer)
        origin = "config.json" if spec.taps else "the usual ones, as config.json names none"
        notes.append(f"reads the inputs of layers {', '.join(map(str, taps))} ({origin})")
    return tuple(notes)


def taps_of(head: Head, n_layer: int) -> tuple[int, ...]:
    """The layers of a target of `n_layer` layers whose inputs the head reads; empty for post-norm rows."""
    spec = head.spec
    if isinstance(spec, MedusaSpec) or spec.family != "eagle3":
        return ()
    taps = spec.taps or default_taps(n_layer)
    if len(taps) != spec.n_taps:
        _fail(
            head,
            f"reads {spec.n_taps} layers, but config.json does not name them "
            f"and the usual ones of {n_layer} layers are {', '.join(map(str, taps))}",
            "add eagle_aux_hidden_state_layer_ids to config.json",
        )
    if taps[-1] >= n_layer:
        _fail(head, f"reads the input of layer {taps[-1]}, the target has layers 0 to {n_layer - 1}")
    return taps


def head_bytes(
    head: Head, *, n_embd: int, n_vocab: int, dtype: torch.dtype = torch.float32, tied: bool = False
) -> HeadBytes:
    """Memory with weights in `dtype`; int8 = in 8 bits as CPUs have them: matrices in blocks with a scale
    each, the rest in bfloat16, keys and values in float32. tied: the target's embedding is its projection,
    one copy does unless one of them is rounded."""
    spec, in_8_bits = head.spec, dtype == torch.int8
    size, matrix = _sizes(dtype)
    weights = _weight_bytes(head.tensors, dtype)
    row = n_vocab * n_embd
    if isinstance(spec, MedusaSpec):
        return HeadBytes(int(weights), int(row * matrix) if spec.n_vocab is None else 0, 0)
    borrowed = {"embedding.weight": row * size, "output.weight": row * matrix}
    missing = [n_bytes for name, n_bytes in borrowed.items() if name not in head.tensors]
    shared = tied and not in_8_bits
    kv = 2 * spec.n_layers * spec.n_kv_heads * spec.head_dim * (4 if in_8_bits else dtype.itemsize)
    return HeadBytes(int(weights), int(max(missing, default=0) if shared else sum(missing)), 1000 * kv)


def step_bytes(head: Head, *, n_embd: int, n_vocab: int, dtype: torch.dtype = torch.float32) -> int:
    """What a step reads: all weights and the projection, but of an embedding only one row."""
    read = {name: tensor for name, tensor in head.tensors.items() if not name.startswith("embedding.")}
    borrows = not any(name.startswith("output") for name in head.tensors)
    _, matrix = _sizes(dtype)
    return int(_weight_bytes(read, dtype) + (n_vocab * n_embd * matrix if borrows else 0))


_BLOCK_BYTES = 34 / 32  # of a weight in 8 bits


def _sizes(dtype: torch.dtype) -> tuple[float, float]:
    """Bytes of a number, and of a weight of a matrix."""
    return (2.0, _BLOCK_BYTES) if dtype == torch.int8 else (float(dtype.itemsize), float(dtype.itemsize))


def _weight_bytes(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> float:
    own = {id(tensor): (name, tensor) for name, tensor in tensors.items()}  # heads may share one
    return sum(_bytes(name, tensor, *_sizes(dtype)) for name, tensor in own.values())


def _bytes(name: str, tensor: torch.Tensor, size: float, matrix: float) -> float:
    if not tensor.is_floating_point():
        return 8 * tensor.numel()
    rounded = tensor.dim() > 1 and not name.startswith(("fc.", "embedding."))
    return tensor.numel() * (matrix if rounded else size)


def _check_vocabulary(head: Head, n_vocab: int) -> list[str]:
    notes: list[str] = []
    ids = head.tensors.get("d2t", head.tensors.get("token_map"))
    if ids is not None and int(ids.max()) >= n_vocab:
        _fail(head, f"drafts token {int(ids.max())}, the target has {n_vocab} tokens")
    projection = head.tensors.get("output.weight", head.tensors.get("outputs.0.weight"))
    if projection is not None and ids is None:
        notes += _compare(head, "projection", len(projection), n_vocab)
    embedding = head.tensors.get("embedding.weight")
    if embedding is not None:
        notes += _compare(head, "embedding", len(embedding), n_vocab)
    if projection is None and embedding is None and isinstance(head.spec, EagleSpec):
        said = head.spec.n_vocab
        if said != n_vocab:
            notes.append(f"config.json says {said} tokens, the target has {n_vocab}; the target's are used")
    return notes


def _compare(head: Head, what: str, n_rows: int, n_vocab: int) -> list[str]:
    if abs(n_rows - n_vocab) > _PADDING:
        _fail(head, f"its {what} has {n_rows} rows, the target has {n_vocab} tokens")
    if n_rows == n_vocab:
        return []
    return [f"its {what} has {n_rows} rows for {n_vocab} tokens of the target: taken for padding"]


def _fail(head: Head, text: str, advice: str = "use a head that was made for this very model") -> NoReturn:
    raise HeadError(f"{head.source}: {text}; {advice}")
