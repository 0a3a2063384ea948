"""Drafting with an EAGLE network: what it has read of the text, and the tree that grows behind it.

A pair is a target feature and the token after it: (f_t, x_t+1), at rotary position t. What is read stays;
what is grown is of the head's own features and is gone with the next read. Knows pairs and nodes; nothing
of targets, of sampling or of what is worth growing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.target import FloatArray
from heads.draft_cache import DraftCache
from heads.eagle import Eagle
from heads.passes import Pass, Place, Said, TorchPass

_STRETCH = 256  # pairs read at once: their mask grows with the square
_FEW = 64  # pairs up to which passes of few rows are the quicker ones
_LEAST = 1e-30  # a probability, so that its logarithm is a number
_MOST_NODES = 64  # first size of a tree's ancestor table


class Frontier(NamedTuple):
    """For each of m nodes the k likeliest tokens after it, likeliest first: `tokens [m, k]` target ids, `logp
    [m, k]` their log-probabilities under the whole draft vocabulary."""

    tokens: NDArray[np.int64]
    logp: FloatArray


def likeliest_tokens(logits: Tensor, k: int, ids: Tensor | None) -> tuple[NDArray[np.int64], FloatArray]:
    """(tokens, log-probabilities), `[m, k]` each, likeliest first; ids: the target's, of the columns."""
    if k == 1 and len(logits) == 1:  # a step of a chain: numpy is quicker at so little
        row = logits[0].float().cpu().numpy()
        best = int(row.argmax())
        logp = -np.log(np.exp(row - row[best]).sum(dtype=np.float32))
        return np.array([[best if ids is None else int(ids[best])]]), np.array([[logp]], np.float32)
    probs = torch.softmax(logits.float(), dim=-1)
    found = probs.topk(min(k, probs.shape[-1]), dim=-1)
    tokens = found.indices if ids is None else ids[found.indices]
    return tokens.cpu().numpy(), found.values.clamp_(min=_LEAST).log_().cpu().numpy()


class DraftState:
    """One text's state on a network. `n_pairs`: pairs read and kept."""

    def __init__(self, network: Eagle, window: int = 0, *, ggml_threads: int = 0) -> None:
        """window: pairs that attention looks back, 0 = all of them. ggml_threads: ggml computes few rows with
        so many threads, 0 = PyTorch computes all."""
        spec = network.spec
        self.network, self._window = network, window
        # ggml computes in float32, whatever the weights are in
        dtype = torch.float32 if ggml_threads else network.dtype
        self._cache = DraftCache(spec.n_layers, spec.n_kv_heads, spec.head_dim, dtype, network.device)
        self._many: Pass = TorchPass(network, self._cache)
        self._few: Pass = self._many
        if ggml_threads:
            from heads.ggml_pass import GgmlPass

            self._few = GgmlPass(network, self._cache, ggml_threads)
        self._said: Said | None = None  # after the newest pair
        self._feedback: list[Tensor] = []  # of the root, then of each node, [1, width]
        self._depth: list[int] = []
        self._above = np.zeros((_MOST_NODES, _MOST_NODES), bool)  # [node, ancestor or itself]

    @property
    def n_pairs(self) -> int:
        return self._cache.n

    @property
    def n_bytes(self) -> int:
        """Of keys and values."""
        return self._cache.n_bytes

    def truncate(self, n: int) -> None:
        """Keep the first `n` pairs; nothing can be grown before the next `read`."""
        self._cache.n = min(n, self._cache.n)
        self._said = None

    @torch.inference_mode()
    def read(self, features: FloatArray, tokens: Sequence[int]) -> None:
        """Append pairs: features `[n, F]` of the target and the n tokens after them."""
        most, start, n = _STRETCH if self._few is self._many else _FEW, 0, len(tokens)
        while n - start > most:
            stop = min(n - 1, start + _STRETCH)
            self._many.keep(features[start:stop], tokens[start:stop], self._next_place(stop - start))
            self._cache.n += stop - start
            start = stop
        if start < n:
            self._said = self._few.read(features[start:], tokens[start:], self._next_place(n - start))
            self._cache.n += n - start

    def _next_place(self, n: int) -> Place:
        """Of `n` further pairs."""
        start = self._cache.n
        self._cache.reserve(start + n + _MOST_NODES)
        first = max(0, start + 1 - self._window) if self._window else 0
        return Place(start, first, range(start, start + n), self._causal(first, start, n))

    def _causal(self, first: int, start: int, n: int) -> NDArray[np.bool_] | None:
        """What n new rows from `start` on see of the rows from `first` on."""
        if n == 1:
            return None
        row, column = np.arange(start, start + n)[:, None], np.arange(first, start + n)
        mask = column <= row
        return mask & (column > row - self._window) if self._window else mask

    @torch.inference_mode()
    def open(self, k: int) -> Frontier:
        """Begin a tree: the k likeliest tokens after the newest pair's token."""
        if self._said is None:
            raise ValueError("read a pair first")
        self._feedback, self._depth = [self._said.feedback], []
        return self._frontier(self._said, k)

    @torch.inference_mode()
    def grow(self, parents: Sequence[int], tokens: Sequence[int], k: int) -> Frontier:
        """Add a node for each of m tokens, and give the k likeliest tokens after each.

        parents `[m]`: node numbers in the order in which they were added, -1 = the root.
        """
        m, settled = len(tokens), self._cache.n
        self._cache.reserve(settled + len(self._depth) + m)
        depths = [0 if parent < 0 else self._depth[parent] + 1 for parent in parents]
        g = self._feedback[1 + parents[0]] if m == 1 else torch.cat([self._feedback[1 + p] for p in parents])
        said = self._few.grow(g, tokens, self._tree_place(parents, depths, settled))
        self._feedback += [said.feedback] if m == 1 else list(torch.split(said.feedback, 1))
        self._depth += depths
        return self._frontier(said, k)

    def _tree_place(self, parents: Sequence[int], depths: list[int], settled: int) -> Place:
        """Nodes see the settled pairs (as far as the window goes), their ancestors and themselves."""
        n_old, m = len(self._depth), len(parents)
        self._note_ancestors(parents)
        last = settled + max(depths) + 1
        first = max(0, last - self._window) if self._window else 0
        first = min(first, settled)
        positions = [settled + depth for depth in depths]
        above = self._above[n_old : n_old + m, : n_old + m]
        if above.all():  # a chain
            return Place(settled + n_old, first, range(last - 1, last), None)
        mask = np.ones((m, settled - first + n_old + m), bool)
        mask[:, settled - first :] = above
        return Place(settled + n_old, first, positions, mask)

    def _note_ancestors(self, parents: Sequence[int]) -> None:
        n_old, n_new = len(self._depth), len(self._depth) + len(parents)
        if n_new > len(self._above):
            larger = np.zeros((2 * n_new, 2 * n_new), bool)
            larger[:n_old, :n_old] = self._above[:n_old, :n_old]
            self._above = larger
        for node, parent in enumerate(parents, start=n_old):
            self._above[node] = self._above[parent] if parent >= 0 else False
            self._above[node, node] = True

    def _frontier(self, said: Said, k: int) -> Frontier:
        return Frontier(*likeliest_tokens(said.logits, k, self.network.d2t))
