"""What a matrix product costs on this device, by the type of its weights and the rows of the decode.

Each type gets a synthetic model whose vocabulary matrix is as wide as the target's; its product is the
difference between a decode with all logits and one with none. Types take turns, and passes
go over all of it, so that a slow moment of the machine does not fall upon one of them alone.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.gguf_probe import bits, fits, write_probe
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.quantize import tensor_types
from adapters.settings import ContextSettings, ModelSettings
from orchestrator.cost.timing import CLOCK, Clock, filler, score_ms
from orchestrator.tune.census import Census
from orchestrator.tune.speed import by_rows
from orchestrator.tune.timing import layers_ms, settled

CANDIDATES = ("Q4_0", "IQ4_NL", "Q4_1", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0", "F16", "BF16")
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
N_WEIGHTS = 24_000_000  # enough to read from memory rather than from a cache, with the others in turn
PASSES = 9  # they take a few milliseconds each
_N_PAST = 8


@dataclass(frozen=True, slots=True)
class Kernels:
    """ns: nanoseconds per weight of one decode, by type, for each of `rows`."""

    rows: tuple[int, ...]
    ns: Mapping[str, tuple[float, ...]]

    def of(self, type: str) -> str:
        """The type itself, or the measured one that is closest in bits to one that was not measured."""
        return type if type in self.ns else min(self.ns, key=lambda known: abs(bits(known) - bits(type)))

    def matrix_ms(self, weights: Mapping[str, int]) -> list[float]:
        """ms by rows (0 unused) of matrices with so many weights of each type."""
        total = [0.0] * (self.rows[-1] + 1)
        for kind, count in weights.items():
            for n, ns in enumerate(by_rows(self.rows, self.ns[self.of(kind)])):
                total[n] += 1e-6 * count * ns
        return total


def measure_kernels(
    found: Census, weights: ModelSettings, context: ContextSettings, clock: Clock = CLOCK
) -> Kernels:
    """ns per weight of the types worth looking at for a model; opens a synthetic model of each at once."""
    n_rows = max(64, min(N_WEIGHTS, found.n_weights) // found.width // 64 * 64)
    settings = replace(context, n_ctx=256, n_seq_max=1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        opened = {}
        for kind in probe_types(found):
            path = write_probe(folder / f"{kind}.gguf", kind, found.width, n_rows)
            probe = LlamaModel(path, probe_settings(weights, found.n_layer))
            stack.callback(probe.close)
            opened[kind] = LlamaContext(probe, settings)
        return _measured(opened, n_rows * found.width, clock)


def probe_types(found: Census) -> list[str]:
    """The candidates and the types in use, as far as the quantizer makes them for rows of that width."""
    known = tensor_types()
    wanted = dict.fromkeys([*CANDIDATES, *found.layers, found.head])
    return [kind for kind in wanted if kind in known and fits(found.width, kind)]


def probe_settings(weights: ModelSettings, n_layer: int) -> ModelSettings:
    """How to load probes for a model of `n_layer` layers: on the device of its vocabulary projection, which
    llama.cpp offloads last of all; no LoRA would fit them."""
    offloaded = weights.n_gpu_layers < 0 or weights.n_gpu_layers > n_layer
    bare = replace(settled(weights), lora=(), lora_scale=())
    return replace(bare, n_gpu_layers=-1 if offloaded else 0)


def _measured(opened: Mapping[str, LlamaContext], n_weights: int, clock: Clock) -> Kernels:
    some = next(iter(opened.values())).capabilities
    tokens = filler(_N_PAST + 1, some.n_vocab)
    rows = tuple(n for n in ROWS if n <= some.max_rows)
    for context in opened.values():
        context.prefill(tokens)
    whole: dict[tuple[str, int], list[float]] = defaultdict(list)
    rest: dict[int, list[float]] = defaultdict(list)
    for _ in range(PASSES):
        for n in rows:
            for kind, context in opened.items():
                whole[kind, n].append(score_ms(context, n, clock))
                rest[n].append(layers_ms(context, tokens, n, clock))

    def ns(kind: str, n: int) -> float:
        # so short that one pass at least is undisturbed
        return 1e6 * max(1e-6, min(whole[kind, n]) - min(rest[n])) / n_weights

    return Kernels(rows, {kind: tuple(ns(kind, n) for n in rows) for kind in opened})
