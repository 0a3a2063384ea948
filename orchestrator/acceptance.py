"""How often the target agrees with a guess: learned online, from every proposal, used or not.

A guess is judged by who made it and by how sure they were. Drafters say what they know (how long a match
is, how deep the guess, what their model gave it) as `Draft.prob`; this corrects it by what came true.
"""

import math

_BINS_PER_UNIT = 2  # of log-odds
_EDGE = 4  # log-odds beyond which all are alike
_PRIOR = 12.0  # guesses that the drafter's own estimate counts for
_MEMORY = 60.0  # guesses after which an observation has lost most of its weight


class Acceptance:
    """Estimates of one engine, over all its requests; recent text counts most."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], list[float]] = {}  # (source, bin) -> [agreed, judged]

    def estimate(self, source: str, prob: float) -> float:
        """The chance that the target agrees with a guess of `source` that it gave `prob`."""
        counts = self._counts.get((source, _bin(prob)))
        if counts is None:
            return prob
        return (_PRIOR * prob + counts[0]) / (_PRIOR + counts[1])

    def observe(self, source: str, prob: float, agreed: bool) -> None:
        """One guess whose turn came: its parent was right."""
        counts = self._counts.setdefault((source, _bin(prob)), [0.0, 0.0])
        keep = 1.0 - 1.0 / _MEMORY
        counts[0] = keep * counts[0] + agreed
        counts[1] = keep * counts[1] + 1.0


def _bin_of(prob: float) -> int:
    odds = math.log(max(prob, 1e-6) / max(1.0 - prob, 1e-6))
    return round(_BINS_PER_UNIT * min(max(odds, -_EDGE), _EDGE))


_FINE = 512
_BINS = [_bin_of((i + 0.5) / _FINE) for i in range(_FINE)]
_BINS.append(_BINS[-1])


def _bin(prob: float) -> int:
    return _BINS[int(_FINE * prob)]
