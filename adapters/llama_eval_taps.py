"""Layer inputs through llama.cpp's evaluation callback, for architectures that do not capture them.

The input of layer k is the tensor that the graph calls `l_out-(k-1)`. llama.cpp asks about every node of
every decode, so this costs a Python call for each, and more where another Python thread keeps the interpreter
busy; bench/taps.py measures it. Knows names and sizes of tensors; nothing of heads.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from adapters.errors import DecodeError, UnsupportedModel
from adapters.llama_lib import ctrl_c_deferred, library
from adapters.target import FloatArray

# Read off llama.cpp's model builders: those that name the residual stream between two layers `l_out`, keep
# the rows of all tokens up to the last layer, and take rejected tokens back.
EVAL_TAP_ARCHITECTURES = frozenset(
    "afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bitnet bloom chatglm codeshell cohere2 "
    "cohere2moe command-r dbrx deci deepseek deepseek2 dots1 ernie4_5 ernie4_5-moe exaone exaone-moe "
    "exaone4 falcon gemma gemma2 gemma3 glm4 glm4moe gpt2 gptneox granite granite_swa granitemoe grok "
    "grovemoe hunyuan-moe hy_v3 internlm2 jais jais2 laguna llama4 maincoder mellum minicpm minicpm3 "
    "mistral3 mistral4 mpt nemotron olmo olmo2 olmoe openelm orion pangu-embedded phi2 phi3 phimoe "
    "plamo plamo3 plm qwen qwen2 qwen2moe qwen2vl refact seed_oss smallthinker smollm3 spark2_5 "
    "stablelm starcoder starcoder2 step35 xverse".split()
)
_FLOAT = 4  # bytes


def _exported(name: str, restype: Any, *argtypes: Any, short: bool = False) -> Any:
    """A function of ggml, as llama.cpp itself uses it; a `short` one keeps Python's lock."""
    prototype = (ctypes.PYFUNCTYPE if short else ctypes.CFUNCTYPE)(restype, *argtypes)
    try:
        # not by llama_cpp's own binding of ggml, which may be a second copy of the library
        return prototype((name, library()._lib))
    except AttributeError as error:
        raise UnsupportedModel(f"this build of llama.cpp does not export {name}") from error


class EvalTaps:
    """Copies the inputs of `layers` (each > 0) out of a context's decodes.

    Made before the context, whose parameters take `callback`, and kept as long as it is open.
    """

    def __init__(self, layers: tuple[int, ...], n_embd: int) -> None:
        self._layers = {f"l_out-{layer - 1}".encode(): layer for layer in layers}
        self._wanted: dict[bytes, int] = {}  # `_layers` within a decode whose rows are read
        self._n_embd, self._n_tokens = n_embd, 0
        self._rows = {layer: np.empty((0, n_embd), np.float32) for layer in layers}
        self._n_copied = dict.fromkeys(layers, 0)
        self._error: BaseException | None = None
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._name = _exported("ggml_get_name", ctypes.c_char_p, pointer, short=True)
        self._n_bytes = _exported("ggml_nbytes", size, pointer, short=True)
        self._n_rows = _exported("ggml_nrows", ctypes.c_int64, pointer, short=True)
        self._element_size = _exported("ggml_element_size", size, pointer, short=True)
        self._get = _exported("ggml_backend_tensor_get", None, pointer, pointer, size, size)
        self.callback = library().ggml_backend_sched_eval_callback(self._on_node())

    def _on_node(self) -> Callable[[int, bool, object], bool]:
        wanted, name, copy = self._wanted, self._name, self._copy

        def on_node(tensor: int, ask: bool, _data: object) -> bool:
            try:
                if ask:  # of every node: nothing slow here
                    return name(tensor) in wanted if wanted else False
                copy(tensor)
            except BaseException as error:  # it cannot pass through C: `decode` raises it
                self._error = self._error or error
                wanted.clear()
            return True  # False would leave the rest of the graph undone

        return on_node

    def _copy(self, tensor: int) -> None:
        name = self._name(tensor)
        layer = self._wanted.get(name)
        if layer is None:
            return
        start, n_rows, n_bytes = self._n_copied[layer], self._n_rows(tensor), self._n_bytes(tensor)
        row_bytes = self._n_embd * _FLOAT
        is_plain = n_bytes == n_rows * row_bytes and self._element_size(tensor) == _FLOAT
        if not is_plain or start + n_rows > self._n_tokens:
            raise DecodeError(
                f"llama.cpp's {name.decode()} has {n_rows} rows of {n_bytes} bytes in all, where rows of "
                f"{self._n_embd} floats for {self._n_tokens - start} tokens were expected; "
                "this architecture's layer inputs cannot be read"
            )
        self._get(tensor, self._rows[layer].ctypes.data + start * row_bytes, 0, n_bytes)
        self._n_copied[layer] = start + n_rows

    def decode(self, llama_decode: Callable[[Any, Any], int], ctx: Any, batch: Any, *, read: bool) -> int:
        """Decode `batch`, with its rows copied if `read`; raises what the callback ran into."""
        self._begin(batch.n_tokens if read else 0)
        try:
            with ctrl_c_deferred():  # it would nearly always come within the callback
                code = llama_decode(ctx, batch)
        finally:
            self._wanted.clear()
        if self._error is not None:
            raise self._error
        if code == 0:
            self._check_complete()
        return code

    def _begin(self, n_tokens: int) -> None:
        self._n_tokens, self._error = n_tokens, None
        if not n_tokens:
            return
        self._wanted.update(self._layers)
        for layer, rows in self._rows.items():
            self._n_copied[layer] = 0
            if len(rows) < n_tokens:
                self._rows[layer] = np.empty((n_tokens, self._n_embd), np.float32)

    def _check_complete(self) -> None:
        for layer, n_copied in self._n_copied.items():
            if self._n_tokens and n_copied != self._n_tokens:
                raise DecodeError(
                    f"llama.cpp gave {n_copied} of {self._n_tokens} rows of the input of layer {layer}; "
                    "the decode was interrupted, or this architecture does not name its layers' outputs"
                )

    def rows(self, layer: int, n: int) -> FloatArray:
        """The input of `layer` for the `n` tokens of the last decode that was read, `[n, n_embd]`; a view."""
        return self._rows[layer][:n]
