"""Hidden rows out of a llama.cpp context: post-norm rows and the inputs of chosen layers.

Knows which architectures capture layer inputs: asking any other one aborts the process, so the list
is checked first (read off llama.cpp's model builders; see `t_layer_inp` there).
"""

import ctypes
from typing import Any

import numpy as np

from adapters.errors import UnsupportedModel
from adapters.llama_lib import bind, library
from adapters.settings import require
from adapters.target import FloatArray, HiddenRows, HiddenTaps

LAYER_INPUT_ARCHITECTURES = frozenset(
    "bailingmoe3 deepseek4 gemma4 gpt-oss hunyuan-dense hunyuan_vl lfm2 lfm2moe llama mimo2 minimax-01 "
    "minimax-m2 muse-glimmer nanbeige nemotron_h nemotron_h_moe qwen3 qwen35 qwen35moe qwen3moe "
    "qwen3next qwen4exp".split()
)


def float_view(address: int, n_rows: int, width: int) -> FloatArray:
    """The `n_rows x width` floats at `address`, without a copy."""
    buffer = (ctypes.c_float * (n_rows * width)).from_address(address)
    view: FloatArray = np.ctypeslib.as_array(buffer).reshape(n_rows, width)
    return view


def pointer_getter(name: str) -> Any:
    """An exported `float * name(ctx)` whose result is a plain address (no ctypes pointer object)."""
    function = library()._lib[name]  # indexing makes a function object of our own
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function


def check_taps(taps: HiddenTaps, architecture: str, n_layer: int) -> None:
    """Raise UnsupportedModel for layer inputs that this architecture does not capture."""
    if not taps.layers:
        return
    if architecture not in LAYER_INPUT_ARCHITECTURES:
        raise UnsupportedModel(
            f"architecture {architecture!r} does not expose layer inputs in this llama.cpp "
            "(only post-norm rows); use a head that reads the final hidden state"
        )
    for layer in taps.layers:
        require(0 <= layer < n_layer, f"layer {layer} does not exist: the model has {n_layer} layers")


class HiddenReader:
    """Reads the rows that `taps` ask for after each decode of one context."""

    def __init__(self, ctx: Any, taps: HiddenTaps, n_embd: int) -> None:
        self.taps, self._ctx, self._n_embd = taps, ctx, n_embd
        self._set_embeddings = library().llama_set_embeddings
        self._post_norm = pointer_getter("llama_get_embeddings")
        if taps.layers:
            self._open_layers()

    def _open_layers(self) -> None:
        u32 = ctypes.c_uint32
        setter = bind(
            (
                "llama_set_embeddings_layer_inp",
                "_Z30llama_set_embeddings_layer_inpP13llama_contextjb",
            ),
            [ctypes.c_void_p, u32, ctypes.c_bool],
            None,
        )
        self._layer = bind(
            (
                "llama_get_embeddings_layer_inp",
                "_Z30llama_get_embeddings_layer_inpP13llama_contextj",
            ),
            [ctypes.c_void_p, u32],
            ctypes.c_void_p,
        )
        if setter is None or self._layer is None:
            raise UnsupportedModel("this build of llama.cpp does not export its layer inputs")
        for layer in self.taps.layers:
            setter(self._ctx, layer, True)

    def want_post_norm(self, on: bool) -> None:
        """Ask for post-norm rows in the next decode: every token of it then becomes an output."""
        if self.taps.post_norm:
            self._set_embeddings(self._ctx, on)

    def rows(self, n: int, *, post_norm: bool = True) -> HiddenRows:
        """The hidden rows of the last decode, of `n` tokens."""
        final = None
        if post_norm and self.taps.post_norm:
            final = float_view(self._post_norm(self._ctx), n, self._n_embd)
        layers = {i: float_view(self._layer(self._ctx, i), n, self._n_embd) for i in self.taps.layers}
        return HiddenRows(final, layers)
