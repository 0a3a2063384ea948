"""Drafters that take time: whether asking one pays, how much to ask for, and when to try again.

Knows what asking took, how deep the answers were right and what they promised; nothing of what is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.promise import Pause, Promise, Purse

_MEMORY = 24.0  # answers after which one has lost most of its weight
_HOPE = 0.65  # chance per token before anything is known
_OF_MARGIN = 0.4  # of what one plan must promise over plain decoding: a mean of many is less in doubt
_MOST = 64
_WARM = 3  # answers before which one may have taken long for being the first


@dataclass(slots=True)
class Stage:
    """One source. token_ms: what one guess takes, None before the first answer; asked_ms: what the newest
    answer took by that, took_ms: by the clock, with all that there was to read; n_answers: so far; in_a_row:
    rounds in which it was asked, up to this one. reach[d]: how often the first d + 1 guesses were all right.
    weighed: whether it was found not to pay, and nothing has been learned of it since."""

    token_ms: float | None = None
    asked_ms: float = 0.0
    took_ms: float = 0.0
    n_answers: int = 0
    in_a_row: int = 0
    reach: list[float] = field(default_factory=lambda: [_HOPE ** (d + 1) for d in range(_MOST)])
    promise: Promise = field(default_factory=Promise)
    pause: Pause = field(default_factory=Pause)
    purse: Purse = field(default_factory=Purse)
    weighed: bool = False

    def begin(self) -> None:
        """Another text: it is tried anew; at once, unless it has usually not paid."""
        self.promise.begin()
        self.pause.begin(tried_at_once=self.promise.usual >= 1.0)
        self.weighed = False

    def promised(self, tokens: float, cost: float, row_ms: float) -> None:
        """A round in which it was asked: expected tokens, the decodes of one row that scoring them takes, and
        what such a decode takes."""
        if self.n_answers > 1:  # the first one says nothing of what others will take
            self.promise.add(tokens, cost + self.asked_ms / row_ms)
            self.purse.book(tokens, cost + self.took_ms / row_ms)

    def goes_on(self, costs: Sequence[float], chances: Sequence[float], most: int, margin: float) -> bool:
        """Whether a longer chain may promise more than the one there is, or than none: chances of its paths
        as they are, and behind them as they usually are."""
        n, token_ms, expected, best = len(chances), self.token_ms or 0.0, 1.0, margin
        if n >= _MOST:
            return False
        for rows, chance in enumerate(chances, start=2):
            expected += chance
            best = max(best, expected * costs[1] / costs[rows])
        before = max(self.reach[n - 1], 1e-9)
        for more, reach in enumerate(self.reach[n:most], start=1):
            expected += chances[-1] * reach / before
            if expected * costs[1] / (costs[n + more + 1] + more * token_ms) > best:
                return True
        return False

    def rests(self) -> bool:
        """Let a round go by without weighing it anew, if that would come to the same."""
        if not self.weighed or self._may_try:
            return False
        self._rest()
        self.in_a_row = 0
        return True

    @property
    def _may_try(self) -> bool:
        return self.pause.is_ending and not self.purse.is_empty

    def _rest(self) -> bool:
        """Let a round go by; whether it is one to try in."""
        self.purse.earn()
        if self.pause.is_ending and self.purse.is_empty:
            return False  # the pause waits for the purse
        return self.pause.goes_by()

    def ask(self, most: int, rival_gain: float, margin: float) -> int:
        """How many guesses to ask for at most; 0 where others do better. A try now and then shows whether
        that has changed."""
        n = self._weigh(most, rival_gain, margin)
        self.in_a_row = self.in_a_row + 1 if n else 0
        return n

    def _weigh(self, most: int, rival_gain: float, margin: float) -> int:
        if self.token_ms is None:
            return min(most, 2)
        if self.promise.speed > max(1.0 + _OF_MARGIN * (margin - 1.0), rival_gain):
            self.pause.end()
            return most
        if rival_gain > 1.0:
            return 0  # no loss, hence nothing to try
        if self._rest():
            return most
        self.weighed = True
        return 0

    def answered(self, n_guesses: int, seconds: float) -> None:
        """So many guesses took so long."""
        self.weighed = False
        self.n_answers += 1
        self.took_ms = 1e3 * seconds
        n = max(1, n_guesses)
        ms = 1e3 * seconds / n
        if self.token_ms is None or self.n_answers <= _WARM:
            self.token_ms = ms if self.token_ms is None else min(ms, self.token_ms)
        elif self.in_a_row > 1:  # after a rest there is more to read; a single one may have been disturbed
            self.token_ms += 0.2 * (min(ms, 2 * self.token_ms) - self.token_ms)
        self.asked_ms = n * self.token_ms

    def judged(self, n_right: int, n_known: int) -> None:
        """The first `n_right` guesses were right; nothing is known of those from `n_known` on."""
        self.weighed = False
        for d in range(min(n_known, _MOST)):
            self.reach[d] += ((d < n_right) - self.reach[d]) / _MEMORY
