"""Published heads: which belong to a GGUF, and which `auto` takes."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import HeadError
from adapters.gguf_file import GgufFacts, read_gguf
from heads import pairs
from heads.choice import chosen_head
from heads.pairs import PAIRS, Original, Pair, published_heads
from orchestrator import Engine
from tests.heads.tiny_heads import talker, write_head
from tests.tiny_gguf import TinyFactory

LLAMA = Original("meta-llama/Llama-3.1-8B-Instruct", "", "llama", 4096, 32, 128_256)
QWEN = Original("Qwen/Qwen3-8B", "", "qwen3", 4096, 36, 151_936)
MISTRAL = Original("mistralai/Mistral-7B-Instruct-v0.2", "", "llama", 4096, 32, 32_000)
VICUNA = Original("lmsys/vicuna-13b-v1.3", "", "llama", 5120, 40, 32_000)


def facts(original: Original, name: str, **changes: Any) -> GgufFacts:
    """A GGUF of the sizes of `original` that calls itself `name`."""
    known = GgufFacts(
        architecture=original.architecture,
        name=name,
        n_params=0,
        file_type="Q4_K_M",
        tensor_types={},
        token_embedding_type="Q4_K",
        output_tensor_type="Q6_K",
        n_vocab=original.n_vocab,
        n_ctx_train=0,
        n_embd=original.n_embd,
        n_layer=original.n_layer,
        n_head=0,
        n_head_kv=0,
        sliding_window=None,
        has_chat_template=True,
        bytes=0,
    )
    return replace(known, **changes)


def models(of: GgufFacts) -> set[str]:
    return {pair.model for pair in published_heads(of)}


@pytest.mark.parametrize(
    ("original", "name"),
    [
        (LLAMA, "Meta Llama 3.1 8B Instruct"),
        (LLAMA, "Llama-3.1-8B-Instruct"),
        (LLAMA, "meta-llama-3.1-8b-instruct-hf"),
        (QWEN, "Qwen3 8B"),
        (QWEN, "Qwen3 8B Instruct"),
        (MISTRAL, "mistralai_mistral-7b-instruct-v0.2"),
        (VICUNA, "Vicuna 13b v1.3"),
    ],
)
def test_a_model_is_found_by_the_names_that_conversions_give_it(original: Original, name: str) -> None:
    assert models(facts(original, name)) == {original.name}


@pytest.mark.parametrize(
    ("original", "name"),
    [
        (LLAMA, "Meta Llama 3.1 8B"),
        (LLAMA, "Meta Llama 3.1 8B Instruct Abliterated"),
        (LLAMA, "Hermes 3 Llama 3.1 8B"),
        (LLAMA, "Llama 3.2 8B Instruct"),
        (LLAMA, "Llama"),
        (LLAMA, ""),
        (QWEN, "Qwen3 8B Base"),
        (QWEN, "Qwen3-Embedding-8B"),
        (QWEN, "Qwen3 8B Instruct 2507"),
        (MISTRAL, "mistralai_mistral-7b-instruct-v0.1"),
        (VICUNA, "Vicuna 13b v1.5"),
    ],
)
def test_a_relative_of_the_same_sizes_has_no_heads(original: Original, name: str) -> None:
    assert published_heads(facts(original, name)) == ()


@pytest.mark.parametrize("size", ["n_embd", "n_layer", "n_vocab", "architecture"])
def test_a_name_alone_is_not_enough(size: str) -> None:
    right = facts(LLAMA, "Meta Llama 3.1 8B Instruct")
    assert published_heads(right)
    value: Any = getattr(right, size)
    assert published_heads(replace(right, **{size: value * 2})) == ()


def test_every_model_of_the_table_is_found_under_its_own_names_and_no_other_is() -> None:
    for original in {pair.original for pair in PAIRS}:
        for name in (original.name.partition("/")[2], *original.also):
            assert models(facts(original, name)) == {original.name}


def test_the_best_family_comes_first() -> None:
    families = [pair.family for pair in published_heads(facts(VICUNA, "vicuna-13b-v1.3"))]
    assert families == ["eagle3", "eagle", "medusa"]
    assert [pair.family for pair in published_heads(facts(LLAMA, "Llama 3.1 8B Instruct"))][-1] == "eagle"


def test_the_table_names_each_head_once_with_the_family_that_its_name_tells() -> None:
    assert len({pair.head for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        told = [family for family in ("eagle3", "eagle", "medusa") if family in pair.head.lower()]
        assert pair.family == told[0], pair.head


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        ("yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", (2, 16, 29)),
        ("AngelSlim/Qwen3-8B_eagle3", (2, 18, 33)),
        ("AngelSlim/Qwen3-1.7B_eagle3", (2, 14, 25)),
        ("yuhuili/EAGLE-LLaMA3.1-Instruct-8B", ()),
        ("FasterDecoding/medusa-vicuna-7b-v1.3", ()),
    ],
)
def test_taps_are_the_layers_of_the_reference(name: str, taps: tuple[int, ...]) -> None:
    assert next(pair for pair in PAIRS if pair.head == name).taps == taps


def test_auto_without_a_head_says_for_which_models_there_are_some(tiny: TinyFactory) -> None:
    assert chosen_head("a/b", tiny("llama")) == "a/b"
    with pytest.raises(HeadError, match=r"no head is known for .* \(llama, .* known for .*Qwen/Qwen3-8B, "):
        chosen_head("auto", tiny("llama"))


def test_the_engine_drafts_with_the_head_that_auto_finds(
    tiny: TinyFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = talker(tiny)
    known = read_gguf(target)
    original = Original(
        f"somebody/{known.name}", "", known.architecture, known.n_embd, known.n_layer, known.n_vocab
    )
    older = Pair(original, str(write_head("eagle-bias", tmp_path)), "eagle")
    newer = Pair(original, str(write_head("eagle3-reduced", tmp_path)), "eagle3")
    monkeypatch.setattr(pairs, "PAIRS", (older, newer))
    settings: dict[str, Any] = {"n_threads": 1, "temperature": 0.0, "planner": "fixed"}
    with caplog.at_level(logging.INFO, "pilotfish.head"):
        engine = Engine.load(target, method="head", head="auto", **settings)
    with engine:
        assert engine.generate("the sand", max_tokens=24).stats.n_drafted > 0
    assert f"{newer.head} (eagle3)" in caplog.text and older.head not in caplog.text
