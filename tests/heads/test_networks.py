"""The networks say what the formulas say, in any order of reading, drafting and forgetting."""

import numpy as np
import pytest
import torch

from adapters.errors import HeadError
from heads.draft_state import DraftState, Frontier
from heads.eagle import Eagle
from heads.medusa_state import MedusaState
from heads.network import network_of
from tests.heads.cases import (
    MEDUSA_NAMES,
    NAMES,
    assert_says,
    assert_window,
    borrowed,
    case,
    grow,
    medusa_case,
    medusa_rows,
    read,
    torch_head,
)
from tests.heads.random_heads import DRAFTED, MEDUSA_VARIANTS, N_VOCAB, random_medusa, random_target
from tests.heads.reference import eagle_chain, eagle_tree

FEW = ["eagle", "eagle3", "eagle3-all-norms", "eagle3-three-layers"]
# level by level; the last grows below a node of the first
LEVELS = ([(-1, 3), (-1, 11), (-1, 29)], [(0, 5), (0, 3), (2, 8)], [(4, 20)], [(1, 3), (6, 6)])


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_says_what_the_formulas_say(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(9)
    follow = [7, 30, 7, 2]
    expected = head.chain(features, tokens, *follow)
    state = read(head, features, tokens)
    assert_says(state.open(N_VOCAB), expected[:1], head.ids())
    for i, token in enumerate(follow):
        assert_says(grow(state, [(i - 1, token)]), expected[i + 1 : i + 2], head.ids())


@pytest.mark.parametrize("name", NAMES)
def test_every_node_of_a_tree_says_what_its_path_says(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(5)
    nodes = [node for level in LEVELS for node in level]
    expected = eagle_tree(head.spec, head.tensors, features, tokens, nodes, *head.target)
    state = read(head, features, tokens)
    state.open(1)
    n = 0
    for level in LEVELS:
        assert_says(grow(state, level), expected[n : n + len(level)], head.ids())
        n += len(level)


@pytest.mark.parametrize("name", NAMES)
def test_after_rounds_of_accepting_and_rejecting_it_is_as_fresh(name: str) -> None:
    """Whatever was drafted or taken back: what counts is the pairs that were read and kept."""
    head = case(name)
    rng = np.random.default_rng(1)
    features, tokens = head.pairs(4)
    state = read(head, features, tokens)
    for _ in range(12):
        state.open(3)
        for level in LEVELS[: rng.integers(0, 5)]:
            grow(state, level)
        if rng.random() < 0.4:  # the user's text changed further back
            kept = int(rng.integers(0, len(tokens)))
            state.truncate(kept)
            features, tokens = features[:kept], tokens[:kept]
        more_features, more_tokens = head.pairs(int(rng.integers(1, 4)))
        state.read(more_features, more_tokens)
        features, tokens = np.concatenate([features, more_features]), tokens + more_tokens
        assert state.n_pairs == len(tokens)
    expected = head.chain(features, tokens, 8, 9)
    assert_says(state.open(N_VOCAB), expected[:1], head.ids())
    assert_says(grow(state, [(-1, 8)]), expected[1:2], head.ids())
    assert_says(grow(state, [(0, 9)]), expected[2:], head.ids())


@pytest.mark.parametrize("name", FEW)
def test_a_second_tree_owes_nothing_to_the_first(name: str) -> None:
    """Its fourth node has another parent than the first tree's fourth."""
    head = case(name)
    features, tokens = head.pairs(4)
    state = read(head, features, tokens)
    state.open(2)
    for level in LEVELS:
        grow(state, level)
    nodes = [(-1, 12), (-1, 4), (1, 9), (1, 3)]
    expected = eagle_tree(head.spec, head.tensors, features, tokens, nodes, *head.target)
    assert_says(state.open(N_VOCAB), head.chain(features, tokens), head.ids())
    assert_says(grow(state, nodes[:2]), expected[:2], head.ids())
    assert_says(grow(state, nodes[2:]), expected[2:], head.ids())


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("piece", [1, 255, 256, 257])
def test_a_long_text_may_be_read_in_any_pieces(name: str, piece: int) -> None:
    """Longer than the first cache, the first rotary table and a stretch that is read at once."""
    head = case(name)
    features, tokens = head.pairs(1100)
    whole, parts = read(head, features, tokens), DraftState(head.network)
    for start in range(0, len(tokens), piece):
        parts.read(features[start : start + piece], tokens[start : start + piece])
    assert parts.n_pairs == whole.n_pairs == 1100
    for state in (whole, parts):
        state.open(1)
        grow(state, LEVELS[0])
    last, same = grow(whole, LEVELS[1]), grow(parts, LEVELS[1])
    np.testing.assert_allclose(np.sort(last.logp), np.sort(same.logp), rtol=1e-4, atol=1e-4)
    assert last.tokens[:, 0].tolist() == same.tokens[:, 0].tolist()


@pytest.mark.parametrize("name", FEW)
def test_a_tree_may_be_larger_than_the_first_table(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(3)
    state = read(head, features, tokens)
    state.open(1)
    nodes: list[tuple[int, int]] = [(-1, token) for token in range(40)]
    nodes += [(node, (3 * node) % N_VOCAB) for node in range(40)]
    nodes += [(40 + node, node) for node in range(40)]
    for start in (0, 40, 80):
        said = grow(state, nodes[start : start + 40])
    for node in (0, 17, 39):
        expected = head.chain(features, tokens, node, (3 * node) % N_VOCAB, node)[-1:]
        assert_says(Frontier(said.tokens[node : node + 1], said.logp[node : node + 1]), expected, head.ids())


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("window", [1, 3, 7, 50])
def test_a_window_sees_the_newest_pairs_only(name: str, window: int) -> None:
    head = case(name)
    assert_window(head, window, lambda: DraftState(head.network, window))


@pytest.mark.parametrize("name", FEW)
def test_the_few_likeliest_are_the_first_of_all(name: str) -> None:
    head = case(name)
    features, tokens = head.pairs(4)
    state = read(head, features, tokens)
    everything = state.open(N_VOCAB)
    for k in (1, 2, 10):
        few = state.open(k)
        assert few.tokens.tolist() == everything.tokens[:, :k].tolist()
        np.testing.assert_allclose(few.logp, everything.logp[:, :k], rtol=1e-6)


def test_a_tree_needs_a_pair_to_start_from() -> None:
    head = case("eagle3")
    state = DraftState(head.network)
    with pytest.raises(ValueError, match="read a pair first"):
        state.open(1)
    state.read(*head.pairs(3))
    state.truncate(2)
    assert state.n_pairs == 2
    with pytest.raises(ValueError, match="read a pair first"):
        state.open(1)


def test_borrowed_embeddings_are_scaled_and_own_ones_are_not() -> None:
    for name, factor in (("eagle3", 3.0), ("eagle3-own-embedding", 1.0)):
        head = case(name)
        scaled = network_of(torch_head(head.spec, head.tensors), borrowed(head.target, 3.0))
        assert isinstance(scaled, Eagle)
        features, tokens = head.pairs(3)
        state = DraftState(scaled)
        state.read(features, tokens)
        embedding = (factor * head.target[0], head.target[1])
        expected = eagle_chain(head.spec, head.tensors, features, tokens, [], *embedding)["logits"]
        assert_says(state.open(N_VOCAB), expected, head.ids())


def test_a_vocabulary_cuts_the_projection_and_nothing_else() -> None:
    head = case("eagle")
    made = torch_head(head.spec, head.tensors)
    cut = network_of(made, borrowed(head.target), vocabulary=torch.tensor(DRAFTED))
    assert isinstance(cut, Eagle)
    features, tokens = head.pairs(3)
    state = DraftState(cut)
    state.read(features, tokens)
    expected = head.chain(features, tokens, 6)[:, list(DRAFTED)]
    assert_says(state.open(N_VOCAB), expected[:1], list(DRAFTED))
    assert_says(grow(state, [(-1, 6)]), expected[1:], list(DRAFTED))


def test_a_head_with_a_vocabulary_refuses_another() -> None:
    head = case("eagle3")
    with pytest.raises(HeadError, match="vocabulary of its own"):
        network_of(
            torch_head(head.spec, head.tensors), borrowed(head.target), vocabulary=torch.tensor(DRAFTED)
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FEW)
def test_half_precision_says_nearly_the_same(name: str, dtype: torch.dtype) -> None:
    head = case(name, dtype)
    features, tokens = head.pairs(6)
    expected = head.chain(features, tokens, 5)
    state = read(head, features, tokens)
    atol = 0.25 if dtype == torch.bfloat16 else 0.03
    assert_says(state.open(N_VOCAB), expected[:1], head.ids(), atol)
    assert_says(grow(state, [(-1, 5)]), expected[1:], head.ids(), atol)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_back_the_tensors_it_was_made_of(name: str) -> None:
    head = case(name)
    found = {tensor: value.detach().numpy() for tensor, value in head.network.canonical().items()}
    for tensor, value in found.items():
        # where some parts of a fused matrix have a bias the others have zeros
        assert tensor in head.tensors or tensor == "output.weight" or tensor.endswith(".bias"), tensor
        given = head.tensors | {"output.weight": head.tensors.get("output.weight", head.target[1])}
        np.testing.assert_array_equal(value, given.get(tensor, np.zeros_like(value)))
    lent = {"embedding.weight", "output.weight"}  # by the target, or kept as they were
    assert set(head.tensors) - lent <= set(found)


@pytest.mark.parametrize("name", MEDUSA_NAMES)
def test_medusa_heads_say_what_the_formulas_say(name: str) -> None:
    network, expected, _ = medusa_case(name)
    with torch.inference_mode():
        found = network(torch.from_numpy(medusa_rows(network.spec.hidden_size))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MEDUSA_NAMES)
def test_medusa_guesses_from_the_newest_row(name: str) -> None:
    network, expected, ids = medusa_case(name)
    state = MedusaState(network)
    for i, row in enumerate(medusa_rows(network.spec.hidden_size)):
        state.see(row)
        assert_says(Frontier(*state.guesses(N_VOCAB)), expected[:, i], ids)
        few, _ = state.guesses(3)
        assert few.tolist() == state.guesses(N_VOCAB)[0][:, :3].tolist()


def test_medusa_needs_a_row_to_guess_from() -> None:
    network, _, _ = medusa_case("medusa")
    state = MedusaState(network)
    assert not state.is_open
    with pytest.raises(ValueError, match="see a row first"):
        state.guesses(1)
    state.see(medusa_rows(network.spec.hidden_size)[0])
    assert state.is_open
    state.forget()
    assert not state.is_open


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["medusa", "medusa-shared", "medusa-tied-to-target"])
def test_medusa_in_half_precision_says_nearly_the_same(name: str, dtype: torch.dtype) -> None:
    network, expected, ids = medusa_case(name, dtype)
    state = MedusaState(network)
    state.see(medusa_rows(network.spec.hidden_size)[0])
    assert_says(Frontier(*state.guesses(N_VOCAB)), expected[:, 0], ids, 0.1)


@pytest.mark.parametrize("name", MEDUSA_NAMES)
def test_medusa_gives_back_the_tensors_it_was_made_of(name: str) -> None:
    rng = np.random.default_rng(6)
    spec, tensors = random_medusa(rng, **MEDUSA_VARIANTS[name])
    network = network_of(torch_head(spec, tensors), borrowed(random_target(rng, spec.hidden_size)))
    found = network.canonical()
    assert set(found) == set(tensors)
    for tensor, value in found.items():
        np.testing.assert_array_equal(value.detach().numpy(), tensors[tensor])
