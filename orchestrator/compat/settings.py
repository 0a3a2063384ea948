"""From the constructor of llama_cpp.Llama to `Engine.load`: what is the same, what is called otherwise,
and what is refused because it cannot be honoured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapters.settings import KV_TYPES, SPLIT_MODES, ContextSettings
from orchestrator.compat.drafts import HookDraft
from orchestrator.drafters.function import FunctionDrafter
from orchestrator.errors import ConfigError

# numbers of ggml_type
_KV_NUMBERS = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    20: "iq4_nl",
    30: "bf16",
}

# what a setting may be, and why it may be nothing else
_FIXED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "vocab_only": ((False,), "the vocabulary comes with the weights"),
    "kv_overrides": ((None, {}), "the GGUF's metadata is taken as it is; write a corrected GGUF"),
    "rope_scaling_type": ((None, -1), "RoPE is set as the GGUF says"),
    "pooling_type": ((-1,), "there are no embeddings"),
    "attention_type": ((-1,), "attention is what the GGUF says"),
    "rope_freq_base": ((0, None), "RoPE is set as the GGUF says"),
    "rope_freq_scale": ((0, None), "RoPE is set as the GGUF says"),
    "yarn_ext_factor": ((-1,), "YaRN is set as the GGUF says"),
    "yarn_attn_factor": ((1,), "YaRN is set as the GGUF says"),
    "yarn_beta_fast": ((32,), "YaRN is set as the GGUF says"),
    "yarn_beta_slow": ((1,), "YaRN is set as the GGUF says"),
    "yarn_orig_ctx": ((0,), "YaRN is set as the GGUF says"),
    "embedding": ((False,), "pilotfish generates text; use llama_cpp.Llama for embeddings"),
    "op_offload": ((None,), "llama.cpp decides"),
    "swa_full": ((None, True), "rejected guesses can only be dropped from a full sliding-window cache"),
    "lora_base": ((None,), "llama.cpp applies LoRA to the model that is loaded"),
    "numa": ((False, 0), "it is a setting of the whole process; start the program with numactl"),
    "tokenizer": ((None,), "guesses are ids of the GGUF's own vocabulary"),
    "spm_infill": ((False,), "text is continued, not filled in"),
    # they have nothing to decide here: log-probabilities need no setting, timings are always taken
    "logits_all": ((False, True), ""),
    "no_perf": ((False, True), ""),
}
_SAME = (
    "n_gpu_layers",
    "main_gpu",
    "use_mmap",
    "use_mlock",
    "n_threads",
    "n_threads_batch",
    "offload_kqv",
    "flash_attn",
)


def engine_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for Engine.load from all keyword arguments of llama_cpp.Llama that are about the model and its
    context; raises ConfigError for what cannot be honoured."""
    for name, (possible, reason) in _FIXED.items():
        if not any(given[name] == value for value in possible):
            raise ConfigError(f"{name}={given[name]!r} cannot be honoured: {reason}")
    settings = {name: given[name] for name in _SAME}
    settings |= _batches(given["n_ctx"], given["n_batch"], given["n_ubatch"])
    settings["split_mode"] = _named(given, "split_mode", dict(enumerate(SPLIT_MODES)))
    settings["tensor_split"] = tuple(given["tensor_split"] or ())
    # llama-cpp-python's penalties see what was generated and not the prompt
    settings |= {"penalty_last_n": given["last_n_tokens_size"], "penalize_prompt": False}
    if given["lora_path"] is not None:
        settings |= {"lora": (given["lora_path"],), "lora_scale": (given["lora_scale"],), "use_mmap": False}
    for name in ("type_k", "type_v"):
        if given[name] is not None:
            settings[name] = _named(given, name, _KV_NUMBERS, KV_TYPES)
    return settings


def _batches(n_ctx: int, n_batch: int, n_ubatch: int) -> dict[str, int]:
    """Batches no larger than the context, as llama_cpp.Llama has them."""
    n_batch = min(n_batch, n_ctx)
    n_ubatch = min(n_ubatch, n_batch)
    rows = min(ContextSettings().max_rows, n_ubatch)
    return {"n_ctx": n_ctx, "n_batch": n_batch, "n_ubatch": n_ubatch, "max_rows": rows}


def _named(
    given: Mapping[str, Any], name: str, numbers: Mapping[int, str], names: Sequence[str] = SPLIT_MODES
) -> str:
    """A constant of llama.cpp by its name."""
    value = given[name]
    found = value if isinstance(value, str) else numbers.get(value)
    if found not in names:
        listed = ", ".join(f"{number} ({text})" for number, text in numbers.items())
        raise ConfigError(f"{name} must be one of {listed}, got {value!r}")
    return str(found)


def drafter_of(draft_model: Any) -> Any:
    """What drafts: a GGUF's name, a drafter, or any object made for llama-cpp-python's hook."""
    if isinstance(draft_model, HookDraft):
        return draft_model.drafter  # at home without the hook it has probabilities and may be planned
    if draft_model is None or isinstance(draft_model, str | Path):
        return draft_model
    if not callable(draft_model):
        raise ConfigError(f"draft_model must be callable with the ids so far, got {draft_model!r}")
    return FunctionDrafter(_hook(draft_model))


def _hook(draft_model: Callable[..., Any]) -> Callable[[Sequence[int], int], list[int]]:
    def hook(tokens: Sequence[int], budget: int) -> list[int]:
        drafted = np.asarray(draft_model(np.asarray(tokens, np.intc)))
        return [int(token) for token in drafted[:budget]]

    return hook
