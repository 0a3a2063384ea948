"""Draft trees: brute force beside every search, and trees that are trees however they are cut."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import ConfigError
from heads.trees import MEDUSA_TREES, Path, cartesian, chain, fitted, likeliest, named_tree, rerank

PUBLISHED = {  # nodes per depth
    "mc_sim_7b_63": (10, 28, 23, 2),
    "vicuna_7b_stage1": (10, 32, 20, 1),
    "vicuna_7b_stage2": (10, 23, 23, 7),
    "vicuna_13b_stage1": (10, 29, 23, 1),
    "vicuna_13b_stage2": (10, 19, 25, 9),
    "vicuna_33b_stage1": (10, 34, 19),
    "vicuna_33b_stage2": (10, 24, 24, 5),
    "zephyr_stage2": (10, 27, 23, 3),
}
paths_of_any_kind = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple), max_size=25)


def rows(seed: int, n_heads: int, k: int) -> np.ndarray:
    """Log-probabilities of the k best of eight tokens, for each head."""
    logits = 2 * np.random.default_rng(seed).standard_normal((n_heads, 8))
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -np.sort(-logp, axis=1)[:, :k].astype(np.float32)


def reached(logp: np.ndarray, path: Path) -> float:
    """Log-probability of a path, in double precision."""
    return sum(float(logp[depth, rank]) for depth, rank in enumerate(path))


def paths_of(parents: np.ndarray, ranks: np.ndarray) -> list[Path]:
    """Fails where a parent does not come before its child."""
    paths: list[Path] = []
    for node, (parent, rank) in enumerate(zip(parents.tolist(), ranks.tolist(), strict=True)):
        assert -1 <= parent < node
        paths.append((*(paths[parent] if parent >= 0 else ()), rank))
    return paths


def is_closed(paths: list[Path] | tuple[Path, ...]) -> bool:
    """Whether each path's ancestor stands before it."""
    return all(path[:-1] in ((), *paths[:i]) for i, path in enumerate(paths))


def n_leaves(paths: list[Path]) -> int:
    return len(set(paths) - {path[:-1] for path in paths})


def test_presets_are_the_published_ones() -> None:
    assert set(MEDUSA_TREES) == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_preset_has_63_nodes_with_the_published_depths(name: str) -> None:
    paths = MEDUSA_TREES[name]
    depths = [len(path) for path in paths]
    assert tuple(depths.count(depth + 1) for depth in range(max(depths))) == PUBLISHED[name]
    assert len(set(paths)) == 63 and paths[0] == (0,)
    assert max(rank for path in paths for rank in path) == 9


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_prefix_of_a_preset_is_a_tree(name: str) -> None:
    paths = MEDUSA_TREES[name]
    assert is_closed(paths)
    for most in range(64):
        parents, ranks, _ = fitted(paths, 4, 10, most)
        assert paths_of(parents, ranks) == list(paths[:most])


def test_published_trees_take_siblings_from_the_best_down() -> None:
    for paths in MEDUSA_TREES.values():
        assert all(path[-1] == 0 or (*path[:-1], path[-1] - 1) in paths[:i] for i, path in enumerate(paths))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_cartesian_has_every_path_once_and_any_prefix_is_a_tree(widths: list[int]) -> None:
    paths = cartesian(widths)
    levels = [product(*map(range, widths[: depth + 1])) for depth in range(len(widths))]
    expected = [path for level in levels for path in level]
    assert sorted(paths) == sorted(expected)
    assert is_closed(paths)


def test_cartesian_begins_with_what_is_likely() -> None:
    assert cartesian([4, 2, 1])[:6] == ((0,), (0, 0), (1,), (0, 0, 0), (0, 1), (1, 0))
    assert len(cartesian([4, 2, 1])) == 4 + 8 + 8


def test_a_chain_is_the_best_guess_at_each_depth() -> None:
    assert chain(3) == ((0,), (0, 0), (0, 0, 0)) == cartesian([1, 1, 1])
    assert chain(0) == ()


def test_trees_have_names() -> None:
    assert named_tree("auto") == "auto"
    assert named_tree("zephyr_stage2") == MEDUSA_TREES["zephyr_stage2"]
    assert named_tree("4x2x1") == cartesian([4, 2, 1])
    assert named_tree("3") == ((0,), (1,), (2,))
    assert named_tree("chain")[:4] == chain(4)


def test_the_chain_reaches_as_deep_as_the_heads_do() -> None:
    parents, ranks, depths = fitted(named_tree("chain"), 5, 10, 60)  # type: ignore[arg-type]
    assert parents.tolist() == [-1, 0, 1, 2, 3]
    assert ranks.tolist() == [0] * 5 and depths.tolist() == list(range(5))


@pytest.mark.parametrize("text", ["", "vicuna", "4x", "x", "4x2y", "-1", "4 x 2", "Auto", "٤"])
def test_an_unknown_tree_lists_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError, match="auto, chain, widths such as 4x2x1, .*mc_sim_7b_63.*zephyr"):
        named_tree(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("4x0x1", "at least 1"), ("0", "at least 1"), ("10x10x10", "10x10x10 has more than 1024 nodes")],
)
def test_impossible_widths_say_why(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        named_tree(text)


@given(paths_of_any_kind, st.integers(0, 5), st.integers(0, 6), st.integers(0, 12))
def test_fitted_is_a_tree_of_what_the_heads_can_fill(
    paths: list[Path], n_heads: int, n_ranks: int, most: int
) -> None:
    parents, ranks, depths = fitted(paths, n_heads, n_ranks, most)
    found = paths_of(parents, ranks)
    assert len(found) == len(set(found)) <= most
    assert all(len(path) <= n_heads and max(path) < n_ranks for path in found)
    assert [len(path) - 1 for path in found] == depths.tolist()
    possible = [path for path in paths if len(path) <= n_heads and max(path) < n_ranks]
    ancestors = {path[:depth] for path in possible for depth in range(1, len(path) + 1)}
    assert set(found) <= ancestors and len(found) == min(most, len(ancestors))


def test_fitted_keeps_the_order_and_drops_what_does_not_fit() -> None:
    paths = ((0,), (0, 0), (3,), (1,), (0, 0, 0), (1, 2))
    parents, ranks, depths = fitted(paths, n_heads=2, n_ranks=3, most=10)
    assert paths_of(parents, ranks) == [(0,), (0, 0), (1,), (1, 2)]
    assert parents.tolist() == [-1, 0, -1, 2] and depths.tolist() == [0, 1, 0, 1]
    assert parents.dtype == ranks.dtype == depths.dtype == np.int32


def test_fitted_brings_a_missing_ancestor_before_its_child() -> None:
    parents, ranks, _ = fitted(((1, 2), (1,), (0, 0)), 2, 3, 10)
    assert paths_of(parents, ranks) == [(1,), (1, 2), (0,), (0, 0)]
    parents, ranks, _ = fitted(((1, 2), (1,), (0, 0)), 2, 3, 3)
    assert paths_of(parents, ranks) == [(1,), (1, 2), (0,)]


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(0, 30))
def test_likeliest_are_the_paths_with_the_highest_products(
    seed: int, n_heads: int, k: int, most: int
) -> None:
    logp = rows(seed, n_heads, k)
    parents, ranks, depths, chance = likeliest(logp, most, 1000)
    found = paths_of(parents, ranks)
    every = [path for depth in range(n_heads) for path in product(range(k), repeat=depth + 1)]
    chances = {path: np.exp(reached(logp, path)) for path in every}
    best = sorted(chances.values(), reverse=True)[:most]
    np.testing.assert_allclose(chance, best, rtol=1e-5)
    np.testing.assert_allclose(chance, [chances[path] for path in found], rtol=1e-5)
    assert len(set(found)) == len(found)
    assert depths.tolist() == [len(path) - 1 for path in found]


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.integers(0, 6))
def test_likeliest_keeps_to_its_leaves(seed: int, n_heads: int, k: int, most: int, leaves: int) -> None:
    """What it leaves out would have been a leaf too many, or is less likely than what it has."""
    logp = rows(seed, n_heads, k)
    parents, ranks, _, chance = likeliest(logp, most, leaves)
    found = paths_of(parents, ranks)
    assert n_leaves(found) <= leaves
    every = {path for depth in range(n_heads) for path in product(range(k), repeat=depth + 1)}
    kept: list[Path] = []
    for path in sorted(every, key=lambda path: (-reached(logp, path), path)):
        if path[:-1] in ((), *kept) and n_leaves([*kept, path]) <= leaves and len(kept) < most:
            kept.append(path)
    assert found == kept
    assert np.all(np.diff(chance) <= 1e-6)


def test_likeliest_of_equals_takes_the_lower_rank() -> None:
    logp = np.log(np.full((2, 3), 1 / 3, np.float32))
    parents, ranks, _, chance = likeliest(logp, 5, 10)
    assert paths_of(parents, ranks) == [(0,), (1,), (2,), (0, 0), (0, 1)]
    np.testing.assert_allclose(chance, [1 / 3, 1 / 3, 1 / 3, 1 / 9, 1 / 9], rtol=1e-6)


def test_likeliest_makes_a_chain_of_one_leaf() -> None:
    parents, ranks, depths, _ = likeliest(rows(3, 4, 5), 10, 1)
    assert parents.tolist() == [-1, 0, 1, 2] and ranks.tolist() == [0] * 4 and depths.tolist() == [0, 1, 2, 3]


def test_likeliest_of_nothing_is_empty() -> None:
    for logp in (np.zeros((0, 5), np.float32), np.zeros((3, 0), np.float32)):
        assert [len(part) for part in likeliest(logp, 5, 5)] == [0, 0, 0, 0]


def test_likeliest_takes_an_impossible_guess_last() -> None:
    logp = np.array([[0.0, -np.inf], [-0.5, -1.0]], np.float32)
    parents, ranks, _, chance = likeliest(logp, 4, 10)
    assert paths_of(parents, ranks)[:3] == [(0,), (0, 0), (0, 1)]
    assert chance[3] == 0.0


def grown(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A random tree whose scores never rise from parent to child, with many ties."""
    rng = np.random.default_rng(seed)
    parents = np.array([rng.integers(-1, node) for node in range(n)], np.int32)
    scores = np.zeros(n, np.float32)
    for node, parent in enumerate(parents):
        scores[node] = (scores[parent] if parent >= 0 else 0.0) - rng.integers(0, 3)
    return parents, scores


@given(st.integers(0, 10_000), st.integers(0, 25), st.integers(0, 30))
def test_rerank_keeps_the_highest_scores_and_their_ancestors(seed: int, n: int, most: int) -> None:
    parents, scores = grown(seed, n)
    kept = rerank(parents, scores, most).tolist()
    assert kept == sorted(kept) and len(kept) == min(most, n)
    assert sorted(scores[kept], reverse=True) == sorted(scores, reverse=True)[:most]
    assert all(parents[node] in (-1, *kept) for node in kept)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
def test_rerank_is_the_best_of_all_subtrees(seed: int, n: int, most: int) -> None:
    """The sum of path probabilities is what a tree is expected to have accepted."""
    parents, scores = grown(seed, n)
    chance = np.exp(scores.astype(np.float64))
    kept = rerank(parents, scores, most)
    closed = [
        nodes
        for nodes in combinations(range(n), min(most, n))
        if all(parents[node] in (-1, *nodes) for node in nodes)
    ]
    assert chance[kept].sum() == pytest.approx(max(chance[list(nodes)].sum() for nodes in closed))


def test_rerank_never_keeps_a_child_without_its_parent() -> None:
    """Not even where rounding made the child's score the higher one."""
    parents, scores = np.array([-1, -1, 0], np.int32), np.array([-2.0, -1.0, -0.5], np.float32)
    assert rerank(parents, scores, 1).tolist() == [1]
    assert rerank(parents, scores, 2).tolist() == [0, 1]
    assert rerank(parents, scores, 3).tolist() == [0, 1, 2]
