"""Measuring a cost curve on an open target, in about a second."""

from collections.abc import Sequence
from statistics import median

from orchestrator.cost.curve import ROWS, CostCurve
from orchestrator.cost.timing import CLOCK, Clock, filler, fitting_rows, score_ms, typical
from orchestrator.protocols import Target

SHORT = 32  # tokens in the cache for the curve's base
LONG = 1024  # at most, for the slopes
_SLOPE_ROWS = (1, 4, 16)
_TWICE = 4  # rows up to which each decode is done again, which tells what a change of rows costs
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
    score_ms(target, rows[-1], clock)  # buffers grow at their first use
    first, again = list[list[float]](), list[list[float]]()
    while len(first) < 2 or (len(first) < _MAX_PASSES and clock() - began < 0.6 * seconds):
        first.append([])
        again.append([])
        for n in rows:
            first[-1].append(score_ms(target, n, clock))
            if n <= _TWICE:
                again[-1].append(score_ms(target, n, clock))
    changed, same = ([typical(times) for times in zip(*passes, strict=True)] for passes in (first, again))
    switch = max(0.0, median(a - b for a, b in zip(changed, same, strict=False)))
    short = [*same, *(max(1e-6, ms - switch) for ms in changed[len(same) :])]
    noise = median(max(times) / min(times) - 1.0 for times in zip(*first, strict=True))
    grown = _grown(target, rows, short, switch, 0.4 * seconds, clock)
    return CostCurve.fitted(rows, short, n_short, grown, noise, switch)


def _grown(
    target: Target, rows: Sequence[int], short: Sequence[float], switch: float, seconds: float, clock: Clock
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
    paid = switch if len(counts) > 1 else 0.0
    fastest = (min(ms) - paid for ms in zip(*times, strict=True))
    return {n: max(0.0, ms - known[n]) / (n_long - n_short) for n, ms in zip(counts, fastest, strict=True)}
