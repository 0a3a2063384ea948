"""Claims about hidden rows: which tensor they are, for every way in which tokens are decoded."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from adapters.errors import ConfigError, UnsupportedModel
from adapters.target import FloatArray, HiddenRows, HiddenTaps
from tests.adapters.tiny_context import (
    CLOSE,
    NOTHING,
    PROMPT,
    Kept,
    TinyModel,
    Tree,
    chain,
    grow,
    letters,
)
from tests.tiny_gguf import N_EMBD

Models = Callable[..., TinyModel]

POST_NORM, LAYERS = HiddenTaps(post_norm=True), HiddenTaps(post_norm=True, layers=(0, 1))
TREE = grow((-1, 0, 0, -1, 3, 4))
TREES = {"nothing": NOTHING, "chain": chain(letters("abc")), "tree": TREE}


def tensor(path: Path, name: str) -> FloatArray:
    data = next(t.data for t in gguf.GGUFReader(path).tensors if t.name == name)
    return np.asarray(data, np.float32)


def post_norm(rows: HiddenRows | None) -> FloatArray:
    assert rows is not None and rows.post_norm is not None
    return rows.post_norm.copy()


def token_by_token(model: TinyModel, tokens: list[int], taps: HiddenTaps) -> list[HiddenRows]:
    """The rows of each token, scored alone as the root."""
    context, found = model.open(taps), []
    context.prefill(tokens[:1])
    for following in [*tokens[1:], 0]:
        rows = context.score(NOTHING).hidden
        assert rows is not None
        layers = {i: row[0].copy() for i, row in rows.layers.items()}
        found.append(HiddenRows(post_norm(rows)[0] if taps.post_norm else None, layers))
        context.commit(Kept((), (following,)))
    return found


@pytest.mark.parametrize("arch", ["llama", "gemma3", "qwen2", "phi3", "mamba", "glm4moe"])
def test_post_norm_rows_times_the_output_matrix_are_the_logits(arch: str, tiny_model: Models) -> None:
    model = tiny_model(arch)
    context = model.open(POST_NORM, n_seq_max=1 if arch == "mamba" else 4)
    context.prefill(PROMPT)
    rows = context.score(TREES["chain"] if arch == "mamba" else TREE)
    output = tensor(model.model.path, "output.weight")
    np.testing.assert_allclose(post_norm(rows.hidden) @ output.T, rows.logits, atol=1e-4)


@pytest.mark.parametrize("draft", TREES.values(), ids=TREES)
def test_the_input_of_layer_0_is_the_embedding_of_the_token(draft: Tree, tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(HiddenTaps(layers=(0,)), n_seq_max=4)
    context.prefill(PROMPT)
    rows = context.score(draft).hidden
    assert rows is not None and rows.post_norm is None
    embedding = tensor(model.model.path, "token_embd.weight")
    np.testing.assert_array_equal(rows.layers[0], embedding[[PROMPT[-1], *draft.tokens]])


def test_the_input_of_layer_1_is_what_a_model_of_one_layer_puts_out(tiny_model: Models) -> None:
    one, two = tiny_model("llama", n_layer=1), tiny_model("llama", n_layer=2)
    context = two.open(HiddenTaps(layers=(1,)))
    context.prefill(PROMPT)
    rows = context.score(TREES["chain"]).hidden
    assert rows is not None
    # the models share their first layer, and tiny models have a final norm of ones
    into_second = rows.layers[1] / np.sqrt((rows.layers[1] ** 2).mean(axis=1, keepdims=True) + 1e-5)
    shallow = one.open(POST_NORM)
    shallow.prefill(PROMPT)
    np.testing.assert_allclose(post_norm(shallow.score(TREES["chain"]).hidden), into_second, atol=CLOSE)


@pytest.mark.parametrize("draft", TREES.values(), ids=TREES)
def test_the_rows_of_a_node_are_those_of_its_path_alone(draft: Tree, tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(LAYERS, n_seq_max=4)
    context.prefill(PROMPT)
    rows = context.score(draft).hidden
    assert rows is not None
    assert post_norm(rows).shape == rows.layers[0].shape == (1 + len(draft.tokens), N_EMBD)
    for node in range(-1, len(draft.tokens)):
        alone = token_by_token(model, [*PROMPT, *draft.tokens_of(draft.path(node))], LAYERS)[-1]
        np.testing.assert_allclose(post_norm(rows)[1 + node], alone.post_norm, atol=CLOSE)
        for layer in (0, 1):
            np.testing.assert_allclose(rows.layers[layer][1 + node], alone.layers[layer], atol=CLOSE)


@pytest.mark.parametrize("taps", [POST_NORM, LAYERS, HiddenTaps(layers=(1,))], ids=repr)
@pytest.mark.parametrize("n_ubatch", [16, 64])
def test_prefill_gives_the_rows_of_scoring_token_by_token(
    taps: HiddenTaps, n_ubatch: int, tiny_model: Models
) -> None:
    model, tokens = tiny_model("llama"), PROMPT * 3
    context = model.open(taps, n_batch=64, n_ubatch=n_ubatch, max_rows=10, n_seq_max=3)
    found: list[HiddenRows] = []

    def collect(start: int, rows: HiddenRows) -> None:
        assert start == len(found)
        for i in range(len(rows.layers[1]) if rows.post_norm is None else len(rows.post_norm)):
            layers = {layer: row[i].copy() for layer, row in rows.layers.items()}
            found.append(HiddenRows(None if rows.post_norm is None else rows.post_norm[i].copy(), layers))

    context.prefill(tokens, on_hidden=collect)
    expected = token_by_token(model, tokens, taps)[:-1]
    assert len(found) == len(expected) == len(tokens) - 1
    for row, alone in zip(found, expected, strict=True):
        assert (row.post_norm is None) == (not taps.post_norm) and row.layers.keys() == {*taps.layers}
        for layer in taps.layers:
            np.testing.assert_allclose(row.layers[layer], alone.layers[layer], atol=CLOSE)
        if taps.post_norm:
            np.testing.assert_allclose(row.post_norm, alone.post_norm, atol=CLOSE)
    model.expect_state(context, tokens)


def test_hidden_rows_do_not_change_the_logits(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(LAYERS, n_seq_max=4)
    context.prefill(PROMPT * 3)  # in a batch larger than max_rows, as nobody listens
    model.expect_tree(context, PROMPT * 3, TREE)


def test_a_context_without_taps_has_no_hidden_rows(tiny_model: Models) -> None:
    context = tiny_model("llama").open()
    context.prefill(PROMPT)
    assert context.score(NOTHING).hidden is None
    assert not HiddenTaps()


def test_layer_inputs_that_would_abort_llama_cpp_are_refused(tiny_model: Models) -> None:
    with pytest.raises(UnsupportedModel, match="architecture 'mamba' does not expose layer inputs"):
        tiny_model("mamba").open(HiddenTaps(layers=(1,)))


@pytest.mark.parametrize("layer", [-1, 2, 1000])
def test_a_layer_that_does_not_exist_is_refused(layer: int, tiny_model: Models) -> None:
    with pytest.raises(ConfigError, match=f"layer {layer} does not exist: the model has 2 layers"):
        tiny_model("llama").open(HiddenTaps(layers=(0, layer)))
