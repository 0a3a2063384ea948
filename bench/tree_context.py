"""What chains and plain decoding pay for a context that can hold trees.

usage: python bench/tree_context.py [--model NAME] [--leaves N] [--tokens N] [--repeats N]

Two contexts of one model, with 1 and with N sequences, decode the same text in turn, plainly (1 row)
and with drafted chains (4 rows). Last line: JSON {leaves, ratio: {rows: median of time / time}}.
"""

import argparse
import json
import statistics
from collections import defaultdict

from overhead import PROMPT, Repeater

from orchestrator import Engine

ROWS = (1, 4)


def seconds_per_round(engine: Engine, drafter: Repeater, n_rows: int, n_tokens: int) -> float:
    drafter.n = n_rows - 1
    stats = engine.generate(PROMPT, max_tokens=n_tokens, temperature=0, speculate=n_rows > 1).stats
    return stats.t_decode / stats.n_decodes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--leaves", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()

    drafter = Repeater()
    ratios = defaultdict(list)
    with (
        Engine.load(arguments.model, drafter) as single,
        Engine.load(arguments.model, drafter, n_seq_max=arguments.leaves) as branching,
    ):
        for repeat in range(arguments.repeats + 1):
            for n_rows in ROWS:
                # whoever goes second finds warm caches, so take turns
                order = (single, branching) if repeat % 2 else (branching, single)
                times = {e: seconds_per_round(e, drafter, n_rows, arguments.tokens) for e in order}
                if repeat:  # the first is a warm-up
                    ratios[n_rows].append(times[branching] / times[single])
    medians = {n_rows: round(statistics.median(ratios[n_rows]), 4) for n_rows in ROWS}
    for n_rows in ROWS:
        print(
            f"rows {n_rows}: x{medians[n_rows]:.4f} ({min(ratios[n_rows]):.3f} to {max(ratios[n_rows]):.3f})"
        )
    print(json.dumps({"leaves": arguments.leaves, "ratio": medians}))


if __name__ == "__main__":
    main()
