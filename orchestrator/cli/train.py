"""`pilotfish train`: a head for any GGUF, trained on what the quantized model itself says and computes."""

import itertools
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import note, print_facts, print_json
from orchestrator.cli.program import INTERRUPTED
from orchestrator.errors import ConfigError
from orchestrator.extras import require_torch

if TYPE_CHECKING:
    from adapters.llama_model import LlamaModel
    from heads.training.estimate import Estimate
    from heads.training.recipe import Recipe

_EVALUATED = 16  # held-out prompts that the real decoder answers


@click.command()
@click.argument("family", type=click.Choice(["eagle3", "eagle", "medusa"]))
@click.option("--target", required=True, metavar="MODEL", help="The GGUF that the head is to draft for.")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Prompts: lines of text, or JSON lines with "prompt", "turns" or "messages"; .gz too. Without it '
    "the model writes --prompts N itself.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder; the head comes into out/head."
)
@click.option(
    "--prompts", "n_answers", type=click.IntRange(min=1), metavar="N", help="Use the first N prompts."
)
@click.option("--max-tokens", "answer_tokens", default=256, show_default=True, help="Longest answer.")
@click.option("--temperature", default=0.0, show_default=True, help="Of the answers; 0 is greedy.")
@click.option("--max-length", default=512, show_default=True, help="Tokens of a prompt with its answer.")
@click.option("--draft-vocab", default=8192, show_default=True, help="Tokens that the head may draft.")
@click.option("--disk", "disk_gb", default=20.0, show_default=True, metavar="GB", help="For hidden states.")
@click.option("--epochs", default=10, show_default=True, help="Passes over the answers at most.")
@click.option("--minutes", default=0.0, show_default=True, help="End training after so long; 0 = never.")
@click.option("--lr", default=3e-4, show_default=True, help="Highest learning rate.")
@click.option("--batch-tokens", default=4096, show_default=True, help="Tokens of one step.")
@click.option(
    "--steps",
    "n_steps",
    default=4,
    show_default=True,
    help="Guesses in a row that are trained; Medusa's heads.",
)
@click.option(
    "--bf16/--fp32", "bfloat16", default=False, help="Multiply in bfloat16, where the CPU is fast at it."
)
@click.option("--seed", default=0, show_default=True, help="Of sampled answers and of the order.")
@click.option("--dry-run", is_flag=True, help="Try each stage for some seconds and say what all will take.")
@json_option("the estimate, or the head, its history and what the decoder measured")
@hub_options
def train(
    family: str,
    target: str,
    data: Path | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
    revision: str | None,
    offline: bool,
    **options: Any,
) -> None:
    """Train heads of FAMILY for a GGUF, on its own answers and hidden states.

    The target answers the prompts, its hidden states are stored, the head learns from them, and what it
    learned is measured by the real decoder on prompts that it never saw. The same command goes on after
    a kill.
    """
    require_torch()
    from adapters.llama_model import LlamaModel
    from heads.training.prompts import read_prompts

    recipe = _recipe({"family": family, **options})
    if data is None and (dry_run or not recipe.n_answers):
        raise click.UsageError(
            "without --data the model writes --prompts N itself, and there is no --dry-run"
        )
    path = find_model(target, revision, offline)
    prompts = [] if data is None else list(itertools.islice(read_prompts(data), recipe.n_answers or None))
    if data is not None and not prompts:
        raise ConfigError(f"{data} holds no prompt")
    model = LlamaModel(path)
    try:
        if dry_run:
            _dry_run(path, model, prompts, recipe, as_json)
        else:
            source = "prompts that the target wrote" if data is None else data.name
            _train(path, model, prompts, recipe, out, source, as_json)
    finally:
        model.close()


def _recipe(options: dict[str, Any]) -> "Recipe":
    from heads.training.recipe import Recipe
    from heads.training.trainer import TrainSettings

    names = ("epochs", "minutes", "lr", "batch_tokens", "n_steps", "bfloat16", "seed")
    learned = TrainSettings(**{name: options[name] for name in names})
    rest = {name: value for name, value in options.items() if name not in names and value is not None}
    return Recipe(**rest, seed=options["seed"], train=learned)


def _dry_run(path: Path, model: "LlamaModel", prompts: list[str], recipe: "Recipe", as_json: bool) -> None:
    from heads.training.estimate import estimate

    found = estimate(path, model, prompts, recipe)
    if as_json:
        print_json({**asdict(found), "total_s": found.total_s})
    else:
        print_facts(_estimate_facts(found))


def _estimate_facts(found: "Estimate") -> list[tuple[str, str]]:
    return [
        ("answers", f"{found.n_answers:,}: {_readable(found.answer_s)}"),
        ("hidden states", f"{found.n_tokens:,} tokens: {_readable(found.feature_s)}"),
        ("training", f"{_readable(found.train_s)} for all epochs"),
        ("in all", _readable(found.total_s)),
        ("disk", f"{found.disk / 1e9:.2f} GB"),
        ("memory", f"{found.memory / 1e9:.2f} GB"),
    ]


def _readable(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _train(
    path: Path,
    model: "LlamaModel",
    prompts: list[str],
    recipe: "Recipe",
    out: Path,
    data: str,
    as_json: bool,
) -> None:
    from heads.training.recipe import Workshop

    with _ctrl_c_noted() as stopped:
        shop = Workshop(path, out, recipe, tell=note, should_stop=stopped.is_set)
        asked = prompts or shop.own_prompts(model)
        note(f"{shop.answer(model, asked)} prompts are answered")
        store = shop.features()
        shop.gather(model, store)
        note(f"{store.n_tokens:,} tokens of {len(store)} answers to learn from")
        trained = None if stopped.is_set() else shop.train(store)
        if stopped.is_set() or trained is None:
            note(f"stopped; what was done is kept in {out}: the same command goes on")
            raise click.exceptions.Exit(INTERRUPTED)
        head, progress = trained
        folder = shop.write(head, progress, store, data)
        held_out = shop.held_out_prompts(store)[:_EVALUATED]
    measured = evaluate(model, folder, held_out, recipe.answer_tokens)
    found = {"head": str(folder), "history": progress.history, "decoder": measured}
    (out / "result.json").write_text(json.dumps(found, indent=1), "utf-8")
    if as_json:
        print_json(found)
    else:
        print_facts(
            [("head", str(folder)), *((f"tau of {name}", f"{tau:.2f}") for name, tau in measured.items())]
        )


@contextmanager
def _ctrl_c_noted() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that the work in hand is finished and kept; a second interrupts."""
    noted = threading.Event()

    def note_it(number: int, frame: FrameType | None) -> None:
        if noted.is_set():
            signal.default_int_handler(number, frame)
        noted.set()

    before = signal.signal(signal.SIGINT, note_it)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def evaluate(
    model: "LlamaModel", folder: Path, prompts: list[list[int]], max_tokens: int
) -> dict[str, float]:
    """tau of greedy chains of 1, 2, 4 and 6, by the real decoder."""
    from orchestrator.engine import Engine

    found: dict[str, float] = {}
    for length in (1, 2, 4, 6):
        engine = Engine.load(
            model, method="head", head=folder, max_draft=length, temperature=0.0, planner="fixed"
        )
        with engine:
            stats = [engine.generate_tokens(tokens, max_tokens=max_tokens).stats for tokens in prompts]
        found[f"chains of {length}"] = sum(one.n_tokens for one in stats) / sum(
            one.n_decodes for one in stats
        )
    return found
