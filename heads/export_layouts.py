"""Names and config keys with which heads are published: heads.*_layouts, the other way round.

    safeailab     SafeAILab's: `midlayer.*` (EAGLE-3), `layers.0.*` (EAGLE-1); vLLM, SGLang and llama.cpp's
                  converter read it, too, and know keys that SafeAILab's own code does not
    speculators   that library's and vLLM's: `layers.0.*`, a nested config
    (Medusa)      FasterDecoding's, the only one; TGI and TensorRT-LLM read it

Knows these; writes no file. Layouts cannot say everything: heads.export reads back what it has written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.errors import HeadError
from adapters.gguf_file import GgufFacts
from heads.export_config import LAYOUTS, Layout, llama_config, speculators_config
from heads.spec import EagleSpec, Head, MedusaSpec

_PARTS = {
    **{name: f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")},
    **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    **{name: f"self_attn.{name}" for name in ("q_norm", "k_norm")},
    "post_norm": "post_attention_layernorm",
    "input_norm": "input_layernorm",
}
_WHOLE = {"embedding": "embed_tokens", "output": "lm_head"}
# HASS's norms, which come before `fc` and before the projection
_EAGLE_NORMS = {
    "safeailab": ("embed_layernorm", "hidden_layernorm", "lm_head_layernorm"),
    "speculators": ("embedding_layernorm", "transformer.input_layernorm", "pre_lm_head_layernorm"),
}


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be saved: config.json, and the tensors in a file of their own."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    file: str = "model.safetensors"


def laid_out(head: Head, layout: Layout, target: GgufFacts | None, target_name: str) -> Written:
    """`head` by the names of `layout`; raises HeadError where the layout has none for a part of it.

    target: needed where only it tells the size of the vocabulary. Tensors may share memory.
    """
    if layout not in LAYOUTS:
        raise HeadError(f"no layout {layout!r}; the layouts are {', '.join(LAYOUTS)}")
    if isinstance(head.spec, MedusaSpec):
        return _medusa(head, head.spec, layout, target_name)
    if head.spec.family == "eagle":
        return _eagle(head, head.spec, layout, target, target_name)
    return _eagle3(head, head.spec, layout, target, target_name)


def _medusa(head: Head, spec: MedusaSpec, layout: Layout, target_name: str) -> Written:
    if layout == "speculators":
        raise HeadError(f"{head.source}: speculators has no layout for Medusa; use layout safeailab")
    if "token_map" in head.tensors:
        raise HeadError(f"{head.source}: Medusa's layout has no place for a token_map; use the head as it is")
    tensors: dict[str, Tensor] = {}
    for name, tensor in head.tensors.items():
        kind, index, *rest = name.split(".")
        parts = [rest[0], "linear", rest[1]] if kind == "blocks" else [str(spec.n_blocks), *rest]
        tensors[".".join([index, *parts])] = tensor
    config = {
        "base_model_name_or_path": target_name,
        "medusa_num_heads": spec.n_heads,
        "medusa_num_layers": spec.n_blocks,
    }
    if spec.n_vocab is None:
        config["version"] = "2"  # how the trainer calls heads that use the target's projection
    return Written(config, tensors, "medusa_lm_head.safetensors")


def _eagle(
    head: Head, spec: EagleSpec, layout: Layout, target: GgufFacts | None, target_name: str
) -> Written:
    norms = dict(
        zip(("layers.0.input_norm", "layers.0.hidden_norm", "norm"), _EAGLE_NORMS[layout], strict=True)
    )
    tensors = _renamed(head.tensors, norms)
    layer = llama_config(head, spec, layout, _n_vocab(head, spec, target), target)
    if layout == "safeailab":
        config = {"architectures": ["LlamaForCausalLM"], **layer, "bias": "fc.bias" in head.tensors}
        if "d2t" in tensors:  # only vLLM knows this of EAGLE-1, by these names
            tensors["token_map"] = tensors.pop("d2t")
            config["truncated_vocab_size"] = spec.n_vocab
        return Written(config, tensors)
    if spec.n_layers > 1 or "d2t" in tensors:
        what = f"{spec.n_layers} layers" if spec.n_layers > 1 else "a cut vocabulary"
        raise HeadError(
            f"{head.source}: an EAGLE-1 head with {what} is unknown to speculators; use layout safeailab"
        )
    tensors = {_speculators_eagle(name): tensor for name, tensor in tensors.items()}
    config = {
        "architectures": ["EagleSpeculator"],
        "transformer_layer_architecture": "LlamaDecoderLayer",
        "layernorms": "norm.weight" in head.tensors,
        "fusion_bias": "fc.bias" in head.tensors,
    }
    return Written(speculators_config(config, "eagle", layer, target_name), tensors)


def _speculators_eagle(name: str) -> str:
    for common, old in (("layers.0.", "transformer."), ("fc.", "fusion_fc.")):
        if name.startswith(common):
            return old + name.removeprefix(common)
    return name


def _eagle3(
    head: Head, spec: EagleSpec, layout: Layout, target: GgufFacts | None, target_name: str
) -> Written:
    n_vocab = _n_vocab(head, spec, target)
    tensors = _renamed(head.tensors, {})
    ids = head.tensors.get("d2t")
    if ids is not None:
        tensors["d2t"] = ids - torch.arange(len(ids))
        tensors["t2d"] = torch.zeros(n_vocab, dtype=torch.bool)
        tensors["t2d"][ids] = True
    layer = llama_config(head, spec, layout, n_vocab, target)
    flags: dict[str, Any] = {
        "draft_vocab_size": spec.n_vocab if "output.weight" in head.tensors else None,
        "norm_before_residual": spec.norm_before_residual,
        "norm_before_fc": "input_norm.weight" in head.tensors,
        "fc_norm": "fc_norms.0.weight" in head.tensors,
        "norm_output": spec.norm_output,
    }
    if "fc.bias" in tensors:
        flags["bias"] = True  # SGLang knows it, nobody else
    if spec.hidden_size != spec.width:
        flags["target_hidden_size"] = spec.hidden_size
    if layout == "speculators":
        if "fc.bias" in tensors:
            raise HeadError(f"{head.source}: a bias of fc is unknown to speculators; use layout safeailab")
        own = {"architectures": ["Eagle3DraftModel"], **flags, "embed_requires_grad": False}
        own["eagle_aux_hidden_state_layer_ids"] = list(spec.taps) or None
        own["draft_vocab_size"] = spec.n_vocab  # never null there
        return Written(speculators_config(own, "eagle3", layer, target_name), tensors)
    _refuse_in_safeailab(head, spec)
    if spec.taps:
        # vLLM and llama.cpp take ids of inputs from here, SGLang and SpecForge ids of outputs from there
        flags["eagle_aux_hidden_state_layer_ids"] = list(spec.taps)
        nested = {
            "use_aux_hidden_state": True,
            "eagle_aux_hidden_state_layer_ids": [t - 1 for t in spec.taps],
        }
        flags |= {"eagle_config": nested} if spec.taps[0] > 0 else {}
    tensors = {name.replace("layers.0.", "midlayer."): tensor for name, tensor in tensors.items()}
    return Written({"architectures": ["LlamaForCausalLMEagle3"], **layer, **flags}, tensors)


def _refuse_in_safeailab(head: Head, spec: EagleSpec) -> None:
    what = {
        f"{spec.n_layers} layers": spec.n_layers > 1,
        "norms of queries and keys": "layers.0.q_norm.weight" in head.tensors,
        "norm_output": spec.norm_output,  # the same key means something else in SpecForge's files
    }
    found = [text for text, has in what.items() if has]
    if found:
        raise HeadError(
            f"{head.source}: layout safeailab has no place for {found[0]}; use layout speculators"
        )


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """By Hugging Face's names, but for those in `names` (without `.weight`)."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, dot, kind = name.rpartition(".")
        parts = stem.split(".")
        if parts[0] == "layers":
            common = ".".join([*parts[:2], _PARTS.get(parts[2], parts[2])])
        else:
            common = _WHOLE.get(stem, stem).replace("fc_norms.", "fc_norm.")
        renamed[f"{names.get(stem, common)}{dot}{kind}"] = tensor
    return renamed


def _n_vocab(head: Head, spec: EagleSpec, target: GgufFacts | None) -> int:
    """Tokens of the target, as far as the head's own matrices tell by theirs."""
    if "embedding.weight" in head.tensors:
        return len(head.tensors["embedding.weight"])
    if "d2t" not in head.tensors:
        return spec.n_vocab
    if target is None:
        raise HeadError(f"{head.source}: does not tell how many tokens its target has; name the target")
    return target.n_vocab
