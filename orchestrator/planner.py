"""How much to draft in each round.

`FixedPlanner` asks for the same number every time; `orchestrator.adaptive` weighs a measured cost curve
against live acceptance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.context import Context
from orchestrator.draft import Draft, Step, Walk

FIXED = "the plan is fixed"
NOTHING, PAYS, PAYS_NOT, LOST = (
    "nothing was proposed",
    "it pays",
    "it would not pay",
    "guessing has lost too much in this text",
)


class Decision(NamedTuple):
    """One round's plan: nodes proposed and kept, and what keeping them promised, in plain speeds."""

    n_proposed: int
    n_kept: int
    gain: float
    reason: str


@dataclass(frozen=True, slots=True)
class FixedPlanner:
    """At most `max_draft` nodes in at most `max_leaves` branches, whatever happened before."""

    max_draft: int
    max_leaves: int = 1
    explain: Callable[[Decision, Step], None] | None = None

    def budget(self, context: Context, room: int) -> int:
        return min(self.max_draft, room)

    def trim(self, draft: Draft, budget: int) -> Draft:
        return draft.first(budget).with_leaves(self.max_leaves)

    def ask(self, source: str, rival: Draft, most: int) -> int:
        """Everybody is asked, whatever it takes."""
        return most

    def goes_on(self, source: str, probs: Sequence[float], most: int) -> bool:
        """Every chain is as long as was asked for."""
        return True

    def answered(self, source: str, n_guesses: int, seconds: float) -> None:
        """Nothing to learn: the plan is fixed."""

    def summary(self) -> str:
        """Nothing was decided."""
        return ""

    def observe(self, draft: Draft, walk: Walk, step: Step) -> None:
        """Nothing to learn: the plan is fixed."""
        if self.explain is not None:
            self.explain(Decision(len(draft), len(draft), 1.0, FIXED), step)
