"""What commands print: data on stdout, the rest on stderr, and streams that Ctrl-C ends.

Knows terminals; nothing of what is printed.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from orchestrator.draft import Step
    from orchestrator.planner import Decision
    from orchestrator.request import Chunk, Result
    from orchestrator.stream import Stream


def note(text: str) -> None:
    """A line that is no data."""
    click.echo(text, err=True)


def print_json(document: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(document))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, one pair a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{name.ljust(width)}  {value}")


class Bar:
    """A progress bar on stderr that comes with the first report; off a terminal, a line saying so."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Progress | None = None
        self._said = False

    def __enter__(self) -> "Bar":
        return self

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` steps are behind us."""
        if not self._said:
            self._said = True
            self._begin()
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def _begin(self) -> None:
        if not sys.stderr.isatty():
            note(f"{self._title} ...")
            return
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._progress.add_task(self._title)
        self._progress.start()

    def __exit__(self, *_exc: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def follow(stream: "Stream", show: "Callable[[Chunk], None]") -> "Result":
    """Show a stream to its end, or until Ctrl-C: what there is by then is the result."""
    with _cancelled_by_ctrl_c(stream):
        for chunk in stream:
            show(chunk)
    return stream.result


def show_text(chunk: "Chunk") -> None:
    """Print a chunk's text at once."""
    click.echo(chunk.text, nl=False)


def explain_round(decision: "Decision", step: "Step") -> None:
    """One line on stderr: what a round proposed, kept and accepted, and why."""
    promised = f", promised {decision.gain:.2f}x" if decision.gain > 1 else ""
    drafted = f"{step.source}: " if step.source else ""
    note(
        f"{drafted}proposed {decision.n_proposed}, kept {decision.n_kept}, accepted {step.n_accepted}"
        f"{promised} ({decision.reason}); {1e3 * step.t_verify:.1f} ms"
    )


@contextmanager
def _cancelled_by_ctrl_c(stream: "Stream") -> Iterator[None]:
    """Ctrl-C lets the round in progress end; a second one does not wait for it."""

    def cancel(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream.cancel()

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
