"""How the program ends and where its log goes: one line and an exit code for every error.

Knows click and the root of our error tree; nothing of models or of single commands.
"""

import errno
import io
import logging
import sys
from typing import IO, Any

import click

from orchestrator.errors import PilotfishError

INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


class Failure(click.ClickException):
    """An error as `pilotfish: <message>` on stderr and exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"pilotfish: {self.format_message()}", file=file, err=True)


class Program(click.Group):
    """A group of commands that never ends in a traceback for what a user can cause."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can show every text
        try:
            return super().invoke(ctx)
        except PilotfishError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe has gone
            raise Failure(str(error)) from error


def log_to_stderr(context: click.Context, verbose: bool) -> None:
    """Show our log lines until `context` closes: warnings only, or all of it and llama.cpp's."""
    logger, handler = logging.getLogger("pilotfish"), logging.StreamHandler()
    if verbose:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("pilotfish: %(message)s"))
        # what matters of llama.cpp's complaints is in our errors
        handler.addFilter(lambda record: record.name != "pilotfish.llama_cpp")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    context.call_on_close(lambda: logger.removeHandler(handler))
