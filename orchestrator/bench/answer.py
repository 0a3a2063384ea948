"""What an entrant of a benchmark is, and what it hands back: the seam between systems and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.stats import Stats


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt answered once, from an empty cache.

    tokens: everything generated, an end token included where there was one. n_timed / t_decode: the
    decode speed is n_timed tokens in t_decode seconds. Each side counts only tokens whose decodes it
    timed: a system whose clock starts when the first token is out has n_timed = len(tokens) - 1.
    t_first: seconds from the request to its first token. t_total: seconds from the request to the last.
    n_drafted / n_accepted: None where the system does not tell. stats: of our own engine.
    """

    tokens: tuple[int, ...]
    n_timed: int
    t_decode: float
    t_first: float
    t_total: float
    n_drafted: int | None = None
    n_accepted: int | None = None
    stats: Stats | None = None


class Entrant(Protocol):
    """A system that answers prompts: one of our configurations, or a peer."""

    @property
    def name(self) -> str: ...

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        """Generate at most `max_tokens` after the token ids of `prompt`, without what is cached of others."""
        ...

    def close(self) -> None:
        """Free it; safe to call twice."""
        ...
