"""EAGLE-3 (Li et al. 2025): features of three layers, fused; the head's own output goes on from there.

    g = fc(inputs of three layers)
    r = g + Attention([norm(embedding of the next token); norm(g)]);  out = r + MLP(norm(r))
    logits = output(norm(out));  the next g is `out` itself

Knows the forward pass; see heads.eagle for what it shares.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from heads.eagle import Eagle
from heads.norm import normed


class Eagle3(Eagle):
    """The network. input_norm over all taps, or one norm for each, stand before `fc` in newer heads."""

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        weight = tensors.get("input_norm.weight")
        self.taps_norm = None if weight is None else nn.Parameter(weight)
        norms = [tensors.get(f"fc_norms.{tap}.weight") for tap in range(self.spec.n_taps)]
        self.tap_norms = nn.ParameterList(nn.Parameter(norm) for norm in norms if norm is not None)

    def fuse(self, features: Tensor) -> Tensor:
        """`[n, n_taps * h]`, taps from low to high -> `[n, width]`."""
        eps, x = self.spec.eps, features.to(self.fc.weight.dtype)
        if self.taps_norm is not None:
            x = normed(x, self.taps_norm, eps)
        if len(self.tap_norms):
            taps = x.chunk(len(self.tap_norms), dim=-1)
            pairs = zip(taps, self.tap_norms, strict=True)
            x = torch.cat([normed(tap, norm, eps) for tap, norm in pairs], dim=-1)
        fused: Tensor = self.fc(x)
        return fused.to(self.dtype)

    def enter(self, e: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        g_normed = self._normed("hidden_norm", g)
        x = torch.cat([self._normed("input_norm", e), g_normed], dim=-1)
        return (g_normed if self.spec.norm_before_residual else g), x

    def canonical(self) -> dict[str, Tensor]:
        found = super().canonical()
        if self.taps_norm is not None:
            found["input_norm.weight"] = self.taps_norm
        return found | {f"fc_norms.{tap}.weight": norm for tap, norm in enumerate(self.tap_norms)}
