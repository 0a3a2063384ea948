"""What reading layer inputs costs: not at all, captured by llama.cpp, or through its evaluation callback.

usage: python bench/taps.py [--model NAME] [--repeats N] [--prompt N]

Contexts of one model take turns: each scores chains of 1, 4 and 8 rows and takes them back, and prefills the
same prompt. The layers are those of an EAGLE-3 head. "captured" is left out where the architecture has none;
"idle" is the callback in a decode whose rows nobody wants. Last line: JSON {model, layers, milliseconds:
{way: {what: median}}, ratio: {way: {what: median of time / time without}}}.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from adapters.llama_context import LlamaContext
from adapters.llama_hidden import tap_way
from adapters.llama_model import LlamaModel
from adapters.models import resolve_model
from adapters.settings import ContextSettings
from adapters.target import HiddenRows, HiddenTaps
from orchestrator import Draft

ROWS = (1, 4, 8)
CONTEXT_TOKENS = 128  # in the cache when chains are scored


def open_context(model: LlamaModel, way: str, layers: tuple[int, ...]) -> LlamaContext:
    settings = ContextSettings(n_ctx=1024)
    if way == "none":
        return LlamaContext(model, settings)
    with patch("adapters.llama_hidden.tap_way", return_value="captured" if way == "captured" else "callback"):
        return LlamaContext(model, settings, HiddenTaps(layers=layers))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_score(context: LlamaContext, n_rows: int) -> float:
    draft = Draft.chain(range(100, 99 + n_rows))
    taken = seconds(lambda: context.score(draft))
    context.rollback()
    return taken


def time_prefill(context: LlamaContext, tokens: list[int], way: str) -> float:
    def listen(_start: int, rows: HiddenRows) -> None:
        assert len(rows.layers)

    def prefill() -> None:
        context.prefill(tokens, on_hidden=None if way in ("none", "idle") else listen)
        context.synchronize()

    context.truncate(0)
    return seconds(prefill)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--prompt", type=int, default=256)
    arguments = parser.parse_args()

    model = LlamaModel(resolve_model(arguments.model))
    layers = tuple(sorted({2, model.n_layer // 2, model.n_layer - 3}))
    ways = ["none", "captured", "callback", "idle"]
    if tap_way(model.architecture) != "captured":
        ways.remove("captured")
    contexts = {way: open_context(model, way, layers) for way in ways}
    prompt = [100 + i % 1000 for i in range(arguments.prompt + 1)]  # the last is the root
    times: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    for repeat in range(arguments.repeats + 1):
        # whoever comes first finds cold caches, so take turns
        for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
            context, found = contexts[way], times[way]
            found["prefill"].append(time_prefill(context, prompt, way))
            if way == "idle":
                continue  # a score always reads its rows
            context.prefill(prompt[: CONTEXT_TOKENS + 1])
            for n_rows in ROWS:
                time_score(context, n_rows)  # builds the graph, which a next round of this size reuses
                found[f"{n_rows} rows"].append(time_score(context, n_rows))
    medians = {
        way: {what: round(1e3 * statistics.median(t[1:]), 3) for what, t in found.items()}
        for way, found in times.items()
    }
    ratios = {
        way: {
            what: round(statistics.median(np.divide(t, times["none"][what])[1:]), 4)
            for what, t in found.items()
        }
        for way, found in times.items()
    }
    print(f"{model.path.name}: inputs of layers {', '.join(map(str, layers))}")
    for way in ways:
        cells = (f"{what} {medians[way][what]:8.3f} ms x{ratios[way][what]:.3f}" for what in medians[way])
        print(f"{way:>8}: {'   '.join(cells)}")
    print(json.dumps({"model": model.path.name, "layers": layers, "milliseconds": medians, "ratio": ratios}))


if __name__ == "__main__":
    main()
