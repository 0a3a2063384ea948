"""What several commands share: their options, and how a prompt and an engine come of them.

Knows the names of options and settings; the settings' defaults and limits belong to Config, so an
option that was not given is not passed on.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.cli.output import Bar
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.engine import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
TEXT_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)

_HUB = (
    click.option("--revision", metavar="REV", help="Branch, tag or commit of a model on the Hub."),
    click.option("--offline", is_flag=True, help="Use what the Hub's cache holds; no network."),
)
_DRAFT = click.option("--draft", metavar="MODEL", help="A smaller model of the same vocabulary that drafts.")
_HEAD = click.option(
    "--head",
    metavar="HEAD",
    help="Medusa or EAGLE heads that draft: a folder, a file, owner/repo, auto or default.",
)
_ENGINE = (
    click.option("--max-draft", type=int, metavar="N", help="Tokens drafted per round."),
    click.option("--ngram-min", type=int, metavar="N", help="Tokens that must match in prompt lookup."),
    click.option("--rule", help="How drafts are checked: coupled (default), rejection or block."),
    click.option("--n-ctx", type=int, metavar="N", help="Tokens that the context holds."),
    click.option("--threads", "n_threads", type=int, metavar="N", help="Threads, default: all cores."),
    click.option(
        "--threads-batch", "n_threads_batch", type=int, metavar="N", help="Threads for several rows at once."
    ),
    click.option("--n-gpu-layers", type=int, metavar="N", help="Layers on the GPU, default: all."),
    click.option("--flash-attn/--no-flash-attn", default=None, help="Default: llama.cpp decides."),
    click.option("--temperature", type=float, metavar="T", help="0 is greedy; default 0.8."),
    click.option("--top-k", type=int, metavar="N", help="Sample from the N likeliest; default 40."),
    click.option(
        "--top-p", type=float, metavar="P", help="Sample from the likeliest of mass P; default 0.95."
    ),
    click.option("--min-p", type=float, metavar="P", help="Drop below P times the likeliest; default 0.05."),
    click.option("--typical-p", type=float, metavar="P", help="Locally typical sampling; default 1."),
    click.option("--repeat-penalty", type=float, metavar="X", help="Above 1 discourages repeats; default 1."),
    click.option("--seed", type=int, metavar="N", help="Makes sampling repeatable."),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting, e.g. type_k=q8_0; may be repeated.",
    ),
)


def _decorated(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


hub_options = _decorated(*_HUB)


def engine_options(*, draft: bool = True) -> Callable[[Command], Command]:
    """Options that make an engine. draft: with `--draft` and `--head`."""
    return _decorated(*((_DRAFT, _HEAD) if draft else ()), *_ENGINE, *_HUB)


method_option = click.option(
    "--method", default="auto", show_default=True, help="auto, none, suffix, lookup, model, head, cascade."
)


def max_tokens_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--max-tokens", type=int, default=default, show_default=True, metavar="N", help="Longest answer."
    )


def json_option(what: str) -> Callable[[Command], Command]:
    return click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object: {what}.")


def find_model(name: str, revision: str | None = None, offline: bool = False) -> Path:
    """The file that `name` means; making or fetching it shows a bar on stderr."""
    from adapters.models import resolve_model

    with Bar(f"making {name}") as bar:
        return resolve_model(
            name,
            revision=revision,
            local_files_only=offline,
            progress=bar,
            show_progress=sys.stderr.isatty(),
        )


def load_engine(
    model: str,
    *,
    method: str = "auto",
    draft: str | None = None,
    head: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    assignments: tuple[str, ...] = (),
    defaults: Mapping[str, Any] = NO_SETTINGS,
    **given: Any,
) -> "Engine":
    """The engine that the shared options describe; None in `given` is an option that was left out.

    defaults: settings that the command prefers to those of Config.
    """
    from orchestrator.config import Config
    from orchestrator.engine import Engine

    settings = {**defaults, **given_settings(assignments, **given)}
    Config.of(**settings)  # before a model is made or fetched in vain
    path = find_model(model, revision, offline)
    drafts = draft and find_model(draft, offline=offline)
    return Engine.load(path, drafts, method, head=head, local_files_only=offline, **settings)


def given_settings(assignments: tuple[str, ...] = (), **given: Any) -> dict[str, Any]:
    """Settings by name from options of their own (None: left out) and from `--set`."""
    from orchestrator.cli.assignments import parse_assignments

    settings = {name: value for name, value in given.items() if value is not None}
    for name, value in parse_assignments(assignments).items():
        if name in settings:
            raise ConfigError(f"{name} is given by --set and by its own option; leave one of them out")
        settings[name] = value
    return settings


def read_text(path: Path) -> str:
    """A text file's content, `-` is stdin, without the newline that ends its last line."""
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def checked_text(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse an argument that the terminal did not send as text; for click's `callback`."""
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"not UTF-8 text at character {error.start}") from error
    return text
