"""Claims about post-norm rows that are no outputs: those of the outputs, at any time, and no logits with
them."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from adapters.errors import UnsupportedModel
from adapters.llama_context import LlamaContext
from adapters.llama_hidden import NEXT_N_ARCHITECTURES, next_n_functions
from adapters.llama_lib import library
from adapters.target import FloatArray, HiddenRows, HiddenTaps
from tests.adapters.tiny_context import CLOSE, NOTHING, PROMPT, TinyModel, Tree, chain, grow, keep, letters

Models = Callable[..., TinyModel]

POST_NORM = HiddenTaps(post_norm=True)
TREE = grow((-1, 0, 0, -1, 3, 4))
DRAFTS = {"nothing": NOTHING, "chain": chain(letters("abc")), "tree": TREE}
PARTS: dict[str, Any] = {"n_batch": 64, "n_ubatch": 16, "max_rows": 10, "n_seq_max": 3}
ARCHITECTURES = pytest.mark.parametrize("arch", ["gemma4", "glm4moe"])


def through_outputs(model: TinyModel, taps: HiddenTaps = POST_NORM, **settings: Any) -> LlamaContext:
    """A context in which every token whose row is read is an output, whatever its architecture."""
    with patch("adapters.llama_hidden.next_n_functions", return_value=None):
        return model.open(taps, **settings)


def post_norm(hidden: HiddenRows | None) -> FloatArray:
    assert hidden is not None and hidden.post_norm is not None
    return hidden.post_norm.copy()


def of_prompt(context: LlamaContext, tokens: list[int]) -> list[FloatArray]:
    """The rows of each stretch of a prefill."""
    found: list[FloatArray] = []
    context.prefill(tokens, on_hidden=lambda _start, hidden: found.append(post_norm(hidden)))
    return found


@ARCHITECTURES
@pytest.mark.parametrize("layers", [(), (1,)], ids=["alone", "beside layer inputs"])
def test_the_rows_of_a_prompt_are_those_of_outputs(
    arch: str, layers: tuple[int, ...], tiny_model: Models
) -> None:
    model, taps = tiny_model(arch), HiddenTaps(post_norm=True, layers=layers)
    found = of_prompt(model.open(taps, **PARTS), PROMPT * 3)
    assert [*map(len, found)] == [64, len(PROMPT) * 3 - 65]  # whole batches, of several ubatches
    expected = of_prompt(through_outputs(model, taps, **PARTS), PROMPT * 3)
    assert {*map(len, expected)} == {PARTS["max_rows"]}
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=CLOSE)


@ARCHITECTURES
@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS)
def test_the_rows_of_a_draft_are_those_of_outputs(arch: str, draft: Tree, tiny_model: Models) -> None:
    found = []
    for context in (tiny_model(arch).open(POST_NORM, **PARTS), through_outputs(tiny_model(arch), **PARTS)):
        context.prefill(PROMPT)
        rows = context.score(draft)
        found.append((rows.logits.copy(), post_norm(rows.hidden)))
    for one, other in zip(*found, strict=True):
        assert len(one) == 1 + len(draft.tokens)
        np.testing.assert_allclose(one, other, atol=CLOSE)


@ARCHITECTURES
def test_a_prompt_whose_rows_are_read_has_no_logits(arch: str, tiny_model: Models) -> None:
    found = []
    for context in (tiny_model(arch).open(POST_NORM), through_outputs(tiny_model(arch))):
        of_prompt(context, PROMPT)
        found.append(bool(library().llama_get_logits_ith(context._ctx, 0)))
    assert found == [False, True]


@ARCHITECTURES
def test_rows_stay_right_when_tokens_are_taken_back(arch: str, tiny_model: Models) -> None:
    model = tiny_model(arch)
    context = model.open(POST_NORM, **PARTS)
    of_prompt(context, PROMPT)
    context.score(TREE)
    context.commit(keep(TREE, 2, letters("z")[0]))
    after = post_norm(context.score(chain(letters("xy"))).hidden)
    context.rollback()
    text = [*PROMPT, *TREE.tokens_of(TREE.path(2)), *letters("z")]
    fresh = np.concatenate(of_prompt(model.open(POST_NORM), [*text, *letters("xy?")]))
    np.testing.assert_allclose(after, fresh[-3:], atol=CLOSE)
    model.expect_state(context, text)
    forked = [*PROMPT[:9], *letters("another end of the text")]
    (rows,) = of_prompt(context, forked)  # only what is new
    fresh = np.concatenate(of_prompt(model.open(POST_NORM), forked))
    np.testing.assert_allclose(rows, fresh[9:], atol=CLOSE)
    model.expect_state(context, forked)


@ARCHITECTURES
def test_batches_that_nobody_listens_to_may_stand_between(arch: str, tiny_model: Models) -> None:
    model, tokens = tiny_model(arch), PROMPT * 2
    context = model.open(POST_NORM, **PARTS)
    context.prefill(PROMPT)
    (rows,) = of_prompt(context, tokens)
    np.testing.assert_allclose(context.extend(tokens[-1:]), model.after(tokens), atol=CLOSE)
    fresh = np.concatenate(of_prompt(model.open(POST_NORM), tokens))
    np.testing.assert_allclose(rows, fresh[len(PROMPT) - 1 :], atol=CLOSE)
    context.prefill(tokens)
    root = post_norm(context.score(NOTHING).hidden)
    whole = np.concatenate(of_prompt(model.open(POST_NORM), [*tokens, 0]))
    np.testing.assert_allclose(root, whole[-1:], atol=CLOSE)


def test_a_build_without_the_symbols_reads_outputs(tiny_model: Models) -> None:
    model = tiny_model("glm4moe")
    with patch("adapters.llama_hidden.bind", return_value=None):
        assert next_n_functions("glm4moe") is None
        context = model.open(POST_NORM, **PARTS)
    assert {*map(len, of_prompt(context, PROMPT * 3))} == {PARTS["max_rows"]}


@pytest.mark.parametrize("draft", [False, True], ids=["prompt", "draft"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma3", "phi3"])
def test_an_architecture_that_keeps_no_such_rows_is_found_out(
    arch: str, draft: bool, tiny_model: Models
) -> None:
    assert arch not in NEXT_N_ARCHITECTURES
    with patch("adapters.llama_hidden.NEXT_N_ARCHITECTURES", {arch}):
        context = tiny_model(arch).open(POST_NORM, **PARTS)
    context.prefill(PROMPT[:9])
    with pytest.raises(UnsupportedModel, match=f"no rows behind the final norm of architecture '{arch}'"):
        context.score(TREE) if draft else of_prompt(context, PROMPT)
