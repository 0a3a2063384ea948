"""Who guessed which words: the text of a round, split by the source of its tokens.

Knows steps and text; nothing of HTTP.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.draft import Step
from orchestrator.request import Chunk

TARGET = "target"


@dataclass(frozen=True, slots=True)
class Span:
    """`n_tokens` tokens in a row from one source, and the text that they made certain."""

    source: str
    n_tokens: int
    text: str

    def joined(self, other: "Span") -> "Span":
        return Span(self.source, self.n_tokens + other.n_tokens, self.text + other.text)


def sources_of(step: Step) -> tuple[str, ...]:
    """The source of each token of a round: drafted ones first, then the one that the target added."""
    drafted = step.sources or (step.source or "unnamed",) * step.n_accepted
    return (*drafted, TARGET)


class Spans:
    """Collects the text of each token of one generation; `push` is for Request.on_token."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def push(self, _token: int, text: str) -> None:
        self._texts.append(text)

    def take(self, chunk: Chunk) -> tuple[Span, ...]:
        """The spans of `chunk`, whose texts together are its text; () where nobody pushed."""
        texts, self._texts = self._texts, []
        if not texts or chunk.step is None:
            return ()
        # what was held back for a stop string, or half a character, comes with the last token
        texts[-1] += chunk.text[sum(map(len, texts)) :]
        sources = sources_of(chunk.step)
        return join(Span(source, 1, text) for source, text in zip(sources, texts, strict=True))


def join(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same text with neighbours of one source as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].source == span.source:
            joined[-1] = joined[-1].joined(span)
        else:
            joined.append(span)
    return tuple(joined)


class Told:
    """What replies say beyond OpenAI's: who guessed which words, and how fast they come."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._spans: list[Span] = []
        self._n_tokens, self._n_decodes, self._seconds = 0, 0, 0.0

    def add(self, chunk: Chunk, spans: Iterable[Span]) -> None:
        """One more chunk, which goes into the next reply."""
        self._spans += spans
        if chunk.step is not None:
            step = chunk.step
            self._n_tokens += step.n_emitted
            self._n_decodes += 1
            self._seconds += step.t_draft + step.t_verify + step.t_sample

    def within(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """`reply` with what has not been told yet, where it is wanted."""
        if not self._wanted:
            return dict(reply)
        spans, self._spans = join(self._spans), []
        sources = [{"source": span.source, "n_tokens": span.n_tokens, "text": span.text} for span in spans]
        tau = self._n_tokens / max(1, self._n_decodes)
        speed = self._n_tokens / self._seconds if self._seconds else 0.0
        told = {"sources": sources, "tau": round(tau, 3), "tokens_per_second": round(speed, 2)}
        return {**reply, "pilotfish": told}
