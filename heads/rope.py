"""Rotary positions (Su et al. 2021) in the rotate-half form of Hugging Face's checkpoints.

Knows angles only. Tables grow with the context, so no checkpoint's `max_position_embeddings` is a limit.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.errors import HeadError
from heads.spec import Rope

_FIRST = 1024  # positions tabulated at once; then twice as many as are needed


def frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Radians per position, `[head_dim / 2]` float64, the scaling applied."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    plain = rope.theta**-exponents
    scaling = rope.scaling
    if scaling is None:
        return plain
    kind = scaling.get("rope_type")
    if kind == "linear":
        return plain / float(scaling["factor"])
    if kind == "llama3":
        return _llama3(plain, scaling)
    raise HeadError(f"rope scaling {kind!r} is not known; linear and llama3 are")


def _llama3(plain: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Llama 3.1's scaling: slow angles are divided by the factor, fast ones are left, with a ramp between."""
    factor, length = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = length * plain / (2 * math.pi)  # within the context of the first training
    share = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return share * plain + (1 - share) * plain / factor


class RotaryTable:
    """Cosines and sines by position, made as far as they are needed."""

    def __init__(self, rope: Rope, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self._frequencies = frequencies(rope, head_dim)
        self._dtype, self._device = dtype, device
        self._cos = self._sin = torch.empty(0, head_dim, dtype=dtype, device=device)

    def rows(self, positions: slice | Tensor, most: int) -> tuple[Tensor, Tensor]:
        """(cos, sin), `[n, head_dim]` each, of positions below `most`; the first half of sin is negated."""
        if most > len(self._cos):
            self._grow(max(_FIRST, 2 * most))
        return self._cos[positions], self._sin[positions]

    def _grow(self, n: int) -> None:
        angles = torch.outer(torch.arange(n, dtype=torch.float64), self._frequencies)
        cos, sin = angles.cos(), angles.sin()
        self._cos = torch.cat([cos, cos], dim=-1).to(self._device, self._dtype)
        self._sin = torch.cat([-sin, sin], dim=-1).to(self._device, self._dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x [n, n_heads, head_dim]` turned by the angles of its rows, `[n, head_dim]` as a table gives them."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos[:, None], torch.cat([second, first], dim=-1), sin[:, None])
