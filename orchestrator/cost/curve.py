"""Milliseconds of one decode, by its rows and the tokens in the cache.

    ms(rows, n_past) = base(rows) + n_past * (slope + row_slope * (rows - 1))

base is a staircase that kernels make, so it is kept point by point; attention is not amortised over
rows on CPUs, hence the last term. A decode of other rows than the one before takes longer by `switch`.
Knows numbers; nothing of targets.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)
_CELL = 64  # tokens of context that share one table
_FAST, _SLOW = 0.1, 0.02  # how much a round of one row counts for the drift, and one of several
_SHAPE = 0.05  # how much of its error a round corrects
_REACH = 3000.0  # tokens times further rows at which an error is as much of the context as of the rows
_OUTLIER = 1.5  # a round this much slower than expected was disturbed by something else


@dataclass(slots=True)
class CostCurve:
    """A measured curve. rows: ascending, from 1. base: ms at an empty cache. drift: how the machine does now
    against when it was measured; it cancels in every comparison of row counts. noise: by how much the same
    decode took longer in one pass than in another, 0.2 = a fifth; not stored. switch: ms that a decode takes
    longer whose rows are not those of the decode before, as llama.cpp then builds its graph anew."""

    rows: tuple[int, ...]
    base: list[float]
    slope: float = 0.0
    row_slope: float = 0.0
    drift: float = 1.0
    noise: float = 0.0
    switch: float = 0.0
    _cell: int = field(default=-1, repr=False, compare=False)
    _table: list[float] = field(default_factory=list, repr=False, compare=False)
    _most_useful: int = field(default=1, repr=False, compare=False)

    @classmethod
    def fitted(
        cls,
        rows: Sequence[int],
        ms: Sequence[float],
        n_past: int,
        grown: Mapping[int, float],
        noise: float = 0.0,
        switch: float = 0.0,
    ) -> "CostCurve":
        """From `ms` of each row count after `n_past` tokens. grown: by row count, how many ms each further
        token of context adds; two counts at least, or none where nothing is known of it."""
        slope = row_slope = 0.0
        if grown:
            columns = np.array([[1.0, n - 1] for n in grown])
            fit = np.linalg.lstsq(columns, np.array(list(grown.values())), rcond=None)[0]
            slope, row_slope = (max(0.0, float(value)) for value in fit)
        base = [one - n_past * (slope + row_slope * (n - 1)) for n, one in zip(rows, ms, strict=True)]
        base = [max(1e-6, one) for one in base]
        return cls(tuple(rows), base, slope, row_slope, noise=noise, switch=switch)

    def ms(self, rows: int, n_past: int) -> float:
        """Expected ms after a decode of as many rows, the drift left out."""
        return self._base_at(rows) + n_past * (self.slope + self.row_slope * (rows - 1))

    def table(self, most: int, n_past: int) -> Sequence[float]:
        """`ms` of 0 (unused), 1, 2, ... rows, at least up to `most`; shared, do not change it."""
        cell = n_past // _CELL
        if cell != self._cell or len(self._table) <= most:
            self._cell = cell
            self._table = [0.0, *(self.ms(n, self._middle) for n in range(1, max(most, 32) + 1))]
            self._most_useful = max(range(1, len(self._table)), key=lambda n: n / self._table[n])
        return self._table

    def most_useful(self, most: int, n_past: int) -> int:
        """The rows, at most `most`, that cost least each. More are never best: what a further row brings is
        at most what the rows before it bring on average."""
        self.table(most, n_past)
        return self._most_useful if self._most_useful < most else most

    @property
    def _middle(self) -> int:
        """Tokens in the cache that the table stands for."""
        return int((self._cell + 0.5) * _CELL)

    def _base_at(self, rows: int) -> float:
        place = bisect_left(self.rows, rows)
        if place < len(self.rows) and self.rows[place] == rows:
            return self.base[place]
        high = min(max(place, 1), len(self.rows) - 1)  # beyond the last: as the last stretch goes
        if high == 0 or len(self.rows) == 1:
            return self.base[0] * rows / self.rows[0]
        (r0, r1), (b0, b1) = self.rows[high - 1 : high + 1], self.base[high - 1 : high + 1]
        return b0 + (b1 - b0) * (rows - r0) / (r1 - r0)

    def observe(self, rows: int, n_past: int, ms: float, *, switched: bool = False) -> None:
        """A live decode took `ms`; one that something disturbed says nothing about rows. switched: the one
        before had other rows.

        One row is the unit that all else is compared with: it teaches the drift, most of it, and nothing
        of the shape. What a larger decode took beyond the drift teaches the shape.
        """
        expected = self.ms(rows, n_past) + self.switch * switched
        ratio = ms / (expected * self.drift)
        pace = _FAST if rows == 1 else _SLOW
        self.drift *= 1 + pace * (min(max(ratio, 1 / _OUTLIER), _OUTLIER) - 1)
        if 1 / _OUTLIER < ratio < _OUTLIER and rows > 1 and rows in self.rows:
            self._learn(self.rows.index(rows), n_past, (ratio - 1) * expected)

    def _learn(self, place: int, n_past: int, error: float) -> None:
        """Normalised least squares: the further back the context reaches, the more of an error is of the
        attention of rows, which a short measurement knows least of."""
        rows = self.rows[place]
        context = n_past * (rows - 1) / _REACH
        step = _SHAPE * error / (1 + context * context)
        self.base[place] = max(1e-6, self.base[place] + step)
        self.row_slope = max(0.0, self.row_slope + step * context / _REACH)
        if len(self._table) > rows:
            self._table[rows] = self.ms(rows, self._middle)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": list(self.rows),
            "base": list(self.base),
            "slope": self.slope,
            "row_slope": self.row_slope,
            "switch": self.switch,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "CostCurve":
        """What `as_dict` gave; raises ValueError, TypeError or KeyError for anything else."""
        rows, base = tuple(map(int, stored["rows"])), [float(ms) for ms in stored["base"]]
        valid = (
            len(rows) == len(base) and rows[:1] == (1,) and list(rows) == sorted(set(rows)) and min(base) > 0
        )
        if not valid:
            raise ValueError("not a cost curve")
        slopes = float(stored["slope"]), float(stored["row_slope"])
        return cls(rows, base, *slopes, switch=float(stored["switch"]))
