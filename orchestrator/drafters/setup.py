"""What a drafter is built from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.settings import ContextSettings, ModelSettings
from orchestrator.config import HeadSettings, SpeculationSettings


@dataclass(frozen=True, slots=True)
class Setup:
    """What the engine knows when it builds a drafter.

    draft, head: what the user gave as `draft=` and `head=`; hub: options for fetching a head (token, ...);
    progress: told of what is made of the target for it. target: the loaded target (an
    `adapters.llama_model.LlamaModel`), None in tests without one. resolve: turns a model's name into its
    file, with the user's Hub options. Everything else: the engine's settings.
    """

    speculation: SpeculationSettings = field(default_factory=SpeculationSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    draft: Any = None
    head: Any = None
    head_settings: HeadSettings = field(default_factory=HeadSettings)
    hub: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int, int], None] | None = None
    resolve: Callable[[Any], Path] = Path
    target: Any = None
