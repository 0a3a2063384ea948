"""What ggml computes of few rows is what the formulas say, and takes turns with PyTorch on the same cache."""

from typing import Any

import numpy as np
import pytest
import torch

from adapters.errors import HeadError
from heads import ggml_network
from heads.device import choose_ggml
from heads.draft_cache import DraftCache
from heads.draft_state import DraftState, Frontier
from heads.eagle import Eagle
from heads.ggml_pass import GgmlPass
from heads.matrix import BlockMatrix
from heads.network import network_of
from heads.passes import Place
from heads.spec import MedusaSpec
from tests.heads.cases import NAMES, Case, assert_says, assert_window, borrowed, case, grow, torch_head
from tests.heads.random_heads import N_VOCAB
from tests.heads.reference import eagle_chain, eagle_tree

CLOSE = 1e-4
FEW = ["eagle", "eagle3", "eagle3-all-norms", "eagle3-three-layers"]
LEVELS = ([(-1, 3), (-1, 11), (-1, 29)], [(0, 5), (0, 3), (2, 8)], [(4, 20)], [(1, 3), (6, 6)])


def state(head: Case, window: int = 0, n_threads: int = 1) -> DraftState:
    return DraftState(head.network, window, ggml_threads=n_threads)


def in_blocks(name: str, **changes: Any) -> tuple[Case, Eagle]:
    """(a head of widths that make blocks, its network in blocks)."""
    head = case(name, intermediate_size=64, **{"hidden_size": 64, **changes})
    network = network_of(
        torch_head(head.spec, head.tensors), borrowed(head.target), torch.bfloat16, in_blocks=True
    )
    assert isinstance(network, Eagle)
    return head, network


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_says_what_the_formulas_say(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(7)
    follow = [7, 30, 7, 2]
    expected = head.chain(features, tokens, *follow)
    drafts = state(head)
    drafts.read(features, tokens)
    assert_says(drafts.open(N_VOCAB), expected[:1], head.ids(), CLOSE)
    for i, token in enumerate(follow):
        assert_says(grow(drafts, [(i - 1, token)]), expected[i + 1 : i + 2], head.ids(), CLOSE)
    assert_says(drafts.open(N_VOCAB), expected[:1], head.ids(), CLOSE)  # as if nothing had been grown


@pytest.mark.parametrize("name", NAMES)
def test_every_node_of_a_tree_says_what_its_path_says(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(5)
    nodes = [node for level in LEVELS for node in level]
    expected = eagle_tree(head.spec, head.tensors, features, tokens, nodes, *head.target)
    drafts = state(head, n_threads=2)
    drafts.read(features, tokens)
    drafts.open(1)
    n = 0
    for level in LEVELS:
        assert_says(grow(drafts, level), expected[n : n + len(level)], head.ids(), CLOSE)
        n += len(level)


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_turns_with_pytorch_on_one_cache(name: str) -> None:
    """Long reads are PyTorch's, short ones and steps are ggml's; some pairs are taken back."""
    head = case(name)
    features, tokens = head.pairs(80)
    drafts, n = state(head), 0
    for piece, kept in ((50, 48), (3, 51), (1, 50), (20, 70), (10, 80)):
        drafts.truncate(n)
        drafts.read(features[n : n + piece], tokens[n : n + piece])
        drafts.open(3)
        grow(drafts, LEVELS[0])
        n = min(kept, n + piece)
    assert drafts.n_pairs == 80
    whole = DraftState(head.network)
    whole.read(features, tokens)
    first = drafts.open(N_VOCAB), whole.open(N_VOCAB)
    then = grow(drafts, LEVELS[0]), grow(whole, LEVELS[0])
    for said, expected in (first, then):
        np.testing.assert_allclose(said.logp, expected.logp, atol=CLOSE)
        assert said.tokens[:, 0].tolist() == expected.tokens[:, 0].tolist()


@pytest.mark.parametrize("name", FEW)
def test_the_cache_may_outgrow_its_padding_and_move(name: str) -> None:
    """A pair at a time over the ends of graphs at 256 rows, and of the first memory at 512."""
    head = case(name)
    features, tokens = head.pairs(600)
    drafts, whole = state(head), DraftState(head.network)
    drafts.read(features[:250], tokens[:250])
    for start in range(250, 600, 5):
        drafts.read(features[start : start + 5], tokens[start : start + 5])
        said = drafts.open(1)
        if start % 50 == 0:
            grow(drafts, LEVELS[0])
            assert drafts.open(1).tokens.tolist() == said.tokens.tolist()
    whole.read(features, tokens)
    expected = whole.open(N_VOCAB)
    np.testing.assert_allclose(drafts.open(N_VOCAB).logp, expected.logp, atol=CLOSE)
    np.testing.assert_allclose(grow(drafts, LEVELS[0]).logp, grow(whole, LEVELS[0]).logp, atol=CLOSE)


def test_the_first_guess_outlives_a_cache_that_moves() -> None:
    head = case("eagle3")
    drafts = state(head)
    drafts.read(*head.pairs(4))
    said = drafts.open(N_VOCAB)
    nodes = [(-1, token % N_VOCAB) for token in range(600)]
    grow(drafts, nodes)  # more than the first 512 rows
    assert drafts.open(N_VOCAB).logp.tolist() == said.logp.tolist()


@pytest.mark.parametrize("name", FEW)
def test_a_level_may_have_more_nodes_than_a_graph_has_rows(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(3)
    nodes: list[tuple[int, int]] = [(-1, token) for token in range(19)]
    nodes += [(node, (3 * node) % N_VOCAB) for node in range(19)]
    expected = eagle_tree(head.spec, head.tensors, features, tokens, nodes, *head.target)
    drafts = state(head)
    drafts.read(features, tokens)
    drafts.open(1)
    for start in (0, 19):
        assert_says(grow(drafts, nodes[start : start + 19]), expected[start : start + 19], head.ids(), CLOSE)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("window", [1, 3, 7, 50])
def test_a_window_sees_the_newest_pairs_only(name: str, window: int) -> None:
    head = case(name)
    assert_window(head, window, lambda: state(head, window), CLOSE)


@pytest.mark.parametrize("name", FEW)
def test_two_texts_on_one_network_know_nothing_of_each_other(name: str) -> None:
    head = case(name)
    texts = [head.pairs(n) for n in (4, 6)]
    both = [state(head), state(head)]
    for drafts, text in zip(both, texts, strict=True):
        drafts.read(*text)
    for drafts, (features, tokens) in zip(both, texts, strict=True):
        drafts.open(1)
        assert_says(grow(drafts, [(-1, 5)]), head.chain(features, tokens, 5)[1:], head.ids(), CLOSE)


def test_borrowed_embeddings_are_scaled() -> None:
    head = case("eagle3")
    scaled = network_of(torch_head(head.spec, head.tensors), borrowed(head.target, 3.0))
    assert isinstance(scaled, Eagle)
    features, tokens = head.pairs(3)
    drafts = DraftState(scaled, ggml_threads=1)
    drafts.read(features, tokens)
    embedding = (3.0 * head.target[0], head.target[1])
    expected = eagle_chain(head.spec, head.tensors, features, tokens, [], *embedding)["logits"]
    assert_says(drafts.open(N_VOCAB), expected, head.ids(), CLOSE)


@pytest.mark.parametrize("name", FEW)
def test_eight_bits_say_nearly_the_same(name: str) -> None:
    head, network = in_blocks(name)
    assert sum(isinstance(module, BlockMatrix) for module in network.modules()) >= 5
    assert isinstance(network.fc, torch.nn.Linear)  # it meets the features' outliers
    features, tokens = head.pairs(6)
    expected = head.chain(features, tokens, 5)
    drafts = DraftState(network, ggml_threads=1)
    drafts.read(features, tokens)
    assert_says(drafts.open(N_VOCAB), expected[:1], head.ids(), 0.25)
    assert_says(grow(drafts, [(-1, 5)]), expected[1:], head.ids(), 0.25)


@pytest.mark.parametrize("name", FEW)
def test_pytorch_reads_long_texts_with_the_same_eight_bits(name: str) -> None:
    head, network = in_blocks(name)
    features, tokens = head.pairs(90)
    said: list[Frontier] = []
    for n_threads in (0, 1):
        drafts = DraftState(network, ggml_threads=n_threads)
        drafts.read(features, tokens)
        said.append(drafts.open(N_VOCAB))
    by_token = [dict(zip(one.tokens[0].tolist(), one.logp[0].tolist(), strict=True)) for one in said]
    assert by_token[0].keys() == by_token[1].keys()
    assert max(abs(by_token[0][token] - by_token[1][token]) for token in by_token[0]) < 0.15


def test_a_matrix_that_does_not_divide_into_blocks_stays_as_it_is() -> None:
    _, network = in_blocks("eagle3", width=48, head_dim=16, own_embedding=True)
    kinds = {name: type(module) for name, module in network.named_modules()}
    assert kinds["layers.0.qkv"] is BlockMatrix and kinds["layers.0.gate_up"] is torch.nn.Linear
    drafts = DraftState(network, ggml_threads=1)
    drafts.read(np.ones((2, 3 * 64), np.float32), [1, 2])
    assert np.isfinite(drafts.open(N_VOCAB).logp).all()


def test_a_token_without_an_embedding_is_an_error_not_the_end() -> None:
    drafts = state(case("eagle3"))
    for token in (N_VOCAB, -1):
        with pytest.raises(IndexError, match=f"beyond the {N_VOCAB}"):
            drafts.read(np.ones((1, 96), np.float32), [token])
    assert drafts.n_pairs == 0


def test_rows_beyond_the_cache_are_an_error_not_the_end() -> None:
    head = case("eagle3")
    cache = DraftCache(1, 2, 8, torch.float32, torch.device("cpu"))
    cache.reserve(10)
    place = Place(cache.n_room, 0, range(1), None)
    with pytest.raises(ValueError, match="513 rows in a cache with room for 512"):
        GgmlPass(head.network, cache, 1).read(*head.pairs(1), place)


def test_graphs_that_are_not_used_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heads.ggml_pass._MOST_GRAPHS", 3)
    head = case("eagle3")
    drafts = state(head)
    for n in (1, 2, 3, 4, 1, 5):
        drafts.read(*head.pairs(n))
    assert isinstance(drafts._few, GgmlPass)
    assert [n for _, n, _ in drafts._few._steps] == [4, 1, 5]


def test_auto_on_a_cpu_is_ggml_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, cpu = case("eagle3").spec, torch.device("cpu")
    assert choose_ggml("auto", cpu, spec)
    assert not choose_ggml("auto", torch.device("meta"), spec)
    assert not choose_ggml("auto", cpu, MedusaSpec(n_heads=2, n_blocks=1, hidden_size=8))
    for dtype in ("int8", "bfloat16", "float32"):
        assert not choose_ggml(dtype, cpu, spec)
    monkeypatch.setattr(ggml_network, "missing_functions", lambda: ("ggml_set_rows",))
    assert not choose_ggml("auto", cpu, spec)
    with pytest.raises(HeadError, match="does not export ggml_set_rows"):
        state(case("eagle3"))


def test_weights_that_ggml_does_not_know_are_named() -> None:
    with pytest.raises(HeadError, match="Int8Matrix"):
        state(case("eagle3", torch.int8))
