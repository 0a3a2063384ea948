"""Perplexity of a text under a target: exp of the mean negative log probability of its tokens.

Every window starts with an empty cache, so the figure is lower with longer windows: compare those of the
same window only. Knows the Target protocol; nothing of files.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from adapters.settings import require
from adapters.target import FloatArray
from orchestrator.draft import EMPTY, Draft, Walk
from orchestrator.protocols import Target
from orchestrator.tune.timing import no_progress

WINDOW = 512


def perplexity(
    target: Target,
    tokens: Sequence[int],
    *,
    bos: int | None = None,
    window: int = WINDOW,
    progress: Callable[[int, int], None] = no_progress,
) -> float:
    """Perplexity of `tokens`, cut into windows of `window` at most. bos: what each window begins with where
    the model wants one. The first token of a window predicts but is not predicted. The cache is used."""
    require(window >= 2, f"a window must hold 2 tokens or more, got {window}")
    first = [] if bos is None else [bos]
    step = min(window, target.capabilities.n_ctx) - len(first)
    pieces = [[*first, *tokens[start : start + step]] for start in range(0, len(tokens), step)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    require(bool(pieces), f"a text of {len(tokens)} tokens has no perplexity; give a longer one")
    total = 0.0
    for number, piece in enumerate(pieces, start=1):
        total += _surprise(target, piece)
        progress(number, len(pieces))
    return math.exp(total / sum(len(piece) - 1 for piece in pieces))


def _surprise(target: Target, tokens: Sequence[int]) -> float:
    """Summed negative log probability of all tokens but the first; as many at once as a decode may have."""
    target.prefill(tokens[:1])
    total, at, most = 0.0, 0, target.capabilities.max_rows
    while at < len(tokens) - 1:
        known = list(tokens[at + 1 : at + 1 + most])  # each row's right answer
        drafted = known[:-1]
        rows = target.score(Draft.chain(drafted, source="text") if drafted else EMPTY)
        total += surprise(rows.logits, known)
        target.commit(Walk(tuple(range(len(drafted))), tuple(known)))
        at += len(known)
    return total


def surprise(logits: FloatArray, tokens: Sequence[int]) -> float:
    """Sum over rows `[n, n_vocab]` of the negative log probability of that row's token."""
    highest = logits.max(axis=1)
    sums = np.exp(logits - highest[:, None]).sum(axis=1, dtype=np.float64)
    chosen = logits[np.arange(len(tokens)), tokens]
    return float(np.sum(np.log(sums) + highest.astype(np.float64) - chosen))
