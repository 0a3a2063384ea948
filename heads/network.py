"""From a head as it was read to a network that runs: dtype, device, and what it borrows of the target.

Knows which matrix comes from where; nothing of files or of drafting.
"""

from typing import Protocol

import torch
from torch import Tensor

from adapters.errors import HeadError
from heads.eagle import Eagle
from heads.eagle3 import Eagle3
from heads.layer import FUSED
from heads.matrix import to_blocks, to_int8
from heads.medusa import Medusa
from heads.spec import EagleSpec, Head, MedusaSpec, Spec
from heads.stacking import copied, laid_out

Network = Medusa | Eagle


class Weights(Protocol):
    """What a head may borrow of its target (`heads.target_weights.TargetWeights`)."""

    @property
    def embedding(self) -> Tensor: ...
    @property
    def output(self) -> Tensor: ...
    @property
    def embedding_scale(self) -> float: ...


def network_of(
    head: Head,
    target: Weights,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    vocabulary: Tensor | None = None,
    n_vocab: int | None = None,
    in_blocks: bool = False,
) -> Network:
    """The network of `head`, ready to draft.

    dtype: of weights and arithmetic; int8 = weights of 8 bits (on a CPU), arithmetic in bfloat16. in_blocks:
    matrices in 8 bits as ggml has them (see heads.ggml_pass), arithmetic in dtype where PyTorch does it.
    n_vocab: the target's tokens, where the head's matrices may be padded differently. vocabulary: target
    ids that a head without a vocabulary of its own is cut down to, as its projection is most of what a step
    costs (FR-Spec: Zhao et al. 2025); tokens outside are then never drafted.
    """
    device, in_8_bits = torch.device(device), dtype == torch.int8
    dtype = torch.bfloat16 if in_8_bits else dtype
    with torch.no_grad():
        network = (
            _medusa(head, head.spec, target, dtype, device)
            if isinstance(head.spec, MedusaSpec)
            else _eagle(head, head.spec, target, dtype, device, vocabulary, n_vocab)
        )
        # what meets the features is used once a round, and has large numbers beside small ones
        if in_8_bits:
            to_int8(network, keep=("fc",))
        elif in_blocks:
            to_blocks(network, keep=("fc",))
    return network.eval().requires_grad_(False)


def _medusa(
    head: Head, spec: MedusaSpec, target: Weights, dtype: torch.dtype, device: torch.device
) -> Medusa:
    tensors = _moved(head, dtype, device)
    output = target.output.to(device, dtype) if spec.n_vocab is None else None
    return Medusa(spec, tensors, output)


def _eagle(
    head: Head,
    spec: EagleSpec,
    target: Weights,
    dtype: torch.dtype,
    device: torch.device,
    vocabulary: Tensor | None,
    n_vocab: int | None,
) -> Eagle:
    tensors = _moved(head, dtype, device)
    if dtype == torch.float16 and spec.family == "eagle3":
        # features hold outliers beyond what half precision can count to
        tensors |= {
            name: head.tensors[name].to(device, torch.float32) for name in tensors if _meets_features(name)
        }
    embeddings, scale = tensors.get("embedding.weight"), 1.0
    if embeddings is None:
        embeddings, scale = target.embedding.to(device, dtype), target.embedding_scale
    output = tensors.get("output.weight")
    if output is None:
        output = target.output.to(device, dtype)
    if n_vocab is not None:
        embeddings = _with_rows(embeddings, n_vocab)
        output = output if "d2t" in tensors else output[:n_vocab]  # padding must not be drafted
    if vocabulary is not None:
        if "d2t" in tensors:
            raise HeadError(f"{head.source} has a vocabulary of its own; leave head_vocab out")
        tensors["d2t"] = vocabulary.to(device)
        output = output[tensors["d2t"]]
    kind = Eagle3 if spec.family == "eagle3" else Eagle
    return kind(spec, tensors, embeddings, output, scale)


def _with_rows(matrix: Tensor, n: int) -> Tensor:
    """`matrix` with rows of zeros up to `n`: tokens that it does not know must not be an error."""
    missing = n - len(matrix)
    return matrix if missing <= 0 else torch.cat([matrix, matrix.new_zeros(missing, matrix.shape[1])])


def _meets_features(name: str) -> bool:
    return name.startswith(("fc.", "fc_norms.", "input_norm."))


def _moved(head: Head, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Weights in `dtype`, token ids as they are; what is right already is not copied, but for what networks
    join. Of what is copied the file's pages go at once: both would be in memory until the head is forgotten.
    """
    moved: dict[int, Tensor] = {}  # heads may share a matrix
    for names in _joined(head.spec):
        parts = [head.tensors[name] for name in names]
        moved |= dict(zip(map(id, parts), laid_out(parts, dtype, device), strict=True))
    for tensor in head.tensors.values():
        if id(tensor) not in moved:
            kind = dtype if tensor.is_floating_point() else torch.int64
            moved[id(tensor)] = copied(tensor, kind, device)
    return {name: moved[id(tensor)] for name, tensor in head.tensors.items()}


def _joined(spec: Spec) -> list[list[str]]:
    """Names of the matrices that stand on top of each other in a network."""
    if isinstance(spec, MedusaSpec):
        blocks, heads = range(spec.n_blocks), range(spec.n_heads)
        return [[f"blocks.{head}.{block}.weight" for head in heads] for block in blocks]
    layers, fused = range(spec.n_layers), [parts for parts in FUSED.values() if len(parts) > 1]
    return [[f"layers.{layer}.{part}.weight" for part in parts] for layer in layers for parts in fused]
