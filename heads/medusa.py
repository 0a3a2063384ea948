"""Medusa (Cai et al. 2024): several heads on the same row, each guessing one token further.

    guess i = output_i(blocks_i(h)),  block(x) = x + SiLU(W x + b)

Knows the forward pass; nothing of trees or of where the row comes from.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from heads.matrix import matrix
from heads.spec import MedusaSpec
from heads.stacking import on_top


class Medusa(nn.Module):
    """The network. output: the target's projection `[V, h]` where the heads have none of their own.
    token_map: the target's ids of the heads' vocabulary, None = the same."""

    token_map: Tensor | None

    def __init__(self, spec: MedusaSpec, tensors: Mapping[str, Tensor], output: Tensor | None = None) -> None:
        super().__init__()
        self.spec = spec
        heads = range(spec.n_heads)
        self.weights = nn.ParameterList(
            on_top([tensors[f"blocks.{i}.{block}.weight"] for i in heads]).view(
                spec.n_heads, -1, spec.hidden_size
            )
            for block in range(spec.n_blocks)
        )
        self.biases = nn.ParameterList(
            torch.stack([tensors[f"blocks.{i}.{block}.bias"] for i in heads])
            for block in range(spec.n_blocks)
        )
        own = [tensors[f"outputs.{i}.weight"] for i in heads] if spec.n_vocab is not None else []
        # heads that share a projection are one product with all rows, and no copy
        shared = [output] if output is not None and not own else own[:1] if _all_same(own) else own
        self.outputs = nn.ModuleList(map(matrix, shared))
        self.dtype = shared[0].dtype
        self.register_buffer("token_map", tensors.get("token_map"), persistent=False)

    @property
    def device(self) -> torch.device:
        return cast(nn.Linear, self.outputs[0]).weight.device

    def forward(self, hidden: Tensor) -> Tensor:
        """`[n, h]` post-norm rows -> logits `[n_heads, n, n_vocab]`."""
        x = hidden.to(self.dtype).expand(self.spec.n_heads, *hidden.shape)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = x + silu(torch.baddbmm(bias[:, None], x, weight.transpose(1, 2)))
        if len(self.outputs) == 1:
            rows: Tensor = self.outputs[0](x)
            return rows
        return torch.stack([output(one) for one, output in zip(x, self.outputs, strict=True)])

    def last(self, index: int, hidden: Tensor) -> Tensor:
        """What the projection of one head reads, `[n, h]` -> `[n, h]`."""
        x = hidden
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = x + silu(linear(x, weight[index], bias[index]))
        return x

    def projection(self, index: int) -> Tensor:
        """That of one head, `[n_vocab, h]`."""
        return cast(nn.Linear, self.outputs[min(index, len(self.outputs) - 1)]).weight

    def canonical(self) -> dict[str, Tensor]:
        """The tensors that make these heads, by canonical names."""
        found: dict[str, Tensor] = {}
        for block, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            for i in range(self.spec.n_heads):
                found |= {f"blocks.{i}.{block}.weight": weight[i], f"blocks.{i}.{block}.bias": bias[i]}
        if self.spec.n_vocab is not None:
            outputs = [cast(nn.Linear, output).weight for output in self.outputs]
            last = len(outputs) - 1
            found |= {f"outputs.{i}.weight": outputs[min(i, last)] for i in range(self.spec.n_heads)}
        return found if self.token_map is None else found | {"token_map": self.token_map}


def _all_same(tensors: list[Tensor]) -> bool:
    return len({tensor.data_ptr() for tensor in tensors}) == 1
