"""Random heads as arrays and as networks, and how what a network says is held against the formulas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heads.draft_state import DraftState, Frontier
from heads.eagle import Eagle
from heads.medusa import Medusa
from heads.network import network_of
from heads.spec import EagleSpec, Head
from tests.heads.random_heads import (
    MEDUSA_VARIANTS,
    N_VOCAB,
    VARIANTS,
    random_eagle,
    random_medusa,
    random_pairs,
    random_target,
)
from tests.heads.reference import eagle_chain, medusa

NAMES, MEDUSA_NAMES = sorted(VARIANTS), sorted(MEDUSA_VARIANTS)


@dataclass(frozen=True)
class Weights:
    """What heads borrow of their target."""

    embedding: Tensor
    output: Tensor
    embedding_scale: float = 1.0


@dataclass(frozen=True)
class Case:
    """A random head three times: as arrays, as a network, and the target it belongs to."""

    spec: EagleSpec
    tensors: dict[str, np.ndarray]
    target: tuple[np.ndarray, np.ndarray]
    network: Eagle
    rng: np.random.Generator

    def pairs(self, n: int) -> tuple[np.ndarray, list[int]]:
        return random_pairs(self.rng, self.spec, n)

    def chain(self, features: np.ndarray, tokens: list[int], *follow: int, window: int = 0) -> np.ndarray:
        found = eagle_chain(self.spec, self.tensors, features, tokens, follow, *self.target, window=window)
        return found["logits"]

    def ids(self) -> list[int]:
        """The target's ids of the logits' columns."""
        return self.tensors.get("d2t", np.arange(self.spec.n_vocab)).tolist()


def torch_head(spec: Any, tensors: Mapping[str, np.ndarray]) -> Head:
    """One tensor for each array, so that what is shared stays shared."""
    made = {id(array): torch.from_numpy(array.copy()) for array in tensors.values()}
    return Head(spec, {name: made[id(array)] for name, array in tensors.items()}, "a test")


def borrowed(target: tuple[np.ndarray, np.ndarray], scale: float = 1.0) -> Weights:
    return Weights(torch.from_numpy(target[0]), torch.from_numpy(target[1]), scale)


def case(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Case:
    rng = np.random.default_rng(NAMES.index(name))
    spec, tensors = random_eagle(rng, **{**VARIANTS[name], **changes})
    target = random_target(rng, spec.width)
    network = network_of(torch_head(spec, tensors), borrowed(target), dtype, "cpu")
    assert isinstance(network, Eagle)
    return Case(spec, tensors, target, network, rng)


def read(case: Case, features: np.ndarray, tokens: list[int], window: int = 0) -> DraftState:
    state = DraftState(case.network, window)
    state.read(features, tokens)
    return state


def grow(state: DraftState, nodes: Sequence[tuple[int, int]]) -> Frontier:
    """Everything that the head says after these nodes."""
    return state.grow([parent for parent, _ in nodes], [token for _, token in nodes], N_VOCAB)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def assert_says(said: Frontier, logits: np.ndarray, ids: list[int], atol: float = 1e-5) -> None:
    """The frontier holds all tokens, likeliest first, with these logits' log-probabilities."""
    assert said.tokens.shape == said.logp.shape == logits.shape
    assert np.all(np.diff(said.logp, axis=1) <= 0)
    for tokens, logp, expected in zip(said.tokens, said.logp, log_softmax(logits), strict=True):
        assert sorted(tokens.tolist()) == ids
        found = dict(zip(tokens.tolist(), logp.tolist(), strict=True))
        np.testing.assert_allclose([found[token] for token in ids], expected, rtol=1e-5, atol=atol)


def medusa_case(name: str, dtype: torch.dtype = torch.float32) -> tuple[Medusa, np.ndarray, list[int]]:
    """(network, logits of three rows `[n_heads, 3, V']` by the formulas, the target's ids of V')."""
    rng = np.random.default_rng(MEDUSA_NAMES.index(name))
    spec, tensors = random_medusa(rng, **MEDUSA_VARIANTS[name])
    target = random_target(rng, spec.hidden_size)
    network = network_of(torch_head(spec, tensors), borrowed(target), dtype)
    assert isinstance(network, Medusa)
    logits = [medusa(spec, tensors, row, target[1]) for row in medusa_rows(spec.hidden_size)]
    ids = tensors.get("token_map", np.arange(len(logits[0][0]))).tolist()
    return network, np.stack(logits, axis=1), ids


def medusa_rows(hidden_size: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((3, hidden_size)).astype(np.float32)


def assert_window(head: Case, window: int, opened: Callable[[], DraftState], *atol: float) -> None:
    """A head that looks `window` pairs back says what the formulas say, whatever the pieces it reads."""
    features, tokens = head.pairs(9)
    follow = [7, 30, 2]
    expected = head.chain(features, tokens, *follow, window=window)
    for pieces in ([9], [1] * 9, [4, 5], [7, 2]):
        state, n = opened(), 0
        for piece in pieces:
            state.read(features[n : n + piece], tokens[n : n + piece])
            n += piece
        assert_says(state.open(N_VOCAB), expected[:1], head.ids(), *atol)
    if window >= len(follow):  # ancestors are always seen
        for i, token in enumerate(follow):
            assert_says(grow(state, [(i - 1, token)]), expected[i + 1 : i + 2], head.ids(), *atol)
