"""`pilotfish bench`: how much faster a model becomes, on prompts of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    TEXT_FILE,
    engine_options,
    json_option,
    load_engine,
    max_tokens_option,
    read_text,
)
from orchestrator.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from orchestrator.engine import Engine
    from orchestrator.measure import Comparison

PROMPTS = (
    "The lighthouse keeper climbed the stairs as he did every evening, and when he came to the top",
    "def mean(values):\n    return sum(values) / len(values)\n\n\ndef median(values):\n",
    "Berlin is the capital of Germany. Paris is the capital of France. Rome is the capital of",
)
DEFAULTS = {"temperature": 0.0, "seed": 0}  # both kinds must draw the same noise to agree
HEADINGS = ("prompt", "method", "tokens", "plain tok/s", "tok/s", "speed-up", "tau", "accepted", "same text")


@click.command()
@click.argument("model")
@click.option("--method", "methods", multiple=True, help="auto (default), lookup, model; may be repeated.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A prompt; may be repeated.")
@click.option(
    "--prompt-file",
    "files",
    multiple=True,
    type=TEXT_FILE,
    help="A file that is one prompt; may be repeated.",
)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Of each kind.")
@max_tokens_option(128)
@json_option("model, and a list of results")
@engine_options
def bench(
    model: str,
    methods: tuple[str, ...],
    prompts: tuple[str, ...],
    files: tuple[Path, ...],
    runs: int,
    max_tokens: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare plain with speculative decoding.

    Both run in turn after a warm-up; speeds are medians and, in brackets, extremes. Greedy unless
    --temperature is given; built-in prompts unless --prompt or --prompt-file is.
    """
    texts = [*prompts, *map(read_text, files)] or list(PROMPTS)
    found = []
    for method, draft in _plan(methods or ("auto",), options.pop("draft")):
        with load_engine(model, method=method, draft=draft, defaults=DEFAULTS, **options) as engine:
            found += _measure(engine, texts, runs, max_tokens)
    if as_json:
        print_json({"model": model, "results": [{"prompt": text, **c.as_dict()} for text, c in found]})
    else:
        print_table([HEADINGS, *(_row(text, comparison) for text, comparison in found)])
        _explain(found)


def _plan(methods: Sequence[str], draft: str | None) -> list[tuple[str, str | None]]:
    """Methods with the draft model for those that use one; where none does, the engine objects."""
    users = [method for method in methods if method in ("auto", "model")] or methods
    return [(method, draft if method in users else None) for method in methods]


def _measure(
    engine: "Engine", texts: Sequence[str], n_runs: int, max_tokens: int
) -> list[tuple[str, "Comparison"]]:
    from orchestrator.measure import compare

    found = []
    for number, text in enumerate(texts, start=1):
        note(f"{engine.drafter.name}: prompt {number} of {len(texts)} ...")
        tokens = engine.tokenizer.encode(text)
        found.append((text, compare(engine, tokens, n_runs=n_runs, max_tokens=max_tokens)))
    return found


def _row(text: str, comparison: "Comparison") -> tuple[str, ...]:
    stats = comparison.speculative[0].stats
    same = "yes" if comparison.divergence is None else f"{comparison.divergence.index} tokens"
    return (
        _label(text),
        stats.method,
        str(stats.n_tokens),
        str(comparison.plain_tok_s),
        str(comparison.tok_s),
        f"{comparison.speedup:.2f}x",
        f"{stats.tau:.2f}",
        f"{stats.acceptance:.0%}",
        same,
    )


def _label(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 24 else f"{line[:21]}..."


def _explain(found: Sequence[tuple[str, "Comparison"]]) -> None:
    """Say how close the call was wherever two texts part."""
    for text, comparison in found:
        if (parting := comparison.divergence) is not None:
            click.echo(
                f"{_label(text)} ({comparison.speculative[0].stats.method}): the texts part after "
                f"{parting.index} tokens, where the target's two best logits are {parting.gap:.3g} apart"
            )
