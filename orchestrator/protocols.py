"""The seams of the loop: what a target and a planner must offer.

The drafter's side is `orchestrator.drafters.base`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from adapters.target import Capabilities, HiddenRows, Rows
from orchestrator.context import Context
from orchestrator.draft import Draft, Step, Walk
from orchestrator.drafters.base import Gate


class Target(Protocol):
    """A model that can score a draft and keep a part of it.

    Between calls its memory holds every token but the newest, the root.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def n_past(self) -> int:
        """Tokens in memory."""
        ...

    def prefill(
        self,
        tokens: Sequence[int],
        *,
        should_stop: Callable[[], bool] | None = None,
        on_hidden: Callable[[int, HiddenRows], None] | None = None,
    ) -> int:
        """Bring the memory to `tokens[:-1]`, the root to `tokens[-1]`; return how many were there."""
        ...

    def score(self, draft: Draft) -> Rows:
        """Logits after the root and after each node, in one decode."""
        ...

    def commit(self, walk: Walk) -> None:
        """Keep the root and the walk's path, drop the rest; the walk's last token is the new root."""
        ...

    def rollback(self) -> None:
        """Drop what was scored and not committed."""
        ...

    def truncate(self, n: int) -> None:
        """Keep the first `n` tokens in memory; a prefill must follow."""
        ...


class Planner(Gate, Protocol):
    """Decides how much to draft; never what is right."""

    def budget(self, context: Context, room: int) -> int:
        """How many nodes to ask the drafter for, at most `room`; 0 = do not ask."""
        ...

    def trim(self, draft: Draft, budget: int) -> Draft:
        """The part of a proposal that is worth scoring, at most `budget` nodes."""
        ...

    def observe(self, draft: Draft, walk: Walk, step: Step) -> None:
        """Learn from a finished round."""
        ...

    def summary(self) -> str:
        """One line on what was decided in this request; empty where nothing was."""
        ...
