"""llama-cpp-python's chat formats, for models whose GGUF has no template or another one is wanted.

Knows where they are registered; nothing of what they write.
"""

from collections.abc import Callable
from typing import Any


def _registered() -> dict[str, Callable[..., Any]]:
    from llama_cpp.llama_chat_format import LlamaChatCompletionHandlerRegistry

    handlers: dict[str, Callable[..., Any]] = LlamaChatCompletionHandlerRegistry()._chat_handlers
    return handlers


def chat_handler(name: str) -> Callable[..., Any] | None:
    """The handler of this name: called with `llama=` and the arguments of create_chat_completion."""
    return _registered().get(name)


def format_names() -> list[str]:
    """The names of all formats."""
    return sorted(_registered())
