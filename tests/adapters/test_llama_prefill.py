"""Claims about prefill: what it keeps of the cache, where it stops, and that the rest is as fresh."""

from collections.abc import Callable

import numpy as np
import pytest

from adapters.errors import ConfigError
from adapters.target import HiddenRows, HiddenTaps
from tests.adapters.tiny_context import ATTENTION, PROMPT, TinyModel, grow, letters

Models = Callable[..., TinyModel]

FIRST = PROMPT[:12]
SECOND = {
    "the same": (FIRST, 11),
    "longer": ([*FIRST, *letters("xyz")], 11),
    "shorter": (FIRST[:6], 5),
    "one token": (FIRST[:1], 0),
    "another root": ([*FIRST[:-1], *letters("x")], 11),
    "forked in the middle": ([*FIRST[:5], *letters("xyz")], 5),
    "forked near the end": ([*FIRST[:-2], *letters("x"), *FIRST[-1:]], 10),
    "nothing in common": ([*letters("xyz")], 0),
    "the same tokens, shifted": (FIRST[1:], 0),
}


@pytest.mark.parametrize("arch", ATTENTION)
@pytest.mark.parametrize(("second", "kept"), SECOND.values(), ids=SECOND)
def test_the_longest_common_prefix_is_kept(
    arch: str, second: list[int], kept: int, tiny_model: Models
) -> None:
    model = tiny_model(arch)
    context = model.open(n_seq_max=4)
    assert context.prefill(FIRST) == 0
    assert context.prefill(second) == kept
    model.expect_state(context, second)
    model.expect_tree(context, second, grow((-1, -1, 0, 1)))


def test_only_what_is_new_is_decoded(tiny_model: Models) -> None:
    context = tiny_model("llama").open(HiddenTaps(layers=(0,)))
    context.prefill(FIRST)
    stretches: list[tuple[int, int]] = []

    def note(start: int, rows: HiddenRows) -> None:
        stretches.append((start, len(rows.layers[0])))

    context.prefill([*FIRST, *letters("xyz")], on_hidden=note)
    assert stretches == [(11, 3)]


def test_what_was_scored_but_not_kept_is_not_common(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(n_seq_max=4)
    context.prefill(FIRST)
    context.score(grow((-1, 0, 1)))
    tokens = [*FIRST, *letters("abcd")]
    assert context.prefill(tokens) == len(FIRST) - 1
    model.expect_state(context, tokens)


@pytest.mark.parametrize("n_tokens", [1, 2, 16, 17, 18, 33])
def test_a_prompt_of_several_batches_is_as_one(n_tokens: int, tiny_model: Models) -> None:
    model, tokens = tiny_model("gemma3"), (PROMPT * 2)[:n_tokens]
    context = model.open(n_batch=16, n_ubatch=16, max_rows=16)
    context.prefill(tokens)
    model.expect_state(context, tokens)


@pytest.mark.parametrize("n_batches", [0, 1, 2])
def test_a_stopped_prefill_leaves_a_shorter_cache_to_go_on_from(n_batches: int, tiny_model: Models) -> None:
    model, tokens = tiny_model("llama"), PROMPT * 2
    context = model.open(n_batch=16, n_ubatch=16, max_rows=16)
    answers = iter([False] * n_batches + [True])
    assert context.prefill(tokens, should_stop=lambda: next(answers)) == 0
    assert [*context.tokens] == tokens[: 16 * n_batches]
    assert context.prefill(tokens, should_stop=lambda: False) == 16 * n_batches
    model.expect_state(context, tokens)


def test_a_prompt_that_is_cached_already_is_not_asked_about(tiny_model: Models) -> None:
    context = tiny_model("llama").open()
    context.prefill(PROMPT)
    context.prefill(PROMPT, should_stop=lambda: pytest.fail("there is nothing to stop"))


def test_an_error_of_the_listener_costs_only_its_stretch(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(HiddenTaps(post_norm=True), n_batch=16, n_ubatch=16, max_rows=16)

    def fail(start: int, rows: HiddenRows) -> None:
        if start == 16:
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        context.prefill(PROMPT * 2, on_hidden=fail)
    assert context.prefill(PROMPT * 2) == 16
    model.expect_state(context, PROMPT * 2)


def test_tokens_may_come_as_an_array(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open()
    context.prefill(np.array(PROMPT, np.int64).tolist())
    assert context.prefill(tuple(PROMPT)) == len(PROMPT) - 1
    model.expect_state(context, PROMPT)


def test_hidden_rows_of_a_prompt_need_taps(tiny_model: Models) -> None:
    context = tiny_model("llama").open()
    with pytest.raises(ConfigError, match="needs a context that was opened with taps"):
        context.prefill(FIRST, on_hidden=lambda start, rows: None)
    assert context.prefill(FIRST) == 0
