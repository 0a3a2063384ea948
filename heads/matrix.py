"""The matrices of a head: as they are, or with weights of 8 bits.

A draft step reads every weight once, so that it is as fast as they are small. Knows products; nothing of what
they are for.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn


class Int8Matrix(nn.Module):
    """`x W^T + b` with W rounded to 8 bits, one scale for each of its rows; x stays in bfloat16.

    Rounding changes what a head guesses now and then, never what the target says.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = weight.abs().amax(dim=1).float().clamp_(min=1e-12) / 127
        rounded = torch.empty(weight.shape, dtype=torch.int8)
        for rows in range(0, len(weight), _STRETCH):  # in stretches: a head may be larger than what is left
            part = slice(rows, rows + _STRETCH)
            rounded[part] = (weight[part].float() / scale[part, None]).round().to(torch.int8)
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.register_buffer("bias", None if bias is None else bias.to(torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., n_in]` -> `[..., n_out]`."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = torch._weight_int8pack_mm(rows, self.weight, self.scale)
        out = out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


_STRETCH = 4096  # rows


def matrix(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear map that owns `weight [n_out, n_in]`, without a copy."""
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight = nn.Parameter(weight)
    made.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return made


def to_int8(network: nn.Module, keep: Collection[str] = ()) -> None:
    """Round every matrix of `network` but those named in `keep` to 8 bits, in place."""
    for name, module in list(network.named_children()):
        if name in keep:
            continue
        if isinstance(module, nn.Linear):
            setattr(network, name, Int8Matrix(module.weight.detach(), module.bias))
        else:
            to_int8(module)
