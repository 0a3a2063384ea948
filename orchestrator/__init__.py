"""pilotfish: speculative decoding for GGUF models.

    from orchestrator import Engine

    with Engine.load("smollm2") as engine:
        print(engine.generate("The pilot fish").text)

Names are loaded when they are first used: importing this package loads neither llama.cpp nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.target import Capabilities, HiddenRows, HiddenTaps, Rows
    from orchestrator.config import Config
    from orchestrator.context import Context
    from orchestrator.draft import Draft, Step, Walk
    from orchestrator.drafters.base import Drafter
    from orchestrator.engine import Engine
    from orchestrator.errors import PilotfishError
    from orchestrator.logprobs import TokenLogprobs
    from orchestrator.request import Chunk, Result
    from orchestrator.sampling import Sampling
    from orchestrator.stats import Stats
    from orchestrator.stream import Stream

_HOME = {
    "Capabilities": "adapters.target",
    "Chunk": "orchestrator.request",
    "Config": "orchestrator.config",
    "Context": "orchestrator.context",
    "Draft": "orchestrator.draft",
    "Drafter": "orchestrator.drafters.base",
    "Engine": "orchestrator.engine",
    "HiddenRows": "adapters.target",
    "HiddenTaps": "adapters.target",
    "PilotfishError": "orchestrator.errors",
    "Result": "orchestrator.request",
    "Rows": "adapters.target",
    "Sampling": "orchestrator.sampling",
    "Stats": "orchestrator.stats",
    "Step": "orchestrator.draft",
    "Stream": "orchestrator.stream",
    "TokenLogprobs": "orchestrator.logprobs",
    "Walk": "orchestrator.draft",
}

__all__ = [
    "Capabilities",
    "Chunk",
    "Config",
    "Context",
    "Draft",
    "Drafter",
    "Engine",
    "HiddenRows",
    "HiddenTaps",
    "PilotfishError",
    "Result",
    "Rows",
    "Sampling",
    "Stats",
    "Step",
    "Stream",
    "TokenLogprobs",
    "Walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
