"""Opening a C context of a model: what every kind of context has in common.

Knows settings and ownership; what the context is used for is its owner's business.
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from gguf.constants import GGMLQuantizationType

from adapters.errors import ModelLoadError
from adapters.llama_lib import complaint, last_complaint, library
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings


def context_params(settings: ContextSettings) -> Any:
    """llama.cpp's defaults, and of the settings what says how to compute; sizes are the owner's."""
    lib = library()
    params = lib.llama_context_default_params()
    params.n_batch, params.n_ubatch = settings.n_batch, settings.n_ubatch
    params.n_threads, params.n_threads_batch = settings.threads
    flash = {None: "AUTO", True: "ENABLED", False: "DISABLED"}[settings.flash_attn]
    params.flash_attn_type = getattr(lib, f"LLAMA_FLASH_ATTN_TYPE_{flash}")
    params.type_k = GGMLQuantizationType[settings.type_k.upper()]
    params.type_v = GGMLQuantizationType[settings.type_v.upper()]
    params.offload_kqv = settings.offload_kqv
    return params


def open_context(
    owner: object, model: LlamaModel, params: Any, size: str, advice: str, *kept: object
) -> tuple[Any, Callable[[], object]]:
    """The C context, with the model's LoRAs, and what frees it, which also happens when `owner` is gone.

    kept: what must outlive it beside the weights. Raises ModelLoadError, with `size` and `advice`.
    """
    model.require_open()
    with last_complaint() as lines:
        ctx = library().llama_init_from_model(model.handle.pointer, params)
        if ctx:  # owned before the block ends, where a Ctrl-C may be waiting
            free = weakref.finalize(owner, _free_context, ctx, model.handle, *kept)
    if not ctx:
        raise ModelLoadError(
            f"{model.path.name}: llama.cpp opened no context of {size}: {complaint(lines)}; {advice}"
        )
    model.adopt(owner)
    _apply_loras(model, ctx)
    return ctx, free


def _apply_loras(model: LlamaModel, ctx: Any) -> None:
    loras = model.loras
    if not loras:
        return
    lib = library()
    adapters = (lib.llama_adapter_lora_p_ctypes * len(loras))(*[lora for lora, _ in loras])
    scales = (ctypes.c_float * len(loras))(*[scale for _, scale in loras])
    if lib.llama_set_adapters_lora(ctx, adapters, len(loras), scales) != 0:
        raise ModelLoadError(f"{model.path.name}: llama.cpp refused its LoRA adapters")


def _free_context(ctx: Any, *_kept: object) -> None:
    library().llama_free(ctx)
