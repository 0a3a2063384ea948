"""Medusa heads: several guesses at once from the newest row of the target, combined into a chain or a tree.

Knows which row counts and how ranks become nodes; the network is `heads.medusa`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from adapters.target import HiddenTaps, Rows
from heads.trees import fitted, likeliest
from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft, Walk
from orchestrator.drafters.base import Drafter
from orchestrator.sampler import Guess

if TYPE_CHECKING:
    from heads.medusa_state import MedusaState

_CANDIDATES = 64  # of each head, where guesses are sampled
_RANKS = 10  # of each head that a tree may use; published trees use no more

Path = tuple[int, ...]


class MedusaDrafter(Drafter):
    """Trees whose tokens at depth d are all of head d (Cai et al. 2024). Guesses after the first round:
    a prompt gives no rows."""

    name = "medusa"
    taps = HiddenTaps(post_norm=True, prompt=False)

    def __init__(
        self,
        state: "MedusaState",
        *,
        max_draft: int = 4,
        leaves: int = 1,
        tree: Sequence[Path] | None = None,
    ) -> None:
        """tree: the ranks of each node's path, None = the likeliest nodes of the round."""
        self.max_draft, self.leaves = max_draft, leaves
        self._state, self._tree = state, tree

    def begin(self, context: Context) -> None:
        self._state.forget()

    def forget(self) -> None:
        self._state.forget()

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:
        if rows.hidden is not None and rows.hidden.post_norm is not None:
            self._state.see(rows.hidden.post_norm[1 + walk.path[-1] if walk.path else 0])

    def propose(self, context: Context, budget: int) -> Draft:
        n = min(budget, self.max_draft)
        if n < 1 or not self._state.is_open:
            return EMPTY
        sampling = context.sampler.sampling
        ids, logp = self._state.guesses(_RANKS if sampling.greedy else _CANDIDATES)
        guesses = [
            context.sampler.guess_among(head, chances, len(context), depth, _RANKS)
            for depth, (head, chances) in enumerate(zip(ids, logp, strict=True))
        ]
        if not context.sampler.coupled:
            chain = [head[0] for head in guesses[:n]]
            q = tuple(guess.q for guess in chain if guess.q is not None)
            tokens, probs = [guess.token for guess in chain], [guess.prob for guess in chain]
            return Draft.chain(tokens, probs, source=self.name, q=q)
        return self._draft(guesses, n)

    def _draft(self, guesses: Sequence[Sequence[Guess]], n: int) -> Draft:
        """The tree of at most `n` nodes; guesses: by head, the best first."""
        probs = np.zeros((len(guesses), _RANKS))
        for depth, head in enumerate(guesses):
            probs[depth, : len(head)] = [guess.prob for guess in head]
        nodes = (
            likeliest(np.log(np.maximum(probs, 1e-9)), n, self.leaves)[:3]
            if self._tree is None
            else fitted(self._tree, *probs.shape, n)
        )
        place, parents, kept = {-1: -1}, list[int](), list[Guess]()
        for node, (parent, rank, depth) in enumerate(zip(*map(list, nodes), strict=True)):
            # where sampling leaves few candidates a head offers fewer ranks than a tree wants
            if parent in place and rank < len(guesses[depth]):
                place[node] = len(kept)
                parents.append(place[parent])
                kept.append(guesses[depth][rank])
        tokens, chances = [guess.token for guess in kept], [guess.prob for guess in kept]
        return Draft.tree(tokens, parents, chances, source=self.name)
