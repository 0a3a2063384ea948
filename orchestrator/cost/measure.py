"""Measuring a cost curve on an open target, in about a second."""

from collections.abc import Sequence
from statistics import median

from orchestrator.cost.curve import ROWS, CostCurve
from orchestrator.cost.timing import CLOCK, Clock, filler, fitting_rows, score_ms, typical
from orchestrator.protocols import Target

SHORT = 32  # tokens in the cache for the curve's base
LONG = 1024  # at most, for the slopes
_SLOPE_ROWS = (1, 4, 16)
_LEAST = 256  # tokens from which the slopes show
_PATIENCE = 3.0  # seconds that a slow target may take to hold so many
_MAX_PASSES = 7


def measure_curve(target: Target, seconds: float = 1.0, clock: Clock = CLOCK) -> CostCurve:
    """The curve of `target`, whose cache is used and then worthless. A slow target takes longer than
    `seconds`: every row count is measured twice at least, and a context that is long enough is waited for."""
    can = target.capabilities
    n_short = max(1, min(SHORT, can.n_ctx // 4))
    rows = fitting_rows(target, ROWS, n_short)
    target.prefill(filler(n_short + 1, can.n_vocab))
    began = clock()
    passes: list[list[float]] = []
    score_ms(target, rows[-1], clock)  # buffers grow at their first use
    while len(passes) < 2 or (len(passes) < _MAX_PASSES and clock() - began < 0.6 * seconds):
        passes.append([score_ms(target, n, clock) for n in rows])
    short = [typical(times) for times in zip(*passes, strict=True)]
    noise = median(max(times) / min(times) - 1.0 for times in zip(*passes, strict=True))
    return CostCurve.fitted(rows, short, n_short, _grown(target, rows, short, 0.4 * seconds, clock), noise)


def _grown(
    target: Target, rows: Sequence[int], short: Sequence[float], seconds: float, clock: Clock
) -> dict[int, float]:
    """ms that each further token of context adds, for a few row counts; empty where that takes too long."""
    can = target.capabilities
    token_ms = min(short[-1] / rows[-1], short[0])  # a prompt's tokens cost no more than these
    affordable = max(1e3 * seconds / token_ms, min(_LEAST, 1e3 * _PATIENCE / token_ms))
    n_long = min(LONG, can.n_ctx - max(_SLOPE_ROWS) - 2, int(affordable))
    n_short = target.n_past
    if n_long < 4 * n_short:
        return {}
    target.prefill(filler(n_long + 1, can.n_vocab))
    known = dict(zip(rows, short, strict=True))
    counts = [n for n in _SLOPE_ROWS if n in known]
    times = [[score_ms(target, n, clock) for n in counts] for _ in range(3)]
    fastest = map(min, zip(*times, strict=True))
    return {n: max(0.0, ms - known[n]) / (n_long - n_short) for n, ms in zip(counts, fastest, strict=True)}
