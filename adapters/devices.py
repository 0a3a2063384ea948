"""The devices that llama.cpp computes on, and their memory.

Knows ggml's backend registry; nothing of models.
"""

import ctypes
from dataclasses import dataclass

from adapters.llama_lib import bind
from adapters.settings import ModelSettings

_KINDS = {0: "CPU", 1: "GPU", 2: "iGPU", 3: "accelerator"}  # ggml_backend_dev_type (ggml-backend.h)


@dataclass(frozen=True, slots=True)
class Device:
    """name: ggml's (`CUDA0`). kind: CPU, GPU, iGPU, accelerator. free, total: bytes of its memory."""

    name: str
    description: str
    kind: str
    free: int
    total: int


def devices() -> list[Device]:
    """Every device of this llama.cpp build, the CPU included; none where the build does not tell."""
    return [_device(pointer) for pointer in _pointers()]


def gpu_pointers() -> list[int]:
    """ggml's pointers to the GPUs of this machine."""
    kind = bind(("ggml_backend_dev_type",), [ctypes.c_void_p], ctypes.c_int)
    return [pointer for pointer in _pointers() if _KINDS.get(kind(pointer)) == "GPU"]


def on_gpu(settings: ModelSettings) -> bool:
    """Whether layers of a model that is loaded so are on a GPU."""
    return settings.n_gpu_layers != 0 and any(device.kind == "GPU" for device in devices())


def _pointers() -> list[int]:
    count = bind(("ggml_backend_dev_count",), [], ctypes.c_size_t)
    if count is None:
        return []
    get = bind(("ggml_backend_dev_get",), [ctypes.c_size_t], ctypes.c_void_p)
    return [get(index) for index in range(count())]


def _device(pointer: int) -> Device:
    name = bind(("ggml_backend_dev_name",), [ctypes.c_void_p], ctypes.c_char_p)
    description = bind(("ggml_backend_dev_description",), [ctypes.c_void_p], ctypes.c_char_p)
    kind = bind(("ggml_backend_dev_type",), [ctypes.c_void_p], ctypes.c_int)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = bind(("ggml_backend_dev_memory",), [ctypes.c_void_p, size, size], None)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    memory(pointer, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name(pointer).decode(),
        description(pointer).decode(),
        _KINDS.get(kind(pointer), "other"),
        free.value,
        total.value,
    )
