"""llama.cpp's own EAGLE-3 graph, fed with features and tokens of our choice.

Knows the calls that its server makes of such a head (common/speculative.cpp); only what exported files are
compared with needs it, so it runs chains of one sequence, in float32 on one thread.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adapters.float_view import float_view
from adapters.llama_hidden import pointer_getter
from adapters.llama_lib import bind, library
from adapters.target import FloatArray

_P = ctypes.c_void_p
_FLOATS = ctypes.POINTER(ctypes.c_float)


class Eagle3Graph:
    """A head's context beside one of its target; every call goes on where the last one ended."""

    def __init__(self, context: Any, n_vocab: int, width: int) -> None:
        self._context, self._n_vocab, self._width, self._n = context, n_vocab, width, 0
        names = ("llama_set_embeddings_nextn", "_Z26llama_set_embeddings_nextnP13llama_contextbb")
        bind(names, [_P, ctypes.c_bool, ctypes.c_bool], None)(context, True, False)
        self._nextn: Any = None
        for name in ("llama_get_embeddings_nextn", "_Z26llama_get_embeddings_nextnP13llama_context"):
            if hasattr(library()._lib, name):
                self._nextn = pointer_getter(name)

    def fuse(self, features: FloatArray) -> FloatArray:
        """`[n, 3 * h]` -> `[n, width]`."""
        batch, keep = _batch(features, None, range(len(features)))
        assert library().llama_encode(self._context, batch) == 0, keep
        return self._rows(len(features))

    def step(self, g: FloatArray, tokens: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Pairs of a feature and the token after it -> (logits `[n, n_vocab]`, what is fed back)."""
        batch, keep = _batch(g, tokens, range(self._n, self._n + len(g)))
        assert library().llama_decode(self._context, batch) == 0, keep
        self._n += len(g)
        address = ctypes.cast(library().llama_get_logits(self._context), _P).value or 0
        return float_view(address, len(g), self._n_vocab).copy(), self._rows(len(g))

    def _rows(self, n: int) -> FloatArray:
        return float_view(self._nextn(self._context), n, self._width).copy()


def _batch(rows: FloatArray, tokens: Sequence[int] | None, positions: range) -> tuple[Any, list[Any]]:
    """A batch of vectors, with tokens or without; and what must live as long as it."""
    n, values = len(rows), np.ascontiguousarray(rows, np.float32)
    integers = ctypes.c_int32 * n
    ids, one = None if tokens is None else integers(*tokens), (ctypes.c_int32 * 1)(0)
    sequences = (ctypes.POINTER(ctypes.c_int32) * n)(*[one] * n)
    places, counts, outputs = integers(*positions), integers(*[1] * n), (ctypes.c_int8 * n)(*[1] * n)
    embd = values.ctypes.data_as(_FLOATS)
    batch = library().llama_batch(n, ids, embd, places, counts, sequences, outputs)
    return batch, [values, ids, one, sequences, places, counts, outputs]


@contextmanager
def eagle3_graph(target: Path, head: Path, n_vocab: int, width: int) -> Iterator[Eagle3Graph]:
    with ExitStack() as stack:
        first = _open(stack, target, None)
        yield Eagle3Graph(_open(stack, head, first), n_vocab, width)


def _open(stack: ExitStack, path: Path, other: Any) -> Any:
    lib = library()
    model_params = lib.llama_model_default_params()
    model_params.n_gpu_layers, model_params.use_extra_bufts = 0, False
    model = lib.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, path
    stack.callback(lib.llama_model_free, model)
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = lib.GGML_TYPE_F32
    params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.ctx_other = other
    context = lib.llama_init_from_model(model, params)
    assert context, path
    stack.callback(lib.llama_free, context)
    return ctypes.cast(context, _P).value if other else context
