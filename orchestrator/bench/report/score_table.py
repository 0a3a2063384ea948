"""The rows of a bench document's tables, before they are drawn for a terminal or in Markdown.

Each function gives rows of text, headings first. Knows the document; nothing of widths or pipes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.bench.report.cells import (
    HEADINGS,
    UNKNOWN,
    median_with_spread,
    rounded,
    score_cells,
    with_spread,
)
from orchestrator.bench.report.facts import name_of, words

Rows = list[tuple[str, ...]]
MANY = 3  # settings that differ in one key are a sweep from here on


def suite_rows(configuration: Mapping[str, Any]) -> Rows:
    """A row for each suite, then one for all together."""
    scores = {**configuration["suites"], "overall": configuration["overall"]}
    return [("suite", *HEADINGS), *((name, *score_cells(score)) for name, score in scores.items())]


def swept_key(configurations: Sequence[Mapping[str, Any]]) -> str | None:
    """The one setting in which three or more configurations differ; None where it is no such sweep."""
    if len(configurations) < MANY:
        return None
    settings = [configuration["settings"] for configuration in configurations]
    keys = dict.fromkeys(key for one in settings for key in one)
    differing = [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)]
    return differing[0] if len(differing) == 1 else None


def overview_rows(document: Mapping[str, Any]) -> Rows:
    """One row for each configuration and peer, overall figures only; empty where there is only one."""
    configurations, peers = document["configurations"], document["peers"]
    if len(configurations) + len(peers) < 2:
        return []
    key = swept_key(configurations)
    labels = [_swept(one, key) if key else name_of(one) for one in configurations]
    labels += map(name_of, peers)
    scores = [one["overall"] for one in (*configurations, *peers)]
    body = [(label, *score_cells(score)) for label, score in zip(labels, scores, strict=True)]
    return [(key or "configuration", *HEADINGS), *body]


def _swept(configuration: Mapping[str, Any], key: str) -> str:
    value = words(configuration["settings"].get(key))
    return f"INVALID TEXT: {value}" if configuration["invalid_text"] else value


def baseline_rows(baselines: Sequence[Mapping[str, Any]]) -> Rows:
    """What plain decoding took, one row for each baseline."""
    headings = (
        "baseline",
        "tok/s (spread)",
        "whole requests tok/s",
        "first token (s)",
        "memory MB",
        "tokens",
    )
    return [headings, *(_baseline(one, one["overall"]) for one in baselines)]


def _baseline(baseline: Mapping[str, Any], side: Mapping[str, Any]) -> tuple[str, ...]:
    memory = baseline["memory_mb"]
    return (
        baseline["name"],
        with_spread(side["tok_s"], side["spread"]),
        rounded(side["request_tok_s"]),
        median_with_spread(side["t_first"]),
        UNKNOWN if memory is None else rounded(memory["peak"]),
        UNKNOWN if side["n_tokens"] is None else str(side["n_tokens"]),
    )


def check_rows(checks: Sequence[Mapping[str, Any]]) -> Rows:
    """Plain decoding beside what others take for the same work."""
    headings = ("reference", "baseline", "plain tok/s", "reference tok/s", "ratio", "ok")
    return [headings, *map(_check, checks)]


def _check(check: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        check["reference"],
        check["baseline"],
        rounded(check["plain_tok_s"]),
        rounded(check["reference_tok_s"]),
        rounded(check["ratio"]),
        "yes" if check["ok"] else "NO",
    )


def curve_rows(curve: Mapping[str, Any]) -> Rows:
    """Milliseconds of one decode by its rows, and the same in decodes of one row."""
    first = curve["ms"][0]
    return [
        ("rows", *map(str, curve["rows"])),
        ("ms", *map(rounded, curve["ms"])),
        ("in decodes of 1 row", *(rounded(ms / first) if first else UNKNOWN for ms in curve["ms"])),
    ]


def curve_title(curve: Mapping[str, Any]) -> str:
    return (
        f"Cost of one decode, {curve['baseline']}: median of {curve['n_samples']} "
        f"with {curve['n_past']} tokens in the cache"
    )
