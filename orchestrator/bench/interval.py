"""Confidence intervals of a speed-up: the paired bootstrap (Efron and Tibshirani 1993, chapter 13)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
LEVEL = 0.95

INTERVAL = (
    f"{LEVEL:.0%} interval of the ratio of total speeds: {N_RESAMPLES} paired bootstrap samples, prompts "
    "drawn with replacement, both sides of a prompt together, one repeat of each side. None from one prompt."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt on both sides: tokens, and the seconds of each repeat."""

    plain_tokens: int
    plain_times: tuple[float, ...]
    tokens: int
    times: tuple[float, ...]


def speedup_interval(pairs: Sequence[Pair], seed: int = 0) -> tuple[float, float] | None:
    """The interval of (tokens / time) / (plain tokens / plain time); None from fewer than two prompts."""
    if len(pairs) < 2:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(pairs), size=(N_RESAMPLES, len(pairs)))
    plain = _speeds([p.plain_tokens for p in pairs], [p.plain_times for p in pairs], chosen, rng)
    own = _speeds([p.tokens for p in pairs], [p.times for p in pairs], chosen, rng)
    low, high = np.quantile(own / plain, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _speeds(
    tokens: Sequence[int],
    times: Sequence[Sequence[float]],
    chosen: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Total speed of each resample, `[N_RESAMPLES]`."""
    seconds = np.array(times)
    repeat = rng.integers(seconds.shape[1], size=chosen.shape)
    speeds: NDArray[np.float64] = np.array(tokens)[chosen].sum(axis=1) / seconds[chosen, repeat].sum(axis=1)
    return speeds
