"""What a cost curve is worth: tokens per second, the best draft length, the cheap row counts.

Drafting is free here and each guess is accepted with the same probability, so a real drafter stays below.
Knows numbers; nothing of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FLAT = 1.03  # a row more that costs no more than this is free


@dataclass(frozen=True, slots=True)
class Best:
    """The best that a curve allows. n_draft: tokens drafted a round, 0 = plain decoding."""

    acceptance: float
    n_draft: int
    tok_s: float


def expected_tokens(acceptance: float, n_draft: int) -> float:
    """Tokens that a round emits: 1 + a + a^2 + ... + a^n."""
    return float(sum(acceptance**n for n in range(n_draft + 1)))


def best_draft(ms: Sequence[float], acceptance: float) -> Best:
    """The draft length with the most tokens per second; `ms[n]` is a decode of n rows, `ms[0]` unused."""
    speeds = [1e3 * expected_tokens(acceptance, n - 1) / ms[n] for n in range(1, len(ms))]
    best = max(range(len(speeds)), key=speeds.__getitem__)
    return Best(acceptance, best, speeds[best])


def by_rows(rows: Sequence[int], ms: Sequence[float]) -> list[float]:
    """`ms` of 0 (unused), 1, 2, ... rows: in straight lines between the measured counts, which begin at 1."""
    return [0.0, *map(float, np.interp(range(1, rows[-1] + 1), rows, ms))]


def cheap_rows(ms: Mapping[int, float]) -> list[int]:
    """Row counts above 1 whose rows cost less than in any smaller decode, or whose last row is free."""
    cheap, lowest = [], float("inf")
    for n, time in sorted(ms.items()):
        free = n - 1 in ms and time <= FLAT * ms[n - 1]
        if n > 1 and (time / n < lowest or free):
            cheap.append(n)
        lowest = min(lowest, time / n)
    return cheap
