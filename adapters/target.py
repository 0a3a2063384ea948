"""What a target promises and returns, in numpy: the vocabulary between a model and the loop.

Knows shapes only; no llama.cpp, no drafts, no rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can do, asked before work starts.

    max_rows: rows of logits in one decode (root included). max_leaves: leaves of a draft tree, 1 for
    chains only. no_rollback: why rejected tokens cannot be dropped; empty where they can.
    """

    n_vocab: int
    n_ctx: int
    max_rows: int
    max_leaves: int = 1
    no_rollback: str = ""

    @property
    def rollback(self) -> bool:
        return not self.no_rollback


@dataclass(frozen=True, slots=True)
class HiddenTaps:
    """Which hidden rows to read beside the logits: post-norm rows, and the inputs of `layers`.

    prompt: whether the rows of the prompt are wanted, too, not only those of the rounds; a prefill without
    them is faster, as post-norm rows cost the output matrix for every token.
    """

    post_norm: bool = False
    layers: tuple[int, ...] = ()
    prompt: bool = True

    def __bool__(self) -> bool:
        return self.post_norm or bool(self.layers)


@dataclass(frozen=True, slots=True)
class HiddenRows:
    """Hidden rows of one decode, all `[n, n_embd]`; views that the next decode overwrites.

    post_norm: the input of the output matrix. layers[i]: the residual stream that enters layer i.
    """

    post_norm: FloatArray | None = None
    layers: Mapping[int, FloatArray] = field(default_factory=dict)


class Rows(NamedTuple):
    """The target's answer to a draft of n nodes: `logits [1 + n, n_vocab]`, row 0 for the root.

    Row 1 + i holds the logits after node i. A view that the next decode overwrites.
    """

    logits: FloatArray
    hidden: HiddenRows | None = None


def common_length(a: IntArray, b: IntArray) -> int:
    """How many tokens `a` and `b` have in common from the start."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


class DraftLike(Protocol):
    """A tree of guesses: `tokens [n]`, `parents [n]` (-1 = the root, else a smaller index)."""

    @property
    def tokens(self) -> IntArray: ...
    @property
    def parents(self) -> IntArray: ...
    @property
    def is_chain(self) -> bool: ...


class WalkLike(Protocol):
    """What to keep: `path` (node indices from the root down), `tokens` (theirs, and one more)."""

    @property
    def path(self) -> tuple[int, ...]: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
