"""How much to draft in each round.

`FixedPlanner` asks for the same number every time. A planner that weighs a measured cost curve
against live acceptance has the same three methods.
"""

from dataclasses import dataclass

from orchestrator.context import Context
from orchestrator.draft import Draft, Step, Walk


@dataclass(frozen=True, slots=True)
class FixedPlanner:
    """At most `max_draft` nodes in at most `max_leaves` branches, whatever happened before."""

    max_draft: int
    max_leaves: int = 1

    def budget(self, context: Context, room: int) -> int:
        return min(self.max_draft, room)

    def trim(self, draft: Draft, budget: int) -> Draft:
        return draft.first(budget).with_leaves(self.max_leaves)

    def observe(self, draft: Draft, walk: Walk, step: Step) -> None:
        """Nothing to learn: the plan is fixed."""
