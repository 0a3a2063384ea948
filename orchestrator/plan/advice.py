"""Of many variants of a plan, the first of each kind that fits better than the plan.

Knows how well a plan may fit; nothing of sizes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

FITS = ("no", "partly", "whole")  # the worst first


@dataclass(frozen=True, slots=True)
class Variant:
    """kind: cache, context, draft, head or quant. change: as a user would ask for it. fits: reckons it."""

    kind: str
    change: str
    fits: Callable[[], str]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """A change, and how well the plan fits with it."""

    change: str
    fits: str
    about: str = ""


def advise(fits: str, variants: Iterable[Variant]) -> Iterator[Advice]:
    """Of each kind the first variant that fits whole, else the first that is better than `fits`."""
    by_kind: dict[str, list[Variant]] = {}
    for variant in variants:
        by_kind.setdefault(variant.kind, []).append(variant)
    for kind in by_kind.values():
        best = _best(fits, kind)
        if best is not None:
            yield best


def _best(fits: str, variants: list[Variant]) -> Advice | None:
    fallback = None
    for variant in variants:
        reached = variant.fits()
        if reached == "whole":
            return Advice(variant.change, reached, variant.about)
        if fallback is None and FITS.index(reached) > FITS.index(fits):
            fallback = Advice(variant.change, reached, variant.about)
    return fallback
