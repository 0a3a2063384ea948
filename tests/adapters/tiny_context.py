"""Contexts of tiny models that answer (almost) the same however many rows are decoded at once, trees
to score in them, and the answers to expect.

The answers come from a context of its own, one sequence, fed in one go: no tree, no commit, no rollback.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings
from adapters.target import FloatArray, HiddenTaps, IntArray
from tests.tiny_gguf import BOS, FIRST_BYTE

# half-precision attention would show in the logits, at some thousandths
EXACT: dict[str, Any] = {"flash_attn": False, "type_k": "f32", "type_v": "f32", "n_threads": 1, "n_ctx": 256}
CLOSE = 4e-4  # rows differ by less for numerical reasons, and by tenths where a wrong token was seen
ATTENTION = ("llama", "gemma3", "qwen2", "phi3")


@dataclass(frozen=True)
class Tree:
    """A draft: `tokens [n]` and `parents [n]`."""

    tokens: IntArray
    parents: IntArray

    @property
    def is_chain(self) -> bool:
        return bool(np.array_equal(self.parents, np.arange(-1, len(self.tokens) - 1)))

    def path(self, node: int) -> tuple[int, ...]:
        """The nodes from the root down to `node`; none for -1, the root itself."""
        return () if node < 0 else (*self.path(int(self.parents[node])), node)

    def tokens_of(self, path: Sequence[int]) -> list[int]:
        return [int(self.tokens[node]) for node in path]


@dataclass(frozen=True)
class Kept:
    """A walk: the nodes to keep, and their tokens followed by the next root."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]


def letters(text: str) -> list[int]:
    """One token per byte, without BOS."""
    return [FIRST_BYTE + byte for byte in text.encode()]


def grow(parents: Sequence[int], first: str = "a") -> Tree:
    """A tree of the given shape whose nodes carry consecutive letters."""
    start = FIRST_BYTE + ord(first)
    return Tree(np.arange(start, start + len(parents), dtype=np.int32), np.asarray(parents, np.int32))


def chain(tokens: Sequence[int]) -> Tree:
    return Tree(np.asarray(tokens, np.int32), np.arange(-1, len(tokens) - 1, dtype=np.int32))


NOTHING = chain([])
PROMPT = [BOS, *letters("The pilot fish swims along")]


def keep(tree: Tree, node: int, root: int) -> Kept:
    """The walk that ends at `node` (-1: right at the root) with `root` as the token after it."""
    path = tree.path(node)
    return Kept(path, (*tree.tokens_of(path), root))


class TinyModel:
    """A loaded tiny model and the logits that it ought to give."""

    def __init__(self, path: Path, settings: ModelSettings | None = None) -> None:
        self.model = LlamaModel(path, settings)

    def open(self, taps: HiddenTaps | None = None, **settings: Any) -> LlamaContext:
        return LlamaContext(self.model, ContextSettings(**{**EXACT, **settings}), taps)

    def after(self, tokens: Sequence[int]) -> FloatArray:
        """Logits `[n_vocab]` after `tokens`, in a context that has seen nothing else."""
        context = self.open()
        try:
            return context.extend(tokens).copy()
        finally:
            context.close()

    def expect_row(self, row: FloatArray, tokens: Sequence[int]) -> None:
        np.testing.assert_allclose(row, self.after(tokens), atol=CLOSE)

    def expect_tree(self, context: LlamaContext, tokens: Sequence[int], tree: Tree) -> None:
        """Score `tree` after `tokens` (root included): each row is what its path alone gives."""
        logits = context.score(tree).logits
        assert logits.shape == (1 + len(tree.tokens), self.model.n_vocab)
        for node in range(-1, len(tree.tokens)):
            self.expect_row(logits[1 + node], [*tokens, *tree.tokens_of(tree.path(node))])

    def expect_state(self, context: LlamaContext, tokens: Sequence[int]) -> None:
        """The context goes on as a fresh one would that was fed `tokens`."""
        assert [*context.tokens, context.root] == [*tokens]
        self.expect_row(context.score(NOTHING).logits[0], tokens)
        context.rollback()
