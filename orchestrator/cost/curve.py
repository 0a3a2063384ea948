"""Milliseconds of one decode, by its rows and the tokens in the cache.

    ms(rows, n_past) = base(rows) + n_past * (slope + row_slope * (rows - 1))

base is a staircase that kernels make, so it is kept point by point; attention is not amortised over
rows on CPUs, hence the last term. Knows numbers; nothing of targets.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)
_CELL = 64  # tokens of context that share one table
_FAST, _SLOW = 0.1, 0.02  # how much one round counts for the drift of everything, and of one row count
_OUTLIER = 1.5  # a round this much slower than expected was disturbed by something else


@dataclass(slots=True)
class CostCurve:
    """A measured curve. rows: ascending, from 1. base: ms at an empty cache. drift: how the machine does now
    against when it was measured; it cancels in every comparison of row counts. noise: by how much the same
    decode took longer in one pass than in another, 0.2 = a fifth; not stored."""

    rows: tuple[int, ...]
    base: list[float]
    slope: float = 0.0
    row_slope: float = 0.0
    drift: float = 1.0
    noise: float = 0.0
    _tables: dict[int, list[float]] = field(default_factory=dict, repr=False)

    def ms(self, rows: int, n_past: int) -> float:
        """Expected ms, the drift left out."""
        return self._base_at(rows) + n_past * (self.slope + self.row_slope * (rows - 1))

    def table(self, most: int, n_past: int) -> Sequence[float]:
        """`ms` of 0 (unused), 1, 2, ... rows, at least up to `most`; shared, do not change it."""
        cell = n_past // _CELL
        table = self._tables.get(cell)
        if table is None or len(table) <= most:
            middle = (cell + 0.5) * _CELL
            table = self._tables[cell] = [
                0.0,
                *(self.ms(n, int(middle)) for n in range(1, max(most, 32) + 1)),
            ]
        return table

    def _base_at(self, rows: int) -> float:
        place = bisect_left(self.rows, rows)
        if place < len(self.rows) and self.rows[place] == rows:
            return self.base[place]
        high = min(max(place, 1), len(self.rows) - 1)  # beyond the last: as the last stretch goes
        if high == 0 or len(self.rows) == 1:
            return self.base[0] * rows / self.rows[0]
        (r0, r1), (b0, b1) = self.rows[high - 1 : high + 1], self.base[high - 1 : high + 1]
        return b0 + (b1 - b0) * (rows - r0) / (r1 - r0)

    def observe(self, rows: int, n_past: int, ms: float) -> None:
        """A live decode took `ms`; one that something disturbed says nothing about rows."""
        expected = self.ms(rows, n_past)
        ratio = ms / (expected * self.drift)
        self.drift *= 1 + _FAST * (min(max(ratio, 1 / _OUTLIER), _OUTLIER) - 1)
        if 1 / _OUTLIER < ratio < _OUTLIER and rows in self.rows:
            place = self.rows.index(rows)
            self.base[place] = max(1e-6, self.base[place] + _SLOW * (ratio - 1) * expected)
            for cell, table in self._tables.items():
                table[rows] = self.ms(rows, int((cell + 0.5) * _CELL))

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": list(self.rows),
            "base": list(self.base),
            "slope": self.slope,
            "row_slope": self.row_slope,
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
        return cls(rows, base, float(stored["slope"]), float(stored["row_slope"]))
