"""EAGLE-3 heads of every layout become the canonical tensors, with the taps that their config means."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from heads.spec import EagleSpec
from tests.heads.layouts import (
    EAGLE3,
    H,
    Tensors,
    V,
    Written,
    eagle3_angelslim,
    eagle3_plain,
    eagle3_specforge,
    eagle3_speculators,
    eagle3_tensors,
    random,
)
from tests.heads.reading_back import check, error, read

TAPS = (2, 6, 9)
WRITERS = [eagle3_plain, eagle3_specforge, eagle3_angelslim, eagle3_speculators]
SYSTEMS = pytest.mark.parametrize("write", WRITERS)


def written_taps(write: object) -> tuple[int, ...]:
    """SafeAILab's config has no layer ids."""
    return () if write is eagle3_plain else TAPS


@SYSTEMS
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_eagle3(write: Callable[[EagleSpec, Tensors], Written], n_layers: int, qk_norm: bool) -> None:
    spec = replace(EAGLE3, n_layers=n_layers, taps=TAPS)
    made = eagle3_tensors(spec, qk_norm=qk_norm)
    check(write(spec, made), replace(spec, taps=written_taps(write)), made)


@SYSTEMS
def test_eagle3_with_the_whole_vocabulary(write: Callable[[EagleSpec, Tensors], Written]) -> None:
    spec = replace(EAGLE3, n_vocab=V, taps=TAPS)
    made = eagle3_tensors(spec)
    check(write(spec, made), replace(spec, taps=written_taps(write)), made)


def test_eagle3_without_embedding_and_projection_borrows_them() -> None:
    spec = replace(EAGLE3, n_vocab=V)
    made = eagle3_tensors(spec, embedding=False)
    del made["output.weight"]
    check(eagle3_plain(spec, made), spec, made)


def test_eagle3_narrower_than_its_target() -> None:
    spec = replace(EAGLE3, hidden_size=20)
    made = eagle3_tensors(spec)
    check(eagle3_plain(spec, made), spec, made)
    config, tensors = eagle3_plain(spec, made)
    del config["target_hidden_size"]
    assert check((config, tensors), spec, made) == (
        "config has no target_hidden_size: 20, by the columns of fc",
    )
    del tensors["embed_tokens.weight"]
    assert "needs an embedding and a projection of its own" in error((config, tensors))


def test_other_numbers_of_taps_than_three() -> None:
    spec = replace(EAGLE3, n_taps=2, taps=(3, 8))
    made = eagle3_tensors(spec)
    check(eagle3_speculators(spec, made), spec, made)


@pytest.mark.parametrize("flag", [False, True])
def test_flags_of_speculators(flag: bool) -> None:
    spec = replace(EAGLE3, norm_before_residual=flag, norm_output=flag)
    made = eagle3_tensors(spec)
    check(eagle3_speculators(spec, made), spec, made)


def test_norm_before_residual_is_the_default_of_speculators_only() -> None:
    made = eagle3_tensors(EAGLE3)
    for write, default in ((eagle3_speculators, True), (eagle3_plain, False)):
        config, tensors = write(EAGLE3, made)
        config.pop("norm_before_residual", None)
        assert read((config, tensors)).spec.norm_before_residual is default


def test_norm_output_alone_means_something_else_in_specforge() -> None:
    made = eagle3_tensors(EAGLE3)
    config, tensors = eagle3_specforge(EAGLE3, made)
    head = read(({**config, "norm_output": True}, tensors))
    assert not head.spec.norm_output and "SpecForge's" in head.notes[-1]
    norms = {f"fc_norm.{tap}.weight": random(H) for tap in range(3)}
    assert read(({**config, "norm_output": True}, {**tensors, **norms})).spec.norm_output


def test_norms_before_fc() -> None:
    made = eagle3_tensors(EAGLE3)
    for norms in (
        {"input_norm.weight": random(3 * H)},
        {f"fc_norms.{tap}.weight": random(H) for tap in range(3)},
    ):
        check(eagle3_speculators(EAGLE3, made | norms), EAGLE3, made | norms)


@pytest.mark.parametrize("flag", ["norm_before_fc", "fc_norm"])
def test_norm_that_the_config_promises_must_be_there(flag: str) -> None:
    config, tensors = eagle3_speculators(EAGLE3, eagle3_tensors(EAGLE3))
    assert "norm" in error(({**config, flag: True}, tensors))


def test_ids_of_inputs_win_over_ids_of_outputs() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    key, other = "eagle_aux_hidden_state_layer_ids", "aux_hidden_states_layer_ids"
    nested = {"eagle_config": {key: [1, 5, 8]}}
    assert read(({**config, **nested, key: [2, 6, 9]}, tensors)).notes == ()
    head = read(({**config, **nested, key: [3, 6, 9], other: [2, 5, 8]}, tensors))
    assert head.spec.taps == (3, 6, 9)
    assert head.notes == (f"config names several sets of layers; {key} is used",)
    assert read(({**config, "eagle_config": {other: [0, 5, 8]}}, tensors)).spec.taps == (1, 6, 9)


def test_ids_out_of_order_are_sorted_and_noted() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    head = read(({**config, "eagle_aux_hidden_state_layer_ids": [9, 2, 6]}, tensors))
    assert head.spec.taps == TAPS and "not in order" in head.notes[0]


@pytest.mark.parametrize("ids", [[2, 2, 9], [-1, 2, 3], ["2", 6, 9], 3])
def test_ids_that_are_no_layers_are_refused(ids: object) -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    text = error(({**config, "eagle_aux_hidden_state_layer_ids": ids}, tensors))
    assert f"is {ids!r}, not a list of different layers" in text


def test_as_many_layers_must_be_named_as_fc_reads() -> None:
    config, tensors = eagle3_plain(EAGLE3, eagle3_tensors(EAGLE3))
    text = error(({**config, "eagle_aux_hidden_state_layer_ids": [2, 6, 9, 12]}, tensors))
    assert f"{3 * H} columns" in text and "the 4 layers that config.json names" in text
