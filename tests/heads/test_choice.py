"""Which head a name means, and that those which come with pilotfish are whole."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import HeadError
from adapters.gguf_file import read_gguf
from heads import shipped
from heads.checkpoint import load_head
from heads.choice import chosen_head
from heads.fit import check_fit
from heads.shipped import SHIPPED, Shipped, shipped_head
from tests.heads.test_pairs import facts
from tests.tiny_gguf import TinyFactory

MEGABYTES = 1e6


@pytest.mark.parametrize("head", SHIPPED, ids=lambda head: head.name)
def test_each_shipped_head_fits_its_model_and_says_where_it_comes_from(head: Shipped) -> None:
    model = facts(head.original, head.original.also[0])
    loaded = load_head(head.folder)
    check_fit(loaded, model)
    told = json.loads((head.folder / "provenance.json").read_text("utf-8"))
    assert told["tokens"] > 0 and told["target_type"] and told["data"] and told["held_out"]


def test_shipped_heads_are_small() -> None:
    sizes = [sum(file.stat().st_size for file in head.folder.iterdir()) / MEGABYTES for head in SHIPPED]
    assert max(sizes) <= 20 and sum(sizes) <= 40


def test_default_and_auto_take_the_head_that_comes_with_pilotfish(
    monkeypatch: pytest.MonkeyPatch, tiny: TinyFactory, caplog: pytest.LogCaptureFixture
) -> None:
    target = tiny("llama")
    known = read_gguf(target)
    original = replace(
        SHIPPED[0].original,
        n_embd=known.n_embd,
        n_layer=known.n_layer,
        n_vocab=known.n_vocab,
        also=(known.name,),
    )
    monkeypatch.setattr(shipped, "SHIPPED", (Shipped(original, "a-head"),))
    with caplog.at_level(logging.INFO, "pilotfish.head"):
        assert Path(chosen_head("default", target)).name == "a-head"
        assert Path(chosen_head("auto", target)).name == "a-head"
    assert "a-head, which comes with pilotfish" in caplog.text


def test_the_first_that_is_for_the_type_of_weights_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SHIPPED[0].original
    monkeypatch.setattr(
        shipped, "SHIPPED", (Shipped(original, "for-16-bits", ("BF16",)), Shipped(original, "for-all"))
    )

    def of(**changes: Any) -> str:
        found = shipped_head(facts(original, original.also[0], **changes))
        return "" if found is None else found.name

    assert of(file_type="BF16") == "for-16-bits"
    assert of(file_type="Q4_0") == "for-all"
    assert of(file_type="BF16", n_layer=99) == ""  # another model of the same name


def test_smollm2s_own_types_get_the_head_that_was_best_on_them() -> None:
    original = SHIPPED[0].original
    found = {
        kind: shipped_head(facts(original, original.also[0], file_type=kind))
        for kind in ("BF16", "Q8_0", "Q4_0", "Q4_1")
    }
    names = {kind: folder and folder.name for kind, folder in found.items()}
    assert names == {kind: f"smollm2-135m-{'q4_0' if kind == 'Q4_0' else 'bf16'}" for kind in found}


def test_default_for_another_model_says_what_there_is_and_what_to_do(tiny: TinyFactory) -> None:
    with pytest.raises(HeadError, match=r"only for HuggingFaceTB/SmolLM2-135M-Instruct; .*pilotfish train"):
        chosen_head("default", tiny("llama"))
