"""What asking a drafter promises in a text, how long it rests where that is too little, what tries may cost.

Knows expected tokens, what they cost, and rounds; nothing of who guesses or of what is guessed.
"""

from dataclasses import dataclass

_HOPED = 1.2  # what asking promises in a new text at most, in plain speeds
_BEFORE = 6.0  # decodes of this text that earlier ones count for, or hope where there are none
_TEXTS = 64.0  # decodes of earlier texts that are remembered
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 256  # rounds
_FOR_TRIES = 0.005  # of plain decoding that tries may cost in the long run
_AT_FIRST = 1.0  # decodes that they may cost before
_DEEPEST = 4.0  # decodes won or lost that are remembered


@dataclass(slots=True)
class Promise:
    """In plain speeds: tokens for each decode of one row that asking and scoring take. tokens, cost: of the
    rounds of this text in which it was asked; usual: what came to one decode in earlier texts, of which
    `known` decodes are remembered."""

    tokens: float = 0.0
    cost: float = 0.0
    usual: float = _HOPED
    known: float = _BEFORE

    def begin(self) -> None:
        """Another text: what one is like says little of the next."""
        self.usual = (self.known * self.usual + self.tokens) / (self.known + self.cost)
        self.known = min(_TEXTS, self.known + self.cost)
        self.tokens = self.cost = 0.0

    def add(self, tokens: float, cost: float) -> None:
        """A round in which it was asked: expected tokens, and what they take in decodes of one row."""
        self.tokens, self.cost = self.tokens + tokens, self.cost + cost

    @property
    def speed(self) -> float:
        return (_BEFORE * min(_HOPED, self.usual) + self.tokens) / (_BEFORE + self.cost)


@dataclass(slots=True)
class Pause:
    """Rounds between two tries where asking does not pay: `length`, of which `gone` have gone by."""

    length: int = _FIRST_PAUSE
    gone: int = 0

    def begin(self, *, tried_at_once: bool) -> None:
        """Another text, whose first try comes with its first round or after a longer pause."""
        self.length = _FIRST_PAUSE if tried_at_once else 2 * _FIRST_PAUSE
        self.gone = self.length - 1 if tried_at_once else 0

    def end(self) -> None:
        """It pays again: the next pause is a short one."""
        self.length, self.gone = _FIRST_PAUSE, 0

    @property
    def is_ending(self) -> bool:
        """Whether the next round is one to try in."""
        return self.gone + 1 >= self.length

    def goes_by(self) -> bool:
        """Let a round go by; whether it is one to try in, and the next pause twice as long."""
        if not self.is_ending:
            self.gone += 1
            return False
        self.gone, self.length = 0, min(_LONGEST_PAUSE, 2 * self.length)
        return True


@dataclass(slots=True)
class Purse:
    """What tries are paid from, in decodes of one row: what asking has won, in this text and others, and a
    small share of plain decoding. Where asking wins it is not empty; where it never does, tries are rare."""

    balance: float = _AT_FIRST

    def earn(self) -> None:
        """A round goes by."""
        self.balance = min(_DEEPEST, self.balance + _FOR_TRIES)

    def book(self, tokens: float, spent: float) -> None:
        """A round in which it was asked, and what that took with all that there was to read before."""
        self.balance = max(-_DEEPEST, min(_DEEPEST, self.balance + tokens - spent))

    @property
    def is_empty(self) -> bool:
        return self.balance <= 0.0
