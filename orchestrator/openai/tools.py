"""`tools` and `tool_choice`: functions that the chat template tells the model about.

Whether the model calls one is its own affair, and what it then writes is text in its own format. A
`tool_choice` that names a function makes the answer that function's arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.openai.error import ParameterError

NO_SCHEMA: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Tools:
    """offered: to the chat template. choice: as the request has it. chosen: the function that must be called,
    empty where the model decides; schema: of its arguments. legacy: the reply names it as
    `function_call`, too."""

    offered: tuple[Mapping[str, Any], ...] = ()
    choice: Any = None
    chosen: str = ""
    schema: Mapping[str, Any] | None = None
    legacy: bool = False

    @property
    def variables(self) -> dict[str, Any]:
        """What the chat template is told."""
        if not self.offered:
            return {}
        told = {} if self.choice is None else {"tool_choice": self.choice}
        return {"tools": list(self.offered), **told}


def tools_of(given: Mapping[str, Any]) -> Tools:
    """The tools of a request, in today's or in the older words."""
    offered = [_checked(tool) for tool in _listed(given, "tools")]
    offered += [
        _checked({"type": "function", "function": function}) for function in _listed(given, "functions")
    ]
    choice = given.get("tool_choice", _renamed(given.get("function_call")))
    if choice == "none":
        return Tools()
    if choice is not None and not offered:
        raise ParameterError("tool_choice", "needs tools to choose from")
    if choice in (None, "auto"):
        return Tools(tuple(offered), choice)
    tool = _chosen(offered, choice)
    function = tool["function"]
    schema, legacy = function.get("parameters") or NO_SCHEMA, "function_call" in given
    return Tools(tuple(offered), choice, function["name"], schema, legacy)


def _chosen(offered: Sequence[Mapping[str, Any]], choice: Any) -> Mapping[str, Any]:
    names = [tool["function"]["name"] for tool in offered]
    if choice == "required":
        if len(offered) == 1:
            return offered[0]
        raise ParameterError(
            "tool_choice", f"cannot be 'required' with several tools; name one of {', '.join(names)}"
        )
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if name not in names:
        raise ParameterError(
            "tool_choice",
            f"must be none, auto, required or one of {', '.join(names)}, got {choice!r}",
        )
    return offered[names.index(name)]


def _renamed(function_call: Any) -> Any:
    """OpenAI's older `function_call` in today's words."""
    if isinstance(function_call, Mapping):
        return {"type": "function", "function": dict(function_call)}
    return function_call


def _listed(given: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = given.get(name, ())
    if not isinstance(value, list | tuple):
        raise ParameterError(name, f"must be a list, got {value!r}")
    return value


def _checked(tool: Any) -> Mapping[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ParameterError("tools", f"must be functions with a name, got {tool!r}")
    assert isinstance(function, Mapping)
    if not isinstance(function.get("parameters") or {}, Mapping):
        raise ParameterError("tools", f"must have a JSON schema as the parameters of {name!r}")
    return tool  # type: ignore[no-any-return]
