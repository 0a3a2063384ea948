"""What a bench document says besides its tables, as sentences and named facts.

Knows the document; nothing of how a terminal or Markdown shows it. A fact with nothing known is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from orchestrator.bench.report.cells import (
    UNKNOWN,
    factor,
    factor_with_interval,
    known_bounds,
    median_with_spread,
    percent,
    rounded,
    verdict,
)

Fact = tuple[str, str]
SHOWN_DIVERGENCES = 5
BAR = 20  # signs for a whole


def words(value: Any) -> str:
    """A value of the provenance as text, whatever its shape."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(item)}" for key, item in value.items()) or UNKNOWN
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value)) or UNKNOWN
    return UNKNOWN if value is None else str(value)


def entrants(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Configurations, then peers."""
    return [*document["configurations"], *document["peers"]]


def name_of(configuration: Mapping[str, Any]) -> str:
    """Its name, never without a word on invalid text."""
    return f"{'INVALID TEXT: ' if configuration['invalid_text'] else ''}{configuration['name']}"


def model_words(model: Mapping[str, Any]) -> str:
    """Name, file, type and size; the file's name stands for a name that the file does not give."""
    file = PurePath(model["path"]).name
    kind = f"{words(model['file_type'])}, {rounded(model['size_mb'])} MB"
    return f"{model['name']} ({file}, {kind})" if model["name"] else f"{file} ({kind})"


def origin(document: Mapping[str, Any]) -> str:
    """Model, machine, threads and date in one line."""
    found = document["provenance"]
    places = [model_words(found["model"]), words(found["cpu"]), *map(words, found["gpus"])]
    return f"{', '.join(places)}; threads {words(found['threads'])} of {found['n_cores']}; {found['date']}"


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the first figure."""
    failed = [_failed(check) for check in document["baseline_check"] if not check["ok"]]
    invalid = [
        f"the text of {one['name']} is invalid: {one['invalid_text']}; its speeds are no result"
        for one in entrants(document)
        if one["invalid_text"]
    ]
    return failed + invalid


def _failed(check: Mapping[str, Any]) -> str:
    speeds = f"{rounded(check['plain_tok_s'])} against {rounded(check['reference_tok_s'])} tok/s"
    note = f" ({check['note']})" if check["note"] else ""
    return (
        f"baseline {check['baseline']} runs at {rounded(check['ratio'])} of the speed of "
        f"{check['reference']}, {speeds}: do not trust the speed-ups over it{note}"
    )


def skipped(document: Mapping[str, Any]) -> list[str]:
    """Prompts that were left out, and why; documents without that key left out none."""
    return [f"{one['id']} ({one['baseline']}): {one['reason']}" for one in document.get("skipped", ())]


def losses(document: Mapping[str, Any]) -> list[str]:
    """Every suite of a configuration of ours that is slower than plain, or than a peer, beyond the noise."""
    found: list[str] = []
    for one in document["configurations"]:
        for suite, score in {**one["suites"], "overall": one["overall"]}.items():
            figure = factor_with_interval(score["speedup"], score["speedup_ci"])
            if verdict(score) == "loss":
                found.append(f"{one['name']}, {suite}: {figure} of plain decoding")
            found += [f"{one['name']}, {suite}: {figure}, {text}" for text in _behind(document, one, suite)]
    return found


def _behind(document: Mapping[str, Any], one: Mapping[str, Any], suite: str) -> Iterator[str]:
    """The peers whose interval lies wholly above this one's, over the same baseline."""
    ours = known_bounds(_score(one, suite)["speedup_ci"])
    for peer in document["peers"]:
        score = _score(peer, suite)
        theirs = known_bounds(score["speedup_ci"]) if score else None
        if ours and theirs and peer["baseline"] == one["baseline"] and theirs[0] > ours[1]:
            yield f"behind {peer['name']} with {factor_with_interval(score['speedup'], theirs)}"


def _score(configuration: Mapping[str, Any], suite: str) -> Mapping[str, Any]:
    """The figures of one suite or `overall`; empty where it has none."""
    scores = {**configuration["suites"], "overall": configuration["overall"]}
    found: Mapping[str, Any] = scores.get(suite, {})
    return found


def identity(configuration: Mapping[str, Any]) -> str:
    """How many texts equal plain decoding's, and how close the closest call that went apart."""
    same, gaps = configuration["identical"], _gaps(configuration["divergences"])
    largest = f"; where they part, the two best logits are at most {max(gaps):.3g} apart" if gaps else ""
    return f"{same['n']} of {same['of']}{largest}"


def _gaps(divergences: Sequence[Mapping[str, Any]]) -> list[float]:
    return [one["gap"] for one in divergences if one["gap"] is not None]


def divergence_lines(configuration: Mapping[str, Any]) -> list[str]:
    """The widest gaps first, an unknown gap before all; the rest as a count."""
    divergences = sorted(configuration["divergences"], key=_closeness)
    lines = [
        f"{one['id']} turn {one['turn']}, token {one['index']}: "
        f"plain {words(one['plain'])}, here {words(one['other'])}, "
        f"gap {UNKNOWN if one['gap'] is None else format(one['gap'], '.3g')}"
        for one in divergences[:SHOWN_DIVERGENCES]
    ]
    left = len(divergences) - len(lines)
    return [*lines, f"and {left} more"] if left else lines


def _closeness(divergence: Mapping[str, Any]) -> float:
    return float("-inf") if divergence["gap"] is None else -divergence["gap"]


def configuration_facts(configuration: Mapping[str, Any]) -> list[Fact]:
    """Everything about one configuration that is not a column of its table."""
    overall = configuration["overall"]
    facts = [
        ("note", configuration["note"]),
        ("same text", identity(configuration)),
        ("whole requests", _beside_plain(overall, "request_tok_s", "plain_request_tok_s")),
        ("mean of speeds", _means(overall)),
        ("first token", _first(overall)),
        ("time", _split(overall["split"])),
        ("tokens a round", histogram_line(overall["histogram"])),
        ("accepted at", acceptance_line(overall["acceptance_at"])),
        ("limits", _limits(overall)),
        ("loops", _loops(configuration["loops"])),
        ("memory", memory_words(configuration["memory_mb"])),
    ]
    return [(name, text) for name, text in facts if text]


def _beside_plain(score: Mapping[str, Any], key: str, plain_key: str) -> str:
    return f"{rounded(score[key])} tok/s, plain {rounded(score[plain_key])} tok/s"


def _means(score: Mapping[str, Any]) -> str:
    return f"{_beside_plain(score, 'mean_tok_s', 'mean_plain_tok_s')}, {factor(score['mean_speedup'])}"


def _first(score: Mapping[str, Any]) -> str:
    mine, plain = median_with_spread(score["t_first"]), median_with_spread(score["plain_t_first"])
    return f"{mine} s, plain {plain} s"


def _split(split: Mapping[str, float] | None) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in (split or {}).items())


def shares(histogram: Mapping[str, int]) -> dict[int, float]:
    """Shares of the rounds by tokens emitted, in ascending order."""
    total = sum(histogram.values())
    return {n: histogram[str(n)] / total for n in sorted(map(int, histogram)) if total}


def histogram_line(histogram: Mapping[str, int]) -> str:
    """Bars of signs that every terminal has: a report must not fail on an ASCII stream."""
    found = shares(histogram).items()
    return "  ".join(f"{n} {'#' * round(BAR * share) or '.'} {percent(share)}" for n, share in found)


def acceptance_line(by_position: Sequence[float | None]) -> str:
    return ", ".join(f"{place}: {percent(share)}" for place, share in enumerate(by_position, start=1))


def _limits(score: Mapping[str, Any]) -> str:
    if score["oracle_tok_s"] is None and score["ceiling_tok_s"] is None:
        return ""
    return (
        f"oracle {rounded(score['oracle_tok_s'])} tok/s (drafts cost nothing, none in vain), "
        f"ceiling {rounded(score['ceiling_tok_s'])} tok/s (always right, of the best length)"
    )


def _loops(loops: Mapping[str, Any]) -> str:
    if not loops["n"]:
        return f"none of {loops['of']} requests"
    return (
        f"{loops['n']} of {loops['of']} requests end in one: "
        f"{_speedup(loops['looping'])} there, {_speedup(loops['others'])} in the others"
    )


def _speedup(score: Mapping[str, Any] | None) -> str:
    return UNKNOWN if score is None else factor_with_interval(score["speedup"], score["speedup_ci"])


def memory_words(memory: Mapping[str, float] | None) -> str:
    if memory is None:
        return UNKNOWN
    return f"{rounded(memory['loaded'])} MB once loaded, {rounded(memory['peak'])} MB at its peak"
