"""Every stretch of a token sequence, in one automaton that grows with it: O(1) per token.

A suffix automaton, online: Blumer et al. 1985. Knows token ids; nothing of drafts, texts or models.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

ROOT = 0  # the empty stretch
_REACH = 8  # suffixes of the tail whose newest end and count are kept up with every token


class Match(NamedTuple):
    """A stretch of `length` tokens that stood earlier, too: `state` holds it, `end` is the index of the
    token that followed it."""

    state: int
    length: int
    end: int


class Continuation(NamedTuple):
    """A token that followed a stretch so many times, the last time known at index `position`."""

    token: int
    times: int
    position: int


class SuffixAutomaton:
    """All stretches of `tokens`; those that ended in the same places all along share a state.

    Per state, in lists: length [tokens of its longest stretch], link [state of the longest suffix that
    ended elsewhere too; -1 for the root], next [state by token that follows], recent [index just after
    the newest known occurrence that a token followed], count [known occurrences that a token followed; 1
    for the whole sequence].

    Each new token brings recent and count up to date for the `reach` longest suffixes that it follows.
    Shorter ones may lag: their end is then an older one, as true, and their count is too low. Negative
    tokens separate texts: they follow nothing and nothing is proposed beyond them.
    """

    __slots__ = ("_reach", "count", "last", "length", "link", "next", "recent", "tokens")

    def __init__(self, reach: int = _REACH) -> None:
        self._reach = reach
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.tokens: list[int] = []
        self.length: list[int] = [0]
        self.link: list[int] = [-1]
        self.next: list[dict[int, int]] = [{}]
        self.recent: list[int] = [0]
        self.count: list[int] = [0]
        self.last = ROOT  # the state of the whole sequence

    def __len__(self) -> int:
        """States, the root included; fewer than twice the tokens."""
        return len(self.length)

    def extend(self, token: int) -> None:
        """Append `token`: amortised O(1)."""
        links, nexts, lengths, recent, count = self.link, self.next, self.length, self.recent, self.count
        last, end, new = self.last, len(self.tokens), len(lengths)
        # the tail's suffixes become earlier occurrences only now that a token follows them
        state = links[last]
        for _ in range(self._reach):
            if state <= ROOT:
                break
            recent[state] = end
            count[state] += 1
            state = links[state]
        self.tokens.append(token)
        lengths.append(end + 1)
        recent.append(end + 1)
        count.append(1)
        nexts.append({})
        links.append(ROOT)
        self.last, state = new, last
        while state >= 0 and token not in nexts[state]:
            nexts[state][token] = new
            state = links[state]
        if state >= 0:
            other = nexts[state][token]
            fits = lengths[other] == lengths[state] + 1
            links[new] = other if fits else self._split(other, state, token)

    def _split(self, state: int, before: int, token: int) -> int:
        """The stretches of `state` up to those of `before` and `token`, as a state of their own."""
        links, nexts = self.link, self.next
        clone = len(self.length)
        self.length.append(self.length[before] + 1)
        links.append(links[state])
        nexts.append(nexts[state].copy())
        self.recent.append(self.recent[state])
        self.count.append(self.count[state])
        links[state] = clone
        while before >= 0 and nexts[before].get(token) == state:
            nexts[before][token] = clone
            before = links[before]
        return clone

    def matches(self, limit: int) -> Iterator[Match]:
        """Suffixes of the tail that stood earlier, the longest of each state, longest first; at most
        `limit` states are looked at."""
        state = max(self.link[self.last], ROOT)
        return self.suffixes(state, self.length[state], limit)

    def suffixes(self, state: int, length: int, limit: int) -> Iterator[Match]:
        """As `matches`, for the stretch of `length` tokens that `state` holds: itself, then shorter ones."""
        tokens, links, lengths, recent = self.tokens, self.link, self.length, self.recent
        for _ in range(limit):
            if state <= ROOT:
                return
            end = recent[state]
            if end < len(tokens) and tokens[end] >= 0:
                yield Match(state, length, end)
            state = links[state]
            length = lengths[state]

    def continuations(self, state: int, look: int | None = None) -> list[Continuation]:
        """What followed `state`, the most frequent first and of equals the newest.

        look: tokens looked at, in the order in which they first came; None = all of them.
        """
        count, recent = self.count, self.recent
        ranked = sorted(
            (-count[child], -recent[child], token)
            for token, child in islice(self.next[state].items(), look)
            if token >= 0
        )
        return [Continuation(token, -times, -end - 1) for times, end, token in ranked]

    def settle(self) -> None:
        """Count every state's occurrences exactly and find the newest end of each that no separator
        follows (any end, where a separator always does); the sequence must not grow afterwards."""
        tokens, lengths, links = self.tokens, self.length, self.link
        self.count, newest = [0] * len(self), [-1] * len(self)
        state = ROOT
        for end, token in enumerate(tokens):  # the states that are left behind: each prefix of the sequence
            if state != ROOT:
                self.count[state] = 1
                newest[state] = end if token >= 0 else -1
            state = self.next[state][token]
        for state in sorted(range(1, len(self)), key=lengths.__getitem__, reverse=True):
            shorter = links[state]
            self.count[shorter] += self.count[state]
            newest[shorter] = max(newest[shorter], newest[state])
            if newest[state] >= 0:
                self.recent[state] = newest[state]
        self.count[self.last] = 1


class Cursor:
    """Where another text stands in an automaton: the longest suffix of that text which occurs in it.

    state, length: that suffix. The automaton may not grow while it is used.
    """

    __slots__ = ("automaton", "length", "state")

    def __init__(self, automaton: SuffixAutomaton, state: int = ROOT, length: int = 0) -> None:
        self.automaton, self.state, self.length = automaton, state, length

    @classmethod
    def at_tail(cls, automaton: SuffixAutomaton) -> "Cursor":
        """After the automaton's own text, at its longest suffix that stood earlier, too."""
        state = max(automaton.link[automaton.last], ROOT)
        return cls(automaton, state, automaton.length[state])

    def copy(self) -> "Cursor":
        return Cursor(self.automaton, self.state, self.length)

    def advance(self, token: int) -> None:
        """The text goes on with `token`: amortised O(1)."""
        nexts, state = self.automaton.next, self.state
        if token not in nexts[state]:
            links = self.automaton.link
            while state > ROOT and token not in nexts[state]:
                state = links[state]
            self.length = self.automaton.length[state]
        following = nexts[state].get(token)
        if following is None:
            self.state = ROOT
        else:
            self.state = following
            self.length += 1

    def matches(self, limit: int) -> Iterator[Match]:
        """Suffixes of the text that occur with a token after them, longest first; at most `limit` states
        are looked at."""
        return self.automaton.suffixes(self.state, self.length, limit)
