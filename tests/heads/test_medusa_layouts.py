"""Medusa heads of every layout become the canonical tensors that they were written from."""

from dataclasses import replace

import pytest
import torch

from heads.spec import MedusaSpec
from tests.heads.layouts import (
    D2T,
    H,
    V,
    medusa_full,
    medusa_plain,
    medusa_tensors,
    medusa_vllm,
    random,
)
from tests.heads.reading_back import check, error, read

MEDUSA = MedusaSpec(n_heads=3, n_blocks=1, hidden_size=H, n_vocab=V)
TIED = replace(MEDUSA, n_vocab=None)


@pytest.mark.parametrize("n_blocks", [0, 1, 2])
def test_medusa_with_projections(n_blocks: int) -> None:
    spec = replace(MEDUSA, n_blocks=n_blocks)
    made = medusa_tensors(spec)
    assert check(medusa_plain(spec, made), spec, made) == ()


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_medusa_version_2_uses_the_targets_projection(n_blocks: int) -> None:
    spec = replace(TIED, n_blocks=n_blocks)
    made = medusa_tensors(spec)
    assert check(medusa_plain(spec, made), spec, made) == ()


def test_medusa_without_a_config_is_read_off_its_tensors() -> None:
    made = medusa_tensors(MEDUSA)
    assert check(({}, medusa_plain(MEDUSA, made)[1]), MEDUSA, made) == ()


def test_more_heads_than_the_config_says_are_noted() -> None:
    spec = replace(MEDUSA, n_heads=5)
    made = medusa_tensors(spec)
    config, tensors = medusa_plain(spec, made)
    notes = check(({**config, "medusa_num_heads": 2}, tensors), spec, made)
    assert notes == ("config says 2 heads, the file has 5",)


def test_medusa_inside_a_full_model_is_taken_alone() -> None:
    made = medusa_tensors(MEDUSA)
    (note,) = check(medusa_full(MEDUSA, made), MEDUSA, made)
    assert "the GGUF must be made from that very model" in note


@pytest.mark.parametrize("prefix", ["", "medusa_heads."])
@pytest.mark.parametrize("n_blocks", [0, 1, 2])
def test_medusa_of_vllm(prefix: str, n_blocks: int) -> None:
    spec = replace(MEDUSA, n_blocks=n_blocks)
    made = medusa_tensors(spec)
    assert check(medusa_vllm(spec, made, prefix=prefix), spec, made) == ()


def test_biases_that_vllm_has_dropped_become_zeros() -> None:
    made = medusa_tensors(MEDUSA, biases=False)
    assert check(medusa_vllm(MEDUSA, made), MEDUSA, made) == ("3 of 3 blocks have no bias: zeros",)


@pytest.mark.parametrize("shared", ["lm_heads.0.weight", "lm_head.weight"])
def test_one_projection_of_vllm_serves_all_heads(shared: str) -> None:
    made = medusa_tensors(MEDUSA)
    made |= {f"outputs.{head}.weight": made["outputs.0.weight"] for head in range(3)}
    written = medusa_vllm(MEDUSA, made, shared=shared)
    check(written, MEDUSA, made)
    tensors = read(written).tensors
    assert tensors["outputs.0.weight"] is tensors["outputs.2.weight"]


def test_vllm_without_a_projection_is_tied() -> None:
    made = medusa_tensors(TIED)
    check(medusa_vllm(TIED, made), TIED, made)


def test_token_map_names_the_rows() -> None:
    spec = replace(MEDUSA, n_vocab=len(D2T))
    made = medusa_tensors(spec) | {"token_map": D2T}
    check(medusa_vllm(spec, made), spec, made)


def test_longer_projections_are_cut_down_to_token_map() -> None:
    made = medusa_tensors(MEDUSA) | {"token_map": D2T}
    cut = {name: t[D2T] if name.startswith("outputs") else t for name, t in made.items()}
    check(medusa_vllm(MEDUSA, made), replace(MEDUSA, n_vocab=len(D2T)), cut)


def test_token_map_beyond_the_projection_is_refused() -> None:
    made = medusa_tensors(MEDUSA) | {"token_map": torch.tensor([1, V])}
    assert f"token_map names token {V}, outside" in error(medusa_vllm(MEDUSA, made))


def test_missing_head_block_and_projection_are_named() -> None:
    made = medusa_tensors(MEDUSA)
    for prefix, text in {
        "1.": "has head 2 but no head 1",
        "1.0.linear.weight": "has no tensor 1.0.linear.weight of shape [16, 16]",
        "1.1.weight": "but none for head 1",
    }.items():
        config, tensors = medusa_plain(MEDUSA, made)
        left = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
        assert text in error((config, left))


def test_wrong_shape_names_the_tensor_and_both_shapes() -> None:
    config, tensors = medusa_plain(MEDUSA, medusa_tensors(MEDUSA))
    tensors["2.0.linear.bias"] = random(H + 1)
    text = error((config, tensors))
    assert "2.0.linear.bias has shape [17], but the other tensors want [16]; the file is incomplete" in text
