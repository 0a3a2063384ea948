"""pilotfish as a plugin of the program `llm`: `llm -m pilotfish/smollm2 "Hello"`.

Knows llm's models, options and conversations, and a list of models that the user has added; llm imports this
module through its entry point (extra `llm`), and nothing is loaded before a model is asked.
"""

import atexit
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llm
from llm.parts import TextPart
from pydantic import Field

from adapters.presets import PRESETS
from orchestrator.cli.assignments import parse_assignments
from orchestrator.errors import ChatTemplateError, PilotfishError

if TYPE_CHECKING:
    from orchestrator.engine import Engine
    from orchestrator.stream import Stream

_PREFIX = "pilotfish/"
_LOADING = ("draft", "head")  # what Engine.load takes besides the settings


class Pilotfish(llm.Model):
    """One model with what drafts for it. The engine is loaded at the first prompt, and kept."""

    can_stream = True
    supports_schema = True

    class Options(llm.Options):
        max_tokens: int | None = Field(default=None, description="Tokens of the answer at most")
        temperature: float | None = Field(default=None, description="0 is greedy; default 0.8")
        top_k: int | None = Field(default=None, description="Sample from the likeliest; default 40")
        top_p: float | None = Field(default=None, description="Sample from the likeliest of this mass")
        min_p: float | None = Field(default=None, description="Drop below this share of the likeliest")
        repeat_penalty: float | None = Field(default=None, description="Above 1 discourages repeats")
        seed: int | None = Field(default=None, description="Makes sampling repeatable")
        stop: str | None = Field(default=None, description="A text that ends the answer")
        grammar: str | None = Field(default=None, description="A GBNF grammar that the answer obeys")
        speculate: bool | None = Field(default=None, description="False: plain decoding")

    def __init__(self, name: str, source: str, settings: dict[str, Any]) -> None:
        """source: what Engine.load takes. settings: of it, `draft` and `head` among them."""
        self.model_id = f"{_PREFIX}{name}"
        self._source, self._settings = source, settings
        self._engine: Engine | None = None

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        options = {name: value for name, value in prompt.options.model_dump().items() if value is not None}
        if prompt.schema is not None:
            options["json_schema"] = prompt.schema
        try:
            running = self._begun(prompt, options)
            for chunk in running:
                yield chunk.text
        except PilotfishError as error:
            raise llm.ModelError(str(error)) from error
        result = running.result
        response.set_usage(input=result.stats.n_prompt, output=len(result.tokens))
        response.response_json = {
            "finish_reason": result.finish_reason,
            "seed": result.stats.seed,
            "n_reused": result.stats.n_reused,
            "summary": result.stats.summary(),
        }

    def _begun(self, prompt: llm.Prompt, options: dict[str, Any]) -> "Stream":
        messages = _messages(prompt)
        engine = self._loaded()
        try:
            return engine.stream_chat(messages, **options)
        except ChatTemplateError:
            if len(messages) > 1:
                raise
            return engine.stream(messages[0]["content"], **options)  # a base model goes on with the text

    def _loaded(self) -> "Engine":
        from orchestrator.engine import Engine

        if self._engine is None:
            self._engine = Engine.load(self._source, **self._settings)
            atexit.register(self._engine.close)  # which keeps what it has learnt of costs
        return self._engine


def _messages(prompt: llm.Prompt) -> list[dict[str, str]]:
    """The whole conversation, the system's message first where there is one."""
    messages = []
    for message in prompt.messages:
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        messages.append({"role": message.role, "content": text})
    return messages


def _added() -> Path:
    return Path(llm.user_dir()) / "pilotfish.json"  # type: ignore[no-untyped-call]


def _read_added() -> dict[str, dict[str, Any]]:
    """By name: `model` and settings; raises ClickException for a file that somebody has damaged."""
    path = _added()
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(entry["model"], str) for entry in models.values()):
            raise ValueError("an entry without a model")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise click.ClickException(f"{path}: no list of models ({error}); correct or delete it") from error
    return dict(models)


@llm.hookimpl
def register_models(register: Any) -> None:
    """The presets, and what `llm pilotfish add` has added."""
    named = {name: {"model": name} for name in PRESETS}
    for name, entry in {**named, **_read_added()}.items():
        settings = {key: value for key, value in entry.items() if key != "model"}
        register(Pilotfish(name, entry["model"], settings))


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """`llm pilotfish add | remove | list`."""

    @cli.group()
    def pilotfish() -> None:
        """Models that pilotfish runs, speculatively."""

    pilotfish.add_command(add)
    pilotfish.add_command(remove)
    pilotfish.add_command(listed)


@click.command()
@click.argument("model")
@click.option("--name", help="What to call it behind pilotfish/, default: MODEL itself.")
@click.option("--draft", help="A smaller model of the same vocabulary that drafts.")
@click.option("--head", help="Medusa or EAGLE heads that draft.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting, e.g. n_ctx=8192."
)
def add(
    model: str, name: str | None, draft: str | None, head: str | None, assignments: tuple[str, ...]
) -> None:
    """Make MODEL (a GGUF file or owner/repo:QUANT) known to llm as pilotfish/NAME."""
    try:
        settings = parse_assignments(assignments)
    except PilotfishError as error:
        raise click.ClickException(str(error)) from error
    if Path(model).expanduser().is_file():
        model = str(Path(model).expanduser().resolve())
    given = {key: value for key, value in zip(_LOADING, (draft, head), strict=True) if value is not None}
    models = _read_added()
    models[name or model] = {"model": model, **given, **settings}
    _write(models)
    click.echo(f"{_PREFIX}{name or model}")


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget what was added as NAME; the file stays."""
    models = _read_added()
    if models.pop(name.removeprefix(_PREFIX), None) is None:
        raise click.ClickException(f"no model {name!r} was added; there are {', '.join(models) or 'none'}")
    _write(models)


@click.command("list")
def listed() -> None:
    """Show what was added, as JSON."""
    click.echo(json.dumps(_read_added(), indent=2))


def _write(models: dict[str, dict[str, Any]]) -> None:
    path = _added()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(models, indent=2) + "\n", encoding="utf-8")
