"""`pilotfish tune`: what decodes cost here under which settings, and what that is worth."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from orchestrator.cli.common import find_model, given_settings, hub_options, json_option
from orchestrator.cli.output import Bar, note, print_json
from orchestrator.errors import ConfigError

Number = TypeVar("Number", int, float)


def numbers(
    kind: Callable[[str], Number],
) -> Callable[[click.Context, click.Parameter, str | None], tuple[Number, ...] | None]:
    """A click callback: `1,2,4` as numbers, each once."""

    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return None
        try:
            return tuple(dict.fromkeys(kind(part) for part in text.split(",")))
        except ValueError:
            raise click.BadParameter(f"{text!r} is no list of numbers; write 1,2,4") from None

    return parse


@click.command()
@click.argument("model")
@click.option(
    "--threads-list",
    "threads",
    callback=numbers(int),
    metavar="N,N",
    help="Thread counts, default: all cores, and half.",
)
@click.option(
    "--contexts",
    callback=numbers(int),
    metavar="N,N",
    help="Tokens in the cache, default: 64,1024, less for a model of few.",
)
@click.option(
    "--acceptance",
    callback=numbers(float),
    default="0.6,0.8",
    show_default=True,
    metavar="RATE,RATE",
    help="Rates at which speeds are told.",
)
@click.option(
    "--passes", type=click.IntRange(min=2), default=5, show_default=True, help="Measurements of each decode."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves, a PNG file.")
@click.option("--n-ctx", type=int, metavar="N", help="Tokens that the context holds, default: as needed.")
@click.option("--n-gpu-layers", type=int, metavar="N", help="Layers on the GPU, default: all.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting of model or context, e.g. type_k=q8_0; may be repeated.",
)
@json_option("settings, best_plain, best_speculative, change, split, kernels, better_head, better_layers")
@hub_options
def tune(
    model: str,
    threads: tuple[int, ...] | None,
    contexts: tuple[int, ...] | None,
    acceptance: tuple[float, ...],
    passes: int,
    plot: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    revision: str | None,
    offline: bool,
    **given: Any,
) -> None:
    """Measure what decodes of several rows cost with MODEL on this device.

    Under every thread count with flash attention on and off; the curves are kept for `auto`. Shows where
    the time goes, and which tensor types would make more rows cheaper.
    """
    from adapters.gguf_file import read_gguf
    from orchestrator.config import Config
    from orchestrator.tune.plot import plot_study
    from orchestrator.tune.report import study_text
    from orchestrator.tune.study import Plan, default_contexts, default_threads, study

    config = Config.of(**_checked(given_settings(assignments, **given)))
    if contexts is not None or threads is not None:  # before a model is made or fetched in vain
        Plan(threads or (1,), contexts or (1,), acceptance, passes)
    path = find_model(model, revision, offline)
    contexts = contexts or default_contexts(config.context.n_ctx or read_gguf(path).n_ctx_train)
    plan = Plan(threads or default_threads(), contexts, acceptance, passes)
    with Bar("measuring decodes") as bar:
        found = study(path, config.model, config.context, plan, progress=bar, report=note)
    if as_json:
        print_json(found.as_dict())
    else:
        click.echo(study_text(found))
    if plot is not None:
        plot_study(found, plot)
        note(f"drew {plot}")


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse what a bare decode does not have, such as a temperature."""
    from adapters.settings import ContextSettings, ModelSettings

    known = {field.name for group in (ModelSettings, ContextSettings) for field in fields(group)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"{name} does not change what a decode costs; leave it out of tune")
    return settings
