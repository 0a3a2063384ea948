"""A pass of rows through an EAGLE network, and what comes of it; by PyTorch, or by others that can.

Knows where rows stand and what they see; nothing of texts or trees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.target import FloatArray
from heads.draft_cache import DraftCache
from heads.eagle import Eagle
from heads.layer import View
from heads.rope import RotaryTable


class Place(NamedTuple):
    """Rows are written to the cache from `start` on, turned by their `positions`, and see it from row `first`
    on; mask `[n, rows]` True = visible, None where everything is."""

    start: int
    first: int
    positions: Sequence[int]
    mask: NDArray[np.bool_] | None


class Said(Protocol):
    """What a network makes of m rows."""

    @property
    def feedback(self) -> Tensor:
        """`[m, width]`, what stands for the target's features where there are none yet."""

    @property
    def logits(self) -> Tensor:
        """`[m, n_vocab]`; of a growing tree they last until the next pass."""


class Pass(Protocol):
    """One way to compute a network over a cache; several may take turns on the same one."""

    def keep(self, features: FloatArray, tokens: Sequence[int], place: Place) -> None:
        """The target's features `[n, F]`, for later rows to see."""

    def read(self, features: FloatArray, tokens: Sequence[int], place: Place) -> Said:
        """The same, and what is said after the last row."""

    def grow(self, g: Tensor, tokens: Sequence[int], place: Place) -> Said:
        """Of fed-back rows `[n, width]`; what is said after each."""


@dataclass(frozen=True, slots=True)
class TorchSaid:
    """Made of the network's output when asked for: most of what is read is never followed by a draft."""

    network: Eagle
    out: Tensor

    @property
    def feedback(self) -> Tensor:
        return self.network.feedback(self.out)

    @property
    def logits(self) -> Tensor:
        return self.network.logits(self.out)


class TorchPass:
    """By PyTorch, on the network's device; any number of rows."""

    def __init__(self, network: Eagle, cache: DraftCache) -> None:
        self._network, self._cache = network, cache
        spec = network.spec
        self._rope = RotaryTable(spec.rope, spec.head_dim, network.dtype, network.device)

    def keep(self, features: FloatArray, tokens: Sequence[int], place: Place) -> None:
        self._forward(self._fused(features), tokens, place, 0)

    def read(self, features: FloatArray, tokens: Sequence[int], place: Place) -> TorchSaid:
        return TorchSaid(self._network, self._forward(self._fused(features), tokens, place, 1))

    def grow(self, g: Tensor, tokens: Sequence[int], place: Place) -> TorchSaid:
        return TorchSaid(self._network, self._forward(g, tokens, place))

    def _fused(self, features: FloatArray) -> Tensor:
        # a copy, as they may be read-only
        return self._network.fuse(torch.tensor(features, device=self._network.device))

    def _forward(self, g: Tensor, tokens: Sequence[int], place: Place, n_out: int | None = None) -> Tensor:
        ids = torch.tensor(tokens, dtype=torch.int64, device=g.device)
        out: Tensor = self._network(g, ids, self._cache, self._view(place), n_out)
        return out

    def _view(self, place: Place) -> View:
        places, device = place.positions, self._network.device
        rows: slice | Tensor
        if isinstance(places, range):
            rows = slice(places.start, places.stop)
        else:
            rows = torch.tensor(places, device=device)
        cos, sin = self._rope.rows(rows, max(places) + 1)
        mask = None if place.mask is None else torch.from_numpy(place.mask).to(device)
        return View(place.start, place.first, cos, sin, mask)
