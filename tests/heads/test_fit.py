"""Whether a head fits a target, and what it takes."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapters.errors import HeadError
from heads.fit import HeadBytes, check_fit, head_bytes, taps_of
from heads.spec import EagleSpec, Head, MedusaSpec, Spec
from tests.heads.layouts import (
    D2T,
    EAGLE,
    EAGLE3,
    H,
    Tensors,
    V,
    eagle3_tensors,
    eagle_tensors,
    medusa_tensors,
)

MEDUSA = MedusaSpec(n_heads=2, n_blocks=1, hidden_size=H, n_vocab=V)
TARGET: dict[str, Any] = {
    "n_embd": H,
    "n_vocab": V,
    "n_layer": 12,
    "architecture": "llama",
    "layer_inputs": True,
}


def head(spec: Spec, tensors: Tensors) -> Head:
    return Head(spec, tensors, "here")


def eagle3(**changes: Any) -> Head:
    spec: EagleSpec = replace(EAGLE3, **changes)
    return head(spec, eagle3_tensors(spec))


def fit(what: Head, *, layer_inputs: bool, **sizes: Any) -> tuple[str, ...]:
    return check_fit(what, SimpleNamespace(**sizes), layer_inputs=layer_inputs)


def error(what: Head, **changes: Any) -> str:
    with pytest.raises(HeadError, match=r"\Ahere: ") as caught:
        fit(what, **{**TARGET, **changes})
    return str(caught.value)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_medusa_and_eagle_need_no_layer_inputs(architecture: str) -> None:
    target = {**TARGET, "architecture": architecture, "layer_inputs": False}
    assert fit(head(MEDUSA, medusa_tensors(MEDUSA)), **target) == ()
    assert fit(head(EAGLE, eagle_tensors(EAGLE)), **target) == ()


def test_eagle3_needs_layer_inputs() -> None:
    text = error(eagle3(), layer_inputs=False, architecture="phi3")
    assert "does not give for phi3; use an EAGLE-1/2 or Medusa head" in text


def test_wrong_hidden_size_names_both() -> None:
    assert f"hidden size of {H}, the target (llama) has 2048" in error(eagle3(), n_embd=2048)


def test_taps_of_the_config_or_the_usual_ones_are_told() -> None:
    assert fit(eagle3(), **TARGET) == (
        "reads the inputs of layers 2, 6, 9 (the usual ones, as config.json names none)",
    )
    (note,) = fit(eagle3(taps=(1, 5, 8)), **TARGET)
    assert note == "reads the inputs of layers 1, 5, 8 (config.json)"
    assert taps_of(eagle3(), 32) == (2, 16, 29)
    assert taps_of(head(EAGLE, eagle_tensors(EAGLE)), 32) == ()


def test_taps_beyond_the_target_are_refused() -> None:
    assert "input of layer 12, the target has layers 0 to 11" in error(eagle3(taps=(2, 6, 12)))


def test_usual_taps_that_coincide_are_refused() -> None:
    assert "the usual ones of 4 layers are 1, 2; add eagle_aux" in error(eagle3(), n_layer=4)


def test_drafted_tokens_must_exist() -> None:
    last = int(D2T[-1])
    spec = replace(EAGLE3)
    borrowing = head(spec, eagle3_tensors(spec, embedding=False))
    assert f"drafts token {last}, the target has {last} tokens" in error(borrowing, n_vocab=last)
    fit(borrowing, **{**TARGET, "n_vocab": last + 1})


@pytest.mark.parametrize("n_vocab", [V - 8, V + 128])
def test_padding_of_a_vocabulary_is_noted(n_vocab: int) -> None:
    target = {**TARGET, "n_vocab": n_vocab}
    (note,) = fit(head(MEDUSA, medusa_tensors(MEDUSA)), **target)
    assert note.startswith(f"its projection has {V} rows for {n_vocab} tokens")
    own = eagle_tensors(EAGLE) | {"embedding.weight": torch.zeros(V, H)}
    (note,) = fit(head(EAGLE, own), **target)
    assert note.startswith("its embedding has")


def test_more_than_padding_is_another_vocabulary() -> None:
    n_vocab = V + 129
    for what in (head(MEDUSA, medusa_tensors(MEDUSA)), eagle3(n_vocab=V), eagle3()):
        assert f"{V} rows, the target has {n_vocab} tokens" in error(what, n_vocab=n_vocab)


def test_a_head_that_borrows_its_vocabulary_fits_any() -> None:
    tied = replace(MEDUSA, n_vocab=None)
    target = {**TARGET, "n_vocab": 1000}
    assert fit(head(tied, medusa_tensors(tied)), **target) == ()
    (note,) = fit(head(EAGLE, eagle_tensors(EAGLE)), **target)
    assert note == f"config.json says {V} tokens, the target has 1000; the target's are used"


def test_bytes_of_weights_loans_and_cache() -> None:
    made = eagle_tensors(EAGLE)
    n = sum(tensor.numel() for tensor in made.values())
    kv = 1000 * 2 * EAGLE.n_kv_heads * EAGLE.head_dim
    sizes = {"n_embd": H, "n_vocab": V}
    found = head_bytes(head(EAGLE, made), **sizes)
    assert found == HeadBytes(4 * n, 2 * 4 * V * H, 4 * kv)
    assert found.total(2000) == 4 * (n + 2 * V * H + 2 * kv)
    half = head_bytes(head(EAGLE, made), dtype=torch.bfloat16, tied=True, **sizes)
    assert half == HeadBytes(2 * n, 2 * V * H, 2 * kv)


def test_shared_projections_are_counted_once_and_ids_as_ids() -> None:
    made = medusa_tensors(MEDUSA)
    made |= {"outputs.1.weight": made["outputs.0.weight"], "token_map": torch.arange(V)}
    weights = 4 * (2 * (H * H + H) + V * H) + 8 * V
    assert head_bytes(head(MEDUSA, made), n_embd=H, n_vocab=V) == HeadBytes(weights, 0, 0)
    tied = replace(MEDUSA, n_vocab=None)
    assert head_bytes(head(tied, medusa_tensors(tied)), n_embd=H, n_vocab=V).borrowed == 4 * V * H
