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
from heads.layer import View
from heads.rope import RotaryTable

_STRETCH = 256  # pairs read at once: their mask grows with the square
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

    def __init__(self, network: Eagle, window: int = 0) -> None:
        """window: pairs that attention looks back, 0 = all of them."""
        spec = network.spec
        self.network, self._window = network, window
        self._rope = RotaryTable(spec.rope, spec.head_dim, network.dtype, network.device)
        self._cache = DraftCache(spec.n_layers, spec.n_kv_heads, spec.head_dim, network.dtype, network.device)
        self._out: Tensor | None = None  # of the newest pair, [1, width]
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
        self._out = None

    @torch.inference_mode()
    def read(self, features: FloatArray, tokens: Sequence[int]) -> None:
        """Append pairs: features `[n, F]` of the target and the n tokens after them."""
        for start in range(0, len(tokens), _STRETCH):
            stop = min(len(tokens), start + _STRETCH)
            self._read(features[start:stop], tokens[start:stop])

    def _read(self, features: FloatArray, tokens: Sequence[int]) -> None:
        network, start, n = self.network, self._cache.n, len(tokens)
        self._cache.reserve(start + n + _MOST_NODES)
        g = network.fuse(torch.tensor(features, device=network.device))  # a copy, as they may be read-only
        ids = torch.tensor(tokens, dtype=torch.int64, device=network.device)
        cos, sin = self._rope.rows(slice(start, start + n), start + n)
        first = max(0, start + 1 - self._window) if self._window else 0
        view = View(start, first, cos, sin, self._causal(first, start, n))
        out = network(g, ids, self._cache, view)
        self._cache.n = start + n
        self._out = out[-1:]

    def _causal(self, first: int, start: int, n: int) -> Tensor | None:
        """What n new rows from `start` on see of the rows from `first` on."""
        if n == 1:
            return None
        row = torch.arange(start, start + n, device=self.network.device)[:, None]
        column = torch.arange(first, start + n, device=self.network.device)
        mask = column <= row
        return mask & (column > row - self._window) if self._window else mask

    @torch.inference_mode()
    def open(self, k: int) -> Frontier:
        """Begin a tree: the k likeliest tokens after the newest pair's token."""
        if self._out is None:
            raise ValueError("read a pair first")
        self._feedback, self._depth = [self.network.feedback(self._out)], []
        return self._frontier(self._out, k)

    @torch.inference_mode()
    def grow(self, parents: Sequence[int], tokens: Sequence[int], k: int) -> Frontier:
        """Add a node for each of m tokens, and give the k likeliest tokens after each.

        parents `[m]`: node numbers in the order in which they were added, -1 = the root.
        """
        network, n_old, m, settled = self.network, len(self._depth), len(tokens), self._cache.n
        self._cache.reserve(settled + n_old + m)
        depths = [0 if parent < 0 else self._depth[parent] + 1 for parent in parents]
        g = self._feedback[1 + parents[0]] if m == 1 else torch.cat([self._feedback[1 + p] for p in parents])
        ids = torch.tensor(tokens, dtype=torch.int64, device=network.device)
        view = self._tree_view(parents, depths, settled)
        out = network(g, ids, self._cache, view)
        feedback = network.feedback(out)
        self._feedback += [feedback] if m == 1 else list(torch.split(feedback, 1))
        self._depth += depths
        return self._frontier(out, k)

    def _tree_view(self, parents: Sequence[int], depths: list[int], settled: int) -> View:
        """Nodes see the settled pairs (as far as the window goes), their ancestors and themselves."""
        n_old, m = len(self._depth), len(parents)
        self._note_ancestors(parents)
        last = settled + max(depths) + 1
        cos, sin = self._rope.rows(self._places(depths, settled), last)
        first = max(0, last - self._window) if self._window else 0
        first = min(first, settled)
        above = self._above[n_old : n_old + m, : n_old + m]
        if above.all():  # a chain
            return View(settled + n_old, first, cos, sin, None)
        mask = np.ones((m, settled - first + n_old + m), bool)
        mask[:, settled - first :] = above
        return View(settled + n_old, first, cos, sin, torch.from_numpy(mask).to(self.network.device))

    def _places(self, depths: list[int], settled: int) -> slice | Tensor:
        if len(depths) == 1:
            return slice(settled + depths[0], settled + depths[0] + 1)
        return torch.tensor([settled + depth for depth in depths], device=self.network.device)

    def _note_ancestors(self, parents: Sequence[int]) -> None:
        n_old, n_new = len(self._depth), len(self._depth) + len(parents)
        if n_new > len(self._above):
            larger = np.zeros((2 * n_new, 2 * n_new), bool)
            larger[:n_old, :n_old] = self._above[:n_old, :n_old]
            self._above = larger
        for node, parent in enumerate(parents, start=n_old):
            self._above[node] = self._above[parent] if parent >= 0 else False
            self._above[node, node] = True

    def _frontier(self, out: Tensor, k: int) -> Frontier:
        return Frontier(*likeliest_tokens(self.network.logits(out), k, self.network.d2t))
