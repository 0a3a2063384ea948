"""`pilotfish chat`: a conversation in the terminal, or with lines from a pipe."""

import io
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    checked_text,
    engine_options,
    load_engine,
    max_tokens_option,
    method_option,
)
from orchestrator.cli.output import follow, note, show_text
from orchestrator.errors import PilotfishError

if TYPE_CHECKING:
    from orchestrator.engine import Engine
    from orchestrator.request import Result

HELP = """\
/reset  forget the conversation
/stats  how fast the last answer was and what was accepted
/exit   leave (so does Ctrl-D)
Ctrl-C  stop the answer; at the prompt: leave"""


@click.command()
@click.argument("model")
@click.option("--system", metavar="TEXT", callback=checked_text, help="System message.")
@max_tokens_option(1024)
@method_option
@engine_options()
def chat(model: str, system: str | None, max_tokens: int, **options: Any) -> None:
    """Talk with a model. /help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    with load_engine(model, **options) as engine:
        conversation = Conversation(engine, system, max_tokens)
        if sys.stdin.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401 - importing it gives `input` line editing and history
            note("/help lists the commands, Ctrl-D leaves")
        while (line := _read_line()) is not None and line != "/exit":
            _obey(conversation, line)


class Conversation:
    """Messages so far, and the last answer."""

    def __init__(self, engine: "Engine", system: str | None, max_tokens: int) -> None:
        """Raises ChatTemplateError for a model that has no template, or none for a system message."""
        self._engine, self._max_tokens = engine, max_tokens
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._messages: list[dict[str, str]] = []
        self.last: Result | None = None
        engine.chat_prompt([*self._system, {"role": "user", "content": "Hello"}])

    def reset(self) -> None:
        self._messages.clear()

    def ask(self, question: str) -> None:
        """Print the answer to `question`; one that fails leaves no trace in the conversation."""
        asked = [*self._messages, {"role": "user", "content": question}]
        stream = self._engine.stream_chat([*self._system, *asked], max_tokens=self._max_tokens)
        try:
            self.last = follow(stream, show_text)
        finally:
            click.echo()
        self._messages = [*asked, {"role": "assistant", "content": self.last.text}]
        if self.last.finish_reason == "length":
            note("(cut off: --max-tokens or the context is used up)")


def _read_line() -> str | None:
    """The next line that is not empty, None at the end."""
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt and not sys.stdout.isatty():
        click.echo(prompt, nl=False, err=True)  # `input` would write it into the data
        prompt = ""
    try:
        while not (line := input(prompt).strip()):
            pass
        return line
    except EOFError:
        return None


def _obey(conversation: Conversation, line: str) -> None:
    if not line.startswith("/"):
        _ask(conversation, line)
    elif line == "/help":
        note(HELP)
    elif line == "/reset":
        conversation.reset()
    elif line == "/stats":
        note(conversation.last.stats.summary() if conversation.last else "there is no answer yet")
    else:
        note(f"{line.split()[0]} is no command\n{HELP}")


def _ask(conversation: Conversation, question: str) -> None:
    try:
        conversation.ask(question)
    except PilotfishError as error:
        if not sys.stdin.isatty():
            raise  # nobody is there to go on
        note(f"pilotfish: {error}\n/reset forgets the conversation, /exit leaves")
