"""Claims about a crowd: everybody gets the answer that they would get alone, whatever the others do."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from adapters.errors import AdapterError, ConfigError, DecodeError
from adapters.llama_crowd import Crowd
from adapters.settings import ContextSettings
from adapters.target import FloatArray
from tests.adapters.tiny_context import ATTENTION, CLOSE, EXACT, TinyModel, letters
from tests.tiny_gguf import BOS, N_VOCAB

Models = Callable[..., TinyModel]

TEXTS = (
    "The pilot fish",
    "a",
    "swims along with the shark, and eats what it leaves",
    "b c",
    "one, two",
    "x" * 40,
)
PROMPTS = {text: [BOS, *letters(text)] for text in TEXTS}


def crowd_of(model: TinyModel, n_parallel: int = 3, n_ctx_each: int = 128, **settings: Any) -> Crowd:
    return Crowd(
        model.model,
        n_parallel=n_parallel,
        n_ctx_each=n_ctx_each,
        settings=ContextSettings(**{**EXACT, "n_batch": 64, "n_ubatch": 64, **settings}),
    )


def never(_token: int) -> bool:
    return False


def expect_alone(model: TinyModel, prompt: Sequence[int], answer: Sequence[int]) -> None:
    """Each token is the likeliest one in a context of its own, or as likely up to rounding."""
    context = model.open()
    row = context.extend(prompt)
    for token in answer:
        assert row[token] >= row.max() - 2 * CLOSE
        row = context.extend([token])
    context.close()


def expect_all(model: TinyModel, crowd: Crowd, n_tokens: int = 20) -> None:
    answers = list(crowd.answers(PROMPTS.items(), max_tokens=n_tokens, is_end=never))
    assert sorted(key for key, _ in answers) == sorted(TEXTS)
    for key, answer in answers:
        assert len(answer) == n_tokens
        expect_alone(model, PROMPTS[key], answer)


@pytest.mark.parametrize("arch", [*ATTENTION, "mamba"])
def test_more_prompts_than_places_are_answered_as_alone(tiny_model: Models, arch: str) -> None:
    model = tiny_model(arch)
    crowd = crowd_of(model)
    expect_all(model, crowd)
    expect_all(model, crowd, 5)  # nothing is left of the first time
    crowd.close()


@pytest.mark.parametrize("n_parallel", [1, 4, 8])
def test_the_number_of_places_does_not_matter(tiny_model: Models, n_parallel: int) -> None:
    model = tiny_model()
    expect_all(model, crowd_of(model, n_parallel))


def test_prompts_longer_than_a_batch_are_read_in_parts(tiny_model: Models) -> None:
    model = tiny_model()
    expect_all(model, crowd_of(model, n_batch=6, n_ubatch=4, max_rows=4))


def test_places_left_empty_at_the_end_do_not_matter(tiny_model: Models) -> None:
    model = tiny_model()
    crowd, gone = crowd_of(model, 4), {"a", "one, two"}
    rooms: dict[str, int] = {}

    def ends_early(key: str, position: int, row: FloatArray) -> int:
        rooms[key] = rooms.get(key, 0) + 1
        return BOS if key in gone and rooms[key] == 3 else int(row[BOS + 1 :].argmax()) + BOS + 1

    four = [(key, PROMPTS[key]) for key in TEXTS[:2] + TEXTS[3:5]]
    answers = dict(crowd.answers(four, max_tokens=12, is_end=lambda token: token == BOS, choose=ends_early))
    for key, answer in answers.items():
        assert len(answer) == (3 if key in gone else 12)
        expect_alone(model, PROMPTS[key], answer[:2] if key in gone else answer)


def test_an_answer_ends_with_its_end_token(tiny_model: Models) -> None:
    crowd = crowd_of(tiny_model())
    whole = dict(crowd.answers(PROMPTS.items(), max_tokens=20, is_end=never))
    end = whole["a"][7]
    cut = dict(crowd.answers(PROMPTS.items(), max_tokens=20, is_end=lambda token: token == end))
    assert cut["a"] == whole["a"][: whole["a"].index(end) + 1]
    assert all(end not in answer[:-1] for answer in cut.values())


def test_prompt_and_answer_fill_a_place_and_no_more(tiny_model: Models) -> None:
    crowd = crowd_of(tiny_model(), n_ctx_each=20)
    prompts = {n: [BOS] * n for n in (1, 18, 19, 20, 21, 500)}
    answers = dict(crowd.answers(prompts.items(), max_tokens=50, is_end=never))
    assert {n: len(answer) for n, answer in answers.items()} == {1: 19, 18: 2, 19: 1, 20: 0, 21: 0, 500: 0}


def test_choose_is_told_who_asks_and_where_the_token_stands(tiny_model: Models) -> None:
    crowd = crowd_of(tiny_model())
    seen: dict[str, list[int]] = {key: [] for key in TEXTS}

    def choose(key: str, position: int, logits: FloatArray) -> int:
        assert logits.shape == (N_VOCAB,)
        seen[key].append(position)
        return position

    answers = dict(crowd.answers(PROMPTS.items(), max_tokens=4, is_end=never, choose=choose))
    for key, prompt in PROMPTS.items():
        places = [len(prompt) + i for i in range(4)]
        assert seen[key] == places and answers[key] == places


def test_a_prompt_is_asked_for_when_a_place_is_free(tiny_model: Models) -> None:
    asked: list[str] = []

    def prompts() -> Iterator[tuple[str, list[int]]]:
        for key, prompt in PROMPTS.items():
            asked.append(key)
            yield key, prompt

    answers = crowd_of(tiny_model(), 2).answers(prompts(), max_tokens=3, is_end=never)
    assert asked == []
    next(answers)
    assert len(asked) == 2
    answers.close()


# -- what goes wrong -------------------------------------------------------------------------------


def test_an_error_in_choose_or_among_the_prompts_leaves_it_usable(tiny_model: Models) -> None:
    model = tiny_model()
    crowd = crowd_of(model)

    def fails(_key: str, position: int, _logits: FloatArray) -> int:
        return 9 if position < 20 else 1 // 0

    def broken() -> Iterator[tuple[str, list[int]]]:
        yield from PROMPTS.items()
        raise OSError("the file is gone")

    with pytest.raises(ZeroDivisionError):
        list(crowd.answers(PROMPTS.items(), max_tokens=30, is_end=never, choose=fails))
    with pytest.raises(OSError, match="the file is gone"):
        list(crowd.answers(broken(), max_tokens=3, is_end=never))
    expect_all(model, crowd)


def test_an_iterator_that_is_dropped_leaves_it_usable(tiny_model: Models) -> None:
    model = tiny_model("mamba")
    crowd = crowd_of(model)
    next(crowd.answers(PROMPTS.items(), max_tokens=3, is_end=never))
    expect_all(model, crowd)


def test_it_answers_one_caller_at_a_time(tiny_model: Models) -> None:
    crowd = crowd_of(tiny_model())
    first = crowd.answers(PROMPTS.items(), max_tokens=3, is_end=never)
    next(first)
    with pytest.raises(ConfigError, match="still answering"):
        next(crowd.answers(PROMPTS.items(), max_tokens=3, is_end=never))
    assert len(list(first)) == len(PROMPTS) - 1


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ([], "'it' has no tokens"),
        ([3, N_VOCAB], f"token {N_VOCAB} of 'it' is not in the vocabulary"),
        ([-1, 3], "token -1 of 'it'"),
        ([0.5], "'it' must be a row of whole numbers"),
        ([[1], [2]], "'it' must be a row of whole numbers"),
    ],
)
def test_a_prompt_that_is_none_is_named(tiny_model: Models, prompt: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        list(crowd_of(tiny_model()).answers([("it", prompt)], max_tokens=3, is_end=never))


@pytest.mark.parametrize("token", [-1, N_VOCAB])
def test_a_choice_outside_the_vocabulary_is_refused(tiny_model: Models, token: int) -> None:
    answers = crowd_of(tiny_model()).answers(
        PROMPTS.items(), max_tokens=3, is_end=never, choose=lambda _key, _position, _logits: token
    )
    with pytest.raises(ConfigError, match=f"token {token} of 'The pilot fish' is not in the vocabulary"):
        next(answers)


def test_logits_that_are_no_numbers_are_an_error(tiny_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(_address: int, n: int, width: int) -> FloatArray:
        return np.full((n, width), np.nan, np.float32)

    monkeypatch.setattr("adapters.llama_crowd.float_view", rows)
    with pytest.raises(DecodeError, match="NaN"):
        list(crowd_of(tiny_model()).answers(PROMPTS.items(), max_tokens=3, is_end=never))


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"n_parallel": 0}, "n_parallel must be between 1 and 64"),
        ({"n_parallel": 65}, "n_parallel must be between 1 and 64"),
        ({"n_parallel": 257, "n_batch": 512}, "n_parallel must be between 1 and 256"),
        ({"n_ctx_each": 1}, "n_ctx_each must be between 2 and"),
        ({"n_ctx_each": 2**30}, "n_ctx_each must be between 2 and"),
    ],
)
def test_sizes_that_would_abort_are_refused(
    tiny_model: Models, sizes: dict[str, int], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        crowd_of(tiny_model(), **sizes)


def test_once_closed_it_says_so(tiny: Callable[..., Any]) -> None:
    model = TinyModel(tiny("llama", seed=5))
    crowd = crowd_of(model)
    answers = crowd.answers(PROMPTS.items(), max_tokens=3, is_end=never)
    next(answers)
    model.model.close()  # and with it the crowd
    with pytest.raises(AdapterError, match="is closed; open a new one"):
        list(answers)
    with pytest.raises(AdapterError, match="is closed; open a new one"):
        crowd.answers(PROMPTS.items(), max_tokens=3, is_end=never)
    with pytest.raises(AdapterError, match="load it again"):
        crowd_of(model)
