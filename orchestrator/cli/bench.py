"""`pilotfish bench`: configurations, and other systems, against plain decoding on the same prompts."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    engine_options,
    find_model,
    given_settings,
    json_option,
    max_tokens_option,
)
from orchestrator.cli.output import note, print_json

if TYPE_CHECKING:
    from orchestrator.bench.suite import Question

BINARY = click.Path(exists=True, dir_okay=False, path_type=Path)
DOCUMENT = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(invoke_without_command=True)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Prompts: a .jsonl file or a folder of them; default: pilotfish's own.",
)
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A prompt; may be repeated.")
@click.option(
    "--per-suite", type=click.IntRange(min=1), metavar="N", help="Prompts of each suite, default: all."
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=2, show_default=True, help="Answers to each prompt."
)
@max_tokens_option(128)
@click.option("--ignore-eos", is_flag=True, help="Forbid end tokens: every answer has --max-tokens tokens.")
@click.option("--model", default="smollm2", show_default=True, help="The target: any MODEL.")
@click.option(
    "--method", "methods", multiple=True, help="auto (default), lookup, model, ...; may be repeated."
)
@click.option(
    "--draft", "drafts", multiple=True, metavar="MODEL", help="A smaller model that drafts; may be repeated."
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="HEAD",
    help="Medusa or EAGLE heads that draft; may be repeated.",
)
@click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="'NAME=VALUE ...'",
    help="One more configuration: model, method, draft, context and any setting; may be repeated.",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=V1,V2",
    help="Every configuration with each of these values; context=N fills prompts up to N tokens.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="SPEC",
    help="Another system: llama-server, llama-server:TYPE, llama-server:all, llama-cpp-python[:lookup], "
    "transformers[:lookup|:assisted]; may be repeated.",
)
@click.option("--llama-server", type=BINARY, help="llama.cpp's server, for --peer and the baseline check.")
@click.option("--llama-bench", type=BINARY, help="llama.cpp's benchmark tool, for the baseline check.")
@click.option(
    "--synthetic-accept",
    type=float,
    metavar="RATE",
    help="What if drafts were accepted at this rate? The text is invalid; --method free drafts at no cost.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON document here.")
@click.option("--plots", type=FOLDER, help="Draw plots into this folder.")
@json_option("every figure, with its provenance")
@engine_options(draft=False)
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Compare speculative with plain decoding, prompt by prompt, in turn.

    Greedy with seed 0 unless said otherwise. Speeds leave the prefill out; every figure stands beside that
    of plain decoding in the same run.
    """
    if context.invoked_subcommand is None:
        with ExitStack() as stack:
            _bench(stack, **options)


def _bench(
    stack: ExitStack,
    *,
    suites: tuple[Path, ...],
    prompts: tuple[str, ...],
    per_suite: int | None,
    repeats: int,
    max_tokens: int,
    ignore_eos: bool,
    model: str,
    methods: tuple[str, ...],
    drafts: tuple[str, ...],
    heads: tuple[str, ...],
    configs: tuple[str, ...],
    sweeps: tuple[str, ...],
    peers: tuple[str, ...],
    llama_server: Path | None,
    llama_bench: Path | None,
    synthetic_accept: float | None,
    out: Path | None,
    plots: Path | None,
    as_json: bool,
    revision: str | None,
    offline: bool,
    **given: Any,
) -> None:
    from orchestrator.bench.bench import Bench
    from orchestrator.bench.configuration import DEFAULTS, Configuration, configurations
    from orchestrator.bench.suite import own_prompts
    from orchestrator.cli.bench_plan import parse_sweeps, variants

    settings = {**DEFAULTS, **given_settings(**given)}
    if synthetic_accept is not None:
        settings["synthetic_accept"] = synthetic_accept
    plan = configurations(
        Configuration(model, settings=settings),
        variants(methods, drafts, configs, heads),
        parse_sweeps(sweeps),
    )
    paths = suites or (() if prompts else (own_prompts(),))
    bench = Bench(
        stack,
        plan,
        _questions(paths, prompts, per_suite),
        resolve=lambda name: find_model(name, revision if name == model else None, offline),
        max_tokens=max_tokens,
        repeats=repeats,
        ignore_eos=ignore_eos,
        report=note,
    )
    bench.open(peers, draft=drafts[0] if drafts else None, llama_server=llama_server)
    failure = bench.run(llama_bench)
    document = bench.document(sys.argv, paths)
    _hand_over(document, out, plots, as_json)
    if failure is not None:
        raise failure


def _questions(paths: tuple[Path, ...], prompts: tuple[str, ...], per_suite: int | None) -> "list[Question]":
    from orchestrator.bench.suite import Question, pick, read_suites

    typed = [Question(f"prompt/{n}", "prompt", "", (text,)) for n, text in enumerate(prompts, start=1)]
    return [*typed, *pick(read_suites(paths), per_suite)]


def _hand_over(document: dict[str, Any], out: Path | None, plots: Path | None, as_json: bool) -> None:
    """The figures before anything that could fail: a run may have taken hours."""
    from orchestrator.bench.report.tables import summary

    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document) + "\n", "utf-8")
    if as_json:
        print_json(document)
    else:
        click.echo(summary(document))
    if plots is not None:
        from orchestrator.bench.report.plots import plot

        for path in plot(document, plots):
            note(f"drew {path}")


@bench.command()
@click.argument("a", type=DOCUMENT)
@click.argument("b", type=DOCUMENT)
@json_option("not_comparable, differences, only_in, changes (one per configuration and suite)")
def compare(a: Path, b: Path, as_json: bool) -> None:
    """What has changed between two runs, A.json and B.json."""
    from orchestrator.bench.report.comparability import differences, reasons
    from orchestrator.bench.report.comparison import changes, compare_documents, only_in
    from orchestrator.bench.report.document_file import load_document

    first, second = load_document(a), load_document(b)
    if as_json:
        print_json(
            {
                "not_comparable": reasons(first, second),
                "differences": differences(first, second),
                "only_in": only_in(first, second),
                "changes": changes(first, second),
            }
        )
    else:
        click.echo(compare_documents(first, second))


@bench.command()
@click.argument("documents", type=DOCUMENT, nargs=-1, required=True)
@click.option("--title", default="Results", show_default=True, help="The first heading.")
@click.option("--plots", type=FOLDER, help="Draw the plots of each document into this folder.")
def results(documents: tuple[Path, ...], title: str, plots: Path | None) -> None:
    """The tables of one or more runs as Markdown, losses in a section of their own."""
    from orchestrator.bench.report.document_file import load_document
    from orchestrator.bench.report.markdown import markdown
    from orchestrator.bench.report.plots import plot

    loaded = [(path.stem, load_document(path)) for path in documents]
    click.echo(markdown(loaded, title))
    for name, document in loaded if plots is not None else ():
        for path in plot(document, Path(str(plots)) / name):
            note(f"drew {path}")
