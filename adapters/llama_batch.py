"""A `llama_batch` whose arrays are numpy's: filling it costs no ctypes call per token.

Knows the memory layout of `llama_batch` and how a tree becomes sequence sets (llama.cpp shows a
token to a query iff they share a sequence); knows no context and decodes nothing.
"""

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.llama_lib import library

IntArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TreeShape:
    """What the parents of a tree imply.

    depth [n]: 1 for children of the root. member [n_leaves, n]: member[l, i] iff node i lies on the
    path to leaf l.
    """

    depth: IntArray
    member: NDArray[np.bool_]

    @classmethod
    def of(cls, parents: IntArray) -> "TreeShape":
        """Shape of a tree given as `parents [n]`, each -1 (the root) or smaller than its index."""
        n = len(parents)
        ancestors = np.eye(n, dtype=np.float32)
        inner = parents >= 0
        ancestors[np.flatnonzero(inner), parents[inner]] = 1.0
        for _ in range(max(n - 1, 1).bit_length()):  # squaring doubles the reach
            ancestors = np.minimum(ancestors @ ancestors, 1.0)
        is_leaf = np.ones(n, dtype=bool)
        is_leaf[parents[inner]] = False
        return cls(ancestors.sum(axis=1).astype(np.int32), ancestors[is_leaf] > 0)


class LlamaBatch:
    """A reusable batch of up to `n_max` tokens in up to `n_seq` sequences each."""

    def __init__(self, n_max: int, n_seq: int, n_pos: int) -> None:
        """n_pos: positions are below it."""
        self.n_max, self.n_seq = n_max, n_seq
        self.token = np.zeros(n_max, np.int32)
        self.pos = np.zeros(n_max, np.int32)
        self.n_seq_id = np.zeros(n_max, np.int32)
        self.output = np.zeros(n_max, np.int8)
        self.seq = np.zeros((n_max, n_seq), np.int32)
        self._all_seqs = np.arange(n_seq, dtype=np.int32)
        self._positions = np.arange(n_pos, dtype=np.int32)
        # rows whose sequences and output flag are uniform: (how many, in how many sequences, output)
        self._uniform = (0, 0, False)
        # llama_batch.seq_id is an array of pointers, one into each row of self.seq
        self._seq_rows = self.seq.ctypes.data + self.seq.strides[0] * np.arange(n_max, dtype=np.uint64)
        self.c = library().llama_batch()
        self._point_at_arrays()

    def _point_at_arrays(self) -> None:
        i32, i8 = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int8)
        self.c.token = self.token.ctypes.data_as(i32)
        self.c.embd = ctypes.POINTER(ctypes.c_float)()
        self.c.pos = self.pos.ctypes.data_as(i32)
        self.c.n_seq_id = self.n_seq_id.ctypes.data_as(i32)
        self.c.seq_id = ctypes.cast(self._seq_rows.ctypes.data, ctypes.POINTER(i32))
        self.c.logits = self.output.ctypes.data_as(i8)

    def fill_chain(self, tokens: IntArray, start: int, n_seq: int, *, outputs: bool) -> None:
        """Consecutive tokens from position `start`, in sequences 0..n_seq-1, all or none output."""
        self._lay_out(len(tokens), start, n_seq, outputs)
        self.token[: len(tokens)] = tokens

    def fill_round(self, root: int, tokens: IntArray, start: int) -> None:
        """Root at position `start` and a drafted chain, in every sequence, all output."""
        n = len(tokens)
        self._lay_out(1 + n, start, self.n_seq, True)
        self.token[0] = root
        if n:
            self.token[1 : 1 + n] = tokens

    def fill_tree(self, root: int, tokens: IntArray, shape: TreeShape, start: int) -> None:
        """Root at position `start` in every sequence, then the nodes; leaf l becomes sequence l."""
        self.fill_round(root, tokens, start)
        n, n_leaves = len(tokens), len(shape.member)
        nodes = slice(1, 1 + n)
        self.pos[nodes] = start + shape.depth
        self.n_seq_id[nodes] = shape.member.sum(axis=0)
        # a stable sort puts the leaves that a node belongs to first, in order
        self.seq[nodes, :n_leaves] = np.argsort(~shape.member.T, axis=1, kind="stable")
        self._uniform = (0, 0, False)

    def output_last(self) -> None:
        """Make the last token an output."""
        self.output[self.c.n_tokens - 1] = 1
        self._uniform = (0, 0, False)

    def _lay_out(self, n: int, start: int, n_seq: int, outputs: bool) -> None:
        self.c.n_tokens = n
        if n == 1:
            self.pos[0] = start  # plain decoding: a slice costs more than its one number
        else:
            self.pos[:n] = self._positions[start : start + n]
        n_uniform, n_seq_before, outputs_before = self._uniform
        # most rounds look like the one before
        if n > n_uniform or n_seq != n_seq_before or outputs != outputs_before:
            self.n_seq_id[:n] = n_seq
            self.seq[:n, :n_seq] = self._all_seqs[:n_seq]
            self.output[:n] = outputs
            self._uniform = (n, n_seq, outputs)
