"""Claims about loading a GGUF, applying LoRAs to it, and letting it go again."""

import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from adapters.errors import AdapterError, ConfigError, ModelLoadError, ModelNotFound
from adapters.grammar import LlamaGrammar
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings
from adapters.target import FloatArray
from adapters.tokenizer import Tokenizer
from tests.adapters.tiny_context import CLOSE, EXACT, NOTHING, PROMPT, TinyModel, letters
from tests.tiny_gguf import CHATML, N_EMBD, N_VOCAB, TinyFactory

Models = Callable[..., TinyModel]


# -- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "memory", "n_layer"),
    [("llama", "dense", 2), ("gemma3", "sliding window", 6), ("mamba", "recurrent", 2)],
)
def test_a_model_knows_its_numbers(arch: str, memory: str, n_layer: int, tiny_model: Models) -> None:
    model = tiny_model(arch).model
    assert (model.architecture, model.memory_class, model.n_layer) == (arch, memory, n_layer)
    assert (model.n_vocab, model.n_embd, model.n_ctx_train) == (N_VOCAB, N_EMBD, 512)
    assert model.n_bytes >= 4 * model.n_params > 0


def test_metadata_of_any_length_is_read_whole(tiny: TinyFactory) -> None:
    model = LlamaModel(tiny("llama", chat_template="é" * 1000))
    assert model.meta("tokenizer.chat_template") == "é" * 1000
    assert model.meta("general.name") == "tiny"
    assert model.meta("no.such.key") is None
    assert LlamaModel(tiny("llama")).meta("tokenizer.chat_template") == CHATML


def test_all_metadata_is_what_each_key_says(tiny: TinyFactory) -> None:
    model = LlamaModel(tiny("llama", chat_template="é" * 1000))
    assert len(model.metadata) > 10 and model.metadata["tokenizer.chat_template"] == "é" * 1000
    assert all(model.meta(key) == value for key, value in model.metadata.items())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"x\.gguf: no such file"):
        LlamaModel(tmp_path / "x.gguf")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept: float, tiny: TinyFactory, tmp_path: Path) -> None:
    whole = tiny("llama").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelLoadError, match=r"cut\.gguf"):
        LlamaModel(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "poem.gguf"
    path.write_text("Full fathom five thy father lies" * 100)
    with pytest.raises(ModelLoadError, match=r"poem\.gguf"):
        LlamaModel(path)


def test_a_missing_tensor_is_named(tiny: TinyFactory, tmp_path: Path) -> None:
    path = tmp_path / "gap.gguf"
    path.write_bytes(tiny("llama").read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    with pytest.raises(ModelLoadError, match=r"gap\.gguf: llama\.cpp could not load it: .*blk\.1\.ffn_up"):
        LlamaModel(path)


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(use_mmap=False),
        ModelSettings(n_gpu_layers=0),
        ModelSettings(split_mode="none"),
        ModelSettings(use_extra_bufts=False),
        ModelSettings(tensor_split=(1.0,)),
    ],
    ids=["no mmap", "CPU only", "no split", "no repacking", "tensor split"],
)
def test_ways_of_loading_give_the_same_model(
    settings: ModelSettings, tiny: TinyFactory, tiny_model: Models
) -> None:
    context = LlamaContext(LlamaModel(tiny("llama"), settings), ContextSettings(**EXACT))
    np.testing.assert_allclose(context.extend(PROMPT), tiny_model("llama").after(PROMPT), atol=CLOSE)


def test_too_many_gpu_shares_are_refused(tiny: TinyFactory) -> None:
    with pytest.raises(ConfigError, match="tensor_split has 999 shares, llama.cpp allows"):
        LlamaModel(tiny("llama"), ModelSettings(tensor_split=(1.0,) * 999))


# -- LoRA ----------------------------------------------------------------------------------------

ALPHA, RANK = 6.0, 3


def low_rank(seed: int) -> tuple[FloatArray, FloatArray]:
    """A [rank, n_in] and B [n_out, rank] for the query projection of tiny llama's first layer."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(RANK, N_EMBD)).astype(np.float32), rng.normal(size=(128, RANK)).astype(np.float32)


def write_lora(path: Path, seed: int, arch: str = "llama") -> Path:
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, matrix in zip("ab", low_rank(seed), strict=True):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{name}", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def merged(source: Path, target: Path, delta: FloatArray) -> Path:
    """A copy of a tiny model whose first query projection has `delta` added."""
    target.write_bytes(source.read_bytes())
    reader = gguf.GGUFReader(target, "r+")
    weights = next(tensor.data for tensor in reader.tensors if tensor.name == "blk.0.attn_q.weight")
    weights += delta
    reader.data.flush()
    return target


@pytest.mark.parametrize("scales", [(), (0.5,), (0.5, -1.0)])
def test_loras_are_the_merged_weights(scales: tuple[float, ...], tiny: TinyFactory, tmp_path: Path) -> None:
    files = (write_lora(tmp_path / "one.gguf", 1), write_lora(tmp_path / "two.gguf", 2))
    with_lora = TinyModel(tiny("llama"), ModelSettings(lora=files, lora_scale=scales))
    delta = np.zeros((128, N_EMBD), np.float32)
    for seed, scale in zip((1, 2), (*scales, 1.0, 1.0), strict=False):
        a, b = low_rank(seed)
        delta += scale * ALPHA / RANK * b @ a
    by_hand = TinyModel(merged(tiny("llama"), tmp_path / "merged.gguf", delta))
    with_lora.expect_row(by_hand.after(PROMPT), PROMPT)
    assert np.abs(by_hand.after(PROMPT) - TinyModel(tiny("llama")).after(PROMPT)).max() > 0.1


def test_a_missing_lora_is_named(tiny: TinyFactory, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"none\.gguf: no such LoRA file"):
        LlamaModel(tiny("llama"), ModelSettings(lora=(tmp_path / "none.gguf",)))


def test_a_lora_that_is_none_is_refused(tiny: TinyFactory, tmp_path: Path) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("no LoRA at all")
    for wrong in (text, tiny("qwen2"), write_lora(tmp_path / "other.gguf", 1, arch="qwen2")):
        with pytest.raises(ModelLoadError, match=rf"{wrong.name}: not a LoRA for llama.*\.gguf: ."):
            LlamaModel(tiny("llama"), ModelSettings(lora=(wrong,)))


def test_a_truncated_lora_is_refused(tiny: TinyFactory, tmp_path: Path) -> None:
    whole = write_lora(tmp_path / "whole.gguf", 1).read_bytes()
    for kept in (10, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.gguf").write_bytes(whole[:kept])
        with pytest.raises(ModelLoadError, match=r"cut\.gguf: not a LoRA"):
            LlamaModel(tiny("llama"), ModelSettings(lora=(tmp_path / "cut.gguf",)))


def test_more_scales_than_loras_are_refused() -> None:
    with pytest.raises(ConfigError, match="lora_scale has 1 values for 0 LoRA files"):
        ModelSettings(lora_scale=(1.0,))


# -- closing -------------------------------------------------------------------------------------


def test_closing_a_model_closes_its_contexts(tiny: TinyFactory) -> None:
    model = TinyModel(tiny("llama"))
    contexts = [model.open(), model.open()]
    contexts[0].prefill(PROMPT)
    model.model.close()
    model.model.close()
    for context in contexts:
        with pytest.raises(AdapterError, match="is closed"):
            context.extend(PROMPT)


def test_a_closed_model_says_so(tiny: TinyFactory) -> None:
    model = LlamaModel(tiny("llama"))
    tokenizer, grammar = Tokenizer(model), LlamaGrammar(model, 'root ::= "a"')
    model.close()
    uses: list[Callable[[], object]] = [
        lambda: LlamaContext(model),
        lambda: Tokenizer(model),
        lambda: LlamaGrammar(model, 'root ::= "a"'),
        lambda: model.meta("general.name"),
        lambda: tokenizer.encode("a"),
        lambda: tokenizer.decode(letters("a")),
        lambda: tokenizer.name(7),
        lambda: tokenizer.text_of(7),
        lambda: tokenizer.is_end(7),
        lambda: grammar.allows(7),
        lambda: grammar.mask(np.zeros(N_VOCAB, np.float32)),
        lambda: grammar.accept(7),
    ]
    for use in uses:
        with pytest.raises(AdapterError, match=r"llama.*\.gguf is closed; load it again"):
            use()


def test_weights_outlive_the_contexts_that_use_them(tiny: TinyFactory) -> None:
    model = TinyModel(tiny("llama"))
    context = model.open()
    context.prefill(PROMPT)
    expected = context.score(NOTHING).logits[0].copy()
    watch = weakref.ref(model.model)
    context.rollback()
    del model
    gc.collect()
    assert watch() is not None
    np.testing.assert_allclose(context.score(NOTHING).logits[0], expected, atol=CLOSE)


def test_what_nobody_holds_is_freed(tiny: TinyFactory) -> None:
    model = TinyModel(tiny("llama"))
    context = model.open()
    watches = [weakref.ref(model.model), weakref.ref(context)]
    del model, context
    gc.collect()
    assert [watch() for watch in watches] == [None, None]


def test_amx_builds_load_without_repacking_and_say_so(
    tiny: TinyFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("adapters.llama_model.amx_is_safe", lambda: False)
    with caplog.at_level(logging.WARNING, "pilotfish.model"):
        LlamaModel(tiny("llama"))
        assert "built with AMX" in caplog.text
        caplog.clear()
        LlamaModel(tiny("llama"), ModelSettings(use_extra_bufts=False))
        assert "AMX" not in caplog.text
