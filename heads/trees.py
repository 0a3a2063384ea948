"""Shapes of draft trees: which nodes to guess, given only ranks or only scores.

A path is the ranks from the root down: (0, 2) is the third best guess under the best one. Knows ranks and
numbers; nothing of tokens, heads or targets.
"""

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.errors import ConfigError
from adapters.target import FloatArray, IntArray
from heads.medusa_presets import MEDUSA_PRESETS

Path = tuple[int, ...]
Paths = tuple[Path, ...]

MEDUSA_TREES: Mapping[str, Paths] = {
    name: tuple(tuple(map(int, path)) for path in nodes.split()) for name, nodes in MEDUSA_PRESETS.items()
}

_MOST_NODES = 1024  # of a tree made of widths: far more than any target verifies at once
_DEEPEST = 64  # of the chain that fits every head


def cartesian(widths: Sequence[int]) -> Paths:
    """Every node of depth d has `widths[d]` children; lower ranks and shallower nodes first, so that any
    prefix is a good smaller tree."""
    shape = "x".join(map(str, widths))
    if any(width < 1 for width in widths):
        raise ConfigError(f"tree {shape}: every width must be at least 1")
    n_nodes, n_level = 0, 1
    for width in widths:
        n_level *= width
        n_nodes += n_level
        if n_nodes > _MOST_NODES:
            raise ConfigError(
                f"tree {shape} has more than {_MOST_NODES} nodes; use fewer levels or narrower ones"
            )
    paths: list[Path] = []
    for depth in range(1, len(widths) + 1):
        paths += product(*map(range, widths[:depth]))
    return tuple(sorted(paths, key=lambda path: (len(path) + sum(path), path)))


def chain(n: int) -> Paths:
    """The best guess at each of `n` depths."""
    return tuple((0,) * depth for depth in range(1, n + 1))


def named_tree(text: str) -> Literal["auto"] | Paths:
    """The tree that a setting names: "auto" (by probability), "chain", widths ("4x2x1") or a preset."""
    if text == "auto":
        return "auto"
    if text == "chain":
        return chain(_DEEPEST)
    if re.fullmatch(r"\d{1,9}(x\d{1,9})*", text, re.ASCII):
        return cartesian([int(width) for width in text.split("x")])
    if text in MEDUSA_TREES:
        return MEDUSA_TREES[text]
    raise ConfigError(
        f"no tree is called {text!r}; there are auto, chain, widths such as 4x2x1, and Medusa's "
        + ", ".join(MEDUSA_TREES)
    )


def fitted(
    paths: Iterable[Path], n_heads: int, n_ranks: int, most: int
) -> tuple[IntArray, IntArray, IntArray]:
    """(parents, ranks, depths) of the first `most` paths that `n_heads` heads of `n_ranks` guesses can fill.

    An ancestor that `paths` leaves out, or names too late, comes in before its first descendant.
    parents: -1 = the root. depths: 0 = child of the root, hence the number of the head that guesses.
    """
    place: dict[Path, int] = {(): -1}
    for path in paths:
        if len(path) > n_heads or max(path) >= n_ranks:
            continue
        for depth in range(1, len(path) + 1):
            if path[:depth] not in place and len(place) <= most:
                place[path[:depth]] = len(place) - 1
    nodes = list(place)[1:]
    return _ints([place[path[:-1]] for path in nodes]), *_ranks_depths(nodes)


def likeliest(
    logp: FloatArray, most: int, max_leaves: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """(parents, ranks, depths, chance) of the `most` paths with the highest product of probabilities.

    logp `[n_heads, k]`, each row from its best guess down; a row serves all nodes of its depth (Cartesian
    heads). A node that would open a leaf beyond `max_leaves` is left out, with all below it. Likelier
    nodes first. chance: the product along the path; parents and depths as in `fitted`.
    """
    rows = logp.tolist()
    parents: list[int] = []
    nodes: list[Path] = []
    reached = {-1: 0.0}  # log-probability of each node's path
    forked: set[int] = set()  # nodes with a child: a further one opens a leaf
    n_leaves = 0
    heap: list[tuple[float, Path, int]] = []  # least first; among equals the path decides

    def offer(path: Path, parent: int) -> None:
        depth = len(path) - 1
        if depth < len(rows) and path[-1] < len(rows[depth]):
            heapq.heappush(heap, (-(reached[parent] + rows[depth][path[-1]]), path, parent))

    offer((0,), -1)
    while heap and len(nodes) < most:
        cost, path, parent = heapq.heappop(heap)
        opens_leaf = parent == -1 or parent in forked
        if opens_leaf and n_leaves == max_leaves:
            continue
        n_leaves += opens_leaf
        forked.add(parent)
        reached[len(nodes)] = -cost
        offer((*path[:-1], path[-1] + 1), parent)
        offer((*path, 0), len(nodes))
        parents.append(parent)
        nodes.append(path)
    chance = np.exp([reached[node] for node in range(len(nodes))])
    return _ints(parents), *_ranks_depths(nodes), chance.astype(np.float32)


def rerank(parents: IntArray, scores: FloatArray, most: int) -> IntArray:
    """The `most` nodes with the highest scores (log-probabilities of their paths), ascending; of equals the
    earlier (EAGLE-2).

    A child counts no more than its parent, so whoever is kept has its ancestors kept.
    """
    bounded: list[float] = []
    for parent, score in zip(parents.tolist(), scores.tolist(), strict=True):
        bounded.append(score if parent < 0 else min(score, bounded[parent]))
    best = np.argsort(-np.asarray(bounded, np.float64), kind="stable")[:most]
    return _ints(np.sort(best))


def _ranks_depths(nodes: Sequence[Path]) -> tuple[IntArray, IntArray]:
    return _ints([path[-1] for path in nodes]), _ints([len(path) - 1 for path in nodes])


def _ints(values: Sequence[int] | NDArray[Any]) -> IntArray:
    return np.asarray(values, np.int32)
