"""The nouns of a round: what was guessed (Draft), what was right (Walk), what came out (Step).

Knows token ids and tree shapes; nothing of models, drafters or text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from adapters.target import FloatArray, IntArray
from orchestrator.errors import DrafterError
from orchestrator.law import Law

# parents of every chain: a slice of this array marks a chain without a look at its numbers
_CHAIN: IntArray = np.arange(-1, 1023, dtype=np.int32)
_CHAIN.flags.writeable = False


def _no_tokens() -> IntArray:
    return np.zeros(0, np.int32)


def _no_prob() -> FloatArray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A tree of guessed tokens, flattened so that parents come before their children.

    tokens [n]; parents [n]: index of the parent, -1 for children of the root; prob [n]: the drafter's
    estimate that the target agrees with the node given that it agreed with its parent; q [n]: the law
    each token was sampled from, None where the guesses are deterministic. sources [n]: who guessed each
    node, empty where all are `source`'s; origin [n]: where each was copied from, in the drafter's own
    numbering (-1 = nowhere), empty where it does not say. An empty draft means "no idea".
    """

    tokens: IntArray = field(default_factory=_no_tokens)
    parents: IntArray = field(default_factory=_no_tokens)
    prob: FloatArray = field(default_factory=_no_prob)
    source: str = ""
    q: tuple[Law, ...] | None = None
    sources: tuple[str, ...] = ()
    origin: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if (self.sources and len(self.sources) != n) or (self.origin and len(self.origin) != n):
            raise DrafterError(
                f"draft of {self.source or 'unnamed drafter'}: sources and origin must be empty or have one "
                f"entry for each of the {n} nodes, got {len(self.sources)} and {len(self.origin)}"
            )
        if len(self.parents) != n or len(self.prob) != n or (self.q is not None and len(self.q) != n):
            raise DrafterError(
                f"draft of {self.source or 'unnamed drafter'}: tokens, parents, prob and q must have one "
                f"entry per node, got {n}, {len(self.parents)}, {len(self.prob)}"
                + ("" if self.q is None else f", {len(self.q)}")
            )
        if not self.is_chain and not np.all((self.parents >= -1) & (self.parents < np.arange(n))):
            raise DrafterError(
                f"draft of {self.source or 'unnamed drafter'}: parents must be -1 or an earlier node, "
                f"got {self.parents.tolist()}"
            )

    @classmethod
    def chain(
        cls,
        tokens: Sequence[int],
        prob: Sequence[float] | float = 1.0,
        *,
        source: str = "",
        q: tuple[Law, ...] | None = None,
        origin: tuple[int, ...] = (),
    ) -> "Draft":
        """Each token the child of the one before it."""
        n = len(tokens)
        parents = _CHAIN[:n] if n <= len(_CHAIN) else np.arange(-1, n - 1, dtype=np.int32)
        probs = np.full(n, prob, np.float32) if isinstance(prob, float) else np.asarray(prob, np.float32)
        return cls(np.asarray(tokens, np.int32), parents, probs, source, q, (), origin)

    @classmethod
    def tree(
        cls,
        tokens: Sequence[int],
        parents: Sequence[int],
        prob: Sequence[float] | float = 1.0,
        *,
        source: str = "",
        sources: tuple[str, ...] = (),
        origin: tuple[int, ...] = (),
    ) -> "Draft":
        """Nodes with explicit parents, each before its children."""
        probs = (
            np.full(len(tokens), prob, np.float32)
            if isinstance(prob, float)
            else np.asarray(prob, np.float32)
        )
        nodes, above = np.asarray(tokens, np.int32), np.asarray(parents, np.int32)
        return cls(nodes, above, probs, source, None, sources, origin)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether each node is the child of the one before it."""
        n = len(self.tokens)
        return n == 0 or self.parents.base is _CHAIN or np.array_equal(self.parents, np.arange(-1, n - 1))

    @property
    def depth(self) -> int:
        """Nodes on the longest path from the root."""
        if self.is_chain:
            return len(self)
        depths: list[int] = []
        for parent in self.parents.tolist():
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths)

    def first(self, n: int) -> "Draft":
        """The first `n` nodes: always a tree, since parents come before children."""
        if n >= len(self):
            return self
        q = None if self.q is None else self.q[:n]
        sources, origin = self.sources[:n], self.origin[:n]
        return Draft(self.tokens[:n], self.parents[:n], self.prob[:n], self.source, q, sources, origin)

    def keep(self, nodes: Sequence[int]) -> "Draft":
        """The tree of these nodes alone, in their order; the parent of each must be among those before it."""
        place = {-1: -1, **{node: i for i, node in enumerate(nodes)}}
        chosen = list(nodes)
        parents = np.asarray([place[parent] for parent in self.parents[chosen].tolist()], np.int32)
        q = None if self.q is None else tuple(self.q[node] for node in chosen)
        sources = tuple(self.sources[node] for node in chosen) if self.sources else ()
        origin = tuple(self.origin[node] for node in chosen) if self.origin else ()
        return Draft(self.tokens[chosen], parents, self.prob[chosen], self.source, q, sources, origin)

    def with_leaves(self, most: int) -> "Draft":
        """The tree cut to at most `most` leaves: a node that would add one too many goes, children too."""
        if len(self) == 0 or self.is_chain:
            return self
        kept, has_child, n_leaves = {-1: -1}, {-1}, 1  # the first child of the root opens the first leaf
        root_is_bare = True
        for node, parent in enumerate(self.parents.tolist()):
            opens_leaf = parent in has_child and not (parent == -1 and root_is_bare)
            if parent not in kept or (opens_leaf and n_leaves == most):
                continue
            n_leaves += opens_leaf
            root_is_bare = root_is_bare and parent != -1
            has_child.add(parent)
            kept[node] = len(kept) - 1
        nodes = [node for node in kept if node >= 0]
        return self if len(nodes) == len(self) else self.keep(nodes)

    def require_vocabulary(self, n_vocab: int) -> None:
        """Raise DrafterError for a token id that the target does not have."""
        tokens = self.tokens.tolist()
        if tokens and not (0 <= min(tokens) and max(tokens) < n_vocab):
            wrong = next(token for token in tokens if not 0 <= token < n_vocab)
            raise DrafterError(
                f"drafter {self.source or 'unnamed'} proposed token {wrong}, the target's vocabulary "
                f"has {n_vocab} tokens; propose ids below {n_vocab}"
            )


class Walk(NamedTuple):
    """What the target made of a draft: `path`, the nodes it agreed with from the root down, and
    `tokens`, theirs followed by the one token that the target added itself."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]

    @property
    def n_accepted(self) -> int:
        return len(self.path)

    def first(self, n: int) -> "Walk":
        """The walk as if it had ended after `n` tokens: the n-th counts as the target's own."""
        return self if n >= len(self.tokens) else Walk(self.path[: n - 1], self.tokens[:n])


class Step(NamedTuple):
    """One round of the loop: `n_accepted` drafted tokens that were kept, then one of the target's.

    Times in seconds. `depth_drafted`: nodes' greatest depth. `finish_reason`: why this is the last
    step; empty before that. quoted: document and offset that each accepted node was copied from.
    sources: of the accepted nodes, drafted_by: of all, both empty where all are `source`'s.
    """

    tokens: tuple[int, ...]
    n_drafted: int
    n_accepted: int
    depth_drafted: int
    source: str
    t_draft: float
    t_verify: float
    t_sample: float
    finish_reason: str = ""
    quoted: tuple[tuple[str, int] | None, ...] = ()
    sources: tuple[str, ...] = ()
    drafted_by: tuple[str, ...] = ()

    @property
    def n_emitted(self) -> int:
        return len(self.tokens)


EMPTY = Draft()  # "no idea", for those who have none often
