"""Figures of a score as text: how they are rounded, and what counts as a win or a loss.

Knows the SCORE of a bench document; nothing of tables, terminals or files. What is None is written `-`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "-"
HEADINGS = (
    "plain tok/s",
    "tok/s (spread)",
    "speed-up (CI)",
    "verdict",
    "tau",
    "accepted",
    "efficiency",
    "first token (s)",
    "prompts",
)

Bounds = Sequence[float | None] | None


def rounded(value: float | None) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return UNKNOWN
    magnitude = math.floor(math.log10(abs(value))) if value else 2
    return f"{value:.{min(max(2 - magnitude, 0), 6)}f}"


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.0%}"


def factor(value: float | None) -> str:
    return factor_with_interval(value, None)


def factor_with_interval(value: float | None, bounds: Bounds) -> str:
    """Two decimals, or three where two would say 1.00 and hide whether it is a loss."""
    if value is None:
        return UNKNOWN
    known = known_bounds(bounds) or ()
    decimals = 3 if any(f"{figure:.2f}" == "1.00" for figure in (value, *known)) else 2
    return f"x{value:.{decimals}f}" + _bracket([f"{bound:.{decimals}f}" for bound in known])


def with_spread(value: float | None, bounds: Bounds) -> str:
    return rounded(value) + _bracket([rounded(bound) for bound in known_bounds(bounds) or ()])


def median_with_spread(triple: Sequence[float] | None) -> str:
    """[median, low, high] as one figure and its bracket."""
    return UNKNOWN if triple is None else with_spread(triple[0], triple[1:])


def known_bounds(bounds: Bounds) -> tuple[float, float] | None:
    """(low, high), or None unless both are known."""
    low, high = bounds if bounds is not None else (None, None)
    return None if low is None or high is None else (low, high)


def verdict(score: Mapping[str, Any]) -> str:
    """`win` or `loss` where the whole interval of the speed-up is on that side of 1."""
    bounds = known_bounds(score["speedup_ci"])
    if bounds is None:
        return UNKNOWN
    low, high = bounds
    return "win" if low > 1 else "loss" if high < 1 else "no difference"


def score_cells(score: Mapping[str, Any]) -> tuple[str, ...]:
    """One cell for each of HEADINGS."""
    first = score["t_first"]
    return (
        rounded(score["plain_tok_s"]),
        with_spread(score["tok_s"], score["spread"]),
        factor_with_interval(score["speedup"], score["speedup_ci"]),
        verdict(score),
        UNKNOWN if score["tau"] is None else f"{score['tau']:.2f}",
        percent(score["acceptance"]),
        percent(score["efficiency"]),
        UNKNOWN if first is None else rounded(first[0]),
        UNKNOWN if score["n_prompts"] is None else str(score["n_prompts"]),
    )


def _bracket(bounds: Sequence[str]) -> str:
    return f" ({' to '.join(bounds)})" if bounds else ""
