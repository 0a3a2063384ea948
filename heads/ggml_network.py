"""An EAGLE network as a graph of ggml: the weights where PyTorch has them, and the same forward pass.

Knows how `heads.eagle`, `heads.eagle3` and `heads.layer` are said in ggml's operations; nothing of when a
graph is computed. Shapes are ggml's: `[width, n]` is n rows.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from adapters.errors import HeadError
from adapters.ggml import Graph, Memory, Tensor
from adapters.ggml_lib import Kind, missing_functions
from heads.eagle import Eagle
from heads.eagle3 import Eagle3
from heads.layer import Layer
from heads.matrix import BLOCK, BlockMatrix
from heads.rope import frequencies
from heads.spec import Spec

_KINDS = {torch.float32: Kind.F32, torch.float16: Kind.F16, torch.bfloat16: Kind.BF16}


def why_no_graph(spec: Spec) -> str:
    """Why this head's steps cannot be a graph of ggml here; empty where they can."""
    if spec.family == "medusa":
        return "Medusa's heads are few products of matrices already"
    if missing := missing_functions():
        return f"this llama.cpp does not export {', '.join(missing)}"
    return ""


def over(memory: Memory, values: torch.Tensor) -> Tensor:
    """`values [..., b, a]` as `[a, b, ...]`, where they are and as long as they are there."""
    if values.dtype not in _KINDS or values.device.type != "cpu" or not values.is_contiguous():
        raise HeadError(f"no graph of numbers in {values.dtype} on {values.device}")
    return memory.tensor(values.data_ptr(), _KINDS[values.dtype], *reversed(values.shape))


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Tensor  # [n_in, n_out]
    bias: Tensor | None

    def of(self, graph: Graph, x: Tensor) -> Tensor:
        y = graph.product(self.weight, x)
        return y if self.bias is None else graph.add(y, self.bias)


@dataclass(frozen=True, slots=True)
class Cells:
    """What attention reads and writes: of each layer (keys, values) `[head_dim, n_room, n_kv_heads]`. Rows of
    a pass go to `places [n]`, turned by `positions [n]`, and see what `mask [n_seen, n]` adds 0 to."""

    layers: list[tuple[Tensor, Tensor]]
    places: Tensor
    positions: Tensor
    mask: Tensor

    def rows(self, graph: Graph, first: int, n: int) -> "Cells":
        """Those of `n` rows from `first` on."""
        if n == self.mask.shape[1]:
            return self
        places, positions = (
            graph.view(x, (n,), offset=first * x.strides[0]) for x in (self.places, self.positions)
        )
        mask = graph.view(self.mask, (self.mask.shape[0], n), offset=first * self.mask.strides[1])
        return Cells(self.layers, places, positions, mask)


def _from(graph: Graph, x: Tensor, first: int) -> Tensor:
    """Rows `first` and on of `x [width, n]`."""
    shape = (x.shape[0], x.shape[1] - first)
    return graph.view(x, shape, offset=first * x.strides[1]) if first else x


class GgmlLayer:
    """`heads.layer.Layer`."""

    def __init__(self, network: "GgmlNetwork", layer: Layer) -> None:
        self._heads, self._kv, self._d, self._eps = layer.n_heads, layer.n_kv, layer.head_dim, layer.eps
        self._qkv, self._o = network.linear(layer.qkv), network.linear(layer.o)
        self._key_value = network.linear(layer.qkv, layer.n_heads * layer.head_dim)
        self._gate_up, self._down = network.linear(layer.gate_up), network.linear(layer.down)
        self._input_norm = network.optional(layer.input_norm)
        self._post_norm = network.numbers(layer.post_norm)
        self._k_norm: Tensor | None = None  # [head_dim]
        self._qk_norm: Tensor | None = None  # [head_dim, heads of queries and keys]
        if layer.q_norm is not None and layer.k_norm is not None:
            parts = [layer.q_norm.expand(self._heads, -1), layer.k_norm.expand(self._kv, -1)]
            self._qk_norm, self._k_norm = network.numbers(torch.cat(parts)), network.numbers(layer.k_norm)

    def entering(self, graph: Graph, residual: Tensor) -> Tensor:
        norm = self._input_norm
        return residual if norm is None else graph.rms_norm(residual, norm, self._eps)

    def forward(
        self, graph: Graph, network: "GgmlNetwork", residual: Tensor, x: Tensor, cells: Cells, index: int
    ) -> Tensor:
        r = graph.add(residual, self._o.of(graph, self._attention(graph, network, x, cells, index)))
        z = self._gate_up.of(graph, graph.rms_norm(r, self._post_norm, self._eps))
        return graph.add(r, self._down.of(graph, graph.swiglu(z)))

    def keep(self, graph: Graph, network: "GgmlNetwork", x: Tensor, cells: Cells, index: int) -> None:
        """Of the rows of `cells` only what others see of them."""
        self._written(graph, network, self._key_value.of(graph, x), 0, cells, index)

    def _attention(self, graph: Graph, network: "GgmlNetwork", x: Tensor, cells: Cells, index: int) -> Tensor:
        n, d, heads, kv = x.shape[1], self._d, self._heads, self._kv
        qk, written = self._written(graph, network, self._qkv.of(graph, x), heads, cells, index)
        queries = graph.view(qk, (d, n, heads), ((heads + kv) * d * 4, d * 4))
        shape = (d, cells.mask.shape[0], kv)  # the part of the cache that the mask is about
        seen = [graph.view(memory, shape, memory.strides[1:3]) for memory in written]
        mixed = graph.attention(queries, seen[0], seen[1], cells.mask)
        return graph.view(mixed, (heads * d, n))

    def _written(
        self, graph: Graph, network: "GgmlNetwork", rows: Tensor, heads: int, cells: Cells, index: int
    ) -> tuple[Tensor, list[Tensor]]:
        """(queries and keys, turned, `[d, heads + kv, n]`; the cache with the new keys, and with the new
        values). rows `[(heads + 2 kv) * d, n]`: of as many query heads, then of the keys and values."""
        n, d, kv = rows.shape[1], self._d, self._kv
        one, row, turned = d * 4, (heads + 2 * kv) * d * 4, (heads + kv) * d * 4  # bytes
        qk, norm = graph.view(rows, (d, heads + kv, n), (one, row)), self._qk_norm if heads else self._k_norm
        if norm is not None:
            qk = graph.rms_norm(qk, norm, self._eps)
        qk = graph.rotate(qk, cells.positions, network.factors, network.theta)
        keys = graph.view(qk, (d, n, kv), (turned, one), heads * one)
        values = graph.view(rows, (d, n, kv), (row, one), (heads + kv) * one)
        pairs = zip(cells.layers[index], (keys, values), strict=True)
        return qk, [graph.write(memory, new, cells.places) for memory, new in pairs]


class GgmlNetwork:
    """Eagle or Eagle3. Matrices, embeddings and the cache stay where PyTorch has them; norms and biases are
    copied, as ggml wants them in float32."""

    def __init__(self, network: Eagle) -> None:
        if reason := why_no_graph(network.spec):
            raise HeadError(f"no graph of this head: {reason}")
        self._memory, self._kept = Memory(), list[torch.Tensor]()
        spec = self.spec = network.spec
        self.theta, self._scale, self._eps = spec.rope.theta, network.embedding_scale, spec.eps
        exponents = torch.arange(0, spec.head_dim, 2, dtype=torch.float64) / spec.head_dim
        turns = frequencies(spec.rope, spec.head_dim)
        self.factors = self.numbers(spec.rope.theta**-exponents / turns)
        self.n_embeddings = len(network.embeddings)
        self._embeddings = self.tensor(network.embeddings)
        self._fc, self._output = self.linear(network.fc), self.linear(network.output)
        self._norm, self._input_norm = self.optional(network.norm), self.optional(network.input_norm)
        self._hidden_norm = self.optional(network.hidden_norm)
        self._taps_norm, self._tap_norms = self._before_fc(network)
        self._layers = [GgmlLayer(self, layer) for layer in network.layers if isinstance(layer, Layer)]

    def _before_fc(self, network: Eagle) -> tuple[Tensor | None, Tensor | None]:
        """(norm over all taps, `[h, n_taps]` norms of each)."""
        if not isinstance(network, Eagle3):
            return None, None
        each = self.numbers(torch.stack(list(network.tap_norms))) if len(network.tap_norms) else None
        return self.optional(network.taps_norm), each

    # -- weights ---------------------------------------------------------------------------------

    def tensor(self, values: torch.Tensor) -> Tensor:
        self._kept.append(values.detach().contiguous())
        return over(self._memory, self._kept[-1])

    def numbers(self, values: torch.Tensor) -> Tensor:
        return self.tensor(values.detach().float())

    def optional(self, values: torch.Tensor | None) -> Tensor | None:
        return None if values is None else self.numbers(values)

    def linear(self, matrix: nn.Module, first: int = 0) -> Linear:
        """Its outputs from `first` on."""
        if not isinstance(matrix, BlockMatrix | nn.Linear):
            raise HeadError(f"no graph of a {type(matrix).__name__}")
        rows, bias = matrix.weight[first:], None if matrix.bias is None else self.numbers(matrix.bias[first:])
        if isinstance(matrix, nn.Linear):
            return Linear(self.tensor(rows), bias)
        self._kept.append(rows)
        n_in = rows.shape[1] // (2 + BLOCK) * BLOCK
        return Linear(self._memory.tensor(rows.data_ptr(), Kind.Q8_0, n_in, len(rows)), bias)

    # -- the forward pass ------------------------------------------------------------------------

    def fuse(self, graph: Graph, features: Tensor) -> Tensor:
        """`[F, n]` features of the target -> `[width, n]`."""
        if self.spec.family != "eagle3":
            return features
        x, n = features, features.shape[1]
        if self._taps_norm is not None:
            x = graph.rms_norm(x, self._taps_norm, self._eps)
        if self._tap_norms is not None:
            h, n_taps = self._tap_norms.shape[:2]
            each = graph.rms_norm(graph.view(x, (h, n_taps, n)), self._tap_norms, self._eps)
            x = graph.view(each, (h * n_taps, n))
        return self._fc.of(graph, x)

    def forward(self, graph: Graph, g: Tensor, tokens: Tensor, cells: Cells, n_out: int) -> Tensor | None:
        """g `[width, n]`, tokens `[n]` -> out `[width, n_out]`, of the last rows; None of none."""
        residual, x = self._enter(graph, self._embed(graph, tokens), g)
        for index, (layer, following) in enumerate(pairwise(self._layers)):
            residual = layer.forward(graph, self, residual, x, cells, index)
            x = following.entering(graph, residual)
        index, n_kept = len(self._layers) - 1, x.shape[1] - n_out
        if n_kept:
            kept = graph.view(x, (x.shape[0], n_kept))
            self._layers[index].keep(graph, self, kept, cells.rows(graph, 0, n_kept), index)
        if not n_out:
            return None
        residual, x = (_from(graph, rows, n_kept) for rows in (residual, x))
        return self._layers[index].forward(graph, self, residual, x, cells.rows(graph, n_kept, n_out), index)

    def say(self, graph: Graph, out: Tensor) -> tuple[Tensor, Tensor]:
        """(feedback `[width, n]`, logits `[n_vocab, n]`)."""
        normed = self._normed(graph, self._norm, out)
        return normed if self.spec.norm_output else out, self._output.of(graph, normed)

    def _embed(self, graph: Graph, tokens: Tensor) -> Tensor:
        rows = graph.rows(self._embeddings, tokens)
        return rows if self._scale == 1.0 else graph.scale(rows, self._scale)

    def _enter(self, graph: Graph, e: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """(residual, what the first layer's attention reads)."""
        g_normed = self._normed(graph, self._hidden_norm, g)
        x = graph.concat(self._normed(graph, self._input_norm, e), g_normed)
        if self.spec.family != "eagle3":
            z = self._fc.of(graph, x)
            return z, z
        return (g_normed if self.spec.norm_before_residual else g), x

    def _normed(self, graph: Graph, weight: Tensor | None, x: Tensor) -> Tensor:
        return x if weight is None else graph.rms_norm(x, weight, self._eps)
