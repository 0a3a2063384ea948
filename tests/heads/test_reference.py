"""The references do what the formulas say: hand computations, symmetries, and no tensor without effect."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heads.spec import MedusaSpec, Rope
from tests.heads.random_heads import (
    MEDUSA_VARIANTS,
    N_VOCAB,
    VARIANTS,
    random_eagle,
    random_medusa,
    random_pairs,
    random_target,
)
from tests.heads.reference import eagle_chain, eagle_tree, inverse_frequencies, medusa, rotated

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
NAMES = sorted(VARIANTS)


def plain(weight: np.ndarray) -> np.ndarray:
    return weight.astype(np.float64)


def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean() + 1e-6) * plain(weight)


def swish(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.tanh(x / 2))


def test_a_medusa_block_by_hand() -> None:
    tensors = {
        "blocks.0.0.weight": np.array([[2.0]]),
        "blocks.0.0.bias": np.array([-1.0]),
        "outputs.0.weight": np.array([[1.0], [-10.0]]),
    }
    spec = MedusaSpec(n_heads=1, n_blocks=1, hidden_size=1, n_vocab=2)
    x = 1 + 1 / (1 + np.exp(-1))  # 1 + SiLU(2 * 1 - 1)
    np.testing.assert_allclose(medusa(spec, tensors, np.array([1.0])), [[x, -10 * x]], **CLOSE)


def test_a_medusa_block_of_zeros_passes_the_row_on() -> None:
    spec, tensors = random_medusa(np.random.default_rng(1), own_output=False, n_blocks=2)
    zeros = {name: np.zeros_like(value) for name, value in tensors.items()}
    _, projection = random_target(np.random.default_rng(2), spec.hidden_size)
    row = np.random.default_rng(3).standard_normal(spec.hidden_size)
    expected = [projection.astype(np.float64) @ row] * spec.n_heads
    np.testing.assert_allclose(medusa(spec, zeros, row, projection), expected, **CLOSE)


@pytest.mark.parametrize("name", sorted(MEDUSA_VARIANTS))
def test_every_tensor_of_a_medusa_head_has_an_effect(name: str) -> None:
    rng = np.random.default_rng(4)
    spec, tensors = random_medusa(rng, **MEDUSA_VARIANTS[name])
    _, projection = random_target(rng, spec.hidden_size)
    row = rng.standard_normal(spec.hidden_size)
    before = medusa(spec, tensors, row, projection)
    assert before.shape == (spec.n_heads, spec.n_vocab or N_VOCAB)
    for tensor in tensors.keys() - {"token_map"}:
        other = {**tensors, tensor: 1.5 * tensors[tensor] + 0.1}
        changed = np.abs(medusa(spec, other, row, projection) - before).max(axis=1) > 1e-3
        head = int(tensor.split(".")[1])
        assert changed.tolist() == [i == head for i in range(spec.n_heads)], tensor


def test_one_pair_of_eagle_by_hand() -> None:
    """With one pair attention returns its value, whatever the queries and positions."""
    rng = np.random.default_rng(5)
    spec, t = random_eagle(rng, family="eagle", biases=("v",))
    embedding, output = random_target(rng, spec.width)
    features, tokens = random_pairs(rng, spec, 1)
    z = plain(t["fc.weight"]) @ np.concatenate([embedding[tokens[0]], features[0]]) + t["fc.bias"]
    value = plain(t["layers.0.v.weight"]) @ z + t["layers.0.v.bias"]
    repeated = np.repeat(value.reshape(2, -1), 2, axis=0).ravel()  # four query heads on two
    z = z + plain(t["layers.0.o.weight"]) @ repeated
    x = normed(z, t["layers.0.post_norm.weight"])
    gated = swish(plain(t["layers.0.gate.weight"]) @ x) * (plain(t["layers.0.up.weight"]) @ x)
    out = z + plain(t["layers.0.down.weight"]) @ gated
    found = eagle_chain(spec, t, features, tokens, [], embedding, output)
    np.testing.assert_allclose(found["features"], [out], **CLOSE)
    np.testing.assert_allclose(found["logits"], [plain(output) @ out], **CLOSE)


def test_one_pair_of_eagle3_by_hand() -> None:
    rng = np.random.default_rng(6)
    spec, t = random_eagle(rng, norm_before_residual=True, fc_norms=True, own_embedding=True)
    features, tokens = random_pairs(rng, spec, 1)
    taps = [normed(tap, t[f"fc_norms.{i}.weight"]) for i, tap in enumerate(plain(features[0]).reshape(3, -1))]
    g = plain(t["fc.weight"]) @ np.concatenate(taps)
    r = normed(g, t["layers.0.hidden_norm.weight"])
    e = normed(plain(t["embedding.weight"])[tokens[0]], t["layers.0.input_norm.weight"])
    value = plain(t["layers.0.v.weight"]) @ np.concatenate([e, r])
    r = r + plain(t["layers.0.o.weight"]) @ np.repeat(value.reshape(2, -1), 2, axis=0).ravel()
    x = normed(r, t["layers.0.post_norm.weight"])
    gated = swish(plain(t["layers.0.gate.weight"]) @ x) * (plain(t["layers.0.up.weight"]) @ x)
    out = r + plain(t["layers.0.down.weight"]) @ gated
    found = eagle_chain(spec, t, features, tokens)
    np.testing.assert_allclose(found["features"], [out], **CLOSE)
    logits = plain(t["output.weight"]) @ normed(out, t["norm.weight"])
    np.testing.assert_allclose(found["logits"], [logits], **CLOSE)


def test_a_quarter_turn_moves_one_half_into_the_other() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(rotated(x, 1, np.array([np.pi / 2, 0.0])), [-3.0, 2.0, 1.0, 4.0], **CLOSE)


def test_llama3_scaling_of_llama_3_1() -> None:
    """theta 500000, head_dim 128, factor 8, ramp from 8192 / 4 to 8192 / 1 tokens per turn.

    2 pi 500000^(i / 64) passes 2048 between planes 28 and 29 and 8192 between 34 and 35.
    """
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    unscaled = inverse_frequencies(Rope(500000.0), 128)
    scaled = inverse_frequencies(Rope(500000.0, scaling), 128)
    ratio = unscaled / scaled
    np.testing.assert_allclose(ratio[:29], 1.0, **CLOSE)
    np.testing.assert_allclose(ratio[35:], 8.0, **CLOSE)
    assert np.all(np.diff(ratio[28:36]) > 0)
    assert scaled[29] == pytest.approx(0.0021666, rel=1e-4)  # turns once in 2402 tokens: 80.4 % of the way
    assert scaled[0] == 1.0 and scaled[63] == pytest.approx(500000 ** (-63 / 64) / 8)


def test_linear_scaling_divides_every_frequency() -> None:
    linear = Rope(10000.0, {"rope_type": "linear", "factor": 4.0})
    expected = inverse_frequencies(Rope(10000.0), 8) / 4
    np.testing.assert_allclose(inverse_frequencies(linear, 8), expected, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_rotary_positions_are_relative(name: str) -> None:
    rng = np.random.default_rng(7)
    spec, tensors = random_eagle(rng, **VARIANTS[name])
    target = random_target(rng, spec.width)
    features, tokens = random_pairs(rng, spec, 5)
    here = eagle_chain(spec, tensors, features, tokens, [3, 4], *target)
    there = eagle_chain(spec, tensors, features, tokens, [3, 4], *target, shift=17.0)
    np.testing.assert_allclose(here["logits"], there["logits"], **CLOSE)
    assert here["logits"].shape == (3, spec.n_vocab) and here["features"].shape == (3, spec.width)


def test_the_order_of_earlier_pairs_matters() -> None:
    """Without rotary positions a layer would see its past as a set."""
    rng = np.random.default_rng(8)
    spec, tensors = random_eagle(rng, own_embedding=True)
    features, tokens = random_pairs(rng, spec, 4)
    order = [1, 0, 2, 3]
    swapped = eagle_chain(spec, tensors, features[order], [tokens[i] for i in order])["logits"]
    assert np.abs(swapped - eagle_chain(spec, tensors, features, tokens)["logits"]).max() > 1e-3
    still = replace(spec, rope=Rope(10000.0, {"rope_type": "linear", "factor": 1e12}))
    swapped = eagle_chain(still, tensors, features[order], [tokens[i] for i in order])["logits"]
    np.testing.assert_allclose(swapped, eagle_chain(still, tensors, features, tokens)["logits"], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_an_eagle_head_has_an_effect(name: str) -> None:
    rng = np.random.default_rng(9)
    spec, tensors = random_eagle(rng, **VARIANTS[name])
    target = random_target(rng, spec.width)
    features, tokens = random_pairs(rng, spec, 3)
    before = eagle_chain(spec, tensors, features, tokens, [], *target)["logits"]
    for tensor in tensors.keys() - {"d2t"}:
        noise = rng.standard_normal(tensors[tensor].shape).astype(np.float32)
        other = {**tensors, tensor: tensors[tensor] + 0.3 * noise}
        after = eagle_chain(spec, other, features, tokens, [], *target)["logits"]
        assert np.abs(after - before).max() > 1e-4, tensor


def test_grouped_queries_are_heads_with_repeated_keys() -> None:
    rng = np.random.default_rng(10)
    spec, tensors = random_eagle(rng, own_embedding=True, biases=("k", "v"))
    features, tokens = random_pairs(rng, spec, 4)
    repeated = dict(tensors)
    for name in ("k.weight", "v.weight", "k.bias", "v.bias"):
        heads = tensors[f"layers.0.{name}"].reshape(2, spec.head_dim, -1)
        full = np.repeat(heads, 2, axis=0).reshape(4 * spec.head_dim, -1)
        repeated[f"layers.0.{name}"] = full if name.endswith("weight") else full[:, 0]
    found = eagle_chain(replace(spec, n_kv_heads=4), repeated, features, tokens, [2])["logits"]
    np.testing.assert_allclose(found, eagle_chain(spec, tensors, features, tokens, [2])["logits"], **CLOSE)


def test_normed_queries_forget_their_length() -> None:
    rng = np.random.default_rng(11)
    spec, tensors = random_eagle(rng, own_embedding=True, qk_norm=True, eps=0.0)
    features, tokens = random_pairs(rng, spec, 4)
    longer = {**tensors, "layers.0.q.weight": 4 * tensors["layers.0.q.weight"]}
    found = eagle_chain(spec, longer, features, tokens)["logits"]
    np.testing.assert_allclose(found, eagle_chain(spec, tensors, features, tokens)["logits"], **CLOSE)


def test_eagles_own_feature_stands_in_for_the_targets() -> None:
    rng = np.random.default_rng(12)
    spec, tensors = random_eagle(rng, family="eagle")
    target = random_target(rng, spec.width)
    features, tokens = random_pairs(rng, spec, 4)
    chain = eagle_chain(spec, tensors, features, tokens, [5], *target)
    longer = np.concatenate([features, chain["features"][:1]])
    found = eagle_chain(spec, tensors, longer, [*tokens, 5], [], *target)
    np.testing.assert_allclose(found["logits"][-1], chain["logits"][-1], **CLOSE)


@pytest.mark.parametrize("norm_output", [False, True])
def test_eagle3_feeds_back_what_its_flag_says(norm_output: bool) -> None:
    rng = np.random.default_rng(13)
    spec, tensors = random_eagle(rng, own_embedding=True, norm_output=norm_output)
    features, tokens = random_pairs(rng, spec, 3)
    found = eagle_chain(spec, tensors, features, tokens)
    row = found["features"][0]
    projected = row if norm_output else normed(row, tensors["norm.weight"])
    np.testing.assert_allclose(plain(tensors["output.weight"]) @ projected, found["logits"][0], **CLOSE)


def test_a_window_hides_what_is_older() -> None:
    rng = np.random.default_rng(14)
    spec, tensors = random_eagle(rng, own_embedding=True)
    features, tokens = random_pairs(rng, spec, 5)
    full = eagle_chain(spec, tensors, features, tokens)["logits"]
    np.testing.assert_allclose(
        eagle_chain(spec, tensors, features, tokens, window=5)["logits"], full, **CLOSE
    )
    last_two = eagle_chain(spec, tensors, features[-2:], tokens[-2:])["logits"]
    np.testing.assert_allclose(
        eagle_chain(spec, tensors, features, tokens, window=2)["logits"], last_two, **CLOSE
    )
    assert np.abs(last_two - full).max() > 1e-3


def test_a_path_of_a_tree_is_a_chain() -> None:
    rng = np.random.default_rng(15)
    spec, tensors = random_eagle(rng, own_embedding=True)
    features, tokens = random_pairs(rng, spec, 3)
    nodes = [(-1, 7), (-1, 8), (0, 9), (1, 9), (2, 7)]
    tree = eagle_tree(spec, tensors, features, tokens, nodes)
    chain = eagle_chain(spec, tensors, features, tokens, [7, 9, 7])["logits"]
    np.testing.assert_allclose(tree[[0, 2, 4]], chain[1:], **CLOSE)
    other = eagle_chain(spec, tensors, features, tokens, [8, 9])["logits"]
    np.testing.assert_allclose(tree[[1, 3]], other[1:], **CLOSE)
