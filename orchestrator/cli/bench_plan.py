"""What `pilotfish bench` compares, from its options: `--config` and `--sweep` as text, and their values."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.bench.configuration import NAMES, TAKES
from orchestrator.cli.assignments import parse_assignments
from orchestrator.errors import ConfigError


def parse_config(text: str) -> dict[str, Any]:
    """The changes that `method=lookup max_draft=7` makes; quotes as in a shell."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--config {text!r}: {error}") from error
    changes: dict[str, Any] = {}
    for part in parts:
        name, value = _pair("--config", part)
        if name in changes:
            raise ConfigError(f"--config {text!r} sets {name} twice; leave one of them out")
        changes[name] = parse_value(name, value)
    return changes


def parse_sweeps(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Values by name of `max_draft=1,3,7`."""
    sweeps: dict[str, list[Any]] = {}
    for text in texts:
        name, values = _pair("--sweep", text)
        if name in sweeps:
            raise ConfigError(f"{name} is swept twice; give all its values to one --sweep")
        sweeps[name] = [parse_value(name, value) for value in values.split(",") if value]
        if not sweeps[name]:
            raise ConfigError(f"--sweep {text}: give at least one value after the =")
    return sweeps


def variants(
    methods: Sequence[str],
    drafts: Sequence[str],
    configs: Sequence[str],
    heads: Sequence[str] = (),
) -> list[Mapping[str, Any]]:
    """One change per `--method` (with every `--draft` and `--head` where it takes one) and per `--config`."""
    found: list[Mapping[str, Any]] = []
    given = {"draft": drafts, "head": heads}
    for method in methods or (() if configs else ("auto",)):
        taken = [(name, value) for name in given if method in TAKES[name] for value in given[name]]
        found += [{"method": method, name: value} for name, value in taken] or [{"method": method}]
    for name, values in given.items():
        if values and not any(name in variant for variant in found):
            method = TAKES[name][1]
            raise ConfigError(
                f"no method given uses {name}={values[0]!r}; add --method {method}, or leave --{name} out"
            )
    return [*found, *map(parse_config, configs)]


def parse_value(name: str, text: str) -> Any:
    """`text` as a value of that name."""
    if name == "context":
        if not text.isdecimal():
            raise ConfigError(f"context must be a number of tokens, got {text!r}")
        return int(text)
    if name in ("draft", "head") and text.lower() == "none":
        return None
    return text if name in NAMES else parse_assignments([f"{name}={text}"])[name]


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(
            f"{option} needs NAME=VALUE, got {text!r}; names: {', '.join(NAMES)} and any setting"
        )
    return name, value
