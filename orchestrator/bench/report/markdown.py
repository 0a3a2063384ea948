"""Bench documents as one page of Markdown, for `bench/RESULTS.md`.

Knows headings, pipes and bullets; the figures come as text.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from orchestrator.bench.report.cells import HEADINGS, UNKNOWN, rounded, score_cells
from orchestrator.bench.report.facts import (
    configuration_facts,
    divergence_lines,
    entrants,
    losses,
    model_words,
    name_of,
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
    swept_key,
)

HASH = 12  # hexadecimal digits are enough to tell files apart
NO_LOSS = "None: no interval lies wholly below plain decoding, or below a peer."


def markdown(documents: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> str:
    """A page called `title`: all overall figures, where there are several documents, then one section for
    each (title, document)."""
    sections = (_section(name, document) for name, document in documents)
    return "\n\n".join([f"# {title}", *_summary(documents), *sections]) + "\n"


def _summary(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    if len(documents) < 2:
        return []
    rows = [
        (f"{name}: {name_of(one)}", *score_cells(one["overall"]))
        for name, document in documents
        for one in entrants(document)
    ]
    return ["## Summary", grid([("run: configuration", *HEADINGS), *rows])]


def _command(argv: Sequence[str]) -> str:
    """The command of a run, with files by their names: the folders are those of one machine."""
    return shlex.join(PurePath(part).name if PurePath(part).is_absolute() else part for part in argv)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A table with the first column to the left, the others to the right."""
    if not rows:
        return ""
    ruler = ["---", *["---:"] * (len(rows[0]) - 1)]
    body = [[_bold(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [body[0], ruler, *body[1:]])


def bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _section(name: str, document: Mapping[str, Any]) -> str:
    parts = [
        f"## {name}",
        "\n>\n".join(f"> **Warning:** {text}" for text in warnings(document)),
        bullets(_provenance(document["provenance"])),
        bullets([f"Skipped: {text}" for text in skipped(document)]),
        *_overview(document),
        *map(_configuration, entrants(document)),
        "### Baselines",
        grid(baseline_rows(document["baselines"])),
        *_checks(document["baseline_check"]),
        *(f"{curve_title(curve)}:\n\n{grid(curve_rows(curve))}" for curve in document["curves"]),
        "### Losses",
        bullets(losses(document)) or NO_LOSS,
        "### Protocol",
        bullets(_protocol(document["protocol"])),
        "### Command",
        f"```\n{_command(document['provenance']['argv'])}\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def _provenance(found: Mapping[str, Any]) -> list[str]:
    model = found["model"]
    suites = (f"{one['path']} ({_short(one['sha256'])})" for one in found["suites"])
    load = ", ".join(map(rounded, found["load_average"] or [])) or UNKNOWN
    versions = {"pilotfish": found["pilotfish"], "Python": found["python"], **found["versions"]}
    return [
        f"Date: {found['date']}, commit {words(found['commit'])}, seed {words(found['seed'])}",
        f"Model: {model_words(model)}, SHA-256 {_short(model['sha256'])}",
        f"Machine: {words(found['cpu'])}, {found['n_cores']} cores, GPUs {words(found['gpus'])}",
        f"Threads: {words(found['threads'])}; load average {load}",
        f"Software: {words(versions)}",
        f"llama.cpp: {words(found['llama_cpp_system'])}",
        f"Prompts (SHA-256): {', '.join(suites) or UNKNOWN}",
        f"Peak memory: {rounded(found['peak_memory_mb'])} MB",
    ]


def _short(sha256: str | None) -> str:
    return UNKNOWN if sha256 is None else f"`{sha256[:HASH]}`"


def _overview(document: Mapping[str, Any]) -> list[str]:
    rows = overview_rows(document)
    key = swept_key(document["configurations"])
    heading = f"### Sweep of {key}" if key else "### Overview"
    return [heading, grid(rows)] if rows else []


def _configuration(configuration: Mapping[str, Any]) -> str:
    facts = [("settings", words(configuration["settings"])), *configuration_facts(configuration)]
    kind = " (peer)" if configuration["kind"] == "peer" else ""
    lines = []
    for name, text in facts:
        lines.append(f"- {name}: {text}")
        if name == "same text":
            lines += [f"  - {line}" for line in divergence_lines(configuration)]
    heading = f"### {name_of(configuration)}{kind} against {configuration['baseline']}"
    return "\n\n".join([heading, grid(suite_rows(configuration)), "\n".join(lines)])


def _checks(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = bullets([f"{check['reference']}: {check['note']}" for check in checks if check["note"]])
    return ["Against other ways to decode plainly:", grid(check_rows(checks)), notes] if checks else []


def _protocol(protocol: Mapping[str, Any]) -> list[str]:
    counts = (
        f"{words(protocol['max_tokens'])} tokens at most for each request, "
        f"{words(protocol['repeats'])} repeats, {words(protocol['n_prompts'])} prompts, "
        f"{words(protocol['n_requests'])} requests."
    )
    return [counts, *(protocol[key] for key in ("end_of_text", "order", "warm_up", "speeds", "interval"))]


def _bold(cell: str) -> str:
    """Losses and failed checks catch the eye."""
    return f"**{cell}**" if cell in ("loss", "NO") else cell
