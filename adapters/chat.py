"""The chat template inside a GGUF, rendered as its authors meant it: by Jinja, in a sandbox.

Knows messages and templates; nothing of tokens or models beyond their names for BOS and EOS.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from adapters.errors import ChatTemplateError
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer

Message = Mapping[str, Any]  # {"role": "user", "content": "..."}


class ChatTemplate:
    """Turns messages into the prompt that a model was trained on."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        from jinja2 import TemplateSyntaxError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # the options of transformers' apply_chat_template, which templates are written for
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ChatTemplateError(f"the chat template is not valid Jinja: {error}") from error
        self._names = {"bos_token": bos, "eos_token": eos}

    @classmethod
    def of(cls, model: LlamaModel, tokenizer: Tokenizer) -> "ChatTemplate":
        """The template of a loaded GGUF."""
        source = model.meta("tokenizer.chat_template")
        if not source:
            raise ChatTemplateError(
                f"{model.path.name} has no chat template; use generate() with a prompt of your own, or an "
                "instruction-tuned model"
            )
        names = [tokenizer.name(token) if token >= 0 else "" for token in (tokenizer.bos, tokenizer.eos)]
        return cls(source, *names)

    def render(self, messages: Sequence[Message], **variables: Any) -> str:
        """The prompt for `messages`, open for the assistant's answer. `variables` (tools, ...) reach
        the template as they are."""
        checked = [_checked(message) for message in messages]
        if not checked:
            raise ChatTemplateError(
                "there are no messages; give at least one, as {'role': 'user', 'content': ...}"
            )
        options = {"add_generation_prompt": True, **self._names, **variables}
        try:
            return self._template.render(messages=checked, **options)
        except Exception as error:  # a template is somebody's program: anything can go wrong in it
            raise ChatTemplateError(f"the model's chat template rejects the messages: {error}") from error


def _checked(message: Message) -> Message:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise ChatTemplateError(f"a message needs 'role' and 'content', got {message!r}")
    return message


def _tojson(value: Any, indent: int | None = None, **_options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
