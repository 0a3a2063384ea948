"""Suffix drafting: what followed the longest stretch that the text has in common with itself or with
reference documents?

O(1) per token and O(max_draft) per round at any length of either. SuffixDecoding: Oliaro et al. 2024.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain, islice

from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.setup import Setup
from orchestrator.suffix.automaton import Cursor, Match, SuffixAutomaton
from orchestrator.suffix.references import References
from orchestrator.suffix.source import Guesses, Source

_STATES = 8  # suffixes of a match that are looked at
_UNLIKELY = 0.02  # no branch is worth less
_HOPELESS = 0.05  # chance that all of a chain is right, below which it is not made longer

Guess = tuple[int, float, int]  # a token to come, its chance, where it was copied from


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
        self._own = SuffixAutomaton()
        self._restart(self._standing)

    def begin(self, context: Context) -> None:
        """The request's own references take the place of the drafter's."""
        self._restart(self._standing if context.references is None else context.references)
        self._catch_up(context)

    def forget(self) -> None:
        self._restart(self._standing)

    def _restart(self, references: References) -> None:
        self._own.reset()
        self._context: Context | None = None
        self._references = references
        self._cursor, self._reads = references.cursor(), bool(references.automaton.tokens)

    def propose(self, context: Context, budget: int) -> Draft:
        self._catch_up(context)
        n = min(budget, self.max_draft)
        if n < 1:
            return EMPTY
        if self.leaves > 1:
            sources = self._sources(self.leaves)
            return _tree(self._branches(sources, n), n, self.name) if sources else EMPTY
        source = self._longest(self._own.matches(_STATES), self._cursor)
        if source is None:
            return EMPTY
        tokens, prob, origin = source.guesses(n).until(_HOPELESS)
        return Draft.chain(tokens, prob, source=self.name, origin=tuple(origin))

    def extend_chain(self, tokens: Sequence[int], n: int) -> Guesses:
        """At most `n` guesses at what follows the context and then `tokens`, which others drafted."""
        nothing = Guesses([], [], [])
        if self._context is None:
            return nothing
        self._catch_up(self._context)
        own, reference = Cursor.at_tail(self._own), self._cursor.copy()
        for token in tokens:
            own.advance(token)
            reference.advance(token)
        source = self._longest(own.matches(_STATES), reference)
        # what would come after the text's end is `tokens`, which the text does not hold
        return nothing if source is None else source.guesses(n, wraps=False)

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
        own = self._own
        new = context.tokens[len(own.tokens) :]
        for token in new:
            own.extend(token)
        if self._reads:
            for token in new:
                self._cursor.advance(token)

    def _longest(self, own: Iterator[Match], reference: Cursor) -> Source | None:
        """The longest match, if it is as long as asked for; of equally long ones the references', which have
        names. own: the matches in the request's text."""
        mine = next(own, None)
        theirs = next(reference.matches(_STATES), None) if self._reads else None
        if theirs is not None and (mine is None or theirs.length >= mine.length):
            found = Source(reference.automaton, theirs, False)
        elif mine is not None:
            found = Source(self._own, mine, True)
        else:
            return None
        return found if found.match.length >= self._match_min else None

    def _sources(self, most: int) -> list[Source]:
        """The longest matches of either text, at most `most` of each, longest first."""
        found = [
            Source(cursor.automaton, match, own)
            for cursor, own in ((self._cursor, False), (Cursor.at_tail(self._own), True))
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
                token, prob, origin = next(guesses := zip(*other.guesses(n), strict=True))
                prob = min(left, misled * prob)
                branches.append(chain([(token, prob, origin)], guesses))
                if len(branches) == self.leaves:
                    return branches
                taken.add(token)
                left -= prob
        return branches


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
