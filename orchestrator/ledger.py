"""What speculation has won or lost in a request: the guard of "never slower than plain decoding".

Estimates can be wrong for a whole text. Whoever has lost must promise more before it may guess again, may
risk no more than it has won and a little, and is out when it has lost too much.
"""

from dataclasses import dataclass

_MARGIN = 1.05  # a plan must promise as much over plain decoding: estimates are noisy, costs too
_PER_LOSS = 0.1  # and so much more for each decode lost
_SHARE = 0.01  # of the text so far that guessing may cost before it counts as lost
_OUT = 4.0  # decodes lost after which guessing has to wait for the share to grow
_RISK = 3.0  # decodes that one round may lose beyond what has been won
_CREDIT = 8.0  # what was won longer ago does not pay for a change of topic


@dataclass(slots=True)
class Ledger:
    """Everything in decodes of one row, by the cost curve. balance: won so far; spent: emitted so far."""

    balance: float = 0.0
    spent: float = 0.0

    def book(self, n_emitted: int, cost: float) -> None:
        """A round emitted so many tokens and cost as much as `cost` decodes of one row."""
        self.spent += n_emitted
        self.balance = min(_CREDIT, self.balance + n_emitted - cost)

    @property
    def lost(self) -> float:
        return max(0.0, -self.balance - _SHARE * self.spent)

    @property
    def is_out(self) -> bool:
        """Whether guessing has lost too much in this text."""
        return self.lost > _OUT

    @property
    def margin(self) -> float:
        """What a plan must promise, in plain speeds."""
        return _MARGIN + _PER_LOSS * self.lost

    @property
    def most(self) -> float:
        """What one round may cost at most."""
        return 1.0 + _RISK + max(0.0, self.balance)
