"""Two bench documents side by side, before and after a change.

Knows their figures; whether they may be compared at all is asked of `comparability`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.bench.report.cells import UNKNOWN, factor, factor_with_interval, known_bounds
from orchestrator.bench.report.comparability import Document, differences, reasons
from orchestrator.bench.report.facts import entrants, origin, warnings, words
from orchestrator.bench.report.tables import aligned

OVERALL = "overall"
STEADY = 0.05  # plain decoding that moved by more says that the machine or the baseline changed
HEADINGS = ("suite", "speed-up A", "speed-up B", "verdict", "tok/s B/A", "plain tok/s B/A", "tau A", "tau B")


def compare_documents(a: Document, b: Document) -> str:
    """What stands against a comparison, then what became faster or slower, then what only one has."""
    rows = changes(a, b)
    names = dict.fromkeys(row["configuration"] for row in rows)
    parts = [
        _listed("not comparable because", reasons(a, b)),
        "\n".join([*_warned("A", a), *_warned("B", b), *_drift(rows)]),
        f"A: {origin(a)}\nB: {origin(b)}",
        _listed("differs as well", differences(a, b)),
        *(_table(name, [row for row in rows if row["configuration"] == name]) for name in names),
        *(_listed(f"only in {side}", found) for side, found in only_in(a, b).items()),
    ]
    return "\n\n".join(part for part in parts if part)


def changes(a: Document, b: Document) -> list[dict[str, Any]]:
    """One row for each suite, and for `overall`, of each configuration or peer that both have.

    speedup_a / _b, speedup_ci_a / _b, tau_a / _b; tok_s_ratio and plain_tok_s_ratio are B / A. overlap:
    whether the intervals share a value, and verdict `faster`, `slower` or `no difference` (of B, by its
    speed-up); both None where an interval is unknown. identical_a / _b: {"n", "of"}, only for `overall`.
    """
    others = {one["name"]: one for one in entrants(b)}
    pairs = [(one, others[one["name"]]) for one in entrants(a) if one["name"] in others]
    return [row for one, other in pairs for row in _rows(one, other)]


def only_in(a: Document, b: Document) -> dict[str, list[str]]:
    """Names that the other document lacks, by "A" and "B"; a suite as `configuration, suite`."""
    mine, others = _places(a), _places(b)
    return {"A": _without(mine, others), "B": _without(others, mine)}


def _places(document: Document) -> dict[str, list[str]]:
    return {one["name"]: list(one["suites"]) for one in entrants(document)}


def _without(mine: Mapping[str, list[str]], others: Mapping[str, list[str]]) -> list[str]:
    found = [name for name in mine if name not in others]
    shared = [name for name in mine if name in others]
    return found + [
        f"{name}, {suite}" for name in shared for suite in mine[name] if suite not in others[name]
    ]


def _rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for suite in a["suites"]:
        if suite in b["suites"]:
            yield _row(a["name"], suite, a["suites"][suite], b["suites"][suite])
    row = _row(a["name"], OVERALL, a["overall"], b["overall"])
    yield row | {"identical_a": a["identical"], "identical_b": b["identical"]}


def _row(name: str, suite: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"configuration": name, "suite": suite}
    for key in ("speedup", "speedup_ci", "tau"):
        row |= {f"{key}_a": a[key], f"{key}_b": b[key]}
    overlap, verdict = _judged(known_bounds(a["speedup_ci"]), known_bounds(b["speedup_ci"]))
    return row | {
        "tok_s_ratio": _quotient(b["tok_s"], a["tok_s"]),
        "plain_tok_s_ratio": _quotient(b["plain_tok_s"], a["plain_tok_s"]),
        "overlap": overlap,
        "verdict": verdict,
    }


def _quotient(b: float | None, a: float | None) -> float | None:
    return b / a if a and b is not None else None


def _judged(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[bool | None, str | None]:
    """Whether the intervals overlap, and what that says of B."""
    if a is None or b is None:
        return None, None
    if b[0] > a[1]:
        return False, "faster"
    return (False, "slower") if b[1] < a[0] else (True, "no difference")


def _table(name: str, rows: list[dict[str, Any]]) -> str:
    overall = rows[-1]
    return "\n".join(
        [
            f"== {name}",
            aligned([HEADINGS, *map(_cells, rows)]),
            f"same text: {_identity(overall['identical_a'])} in A, {_identity(overall['identical_b'])} in B",
        ]
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["suite"],
        factor_with_interval(row["speedup_a"], row["speedup_ci_a"]),
        factor_with_interval(row["speedup_b"], row["speedup_ci_b"]),
        words(row["verdict"]),
        factor(row["tok_s_ratio"]),
        factor(row["plain_tok_s_ratio"]),
        *(UNKNOWN if tau is None else f"{tau:.2f}" for tau in (row["tau_a"], row["tau_b"])),
    )


def _identity(same: Mapping[str, int]) -> str:
    return f"{same['n']} of {same['of']}"


def _warned(side: str, document: Document) -> list[str]:
    return [f"WARNING: in {side}, {text}" for text in warnings(document)]


def _drift(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A word on every overall row whose plain decoding is not as fast as it was."""
    for row in rows:
        ratio = row["plain_tok_s_ratio"]
        if row["suite"] == OVERALL and ratio is not None and abs(ratio - 1) > STEADY:
            yield (
                f"WARNING: plain decoding beside {row['configuration']} runs at {factor(ratio)} of its speed "
                "in A: the machine or the baseline changed, so look at speed-ups, not at tok/s"
            )


def _listed(title: str, texts: list[str]) -> str:
    return "\n".join([title, *(f"  {text}" for text in texts)]) if texts else ""
