"""Claims about layer inputs read through the callback: the right tensor, every row, and no lost error."""

import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from adapters.errors import ConfigError, DecodeError, RollbackError, UnsupportedModel
from adapters.llama_context import LlamaContext
from adapters.llama_eval_taps import EVAL_TAP_ARCHITECTURES, EvalTaps
from adapters.llama_hidden import LAYER_INPUT_ARCHITECTURES, tap_way
from adapters.target import FloatArray, HiddenRows, HiddenTaps
from tests.adapters.tiny_context import CLOSE, NOTHING, PROMPT, TinyModel, Tree, chain, grow, keep, letters
from tests.tiny_gguf import N_EMBD

Models = Callable[..., TinyModel]

TREE = grow((-1, 0, 0, -1, 3, 4))
DRAFTS = {"nothing": NOTHING, "chain": chain(letters("abc")), "tree": TREE}
ARCHITECTURES = ("gemma3", "qwen2", "phi3")
LAYER_1 = HiddenTaps(layers=(1,))


def opened_by_callback(model: TinyModel, taps: HiddenTaps, **settings: Any) -> LlamaContext:
    """A context that reads through the callback whatever its architecture."""
    with patch("adapters.llama_hidden.tap_way", return_value="callback"):
        return model.open(taps, **settings)


def eval_taps(context: LlamaContext) -> EvalTaps:
    assert context._hidden is not None and context._hidden._eval is not None
    return context._hidden._eval


def layer_rows(hidden: HiddenRows | None, layer: int = 1) -> FloatArray:
    assert hidden is not None
    return hidden.layers[layer].copy()


def of_prompt(context: LlamaContext, tokens: list[int], layer: int = 1) -> FloatArray:
    """The rows of a whole prefill."""
    found: list[FloatArray] = []

    def collect(start: int, rows: HiddenRows) -> None:
        assert start == sum(map(len, found))
        found.append(layer_rows(rows, layer))

    context.prefill(tokens, on_hidden=collect)
    return np.concatenate(found)


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS)
def test_rows_by_callback_are_those_that_llama_cpp_captures(draft: Tree, tiny_model: Models) -> None:
    model = tiny_model("llama", n_layer=4)
    taps = HiddenTaps(post_norm=True, layers=(1, 2, 3))
    captured, called = model.open(taps, n_seq_max=4), opened_by_callback(model, taps, n_seq_max=4)
    found = []
    for context in (captured, called):
        context.prefill(PROMPT)
        rows = context.score(draft)
        assert rows.hidden is not None and rows.hidden.post_norm is not None
        layers = [layer_rows(rows.hidden, i) for i in taps.layers]
        found.append([rows.logits.copy(), rows.hidden.post_norm.copy(), *layers])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_ubatch", [16, 64])
def test_prefill_rows_by_callback_are_those_captured(n_ubatch: int, tiny_model: Models) -> None:
    model = tiny_model("llama", n_layer=4)
    settings = {"n_batch": 64, "n_ubatch": n_ubatch, "max_rows": 10}
    captured = model.open(HiddenTaps(layers=(2,)), **settings)
    called = opened_by_callback(model, HiddenTaps(layers=(2,)), **settings)
    tokens = PROMPT * 4  # two batches, the first of several ubatches
    rows = of_prompt(called, tokens, 2)
    assert rows.shape == (len(tokens) - 1, N_EMBD)
    np.testing.assert_array_equal(rows, of_prompt(captured, tokens, 2))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_input_of_layer_1_is_what_a_model_of_one_layer_puts_out(arch: str, tiny_model: Models) -> None:
    one, two = tiny_model(arch, n_layer=1), tiny_model(arch, n_layer=2)
    context, shallow = two.open(LAYER_1, n_seq_max=4), one.open(HiddenTaps(post_norm=True), n_seq_max=4)
    for each in (context, shallow):
        each.prefill(PROMPT)
    rows = layer_rows(context.score(TREE).hidden)
    # the models share their first layer, and tiny models have a final norm of ones
    normed = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = shallow.score(TREE).hidden
    assert expected is not None and expected.post_norm is not None
    np.testing.assert_allclose(normed, expected.post_norm, atol=CLOSE)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_rows_of_a_tree_are_those_of_each_path_alone(arch: str, tiny_model: Models) -> None:
    model = tiny_model(arch)
    context = model.open(LAYER_1, n_seq_max=4)
    context.prefill(PROMPT)
    rows = layer_rows(context.score(TREE).hidden)
    assert rows.shape == (1 + len(TREE.tokens), N_EMBD)
    for node in range(-1, len(TREE.tokens)):
        alone = of_prompt(model.open(LAYER_1), [*PROMPT, *TREE.tokens_of(TREE.path(node)), 0])
        np.testing.assert_allclose(rows[1 + node], alone[-1], atol=CLOSE)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_several_ubatches_give_the_rows_of_one(arch: str, tiny_model: Models) -> None:
    model, tokens = tiny_model(arch), PROMPT * 3
    whole = of_prompt(model.open(LAYER_1, n_batch=128, n_ubatch=128), tokens)
    parts = of_prompt(model.open(LAYER_1, n_batch=64, n_ubatch=16, max_rows=16), tokens)
    assert whole.shape == (len(tokens) - 1, N_EMBD)
    np.testing.assert_allclose(parts, whole, atol=CLOSE)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_callback_does_not_change_what_the_model_says(arch: str, tiny_model: Models) -> None:
    model = tiny_model(arch)
    context = model.open(HiddenTaps(post_norm=True, layers=(1,)), n_seq_max=4)
    context.prefill(PROMPT)
    model.expect_tree(context, PROMPT, TREE)
    context.commit(keep(TREE, 2, letters("z")[0]))
    model.expect_state(context, [*PROMPT, *TREE.tokens_of(TREE.path(2)), *letters("z")])


def test_rows_that_nobody_wants_are_not_copied(tiny_model: Models) -> None:
    context = tiny_model("qwen2").open(LAYER_1)
    with patch.object(eval_taps(context), "_get", side_effect=AssertionError("copied")) as copy:
        context.prefill(PROMPT)
        context.extend(letters("ab"))
    copy.assert_not_called()
    context.prefill(PROMPT)
    assert layer_rows(context.score(NOTHING).hidden).any()


def test_an_error_within_the_callback_ends_the_decode_that_met_it(tiny_model: Models) -> None:
    model = tiny_model("qwen2")
    context = model.open(LAYER_1, n_seq_max=4)
    context.prefill(PROMPT)
    with (
        patch.object(eval_taps(context), "_get", side_effect=ZeroDivisionError("no copy")),
        pytest.raises(ZeroDivisionError, match="no copy"),
    ):
        context.score(TREE)
    with pytest.raises(RollbackError, match="commit must follow score"):
        context.commit(keep(TREE, 0, 0))
    model.expect_tree(context, PROMPT, TREE)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background and the shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_within_the_callback_is_not_lost(tiny_model: Models) -> None:
    model = tiny_model("qwen2")
    context = model.open(LAYER_1, n_seq_max=4)
    context.prefill(PROMPT)
    taps = eval_taps(context)
    copy = taps._get

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        copy(*arguments)

    with patch.object(taps, "_get", interrupted), pytest.raises(KeyboardInterrupt):
        context.score(TREE)
    model.expect_tree(context, PROMPT, TREE)


def test_rows_that_llama_cpp_does_not_give_are_an_error(tiny_model: Models) -> None:
    context = tiny_model("qwen2").open(LAYER_1)
    context.prefill(PROMPT)
    eval_taps(context)._layers = {b"nothing-0": 1}
    with pytest.raises(DecodeError, match="gave 0 of 1 rows of the input of layer 1"):
        context.score(NOTHING)


def test_a_tensor_of_another_shape_is_an_error(tiny_model: Models) -> None:
    context = tiny_model("qwen2").open(LAYER_1)
    context.prefill(PROMPT)
    eval_taps(context)._layers = {b"Kcur-0": 1}
    with pytest.raises(DecodeError, match="llama.cpp's Kcur-0 has .* cannot be read"):
        context.score(NOTHING)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_input_of_layer_0_is_refused(arch: str, tiny_model: Models) -> None:
    with pytest.raises(UnsupportedModel, match=f"'{arch}' does not expose the input of layer 0"):
        tiny_model(arch).open(HiddenTaps(layers=(0, 1)))


def test_the_output_of_the_last_layer_is_refused(tiny_model: Models) -> None:
    with pytest.raises(ConfigError, match="layer 2 does not exist: the model has 2 layers"):
        tiny_model("qwen2").open(HiddenTaps(layers=(2,)))


def test_an_architecture_is_read_in_one_way() -> None:
    assert not EVAL_TAP_ARCHITECTURES & LAYER_INPUT_ARCHITECTURES
    assert [tap_way(arch) for arch in ("llama", "qwen2", "mamba")] == ["captured", "callback", "none"]
