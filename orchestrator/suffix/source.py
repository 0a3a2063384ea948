"""Where guesses are copied from: a stretch that the text has in common with itself or with the references.

Knows automata, and how often what followed such a stretch follows it again; nothing of drafts.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from orchestrator.suffix.automaton import Match, SuffixAutomaton

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
_LONGEST = max(_MEASURED)
_BY_LENGTH: list[float] = np.interp(range(_LONGEST + 1), list(_MEASURED), list(_MEASURED.values())).tolist()


def acceptance(length: int, depth: int, share: float) -> float:
    """The chance that the target agrees with a copied token, given that it agreed with those before.

    length: tokens that matched at the root. depth: tokens drafted before this one, which lengthen the
    match. share: of the times that the match occurred, those in which this token followed.
    """
    return _BY_LENGTH[min(length + depth, _LONGEST)] * share


class Guesses(NamedTuple):
    """A chain, in lists of one length. tokens: to come; prob: the chance of each where those before it are
    right; origin: where it was copied from, an index of the references or -2 - an index of the own text."""

    tokens: list[int]
    prob: list[float]
    origin: list[int]

    def until(self, hopeless: float) -> "Guesses":
        """The guesses up to the first of which there is less hope than that, that one included."""
        chance = 1.0
        for n, prob in enumerate(self.prob, start=1):
            chance *= prob
            if chance < hopeless:
                return Guesses(self.tokens[:n], self.prob[:n], self.origin[:n])
        return self


class Source(NamedTuple):
    """A match in the request's own text or in the references."""

    automaton: SuffixAutomaton
    match: Match
    own: bool

    def guesses(self, n: int, *, wraps: bool = True) -> Guesses:
        """At most `n` tokens that followed, up to the end of their text; one at least. wraps: the request's
        own text goes on with the guesses themselves, as what repeats itself keeps repeating."""
        automaton, (state, length, end), own = self
        tokens = automaton.tokens[end : end + n]
        prob = _shared(automaton, state, length, tokens)
        if len(prob) < len(tokens):  # what occurred once was always followed by the same
            if not own and min(tokens) < 0:
                tokens = tokens[: next(place for place, token in enumerate(tokens) if token < 0)]
            prob += _alone(length + len(prob), len(tokens) - len(prob))
        k = len(tokens)
        if not own:
            return Guesses(tokens, prob, list(range(end, end + k)))
        origin = list(range(-2 - end, -2 - end - k, -1))
        if wraps and k < n:
            times = n // k + 1
            tokens, origin = (tokens * times)[:n], (origin * times)[:n]
            prob += _alone(length + k, n - k)
        return Guesses(tokens, prob, origin)

    def others(self, taken: set[int]) -> Iterator["Source"]:
        """The same match with each token that followed it and is not `taken`, the most frequent first."""
        automaton, (state, length, _), own = self
        if automaton.next[state].keys() <= taken:
            return
        for token, _, position in automaton.continuations(state, _LOOK):
            if token not in taken:
                yield Source(automaton, Match(state, length, position), own)


def _shared(automaton: SuffixAutomaton, state: int, length: int, tokens: list[int]) -> list[float]:
    """The chances of the first tokens, as far as others followed the same stretch, too."""
    count, prob = automaton.count, list[float]()
    before = count[state]
    if before <= 1:
        return prob
    nexts = automaton.next
    for depth, token in enumerate(tokens):
        if token < 0 or before <= 1:
            break
        state = nexts[state][token]
        after = count[state]
        # counts of stretches may lag behind those of longer ones: no share above 1
        prob.append(acceptance(length, depth, after / before if after < before else 1.0))
        before = after
    return prob


def _alone(length: int, n: int) -> list[float]:
    """The chances of `n` tokens one after another that nothing else ever followed."""
    start = min(length, _LONGEST)
    known = _BY_LENGTH[start : start + n]
    return known + _BY_LENGTH[-1:] * (n - len(known))
