"""EAGLE heads: one small layer that has read the whole text with the target's own features.

Knows which features and tokens the head has read, how they line up, and how a tree grows; the network is
`heads.eagle` or `heads.eagle3`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adapters.target import FloatArray, HiddenRows, HiddenTaps, Rows
from heads.trees import rerank
from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft, Walk
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.chain import grown
from orchestrator.sampler import Guess

if TYPE_CHECKING:
    from heads.draft_state import DraftState

_CANDIDATES = 64  # of each step, where guesses are sampled
_HOPELESS = 0.05  # chance that all of a path is right, below which it is not made longer
_MOST_PENDING = 256  # features that wait to be read: then they are, whether a draft is asked for or not


class Node(NamedTuple):
    """A guess in a growing tree. parent: its number among the nodes, -1 = the root; score: the log of the
    chance that its whole path is right."""

    parent: int
    guess: Guess
    depth: int
    score: float


@dataclass(frozen=True, slots=True)
class Shape:
    """How far a tree may grow: levels, and nodes that are grown on each."""

    depth: int
    width: int


class EagleDrafter(Drafter):
    """Chains, or EAGLE-2's dynamic trees (Li et al. 2024) where `leaves` allows more than one branch."""

    def __init__(
        self,
        state: "DraftState",
        taps: HiddenTaps,
        *,
        name: str = "eagle",
        max_draft: int = 4,
        leaves: int = 1,
        depth: int = 5,
        p_min: float = 0.0,
    ) -> None:
        """taps: post-norm rows, or the layer inputs in their order. depth: levels of a tree. p_min: no guess
        behind one that the head gives less probability."""
        self.name, self.taps, self.max_draft, self.leaves = name, taps, max_draft, leaves
        self._state, self._shape, self._p_min = state, Shape(depth, leaves), p_min
        self.forget()

    def forget(self) -> None:
        self._state.truncate(0)
        self._context: Context | None = None
        self._tokens: list[int] = []  # those whose features have come
        self._after: list[int] = []  # of each pair that was read, the token
        self._pending: list[FloatArray] = []  # features behind those, `[n, F]` each

    # -- what has been read ----------------------------------------------------------------------

    def begin(self, context: Context) -> None:
        """Keep what the new text has in common with the last one."""
        tokens, self._context = context.tokens, context
        # the newest pair is read again, and its feature with it: only reading gives the first guess
        n_common = _common(self._tokens, tokens[:-1])
        n_pairs = min(_common(self._after, tokens[1:]), n_common, max(0, len(tokens) - 2))
        n_kept = 0
        if self._pending and n_pairs == len(self._after):
            self._pending = [np.concatenate(self._pending)[: n_common - n_pairs]]
            n_kept = len(self._pending[0])
        else:
            self._pending = []
        del self._after[n_pairs:]
        self._state.truncate(n_pairs)
        self._tokens = tokens[: n_pairs + n_kept]

    def n_known(self, context: Context) -> int:
        return len(self._tokens)

    def read_prompt(self, start: int, hidden: HiddenRows) -> None:
        features = self._features(hidden, slice(None))
        self._take(features[max(0, len(self._tokens) - start) :])
        self._catch_up()

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:
        if rows.hidden is None:
            return
        n = walk.n_accepted
        wanted = slice(1 + n) if draft.is_chain else [0, *(1 + node for node in walk.path)]
        self._take(self._features(rows.hidden, wanted))
        if self._n_pending > _MOST_PENDING:
            self._catch_up()

    @property
    def _n_pending(self) -> int:
        return len(self._tokens) - len(self._after)

    def _features(self, hidden: HiddenRows, rows: "slice | Sequence[int]") -> FloatArray:
        """A copy: the next decode overwrites the rows."""
        if not self.taps.layers:
            assert hidden.post_norm is not None
            return np.array(hidden.post_norm[rows])
        return np.concatenate([hidden.layers[layer][rows] for layer in self.taps.layers], axis=1)

    def _take(self, features: FloatArray) -> None:
        assert self._context is not None
        n = len(self._tokens)
        self._pending.append(features)
        self._tokens += self._context.tokens[n : n + len(features)]

    def _catch_up(self) -> None:
        """Read the features that have come, each with the token after it."""
        assert self._context is not None
        if self._n_pending:
            n = len(self._after)
            after = self._context.tokens[n + 1 : len(self._tokens) + 1]
            self._state.read(np.concatenate(self._pending), after)
            self._after += after
            self._pending = []

    # -- guessing --------------------------------------------------------------------------------

    def propose(self, context: Context, budget: int) -> Draft:
        n = min(budget, self.max_draft)
        if n < 1 or len(self._tokens) != len(context) - 1:
            return EMPTY
        self._catch_up()
        if not self._after:  # a prompt of one token has no pair
            return EMPTY
        # where q is handed over guesses are chains
        is_chain = self.leaves == 1 or not context.sampler.coupled
        return self._chain(context, n) if is_chain else self._tree(context, n)

    def _chain(self, context: Context, n: int) -> Draft:
        k = self._n_candidates(context, 1)

        def guess(so_far: Sequence[Guess]) -> Guess:
            if so_far:
                ids, logp = self._state.grow([len(so_far) - 2], [so_far[-1].token], k)
            else:
                ids, logp = self._state.open(k)
            return context.sampler.guess_among(ids[0], logp[0], len(context), len(so_far), 1)[0]

        def goes_on(probs: Sequence[float]) -> bool:
            return prod(probs) >= _HOPELESS and self.gate.goes_on(self.name, probs, n)

        return grown(self.name, n, guess, goes_on, p_min=self._p_min)

    def _tree(self, context: Context, n: int) -> Draft:
        """EAGLE-2: on each level the likeliest nodes are grown; of all nodes the likeliest are drafted."""
        k, nodes = self._n_candidates(context, self._shape.width), list[Node]()
        level = self._children(context, *self._state.open(k), [-1], nodes)
        grown: dict[int, int] = {-1: -1}  # node -> its number in the head's tree
        for _ in range(self._shape.depth - 1):
            best = sorted(level, key=lambda node: -nodes[node].score)[: self._shape.width]
            best = sorted(node for node in best if nodes[node].score > log(_HOPELESS))
            if not best or not self._pays(nodes, max(best, key=lambda node: nodes[node].score), n):
                break
            parents = [grown[nodes[node].parent] for node in best]
            frontier = self._state.grow(parents, [nodes[node].guess.token for node in best], k)
            grown |= {node: len(grown) - 1 + place for place, node in enumerate(best)}
            level = self._children(context, *frontier, best, nodes)
        parents, scores = [node.parent for node in nodes], [node.score for node in nodes]
        tokens, probs = [node.guess.token for node in nodes], [node.guess.prob for node in nodes]
        chosen = rerank(np.asarray(parents), np.asarray(scores), n).tolist()
        return Draft.tree(tokens, parents, probs, source=self.name).keep(chosen)

    def _children(
        self,
        context: Context,
        ids: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]",
        logp: FloatArray,
        parents: Sequence[int],
        nodes: list[Node],
    ) -> list[int]:
        """Append the likeliest children of each parent; return their numbers."""
        first = len(nodes)
        for row, parent in enumerate(parents):
            depth, score = (0, 0.0) if parent < 0 else (nodes[parent].depth + 1, nodes[parent].score)
            guesses = context.sampler.guess_among(ids[row], logp[row], len(context), depth, self._shape.width)
            for guess in guesses:
                nodes.append(Node(parent, guess, depth, score + log(max(guess.prob, 1e-9))))
        return list(range(first, len(nodes)))

    def _pays(self, nodes: Sequence[Node], node: int, n: int) -> bool:
        """Whether the path that ends in `node` is worth another level."""
        probs = list[float]()
        while node >= 0:
            probs.append(nodes[node].guess.prob)
            node = nodes[node].parent
        return self.gate.goes_on(self.name, probs[::-1], n)

    def _n_candidates(self, context: Context, n_children: int) -> int:
        return n_children if context.sampler.sampling.greedy else max(_CANDIDATES, n_children)


def _common(known: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens both begin with."""
    most = min(len(known), len(tokens))
    if known[:most] == tokens[:most]:
        return most
    return next(place for place in range(most) if known[place] != tokens[place])
