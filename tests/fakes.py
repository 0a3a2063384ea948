"""Targets and drafters in memory, small enough to trust by reading. No weights, no llama.cpp."""

from collections.abc import Callable, Sequence

import numpy as np

from adapters.target import Capabilities, FloatArray, HiddenRows, Rows
from orchestrator.context import Context
from orchestrator.draft import Draft, Walk
from orchestrator.drafters.base import Drafter

Logits = Callable[[Sequence[int]], FloatArray]  # of the token that follows the given ones


class MemoryTarget:
    """A target whose next-token logits are a function of all the tokens before.

    It follows the same protocol as a llama.cpp context and checks that callers do.
    """

    def __init__(self, logits: Logits, n_vocab: int, *, n_ctx: int = 4096, **capabilities: object) -> None:
        self.capabilities = Capabilities(n_vocab, n_ctx, **{"max_rows": 64, "max_leaves": 8, **capabilities})
        self._logits = logits
        self.memory: list[int] = []
        self.root = -1
        self.n_decodes = 0
        self._scored: Draft | None = None

    @property
    def n_past(self) -> int:
        return len(self.memory)

    def prefill(self, tokens, *, should_stop=None, on_hidden=None) -> int:
        self.memory, self.root = list(tokens[:-1]), tokens[-1]
        if on_hidden is not None and self.memory:
            on_hidden(0, HiddenRows())
        return 0

    def checked(self, tokens):
        return np.asarray(tokens, np.int32)

    def score(self, draft: Draft) -> Rows:
        assert self._scored is None, "score again before commit or rollback"
        assert 1 + len(draft) <= self.capabilities.max_rows
        assert self.n_past + 1 + len(draft) <= self.capabilities.n_ctx
        self._scored = draft
        self.n_decodes += 1
        paths: list[list[int]] = []
        rows = [self._logits([*self.memory, self.root])]
        for token, parent in zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True):
            paths.append([*(paths[parent] if parent >= 0 else []), token])
            rows.append(self._logits([*self.memory, self.root, *paths[-1]]))
        return Rows(np.stack(rows))

    def commit(self, walk: Walk) -> None:
        assert self._scored is not None, "commit without score"
        kept = [int(self._scored.tokens[node]) for node in walk.path]
        assert list(walk.tokens[:-1]) == kept
        self.memory += [self.root, *kept]
        self.root, self._scored = walk.tokens[-1], None

    def rollback(self) -> None:
        self._scored = None

    def truncate(self, n: int) -> None:
        self.memory = self.memory[:n]


def one_hot(token: int, n_vocab: int) -> FloatArray:
    logits = np.full(n_vocab, -10.0, np.float32)
    logits[token] = 10.0
    return logits


def scripted(script: Sequence[int], n_prompt: int, n_vocab: int = 100, **options: object) -> MemoryTarget:
    """A target whose greedy text after `n_prompt` tokens is `script`, whatever stands before."""

    def logits(tokens: Sequence[int]) -> FloatArray:
        place = len(tokens) - n_prompt
        return one_hot(script[place] if place < len(script) else 0, n_vocab)

    return MemoryTarget(logits, n_vocab, **options)


def random_law(seed: int, n_vocab: int, order: int = 2, scale: float = 1.5) -> Logits:
    """Logits that depend on the last `order` tokens, otherwise arbitrary."""

    def logits(tokens: Sequence[int]) -> FloatArray:
        rng = np.random.default_rng([seed, *tokens[-order:]])
        return (scale * rng.standard_normal(n_vocab)).astype(np.float32)

    return logits


class ListDrafter(Drafter):
    """Proposes the drafts it was given, one per round, then nothing."""

    name = "list"
    leaves = 8

    def __init__(self, drafts: Sequence[Draft | Sequence[int]]) -> None:
        self._drafts = list(drafts)
        self.walks: list[Walk] = []

    def propose(self, context: Context, budget: int) -> Draft:
        draft = self._drafts.pop(0) if self._drafts else Draft()
        return draft if isinstance(draft, Draft) else Draft.chain(draft, source=self.name)

    def observe(self, draft: Draft, walk: Walk, rows: Rows) -> None:
        self.walks.append(walk)


class OracleDrafter(Drafter):
    """Knows the text in advance; `right(position)` says which of its guesses it gets right."""

    name = "oracle"

    def __init__(self, text: Sequence[int], right: Callable[[int], bool] = lambda _: True) -> None:
        self._text, self._right = list(text), right

    def propose(self, context: Context, budget: int) -> Draft:
        start = context.n_emitted
        guesses = [
            token if self._right(start + i) else token + 1
            for i, token in enumerate(self._text[start : start + budget])
        ]
        return Draft.chain(guesses, source=self.name)


class RandomTreeDrafter(Drafter):
    """Proposes random trees over a small vocabulary: right now and then, by chance."""

    name = "random-tree"
    leaves = 8

    def __init__(self, n_vocab: int, seed: int, most: int = 8) -> None:
        self._n_vocab, self._most, self._rng = n_vocab, most, np.random.default_rng(seed)

    def propose(self, context: Context, budget: int) -> Draft:
        n = int(self._rng.integers(0, min(budget, self._most) + 1))
        parents = [int(self._rng.integers(-1, i)) if i else -1 for i in range(n)]
        return Draft.tree(self._rng.integers(0, self._n_vocab, n), parents, 0.5, source=self.name)


class RandomChainDrafter(Drafter):
    """Samples a chain of `length` tokens from a law of its own and hands that law over as q."""

    name = "random-chain"

    def __init__(self, logits: Logits, length: int) -> None:
        self._logits, self._length = logits, length

    def propose(self, context: Context, budget: int) -> Draft:
        guesses, ahead = [], []
        for _ in range(min(budget, self._length)):
            row = self._logits([*context.tokens, *ahead])
            guesses.append(context.sampler.guess(row, len(context), ahead))
            ahead.append(guesses[-1].token)
        q = None if context.sampler.coupled else tuple(guess.q for guess in guesses)
        return Draft.chain(ahead, [guess.prob for guess in guesses], source=self.name, q=q)
