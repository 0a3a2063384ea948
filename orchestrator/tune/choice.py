"""Which types would make rows cheaper, by the measured kernels.

Never fewer bits than a matrix has, and never a second quantization of the layers: what is gained in speed
must not be lost in quality. Knows numbers and types; measures and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.gguf_probe import bits
from orchestrator.tune.kernels import Kernels
from orchestrator.tune.speed import best_draft

MOST_HEAD_BITS = 16.0  # of the vocabulary projection
WORTH = 1.02  # a change that is expected to bring less is not proposed
ACCEPTANCE = 0.7  # what types are chosen for


@dataclass(frozen=True, slots=True)
class Change:
    """Storing matrices in another type. gain: expected speculative speed against the one now."""

    new: str
    gain: float


def candidates(kernels: Kernels, least: float, most: float) -> list[str]:
    """The measured types with `least` to `most` bits per weight."""
    return [kind for kind in kernels.ns if least <= bits(kind) <= most]


def changes(
    ms: Sequence[float],
    part: Sequence[float],
    weights: Mapping[str, int],
    types: Iterable[str],
    kernels: Kernels,
    acceptance: float = ACCEPTANCE,
) -> list[Change]:
    """What each of `types` would bring for these weights, the best first.

    By rows, 0 unused: `ms` is the curve now, `part` what of it goes to the part that the weights belong to.
    """
    now = best_draft(ms, acceptance).tok_s
    found = [
        Change(kind, best_draft(replaced(ms, part, weights, kind, kernels), acceptance).tok_s / now)
        for kind in types
    ]
    return sorted(found, key=lambda change: -change.gain)


def replaced(
    ms: Sequence[float], part: Sequence[float], weights: Mapping[str, int], new: str, kernels: Kernels
) -> list[float]:
    """The curve `ms` if these weights were stored as `new`: their products, as far as they fill `part`, get
    dearer or cheaper as the kernels do; up to the last row count that all know."""
    before = kernels.matrix_ms(weights)
    after = kernels.matrix_ms({new: sum(weights.values())})
    curve = [0.0]
    for now, most, old, then in list(zip(ms, part, before, after, strict=False))[1:]:
        share = min(most, old)
        curve.append(now - share + share * then / old)
    return curve


def best_change(found: Iterable[Change]) -> Change | None:
    """The best one, if it is worth it."""
    best = max(found, key=lambda change: change.gain, default=None)
    return best if best is not None and best.gain >= WORTH else None
