"""Claims about scoring, keeping and dropping: whatever went before, a context answers as a fresh one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adapters.errors import RollbackError
from adapters.llama_context import LlamaContext
from adapters.llama_lib import library
from adapters.target import HiddenTaps
from tests.adapters.tiny_context import (
    ATTENTION,
    CLOSE,
    NOTHING,
    PROMPT,
    Kept,
    TinyModel,
    chain,
    grow,
    keep,
    letters,
)

Models = Callable[..., TinyModel]

SHAPES = {
    "chain": (-1, 0, 1, 2),
    "siblings": (-1, -1, -1),
    "depth first": (-1, 0, 1, 0, -1, 4, 4),
    "breadth first": (-1, -1, 0, 0, 1, 2, 4),
    "comb": (-1, 0, 0, 1, 1, 3, 3),
    "interleaved chains": (-1, -1, 0, 1, 2, 3),
}
every_attention = pytest.mark.parametrize("arch", ATTENTION)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def n_leaves(parents: tuple[int, ...]) -> int:
    return len(set(range(len(parents))) - set(parents))


def prefilled(model: TinyModel, **settings: Any) -> LlamaContext:
    context = model.open(**{"n_seq_max": 8, **settings})
    context.prefill(PROMPT)
    return context


# -- scoring -------------------------------------------------------------------------------------


def test_a_row_is_what_llama_cpp_itself_gives(tiny_model: Models) -> None:
    model = tiny_model("llama")
    lib = library()
    params = lib.llama_context_default_params()
    params.flash_attn_type, params.type_k, params.type_v = 0, lib.GGML_TYPE_F32, lib.GGML_TYPE_F32
    handle = lib.llama_init_from_model(model.model.handle.pointer, params)
    ids = (lib.llama_token * len(PROMPT))(*PROMPT)
    assert lib.llama_decode(handle, lib.llama_batch_get_one(ids, len(PROMPT))) == 0
    row = np.ctypeslib.as_array(lib.llama_get_logits_ith(handle, -1), (model.model.n_vocab,)).copy()
    lib.llama_free(handle)
    np.testing.assert_allclose(model.after(PROMPT), row, atol=CLOSE)


@every_attention
@every_shape
def test_each_row_of_a_tree_is_what_its_path_alone_gives(
    arch: str, shape: tuple[int, ...], tiny_model: Models
) -> None:
    model = tiny_model(arch)
    model.expect_tree(prefilled(model), PROMPT, grow(shape))


@every_shape
def test_a_tree_may_have_as_many_leaves_as_there_are_sequences(
    shape: tuple[int, ...], tiny_model: Models
) -> None:
    model = tiny_model("llama")
    model.expect_tree(prefilled(model, n_seq_max=n_leaves(shape)), PROMPT, grow(shape))


def test_a_tree_deeper_than_the_window_still_slides(tiny_model: Models) -> None:
    model, fork = tiny_model("gemma3"), [-1, *range(20), 9, *range(21, 30)]
    model.expect_tree(prefilled(model), PROMPT, grow(fork, first="A"))


def test_rows_of_a_tree_differ_from_node_to_node(tiny_model: Models) -> None:
    logits = prefilled(tiny_model("llama")).score(grow(SHAPES["comb"])).logits
    gaps = np.abs(logits[:, None] - logits[None]).max(axis=-1) + np.eye(len(logits))
    assert gaps.min() > 100 * CLOSE


# -- keeping -------------------------------------------------------------------------------------


@every_attention
@every_shape
def test_any_path_can_be_kept(arch: str, shape: tuple[int, ...], tiny_model: Models) -> None:
    model, tree, (root,) = tiny_model(arch), grow(shape), letters("x")
    context = prefilled(model)
    for node in range(-1, len(shape)):
        context.prefill(PROMPT)
        context.score(tree)
        context.commit(keep(tree, node, root))
        model.expect_state(context, [*PROMPT, *tree.tokens_of(tree.path(node)), root])


@every_attention
def test_a_kept_path_can_be_continued_by_trees_in_every_sequence(arch: str, tiny_model: Models) -> None:
    model, tree = tiny_model(arch), grow(SHAPES["depth first"])
    tokens, context = [*PROMPT], prefilled(model)
    for node, root in ((6, "x"), (1, "y"), (-1, "z"), (3, "w")):
        context.score(tree)
        context.commit(keep(tree, node, *letters(root)))
        tokens += [*tree.tokens_of(tree.path(node)), *letters(root)]
        model.expect_tree(context, tokens, grow([-1] * 8, first="A"))
        context.rollback()


@pytest.mark.parametrize("n_seq_max", [1, 8])
def test_a_chain_can_be_kept_in_part(n_seq_max: int, tiny_model: Models) -> None:
    model, draft, (root,) = tiny_model("llama"), grow(SHAPES["chain"]), letters("x")
    context = prefilled(model, n_seq_max=n_seq_max)
    for node in (-1, 1, 3):
        context.prefill(PROMPT)
        context.score(draft)
        context.commit(keep(draft, node, root))
        model.expect_state(context, [*PROMPT, *draft.tokens_of(draft.path(node)), root])


def test_the_tokens_that_are_kept_are_the_walks(tiny_model: Models) -> None:
    context, tree = prefilled(tiny_model("llama")), grow(SHAPES["comb"])
    context.score(tree)
    context.commit(Kept((0, 2), (*letters("ac"), *letters("x"))))
    assert [*context.tokens] == [*PROMPT, *letters("ac")]
    assert context.root == letters("x")[0]


def test_keeping_without_scoring_is_an_error_that_costs_nothing(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = prefilled(model)
    for _ in range(2):
        with pytest.raises(RollbackError, match="commit must follow score"):
            context.commit(Kept((), (*letters("x"),)))
        model.expect_state(context, PROMPT)
    context.score(NOTHING)
    context.commit(Kept((), (*letters("x"),)))
    with pytest.raises(RollbackError):
        context.commit(Kept((), (*letters("y"),)))
    model.expect_state(context, [*PROMPT, *letters("x")])


# -- dropping ------------------------------------------------------------------------------------


@every_attention
def test_a_scored_tree_can_be_dropped(arch: str, tiny_model: Models) -> None:
    model, tree = tiny_model(arch), grow(SHAPES["comb"])
    context = prefilled(model)
    context.score(tree)
    context.rollback()
    model.expect_state(context, PROMPT)
    context.score(tree)
    model.expect_tree(context, PROMPT, grow(SHAPES["siblings"], first="x"))


def test_truncating_keeps_the_beginning(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = prefilled(model)
    context.score(grow(SHAPES["comb"]))
    context.truncate(1000)
    assert [*context.tokens] == PROMPT[:-1]
    context.truncate(5)
    assert [*context.tokens] == PROMPT[:5]
    model.expect_row(context.extend(PROMPT[5:]), PROMPT)
    context.truncate(0)
    assert len(context.tokens) == 0
    model.expect_row(context.extend(PROMPT), PROMPT)


class Interrupting:
    """llama.cpp's functions, until the n-th call of one that changes the cache is interrupted."""

    def __init__(self, lib: Any, n: int) -> None:
        self._lib, self.left = lib, n

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("llama_memory_seq"):
            return getattr(self._lib, name)
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return getattr(self._lib, name)


def test_an_interrupted_commit_can_be_rolled_back(
    tiny_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tree = tiny_model("llama"), grow(SHAPES["depth first"])
    context = prefilled(model)
    for n in range(12):  # 1 + 2 * 7 calls share the path, one more asks where it ends
        context.score(tree)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(context, "_lib", Interrupting(library(), n))
            context.commit(keep(tree, 6, *letters("x")))
        context.rollback()
        model.expect_tree(context, PROMPT, grow(SHAPES["siblings"]))


# -- extending -----------------------------------------------------------------------------------


@every_attention
def test_extending_gives_the_last_row_of_scoring(arch: str, tiny_model: Models) -> None:
    model, more = tiny_model(arch), letters("abcd")
    context = prefilled(model)
    last = context.score(chain(more)).logits[-1].copy()
    np.testing.assert_allclose(context.extend([PROMPT[-1], *more]), last, atol=CLOSE)
    assert [*context.tokens] == [*PROMPT, *more]


def test_extending_reaches_every_sequence(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = prefilled(model)
    context.extend(PROMPT[-1:])
    context.prefill([*PROMPT, *letters("x")])
    model.expect_tree(context, [*PROMPT, *letters("x")], grow(SHAPES["siblings"]))


def test_more_tokens_than_a_batch_holds_are_appended_in_pieces(tiny_model: Models) -> None:
    model, tokens = tiny_model("llama"), PROMPT * 4
    small = {"n_batch": 16, "n_ubatch": 16, "max_rows": 8}
    context = model.open(n_seq_max=4, **small)
    model.expect_row(context.extend(tokens), tokens)
    context.truncate(0)
    context.prefill(tokens)
    model.expect_tree(context, tokens, grow(SHAPES["siblings"]))


def test_extending_after_scoring_with_hidden_rows_gives_the_last_row(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(HiddenTaps(post_norm=True), max_rows=8)
    context.prefill(PROMPT)
    context.score(grow(SHAPES["chain"]))
    model.expect_row(
        context.extend([PROMPT[-1], *letters("abcdefghijkl")]), [*PROMPT, *letters("abcdefghijkl")]
    )
