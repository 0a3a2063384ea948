"""Prompt lookup: what followed the last time these tokens stood here?

An index from every n-gram to where it ended last, with links to where it ended before, kept up as
tokens arrive: O(1) per token at any context length. Prompt lookup decoding: Saxena 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.setup import Setup

_MAX_CANDIDATES = 8  # earlier occurrences that are looked at, newest first
_LONGEST_MATCH = 32  # longer matches say no more


@dataclass(frozen=True, slots=True)
class Match:
    """`end`: index of the token that followed the matching stretch, `length` tokens long."""

    end: int
    length: int


class NgramIndex:
    """Where each n-gram of a growing sequence ended."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.tokens: list[int] = []
        self._newest: dict[tuple[int, ...], int] = {}
        self._older: list[int] = []  # _older[i]: where the n-gram that ends before i ended earlier, or -1

    def update(self, tokens: Sequence[int]) -> None:
        """Follow `tokens`, which begin with what is indexed already."""
        for token in tokens[len(self.tokens) :]:
            self._append(token)

    def reset(self) -> None:
        self.tokens.clear()
        self._newest.clear()
        self._older.clear()

    def _append(self, token: int) -> None:
        # the n-gram is entered when a token follows it: the current tail never matches itself
        end = len(self.tokens)
        older = -1
        if end >= self.n:
            key = tuple(self.tokens[end - self.n :])
            older = self._newest.get(key, -1)
            self._newest[key] = end
        self._older.append(older)
        self.tokens.append(token)

    def find(self) -> Match | None:
        """The longest match of the tail among its newest occurrences; of equals the newest."""
        tail = len(self.tokens)
        best = None
        end = self._newest.get(tuple(self.tokens[tail - self.n :]), -1) if tail >= self.n else -1
        for _ in range(_MAX_CANDIDATES):
            if end < 0:
                break
            length = self._match_length(end, tail)
            if best is None or length > best.length:
                best = Match(end, length)
            end = self._older[end]
        return best

    def _match_length(self, end: int, tail: int) -> int:
        tokens, length, most = self.tokens, self.n, min(end, _LONGEST_MATCH)
        while length < most and tokens[end - length - 1] == tokens[tail - length - 1]:
            length += 1
        return length


class LookupDrafter(Drafter):
    """Drafts the tokens that followed the newest, longest occurrence of the context's tail.

    The longer the match, the longer the draft: as many rows (root included) as the largest power of
    two within the match's length, since kernels like powers of two and short matches are mostly chance.
    """

    name = "lookup"
    max_draft = 15

    def __init__(self, ngram_min: int = 2, max_draft: int = max_draft) -> None:
        """ngram_min: tokens that must match. max_draft: tokens drafted at most."""
        self.max_draft = max_draft
        self._index = NgramIndex(ngram_min)

    def begin(self, context: Context) -> None:
        self._index.reset()
        self._index.update(context.tokens)

    def propose(self, context: Context, budget: int) -> Draft:
        self._index.update(context.tokens)
        match = self._index.find()
        if match is None:
            return EMPTY
        n = min(budget, self.max_draft, trusted_length(match.length))
        tokens = self._index.tokens[match.end : match.end + n]
        return Draft.chain(tokens, expected_acceptance(match.length), source=self.name)


def trusted_length(match_length: int) -> int:
    """Tokens a match is trusted for: 1 up to three matching tokens, 3 from four, 7 from eight, ..."""
    return max(1, (1 << (match_length.bit_length() - 1)) - 1)


def expected_acceptance(length: int) -> float:
    """A prior for the chance that the token after a match of `length` is right: it grows with length."""
    return 1.0 - 0.6 * 0.75 ** max(0, length - 1)


def build(setup: Setup) -> LookupDrafter:
    """The `lookup` method."""
    settings = setup.speculation
    return LookupDrafter(settings.ngram_min, settings.max_draft or LookupDrafter.max_draft)
