"""What `pilotfish train` does once its options are read: a trial, or a head made, written and measured.

Knows workshops and the terminal; nothing of click's options.
"""

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import click
import torch

from adapters.devices import devices
from adapters.llama_model import LlamaModel
from adapters.settings import ModelSettings
from heads.spec import Head
from heads.training.estimate import Estimate, estimate
from heads.training.ranks import ALONE, Ranks
from heads.training.recipe import Recipe
from heads.training.store import FeatureStore
from heads.training.trainer import Progress
from heads.training.workshop import Workshop
from orchestrator.cli.output import note, print_facts, print_json
from orchestrator.cli.program import INTERRUPTED
from orchestrator.errors import PilotfishError
from orchestrator.train_plots import plot_run

_EVALUATED = 16  # held-out prompts that the real decoder answers


@dataclass(frozen=True, slots=True)
class Source:
    """What a head is to learn from. data: the file of `prompts`; texts: documents; writes_own: whether the
    target writes its prompts itself."""

    data: Path | None
    prompts: Sequence[str]
    texts: Sequence[Path]
    writes_own: bool

    def __str__(self) -> str:
        own = ["prompts that the target wrote"] if self.writes_own else []
        names = [path.name for path in ([] if self.data is None else [self.data]) + list(self.texts[:3])]
        rest = [f"{len(self.texts) - 3} more texts"] if len(self.texts) > 3 else []
        return ", ".join([*own, *names, *rest])


@dataclass(frozen=True, slots=True)
class Order:
    """A head of `recipe` for the GGUF at `path`, made in the folder `out`. device: where PyTorch trains it;
    ranks: the processes that do so together; head: what they go on with, None = a new one."""

    path: Path
    source: Source
    recipe: Recipe
    out: Path
    device: torch.device
    ranks: Ranks = ALONE
    head: Head | None = None
    plots: bool = False
    as_json: bool = False


def carry_out(order: Order, dry_run: bool = False) -> None:
    """Make the head, or print what that will take."""
    model = _target(order)
    try:
        if dry_run:
            assert model is not None  # there are no other processes
            _try(order, model)
        else:
            _make(order, model)
    finally:
        if model is not None:
            model.close()


def _target(order: Order) -> LlamaModel | None:
    """The target where this process needs it: the first one answers, all compute what no disk holds."""
    if order.recipe.disk_gb > 0:
        return LlamaModel(order.path) if order.ranks.first else None
    if order.ranks.size > 1 and order.device.type == "cuda" and any(one.kind == "GPU" for one in devices()):
        return LlamaModel(order.path, ModelSettings(split_mode="none", main_gpu=order.ranks.local))
    return LlamaModel(order.path)


def _try(order: Order, model: LlamaModel) -> None:
    source = order.source
    found = estimate(
        order.path,
        model,
        source.prompts,
        order.recipe,
        texts=source.texts,
        n_measured=_EVALUATED,
        device=order.device,
    )
    if order.as_json:
        print_json({**asdict(found), "total_s": found.total_s})
    else:
        print_facts(_estimate_facts(found))


def _estimate_facts(found: Estimate) -> list[tuple[str, str]]:
    room = f"; no room for {found.n_left_out:,} tokens" if found.n_left_out else ""
    return [
        ("answers", f"{found.n_answers:,}: {_readable(found.answer_s)}"),
        ("hidden states", f"{found.n_tokens:,} tokens: {_readable(found.feature_s)}"),
        ("training", f"{_readable(found.train_s)} for all epochs"),
        ("measuring", f"{_readable(found.measure_s)} at most"),
        ("in all", _readable(found.total_s)),
        ("disk", f"{found.disk / 1e9:.2f} GB{room}"),
        ("memory", f"{found.memory / 1e9:.2f} GB"),
        *([("GPU memory", f"{found.gpu_memory / 1e9:.2f} GB")] if found.gpu_memory else []),
    ]


def _readable(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _make(order: Order, model: LlamaModel | None) -> None:
    """Make the head, or as much of it as there is time for until Ctrl-C; print what came of it."""
    out, recipe, ranks = order.out, order.recipe, order.ranks
    say = note if ranks.first else _not_said
    with _ctrl_c_noted() as stopped:
        shop = Workshop(
            order.path,
            out,
            recipe,
            tell=say,
            should_stop=stopped.is_set,
            device=order.device,
            ranks=ranks,
            head=order.head,
        )
        ranks.first_does(lambda: _prepare(shop, model, order.source))
        trained = None
        if not any(ranks.any(stopped.is_set())):
            store = shop.features(model)
            trained = _trained(shop, store, order)
        if any(ranks.any(stopped.is_set())) or trained is None:
            say(f"stopped; what was done is kept in {out}: the same command goes on")
            raise click.exceptions.Exit(INTERRUPTED)
        if not ranks.first:
            return
        head, progress = trained
        folder = shop.write(head, progress, store, str(order.source))
        held_out = shop.held_out_prompts(store)[:_EVALUATED]
    assert model is not None  # the first process has it
    measured = evaluate(model, folder, held_out, recipe.answer_tokens, recipe.n_threads)
    found = {"head": str(folder), "history": progress.history, "decoder": measured}
    (out / "result.json").write_text(json.dumps(found, indent=1), "utf-8")
    if order.as_json:
        print_json(found)
    else:
        print_facts(
            [("head", str(folder)), *((f"tau of {name}", f"{tau:.2f}") for name, tau in measured.items())]
        )


def _not_said(_text: str) -> None:
    """The first process has said it."""


def _trained(shop: Workshop, store: FeatureStore, order: Order) -> tuple[Head, Progress]:
    """What came of the training, drawn however it ended."""
    try:
        return shop.train(store)
    finally:
        if order.plots and order.ranks.first:
            _draw(order.out)


def _draw(out: Path) -> None:
    """Plots are no reason to lose a head: what is wrong with them is only said."""
    try:
        for drawn in plot_run(out / "run" / "log.jsonl", out):
            note(f"drawn: {drawn}")
    except PilotfishError as error:
        note(f"no plots: {error}")


def _prepare(shop: Workshop, model: LlamaModel | None, source: Source) -> None:
    """Everything that the head is to learn from, answered and read."""
    assert model is not None  # only the first process does this, and has it
    pieces = shop.pieces(model, source.texts) if source.texts else ()
    prompts = shop.own_prompts(model) if source.writes_own else source.prompts
    if prompts:
        note(f"{shop.answer(model, prompts)} prompts are answered")
    store = shop.features(model)
    shop.gather(store, pieces)
    note(f"{store.n_tokens:,} tokens of {len(store)} texts to learn from")


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
    model: LlamaModel,
    folder: Path,
    prompts: list[list[int]],
    max_tokens: int,
    n_threads: int | None = None,
) -> dict[str, float]:
    """tau of greedy chains of 1, 2, 4 and 6, by the real decoder."""
    from orchestrator.engine import Engine

    found: dict[str, float] = {}
    for length in (1, 2, 4, 6):
        engine = Engine.load(
            model,
            method="head",
            head=folder,
            max_draft=length,
            temperature=0.0,
            planner="fixed",
            n_threads=n_threads,
        )
        with engine:
            stats = [engine.generate_tokens(tokens, max_tokens=max_tokens).stats for tokens in prompts]
        found[f"chains of {length}"] = sum(one.n_tokens for one in stats) / sum(
            one.n_decodes for one in stats
        )
    return found
