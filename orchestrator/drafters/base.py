"""What a drafter is: it guesses the next tokens and learns from what the target made of them."""

from abc import ABC, abstractmethod

from adapters.target import HiddenRows, HiddenTaps, Rows
from orchestrator.context import Context
from orchestrator.draft import Draft, Walk


class Drafter(ABC):
    """Base of every drafter, built-in or not; only `propose` must be written.

    name: shown in statistics. max_draft: nodes that are usually worth proposing. leaves: most branches
    of a tree it proposes (1 = chains). taps: hidden rows of the target that it wants to read.
    """

    name: str = "drafter"
    max_draft: int = 8
    leaves: int = 1
    taps: HiddenTaps = HiddenTaps()

    def begin(self, context: Context) -> None:  # noqa: B027 - most drafters need nothing here
        """A request begins: `context` holds its prompt."""

    def read_prompt(self, start: int, hidden: HiddenRows) -> None:  # noqa: B027
        """Hidden rows of the prompt's tokens from position `start` on, where `taps` asked for them."""

    @abstractmethod
    def propose(self, context: Context, budget: int) -> Draft:
        """Guess what follows `context`: at most `budget` nodes are used, an empty draft is no guess."""

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:  # noqa: B027
        """The target answered `draft` with `walk`; `rows` are valid during this call only.

        The context already holds the tokens of the walk.
        """

    def forget(self) -> None:  # noqa: B027
        """Drop what is cached of earlier requests."""

    def close(self) -> None:  # noqa: B027
        """Give back what the drafter holds; it is not used again."""
