"""An error that scripts for llama-cpp-python catch as ValueError or RuntimeError."""

from orchestrator.errors import ConfigError


class NotHonoured(ConfigError, RuntimeError):
    """Something that llama-cpp-python does and pilotfish does not; the message says what to do instead."""
