"""Hidden rows out of a llama.cpp context: post-norm rows and the inputs of chosen layers.

Knows which architectures capture layer inputs: asking any other one aborts the process, so the list
is checked first (read off llama.cpp's model builders; see `t_layer_inp` there). Most others give them
through the evaluation callback (`llama_eval_taps`). Post-norm rows come with the outputs, or without them
where the architecture keeps them for draft heads of its own (`t_h_nextn`).
"""

import ctypes
from collections.abc import Callable
from typing import Any, Literal

from adapters.errors import UnsupportedModel
from adapters.float_view import FloatViews
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
# Their graphs keep `t_h_nextn` behind the final norm and for all tokens; those of gpt-oss, step35 and mimo2
# keep it before the norm, and rows of an architecture without it would be stale.
NEXT_N_ARCHITECTURES = frozenset(
    "bailingmoe3 cohere2moe deepseek2 deepseek2-ocr deepseek32 gemma4 glm-dsa glm4moe glm5-next hy_v3 "
    "mistral4 nemotron_h nemotron_h_moe qwen35 qwen35moe qwen3next".split()
)
TapWay = Literal["captured", "callback", "none"]


def tap_way(architecture: str) -> TapWay:
    """How layer inputs of this architecture are read: "captured" is cheap, "callback" costs some percent."""
    if architecture in LAYER_INPUT_ARCHITECTURES:
        return "captured"
    return "callback" if architecture in EVAL_TAP_ARCHITECTURES else "none"


def pointer_getter(name: str) -> Any:
    """An exported `float * name(ctx)` whose result is a plain address (no ctypes pointer object)."""
    function = library()._lib[name]  # indexing makes a function object of our own
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function


def next_n_functions(architecture: str) -> tuple[Any, Any] | None:
    """(setter, getter) of post-norm rows that are no outputs; None where there are none."""
    if architecture not in NEXT_N_ARCHITECTURES:
        return None
    names = ("llama_set_embeddings_nextn", "_Z26llama_set_embeddings_nextnP13llama_contextbb")
    setter = bind(names, [ctypes.c_void_p, ctypes.c_bool, ctypes.c_bool], None)
    names = ("llama_get_embeddings_nextn", "_Z26llama_get_embeddings_nextnP13llama_context")
    getter = bind(names, [ctypes.c_void_p], ctypes.c_void_p)
    return None if setter is None or getter is None else (setter, getter)


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
    """Reads the rows that `taps` ask for after each decode of one context.

    needs_outputs: whether only outputs have the wanted rows, so that each costs a row of logits, too.
    """

    def __init__(self, model: LlamaModel, taps: HiddenTaps) -> None:
        """Before the context is opened, which `prepare` and `attach` frame; raises UnsupportedModel."""
        check_taps(taps, model.architecture, model.n_layer)
        self.taps, self._architecture, self._views = taps, model.architecture, FloatViews(model.n_embd)
        next_n = next_n_functions(model.architecture) if taps.post_norm else None
        self.needs_outputs = taps.post_norm and next_n is None
        self._set_next_n = next_n[0] if next_n else None
        self._post_norm = next_n[1] if next_n else pointer_getter("llama_get_embeddings")
        self._set_embeddings, self._is_proven = library().llama_set_embeddings, False
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
        """Decode and return llama.cpp's code; with `needs_outputs` every token of a `wanted` batch is one."""
        if self.needs_outputs:
            self._set_embeddings(self._ctx, wanted)
        elif self._set_next_n is not None:
            self._set_next_n(self._ctx, wanted, False)  # of all tokens, not of outputs only
        if self._eval is not None:
            return self._eval.decode(llama_decode, self._ctx, batch, read=wanted)
        return llama_decode(self._ctx, batch)

    def rows(self, n: int) -> HiddenRows:
        """The hidden rows of the last decode, of `n` tokens."""
        final = self._final_rows(n) if self.taps.post_norm else None
        return HiddenRows(final, {layer: self._layer_rows(layer, n) for layer in self.taps.layers})

    def _final_rows(self, n: int) -> FloatArray:
        rows = self._views.at(self._post_norm(self._ctx), n)
        if not self._is_proven and not rows.any():  # the first to come land in memory that was cleared
            raise UnsupportedModel(
                f"this llama.cpp keeps no rows behind the final norm of architecture {self._architecture!r}; "
                "use another version of llama-cpp-python, or a head that reads the inputs of layers"
            )
        self._is_proven = True
        return rows

    def _layer_rows(self, layer: int, n: int) -> FloatArray:
        if self._eval is not None:
            return self._eval.rows(layer, n)
        return self._views.at(self._layer(self._ctx, layer), n)
