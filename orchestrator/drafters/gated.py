"""A drafter that takes time, asked only where that pays.

Knows when to ask and how long it took; whether it pays is the gate's business, the loop's planner.
"""

from time import perf_counter

from adapters.target import HiddenRows, HiddenTaps, Rows
from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft, Walk
from orchestrator.drafters.base import Drafter


class GatedDrafter(Drafter):
    """`stage` behind a gate; it follows the text whether it is asked or not."""

    def __init__(self, stage: Drafter) -> None:
        self._stage = stage
        self.name, self.leaves, self.max_draft = stage.name, stage.leaves, stage.max_draft

    @property
    def taps(self) -> HiddenTaps:  # type: ignore[override]
        return self._stage.taps

    def begin(self, context: Context) -> None:
        self._stage.gate = self.gate
        self._stage.begin(context)

    def n_known(self, context: Context) -> int:
        return self._stage.n_known(context)

    def read_prompt(self, start: int, hidden: HiddenRows) -> None:
        self._stage.read_prompt(start, hidden)

    def propose(self, context: Context, budget: int) -> Draft:
        return self._asked(context, EMPTY, budget)

    def _asked(self, context: Context, rival: Draft, budget: int) -> Draft:
        """What the stage guesses, nothing where `rival` or no draft at all is better."""
        name = self._stage.name
        n = self.gate.ask(name, rival, min(budget, self._stage.max_draft))
        if n <= 0:
            return EMPTY
        began = perf_counter()
        guessed = self._stage.propose(context, n)
        self.gate.answered(name, len(guessed), perf_counter() - began)
        return guessed

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:
        self._stage.observe(draft, walk, rows)

    def locate(self, origin: int) -> tuple[str, int] | None:
        return self._stage.locate(origin)

    def forget(self) -> None:
        self._stage.forget()

    def close(self) -> None:
        self._stage.close()
