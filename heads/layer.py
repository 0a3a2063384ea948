"""A decoder layer of a head: attention over a draft cache, then a gated MLP; Llama's, but for what enters.

Knows weights and shapes; what the layer's input is made of is for the networks to say.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from heads.draft_cache import DraftCache
from heads.matrix import matrix, product_from
from heads.norm import normed
from heads.rope import rotate
from heads.spec import EagleSpec
from heads.stacking import on_top

# matrices with the same input are one, which saves a pass of overhead each
FUSED = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
_NORMS = ("post_norm", "input_norm", "q_norm", "k_norm")


class View(NamedTuple):
    """Where new rows stand and what they see: written from row `start` on, turned by cos and sin, seeing the
    cache from row `first` on; mask `[n, rows]` True = visible, None where everything is."""

    start: int
    first: int
    cos: Tensor
    sin: Tensor
    mask: Tensor | None

    def from_row(self, n: int) -> "View":
        """Without the first `n` rows."""
        mask = None if self.mask is None else self.mask[n:]
        return View(self.start + n, self.first, self.cos[n:], self.sin[n:], mask)


class Layer(nn.Module):
    """`out = r + MLP(norm(r))` with `r = residual + Attention(x)`; x may be wider than the residual."""

    post_norm: nn.Parameter
    input_norm: nn.Parameter | None  # of layers behind the first
    q_norm: nn.Parameter | None
    k_norm: nn.Parameter | None

    def __init__(self, spec: EagleSpec, tensors: Mapping[str, Tensor]) -> None:
        """tensors: the canonical ones of this layer (`q.weight`, `q.bias`, ..., `post_norm.weight`)."""
        super().__init__()
        self.n_heads, self.n_kv, self.head_dim = spec.n_heads, spec.n_kv_heads, spec.head_dim
        self.eps = spec.eps
        self.qkv, self.o = _fused("qkv", tensors), _fused("o", tensors)
        self.gate_up, self.down = _fused("gate_up", tensors), _fused("down", tensors)
        for name in _NORMS:
            weight = tensors.get(f"{name}.weight")
            self.register_parameter(name, None if weight is None else nn.Parameter(weight))

    def canonical(self) -> dict[str, Tensor]:
        """The tensors that `Layer` was made of, as they are now."""
        sizes = {"q": self.n_heads * self.head_dim, "k": self.n_kv * self.head_dim}
        sizes |= {"v": sizes["k"], "gate": self.down.in_features, "up": self.down.in_features}
        found: dict[str, Tensor] = {}
        for fused, parts in FUSED.items():
            for kind, value in getattr(self, fused).named_parameters():
                pieces = value.split([sizes[part] for part in parts]) if len(parts) > 1 else (value,)
                found |= {f"{part}.{kind}": piece for part, piece in zip(parts, pieces, strict=True)}
        norms = {f"{name}.weight": getattr(self, name) for name in _NORMS}
        return found | {name: weight for name, weight in norms.items() if weight is not None}

    def entering(self, residual: Tensor) -> Tensor:
        """What the attention of a layer behind the first reads."""
        return residual if self.input_norm is None else normed(residual, self.input_norm, self.eps)

    def forward(self, residual: Tensor, x: Tensor, cache: DraftCache, index: int, view: View) -> Tensor:
        """residual `[n, width]`, x `[n, n_in]` -> `[n, width]`; keys and values go into layer `index`."""
        r = residual + self._attention(x, cache, index, view)
        return r + self.mlp(r)

    def keep(self, x: Tensor, cache: DraftCache, index: int, view: View) -> None:
        """Of the first rows of `view` only what others see of them: x `[n, n_in]`."""
        rows = product_from(self.n_heads * self.head_dim, self.qkv, x)
        rows = rows.view(len(x), 2 * self.n_kv, self.head_dim)
        keys = rotate(self._normed(rows[:, : self.n_kv], 0), view.cos[: len(x)], view.sin[: len(x)])
        cache.write(index, view.start, keys, rows[:, self.n_kv :])

    def _attention(self, x: Tensor, cache: DraftCache, index: int, view: View) -> Tensor:
        n = len(x)
        queries, keys, values = self.project(x, view.cos, view.sin)
        cache.write(index, view.start, keys, values)
        # the queries that share a key head stand as further rows: no key is ever repeated
        group = self.n_heads // self.n_kv
        queries = queries.view(n, self.n_kv, group, self.head_dim)
        queries = queries.permute(1, 2, 0, 3).reshape(1, self.n_kv, group * n, self.head_dim)
        mask = None if view.mask is None else view.mask.repeat(group, 1)
        seen = cache.read(index, view.first, view.start + n)
        keys, values = (rows[None].to(queries.dtype) for rows in seen)
        mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        mixed = mixed.view(self.n_kv, group, n, self.head_dim).permute(2, 0, 1, 3).reshape(n, -1)
        out: Tensor = self.o(mixed)
        return out

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(queries, keys, values) of `x [n, n_in]`, `[n, heads, head_dim]` each, the first two turned."""
        n_qk = self.n_heads + self.n_kv
        rows = self.qkv(x).view(len(x), n_qk + self.n_kv, self.head_dim)
        turned = rotate(self._normed(rows[:, :n_qk], self.n_heads), cos, sin)
        return turned[:, : self.n_heads], turned[:, self.n_heads :], rows[:, n_qk:]

    def _normed(self, qk: Tensor, n_queries: int) -> Tensor:
        if self.q_norm is None or self.k_norm is None:
            return qk
        keys = normed(qk[:, n_queries:], self.k_norm, self.eps)
        if not n_queries:
            return keys
        return torch.cat([normed(qk[:, :n_queries], self.q_norm, self.eps), keys], dim=1)

    def mlp(self, r: Tensor) -> Tensor:
        """What the second half of the layer adds to `r [..., width]`."""
        gate, up = self.gate_up(normed(r, self.post_norm, self.eps)).chunk(2, dim=-1)
        out: Tensor = self.down(silu(gate) * up)
        return out


def _fused(name: str, tensors: Mapping[str, Tensor]) -> nn.Linear:
    """The parts of a fused matrix on top of each other; a part without a bias has one of zeros if others
    have."""
    parts = FUSED[name]
    weights = [tensors[f"{part}.weight"] for part in parts]
    biases = [tensors.get(f"{part}.bias") for part in parts]
    bias = None
    if any(one is not None for one in biases):
        bias = torch.cat(
            [
                weight.new_zeros(len(weight)) if one is None else one
                for weight, one in zip(weights, biases, strict=True)
            ]
        )
    return matrix(on_top(weights), bias)
