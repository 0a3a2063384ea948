"""The drafter of plain decoding: it has no idea."""

from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.setup import Setup


class NoDrafter(Drafter):
    """Proposes nothing, so that every decode scores one row."""

    name = "none"
    max_draft = 0

    def propose(self, context: Context, budget: int) -> Draft:
        return EMPTY


def build(setup: Setup) -> NoDrafter:
    """The `none` method."""
    return NoDrafter()
