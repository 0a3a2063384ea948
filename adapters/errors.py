"""What can go wrong at the rim: files, models, the Hub, llama.cpp.

    PilotfishError
    ├── ConfigError             a setting that does not exist or has an impossible value
    └── AdapterError
        ├── ModelNotFound       no such file, preset, repository or quantization
        ├── ModelLoadError      llama.cpp could not load the model or open a context
        ├── UnsupportedModel    the model cannot do what was asked (its architecture forbids it)
        ├── ContextFull         the tokens do not fit the context
        ├── DecodeError         llama_decode failed; the context is back at its last good state
        ├── RollbackError       the KV cache did not do what it was told
        ├── GrammarError        a grammar or JSON schema that llama.cpp does not accept
        ├── ChatTemplateError   no chat template, or it rejects the messages
        ├── HeadError           a head that cannot be read, or does not fit its target
        └── VocabMismatch       two vocabularies that must agree do not

The tree goes on in `orchestrator.errors`, which is where users import it from.
"""

from typing import Any


class PilotfishError(Exception):
    """Base of every error that pilotfish raises on purpose; its text is meant for the user.

    result: what had been generated before the error (an orchestrator Result), None where nothing was.
    """

    result: Any = None


class ConfigError(PilotfishError, ValueError):
    """A setting that does not exist, or has an impossible value."""


class AdapterError(PilotfishError):
    """The outside world did not play along."""


class ModelNotFound(AdapterError):
    """No such file, preset, repository, file in a repository, or quantization."""


class ModelLoadError(AdapterError):
    """llama.cpp could not load the model, or could not open a context for it."""


class UnsupportedModel(AdapterError):
    """The model's architecture cannot do what was asked of it."""


class ContextFull(AdapterError):
    """The tokens do not fit into the context; nothing was decoded."""


class DecodeError(AdapterError):
    """llama_decode failed; the context has been put back to its last good state."""


class RollbackError(AdapterError):
    """The KV cache refused a rollback, or ended somewhere else than it was told to."""


class GrammarError(AdapterError):
    """A GBNF grammar or a JSON schema that llama.cpp does not accept."""


class ChatTemplateError(AdapterError):
    """The model has no chat template, or the template rejects the messages."""


class HeadError(AdapterError):
    """A Medusa or EAGLE head that cannot be read, or does not fit its target."""


class VocabMismatch(AdapterError):
    """Two vocabularies that must agree do not."""
