"""The matrices of a head: as they are, or with weights of 8 bits.

A draft step reads every weight once, so that it is as fast as they are small. Knows products; nothing of what
they are for.
"""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from heads.stacking import give_back


class Int8Matrix(nn.Module):
    """`x W^T + b` with W rounded to 8 bits, one scale for each of its rows; x stays in bfloat16.

    Rounding changes what a head guesses now and then, never what the target says.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rounded = torch.empty(weight.shape, dtype=torch.int8)
        scale = torch.empty(len(weight), dtype=torch.bfloat16)
        for rows in _stretches(*weight.shape):
            part = weight[rows].float()
            largest = part.abs().amax(dim=1).clamp_(min=1e-12) / 127
            scale[rows] = largest.to(torch.bfloat16)
            rounded[rows] = (part / largest[:, None]).round_().to(torch.int8)
            give_back(weight[rows])
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16))

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """`[..., n_in]` -> `[..., n_out]`, of the outputs from `first` on."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = torch._weight_int8pack_mm(rows, self.weight[first:], self.scale[first:])
        out = out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias[first:]


class BlockMatrix(nn.Module):
    """`x W^T + b` with W rounded to 8 bits, one scale for each 32 weights of a row: Q8_0, as ggml multiplies
    with it where it lies (heads.ggml_network).

    PyTorch has no such product: here the weights are made of it again, which pays for many rows only.
    """

    weight: Tensor  # [n_out, n_in / 32 * 34] bytes: of each block a float16 scale and 32 numbers
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        n_out, self.in_features = weight.shape
        packed = torch.empty(n_out, self.in_features // BLOCK, 2 + BLOCK, dtype=torch.uint8)
        for rows in _stretches(n_out, self.in_features):
            part = weight[rows].float().view(-1, self.in_features // BLOCK, BLOCK)
            scale = (part.abs().amax(dim=-1, keepdim=True) / 127).clamp_(min=_LEAST)
            packed[rows, :, :2] = scale.half().view(torch.uint8)
            packed[rows, :, 2:] = (part / scale).round_().to(torch.int8).view(torch.uint8)
            give_back(weight[rows])
        self.register_buffer("weight", packed.flatten(1))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """`[..., n_in]` -> `[..., n_out]`, of the outputs from `first` on."""
        stretches = _stretches(len(self.weight), self.in_features, first)
        out = torch.cat([linear(x, self.rows(rows, x.dtype)) for rows in stretches], dim=-1)
        return out if self.bias is None else out + self.bias[first:]

    def rows(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Those rows of the matrix that it stands for."""
        packed = self.weight[rows].view(-1, self.in_features // BLOCK, 2 + BLOCK)
        scale = packed[..., :2].contiguous().view(torch.float16).to(dtype)
        return (packed[..., 2:].view(torch.int8).to(dtype) * scale).flatten(1)


BLOCK = 32  # weights
_LEAST = 6e-8  # the smallest float16
_STRETCH = 2**21  # numbers


def _stretches(n_out: int, n_in: int, first: int = 0) -> Iterator[slice]:
    """Rows that are rounded together: a head may be larger than the memory that is left."""
    n = max(1, _STRETCH // n_in)
    return (slice(start, start + n) for start in range(first, n_out, n))


def matrix(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear map that owns `weight [n_out, n_in]`, without a copy."""
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight = nn.Parameter(weight)
    made.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return made


def product_from(first: int, matrix: nn.Module, x: Tensor) -> Tensor:
    """`matrix(x)` from output `first` on, without computing what comes before."""
    out: Tensor
    if isinstance(matrix, nn.Linear):
        bias: Tensor | None = matrix.bias  # None where there is none, whatever PyTorch's types say
        out = linear(x, matrix.weight[first:], None if bias is None else bias[first:])
    else:
        out = matrix(x, first)
    return out


def to_int8(network: nn.Module, keep: Collection[str] = ()) -> None:
    """Round every matrix of `network` but those named in `keep` to 8 bits, in place."""
    _replace(network, keep, lambda linear: Int8Matrix(linear.weight.detach(), linear.bias))


def to_blocks(network: nn.Module, keep: Collection[str] = ()) -> None:
    """The same in Q8_0; what does not divide into blocks stays as it is."""

    def rounded(linear: nn.Linear) -> nn.Module:
        if linear.in_features % BLOCK:
            return linear
        return BlockMatrix(linear.weight.detach(), None if linear.bias is None else linear.bias.detach())

    _replace(network, keep, rounded)


def _replace(network: nn.Module, keep: Collection[str], by: Callable[[nn.Linear], nn.Module]) -> None:
    for name, module in list(network.named_children()):
        if name in keep:
            continue
        if isinstance(module, nn.Linear):
            setattr(network, name, by(module))
        else:
            _replace(module, (), by)
