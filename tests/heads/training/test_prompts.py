"""Claims about prompts: every form of file is read, what is wrong names its line, and a model asks itself."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from adapters.chat import ChatTemplate
from adapters.errors import ChatTemplateError, ConfigError
from adapters.llama_crowd import Crowd
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from adapters.tokenizer import Tokenizer
from heads.training.prompts import Draws, read_prompts, read_texts, self_prompts

LINES = (
    '{"prompt": "one\\ntwo", "response": "ignored"}',
    "",
    '{"turns": ["first", "second"]}',
    '{"messages": [{"role": "system", "content": "no"}, {"role": "user", "content": "yes"}]}',
)
WHERE_TURNS_END = (
    "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"  # in plain text
)


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "P.JSONL"])
def test_json_lines_say_what_the_user_asks_first(tmp_path: Path, name: str) -> None:
    assert [*read_prompts(written(tmp_path / name, "\n".join(LINES)))] == ["one\ntwo", "first", "yes"]


@pytest.mark.parametrize("name", ["p.txt", "p.txt.gz"])
def test_each_line_of_plain_text_is_a_prompt(tmp_path: Path, name: str) -> None:
    text = "\ufeffWhat is a fish?\r\n\n   \n  And a shark? \nnaïve"
    assert [*read_prompts(written(tmp_path / name, text))] == ["What is a fish?", "And a shark?", "naïve"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "an object like"),
        ("{}", r'no "prompt", "turns" or "messages" among \[\]'),
        ('{"prompt": 3}', '"prompt" must be a text that is not empty, got 3'),
        ('{"prompt": " "}', '"prompt" must be a text that is not empty'),
        ('{"turns": []}', 'the first of "turns" must be a text'),
        ('{"turns": "text"}', 'the first of "turns" must be a text'),
        ('{"messages": [{"role": "system", "content": "x"}]}', 'of the user in "messages" must be a text'),
        ('{"messages": 3}', 'of the user in "messages" must be a text'),
    ],
)
def test_a_line_without_a_prompt_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = written(tmp_path / "p.jsonl", "\n".join([*LINES, line]))
    with pytest.raises(ConfigError, match=rf"p\.jsonl, line 5: .*{complaint}"):
        list(read_prompts(path))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"one\nna\xefve\n")
    whole = gzip.compress(np.random.default_rng(0).bytes(3000).hex().encode())
    cut, junk, none = tmp_path / "cut.txt.gz", tmp_path / "junk.txt.gz", tmp_path / "none.txt"
    cut.write_bytes(whole[: len(whole) // 2])
    junk.write_bytes(b"this is no gzip")
    for path, complaint in (
        (latin, "latin.txt, line 2: not UTF-8"),
        (cut, "cut.txt.gz, after line 0: damaged gzip data"),
        (junk, "junk.txt.gz, after line 0: damaged gzip data"),
        (none, "none.txt: cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            list(read_prompts(path))


def test_texts_are_stretches_of_whole_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "book.txt", "".join(f"line {i}\n" + "\n" * (i % 3 == 0) for i in range(30)))
    texts = list(read_texts(path, n_chars=50))
    assert all(50 <= len(text) + 2 and len(text) < 60 for text in texts[:-1])
    assert "".join(texts).replace("\n", "") == path.read_text().replace("\n", "")
    assert "line 3\n\nline 4" in "\n".join(texts)


def test_texts_of_json_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '{"text": "one"}\n\n{"text": "two"}\n{"prompt": "x"}\n')
    texts = read_texts(path)
    assert [next(texts), next(texts)] == ["one", "two"]
    with pytest.raises(ConfigError, match=r'line 4: "text" must be a text'):
        next(texts)


# -- draws ---------------------------------------------------------------------------------------


def test_draws_follow_the_law() -> None:
    """4,000 draws: a share of 0.5 has a deviation of 0.008, so that 0.04 is five of them."""
    logits, draws = np.log(np.array([0.5, 0.25, 0.25, 0.0], np.float32) + 1e-30), Draws(3)
    shares = np.bincount([draws("a", i, logits) for i in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25, 0], atol=0.04)
    sharp = [Draws(3, 0.1)("a", i, logits) for i in range(200)]
    assert sharp.count(0) > 190  # 2 ** 10 to one


def test_draws_depend_on_seed_key_and_position_alone() -> None:
    logits = np.zeros(1000, np.float32)
    drawn = [Draws(seed)(key, at, logits) for seed in (1, 2) for key in "ab" for at in (5, 6)]
    assert len(set(drawn)) == 8
    assert drawn == [Draws(seed)(key, at, logits) for seed in (1, 2) for key in "ab" for at in (5, 6)]


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0, -np.inf, 0, -np.inf], np.float32)
    assert {Draws(0)("a", i, logits) for i in range(100)} == {1, 3}


@pytest.mark.parametrize(("seed", "temperature"), [(-1, 1.0), (2**64, 1.0), (0, 0.0), (0, float("nan"))])
def test_impossible_draws_are_refused(seed: int, temperature: float) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Draws(seed, temperature)


# -- the model asks itself -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> Iterator[LlamaModel]:
    model = LlamaModel(tiny("llama", special_gain=1.0))  # its turns end
    yield model
    model.close()


@pytest.fixture(scope="module")
def crowd(model: LlamaModel) -> Crowd:
    return Crowd(model, n_parallel=4, n_ctx_each=128, settings=ContextSettings(n_threads=1))


def test_a_model_writes_different_user_turns(model: LlamaModel, crowd: Crowd) -> None:
    tokenizer = Tokenizer(model)
    template = ChatTemplate.of(model, tokenizer)
    turns = list(self_prompts(crowd, tokenizer, template, 6, max_tokens=100, seed=1))
    assert len(turns) == len(set(turns)) == 6
    for turn in turns:
        assert turn == turn.strip() != "" and "<|im" not in turn
    assert turns == list(self_prompts(crowd, tokenizer, template, 6, max_tokens=100, seed=1))
    assert turns != list(self_prompts(crowd, tokenizer, template, 6, max_tokens=100, seed=2))


def test_a_turn_may_end_with_a_mark_in_plain_text(
    model: LlamaModel, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, said = (
        Tokenizer(model),
        iter(("a fish [/INST] an answer", "no end", "a shark [/INST]", "a fish")),
    )
    texts = [(i, tokenizer.encode(text, add_special=False)) for i, text in enumerate(said)]
    monkeypatch.setattr(crowd, "answers", lambda _prompts, **_options: (each for each in texts))
    turns = self_prompts(crowd, tokenizer, ChatTemplate(WHERE_TURNS_END), 2)
    assert list(turns) == ["a fish", "a shark"]


def test_fewer_turns_than_wanted_are_logged(
    model: LlamaModel, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = Tokenizer(model)
    template = ChatTemplate.of(model, tokenizer)
    with caplog.at_level("WARNING", "pilotfish.training"):
        assert list(self_prompts(crowd, tokenizer, template, 2, max_tokens=1)) == []
    assert "of 2 user turns that the model was to write, 0 came out" in caplog.text


@pytest.mark.parametrize("source", ["{{ messages[0]['content'] }}", "a fixed text"])
def test_a_template_without_an_opening_is_refused(model: LlamaModel, crowd: Crowd, source: str) -> None:
    with pytest.raises(ChatTemplateError, match="where a user's turn begins and ends"):
        next(self_prompts(crowd, Tokenizer(model), ChatTemplate(source), 1))
