"""What a round costs besides llama.cpp: everything in the loop that is not inside `llama_decode`.

usage: python bench/overhead.py [--model NAME] [--tokens N] [--repeats N]

For 1 to 8 rows a drafter proposes the same number of tokens in every round (most of them wrong, which
is the dearer case: they are rolled back). Rows are interleaved and repeated; medians are reported.
Last line: JSON {overhead_ms, rows, plain_tok_s}: the worst median overhead over `rows`.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from typing import Any

from orchestrator import Draft, Drafter, Engine

PROMPT = "Explain, step by step and with an example, how a library lends its books. " * 4


class Repeater(Drafter):
    """Drafts the newest `n` tokens again."""

    name = "repeater"

    def __init__(self) -> None:
        self.n = 0

    def propose(self, context: Any, budget: int) -> Draft:
        return Draft.chain(context.tokens[-self.n :] if self.n else [], source=self.name)


class TimedLibrary:
    """llama.cpp's functions, with the time spent in `llama_decode` added up."""

    def __init__(self, library: Any) -> None:
        self._library, self.seconds = library, 0.0

    def llama_decode(self, *arguments: Any) -> int:
        start = time.perf_counter()
        code: int = self._library.llama_decode(*arguments)
        self.seconds += time.perf_counter() - start
        return code

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        setattr(self, name, function)
        return function


def measure(engine: Engine, drafter: Repeater, n_rows: int, n_tokens: int) -> tuple[float, float]:
    """(milliseconds of overhead per round, tokens per second) of one run with `n_rows` per decode."""
    drafter.n = n_rows - 1
    timed = TimedLibrary(engine.target._lib)
    tokens = engine.tokenizer.encode(PROMPT)
    stream = engine.stream(tokens, max_tokens=n_tokens, temperature=0, speculate=n_rows > 1)
    next(stream)  # the prefill is not a round
    before = stream.result.stats.t_decode
    engine.target._lib = timed
    try:
        stats = stream.finish().stats
    finally:
        engine.target._lib = timed._library
    n_rounds = stats.n_decodes - 1
    return 1e3 * (stats.t_decode - before - timed.seconds) / n_rounds, stats.tok_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    drafter, rows = Repeater(), list(range(1, 9))
    overheads, speeds = defaultdict(list), defaultdict(list)
    with Engine.load(arguments.model, drafter) as engine:
        measure(engine, drafter, 1, arguments.tokens)  # warm-up
        for _ in range(arguments.repeats):
            for n_rows in rows:
                overhead, speed = measure(engine, drafter, n_rows, arguments.tokens)
                overheads[n_rows].append(overhead)
                speeds[n_rows].append(speed)
    medians = {n: statistics.median(overheads[n]) for n in rows}
    print(f"{arguments.model}, {arguments.repeats} repeats of {arguments.tokens} tokens")
    for n in rows:
        print(f"rows {n}: overhead {medians[n]:.3f} ms ({min(overheads[n]):.3f} to {max(overheads[n]):.3f})")
    report = {
        "overhead_ms": round(max(medians.values()), 4),
        "rows": rows,
        "plain_tok_s": round(statistics.median(speeds[1]), 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
