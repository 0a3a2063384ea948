"""What configs of heads say of their layer, in the keys of Hugging Face's LlamaConfig, and around it.

Knows which program reads which key; see heads.export_layouts for the names of tensors.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from adapters.errors import HeadError
from adapters.gguf_file import GgufFacts
from heads.spec import EagleSpec, Head, Rope

Layout = Literal["safeailab", "speculators"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


def llama_config(
    head: Head, spec: EagleSpec, layout: Layout, n_vocab: int, target: GgufFacts | None
) -> dict[str, Any]:
    """A LlamaConfig; "model_type" is qwen3 where queries and keys have norms."""
    names = head.tensors
    config = {
        "model_type": "qwen3" if "layers.0.q_norm.weight" in names else "llama",
        "vocab_size": n_vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "rms_norm_eps": spec.eps,
        "rope_theta": spec.rope.theta,
        "rope_scaling": _scaling(spec.rope),
        "hidden_act": "silu",
        **_biases(head, layout),
        "tie_word_embeddings": False,
    }
    if target is not None:
        config["max_position_embeddings"] = target.n_ctx_train
    return config | {"torch_dtype": str(names["fc.weight"].dtype).removeprefix("torch.")}


def _biases(head: Head, layout: Layout) -> dict[str, bool]:
    """What configs say of them: none, all of attention, all of the MLP, or in safeailab q, k and v only."""
    found = {
        name.split(".")[2] for name in head.tensors if name.startswith("layers.") and name.endswith(".bias")
    }
    attention, mlp = found & {*"qkvo"}, found - {*"qkvo"}
    flags = {"attention_bias": attention == {*"qkvo"}, "mlp_bias": len(mlp) == 3}
    if attention == {*"qkv"} and layout == "safeailab":
        flags["qkv_bias"] = True
        attention = set()
    if (attention and not flags["attention_bias"]) or (mlp and not flags["mlp_bias"]):
        raise HeadError(
            f"{head.source}: layout {layout} has no place for biases of {', '.join(sorted(found))} alone; "
            "use the head as it is"
        )
    return flags


def _scaling(rope: Rope) -> dict[str, Any] | None:
    if rope.scaling is None:
        return None
    if rope.scaling.get("rope_type") == "linear":  # older loaders take this form and no other
        return {"type": "linear", "factor": float(rope.scaling["factor"])}
    return dict(rope.scaling)


def speculators_config(
    own: Mapping[str, Any], algorithm: str, layer: Mapping[str, Any], target_name: str
) -> dict[str, Any]:
    greedy = {
        "proposal_type": "greedy",
        "speculative_tokens": 3,
        "verifier_accept_k": 1,  # with no tolerance: the target's own text, greedy
        "accept_tolerance": 0.0,
    }
    return {
        **own,
        "speculators_model_type": algorithm,
        "tie_word_embeddings": False,
        "transformer_layer_config": dict(layer),
        "speculators_config": {
            "algorithm": algorithm,
            "default_proposal_method": "greedy",
            "proposal_methods": [greedy],
            "verifier": {"name_or_path": target_name or None, "architectures": []},
        },
    }
