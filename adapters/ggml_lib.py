"""The functions of ggml, llama.cpp's tensor library, that graphs of our own need.

Knows names, signatures and whether this build exports them, as llama-cpp-python binds none; nothing of what
is computed.
"""

import ctypes
import functools
import weakref
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from adapters.errors import AdapterError
from adapters.llama_lib import bind

_VOID, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_SIZE, _FLOAT, _BOOL = ctypes.c_size_t, ctypes.c_float, ctypes.c_bool
_CPU = 0  # ggml_backend_dev_type


class Kind(IntEnum):
    """ggml's numbers for the types of elements."""

    F32 = 0
    F16 = 1
    Q8_0 = 8
    I32 = 26
    I64 = 27
    BF16 = 30

    @property
    def block(self) -> tuple[int, int]:
        """(elements, bytes) that are stored together."""
        return _BLOCKS[self]


_BLOCKS = {
    Kind.F32: (1, 4),
    Kind.F16: (1, 2),
    Kind.Q8_0: (32, 34),
    Kind.I32: (1, 4),
    Kind.I64: (1, 8),
    Kind.BF16: (1, 2),
}


class InitParams(ctypes.Structure):
    """ggml_init_params (ggml.h)."""

    _fields_ = [("mem_size", _SIZE), ("mem_buffer", _VOID), ("no_alloc", _BOOL)]


# name without "ggml_": (arguments, result), as in ggml.h, ggml-alloc.h and ggml-backend.h
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "init": ([InitParams], _VOID),
    "free": ([_VOID], None),
    "tensor_overhead": ([], _SIZE),
    "graph_overhead_custom": ([_SIZE, _BOOL], _SIZE),
    "new_tensor_4d": ([_VOID, _INT, _LONG, _LONG, _LONG, _LONG], _VOID),
    "set_output": ([_VOID], None),
    "get_data": ([_VOID], _VOID),
    "new_graph_custom": ([_VOID, _SIZE, _BOOL], _VOID),
    "build_forward_expand": ([_VOID, _VOID], None),
    "graph_n_nodes": ([_VOID], _INT),
    "graph_node": ([_VOID, _INT], _VOID),
    "get_rows": ([_VOID] * 3, _VOID),
    "set_rows": ([_VOID] * 4, _VOID),
    "concat": ([_VOID, _VOID, _VOID, _INT], _VOID),
    "rms_norm": ([_VOID, _VOID, _FLOAT], _VOID),
    "mul": ([_VOID] * 3, _VOID),
    "add": ([_VOID] * 3, _VOID),
    "mul_mat": ([_VOID] * 3, _VOID),
    "scale": ([_VOID, _VOID, _FLOAT], _VOID),
    "swiglu": ([_VOID] * 2, _VOID),
    "rope_ext": ([_VOID] * 4 + [_INT] * 3 + [_FLOAT] * 6, _VOID),
    "view_4d": ([_VOID] * 2 + [_LONG] * 4 + [_SIZE] * 4, _VOID),
    "flash_attn_ext": ([_VOID] * 5 + [_FLOAT] * 3, _VOID),
    "gallocr_new": ([_VOID], _VOID),
    "gallocr_alloc_graph": ([_VOID, _VOID], _BOOL),
    "gallocr_free": ([_VOID], None),
    "backend_init_by_type": ([_INT, ctypes.c_char_p], _VOID),
    "backend_free": ([_VOID], None),
    "backend_get_device": ([_VOID], _VOID),
    "backend_dev_backend_reg": ([_VOID], _VOID),
    "backend_reg_get_proc_address": ([_VOID, ctypes.c_char_p], _VOID),
    "backend_supports_op": ([_VOID, _VOID], _BOOL),
    "backend_graph_compute": ([_VOID, _VOID], _INT),
    "backend_get_default_buffer_type": ([_VOID], _VOID),
    "backend_cpu_buffer_from_ptr": ([_VOID, _SIZE], _VOID),
    "backend_buffer_free": ([_VOID], None),
    "backend_tensor_alloc": ([_VOID] * 3, _INT),
}


@functools.cache
def _bound() -> tuple[SimpleNamespace, tuple[str, ...]]:
    """(functions by name, those that this build does not export)."""
    found = {
        name: bind((f"ggml_{name}",), arguments, result) for name, (arguments, result) in _SIGNATURES.items()
    }
    missing = tuple(f"ggml_{name}" for name, function in found.items() if function is None)
    return SimpleNamespace(**found), missing


def missing_functions() -> tuple[str, ...]:
    """What graphs need and this build of llama.cpp does not export; empty where they can be computed."""
    return _bound()[1]


def functions() -> Any:
    """The functions by their names without `ggml_`; those in `missing_functions` are None."""
    return _bound()[0]


class Cpu:
    """ggml's CPU backend, with a number of threads of its own; for one caller at a time."""

    def __init__(self, n_threads: int) -> None:
        lib = functions()
        self.pointer: int = lib.backend_init_by_type(_CPU, None) or 0
        if not self.pointer:
            raise AdapterError("this llama.cpp has no CPU backend; use head_dtype='int8'")
        weakref.finalize(self, lib.backend_free, self.pointer)
        registry = lib.backend_dev_backend_reg(lib.backend_get_device(self.pointer))
        address = lib.backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
        if address:
            ctypes.CFUNCTYPE(None, _VOID, _INT)(address)(self.pointer, n_threads)
