"""Errors that scripts for llama-cpp-python catch as ValueError and RuntimeError."""

from orchestrator.errors import ConfigError, ContextFull


class NotHonoured(ConfigError, RuntimeError):
    """Something that llama-cpp-python does and pilotfish does not; the message says what to do instead."""


class PromptTooLong(ContextFull, ValueError):
    """The prompt leaves no room for an answer in the context."""
