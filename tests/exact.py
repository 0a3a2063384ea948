"""Token-for-token comparison of a speculative and a plain text.

Kernels for one row and for several round differently, so two texts may part where the model itself is
undecided: there, and only there, the difference is allowed. How undecided is measured, not assumed.
"""

from collections.abc import Sequence

import numpy as np

from orchestrator import Draft, Engine, Result
from orchestrator.noise import gumbel

TINY_NOISE = 1e-3  # F32 weights and caches: rows differ by 7e-5 at most
REAL_NOISE = 0.5  # quantized weights: largest difference seen between row counts, see bench/LOG.md


def assert_same_text(
    engine: Engine, prompt: Sequence[int], plain: Result, other: Result, noise: float
) -> None:
    """Equal tokens, or a first difference between two choices closer than `noise` in logits."""
    if plain.tokens == other.tokens:
        return
    pairs = zip(plain.tokens, other.tokens, strict=False)
    where = next(i for i, (a, b) in enumerate(pairs) if a != b)
    gap = choice_gap(
        engine, [*prompt, *plain.tokens[:where]], plain, plain.tokens[where], other.tokens[where]
    )
    assert gap < noise, f"texts part at token {where}, where the choice was clear by {gap:.4f}"


def choice_gap(engine: Engine, tokens: list[int], run: Result, chosen: int, rival: int) -> float:
    """By how much the target prefers `chosen` to `rival` after `tokens`, in logits, noise included."""
    engine.target.prefill(tokens)
    row = engine.target.score(Draft()).logits[0].astype(np.float64)
    engine.target.rollback()
    temperature = engine.config.sampling.temperature
    scores = row[[chosen, rival]]
    if temperature > 0:
        ids = np.array([chosen, rival])
        scores = scores + temperature * gumbel(run.stats.seed, "target", len(tokens), ids)
    return abs(float(scores[0] - scores[1]))
