"""What one decode of so many rows costs, measured beside the runs it is compared with.

A sample is taken after each prompt, on the context that the prompt left behind, so the curve is of the same
contexts and the same minutes of the machine as the speeds. Knows the Target protocol and a clock.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from orchestrator.cost.timing import CLOCK, Clock, fitting_rows, score_ms
from orchestrator.protocols import Target

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)


@dataclass(frozen=True, slots=True)
class Curve:
    """Milliseconds of one decode by its rows: medians, with the quartiles around them."""

    rows: tuple[int, ...]
    ms: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_samples: int
    n_past: int  # median context length

    @classmethod
    def of(cls, samples: Sequence["Sample"]) -> "Curve":
        """The medians of at least one sample."""
        rows = tuple(sorted({rows for sample in samples for rows in sample.ms}))
        known = [[sample.ms[n] for sample in samples if n in sample.ms] for n in rows]
        low, middle, high = (tuple(float(np.quantile(ms, q)) for ms in known) for q in (0.25, 0.5, 0.75))
        n_past = int(np.median([sample.n_past for sample in samples]))
        return cls(rows, middle, low, high, len(samples), n_past)

    def at(self, rows: int) -> float:
        """ms of `rows` rows: between measured counts in a straight line, beyond them as the last stretch."""
        if rows <= self.rows[-1] or len(self.rows) == 1:
            return float(np.interp(rows, self.rows, self.ms))
        slope = (self.ms[-1] - self.ms[-2]) / (self.rows[-1] - self.rows[-2])
        return self.ms[-1] + max(0.0, slope) * (rows - self.rows[-1])

    def oracle_ms(self, histogram: Mapping[int, int]) -> float:
        """Time of a perfect drafter whose rounds emit as many tokens as ours: it drafts in no time, and
        nothing in vain, so a round that emits n tokens is one decode of n rows."""
        return sum(count * self.at(n) for n, count in histogram.items())

    def ceiling_ms(self, n_tokens: int) -> float:
        """Time of a drafter that is always right and drafts the best number: n_tokens * min of ms(n) / n."""
        return n_tokens * min(ms / n for n, ms in zip(self.rows, self.ms, strict=True))

    def as_dict(self, baseline: str) -> dict[str, Any]:
        return {
            "baseline": baseline,
            "rows": list(self.rows),
            "ms": list(self.ms),
            "low": list(self.low),
            "high": list(self.high),
            "n_samples": self.n_samples,
            "n_past": self.n_past,
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """ms by rows, each measured once, with `n_past` tokens in the cache."""

    ms: Mapping[int, float]
    n_past: int


@dataclass(slots=True)
class CostMeter:
    """Collects samples, by suite."""

    clock: Clock = CLOCK
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, target: Target, suite: str) -> None:
        """Decode as many rows as each of ROWS after what the target holds, and forget them again."""
        rows = fitting_rows(target, ROWS, target.n_past) if target.capabilities.rollback else ()
        if not rows:
            return
        ms: dict[int, list[float]] = defaultdict(list)
        score_ms(target, 1)  # the first decode after something else is not like the others
        for n in (*rows, 1, 1):  # one row is what others are held against
            ms[n].append(score_ms(target, n, self.clock))
        self.samples[suite].append(Sample({n: median(times) for n, times in ms.items()}, target.n_past))

    def curve(self, suite: str | None = None) -> Curve | None:
        """The curve of one suite, None = of all; none where the target never had room or rollback."""
        suites = self.samples if suite is None else [suite]
        samples = [sample for name in suites for sample in self.samples.get(name, [])]
        return Curve.of(samples) if samples else None
