"""Every error of pilotfish, as one tree.

    PilotfishError
    ├── AdapterError            see adapters.errors: ModelNotFound, ModelLoadError, UnsupportedModel,
    │                           ContextFull, DecodeError, RollbackError, GrammarError,
    │                           ChatTemplateError, HeadError, VocabMismatch
    ├── ConfigError             a setting that does not exist or has an impossible value
    ├── UnsupportedTarget       this target cannot be used with this method
    ├── DrafterError            a drafter raised, or proposed something that is no draft
    ├── EngineBusy              the engine is generating for somebody else
    └── BenchError              a benchmark, or a system it compares with, cannot be run

A user catches the base:

    try:
        result = engine.generate("...")
    except PilotfishError as error:
        print(error)

After any of them, and after Ctrl-C, the engine is usable again.
"""

from adapters.errors import (
    AdapterError,
    ChatTemplateError,
    ConfigError,
    ContextFull,
    DecodeError,
    GrammarError,
    HeadError,
    ModelLoadError,
    ModelNotFound,
    PilotfishError,
    RollbackError,
    UnsupportedModel,
    VocabMismatch,
)


class UnsupportedTarget(PilotfishError):
    """This target cannot be used with this method; the message says which method can."""


class DrafterError(PilotfishError):
    """A drafter raised, or proposed something that is no draft."""


class EngineBusy(PilotfishError):
    """The engine is generating for another thread, or a newer request has replaced this one."""


class BenchError(PilotfishError):
    """A benchmark cannot be run: its prompts, its figures, or a system that it compares with."""


__all__ = [
    "AdapterError",
    "BenchError",
    "ChatTemplateError",
    "ConfigError",
    "ContextFull",
    "DecodeError",
    "DrafterError",
    "EngineBusy",
    "GrammarError",
    "HeadError",
    "ModelLoadError",
    "ModelNotFound",
    "PilotfishError",
    "RollbackError",
    "UnsupportedModel",
    "UnsupportedTarget",
    "VocabMismatch",
]
