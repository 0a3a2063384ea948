"""Claims about models whose state cannot be rolled back: plain decoding works, the rest says why not."""

from collections.abc import Callable

import pytest

from adapters.errors import ConfigError, RollbackError
from adapters.llama_context import LlamaContext
from tests.adapters.tiny_context import NOTHING, PROMPT, Kept, TinyModel, chain, grow, keep, letters

Models = Callable[..., TinyModel]


@pytest.fixture
def model(tiny_model: Models) -> TinyModel:
    return tiny_model("mamba")


@pytest.fixture(params=[1, 4], ids=["one sequence", "four sequences"])
def context(model: TinyModel, request: pytest.FixtureRequest) -> LlamaContext:
    context = model.open(n_seq_max=request.param)
    context.prefill(PROMPT)
    return context


def test_it_says_why_it_cannot_roll_back(model: TinyModel, context: LlamaContext) -> None:
    can = context.capabilities
    assert model.model.memory_class == "recurrent"
    assert not can.rollback and can.no_rollback == "its state is recurrent and cannot drop single tokens"
    assert can.max_leaves == 1


def test_plain_decoding_works(model: TinyModel, context: LlamaContext) -> None:
    tokens = [*PROMPT]
    for token in letters("abc"):
        model.expect_row(context.score(NOTHING).logits[0], tokens)
        context.commit(Kept((), (token,)))
        tokens.append(token)
    assert [*context.tokens, context.root] == tokens


def test_a_chain_that_is_kept_whole_works(model: TinyModel, context: LlamaContext) -> None:
    draft = chain(letters("abc"))
    model.expect_tree(context, PROMPT, draft)
    context.commit(keep(draft, 2, *letters("x")))
    model.expect_row(context.score(NOTHING).logits[0], [*PROMPT, *letters("abcx")])


def test_keeping_a_part_is_an_error_that_empties_the_cache(model: TinyModel, context: LlamaContext) -> None:
    draft = chain(letters("abc"))
    context.score(draft)
    with pytest.raises(
        RollbackError, match=r"could not drop .* \(recurrent memory\); the cache has been empt"
    ):
        context.commit(keep(draft, 1, *letters("x")))
    assert context.n_past == 0
    assert context.prefill(PROMPT) == 0
    model.expect_row(context.score(NOTHING).logits[0], PROMPT)


def test_trees_are_refused(model: TinyModel, context: LlamaContext) -> None:
    with pytest.raises(ConfigError, match="tree of 2 leaves"):
        context.score(grow([-1, -1]))
    model.expect_row(context.score(NOTHING).logits[0], PROMPT)


def test_truncating_forgets_everything(model: TinyModel, context: LlamaContext) -> None:
    context.truncate(len(PROMPT) - 1)
    assert context.n_past == len(PROMPT) - 1
    context.truncate(5)
    assert context.n_past == 0
    model.expect_row(context.extend(PROMPT), PROMPT)


def test_rolling_back_forgets_everything(model: TinyModel, context: LlamaContext) -> None:
    context.rollback()
    assert context.n_past == len(PROMPT) - 1
    context.score(NOTHING)
    context.rollback()
    assert context.n_past == 0


def test_a_longer_prompt_goes_on_and_another_starts_anew(model: TinyModel, context: LlamaContext) -> None:
    longer = [*PROMPT, *letters("abc")]
    assert context.prefill(longer) == len(PROMPT) - 1
    model.expect_row(context.score(NOTHING).logits[0], longer)
    assert context.prefill(PROMPT) == 0
    model.expect_row(context.score(NOTHING).logits[0], PROMPT)


@pytest.mark.parametrize("method", ["score", "extend"])
def test_decoding_on_after_an_uncommitted_round_is_an_error(
    method: str, model: TinyModel, context: LlamaContext
) -> None:
    context.score(NOTHING)
    with pytest.raises(RollbackError, match="prefill"):
        context.score(NOTHING) if method == "score" else context.extend(letters("x"))
    assert context.n_past == 0
    context.prefill(PROMPT)
    model.expect_row(context.score(NOTHING).logits[0], PROMPT)
