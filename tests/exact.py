"""Token-for-token comparison of a speculative and a plain text.

Kernels for one row and for several round differently, so two texts may part where the model itself is
undecided: there, and only there, the difference is allowed. How undecided is measured, not assumed.
"""

from collections.abc import Sequence

import numpy as np

from orchestrator import Draft, Engine, Result, Walk
from orchestrator.noise import gumbel

_N_ROWS = 8


def assert_same_text(engine: Engine, prompt: Sequence[int], plain: Result, other: Result) -> None:
    """Equal tokens, or a first difference between two choices that rounding alone may swap."""
    if plain.tokens == other.tokens:
        return
    pairs = zip(plain.tokens, other.tokens, strict=False)
    where = next(i for i, (a, b) in enumerate(pairs) if a != b)
    before = [*prompt, *plain.tokens[:where]]
    gap = choice_gap(engine, before, plain, plain.tokens[where], other.tokens[where])
    noise = rounding_noise(engine, before)
    # each of the two logits may have moved by that much
    assert gap <= 2 * noise, (
        f"texts part at token {where}: the choice was clear by {gap:.4f}, noise {noise:.4f}"
    )


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


def rounding_noise(engine: Engine, tokens: list[int]) -> float:
    """Largest difference of a logit between decodes of one row and of eight, over the last tokens."""
    head, tail = tokens[: -_N_ROWS + 1], tokens[-_N_ROWS + 1 :]
    engine.target.prefill(head)
    together = engine.target.score(Draft.chain(tail)).logits.copy()
    engine.target.rollback()
    engine.target.prefill(head)
    apart = []
    for token in [*tail, tail[-1]]:
        apart.append(engine.target.score(Draft()).logits[0].copy())
        engine.target.commit(Walk((), (token,)))
    return float(np.abs(together - np.stack(apart)).max())
