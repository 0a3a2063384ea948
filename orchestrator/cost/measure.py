"""Measuring a cost curve on an open target, in about a second."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import numpy as np

from orchestrator.cost.curve import ROWS, CostCurve
from orchestrator.draft import EMPTY, Draft
from orchestrator.protocols import Target

SHORT = 32  # tokens in the cache for the curve's base
LONG = 1024  # at most, for the slopes
_SLOPE_ROWS = (1, 4, 16)
_MAX_PASSES = 7


def measure_curve(
    target: Target, seconds: float = 1.0, clock: Callable[[], float] = perf_counter
) -> CostCurve:
    """The curve of `target`, whose cache is used and then worthless; every row count is measured twice at
    least, so a slow target takes longer than `seconds`."""
    can = target.capabilities
    n_short = max(1, min(SHORT, can.n_ctx // 4))
    rows = tuple(n for n in ROWS if n <= min(can.max_rows, can.n_ctx - n_short - 1))
    target.prefill(_filler(n_short + 1, can.n_vocab))
    began = clock()
    passes: list[list[float]] = []
    _time(target, rows[-1], clock)  # buffers grow at their first use
    while len(passes) < 2 or (len(passes) < _MAX_PASSES and clock() - began < 0.6 * seconds):
        passes.append([_time(target, n, clock) for n in rows])
    short = [typical(times) for times in zip(*passes, strict=True)]
    slope, row_slope = _slopes(target, rows, short, 0.4 * seconds, clock)
    base = [ms - n_short * (slope + row_slope * (n - 1)) for n, ms in zip(rows, short, strict=True)]
    noise = median(max(times) / min(times) - 1.0 for times in zip(*passes, strict=True))
    return CostCurve(rows, [max(1e-6, ms) for ms in base], slope, row_slope, noise=noise)


def typical(times: Sequence[float]) -> float:
    """The median of the faster half: what disturbs a measurement makes it slower, never faster."""
    return median(sorted(times)[: (len(times) + 1) // 2])


def _filler(n: int, n_vocab: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(0).integers(n_vocab, size=n)]


def _time(target: Target, rows: int, clock: Callable[[], float]) -> float:
    draft = Draft.chain([0] * (rows - 1), source="cost") if rows > 1 else EMPTY
    began = clock()
    target.score(draft)
    elapsed = 1e3 * (clock() - began)
    target.rollback()
    return elapsed


def _slopes(
    target: Target, rows: Sequence[int], short: Sequence[float], seconds: float, clock: Callable[[], float]
) -> tuple[float, float]:
    """ms per token of context: of one row, and of each row more. As long a context as there is time for."""
    can = target.capabilities
    token_ms = min(short[-1] / rows[-1], short[0])  # a prompt's tokens cost no more than these
    n_long = min(LONG, can.n_ctx - max(_SLOPE_ROWS) - 2, int(1e3 * seconds / token_ms))
    n_short = target.n_past
    if n_long < 4 * n_short:
        return 0.0, 0.0
    target.prefill(_filler(n_long + 1, can.n_vocab))
    known = dict(zip(rows, short, strict=True))
    counts = [n for n in _SLOPE_ROWS if n in known]
    times = [[_time(target, n, clock) for n in counts] for _ in range(3)]
    grown = [max(0.0, min(ms) - known[n]) for n, ms in zip(counts, zip(*times, strict=True), strict=True)]
    columns = np.array([[1.0, n - 1] for n in counts]) * (n_long - n_short)
    (slope, row_slope), *_ = np.linalg.lstsq(columns, np.array(grown), rcond=None)
    return max(0.0, float(slope)), max(0.0, float(row_slope))
