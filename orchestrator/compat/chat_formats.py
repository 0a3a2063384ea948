"""Chat formats by llama-cpp-python's names.

None and `chat_template.default` are the template inside the GGUF. Every other name is a handler of
llama-cpp-python's own, which writes the prompt and calls back `tokenize` and `create_completion`.
"""

from collections.abc import Callable
from typing import Any

from adapters.llama_formats import chat_handler, format_names
from orchestrator.errors import ConfigError

OWN = "chat_template.default"
FALLBACK = "llama-2"  # llama-cpp-python's choice for a GGUF without a template

Handler = Callable[..., Any]


def handler_of(chat_format: str | None, given: Any, has_template: bool) -> Handler | None:
    """What answers chats; None: the GGUF's template. given: a `chat_handler` of the user's."""
    if given is not None:
        if not callable(given) or hasattr(given, "clip_model_path"):
            raise ConfigError(
                f"chat_handler={type(given).__name__} cannot be honoured: there is text only; "
                "leave it out, or give a function that calls create_completion"
            )
        return given  # type: ignore[no-any-return]
    name = chat_format or (OWN if has_template else FALLBACK)
    if name == OWN:
        if not has_template:
            raise ConfigError("the GGUF has no chat template; name a chat_format")
        return None
    handler = chat_handler(name)
    if handler is None:
        raise ConfigError(
            f"chat_format={name!r} is not known; it is one of {', '.join([OWN, *format_names()])}"
        )
    return handler
