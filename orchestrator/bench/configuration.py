"""What is compared: one configuration of the engine, and the plain decoding that it is paired with."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from orchestrator.config import Config, HeadSettings, SpeculationSettings
from orchestrator.errors import ConfigError

# greedy unless asked otherwise, and with one seed: both sides must draw the same noise to agree
DEFAULTS: Mapping[str, Any] = {"temperature": 0.0, "seed": 0}
FREE = "free"  # a method of the harness alone: guesses that cost nothing, for synthetic acceptance
NAMES = ("model", "method", "draft", "head", "context")  # what a configuration has besides settings of Config
_SPECULATION = tuple(f.name for group in (SpeculationSettings, HeadSettings) for f in fields(group))
TAKES = {"draft": ("auto", "model", "cascade"), "head": ("auto", "head", "cascade")}  # method


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to decode.

    model, draft, head: names as `Engine.load` takes them. context: prompts are filled up to so many tokens,
    None = as they are. settings: those of Config. label: what tells it from the others of its run.
    """

    model: str = "smollm2"
    method: str = "auto"
    draft: str | None = None
    context: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    head: str | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 1:
            raise ConfigError(f"context must be at least 1 token, got {self.context}")
        if self.method == FREE and self.settings.get("synthetic_accept") is None:
            raise ConfigError(f"method={FREE!r} guesses blindly; it goes with --synthetic-accept RATE")
        Config.of(**self.settings)  # before a model is loaded in vain

    @property
    def plain(self) -> "Configuration":
        """The same target, sampled the same way, without speculation."""
        settings = {name: value for name, value in self.settings.items() if name not in _SPECULATION}
        return Configuration(self.model, "none", context=self.context, settings=settings)

    @property
    def invalid_text(self) -> str:
        """Why its text is not the model's; empty in honest use."""
        return Config.of(**self.settings).speculation.invalid_text

    def as_dict(self) -> dict[str, Any]:
        own = {"model": Path(self.model).name, "method": self.method}
        for name, value in (("draft", self.draft), ("head", self.head)):
            if value is not None:
                own[name] = Path(value).name
        filled = {} if self.context is None else {"context": self.context}
        return {**own, **filled, **self.settings}


def configurations(
    base: Configuration, variants: Sequence[Mapping[str, Any]], sweeps: Mapping[str, Sequence[Any]]
) -> list[Configuration]:
    """`base` changed by each variant (none = itself), and each of those by every combination of `sweeps`.

    Names in variants and sweeps: model, method, draft, head, context, or a setting. Labels hold what was
    changed, the method first.
    """
    found: list[Configuration] = []
    for variant in variants or [{}]:
        for values in itertools.product(*sweeps.values()):
            changes = {**variant, **dict(zip(sweeps, values, strict=True))}
            made = _changed(base, changes)
            if made not in found:
                found.append(made)
    return found


def _changed(base: Configuration, changes: Mapping[str, Any]) -> Configuration:
    own = {name: value for name, value in changes.items() if name in NAMES}
    settings = {name: value for name, value in changes.items() if name not in NAMES}
    method = own.get("method", base.method)
    for name, methods in TAKES.items():
        if name not in own and method not in methods:
            own[name] = None  # the common draft model or head is not for methods without one
    parts = [str(method), *(f"{name}={_short(value)}" for name, value in changes.items() if name != "method")]
    return replace(base, **own, settings={**base.settings, **settings}, label=" ".join(parts))


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{number}" for key, number in value.items())
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return Path(value).name if isinstance(value, str) and value.endswith(".gguf") else str(value)


def plain_label(configuration: Configuration, all_plain: Sequence[Configuration]) -> str:
    """`plain`, with what tells this baseline from the other ones of the run."""
    described = [plain.as_dict() for plain in all_plain]
    names = dict.fromkeys(name for settings in described for name in settings)
    differing = [name for name in names if any(s.get(name) != described[0].get(name) for s in described[1:])]
    own = configuration.as_dict()
    return " ".join(["plain", *(f"{name}={_short(own.get(name))}" for name in differing)])
