"""Sessions on disk: what is loaded is what was read, and what is anything else never reaches llama.cpp."""

import json
import logging
import random

import numpy as np
import pytest

from orchestrator import Engine
from orchestrator.errors import ConfigError, ContextFull, EngineBusy
from tests.heads.tiny_heads import talker, write_head

GREEDY = {"temperature": 0, "n_threads": 1, "planner": "fixed"}
DOCUMENT = "There is the ferry that sails at ten and at noon, and a return ticket is six crowns. " * 3
QUESTION = "When does the ferry sail?"


@pytest.fixture
def load(tiny):
    engines = []

    def opened(arch="llama", **settings):
        path = settings.pop("path", None) or tiny(arch, n_ctx_train=1024)
        engines.append(Engine.load(path, **(GREEDY | settings)))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


def logits(engine, tokens):
    """Raw ones behind `tokens`, with what the memory already holds of them."""
    from orchestrator.draft import EMPTY

    engine.target.prefill(tokens)
    row = np.array(engine.target.score(EMPTY).logits[0])
    engine.target.rollback()
    return row


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("llama", {}),
        ("llama", {"flash_attn": False}),
        ("llama", {"type_k": "q8_0", "type_v": "q8_0"}),
        ("llama", {"n_seq_max": 4, "max_leaves": 4}),
        ("gemma3", {}),
        ("phi3", {"flash_attn": False}),
        ("mamba", {}),
    ],
)
def test_a_loaded_session_goes_on_as_the_memory_does_bit_by_bit(load, tmp_path, arch, settings):
    first, second = load(arch, **settings), load(arch, **settings)
    n = first.save_session(tmp_path / "s", DOCUMENT)
    assert n == len(first.tokenizer.encode(DOCUMENT)) == second.load_session(tmp_path / "s")
    tokens = first.tokenizer.encode(DOCUMENT + QUESTION)
    assert tokens[:n] == first.tokenizer.encode(DOCUMENT)
    assert (logits(first, tokens) == logits(second, tokens)).all()
    remembered = first.generate_tokens(tokens, max_tokens=40)
    loaded = second.generate_tokens(tokens, max_tokens=40)
    assert loaded.tokens == remembered.tokens and loaded.text
    if arch != "mamba":  # which has gone on behind it by now, and cannot go back
        assert loaded.stats.n_reused >= n


@pytest.mark.parametrize("arch", ["llama", "gemma3", "mamba"])
def test_the_text_is_that_of_an_engine_that_read_everything_itself(load, tmp_path, arch):
    first, fresh = load(arch), load(arch)
    first.save_session(tmp_path / "s", DOCUMENT)
    first.forget()
    first.load_session(tmp_path / "s")
    prompt = DOCUMENT + QUESTION
    assert first.generate(prompt, max_tokens=40).tokens == fresh.generate(prompt, max_tokens=40).tokens


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_a_prompt_that_leaves_the_session_early_is_read_rightly(load, tmp_path, arch, cut):
    """Of a sliding window only its end is saved: what lies before it must not be taken for whole."""
    engine, fresh = load(arch), load(arch)
    tokens = engine.tokenizer.encode(DOCUMENT)
    n = engine.save_session(tmp_path / "s", tokens)
    engine.forget()
    engine.load_session(tmp_path / "s")
    prompt = [*tokens[: n - cut], *engine.tokenizer.encode(QUESTION)]
    assert np.allclose(logits(engine, prompt), logits(fresh, prompt), atol=2e-2)
    assert (
        engine.generate_tokens(prompt, max_tokens=30).tokens
        == fresh.generate_tokens(prompt, max_tokens=30).tokens
    )


def test_without_a_prompt_the_conversation_so_far_is_kept(load, tmp_path):
    engine, other = load(), load()
    answer = engine.generate(DOCUMENT, max_tokens=20)
    n = engine.save_session(tmp_path / "s")
    text = [*engine.tokenizer.encode(DOCUMENT), *answer.tokens]
    assert n == len(text) - 1 == other.load_session(tmp_path / "s")
    assert other.generate_tokens(text, max_tokens=20).stats.n_reused == n
    assert (
        other.generate_tokens(text, max_tokens=20).tokens
        == engine.generate_tokens(text, max_tokens=20).tokens
    )


def test_drafters_keep_in_step(load, tiny, tmp_path):
    small = tiny("llama", n_layer=1, noise=0.05, n_ctx_train=1024)
    engine, plain = load(draft=small, method="model"), load(method="none")
    engine.save_session(tmp_path / "s", DOCUMENT)
    engine.forget()
    engine.load_session(tmp_path / "s")
    result = engine.generate(DOCUMENT + QUESTION, max_tokens=40)
    assert result.stats.n_drafted > 0
    assert result.tokens == plain.generate(DOCUMENT + QUESTION, max_tokens=40).tokens


@pytest.mark.parametrize(("kind", "again"), [("eagle3-reduced", True), ("medusa", False)])
def test_a_head_that_needs_rows_reads_the_session_again_and_says_so(
    load, tiny, tmp_path, caplog, kind, again
):
    path, head = talker(tiny), write_head(kind, tmp_path)
    engine, plain = load(path=path, head=head, method="head"), load(path=path, method="none")
    n = engine.save_session(tmp_path / "s", DOCUMENT)
    engine.forget()
    with caplog.at_level(logging.WARNING, "pilotfish.engine"):
        engine.load_session(tmp_path / "s")
    assert ("will be read again" in caplog.text) is again
    result = engine.generate(DOCUMENT + QUESTION, max_tokens=30)
    assert result.stats.n_reused == (0 if again else n)
    assert result.stats.n_drafted > 0
    assert result.tokens == plain.generate(DOCUMENT + QUESTION, max_tokens=30).tokens


def changed(path, what):
    """The bytes of a session after something happened to them."""
    data = bytearray(path.read_bytes())
    start = data.index(b"{")
    end = start + int.from_bytes(data[start - 8 : start], "little")
    header = json.loads(data[start:end])
    if what in ("half", "headless", "magic alone"):
        return bytes(data[: {"half": len(data) // 2, "headless": start + 20, "magic alone": start - 8}[what]])
    if what == "longer":
        return bytes(data + b"x")
    if what == "a bit":
        data[-100] ^= 1
        return bytes(data)
    if what == "a token":
        data[end] ^= 1
        return bytes(data)
    changes = {"format": {"format": 2}, "sizes": {"n_bytes": -1}, "types": {"key": [], "n_tokens": "7"}}
    text = json.dumps(header | changes.get(what, {})).encode()
    if what == "version":
        header["key"]["llama_cpp"] = "0.0.1"
        text = json.dumps(header).encode()
    return bytes(data[: start - 8]) + len(text).to_bytes(8, "little") + text + bytes(data[end:])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("half", "cut short"),
        ("headless", "cut short"),
        ("magic alone", "cut short"),
        ("longer", "damaged"),
        ("a bit", "hash"),
        ("a token", "hash"),
        ("format", "format 2"),
        ("sizes", "damaged"),
        ("types", "damaged"),
        ("version", "0.0.1"),
    ],
)
def test_a_damaged_session_is_one_error_and_the_engine_as_it_was(load, tmp_path, what, words):
    engine, path = load(), tmp_path / "s"
    engine.save_session(path, DOCUMENT)
    path.write_bytes(changed(path, what))
    tokens = engine.target.tokens.tolist()
    with pytest.raises(ConfigError, match=words) as caught:
        engine.load_session(path)
    assert str(path) in str(caught.value)
    assert engine.target.tokens.tolist() == tokens
    assert engine.generate(DOCUMENT, max_tokens=4).text


def test_what_is_no_session_is_refused(load, tmp_path):
    engine = load()
    noise = random.Random(0).randbytes(5000)
    for content in (b"", b"GGUF", noise, b"pilotfish session\n" + noise):
        (tmp_path / "s").write_bytes(content)
        with pytest.raises(ConfigError, match="no saved session|cut short"):
            engine.load_session(tmp_path / "s")
    with pytest.raises(ConfigError, match="cannot be read"):
        engine.load_session(tmp_path / "absent")
    with pytest.raises(ConfigError, match="cannot be saved"):
        engine.save_session(tmp_path / "no" / "folder", DOCUMENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"type_k": "q8_0"}, "type_k"), ({"flash_attn": False}, "flash_attn"), ({"type_v": "bf16"}, "type_v")],
)
def test_a_session_of_other_settings_is_refused_by_their_name(load, tmp_path, settings, word):
    load().save_session(tmp_path / "s", DOCUMENT)
    with pytest.raises(ConfigError, match=f"another {word}"):
        load(**settings).load_session(tmp_path / "s")


def test_a_session_of_another_model_is_refused_even_if_all_sizes_agree(load, tiny, tmp_path):
    load().save_session(tmp_path / "s", DOCUMENT)
    with pytest.raises(ConfigError, match="another model"):
        load(path=tiny("llama", n_ctx_train=1024, seed=1)).load_session(tmp_path / "s")


def test_a_session_longer_than_the_context_is_refused(load, tmp_path):
    n = load().save_session(tmp_path / "s", DOCUMENT * 3)
    with pytest.raises(ConfigError, match=f"{n} tokens do not fit.*n_ctx="):
        load(n_ctx=256).load_session(tmp_path / "s")


def test_there_must_be_something_to_save_and_nobody_generating(load, tmp_path):
    engine = load()
    for prompt, words in (
        (None, "nothing to save"),
        ([], "empty"),
        ([10**6], "not in the vocabulary"),
    ):
        with pytest.raises(ConfigError, match=words):
            engine.save_session(tmp_path / "s", prompt)
    with pytest.raises(ContextFull):
        engine.save_session(tmp_path / "s", DOCUMENT * 40)
    caught = []

    def save(_token, _text):
        with pytest.raises(EngineBusy):
            engine.save_session(tmp_path / "s")
        caught.append(True)
        return False

    engine.generate(DOCUMENT, max_tokens=4, on_token=save)
    assert caught and not list(tmp_path.iterdir())
