"""The tiny models are what other tests take them for. Knows llama.cpp's C API and nothing of pilotfish."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import llama_cpp as C
from numpy.typing import NDArray

from tests.tiny_gguf import (
    ARCHITECTURES,
    BOS,
    CHATML,
    EOS,
    FIRST_BYTE,
    IM_END,
    IM_START,
    N_VOCAB,
    PAD,
    WINDOW,
    TinyFactory,
    write_tiny,
)

Rows = NDArray[np.float32]  # [n_tokens, n_vocab]

TEXT = 'Grüße, the "naïve" 😀👩‍🚀 → {"n": 100}\n\tdef f( x ): return x ** 2  # 日本語 , '
PROMPTS = ("Hello world", "The capital of France is", "to be or not to be", "1 2 3 4")
LOG_WARN, LOG_CONT = 3, 5
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES)


class Opened:
    """A model and a context whose rows hardly depend on how many are decoded at once."""

    def __init__(self, path: Path) -> None:
        self.model = C.llama_model_load_from_file(str(path).encode(), C.llama_model_default_params())
        params = C.llama_context_default_params()
        params.flash_attn_type, params.type_k, params.type_v = 0, C.GGML_TYPE_F32, C.GGML_TYPE_F32
        params.swa_full = False  # otherwise a warning
        params.n_threads = params.n_threads_batch = 1
        self.context = C.llama_init_from_model(self.model, params)
        self.vocab = C.llama_model_get_vocab(self.model)
        self.n_vocab: int = C.llama_vocab_n_tokens(self.vocab)

    def close(self) -> None:
        C.llama_free(self.context)
        C.llama_model_free(self.model)

    def tokens(self, text: str) -> list[int]:
        raw = text.encode()
        ids = (C.llama_token * (len(raw) + 1))()
        return list(ids[: C.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), True, True)])

    def text(self, tokens: list[int]) -> str:
        ids, out = (C.llama_token * len(tokens))(*tokens), ctypes.create_string_buffer(1000)
        size = C.llama_detokenize(self.vocab, ids, len(ids), out, len(out), True, False)
        return out.raw[:size].decode()

    def token_text(self, token: int) -> str:
        raw: bytes = C.llama_vocab_get_text(self.vocab, token)
        return raw.decode()

    def rows(self, tokens: list[int]) -> Rows:
        ids, outputs = (C.llama_token * len(tokens))(*tokens), (ctypes.c_int8 * len(tokens))()
        outputs[:] = [1] * len(tokens)
        batch = C.llama_batch_get_one(ids, len(tokens))
        batch.logits = outputs
        assert C.llama_decode(self.context, batch) == 0
        return np.ctypeslib.as_array(C.llama_get_logits(self.context), (len(tokens), self.n_vocab)).copy()

    def greedy(self, prompt: str, n: int) -> tuple[list[int], Rows]:
        """The prompt and n tokens, with the n rows that chose them."""
        C.llama_memory_clear(C.llama_get_memory(self.context), True)
        tokens = self.tokens(prompt)
        rows = [self.rows(tokens)[-1]]
        for _ in range(n):
            tokens.append(int(rows[-1].argmax()))
            rows.append(self.rows(tokens[-1:])[0])
        return tokens, np.array(rows[:n])

    def reread(self, tokens: list[int], n: int) -> Rows:
        """The n rows that precede the last n tokens, decoded all at once."""
        C.llama_memory_clear(C.llama_get_memory(self.context), True)
        return self.rows(tokens)[-n - 1 : -1]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    model = Opened(path)
    try:
        yield model
    finally:
        model.close()


@pytest.fixture(autouse=True)
def warnings() -> Iterator[list[bytes]]:
    """What llama.cpp has to complain about, instead of its log on stderr."""
    complaints: list[bytes] = []

    def listen(level: int, text: bytes, _: Any) -> None:
        if LOG_WARN <= level < LOG_CONT:
            complaints.append(text)

    listener = C.llama_log_callback(listen)  # must outlive the test
    before, data = C.llama_log_callback(), ctypes.c_void_p()
    C.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    C.llama_log_set(listener, None)
    yield complaints
    C.llama_log_set(before, data)


def mean_entropy(rows: Rows, temperature: float = 0.8) -> float:
    powers = np.exp((rows - rows.max(-1, keepdims=True)) / temperature)
    probs = powers / powers.sum(-1, keepdims=True)
    return float(-(probs * np.log(probs + 1e-30)).sum(-1).mean())


@every_architecture
@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_loads_without_complaint(arch: str, dtype: str, tiny: TinyFactory, warnings: list[bytes]) -> None:
    path = tiny(arch, dtype=dtype)
    assert path.stat().st_size < 1_000_000
    with opened(path) as model:
        assert np.isfinite(model.rows(model.tokens(TEXT))).all()
    assert not warnings


def test_text_comes_back_from_its_tokens(tiny: TinyFactory) -> None:
    with opened(tiny("llama")) as model:
        tokens = model.tokens(TEXT)
        assert tokens[0] == BOS
        assert len(tokens) < len(TEXT.encode())
        assert model.text(tokens) == TEXT


def test_a_piece_of_64_bytes_is_one_token(tiny: TinyFactory) -> None:
    with opened(tiny("llama")) as model:
        assert len(model.tokens("=" * 64)) == 2


def test_text_comes_back_from_the_smallest_vocabulary(tiny: TinyFactory) -> None:
    with opened(tiny("llama", n_vocab=262)) as model:
        assert model.text(model.tokens(TEXT)) == TEXT


def test_special_tokens_have_their_ids(tiny: TinyFactory) -> None:
    with opened(tiny("llama")) as model:
        assert model.n_vocab == N_VOCAB
        assert model.tokens("<|im_start|>a<|im_end|></s><pad>") == [
            *(BOS, IM_START, FIRST_BYTE + ord("a"), IM_END, EOS, PAD)
        ]
        ends = [token for token in range(N_VOCAB) if C.llama_vocab_is_eog(model.vocab, token)]
        assert ends == [EOS, IM_END]
        assert C.llama_vocab_eos(model.vocab) == EOS
        assert C.llama_vocab_eot(model.vocab) == IM_END


@every_architecture
def test_greedy_text_varies(arch: str, tiny: TinyFactory) -> None:
    with opened(tiny(arch)) as model:
        for prompt in PROMPTS:
            tokens, rows = model.greedy(prompt, 48)
            assert len(set(tokens[-48:])) > 12
            assert 1.2 < mean_entropy(rows) < 2.6


@every_architecture
def test_special_tokens_come_up_only_when_asked_for(arch: str, tiny: TinyFactory) -> None:
    counts = []
    for gain in (0.0, 3.0):
        with opened(tiny(arch, special_gain=gain)) as model:
            text = [token for prompt in PROMPTS for token in model.greedy(prompt, 48)[0][-48:]]
            counts.append(sum(token < FIRST_BYTE for token in text))
    assert counts[0] == 0 < counts[1]


@every_architecture
def test_one_row_and_many_rows_agree(arch: str, tiny: TinyFactory) -> None:
    with opened(tiny(arch, dtype="f32")) as model:
        for prompt in PROMPTS:
            tokens, rows = model.greedy(prompt, 48)
            np.testing.assert_allclose(model.reread(tokens, 48), rows, atol=2e-4)


@every_architecture
def test_noise_makes_a_draft_that_agrees_often_but_not_always(arch: str, tiny: TinyFactory) -> None:
    with opened(tiny(arch)) as target, opened(tiny(arch, noise=0.05)) as draft:
        agreed = []
        for prompt in PROMPTS:
            tokens, _ = target.greedy(prompt, 48)
            agreed += [*(draft.reread(tokens, 48).argmax(-1) == tokens[-48:])]
    assert 0.6 < np.mean(agreed) < 0.97


def test_gemma3_slides_and_mamba_recurs(tiny: TinyFactory) -> None:
    with opened(tiny("gemma3")) as gemma, opened(tiny("mamba")) as mamba:
        assert C.llama_model_n_swa(gemma.model) == WINDOW
        assert C.llama_model_is_recurrent(mamba.model)


def test_one_layer_of_gemma3_sees_its_window_and_no_further(tiny: TinyFactory) -> None:
    rest = [*range(100, 101 + WINDOW)]
    with opened(tiny("gemma3", n_layer=1)) as model:
        a, b = (model.reread([first, *rest], len(rest)) for first in (BOS, FIRST_BYTE))
    changed = np.abs(a - b).max(-1) > 1e-3
    assert changed[:WINDOW].all() and not changed[WINDOW:].any()


def test_the_chat_template_is_in_the_file_or_left_out(tiny: TinyFactory) -> None:
    with opened(tiny("llama")) as model, opened(tiny("llama", chat_template=None)) as silent:
        assert C.llama_model_chat_template(model.model, None).decode() == CHATML
        assert C.llama_model_chat_template(silent.model, None) is None


def test_padding_and_new_names_change_the_vocabulary_only(tiny: TinyFactory) -> None:
    path = tiny("llama", pad_vocab=7, rename={300: "other"}, add_bos=False)
    with opened(tiny("llama")) as plain, opened(path) as padded:
        assert padded.n_vocab == N_VOCAB + 7
        assert padded.token_text(300) == "other" != plain.token_text(300)
        assert padded.tokens("to") == plain.tokens("to")[1:]
        logits = padded.rows([FIRST_BYTE])[0]
        np.testing.assert_allclose(logits[:N_VOCAB], plain.rows([FIRST_BYTE])[0], atol=1e-4)
        assert not logits[N_VOCAB:].any()


def test_equal_arguments_give_equal_files(tmp_path: Path, tiny: TinyFactory) -> None:
    again = write_tiny(tmp_path / "again.gguf", "llama")
    assert tiny("llama") == tiny("llama")
    assert again.read_bytes() == tiny("llama").read_bytes()
    assert again.read_bytes() != tiny("llama", seed=1).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "bert"}, "'bert'; use one of .*'llama'"),
        ({"dtype": "q8"}, "got 'q8'"),
        ({"n_vocab": 261}, "262 to 320, got 261"),
        ({"rename": {300: "<s>"}}, "makes two tokens equal"),
    ],
)
def test_impossible_models_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_tiny(tmp_path / "x.gguf", **{"arch": "llama", **options})
