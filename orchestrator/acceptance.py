"""How often the target agrees with a guess: learned online, from every proposal, used or not.

A guess is judged by who made it and by how sure they were. Drafters say what they know (how long a match
is, how deep the guess, what their model gave it) as `Draft.prob`; this corrects it by what came true.
"""

import math
from collections.abc import Sequence

_BINS_PER_UNIT = 2  # of log-odds
_EDGE = 4  # log-odds beyond which all are alike
_PRIOR = 12.0  # guesses that the drafter's own estimate counts for
_KEEP = 1.0 - 1.0 / 60.0  # of an observation's weight, from one guess to the next


class Acceptance:
    """Estimates of one engine, over all its requests; recent text counts most."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def of(self, source: str) -> "Record":
        """What is known of one source."""
        record = self._records.get(source)
        if record is None:
            record = self._records[source] = Record()
        return record


class Record:
    """How often guesses of one source came true, by how sure it was of them."""

    __slots__ = ("_agreed", "_judged")

    def __init__(self) -> None:
        self._agreed, self._judged = [0.0] * _N_BINS, [0.0] * _N_BINS  # by bin; old guesses fade

    def estimate(self, prob: float) -> float:
        """The chance that the target agrees with a guess that its source gave `prob`."""
        place = _BINS[int(_FINE * prob)]
        return (_PRIOR * prob + self._agreed[place]) / (_PRIOR + self._judged[place])

    def reach(self, probs: Sequence[float], least: float) -> list[float]:
        """For each guess of a chain the chance that it and all before it are right; those below `least`, and
        what follows them, are left out."""
        agreed, judged, bins, fine, prior = self._agreed, self._judged, _BINS, _FINE, _PRIOR  # in every round
        chances, chance = list[float](), 1.0
        add = chances.append
        for prob in probs:
            place = bins[int(fine * prob)]
            chance *= (prior * prob + agreed[place]) / (prior + judged[place])
            if chance < least:
                break
            add(chance)
        return chances

    def observe(self, prob: float, agreed: bool) -> None:
        """One guess whose turn came: its parent was right."""
        place = _BINS[int(_FINE * prob)]
        self._agreed[place] = _KEEP * self._agreed[place] + agreed
        self._judged[place] = _KEEP * self._judged[place] + 1.0


def _bin_of(prob: float) -> int:
    odds = math.log(max(prob, 1e-6) / max(1.0 - prob, 1e-6))
    return round(_BINS_PER_UNIT * (min(max(odds, -_EDGE), _EDGE) + _EDGE))


_N_BINS = 2 * _EDGE * _BINS_PER_UNIT + 1
_FINE = 512
_BINS = [_bin_of((i + 0.5) / _FINE) for i in range(_FINE)]
_BINS.append(_BINS[-1])
