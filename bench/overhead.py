"""What a round costs besides llama.cpp: everything in the loop that is not inside `llama_decode`.

usage: python bench/overhead.py [--model NAME] [--tokens N] [--repeats N]

For 1 to 8 rows a drafter proposes the same number of tokens in every round (most of them wrong, which
is the dearer case: they are rolled back). Rows are interleaved and repeated; medians are reported.
Beside it a bare loop over the same functions: fill the batch, decode, argmax of each row, roll back; no
text, limits, statistics or drafter. It tells what Python and numpy alone cost on this machine, where every
round starts with caches that the weights have just swept empty.
Last line: JSON {overhead_ms, bare_ms, rows, plain_tok_s}: the worst medians over `rows`.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np

from adapters.float_view import float_view
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


def measure_bare(engine: Engine, n_rows: int, n_tokens: int) -> float:
    """Milliseconds per round, `llama_decode` left out, of the least that a loop must do."""
    target, seconds = engine.target, 0.0
    library, context, batch = target._lib, target._ctx, target._batch
    target.prefill(engine.tokenizer.encode(PROMPT))
    past, root = target.n_past, target.root
    started = time.perf_counter()
    for _ in range(n_tokens):
        batch.fill_round(root, np.full(n_rows - 1, root, np.int32), past)
        before = time.perf_counter()
        library.llama_decode(context, batch.c)
        seconds += time.perf_counter() - before
        rows = float_view(target._logits(context), n_rows, engine.model.n_vocab)
        root = [int(row.argmax()) for row in rows][0]
        past += 1
        if n_rows > 1:
            library.llama_memory_seq_rm(target._memory, -1, past, -1)
    seconds = time.perf_counter() - started - seconds
    library.llama_memory_seq_rm(target._memory, -1, target.n_past, -1)
    return 1e3 * seconds / n_tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    drafter, rows = Repeater(), list(range(1, 9))
    overheads, bare, speeds = defaultdict(list), defaultdict(list), defaultdict(list)
    with Engine.load(arguments.model, drafter) as engine:
        measure(engine, drafter, 1, arguments.tokens)  # warm-up
        for _ in range(arguments.repeats):
            for n_rows in rows:
                overhead, speed = measure(engine, drafter, n_rows, arguments.tokens)
                overheads[n_rows].append(overhead)
                speeds[n_rows].append(speed)
                bare[n_rows].append(measure_bare(engine, n_rows, arguments.tokens))
    medians = {n: statistics.median(overheads[n]) for n in rows}
    bare_medians = {n: statistics.median(bare[n]) for n in rows}
    print(f"{arguments.model}, {arguments.repeats} repeats of {arguments.tokens} tokens")
    for n in rows:
        spread = f"({min(overheads[n]):.3f} to {max(overheads[n]):.3f})"
        print(f"rows {n}: overhead {medians[n]:.3f} ms {spread}, bare loop {bare_medians[n]:.3f} ms")
    report = {
        "overhead_ms": round(max(medians.values()), 4),
        "bare_ms": round(max(bare_medians.values()), 4),
        "rows": rows,
        "plain_tok_s": round(statistics.median(speeds[1]), 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
