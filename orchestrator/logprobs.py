"""How likely the target found the tokens that were emitted, and which others it considered.

Log-softmax of the target's raw logits, as llama.cpp reports them: neither penalties and bias nor
temperature, truncations and grammars count. Knows rows and walks; nothing of text.
"""

import math
from typing import NamedTuple

import numpy as np

from adapters.target import FloatArray, Rows
from orchestrator.draft import Walk


class TokenLogprobs(NamedTuple):
    """An emitted token, its log-probability, and `top`: the likeliest tokens with theirs, likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(logits: FloatArray, token: int, k: int) -> TokenLogprobs:
    """`token` and the `k` likeliest tokens under `logits [n_vocab]`; of equals the lower id comes first."""
    most = float(logits.max())
    # not law.log_softmax: few of the numbers are wanted, and single precision is what the logits have
    total = most + math.log(float(np.exp(logits - most).sum(dtype=np.float64)))
    top = tuple((other, float(logits[other]) - total) for other in _likeliest(logits, k))
    return TokenLogprobs(token, float(logits[token]) - total, top)


def _likeliest(logits: FloatArray, k: int) -> list[int]:
    if k <= 0:
        return []
    if k < len(logits):
        least = np.partition(logits, len(logits) - k)[len(logits) - k]
        ids = np.flatnonzero(logits >= least)  # ties at the border come along
    else:
        ids = np.arange(len(logits))
    order = np.argsort(-logits[ids], kind="stable")
    return [int(token) for token in ids[order[:k]]]


def walk_logprobs(rows: Rows, walk: Walk, k: int) -> tuple[TokenLogprobs, ...]:
    """Those of every token of a walk: each stands behind the row of the node before it."""
    nodes = (-1, *walk.path)
    return tuple(
        token_logprobs(rows.logits[node + 1], token, k)
        for node, token in zip(nodes, walk.tokens, strict=False)
    )
