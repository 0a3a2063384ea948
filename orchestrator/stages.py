"""Drafters that take time: whether asking one pays, how much to ask for, and when to try again.

Knows what asking took and how deep the answers were right; nothing of what is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

_MEMORY = 24.0  # answers after which one has lost most of its weight
_HOPE = 0.65  # chance per token before anything is known
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 256  # rounds between two tries where asking does not pay
_MOST = 64


@dataclass(slots=True)
class Stage:
    """One source. token_ms: what one guess takes, None before the first answer. reach[d]: how often the
    first d + 1 guesses were all right. pause: rounds between two tries, wait: those that have gone by.
    weighed: whether it was found not to pay, and nothing has been learned of it since."""

    token_ms: float | None = None
    reach: list[float] = field(default_factory=lambda: [_HOPE ** (d + 1) for d in range(_MOST)])
    pause: int = _FIRST_PAUSE
    wait: int = 0
    weighed: bool = False

    def best(self, costs: Sequence[float], most: int) -> tuple[int, float]:
        """How many guesses to ask for, and the speed this promises in plain speeds. costs[rows]: ms."""
        token_ms, expected = self.token_ms or 0.0, 1.0
        best, best_gain = 0, 1.0
        for n, reach in enumerate(self.reach[:most], start=1):
            expected += reach
            gain = expected * costs[1] / (costs[n + 1] + n * token_ms)
            if gain > best_gain:
                best, best_gain = n, gain
        return best, best_gain

    def rests(self) -> bool:
        """Let a round go by without weighing it anew, if that would come to the same."""
        if not self.weighed or self.wait + 1 >= self.pause:
            return False
        self.wait += 1
        return True

    def ask(self, costs: Sequence[float], most: int, rival_gain: float, margin: float) -> int:
        """How many guesses to ask for; 0 where others do better. A try now and then shows whether that
        has changed."""
        n, gain = self.best(costs, most)
        if n and gain > max(margin, rival_gain):
            self.pause, self.wait = _FIRST_PAUSE, 0
            return n
        if rival_gain > 1.0:
            return 0  # no loss, hence nothing to try
        if self.token_ms is None:
            return min(most, 2)
        self.wait += 1
        if self.wait < self.pause:
            self.weighed = True
            return 0
        self.wait, self.pause = 0, min(_LONGEST_PAUSE, 2 * self.pause)
        return min(most, max(1, n))

    def answered(self, n_asked: int, seconds: float) -> None:
        """Asking for so many guesses took so long."""
        self.weighed = False
        ms = 1e3 * seconds / max(1, n_asked)
        self.token_ms = ms if self.token_ms is None else 0.8 * self.token_ms + 0.2 * ms

    def judged(self, n_right: int, n_known: int) -> None:
        """The first `n_right` guesses were right; nothing is known of those from `n_known` on."""
        self.weighed = False
        for d in range(min(n_known, _MOST)):
            self.reach[d] += ((d < n_right) - self.reach[d]) / _MEMORY
