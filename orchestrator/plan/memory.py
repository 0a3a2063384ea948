"""What one model takes, and where: weights by layer from its header, contexts by llama.cpp's own reckoning.

Knows how llama.cpp deals layers out: the output matrix and the last layers go to the GPU first, the input
embedding stays in the main memory. Nothing of budgets.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from adapters.gguf_header import merged, read_headers
from adapters.llama_plan import ContextMemory, PlannedModel
from adapters.settings import ContextSettings, ModelSettings

_LAYER = re.compile(r"blk\.(\d+)\.")
_INPUTS = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")


@dataclass(frozen=True, slots=True)
class Placed:
    """Bytes of one thing. ram: the main memory."""

    what: str
    vram: int
    ram: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes in the file. tied: the output matrix is the token embedding, of which a GPU needs its own copy.
    kv_shares: how much of the cache is each layer's."""

    layers: tuple[int, ...]
    input: int
    output: int
    tied: int
    kv_shares: tuple[float, ...]

    @property
    def total(self) -> int:
        return sum(self.layers) + self.input + self.output

    @property
    def most_gpu_layers(self) -> int:
        """All of them, as n_gpu_layers counts: the output is one more."""
        return len(self.layers) + 1


def weights_of(path: Path) -> Weights:
    """From the header alone; raises ModelLoadError for what is no GGUF of a model."""
    headers = read_headers(path)
    first, tensors = headers[0], merged(headers)
    architecture = first.fields.get("general.architecture")
    n_layer = max(1, first.number(f"{architecture}.block_count", 1))
    layers, ends = [0] * n_layer, {True: 0, False: 0}
    for name, tensor in tensors.items():
        match = _LAYER.match(name)
        if match and int(match[1]) < n_layer:
            layers[int(match[1])] += tensor.bytes
        else:
            ends[name.startswith(_INPUTS)] += tensor.bytes
    heads = first.fields.get(f"{architecture}.attention.head_count_kv", 1)
    shares = np.broadcast_to(np.asarray(heads, float), (n_layer,)) if np.size(heads) in (1, n_layer) else None
    if shares is None or not shares.sum() > 0:
        shares = np.ones(n_layer)
    embedding = tensors.get("token_embd.weight")
    tied = embedding.bytes if embedding and "output.weight" not in tensors else 0
    return Weights(tuple(layers), ends[True], ends[False], tied, tuple((shares / shares.sum()).tolist()))


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """A model with one context. title: what it is in this plan (target, draft)."""

    title: str
    weights: Weights
    context: ContextMemory
    offload_kqv: bool = True

    def placed(self, n_gpu_layers: int) -> tuple[Placed, ...]:
        """Where everything is with so many layers on the GPU, the first of which is the output; a compute
        buffer that was reckoned without a GPU stands for the GPU's, too."""
        weights, n_layer = self.weights, len(self.weights.layers)
        n = min(n_gpu_layers, weights.most_gpu_layers)
        first = n_layer - max(0, n - 1)  # of the layers on the GPU
        on_gpu = sum(weights.layers[first:]) + (weights.output + weights.tied if n else 0)
        in_ram = weights.total - sum(weights.layers[first:]) - (weights.output if n else 0)
        cache = round(self.context.cache * sum(weights.kv_shares[first:])) if self.offload_kqv else 0
        device, host = self._compute(n)
        return (
            Placed(f"{self.title} weights", on_gpu, in_ram),
            Placed(f"{self.title} cache", cache, self.context.cache - cache),
            Placed(f"{self.title} compute", device, host),
            Placed(f"{self.title} logits", 0, self.context.rows),
        )

    def _compute(self, n_gpu_layers: int) -> tuple[int, int]:
        """Bytes on the GPU, and in the main memory."""
        context = self.context
        device, host = _apart(context.compute)
        if n_gpu_layers == 0:
            return 0, host or device
        device = device or host - context.embedded  # made in the main memory, handed over
        if n_gpu_layers == self.weights.most_gpu_layers:
            return device, context.inputs
        some = {1: context.output, 2: min(context.last, device)}
        return some.get(n_gpu_layers, device), _apart(context.layers)[1] or sum(context.layers.values())


def _apart(compute: dict[str, int]) -> tuple[int, int]:
    """Bytes on a GPU, and in the main memory, as far as llama.cpp reckoned with either."""
    host = sum(n for name, n in compute.items() if name.startswith("CPU"))
    return sum(compute.values()) - host, host


class Reckoner:
    """Reads a model's header once and reckons contexts of it."""

    def __init__(self, title: str, path: Path, settings: ModelSettings) -> None:
        self.title, self.path = title, path
        self.weights = weights_of(path)
        self.planned = PlannedModel(path, settings)
        self._contexts: dict[ContextSettings, ContextMemory] = {}  # variants of a plan ask for few

    def memory(self, context: ContextSettings) -> ModelMemory:
        if context not in self._contexts:
            self._contexts[context] = self.planned.context(context)
        return ModelMemory(self.title, self.weights, self._contexts[context], context.offload_kqv)

    def resized(self, context: ContextSettings, share: float) -> ModelMemory:
        """The same model in another quantization, by `share` of its bytes."""
        weights = self.weights
        scaled = replace(
            weights,
            layers=tuple(int(n * share) for n in weights.layers),
            input=int(weights.input * share),
            output=int(weights.output * share),
            tied=int(weights.tied * share),
        )
        return replace(self.memory(context), weights=scaled)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.planned.close()
