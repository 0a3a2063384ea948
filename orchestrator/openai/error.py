"""A parameter that cannot be honoured, and a prompt that does not fit."""

from orchestrator.errors import ConfigError, ContextFull


class ParameterError(ConfigError):
    """`param` names the parameter, as OpenAI's errors do."""

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(f"{param} {problem}" if _is_phrase(problem) else f"{param}: {problem}")
        self.param = param


class PromptTooLong(ContextFull, ValueError):
    """The prompt leaves no room for an answer in the context."""


def _is_phrase(problem: str) -> bool:
    """Whether the parameter's name is the subject of what is said about it."""
    return problem.split()[0] in ("must", "cannot", "is", "needs", "goes", "makes", "and")
