"""What suffix drafting costs: indexing references, loading them, and a round of drafting.

usage: python bench/suffix.py [--model NAME] [--reference-tokens N] [--rounds N] [--repeats N]

Texts are the benchmark's own prompts in the model's tokens, over and over with every twentieth token
changed: they repeat themselves as texts do, without being equal. A round is what the loop asks per decode:
one new token, then a proposal; "planned": and what the adaptive planner makes of it, learning included.
Contexts and kinds are interleaved; a longer text has longer matches, hence more tokens are drafted.
Last line: JSON {index_s, save_s, load_s, rounds_us: {kind: {context: {median, p95}}}, begin_s: {context: s}}.
"""

import argparse
import functools
import json
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from adapters.llama_model import LlamaModel
from adapters.models import resolve_model
from adapters.tokenizer import Tokenizer
from orchestrator.adaptive import AdaptivePlanner
from orchestrator.bench.suite import own_prompts, read_suites
from orchestrator.context import Context
from orchestrator.cost.curve import CostCurve
from orchestrator.draft import Step, Walk
from orchestrator.drafters.suffix import SuffixDrafter
from orchestrator.sampler import Sampler
from orchestrator.sampling import Sampling
from orchestrator.suffix.references import References

CONTEXTS = (1_000, 16_000, 128_000)
DOCUMENT = 2_000  # tokens of a reference document
CURVE = CostCurve((1, 4, 8, 16, 32), [10.0, 16.0, 27.0, 42.0, 90.0])  # about that of a small model on a CPU


def stream(pieces: list[list[int]], n: int, rng: random.Random) -> list[int]:
    """`n` tokens of the pieces in random order, every twentieth replaced by any other."""
    tokens: list[int] = []
    while len(tokens) < n:
        tokens += rng.choice(pieces)
    for place in rng.sample(range(n), n // 20):
        tokens[place] = tokens[rng.randrange(n)]
    return tokens[:n]


def seconds(function: Callable[[], object]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def round_times(
    drafter: SuffixDrafter, context: Context, text: list[int], planner: AdaptivePlanner | None
) -> tuple[list[float], float]:
    """(microseconds of each round, tokens drafted per round) while `text` is generated."""
    times, n_drafted = [], 0
    for token in text:
        start = perf_counter()
        budget = drafter.max_draft if planner is None else planner.budget(context, drafter.max_draft)
        draft = drafter.propose(context, budget)
        kept = draft if planner is None else planner.trim(draft, budget)
        proposed = perf_counter()
        if planner is not None:  # what the loop does with them is not theirs to answer for
            walk = Walk((0,), (token,)) if len(kept) and kept.tokens[0] == token else Walk((), (token,))
            step = step_of(walk, len(kept))
        resumed = perf_counter()
        if planner is not None:
            planner.observe(kept, walk, step)
        times.append(1e6 * (perf_counter() - resumed + proposed - start))
        n_drafted += len(draft)
        context.extend([token])
    return times, n_drafted / len(text)


def step_of(walk: Walk, n_drafted: int) -> Step:
    """A round that emitted one token and took what the curve says."""
    verify = CURVE.ms(1 + n_drafted, 0) / 1e3
    return Step(walk.tokens, n_drafted, walk.n_accepted, n_drafted, "suffix", 0.0, verify, 0.0)


def index_times(
    references: References, documents: dict[str, list[int]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each build, save and load."""
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "references.npz"
        for _ in range(repeats):
            times["index"].append(seconds(lambda: References.of(documents)))
            times["save"].append(seconds(lambda: references.save(path)))
            times["load"].append(seconds(lambda: References.load(path, "")))
        print(f"{path.stat().st_size / 1e6:.1f} MB on disk, {len(references.automaton)} states")
    return times


def quantile(numbers: list[float], share: float) -> float:
    return sorted(numbers)[int(share * (len(numbers) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="whose tokens")
    parser.add_argument("--reference-tokens", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1000, help="rounds per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    rng = random.Random(0)
    encode = Tokenizer(LlamaModel(resolve_model(arguments.model))).encode
    pieces = [encode(turn) for question in read_suites([own_prompts()]) for turn in question.turns]
    text = stream(pieces, arguments.reference_tokens, rng)
    documents = {str(i): text[i : i + DOCUMENT] for i in range(0, len(text), DOCUMENT)}
    references = References.of(documents)
    once = index_times(references, documents, arguments.repeats)
    for name, times in once.items():
        spread = f"({min(times):.3f} to {max(times):.3f})"
        print(f"{name} {len(text)} tokens: {statistics.median(times):.3f} s {spread}")

    kinds = {
        "own text": (SuffixDrafter(), None),
        "own text, planned": (SuffixDrafter(), AdaptivePlanner(CURVE, max_draft=SuffixDrafter.max_draft)),
        "references": (SuffixDrafter(references), None),
        "references, 4 leaves": (SuffixDrafter(references, leaves=4), None),
    }
    rounds: dict[tuple[str, int], list[float]] = defaultdict(list)
    drafted: dict[tuple[str, int], list[float]] = defaultdict(list)
    begin: dict[int, list[float]] = defaultdict(list)
    for _ in range(arguments.repeats):
        for n in CONTEXTS:
            prompt, generated = stream(pieces, n, rng), stream(pieces, arguments.rounds, rng)
            for kind, (drafter, planner) in kinds.items():
                context = Context(prompt, Sampler(Sampling()))
                begin[n].append(seconds(functools.partial(drafter.begin, context)))
                times, n_drafted = round_times(drafter, context, generated, planner)
                rounds[kind, n] += times
                drafted[kind, n].append(n_drafted)
                drafter.forget()
    summary: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for (kind, n), times in rounds.items():
        low, median, high = (round(quantile(times, share), 1) for share in (0.05, 0.5, 0.95))
        summary[kind][n] = {"median": median, "p95": high}
        print(
            f"{kind}, context {n}: {median} us a round (90 % between {low} and {high}), "
            f"{statistics.median(drafted[kind, n]):.1f} tokens drafted"
        )
    report = {
        **{f"{name}_s": round(statistics.median(times), 3) for name, times in once.items()},
        "begin_s": {n: round(statistics.median(times), 3) for n, times in begin.items()},
        "rounds_us": summary,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
