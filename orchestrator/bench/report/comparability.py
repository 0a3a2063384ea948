"""Whether two bench documents measured the same thing, and in what else they differ.

Knows their protocols and provenances; nothing of their figures.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from orchestrator.bench.report.facts import entrants, words

Document = Mapping[str, Any]
DECISIVE = ("max_tokens", "end_of_text", "n_prompts")
PROMPTS = "prompts_sha256"
ELSEWHERE = ("model", "suites", "versions")  # compared part by part
ALWAYS_OTHER = ("date", "load_average", "peak_memory_mb")


def reasons(a: Document, b: Document) -> list[str]:
    """Why the figures of the two are about different things; empty where they are not."""
    models = a["provenance"]["model"], b["provenance"]["model"]
    found = []
    if models[0]["sha256"] != models[1]["sha256"]:
        found.append(f"model: {_hash(models[0])} in A, {_hash(models[1])} in B")
    found += _differing(a["protocol"], b["protocol"], DECISIVE)
    if a["protocol"][PROMPTS] != b["protocol"][PROMPTS]:
        found.append(f"prompts: {_suites(a)} in A, {_suites(b)} in B, or other turns of them")
    return found


def differences(a: Document, b: Document) -> list[str]:
    """What else changed between the two: versions, machine, settings, the rest of the protocol."""
    found = [
        *_differing(*_with_all_keys(a["provenance"], b["provenance"], without=ELSEWHERE + ALWAYS_OTHER)),
        *_differing(*_with_all_keys(a["provenance"]["versions"], b["provenance"]["versions"])),
        *_differing(*_with_all_keys(a["protocol"], b["protocol"], without=(*DECISIVE, PROMPTS))),
    ]
    theirs = {one["name"]: one["settings"] for one in entrants(b)}
    for one in entrants(a):
        if one["name"] in theirs:
            pair = _with_all_keys(one["settings"], theirs[one["name"]])
            found += [f"{one['name']}, {text}" for text in _differing(*pair)]
    return found


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        mine, other = a.get(key), b.get(key)
        if mine != other:
            yield f"{key}: {words(mine)} in A, {words(other)} in B"


def _with_all_keys(
    a: Mapping[str, Any], b: Mapping[str, Any], without: tuple[str, ...] = ()
) -> tuple[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]:
    """The two and every key of either, in order."""
    return a, b, tuple(key for key in dict.fromkeys([*a, *b]) if key not in without)


def _hash(model: Mapping[str, Any]) -> str:
    return f"{model['name'] or PurePath(model['path']).name} ({words(model['sha256'])[:12]})"


def _suites(document: Document) -> str:
    """The files that the prompts came from, with their hashes; prompts may have been typed, too."""
    suites = document["provenance"]["suites"]
    found = {PurePath(suite["path"]).name: str(suite["sha256"])[:12] for suite in suites}
    return words(found) if found else "typed prompts"
