"""What a head's steps cost, apart from the target and between its decodes.

usage: python bench/heads.py [--width N] [--vocab N] [--context N] [--threads 1,2] [--model NAME]
                             [--families eagle3,eagle,medusa] [--numbers auto,int8,bfloat16,float32]

Heads of random weights and the given sizes: costs do not depend on what they say. A step is one token of a
chain: the layer, its norms, the projection, the likeliest token. "apart": steps alone; "between": each
chain follows a decode of the target, whose threads and PyTorch's want the same cores. Kinds, numbers and
thread counts are interleaved. "auto" is what head_dtype="auto" is on a CPU: 8 bits and ggml's graphs for
EAGLE, int8 for Medusa; the others are PyTorch's. "reading": pairs of the target's features and tokens, as
after a rest, between decodes. Last line: JSON {eagle3_step_ms, eagle_step_ms, medusa_ms: the first of
`numbers` between decodes, with the best number of threads; read_ms: {family: {pairs: ms}}, of the same;
settings: {family: which that is}; between: {family: {numbers: ms}}}.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

sys.path[0] = str(Path(__file__).parents[1])  # beside this script `heads` would be the script itself

# ruff: noqa: E402
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.models import resolve_model
from adapters.settings import ContextSettings
from heads.device import choose_dtype, choose_ggml
from heads.draft_state import DraftState
from heads.medusa import Medusa
from heads.medusa_state import MedusaState
from heads.network import Network, network_of
from heads.spec import EagleSpec, Head, MedusaSpec
from orchestrator.cost.timing import filler, score_ms

CHAIN = 5  # tokens
PAIRS = (1, 4, 16, 64, 256)  # read at once


def random_head(family: str, width: int, vocab: int) -> Head:
    """Sizes as a small Llama has them: heads of 64, a third as many for keys, an MLP of 8/3 of the width."""
    torch.manual_seed(0)

    def matrix(n_out: int, n_in: int) -> torch.Tensor:
        return torch.randn(n_out, n_in) / n_in**0.5

    if family == "medusa":
        spec = MedusaSpec(n_heads=4, n_blocks=1, hidden_size=width, n_vocab=vocab)
        tensors = {f"outputs.{i}.weight": matrix(vocab, width) for i in range(4)}
        tensors |= {f"blocks.{i}.0.weight": matrix(width, width) for i in range(4)}
        tensors |= {f"blocks.{i}.0.bias": torch.zeros(width) for i in range(4)}
        return Head(spec, tensors, "random")
    n_heads = max(3, width // 64)
    n_kv, mlp, n_in = n_heads // 3, width * 8 // 3, width if family == "eagle" else 2 * width
    n_heads = 3 * n_kv
    taps = 1 if family == "eagle" else 3
    spec = EagleSpec(
        family="eagle" if family == "eagle" else "eagle3",
        hidden_size=width,
        width=width,
        n_layers=1,
        n_heads=n_heads,
        n_kv_heads=n_kv,
        head_dim=64,
        intermediate_size=mlp,
        n_vocab=vocab,
        n_taps=taps,
    )
    shapes = {"q": (64 * n_heads, n_in), "k": (64 * n_kv, n_in), "v": (64 * n_kv, n_in)}
    shapes |= {"o": (width, 64 * n_heads), "gate": (mlp, width), "up": (mlp, width), "down": (width, mlp)}
    tensors = {f"layers.0.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
    tensors["fc.weight"] = matrix(width, 2 * width if family == "eagle" else taps * width)
    tensors["layers.0.post_norm.weight"] = torch.ones(width)
    tensors["embedding.weight"], tensors["output.weight"] = matrix(vocab, width), matrix(vocab, width)
    if family == "eagle3":
        norms = ("norm", "layers.0.input_norm", "layers.0.hidden_norm")
        tensors |= {f"{name}.weight": torch.ones(width) for name in norms}
    return Head(spec, tensors, "random")


def made(family: str, name: str, width: int, vocab: int) -> tuple[Network, bool]:
    """(the network in numbers by their name, whether ggml computes its steps)."""
    head, cpu = random_head(family, width, vocab), torch.device("cpu")
    by_ggml = choose_ggml(name, cpu, head.spec)
    dtype = torch.bfloat16 if by_ggml else choose_dtype(name, cpu)
    return network_of(head, None, dtype, in_blocks=by_ggml), by_ggml  # type: ignore[arg-type]


class Subject:
    """One head in numbers of one kind on `n_threads`, with a text of `context` tokens read."""

    def __init__(self, family: str, network: Network, by_ggml: bool, n_threads: int, context: int) -> None:
        self.family, self.n_threads = family, n_threads
        self.n_features = network.spec.hidden_size * (3 if family == "eagle3" else 1)
        self.state: DraftState | MedusaState
        torch.set_num_threads(n_threads)
        if isinstance(network, Medusa):
            self.state = MedusaState(network)
            return
        self.state = DraftState(network, ggml_threads=n_threads if by_ggml else 0)
        rows = np.random.default_rng(0).standard_normal((context, self.n_features)).astype(np.float32)
        self.state.read(rows, [1] * context)

    def reading(self, n: int) -> float:
        """ms of reading `n` further pairs."""
        assert isinstance(self.state, DraftState)
        torch.set_num_threads(self.n_threads)
        rows, n_pairs = np.ones((n, self.n_features), np.float32), self.state.n_pairs
        began = perf_counter()
        self.state.read(rows, [1] * n)
        elapsed = 1e3 * (perf_counter() - began)
        self.state.truncate(n_pairs)
        return elapsed

    def chain(self) -> float:
        """ms of one step, the mean of a chain; of all heads at once for Medusa."""
        torch.set_num_threads(self.n_threads)
        row = np.ones((1, self.n_features), np.float32)
        if isinstance(self.state, MedusaState):
            began = perf_counter()
            self.state.see(row[0])
            self.state.guesses(1)
            return 1e3 * (perf_counter() - began)
        n_pairs = self.state.n_pairs
        began = perf_counter()
        self.state.read(row, [1])
        tokens, _ = self.state.open(1)
        for node in range(CHAIN - 1):
            tokens, _ = self.state.grow([node - 1], [int(tokens[0, 0])], 1)
        elapsed = 1e3 * (perf_counter() - began)
        self.state.truncate(n_pairs)
        return elapsed / CHAIN


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--context", type=int, default=300, help="tokens that the head has read")
    parser.add_argument("--threads", default="1,2", help="PyTorch's threads, each in turn")
    parser.add_argument("--families", default="eagle3,eagle,medusa")
    parser.add_argument("--numbers", default="auto,int8,bfloat16,float32")
    parser.add_argument("--model", default="smollm2:Q4_0", help="the target between the steps")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    families, numbers = arguments.families.split(","), arguments.numbers.split(",")

    model = LlamaModel(resolve_model(arguments.model))
    target = LlamaContext(model, ContextSettings(n_ctx=1024))
    target.prefill(filler(arguments.context + 1, model.n_vocab))
    subjects = {
        (family, name, n): Subject(family, network, by_ggml, n, arguments.context)
        for family in families
        for name in numbers
        for network, by_ggml in [made(family, name, arguments.width, arguments.vocab)]
        for n in map(int, arguments.threads.split(","))
    }
    apart: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    between: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    decodes: dict[tuple[str, int], list[float]] = defaultdict(list)
    reading: dict[tuple[str, str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(arguments.repeats):
        decodes["alone", 0].append(score_ms(target, 1))
        for key, subject in subjects.items():
            apart[key].append(subject.chain())
            subject.chain()
            score_ms(target, CHAIN + 1)
            between[key].append(subject.chain())
            decodes["after a head", subject.n_threads].append(score_ms(target, 1))
            for n in () if key[0] == "medusa" else PAIRS:
                reading[key][n].append(subject.reading(n))
                score_ms(target, 1)
    for key in apart:
        alone, beside = statistics.median(apart[key]), statistics.median(between[key])
        print(f"{key[0]:7} {key[1]:9} {key[2]} threads: {alone:.2f} ms apart, {beside:.2f} between decodes")
    for (what, n), times in decodes.items():
        print(f"a decode of one row {what}{f', {n} threads' if n else ''}: {statistics.median(times):.2f} ms")
    medians = {key: statistics.median(times) for key, times in between.items()}
    best: dict[str, dict[str, float]] = {family: {} for family in families}
    report: dict[str, Any] = {"settings": {}, "read_ms": {}, "between": best}
    for family, name in ((family, name) for family in families for name in numbers):
        value, n = min((ms, key[2]) for key, ms in medians.items() if key[:2] == (family, name))
        best[family][name] = round(value, 3)
        if name == numbers[0]:
            report["medusa_ms" if family == "medusa" else f"{family}_step_ms"] = round(value, 3)
            report["settings"][family] = f"{name}, {n} threads"
            pairs = reading[family, name, n].items()
            if pairs:  # Medusa reads none
                report["read_ms"][family] = {
                    n_pairs: round(statistics.median(ms), 3) for n_pairs, ms in pairs
                }
    print(json.dumps(report))
    target.close()
    model.close()


if __name__ == "__main__":
    main()
