"""Heads in every layout that is published, written from random canonical tensors.

Knows the names and config keys that trainers use; the loader must read them back.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from heads.spec import EagleSpec, MedusaSpec, Rope

Tensors = dict[str, Tensor]
Written = tuple[dict[str, Any], Tensors]  # config.json, tensors by the names of the layout

H = 16
V = 40
ROPE = Rope(500000.0)

EAGLE = EagleSpec(
    family="eagle",
    hidden_size=H,
    width=H,
    n_layers=1,
    n_heads=4,
    n_kv_heads=2,
    head_dim=6,  # not H / 4, as in real heads
    intermediate_size=24,
    n_vocab=V,
    rope=ROPE,
    eps=1e-5,
)
EAGLE3 = replace(EAGLE, family="eagle3", n_vocab=10, n_taps=3)
D2T = torch.tensor([0, 1, 2, 5, 7, 11, 12, 20, 30, 39])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape)


def medusa_tensors(spec: MedusaSpec, *, biases: bool = True) -> Tensors:
    torch.manual_seed(1)
    h, made = spec.hidden_size, {}
    for head in range(spec.n_heads):
        for block in range(spec.n_blocks):
            made[f"blocks.{head}.{block}.weight"] = random(h, h)
            made[f"blocks.{head}.{block}.bias"] = random(h) if biases else torch.zeros(h)
        if spec.n_vocab is not None:
            made[f"outputs.{head}.weight"] = random(spec.n_vocab, h)
    return made


def eagle_tensors(spec: EagleSpec, *, fc_bias: bool = False, qkv_bias: bool = False) -> Tensors:
    """An EAGLE-1/2 head without embedding and projection."""
    torch.manual_seed(2)
    w = spec.width
    made = {"fc.weight": random(w, 2 * w)} | ({"fc.bias": random(w)} if fc_bias else {})
    for layer in range(spec.n_layers):
        made |= _layer(spec, layer, w, qkv_bias)
    return made


def eagle3_tensors(spec: EagleSpec, *, qk_norm: bool = False, embedding: bool = True) -> Tensors:
    """An EAGLE-3 head; with d2t if its vocabulary is reduced."""
    torch.manual_seed(3)
    w = spec.width
    made = {
        "fc.weight": random(w, spec.n_taps * spec.hidden_size),
        "layers.0.input_norm.weight": random(w),
        "layers.0.hidden_norm.weight": random(w),
        "norm.weight": random(w),
        "output.weight": random(spec.n_vocab, w),
    }
    if embedding:
        made["embedding.weight"] = random(V, w)
    if spec.n_vocab < V:
        made["d2t"] = D2T[: spec.n_vocab]
    for layer in range(spec.n_layers):
        made |= _layer(spec, layer, w if layer else 2 * w, False)
        if qk_norm:
            made |= {f"layers.{layer}.{x}_norm.weight": random(spec.head_dim) for x in "qk"}
    return made


def _layer(spec: EagleSpec, layer: int, n_in: int, qkv_bias: bool) -> Tensors:
    w, i = spec.width, spec.intermediate_size
    nq, nkv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    shapes = {"q": (nq, n_in), "k": (nkv, n_in), "v": (nkv, n_in), "o": (w, nq)}
    shapes |= {"gate": (i, w), "up": (i, w), "down": (w, i)}
    made = {f"{name}.weight": random(*shape) for name, shape in shapes.items()}
    made["post_norm.weight"] = random(w)
    if layer:
        made["input_norm.weight"] = random(w)
    if qkv_bias:
        made |= {f"{name}.bias": random(shapes[name][0]) for name in "qkv"}
    return {f"layers.{layer}.{name}": tensor for name, tensor in made.items()}


# Medusa


def medusa_plain(spec: MedusaSpec, made: Tensors, prefix: str = "") -> Written:
    """FasterDecoding and TGI; "version 2" where there are no projections."""
    tensors: Tensors = {}
    for name, tensor in made.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            tensors[f"{prefix}{parts[1]}.{parts[2]}.linear.{parts[3]}"] = tensor
        elif parts[0] == "outputs":
            tensors[f"{prefix}{parts[1]}.{spec.n_blocks}.weight"] = tensor
    config = {"medusa_num_heads": spec.n_heads, "medusa_num_layers": spec.n_blocks}
    return {"base_model_name_or_path": "owner/target", **config}, tensors


def medusa_full(spec: MedusaSpec, made: Tensors) -> Written:
    """Medusa-2: inside the model that was trained along."""
    config, tensors = medusa_plain(spec, made, "medusa_head.")
    model = {"model.embed_tokens.weight": random(V, H), "model.norm.weight": random(H)}
    model["model.layers.0.self_attn.q_proj.weight"] = random(H, H)
    config |= {"architectures": ["LlamaForCausalLM"], "hidden_size": H, "num_attention_heads": 4}
    return config, model | tensors


def medusa_vllm(spec: MedusaSpec, made: Tensors, *, prefix: str = "", shared: str = "") -> Written:
    """shared: the name of the one projection, if there is only one."""
    tensors: Tensors = {}
    for name, tensor in made.items():
        parts = name.split(".")
        if parts[0] == "blocks" and not (parts[3] == "bias" and not tensor.any()):
            tensors[f"{prefix}blocks.{parts[1]}.layers.{parts[2]}.{parts[3]}"] = tensor
        elif parts[0] == "outputs" and not shared:
            tensors[f"{prefix}lm_heads.{parts[1]}.weight"] = tensor
        elif parts[0] == "token_map":
            tensors[name] = tensor
    if shared:
        tensors[shared] = made["outputs.0.weight"]
    config = {"architectures": ["MedusaModel"], "model_type": "medusa", "hidden_size": H, "vocab_size": V}
    sizes = {"num_heads": spec.n_heads, "num_hidden_layers": spec.n_blocks, "original_lm_head": bool(shared)}
    return {**config, **sizes}, tensors


# EAGLE


def llama_config(spec: EagleSpec) -> dict[str, Any]:
    return {
        "hidden_size": spec.width,
        "intermediate_size": spec.intermediate_size,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "num_hidden_layers": spec.n_layers,
        "head_dim": spec.head_dim,
        "rms_norm_eps": spec.eps,
        "rope_theta": spec.rope.theta,
        "rope_scaling": spec.rope.scaling,
        "vocab_size": V,
        "hidden_act": "silu",
    }


def eagle_plain(spec: EagleSpec, made: Tensors) -> Written:
    """SafeAILab's EAGLE-1/2, and HASS with its three norms."""
    names = {
        "layers.0.input_norm.weight": "embed_layernorm.weight",
        "layers.0.hidden_norm.weight": "hidden_layernorm.weight",
        "norm.weight": "lm_head_layernorm.weight",
    }
    config = {"architectures": ["LlamaForCausalLM"], **llama_config(spec)}
    return config, {names.get(name) or hf_name(name): tensor for name, tensor in made.items()}


def eagle_vllm(spec: EagleSpec, made: Tensors) -> Written:
    """vLLM's copies: a nested config, the target's projection, norms that are not applied."""
    config, plain = eagle_plain(spec, made)
    tensors = {f"model.model.{name}" if name.startswith("layers.") else name: t for name, t in plain.items()}
    tensors |= {"model.model.norm.weight": random(H)}
    tensors |= {"model.model.layers.0.input_layernorm.weight": random(H)}
    return {"model_type": "eagle", "vocab_size": V, "model": config}, tensors


def eagle_speculators(spec: EagleSpec, made: Tensors) -> Written:
    """The first format of speculators, and HASS in it."""
    names = {
        "layers.0.input_norm.weight": "embedding_layernorm.weight",
        "layers.0.hidden_norm.weight": "transformer.input_layernorm.weight",
        "norm.weight": "pre_lm_head_layernorm.weight",
    }
    tensors: Tensors = {}
    for name, tensor in made.items():
        common = names.get(name) or hf_name(name)
        common = common.replace("layers.0.", "transformer.").replace("fc.", "fusion_fc.")
        tensors[common] = tensor
    config = {
        "architectures": ["EagleSpeculator"],
        "speculators_model_type": "eagle",
        "layernorms": "norm.weight" in made,
        "fusion_bias": "fc.bias" in made,
        "transformer_layer_config": llama_config(spec),
    }
    return config, tensors


def eagle3_plain(spec: EagleSpec, made: Tensors) -> Written:
    """SafeAILab's EAGLE-3."""
    config = {"architectures": ["LlamaForCausalLM"], **llama_config(spec)}
    config["draft_vocab_size"] = spec.n_vocab if spec.n_vocab < V else None
    if spec.hidden_size != spec.width:
        config["target_hidden_size"] = spec.hidden_size
    tensors: Tensors = {}
    for name, tensor in made.items():
        tensors[hf_name(name).replace("layers.0.", "midlayer.")] = tensor
    return config, with_vocabulary(tensors)


def eagle3_specforge(spec: EagleSpec, made: Tensors) -> Written:
    """SpecForge: ids are nested, and of layers whose outputs are read."""
    config, tensors = eagle3_plain(spec, made)
    ids = [tap - 1 for tap in spec.taps]
    nested = {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": ids}
    return {**config, "architectures": ["LlamaForCausalLMEagle3"], "eagle_config": nested}, tensors


def eagle3_angelslim(spec: EagleSpec, made: Tensors) -> Written:
    config, tensors = eagle3_plain(spec, made)
    ids = [tap - 1 for tap in spec.taps]
    return {
        **config,
        "architectures": ["Eagle3LlamaForCausalLM"],
        "aux_hidden_states_layer_ids": ids,
    }, tensors


def eagle3_speculators(spec: EagleSpec, made: Tensors, *, new_rope: bool = False) -> Written:
    """new_rope: as transformers 5 writes the config."""
    layer = llama_config(spec)
    if new_rope:
        rope = {
            "rope_type": "default",
            **(layer.pop("rope_scaling") or {}),
            "rope_theta": layer.pop("rope_theta"),
        }
        layer["rope_parameters"] = rope
    config = {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "draft_vocab_size": spec.n_vocab,
        "norm_before_residual": spec.norm_before_residual,
        "norm_before_fc": "input_norm.weight" in made,
        "fc_norm": "fc_norms.0.weight" in made,
        "norm_output": spec.norm_output,
        "eagle_aux_hidden_state_layer_ids": list(spec.taps) or None,
        "transformer_layer_config": layer,
        "speculators_config": {"algorithm": "eagle3"},
    }
    return config, with_vocabulary({hf_name(name): tensor for name, tensor in made.items()})


def hf_name(name: str) -> str:
    """Hugging Face's name of a canonical tensor, as far as layouts agree on it."""
    whole = {"embedding.weight": "embed_tokens.weight", "output.weight": "lm_head.weight"}
    if name in whole:
        return whole[name]
    if name.startswith("fc_norms."):
        return name.replace("fc_norms.", "fc_norm.")
    parts = name.split(".")
    if parts[0] != "layers":
        return name
    part = parts[2]
    if part in ("q", "k", "v", "o"):
        part = f"self_attn.{part}_proj"
    elif part in ("gate", "up", "down"):
        part = f"mlp.{part}_proj"
    elif part in ("q_norm", "k_norm"):
        part = f"self_attn.{part}"
    part = {"post_norm": "post_attention_layernorm", "input_norm": "input_layernorm"}.get(part, part)
    return ".".join((*parts[:2], part, parts[3]))


def with_vocabulary(tensors: Tensors) -> Tensors:
    """Distances in place of ids, and the marks that go with them."""
    ids = tensors.get("d2t")
    if ids is None:
        return tensors
    marks = torch.zeros(V, dtype=torch.bool)
    marks[ids] = True
    return tensors | {"d2t": ids - torch.arange(len(ids)), "t2d": marks}
