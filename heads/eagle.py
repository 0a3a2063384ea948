"""EAGLE-1 and EAGLE-2 (Li et al. 2024), and HASS: one layer that goes on with the target's features.

    z = fc([embedding of the next token; feature]);  z += Attention(z);  out = z + MLP(norm(z))

`out` imitates the target's next post-norm feature: the target's projection makes tokens of it, and it is fed
back. Knows the forward pass; nothing of trees, of positions in a text, or of where features come from.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from heads.draft_cache import DraftCache
from heads.layer import Layer, View
from heads.matrix import matrix
from heads.norm import normed
from heads.spec import EagleSpec


class Eagle(nn.Module):
    """The network; EAGLE-3 is its child. `d2t [n_vocab]`: the target's ids of the head's, None = the same."""

    d2t: Tensor | None
    embeddings: Tensor
    norm: nn.Parameter | None
    input_norm: nn.Parameter | None
    hidden_norm: nn.Parameter | None

    def __init__(
        self,
        spec: EagleSpec,
        tensors: Mapping[str, Tensor],
        embeddings: Tensor,
        output: Tensor,
        embedding_scale: float = 1.0,
    ) -> None:
        """tensors: canonical ones. embeddings `[V, width]`, output `[n_vocab, width]`: the head's own or the
        target's."""
        super().__init__()
        self.spec, self.embedding_scale = spec, embedding_scale
        self.fc = matrix(tensors["fc.weight"], tensors.get("fc.bias"))
        self.layers = nn.ModuleList(
            Layer(spec, _under(f"layers.{index}.", tensors)) for index in range(spec.n_layers)
        )
        for name in ("norm", "input_norm", "hidden_norm"):
            key = f"{name}.weight" if name == "norm" else f"layers.0.{name}.weight"
            weight = tensors.get(key)
            self.register_parameter(name, None if weight is None else nn.Parameter(weight))
        # the first layer's two norms stand before what enters, which is this class's business
        self.layers[0].register_parameter("input_norm", None)
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.output = matrix(output)
        self._owned = frozenset(name for name in ("embedding.weight", "output.weight") if name in tensors)
        self.register_buffer("d2t", tensors.get("d2t"), persistent=False)
        self._take(tensors)

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        """What a child has besides."""

    @property
    def device(self) -> torch.device:
        return self.fc.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes through the layers; `fc` may be wider, as features have large outliers."""
        return self.embeddings.dtype

    def fuse(self, features: Tensor) -> Tensor:
        """`[n, F]` features of the target -> `[n, width]` that the layers go on with; here they are those."""
        return features.to(self.dtype)

    def forward(
        self, g: Tensor, tokens: Tensor, cache: DraftCache, view: View, n_out: int | None = None
    ) -> Tensor:
        """g `[n, width]`: a feature each; tokens `[n]`: the token after each -> out `[n_out, width]`, of the
        last rows, None = of all. Of the others the last layer, which is most often the only one, computes no
        more than what later rows see of them."""
        residual, x = self.enter(self.embed(tokens), g)
        layers = list(cast(Iterable[Layer], self.layers))
        for index, (layer, following) in enumerate(pairwise(layers)):
            residual = layer(residual, x, cache, index, view)
            x = following.entering(residual)
        last, n_kept = len(layers) - 1, 0 if n_out is None else len(x) - n_out
        if n_kept:
            layers[last].keep(x[:n_kept], cache, last, view)
        if n_kept == len(x):
            return residual[n_kept:]
        out: Tensor = layers[last](residual[n_kept:], x[n_kept:], cache, last, view.from_row(n_kept))
        return out

    def embed(self, tokens: Tensor) -> Tensor:
        rows = embedding(tokens, self.embeddings)
        return rows if self.embedding_scale == 1.0 else rows * self.embedding_scale

    def enter(self, e: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """(residual, what the first layer's attention reads)."""
        z = self.fc(torch.cat([self._normed("input_norm", e), self._normed("hidden_norm", g)], dim=-1))
        return z, z

    def _normed(self, name: str, x: Tensor) -> Tensor:
        weight: nn.Parameter | None = getattr(self, name)
        return x if weight is None else normed(x, weight, self.spec.eps)

    def logits(self, out: Tensor) -> Tensor:
        """`[n, width]` -> `[n, n_vocab]`."""
        rows: Tensor = self.output(self.last(out))
        return rows

    def last(self, out: Tensor) -> Tensor:
        """What the projection reads, `[n, width]`."""
        return self._normed("norm", out)

    def feedback(self, out: Tensor) -> Tensor:
        """What stands for the target's feature where there is none yet, `[n, width]`."""
        return self._normed("norm", out) if self.spec.norm_output else out

    def canonical(self) -> dict[str, Tensor]:
        """The tensors that make this head, by canonical names, but for what it borrows of the target."""
        found: dict[str, Tensor] = {f"fc.{kind}": value for kind, value in self.fc.named_parameters()}
        for index, layer in enumerate(cast(Iterable[Layer], self.layers)):
            found |= {f"layers.{index}.{name}": value for name, value in layer.canonical().items()}
        norms = {"norm": self.norm, "layers.0.input_norm": self.input_norm}
        norms["layers.0.hidden_norm"] = self.hidden_norm
        found |= {f"{name}.weight": weight for name, weight in norms.items() if weight is not None}
        own = {"embedding.weight": self.embeddings, "output.weight": self.output.weight}
        found |= {name: own[name] for name in self._owned}
        return found if self.d2t is None else found | {"d2t": self.d2t}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
