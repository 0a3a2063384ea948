"""A bench document for the terminal.

Knows how rows are aligned and in which order things are said; the figures come as text.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.bench.report.facts import (
    configuration_facts,
    divergence_lines,
    entrants,
    losses,
    name_of,
    origin,
    skipped,
    warnings,
    words,
)
from orchestrator.bench.report.score_table import (
    baseline_rows,
    check_rows,
    curve_rows,
    curve_title,
    overview_rows,
    suite_rows,
)


def summary(document: Mapping[str, Any]) -> str:
    """Warnings, origin and skipped prompts; then every configuration and peer, losses, baselines, costs."""
    parts = [
        _warnings(document),
        origin(document),
        "\n".join(f"skipped: {text}" for text in skipped(document)),
        aligned(overview_rows(document)),
        *map(_configuration, entrants(document)),
        _losses(document),
        aligned(baseline_rows(document["baselines"])),
        *_checks(document["baseline_check"]),
        *(f"{curve_title(curve)}\n{aligned(curve_rows(curve))}" for curve in document["curves"]),
    ]
    return "\n\n".join(part for part in parts if part)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]) for first, *others in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _warnings(document: Mapping[str, Any]) -> str:
    return "\n".join(f"WARNING: {text}" for text in warnings(document))


def _configuration(configuration: Mapping[str, Any]) -> str:
    facts = configuration_facts(configuration)
    width = max(len(name) for name, _ in facts)
    lines = [f"{_title(configuration)}\n{aligned(suite_rows(configuration))}"]
    for name, text in facts:
        lines.append(f"{name.ljust(width)}  {text}")
        if name == "same text":
            lines += [f"{' ' * width}  {line}" for line in divergence_lines(configuration)]
    return "\n".join(lines)


def _title(configuration: Mapping[str, Any]) -> str:
    kind = "peer " if configuration["kind"] == "peer" else ""
    settings = words(configuration["settings"])
    return f"== {kind}{name_of(configuration)} against {configuration['baseline']} ({settings})"


def _losses(document: Mapping[str, Any]) -> str:
    return "\n".join(f"LOSS: {text}" for text in losses(document))


def _checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if checks:
        notes = [f"{check['reference']}: {check['note']}" for check in checks if check["note"]]
        yield "\n".join([aligned(check_rows(checks)), *notes])
