"""`--set NAME=VALUE`: any setting of Config from text, by the type of its field."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from orchestrator.config import Config, unknown_setting
from orchestrator.errors import ConfigError

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none"}


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings by name; raises ConfigError for an unknown name, a value of the wrong type, a repetition.

    Several values are separated by commas (`lora=a.gguf,b.gguf`), a logit bias is `ID:NUMBER`.
    """
    hints, settings = _hints(), dict[str, Any]()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set needs NAME=VALUE, got {assignment!r}")
        if name not in hints:
            raise ConfigError(unknown_setting(name, list(hints)))
        if name in settings:
            raise ConfigError(f"{name} is set twice; leave one of them out")
        settings[name] = _parsed(name, hints[name], text)
    return settings


def _hints() -> dict[str, Any]:
    groups = get_type_hints(Config)
    return {
        name: hint
        for group in fields(Config)
        for name, hint in get_type_hints(groups[group.name]).items()
        if not name.startswith("_")
    }


def _parsed(name: str, hint: Any, text: str) -> Any:
    kinds = get_args(hint)
    if get_origin(hint) is tuple:
        return tuple(_parsed(name, kinds[0], part) for part in text.split(",") if part)
    if get_origin(hint) is Mapping:
        pairs = (part.partition(":") for part in text.split(",") if part)
        return {_parsed(name, kinds[0], key): _parsed(name, kinds[1], value) for key, _, value in pairs}
    allowed = kinds or (hint,)
    for kind in allowed:
        try:
            return _scalar(kind, text)
        except ValueError:
            continue
    wanted = " or ".join(_KINDS[kind] for kind in allowed)
    raise ConfigError(f"{name} must be {wanted}, got {text!r}")


def _scalar(kind: Any, text: str) -> Any:
    """`text` as one of int, float, bool, str and None; raises ValueError where it is none."""
    if kind is NoneType:
        if text.lower() != "none":
            raise ValueError(text)
        return None
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.lower()]
    return kind(text)
