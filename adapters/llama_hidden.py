"""Hidden rows out of a llama.cpp context: post-norm rows and the inputs of chosen layers.

Knows which architectures capture layer inputs: asking any other one aborts the process, so the list
is checked first (read off llama.cpp's model builders; see `t_layer_inp` there). Most others give them
through the evaluation callback (`llama_eval_taps`).
"""

import ctypes
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from adapters.errors import UnsupportedModel
from adapters.llama_eval_taps import EVAL_TAP_ARCHITECTURES, EvalTaps
from adapters.llama_lib import bind, library
from adapters.llama_model import LlamaModel
from adapters.settings import require
from adapters.target import FloatArray, HiddenRows, HiddenTaps

LAYER_INPUT_ARCHITECTURES = frozenset(
    "bailingmoe3 deepseek4 gemma4 gpt-oss hunyuan-dense hunyuan_vl lfm2 lfm2moe llama mimo2 minimax-01 "
    "minimax-m2 muse-glimmer nanbeige nemotron_h nemotron_h_moe qwen3 qwen35 qwen35moe qwen3moe "
    "qwen3next qwen4exp".split()
)
TapWay = Literal["captured", "callback", "none"]


def tap_way(architecture: str) -> TapWay:
    """How layer inputs of this architecture are read: "captured" is cheap, "callback" costs some percent."""
    if architecture in LAYER_INPUT_ARCHITECTURES:
        return "captured"
    return "callback" if architecture in EVAL_TAP_ARCHITECTURES else "none"


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
    """Raise UnsupportedModel for layer inputs that this architecture does not give."""
    if not taps.layers:
        return
    way = tap_way(architecture)
    if way == "none":
        raise UnsupportedModel(
            f"architecture {architecture!r} does not expose layer inputs in this llama.cpp "
            "(only post-norm rows); use a head that reads the final hidden state"
        )
    for layer in taps.layers:
        require(0 <= layer < n_layer, f"layer {layer} does not exist: the model has {n_layer} layers")
    if way == "callback" and 0 in taps.layers:
        raise UnsupportedModel(
            f"architecture {architecture!r} does not expose the input of layer 0 in this llama.cpp, "
            "only those of later layers; use a head that reads these"
        )


class HiddenReader:
    """Reads the rows that `taps` ask for after each decode of one context."""

    def __init__(self, model: LlamaModel, taps: HiddenTaps) -> None:
        """Before the context is opened, which `prepare` and `attach` frame; raises UnsupportedModel."""
        check_taps(taps, model.architecture, model.n_layer)
        self.taps, self._n_embd = taps, model.n_embd
        self._set_embeddings = library().llama_set_embeddings
        self._post_norm = pointer_getter("llama_get_embeddings")
        by_callback = taps.layers and tap_way(model.architecture) == "callback"
        self._eval = EvalTaps(taps.layers, model.n_embd) if by_callback else None

    def prepare(self, params: Any) -> None:
        """Set what a context must be opened with."""
        if self.taps.post_norm:
            # a pooled row would belong to no token; without taps, naming a type only makes llama.cpp warn
            params.pooling_type = library().LLAMA_POOLING_TYPE_NONE
        if self._eval is not None:
            params.cb_eval = self._eval.callback

    def attach(self, ctx: Any) -> None:
        """Read from `ctx` from now on; the reader must be kept as long as it is open."""
        self._ctx = ctx
        if self.taps.layers and self._eval is None:
            self._capture_layers()

    def _capture_layers(self) -> None:
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

    def decode(self, llama_decode: Callable[[Any, Any], int], batch: Any, *, wanted: bool) -> int:
        """Decode and return llama.cpp's code. Post-norm rows, if `wanted`, make every token an output."""
        if self.taps.post_norm:
            self._set_embeddings(self._ctx, wanted)
        if self._eval is not None:
            return self._eval.decode(llama_decode, self._ctx, batch, read=wanted)
        return llama_decode(self._ctx, batch)

    def rows(self, n: int) -> HiddenRows:
        """The hidden rows of the last decode, of `n` tokens."""
        final = float_view(self._post_norm(self._ctx), n, self._n_embd) if self.taps.post_norm else None
        return HiddenRows(final, {layer: self._layer_rows(layer, n) for layer in self.taps.layers})

    def _layer_rows(self, layer: int, n: int) -> FloatArray:
        if self._eval is not None:
            return self._eval.rows(layer, n)
        return float_view(self._layer(self._ctx, layer), n, self._n_embd)
