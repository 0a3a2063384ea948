"""Messages as OpenAI has them, made ready for chat templates."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.openai.error import ParameterError


def checked_messages(messages: Any) -> tuple[Mapping[str, Any], ...]:
    """`messages` with contents that are texts; raises ParameterError for images and what is no message."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise ParameterError("messages", "must be a list of messages with a role and a content, not empty")
    return tuple(_checked(message) for message in messages)


def _checked(message: Any) -> Mapping[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ParameterError("messages", f"must each have a role and a content, got {message!r}")
    checked = {**message, "content": _text(message)}
    if not isinstance(message.get("tool_calls") or [], list):
        raise ParameterError("messages", f"must hold tool calls as a list, got {message!r:.80}")
    if message.get("tool_calls"):
        checked["tool_calls"] = [_readable(call) for call in message["tool_calls"]]
    return checked


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and (message.get("tool_calls") or message.get("function_call")):
        return ""  # a message that only calls functions
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    raise ParameterError("messages", f"must each have a text as content, got {message!r}")


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise ParameterError("messages", f"must hold text only, no images or sound, got {part!r:.80}")
    return text


def _readable(call: Any) -> Any:
    """A tool call with its arguments as an object, which templates write as JSON themselves."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise ParameterError("messages", f"must hold tool calls with a function, got {call!r}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return call  # the model's own slip of the pen: shown as it was
    return {**call, "function": {**function, "arguments": arguments}}
