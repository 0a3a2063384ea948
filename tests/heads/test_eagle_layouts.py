"""EAGLE-1, EAGLE-2 and HASS heads of every layout become the canonical tensors."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from heads.spec import EagleSpec, Rope
from tests.heads.layouts import (
    D2T,
    EAGLE,
    H,
    Tensors,
    V,
    Written,
    eagle_plain,
    eagle_speculators,
    eagle_tensors,
    eagle_vllm,
    random,
)
from tests.heads.reading_back import check, error


@pytest.mark.parametrize("fc_bias", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("write", [eagle_plain, eagle_speculators])
def test_eagle_biases_are_there_if_their_tensors_are(
    write: Callable[[EagleSpec, Tensors], Written], fc_bias: bool, qkv_bias: bool
) -> None:
    made = eagle_tensors(EAGLE, fc_bias=fc_bias, qkv_bias=qkv_bias)
    assert check(write(EAGLE, made), EAGLE, made) == ()


def test_eagle_keeps_its_embedding() -> None:
    made = eagle_tensors(EAGLE, fc_bias=True) | {"embedding.weight": random(V, H)}
    check(eagle_plain(EAGLE, made), EAGLE, made)


def test_eagle_of_two_layers() -> None:
    spec = replace(EAGLE, n_layers=2)
    made = eagle_tensors(spec)
    check(eagle_plain(spec, made), spec, made)


def test_old_configs_lack_what_has_a_default() -> None:
    made = eagle_tensors(EAGLE)
    config, tensors = eagle_plain(EAGLE, made)
    kept = {"num_attention_heads": 4, "vocab_size": V}
    notes = check((kept, tensors), replace(EAGLE, rope=Rope(10000.0), eps=1e-6), made)
    assert notes == ("config has no rope_theta: 10000, with which such heads were trained",)


def test_eagle_of_vllm_loses_the_norms_that_it_does_not_apply() -> None:
    made = eagle_tensors(EAGLE) | {"output.weight": random(V, H)}
    notes = check(eagle_vllm(EAGLE, made), EAGLE, made)
    assert [note.split()[0] for note in notes] == ["layers.0.input_layernorm.weight", "norm.weight"]


def test_eagle_of_vllm_cut_down_by_token_map() -> None:
    made = eagle_tensors(EAGLE) | {"output.weight": random(V, H)}
    config, tensors = eagle_vllm(EAGLE, made)
    cut = made | {"output.weight": made["output.weight"][D2T], "d2t": D2T}
    check((config, {**tensors, "token_map": D2T}), replace(EAGLE, n_vocab=len(D2T)), cut)


def test_norm_of_ones_is_none_and_another_is_refused() -> None:
    made = eagle_tensors(EAGLE)
    config, tensors = eagle_plain(EAGLE, made)
    entry = "layers.0.input_layernorm.weight"
    check((config, {**tensors, entry: torch.ones(H)}), EAGLE, made)
    assert f"has a norm after fc ({entry})" in error((config, {**tensors, entry: random(H)}))


@pytest.mark.parametrize("write", [eagle_plain, eagle_speculators])
def test_hass_with_norms(write: Callable[[EagleSpec, Tensors], Written]) -> None:
    made = eagle_tensors(EAGLE, fc_bias=True)
    made |= {f"layers.0.{name}_norm.weight": random(H) for name in ("input", "hidden")}
    made["norm.weight"] = random(H)
    check(write(EAGLE, made), EAGLE, made)
