"""What a drafter is built from."""

from dataclasses import dataclass, field
from typing import Any

from adapters.settings import ContextSettings, ModelSettings
from orchestrator.config import SpeculationSettings


@dataclass(frozen=True, slots=True)
class Setup:
    """What the engine knows when it builds a drafter.

    draft: what the user gave as `draft=`. target: the loaded target (an `adapters.llama_model.LlamaModel`),
    None in tests without one. Everything else: the engine's settings.
    """

    speculation: SpeculationSettings = field(default_factory=SpeculationSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    draft: Any = None
    target: Any = None
