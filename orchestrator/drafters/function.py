"""A user's own function as a drafter."""

from collections.abc import Callable, Sequence

from orchestrator.context import Context
from orchestrator.draft import Draft
from orchestrator.drafters.base import Drafter

DraftFunction = Callable[[Sequence[int], int], "Draft | Sequence[int]"]


class FunctionDrafter(Drafter):
    """Calls `function(tokens, budget)`: it returns the tokens that it expects next, or a Draft."""

    def __init__(self, function: DraftFunction, max_draft: int | None = None) -> None:
        self._function = function
        self.name = getattr(function, "__name__", "function")
        self.max_draft = max_draft or Drafter.max_draft

    def propose(self, context: Context, budget: int) -> Draft:
        answer = self._function(tuple(context.tokens), budget)
        return answer if isinstance(answer, Draft) else Draft.chain(answer, source=self.name)
