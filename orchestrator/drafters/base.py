"""What a drafter is: it guesses the next tokens and learns from what the target made of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from adapters.target import HiddenRows, HiddenTaps, Rows
from orchestrator.context import Context
from orchestrator.draft import Draft, Walk


class Gate(Protocol):
    """Decides whether a source of guesses that takes time is worth asking."""

    def ask(self, source: str, rival: Draft, most: int) -> int:
        """How many guesses to ask `source` for, at most `most`; rival: what there is without it."""
        ...

    def goes_on(self, source: str, probs: Sequence[float], most: int) -> bool:
        """Whether a chain that `source` grows is worth a further guess, `most` in all; probs: of its guesses
        so far, one at least, as `Draft.prob`."""
        ...

    def answered(self, source: str, n_guesses: int, seconds: float) -> None:
        """So many guesses of `source` took so long."""
        ...


class AlwaysAsk:
    """Without a planner everybody is asked."""

    def ask(self, source: str, rival: Draft, most: int) -> int:
        return most

    def goes_on(self, source: str, probs: Sequence[float], most: int) -> bool:
        return True

    def answered(self, source: str, n_guesses: int, seconds: float) -> None:
        """Nothing depends on it."""


class Drafter(ABC):
    """Base of every drafter, built-in or not; only `propose` must be written.

    name: shown in statistics. max_draft: nodes that are usually worth proposing. leaves: most branches
    of a tree it proposes (1 = chains). taps: hidden rows of the target that it wants to read. gate: for
    drafters that hold others: whether one that takes time is worth asking; the loop's planner.
    """

    name: str = "drafter"
    max_draft: int = 8
    leaves: int = 1
    taps: HiddenTaps = HiddenTaps()
    gate: Gate = AlwaysAsk()

    def begin(self, context: Context) -> None:  # noqa: B027 - most drafters need nothing here
        """A request begins: `context` holds its prompt."""

    def n_known(self, context: Context) -> int:
        """Of how many of the prompt's first tokens it has the hidden rows; the target decodes the others
        anew, cached or not. Asked after `begin`, where `taps` wants the prompt's rows."""
        return len(context)

    def read_prompt(self, start: int, hidden: HiddenRows) -> None:  # noqa: B027
        """Hidden rows of the prompt's tokens from position `start` on, where `taps` asked for them; comes
        after `begin`."""

    @abstractmethod
    def propose(self, context: Context, budget: int) -> Draft:
        """Guess what follows `context`: at most `budget` nodes are used, an empty draft is no guess."""

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:  # noqa: B027
        """The target answered `draft` with `walk`; `rows` are valid during this call only.

        The context already holds the tokens of the walk.
        """

    def locate(self, origin: int) -> tuple[str, int] | None:
        """The document, and the token in it, that an `origin` of one of its drafts means."""
        return None

    def forget(self) -> None:  # noqa: B027
        """Drop what is cached of earlier requests."""

    def close(self) -> None:  # noqa: B027
        """Give back what the drafter holds; it is not used again."""
