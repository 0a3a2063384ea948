"""Passes of few rows by ggml: one graph for each number of rows and stretch of the cache, made once.

PyTorch's some 60 operations of a draft step cost as much as their arithmetic; a graph is one call. Knows
graphs and what they are given; the network is `heads.ggml_network`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.ggml import Graph, Memory
from adapters.ggml_lib import Cpu
from adapters.target import FloatArray
from heads.draft_cache import DraftCache
from heads.eagle import Eagle
from heads.ggml_network import Cells, GgmlNetwork, over
from heads.passes import Place

MOST_ROWS = 8  # of one graph; more go in turns
KEEP, READ, GROW = "keep", "read", "grow"  # what a graph is for, as heads.passes says it
_PADDING = 256  # rows of the cache; one graph serves them all, as it skips what is masked
_MOST_GRAPHS = 32  # kept


class GgmlSaid(NamedTuple):
    feedback: Tensor
    logits: Tensor


class Room:
    """A cache's memory as tensors of ggml, for as long as it stays where it is."""

    def __init__(self, cache: DraftCache, n_layers: int) -> None:
        self.n, self._memory = cache.n_room, Memory()
        pairs = [cache.memory(layer) for layer in range(n_layers)]
        self.layers = [(over(self._memory, keys), over(self._memory, values)) for keys, values in pairs]


class Step:
    """A graph with its inputs, for `n` rows that see the first `n_seen` rows of the cache."""

    def __init__(self, network: GgmlNetwork, room: Room, cpu: Cpu, use: str, n: int, n_seen: int) -> None:
        spec, memory, graph = network.spec, Memory(), Graph()
        width = spec.n_taps * spec.hidden_size if use != GROW and spec.family == "eagle3" else spec.width
        self.values = np.zeros((n, width), np.float32)
        self.tokens, self.positions = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self.places, self.mask = np.zeros(n, np.int64), np.zeros((n, n_seen), np.float16)
        cells = Cells(room.layers, *(memory.array(x) for x in (self.places, self.positions, self.mask)))
        g, ids, self._graph = memory.array(self.values), memory.array(self.tokens), graph
        g = g if use == GROW else network.fuse(graph, g)
        out = network.forward(graph, g, ids, cells, {KEEP: 0, READ: 1, GROW: n}[use])
        said = graph.finish(cpu, *(() if out is None else network.say(graph, out)))
        self.said = GgmlSaid(*map(torch.from_numpy, said)) if said else None

    def compute(self, values: FloatArray, tokens: Sequence[int], place: Place) -> None:
        """What it says, if anything, is in `said`, the same memory each time."""
        n = len(tokens)
        self.values[:], self.tokens[:], self.positions[:] = values, tokens, place.positions
        self.places[:] = range(place.start, place.start + n)
        self.mask.fill(-np.inf)
        if place.mask is None:
            self.mask[:, place.first : place.start + n] = 0
        else:
            self.mask[:, place.first : place.first + place.mask.shape[1]][place.mask] = 0
        self._graph.compute()


class GgmlPass:
    """Of a network on a CPU, over a cache of float32 or float16."""

    def __init__(self, network: Eagle, cache: DraftCache, n_threads: int) -> None:
        self._network, self._cache, self._cpu = GgmlNetwork(network), cache, Cpu(n_threads)
        self._room: Room | None = None
        self._steps: dict[tuple[str, int, int], Step] = {}  # the one used last is the last

    def keep(self, features: FloatArray, tokens: Sequence[int], place: Place) -> None:
        for rows, part in _parts(place, len(tokens)):
            self._run(KEEP, features[rows], tokens[rows], part)

    def read(self, features: FloatArray, tokens: Sequence[int], place: Place) -> GgmlSaid:
        *others, (rows, last) = _parts(place, len(tokens))
        for before, part in others:
            self._run(KEEP, features[before], tokens[before], part)
        # a copy, for whatever is grown before the next read, and wherever the cache moves
        return _kept(self._said(READ, features[rows], tokens[rows], last))

    def grow(self, g: Tensor, tokens: Sequence[int], place: Place) -> GgmlSaid:
        if len(tokens) <= MOST_ROWS:
            said = self._said(GROW, g.numpy(), tokens, place)
            return GgmlSaid(said.feedback.clone(), said.logits)
        parts = list(_parts(place, len(tokens)))
        found = [_kept(self._said(GROW, g[rows].numpy(), tokens[rows], part)) for rows, part in parts]
        return GgmlSaid(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))

    def _said(self, use: str, values: FloatArray, tokens: Sequence[int], place: Place) -> GgmlSaid:
        said = self._run(use, values, tokens, place).said
        assert said is not None
        return said

    def _run(self, use: str, values: FloatArray, tokens: Sequence[int], place: Place) -> Step:
        if not 0 <= min(tokens) <= max(tokens) < self._network.n_embeddings:
            raise IndexError(f"tokens {tokens} beyond the {self._network.n_embeddings} of the embedding")
        step = self._step(use, len(tokens), place.start + len(tokens))
        step.compute(values, tokens, place)
        return step

    def _step(self, use: str, n: int, n_used: int) -> Step:
        room = self._room
        if room is None or room.n != self._cache.n_room:
            self._steps.clear()  # they point to where it was
            room = self._room = Room(self._cache, self._network.spec.n_layers)
        if n_used > room.n:
            raise ValueError(f"{n_used} rows in a cache with room for {room.n}; reserve it first")
        n_seen = min(room.n, -(-n_used // _PADDING) * _PADDING)
        key = (use, n, n_seen)
        step = self._steps.pop(key, None)
        if step is None:
            step = Step(self._network, room, self._cpu, *key)
        self._steps[key] = step
        if len(self._steps) > _MOST_GRAPHS:
            del self._steps[next(iter(self._steps))]
        return step


def _kept(said: GgmlSaid) -> GgmlSaid:
    """A copy: the next pass writes to the same memory."""
    return GgmlSaid(said.feedback.clone(), said.logits.clone())


def _parts(place: Place, n: int) -> Iterator[tuple[slice, Place]]:
    """As many rows at a time as a graph may have; none sees those that come after it."""
    for first in range(0, n, MOST_ROWS):
        rows = slice(first, min(n, first + MOST_ROWS))
        seen = place.start + rows.stop - place.first
        mask = None if place.mask is None else place.mask[rows, :seen]
        yield rows, Place(place.start + first, place.first, place.positions[rows], mask)
