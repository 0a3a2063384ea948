"""What heads share: sizes, RoPE, and what is refused."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters.errors import HeadError
from heads.spec import MedusaSpec, Rope
from tests.heads.layouts import (
    EAGLE,
    EAGLE3,
    H,
    V,
    Written,
    eagle3_plain,
    eagle3_speculators,
    eagle3_tensors,
    eagle_plain,
    eagle_speculators,
    eagle_tensors,
    medusa_plain,
    medusa_tensors,
    medusa_vllm,
    random,
)
from tests.heads.reading_back import check, error, read

MEDUSA = MedusaSpec(n_heads=3, n_blocks=1, hidden_size=H, n_vocab=V)
TIED = replace(MEDUSA, n_vocab=None)


def rope_of(**keys: Any) -> Rope:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    for key in ("rope_theta", "rope_scaling"):
        del config[key]
    rope: Rope = read(({**config, **keys}, tensors)).spec.rope
    return rope


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_rope_of_old_and_new_configs() -> None:
    assert rope_of() == Rope(10000.0)
    assert rope_of(rope_theta=1e6) == Rope(1e6)
    new = {"rope_type": "default", "rope_theta": 1e6}
    assert rope_of(rope_parameters=new) == rope_of(rope_parameters=new, rope_theta=None) == Rope(1e6)
    linear = {"rope_type": "linear", "factor": 4.0}
    assert rope_of(rope_scaling={"type": "linear", "factor": 4.0}).scaling == linear
    assert rope_of(rope_parameters={**linear, "rope_theta": 5e5}) == Rope(5e5, linear)
    llama3 = {**LLAMA3, "rope_type": "llama3"}
    assert rope_of(rope_scaling=llama3, rope_theta=5e5) == Rope(5e5, llama3)


def test_speculators_of_transformers_5() -> None:
    spec = replace(EAGLE3, rope=Rope(5e5, {**LLAMA3, "rope_type": "llama3"}))
    made = eagle3_tensors(spec)
    check(eagle3_speculators(spec, made, new_rope=True), spec, made)


@pytest.mark.parametrize("kind", ["dynamic", "yarn", "longrope", "mrope"])
def test_other_rope_scalings_are_refused_by_name(kind: str) -> None:
    with pytest.raises(HeadError, match=f"rope scaling {kind!r} is not known"):
        rope_of(rope_scaling={"type": kind, "factor": 2.0})


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": "large"},
        {"rope_scaling": {"rope_type": ["linear"]}},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        {"partial_rotary_factor": 0.5},
    ],
)
def test_rope_that_cannot_be_computed_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(HeadError, match="rope|rotates"):
        rope_of(**keys)


def test_wrong_numbers_in_the_config_are_noted_and_not_believed() -> None:
    made = eagle_tensors(EAGLE)
    config, tensors = eagle_plain(EAGLE, made)
    config |= {"head_dim": 128, "num_key_value_heads": 4, "num_hidden_layers": 36}
    assert set(check((config, tensors), EAGLE, made)) == {
        "config says 128 numbers in an attention head, the file has 6",
        "config says 4 key heads, the file has 2",
        "config says 36 layers, the file has 1",
    }


def test_norms_of_queries_tell_the_number_of_heads() -> None:
    made = eagle3_tensors(EAGLE3, qk_norm=True)
    config, tensors = eagle3_plain(EAGLE3, made)
    check(({**config, "num_attention_heads": 3}, tensors), EAGLE3, made)


def test_number_of_attention_heads_must_be_told() -> None:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    assert "there is no config.json beside it" in error(({}, tensors))
    assert "config.json lacks num_attention_heads" in error(({"vocab_size": V}, tensors))
    wrong = {"num_attention_heads": 7, "vocab_size": V}
    assert "is 7, but there are 24 rows of queries" in error((wrong, tensors))
    assert "num_attention_heads of config.json is 'four'" in error(
        ({**config, "num_attention_heads": "four"}, tensors)
    )


@pytest.mark.parametrize("kind", ["peagle", "mtp", "dflash", "dflash2", "dspark"])
def test_other_speculators_are_refused_by_name(kind: str) -> None:
    config, tensors = eagle3_speculators(EAGLE3, eagle3_tensors(EAGLE3))
    assert f"type {kind}, which cannot be run" in error(({**config, "speculators_model_type": kind}, tensors))
    del config["speculators_model_type"]
    assert f"type {kind}," in error(({**config, "speculators_config": {"algorithm": kind}}, tensors))


@pytest.mark.parametrize(("name", "kind"), [("mask_hidden", "P-EAGLE"), ("mtp.layers.0.fc.weight", "MTP")])
def test_parts_of_other_heads_are_refused(name: str, kind: str) -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    assert f"type {kind}," in error((config, {**tensors, name: random(H)}))


def test_unknown_modules_are_refused_by_their_tensors() -> None:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    text = error((config, {**tensors, "fusion.gate.weight": random(H, H)}))
    assert "fusion.gate.weight; heads with modules of their own (GRIFFIN" in text


def test_tensors_of_trainers_are_left_out() -> None:
    made = eagle3_tensors(EAGLE3)
    config, tensors = eagle3_plain(EAGLE3, made)
    more = {"verifier_norm.weight": random(H), "midlayer.self_attn.rotary_emb.inv_freq": random(3)}
    check((config, tensors | more), EAGLE3, made)


def test_wrapped_names_are_unwrapped_and_double_ones_refused() -> None:
    made = eagle3_tensors(EAGLE3)
    config, tensors = eagle3_plain(EAGLE3, made)
    check((config, {f"module.model.{name}": t for name, t in tensors.items()}), EAGLE3, made)
    text = error((config, {**tensors, "model.fc.weight": tensors["fc.weight"]}))
    assert "fc.weight and model.fc.weight mean the same tensor" in text


def test_quantized_heads_are_refused() -> None:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    tensors["fc.weight"] = tensors["fc.weight"].to(torch.int8)
    assert "fc.weight is stored as torch.int8; quantized heads are not read" in error((config, tensors))


def test_a_language_model_is_no_head() -> None:
    tensors = {"model.embed_tokens.weight": random(V, H)}
    tensors["model.layers.0.self_attn.q_proj.weight"] = random(H, H)
    assert "is a whole language model, without a head" in error(({}, tensors))
    assert "holds no tensor" in error(({}, {}))
    assert "holds no head of a known kind (its tensors: a, ...)" in error(({}, {"a": random(1)}))


def test_eagle3_that_reads_no_taps_is_refused() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    del tensors["fc.weight"]
    assert "reads no layer taps" in error((config, tensors))


def test_attention_of_no_known_width_is_refused() -> None:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    for x in "qkv":
        name = f"layers.0.self_attn.{x}_proj.weight"
        tensors[name] = random(tensors[name].shape[0], 3 * H)
    assert "reads 48 columns, neither 16 (EAGLE-1) nor 32 (EAGLE-3)" in error((config, tensors))


def test_other_activations_are_refused() -> None:
    config, tensors = eagle_plain(EAGLE, eagle_tensors(EAGLE))
    assert re.search("'gelu'; only silu", error(({**config, "hidden_act": "gelu"}, tensors)))


@pytest.mark.parametrize(
    "written",
    [
        medusa_plain(MEDUSA, medusa_tensors(MEDUSA)),
        medusa_vllm(MEDUSA, medusa_tensors(MEDUSA)),
        eagle_plain(EAGLE, eagle_tensors(EAGLE, fc_bias=True, qkv_bias=True)),
        eagle_speculators(EAGLE, eagle_tensors(EAGLE)),
        eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3)),
        eagle3_speculators(EAGLE3, eagle3_tensors(EAGLE3, qk_norm=True)),
    ],
)
def test_no_tensor_of_another_shape_gets_through(written: Written) -> None:
    config, tensors = written
    for name in set(tensors) - {"t2d"}:  # only compared with d2t
        for shape in ((), (0,), (H + 1,), (H + 1, H + 3), (0, 0), (2, 2, 2)):
            error((config, {**tensors, name: torch.zeros(shape)}))
