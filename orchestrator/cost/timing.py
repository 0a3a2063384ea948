"""Timing one decode on an open target, which is left as it was found."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import numpy as np

from orchestrator.draft import EMPTY, Draft
from orchestrator.protocols import Target

Clock = Callable[[], float]
CLOCK: Clock = perf_counter


def filler(n: int, n_vocab: int) -> list[int]:
    """`n` tokens of no meaning; shorter ones begin as longer ones do."""
    return [int(token) for token in np.random.default_rng(0).integers(n_vocab, size=n)]


def fitting_rows(target: Target, rows: Sequence[int], n_past: int) -> tuple[int, ...]:
    """Those of the row counts for which there is room after `n_past` tokens."""
    can = target.capabilities
    return tuple(n for n in rows if n <= min(can.max_rows, can.n_ctx - n_past - 1))


def score_ms(target: Target, rows: int, clock: Clock = CLOCK) -> float:
    """ms of a decode of `rows` rows, the logits of each included."""
    draft = Draft.chain([0] * (rows - 1), source="cost") if rows > 1 else EMPTY
    began = clock()
    target.score(draft)
    elapsed = 1e3 * (clock() - began)
    target.rollback()
    return elapsed


def typical(times: Sequence[float]) -> float:
    """The median of the faster half: what disturbs a measurement makes it slower, never faster."""
    return median(sorted(times)[: (len(times) + 1) // 2])
