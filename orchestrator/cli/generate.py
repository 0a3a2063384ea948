"""`pilotfish generate`: one prompt, one text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    TEXT_FILE,
    checked_text,
    engine_options,
    json_option,
    load_engine,
    max_tokens_option,
    method_option,
    read_text,
)
from orchestrator.cli.output import explain_round, follow, note, print_json, show_text
from orchestrator.cli.program import INTERRUPTED

if TYPE_CHECKING:
    from orchestrator.engine import Engine
    from orchestrator.request import Result
    from orchestrator.stream import Stream


@click.command()
@click.argument("model")
@click.argument("prompt", required=False, callback=checked_text)
@click.option("-f", "--file", type=TEXT_FILE, help="Read the prompt from a file; - is stdin.")
@click.option("--chat/--raw", "as_chat", help="Ask by the model's chat template, or (default) just go on.")
@click.option("--system", metavar="TEXT", callback=checked_text, help="System message; needs --chat.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be repeated.")
@click.option("--grammar", type=TEXT_FILE, help="A GBNF grammar that the text must follow.")
@click.option("--json-schema", type=TEXT_FILE, help="A JSON schema that the text must fit.")
@click.option("--speculate/--no-speculate", default=True, help="--no-speculate decodes plainly.")
@click.option(
    "--reference",
    "references",
    type=TEXT_FILE,
    multiple=True,
    help="A document that the answer may quote, in the prompt or not; may be repeated.",
)
@click.option("--explain", is_flag=True, help="Say on stderr what each round drafted, and why.")
@click.option("--stats", is_flag=True, help="Say on stderr how fast it was and what was accepted.")
@max_tokens_option(256)
@json_option("text, tokens, finish_reason, stats")
@method_option
@engine_options()
def generate(
    model: str,
    prompt: str | None,
    file: Path | None,
    as_chat: bool,
    system: str | None,
    stats: bool,
    as_json: bool,
    stop: tuple[str, ...],
    grammar: Path | None,
    json_schema: Path | None,
    references: tuple[Path, ...],
    explain: bool,
    speculate: bool,
    max_tokens: int,
    **options: Any,
) -> None:
    """Generate text after PROMPT.

    Without PROMPT and --file the prompt is read from stdin. The text is printed as it comes; Ctrl-C ends it
    and keeps what is there.
    """
    text = _prompt_text(prompt, file)
    if system is not None and not as_chat:
        raise click.UsageError("--system needs --chat")
    request = {
        "stop": stop,
        "grammar": grammar and read_text(grammar),
        "json_schema": json_schema and read_text(json_schema),
        "references": {path.name: read_text(path) for path in references} or None,
        "explain": explain_round if explain else None,
        "speculate": speculate,
        "max_tokens": max_tokens,
    }
    with load_engine(model, **options) as engine:
        result = _answer(_stream(engine, text, as_chat, system, request), as_json)
    if stats:
        note(result.stats.summary())
    if result.finish_reason == "cancelled":
        raise click.exceptions.Exit(INTERRUPTED)


def _prompt_text(prompt: str | None, file: Path | None) -> str:
    if prompt is not None and file is not None:
        raise click.UsageError("give either PROMPT or --file, not both")
    if prompt is not None:
        return prompt
    if file is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt: give PROMPT or --file, or pipe a text into stdin")
    return read_text(file or Path("-"))


def _stream(
    engine: "Engine", text: str, as_chat: bool, system: str | None, request: dict[str, Any]
) -> "Stream":
    if not as_chat:
        return engine.stream(text, **request)
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return engine.stream_chat(messages, **request)


def _answer(stream: "Stream", as_json: bool) -> "Result":
    if as_json:
        result = follow(stream, lambda _chunk: None)
        print_json(
            {
                "text": result.text,
                "tokens": result.tokens,
                "finish_reason": result.finish_reason,
                "stats": result.stats.as_dict(),
            }
        )
        return result
    try:
        return follow(stream, show_text)
    finally:
        click.echo()
