"""From the parameters of OpenAI's completions and chat completions to a call of Engine.

What would change the answer and cannot be honoured is refused with the reason; nothing is swallowed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.openai import values
from orchestrator.openai.error import ParameterError
from orchestrator.openai.formats import json_schema_of
from orchestrator.openai.messages import checked_messages
from orchestrator.openai.tools import Tools, tools_of

COMPLETION_TOKENS = 16  # of a completion that does not say; chats go on to the end of the context

_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
)
_INTEGERS = ("top_k", "penalty_last_n", "seed")
# they say who asks and how it is billed, not what to answer
_WITHOUT_EFFECT = ("user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store")
# values of settings that do not exist here, which ask for what happens anyway
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "suffix": ("",),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "tfs_z": (1.0,),
    "mirostat_mode": (0,),
    "stopping_criteria": ([],),
}
_REASONS = {
    "n": "one text is generated at a time; send the request several times",
    "best_of": "one text is generated at a time; send the request several times",
    "suffix": "text is continued, not filled in; put what follows into the prompt",
    "modalities": "there is text only",
    "tfs_z": "llama.cpp has dropped tail-free sampling; use min_p",
    "mirostat_mode": "mirostat depends on every token before, so that guesses cannot be checked; use min_p",
    "stopping_criteria": "criteria in Python do not run; use stop, max_tokens or on_token of Engine.generate",
    "reasoning_effort": "what a model thinks depends on its chat template; write it into the system message",
    "audio": "there is text only",
    "web_search_options": "nothing is looked up; pass documents as references",
}
_COMMON = (
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "stop",
    "logit_bias",
    "logprobs",
    "grammar",
    "response_format",
    "references",
    "prediction",
    "speculate",
    "logits_processor",
    *_NUMBERS,
    *_INTEGERS,
    *_WITHOUT_EFFECT,
    *_NEUTRAL,
)
_COMPLETION = (*_COMMON, "prompt", "echo")
_CHAT = (
    *_COMMON,
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as an engine understands it.

    options: for `Engine.stream`. prompt: of a completion; messages: of a chat. tools: what the chat template
    is told about functions, and the one whose arguments the answer must be. model: the name that the
    request gives, empty where it gives none. include_usage: whether a stream ends with a count of tokens.
    """

    chat: bool
    options: Mapping[str, Any]
    prompt: str | tuple[int, ...] = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    tools: Tools = field(default_factory=Tools)
    model: str = ""
    stream: bool = False
    include_usage: bool = False
    echo: bool = False


def completion_call(parameters: Mapping[str, Any]) -> Call:
    """The call that the parameters of a completion describe; raises ParameterError."""
    given = _given(parameters, _COMPLETION)
    options = {"max_tokens": COMPLETION_TOKENS, **_options(given)}
    if "logprobs" in given:
        options["logprobs"] = values.alternatives(given, "logprobs")
    echo = values.flag(given, "echo")
    if echo and "logprobs" in given:
        raise ParameterError("logprobs", "log-probabilities of the prompt are not computed; leave echo out")
    return Call(False, options, prompt=_prompt(given), echo=echo, **_manner(given))


def chat_call(parameters: Mapping[str, Any]) -> Call:
    """The call that the parameters of a chat completion describe; raises ParameterError."""
    given = _given(parameters, _CHAT)
    if "max_completion_tokens" in given:
        if "max_tokens" in given:
            raise ParameterError("max_tokens", "is the old name of max_completion_tokens; give one of them")
        given["max_tokens"] = given.pop("max_completion_tokens")
    options = {"max_tokens": values.UNLIMITED, **_options(given)}
    if values.flag(given, "logprobs"):
        options["logprobs"] = values.alternatives(given, "top_logprobs")
    elif "top_logprobs" in given:
        raise ParameterError("top_logprobs", "needs logprobs=true")
    tools = tools_of(given)
    if tools.schema is not None:
        if "grammar" in options or "json_schema" in options:
            raise ParameterError(
                "tool_choice",
                f"makes the answer arguments of {tools.chosen!r}; drop the other format",
            )
        options["json_schema"] = tools.schema
    if "messages" not in given:
        raise ParameterError("messages", "is missing; give a list of messages with a role and a content")
    return Call(True, options, messages=checked_messages(given["messages"]), tools=tools, **_manner(given))


def _given(parameters: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """What was really asked for: null is the same as nothing, and so is what happens anyway."""
    given = {}
    for name, value in parameters.items():
        if value is None:
            continue
        if name not in known:
            raise ParameterError(name, _REASONS.get(name, "is not known here; leave it out"))
        if name in _NEUTRAL:
            if not any(value == neutral for neutral in _NEUTRAL[name]):
                raise ParameterError(name, f"cannot be {values.shown(value)}: {_REASONS[name]}")
        elif name not in _WITHOUT_EFFECT:
            given[name] = value
    return given


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What both kinds of requests share, for Engine.stream."""
    options: dict[str, Any] = {name: values.number(given, name) for name in _NUMBERS if name in given}
    options |= {name: values.integer(given, name) for name in _INTEGERS if name in given}
    if "seed" in options:
        options["seed"] = values.seed(options["seed"])
    if "max_tokens" in given:
        options["max_tokens"] = values.max_tokens(values.integer(given, "max_tokens"))
    readers: Mapping[str, Callable[[Any], Any]] = {
        "stop": values.stop,
        "logit_bias": values.logit_bias,
        "grammar": values.grammar,
        "references": values.references,
        "prediction": values.prediction,
        "logits_processor": values.logits_processor,
    }
    for name, read in readers.items():
        if name in given:
            options["references" if name == "prediction" else name] = read(given[name])
    if "references" in given and "prediction" in given:
        raise ParameterError("prediction", "is one more reference; give it among the references")
    if "speculate" in given:
        options["speculate"] = values.flag(given, "speculate")
    schema = json_schema_of(given.get("response_format"))
    if schema is not None:
        if "grammar" in options:
            raise ParameterError("grammar", "and response_format cannot both shape the answer; give one")
        options["json_schema"] = schema
    return options


def _manner(given: Mapping[str, Any]) -> dict[str, Any]:
    """How the answer is wanted."""
    stream = values.flag(given, "stream")
    about = given.get("stream_options", {})
    if not isinstance(about, Mapping) or not set(about) <= {"include_usage", "include_obfuscation"}:
        raise ParameterError("stream_options", f"must be {{'include_usage': true}}, got {about!r:.80}")
    if about and not stream:
        raise ParameterError("stream_options", "goes with stream=true")
    model = given.get("model", "")
    if not isinstance(model, str):
        raise ParameterError("model", f"must be a name, got {values.shown(model)}")
    return {"stream": stream, "include_usage": values.flag(about, "include_usage"), "model": model}


def _prompt(given: Mapping[str, Any]) -> str | tuple[int, ...]:
    prompt = given.get("prompt")
    if isinstance(prompt, Sequence) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]  # a list of one prompt
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence) and prompt and all(type(token) is int for token in prompt):
        return tuple(prompt)
    if isinstance(prompt, Sequence) and len(prompt) > 1:
        raise ParameterError("prompt", "must be a single one; send a request for each")
    raise ParameterError("prompt", f"must be a text or a list of token ids, got {values.shown(prompt)}")
