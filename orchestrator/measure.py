"""Plain against speculative decoding of one prompt: how fast each is, and whether the texts agree.

Knows an engine and its streams; nothing of terminals, files or suites of prompts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from adapters.target import FloatArray
from orchestrator.draft import Draft
from orchestrator.engine import Engine
from orchestrator.request import Result
from orchestrator.stream import Stream

WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of repeated measurements, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        known = sorted(values)
        return cls(median(known), known[0], known[-1])

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}..{self.high:.1f})"


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two texts part: after `index` equal tokens, with these next ones (None: no more tokens).

    gap: how far the target's best logit is above its second there, sampling noise left out. At
    temperature 0 a gap within rounding lets one row and several rows choose differently; a large gap
    would be an error of ours.
    """

    index: int
    plain: int | None
    speculative: int | None
    gap: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same prompt decoded both ways, several times, in turn."""

    plain: tuple[Result, ...]
    speculative: tuple[Result, ...]
    divergence: Divergence | None

    @property
    def plain_tok_s(self) -> Spread:
        return Spread.of(result.stats.tok_s for result in self.plain)

    @property
    def tok_s(self) -> Spread:
        return Spread.of(result.stats.tok_s for result in self.speculative)

    @property
    def speedup(self) -> float:
        """Of the medians; 0 where no token was decoded."""
        plain = self.plain_tok_s.median
        return self.tok_s.median / plain if plain else 0.0

    @property
    def identical(self) -> bool:
        """Whether every speculative run gave the tokens of the plain run before it."""
        return self.divergence is None


def compare(
    engine: Engine,
    prompt: Sequence[int],
    *,
    n_runs: int = 3,
    serve: Callable[[Stream, bool, int], Result] = lambda stream, _speculative, _run: stream.finish(),
    **options: Any,
) -> Comparison:
    """Decode `prompt` plainly and speculatively, in turn, `n_runs` times each, after a warm-up.

    serve(stream, speculative, run): reads a stream to its end; whoever wants to show one does it there.
    options: those of `Engine.stream`. With temperature above 0 give a seed, or no two runs agree.
    """
    warm_up(engine, prompt, **options)
    plain: list[Result] = []
    speculative: list[Result] = []
    for run in range(n_runs):
        plain.append(serve(engine.stream(prompt, **options, speculate=False), False, run))
        speculative.append(serve(engine.stream(prompt, **options), True, run))
    pairs = zip(plain, speculative, strict=True)
    apart = [pair for pair in pairs if pair[0].tokens != pair[1].tokens]
    divergence = find_divergence(engine, prompt, *(r.tokens for r in apart[0])) if apart else None
    return Comparison(tuple(plain), tuple(speculative), divergence)


def warm_up(engine: Engine, prompt: Sequence[int], **options: Any) -> None:
    """Read the prompt and decode a few tokens both ways, so that neither side pays for what is first."""
    short = {**options, "max_tokens": min(WARM_UP_TOKENS, options.get("max_tokens", WARM_UP_TOKENS))}
    for speculate in (False, True):
        engine.stream(prompt, **short, speculate=speculate).finish()


def find_divergence(
    engine: Engine, prompt: Sequence[int], plain: Sequence[int], speculative: Sequence[int]
) -> Divergence:
    """Where two different texts after `prompt` part, and how sure the target is there."""
    n = min(len(plain), len(speculative))
    index = next((i for i in range(n) if plain[i] != speculative[i]), n)
    engine.target.prefill([*prompt, *plain[:index]])
    gap = top_two_gap(engine.target.score(Draft()).logits[0])
    engine.target.rollback()

    def at(tokens: Sequence[int]) -> int | None:
        return tokens[index] if index < len(tokens) else None

    return Divergence(index, at(plain), at(speculative), gap)


def top_two_gap(logits: FloatArray) -> float:
    """How far the largest of `logits [n_vocab]` is above the second largest."""
    second, first = np.partition(logits, -2)[-2:]
    return float(first - second)
