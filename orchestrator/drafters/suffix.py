"""Suffix drafting: what followed the longest stretch that the text has in common with itself or with
reference documents?

O(1) per token and O(max_draft) per round at any length of either. SuffixDecoding: Oliaro et al. 2024.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np

from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.setup import Setup
from orchestrator.suffix.automaton import Cursor, Match, SuffixAutomaton
from orchestrator.suffix.references import References

_STATES = 8  # suffixes of a match that are looked at
_UNLIKELY = 0.02  # no branch is worth less
_HOPELESS = 0.05  # chance that all of a chain is right, below which it is not made longer
_LOOK = 16  # different tokens after a stretch that are looked at

# matching tokens, and the chance that what always followed them follows again: measured over 170 greedy
# answers of SmolLM2-135M Q4_0 to training prompts; what lies between is interpolated
_MEASURED = {
    0: 0.1,
    1: 0.37,
    2: 0.6,
    3: 0.67,
    4: 0.7,
    5: 0.75,
    6: 0.78,
    7: 0.8,
    8: 0.84,
    12: 0.92,
    20: 0.96,
    32: 0.99,
}
_BY_LENGTH = tuple(np.interp(range(33), list(_MEASURED), list(_MEASURED.values())).tolist())


def acceptance(length: int, depth: int, share: float) -> float:
    """The chance that the target agrees with a copied token, given that it agreed with those before.

    length: tokens that matched at the root. depth: tokens drafted before this one, which lengthen the
    match. share: of the times that the match occurred, those in which this token followed.
    """
    return _BY_LENGTH[min(length + depth, 32)] * share


def _alone(length: int) -> Iterator[float]:
    """`acceptance` of one token after another that nothing else ever followed."""
    return chain(_BY_LENGTH[min(length, 32) :], repeat(_BY_LENGTH[-1]))


def _text(tokens: list[int]) -> list[int]:
    """The tokens up to the end of their text: a separator is no token."""
    if not tokens or min(tokens) >= 0:
        return tokens
    return tokens[: next(place for place, token in enumerate(tokens) if token < 0)]


Guess = tuple[int, float, int]  # a token to come, its chance, where it was copied from


class Source(NamedTuple):
    """A match in the request's own text or in the references."""

    automaton: SuffixAutomaton
    match: Match
    own: bool

    @property
    def first(self) -> int:
        """The token that followed."""
        return self.automaton.tokens[self.match.end]

    def guesses(self, n: int, *, wraps: bool = True) -> Iterator[Guess]:
        """At most `n` tokens that followed, up to the end of their text. wraps: the request's own text goes
        on with the guesses themselves, as what repeats itself keeps repeating."""
        automaton, (state, length, end), own = self.automaton, self.match, self.own
        nexts, count, tokens = automaton.next, automaton.count, automaton.tokens
        before, start, stop = count[state], end, min(end + n, len(tokens))
        while before > 1 and end < stop:
            token = tokens[end]
            if token < 0:
                return
            state = nexts[state][token]
            after = count[state]
            # counts of stretches may lag behind those of longer ones: no share above 1
            share = after / before if after < before else 1.0
            yield token, acceptance(length, end - start, share), -2 - end if own else end
            before = after
            end += 1
        rest = _text(tokens[end:stop])  # what occurred once was always followed by the same
        places = range(-2 - end, -2 - end - len(rest), -1) if own else range(end, end + len(rest))
        yield from zip(rest, _alone(length + end - start), places, strict=False)
        while own and wraps and stop - start < n:
            place = start + (stop - start) % (len(tokens) - start)
            yield tokens[place], acceptance(length, stop - start, 1.0), -2 - place
            stop += 1

    def others(self, taken: set[int]) -> Iterator["Source"]:
        """The same match with each token that followed it and is not `taken`, the most frequent first."""
        automaton, (state, length, _), own = self
        if automaton.next[state].keys() <= taken:
            return
        for token, _, position in automaton.continuations(state, _LOOK):
            if token not in taken:
                yield Source(automaton, Match(state, length, position), own)


class SuffixDrafter(Drafter):
    """Drafts what followed the newest occurrence of the text's longest suffix that occurred before, in
    the request itself or in the references; of equally long ones theirs, which has a name.

    Chains are as long as allowed, or as there is hope: `prob` says how far to trust them. The nodes of a
    tree come in the order of their chance to be reached. `origin`: see `locate`.
    """

    name = "suffix"
    max_draft = 31

    def __init__(
        self,
        references: References | None = None,
        *,
        match_min: int = 2,
        max_draft: int = max_draft,
        leaves: int = 1,
    ) -> None:
        """match_min: tokens that must match. max_draft: nodes drafted at most. leaves: most branches;
        they part at the root."""
        self.max_draft, self.leaves, self._match_min = max_draft, leaves, match_min
        self._standing = References.of({}) if references is None else references
        self._references = self._standing
        self._own = SuffixAutomaton()
        self._cursor = self._references.cursor()
        self._context: Context | None = None

    def begin(self, context: Context) -> None:
        """The request's own references take the place of the drafter's."""
        self.forget()
        if context.references is not None:
            self._references = context.references
            self._cursor = self._references.cursor()
        self._catch_up(context)

    def forget(self) -> None:
        self._own.reset()
        self._references = self._standing
        self._cursor = self._references.cursor()
        self._context = None

    def propose(self, context: Context, budget: int) -> Draft:
        self._catch_up(context)
        n = min(budget, self.max_draft)
        sources = self._sources(Cursor.at_tail(self._own), self._cursor, self.leaves)
        if n < 1 or not sources:
            return EMPTY
        if self.leaves > 1:
            return _tree(self._branches(sources, n), n, self.name)
        tokens, prob, origin = zip(*_hopeful(sources[0].guesses(n)), strict=True)
        return Draft.chain(tokens, prob, source=self.name, origin=origin)

    def extend_chain(self, tokens: Sequence[int], n: int) -> list[Guess]:
        """At most `n` guesses at what follows the context and then `tokens`, which others drafted."""
        if self._context is None:
            return []
        self._catch_up(self._context)
        own, reference = Cursor.at_tail(self._own), self._cursor.copy()
        for token in tokens:
            own.advance(token)
            reference.advance(token)
        sources = self._sources(own, reference, 1)
        # what would come after the text's end is `tokens`, which the text does not hold
        return list(sources[0].guesses(n, wraps=False)) if sources else []

    def locate(self, origin: int) -> tuple[str, int] | None:
        """Where a node was copied from: a reference's name, "prompt" or "output", and the index of the
        token in it; None for -1."""
        if origin == -1:
            return None
        if origin >= 0:
            return self._references.locate(origin)
        position = -2 - origin
        n_prompt = 0 if self._context is None else self._context.n_prompt
        return ("prompt", position) if position < n_prompt else ("output", position - n_prompt)

    def _catch_up(self, context: Context) -> None:
        self._context = context
        own, cursor = self._own, self._cursor
        for token in context.tokens[len(own.tokens) :]:
            own.extend(token)
            cursor.advance(token)

    def _sources(self, own: Cursor, reference: Cursor, most: int) -> list[Source]:
        """The longest matches of either text, at most `most` of each, longest first."""
        found = [
            Source(cursor.automaton, match, cursor is own)
            for cursor in (reference, own)
            for match in islice(cursor.matches(_STATES), min(most, _STATES))
            if match.length >= self._match_min
        ]
        found.sort(key=lambda source: -source.match.length)
        return found

    def _branches(self, sources: list[Source], n: int) -> list[Iterator[Guess]]:
        """Chains with different first tokens: what followed the longest match, first the last time, then
        at other times, and what followed shorter ones."""
        branches: list[Iterator[Guess]] = []
        taken: set[int] = set()
        left = 1.0  # the chance that no branch is right
        for source in sources:
            if left < _UNLIKELY:
                break
            misled = left  # the chance that longer matches were: only then does a shorter one count
            others = source.others(taken)
            for other in others if branches else chain([source], others):
                token, prob, origin = next(guesses := other.guesses(n))
                prob = min(left, misled * prob)
                branches.append(chain([(token, prob, origin)], guesses))
                if len(branches) == self.leaves:
                    return branches
                taken.add(token)
                left -= prob
        return branches


def _hopeful(guesses: Iterator[Guess]) -> Iterator[Guess]:
    """The guesses up to the first of which little is to be hoped, that one included."""
    chance = 1.0
    for guess in guesses:
        yield guess
        chance *= guess[1]
        if chance < _HOPELESS:
            return


def _tree(branches: list[Iterator[Guess]], n: int, source: str) -> Draft:
    """The `n` nodes of the branches that are the likeliest to be reached, the likeliest first."""
    nodes: list[Guess] = []
    parents: list[int] = []
    # (-chance to be reached, branch, parent, guess): the smallest is the next node
    heap = [(-guess[1], number, -1, guess) for number, guess in enumerate(map(next, branches))]
    heapify(heap)
    while heap and len(nodes) < n:
        reached, number, parent, guess = heap[0]
        nodes.append(guess)
        parents.append(parent)
        following = next(branches[number], None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (reached * following[1], number, len(nodes) - 1, following))
    tokens, prob, origin = zip(*nodes, strict=True)
    return Draft.tree(tokens, parents, prob, source=source, origin=origin)


def build(setup: Setup) -> SuffixDrafter:
    """The `suffix` method."""
    settings = setup.speculation
    return SuffixDrafter(
        match_min=settings.ngram_min,
        max_draft=settings.max_draft or SuffixDrafter.max_draft,
        leaves=settings.max_leaves,
    )
