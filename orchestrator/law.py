"""A distribution over tokens that names only the tokens it gives probability to.

Pure arithmetic on `p` (target) and `q` (draft); knows no models, drafts or parameters.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.noise import Stream, gumbel

IdArray = NDArray[np.int64]
RealArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """`ids [m]`, all different, with log-probabilities `logp [m]` that sum to 1 as probabilities."""

    ids: IdArray
    logp: RealArray

    @classmethod
    def point(cls, token: int) -> "Law":
        """All probability on one token."""
        return cls(np.array([token], np.int64), np.zeros(1))

    @classmethod
    def of(cls, ids: IdArray, weights: RealArray) -> "Law":
        """The law proportional to `weights [m]` (>= 0, not all 0)."""
        possible = weights > 0
        return cls(ids[possible], np.log(weights[possible]) - math.log(weights.sum()))

    def dense(self, n_vocab: int) -> RealArray:
        """Probabilities `[n_vocab]`, zero outside `ids`."""
        p = np.zeros(n_vocab)
        p[self.ids] = np.exp(self.logp)
        return p

    def prob(self, token: int) -> float:
        """Probability of one token."""
        where = np.flatnonzero(self.ids == token)
        return float(np.exp(self.logp[where[0]])) if len(where) else 0.0

    def probs_of(self, ids: IdArray) -> RealArray:
        """Probabilities `[k]` of `ids [k]`."""
        order = np.argsort(self.ids)
        place = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)
        found = order[place]
        return np.where(self.ids[found] == ids, np.exp(self.logp[found]), 0.0)

    def draw(self, seed: int, stream: Stream, position: int) -> int:
        """The token that the noise at (seed, stream, position) picks: argmax(logp + Gumbel)."""
        if len(self.ids) == 1:
            return int(self.ids[0])
        return int(self.ids[np.argmax(self.logp + gumbel(seed, stream, position, self.ids))])


def log_softmax(values: RealArray) -> RealArray:
    """Normalised log-probabilities of `values [m]`."""
    shifted: RealArray = values - values.max()
    return shifted - math.log(np.exp(shifted).sum())


def excess(p: Law, q: Law, scale: float = 1.0) -> RealArray:
    """[scale p - q]_+ at `p.ids`, the only places where it is not zero."""
    weights: RealArray = np.maximum(scale * np.exp(p.logp) - q.probs_of(p.ids), 0.0)
    return weights


def residual(p: Law, q: Law, scale: float = 1.0) -> Law:
    """norm([scale p - q]_+): what is left to draw from when a token of q was refused.

    Where nothing is left (p and q agree up to rounding) it is p itself.
    """
    weights = excess(p, q, scale)
    return Law.of(p.ids, weights) if weights.sum() > 0 else p
