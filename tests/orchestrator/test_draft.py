import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.draft import Draft, Walk
from orchestrator.errors import DrafterError

#       root
#      /    \
#     0      1
#    / \     |
#   2   3    4
TREE = Draft.tree([10, 11, 12, 13, 14], [-1, -1, 0, 0, 1])


@st.composite
def trees(draw):
    n = draw(st.integers(0, 12))
    parents = [draw(st.integers(-1, i - 1)) for i in range(n)]
    return Draft.tree(list(range(n)), parents)


def n_leaves(draft: Draft) -> int:
    return len(draft) - len({parent for parent in draft.parents.tolist() if parent >= 0})


def test_an_empty_draft_is_a_chain_of_no_tokens():
    assert len(Draft()) == 0 and Draft().is_chain and Draft().depth == 0


def test_depth_counts_the_nodes_of_the_longest_path():
    assert TREE.depth == 2
    assert Draft.chain([1, 2, 3]).depth == 3


def test_a_prefix_of_the_nodes_is_a_tree():
    assert TREE.first(3).parents.tolist() == [-1, -1, 0]
    assert TREE.first(99) is TREE


@given(trees(), st.integers(1, 6))
def test_a_cut_tree_has_few_leaves_and_only_old_paths(draft, most):
    cut = draft.with_leaves(most)
    assert n_leaves(cut) <= most
    assert set(paths(cut)) <= set(paths(draft))
    assert n_leaves(draft) > most or cut is draft or len(cut) == len(draft)


def paths(draft: Draft) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for token, parent in zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


def test_cutting_to_one_leaf_leaves_the_first_branch():
    assert TREE.with_leaves(1).tokens.tolist() == [10, 12]


@pytest.mark.parametrize(
    ("parents", "why"),
    [
        ([0], "parents must be -1 or an earlier node"),
        ([-2], "parents must be"),
        ([-1, -1], "one entry per node"),
    ],
)
def test_a_malformed_tree_is_refused(parents, why):
    with pytest.raises(DrafterError, match=why):
        Draft(np.array([5], np.int32), np.array(parents, np.int32), np.ones(1, np.float32), "broken")


@pytest.mark.parametrize("token", [-1, 100])
def test_a_token_outside_the_vocabulary_is_named(token):
    with pytest.raises(DrafterError, match=f"proposed token {token}, the target's vocabulary has 100"):
        Draft.chain([3, token]).require_vocabulary(100)


def test_a_shortened_walk_counts_its_last_token_as_the_targets_own():
    walk = Walk((0, 1, 2), (7, 8, 9, 10))
    assert walk.first(2) == Walk((0,), (7, 8))
    assert walk.first(1) == Walk((), (7,))
    assert walk.first(4) is walk
