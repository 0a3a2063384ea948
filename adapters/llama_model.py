"""A GGUF loaded by llama.cpp: its weights, its numbers, and what kind of memory it has.

Knows nothing of contexts, text or drafts.
"""

import ctypes
import functools
import logging
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from adapters.errors import AdapterError, ModelLoadError, ModelNotFound, UnsupportedModel
from adapters.gguf_file import read_gguf
from adapters.llama_lib import complaint, last_complaint, library
from adapters.rpc import RpcDevices
from adapters.settings import ModelSettings, require

MemoryClass = Literal["dense", "sliding window", "recurrent", "hybrid"]

logger = logging.getLogger("pilotfish.model")

_NO_ROLLBACK = {
    "recurrent": "its state is recurrent and cannot drop single tokens",
    "hybrid": "part of its layers are recurrent and cannot drop single tokens",
}


@functools.cache
def amx_is_safe() -> bool:
    """Whether this llama.cpp may be trusted with Intel's AMX tiles.

    GCC 12 compiles their set-up wrongly (its `_tile_loadconfig` reads 64 bytes but declares 8,
    so the stores to the other 56 are optimised away), and the first decode of quantized weights ends
    the process. A build cannot be asked for its compiler, so every AMX build is suspected.
    """
    info: bytes = library().llama_print_system_info()
    return b"AMX_INT8 = 1" not in info


class _Handle:
    """Owns the C model; contexts keep it alive until they are freed themselves."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self.free: Callable[[], object] = weakref.finalize(self, library().llama_model_free, pointer)


class LlamaModel:
    """The weights of one GGUF file, loaded."""

    def __init__(
        self, path: str | Path, settings: ModelSettings | None = None, *, weightless: bool = False
    ) -> None:
        """Load `path` (a local GGUF); raises ModelNotFound or ModelLoadError, never aborts.

        weightless: read the header alone, so that contexts can be planned; decoding would crash.
        """
        self.path, self.weightless = Path(path), weightless
        self.settings = settings or ModelSettings()
        if not self.path.is_file():
            raise ModelNotFound(f"{self.path}: no such file")
        read_gguf(self.path)  # refuses what would abort llama.cpp's loader
        lib = library()
        self._closed = False
        self._devices: RpcDevices | None = None
        self._contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self.handle = self._load(lib)
        model = self.handle.pointer
        self._vocab = lib.llama_model_get_vocab(model)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = lib.llama_model_n_embd(model)
        self.n_layer: int = lib.llama_model_n_layer(model)
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(model)
        self.n_swa: int = lib.llama_model_n_swa(model)
        self.n_params: int = lib.llama_model_n_params(model)
        self.n_bytes: int = lib.llama_model_size(model)
        self.architecture = self.meta("general.architecture") or "unknown"
        self.memory_class = self._memory_class(lib, model)
        self.loras = self._load_loras(lib, model)
        self._refuse_what_is_not_a_text_decoder(lib, model)

    def _load(self, lib: Any) -> _Handle:
        with last_complaint() as lines:
            pointer = lib.llama_model_load_from_file(str(self.path).encode(), self._params(lib))
            if pointer:  # owned before the block ends, where a Ctrl-C may be waiting
                return _Handle(ctypes.cast(pointer, ctypes.c_void_p).value or 0)
        raise ModelLoadError(f"{self.path}: llama.cpp could not load it: {complaint(lines)}")

    def _params(self, lib: Any) -> Any:
        settings, params = self.settings, lib.llama_model_default_params()
        params.n_gpu_layers = settings.n_gpu_layers
        params.main_gpu = settings.main_gpu
        params.split_mode = getattr(lib, f"LLAMA_SPLIT_MODE_{settings.split_mode.upper()}")
        load_mode = ("NONE", "MMAP", "MLOCK", "MMAP_MLOCK")[settings.use_mmap + 2 * settings.use_mlock]
        params.load_mode = getattr(lib, f"LLAMA_LOAD_MODE_{load_mode}")
        if self.weightless:
            params.no_alloc, params.load_mode = True, lib.LLAMA_LOAD_MODE_NONE
        params.use_extra_bufts = self._extra_buffers()
        if settings.rpc_servers:
            self._devices = RpcDevices(settings.rpc_servers)
            params.devices = self._devices.address
        n_devices = lib.llama_max_devices()
        split = settings.tensor_split
        require(
            len(split) <= n_devices,
            f"tensor_split has {len(split)} shares, llama.cpp allows {n_devices}",
        )
        if split:
            self._tensor_split = (ctypes.c_float * n_devices)(*split)  # C keeps a pointer to it
            params.tensor_split = self._tensor_split
        return params

    def _extra_buffers(self) -> bool:
        wanted = self.settings.use_extra_bufts
        if wanted is None and not amx_is_safe():
            logger.warning(
                "llama.cpp was built with AMX, which some compilers break; loading without repacked weights. "
                "See 'AMX' in the README for a faster build, or pass use_extra_bufts=True if yours works"
            )
            return False
        return wanted is not False

    def _load_loras(self, lib: Any, model: int) -> list[tuple[Any, float]]:
        loaded = []
        for path, scale in self.settings.scaled_lora:
            if not path.is_file():
                raise ModelNotFound(f"{path}: no such LoRA file")
            with last_complaint() as lines:
                adapter = lib.llama_adapter_lora_init(model, str(path).encode())
            if not adapter:
                raise ModelLoadError(f"{path}: not a LoRA for {self.path.name}: {complaint(lines)}")
            loaded.append((adapter, scale))
        return loaded  # freed together with the model

    def _memory_class(self, lib: Any, model: int) -> MemoryClass:
        if lib.llama_model_is_recurrent(model):
            return "recurrent"
        if lib.llama_model_is_hybrid(model):
            return "hybrid"
        return "sliding window" if self.n_swa > 0 else "dense"

    def _refuse_what_is_not_a_text_decoder(self, lib: Any, model: int) -> None:
        kind = ""
        if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
            kind = "an encoder"
        elif lib.llama_model_is_diffusion(model):
            kind = "a diffusion model"
        elif self.n_vocab == 0:
            kind = "a model without a vocabulary"
        if kind:
            self.close()
            raise UnsupportedModel(
                f"{self.path}: architecture {self.architecture!r} is {kind}; "
                "pilotfish needs a decoder-only text model"
            )

    @property
    def vocab(self) -> Any:
        """The C vocabulary; raises AdapterError once the model is closed, where using it would crash."""
        self.require_open()
        return self._vocab

    def require_open(self) -> None:
        """Raise AdapterError once the model is closed."""
        if self._closed:
            raise AdapterError(f"{self.path.name} is closed; load it again")

    @property
    def no_rollback(self) -> str:
        """Why rejected tokens cannot be dropped from this model's memory; empty where they can."""
        return _NO_ROLLBACK.get(self.memory_class, "")

    def meta(self, key: str) -> str | None:
        """The GGUF's metadata value of `key` as text; arrays and missing keys give None."""
        self.require_open()
        model, name = self.handle.pointer, key.encode()
        return _text(lambda buffer, size: library().llama_model_meta_val_str(model, name, buffer, size))

    @property
    def metadata(self) -> dict[str, str]:
        """The GGUF's metadata as text, by key; of arrays what llama.cpp shows."""
        self.require_open()
        lib, model = library(), self.handle.pointer
        key, value = lib.llama_model_meta_key_by_index, lib.llama_model_meta_val_str_by_index
        indices = range(lib.llama_model_meta_count(model))
        return {_text(partial(key, model, i)) or "": _text(partial(value, model, i)) or "" for i in indices}

    def adopt(self, context: Any) -> None:
        """Remember an open context: it must be closed before the weights are."""
        self._contexts.add(context)

    def close(self) -> None:
        """Free the weights, and the contexts that still use them; safe to call twice."""
        self._closed = True
        for context in list(self._contexts):
            context.close()
        self.handle.free()
        self._devices = None


def _text(read: Callable[[Any, int], int]) -> str | None:
    """What `read(buffer, size)` writes, in a buffer that is large enough; None where it finds nothing."""
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        n = read(buffer, size)
        if n < 0:
            return None
        if n < size:
            return buffer.value.decode("utf-8", "replace")
        size = n + 1
