"""Claims about the noise: a function of seed, stream, position and id that nothing tells from chance.

Chi-square tests: were the noise truly random, each would fail for one seed in a million; as it is a
function, it either fails for ever or never.
"""

import math

import numpy as np
import pytest

from orchestrator.law import Law
from orchestrator.noise import _GOLDEN, _MASK, _key, gumbel, uniform, uniform_scalar

STREAMS = ("target", "grammar", "draft", "accept", "residual")
QUANTILE = {4: 33.38, 63: 131.37}  # of chi-square by degrees of freedom, at 1 - 1e-6
IDS = np.arange(64000)


def chi_square(cells: np.ndarray, probs: np.ndarray) -> float:
    """Pearson's statistic of the counts `[n]` of `cells` against `probs [n]`."""
    expected = probs * len(cells)
    counts = np.bincount(cells, minlength=len(probs))
    return float(((counts - expected) ** 2 / expected).sum())


def expect_even(cells: np.ndarray) -> None:
    assert chi_square(cells, np.full(64, 1 / 64)) < QUANTILE[63]


def expect_independent(a: np.ndarray, b: np.ndarray) -> None:
    expect_even((8 * a).astype(int) * 8 + (8 * b).astype(int))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("seed", "position"), [(0, 0), (1, 0), (0, 1), (2**64 - 1, 10**6)])
def test_noise_over_the_ids_is_uniform(stream: str, seed: int, position: int) -> None:
    u = uniform(seed, stream, position, IDS)
    assert 0 < u.min() and u.max() < 1
    expect_even((64 * u).astype(int))


@pytest.mark.parametrize("stride", [1, 1 << 20])
def test_noise_over_the_positions_is_uniform(stride: int) -> None:
    one = np.array([7])
    positions = range(0, 20000 * stride, stride)
    expect_even((64 * np.array([uniform(5, "target", i, one)[0] for i in positions])).astype(int))
    expect_even(np.array([int(64 * uniform_scalar(5, "accept", i)) for i in positions]))


def test_noise_over_the_seeds_is_uniform() -> None:
    one = np.array([0])
    expect_even(np.array([int(64 * uniform(seed, "target", 0, one)[0]) for seed in range(20000)]))


def test_streams_are_independent() -> None:
    for i, a in enumerate(STREAMS):
        for b in STREAMS[i + 1 :]:
            expect_independent(uniform(3, a, 9, IDS), uniform(3, b, 9, IDS))


@pytest.mark.parametrize("other", [(3, 10), (3, 11), (4, 9), (2**63, 9)], ids=str)
def test_positions_and_seeds_are_independent(other: tuple[int, int]) -> None:
    seed, position = other
    expect_independent(uniform(3, "target", 9, IDS), uniform(seed, "target", position, IDS))


def test_neighbouring_ids_are_independent() -> None:
    u = uniform(3, "target", 9, IDS)
    for shift in (1, 2, 64, 1024):
        expect_independent(u[:-shift], u[shift:])


def test_noise_of_an_id_does_not_depend_on_which_others_are_asked() -> None:
    subset = np.random.default_rng(0).permutation(IDS)[:100]
    np.testing.assert_array_equal(uniform(1, "draft", 2, subset), uniform(1, "draft", 2, IDS)[subset])
    np.testing.assert_array_equal(gumbel(1, "draft", 2, subset), gumbel(1, "draft", 2, IDS)[subset])


@pytest.mark.parametrize("hashed", [0, _MASK])
def test_even_the_extreme_hashes_give_finite_noise(hashed: int) -> None:
    ids = np.array([id_with_hash(hashed, 1, 2)])
    assert 0 < uniform(1, "target", 2, ids)[0] < 1
    assert math.isfinite(gumbel(1, "target", 2, ids)[0])


def id_with_hash(hashed: int, seed: int, position: int) -> int:
    """The id whose mixed bits in the stream "target" are `hashed`: the mixer, backwards."""
    x = hashed ^ (hashed >> 31) ^ (hashed >> 62)
    x = (x * pow(0x94D049BB133111EB, -1, 2**64)) & _MASK
    x ^= (x >> 27) ^ (x >> 54)
    x = (x * pow(0xBF58476D1CE4E5B9, -1, 2**64)) & _MASK
    x ^= (x >> 30) ^ (x >> 60)
    found = ((x - _key(seed, "target", position)) * pow(_GOLDEN, -1, 2**64)) & _MASK
    return found - 2**64 if found >= 2**63 else found


def test_gumbel_noise_is_standard() -> None:
    noise = gumbel(3, "target", 9, IDS)
    error = math.pi / math.sqrt(6 * len(IDS))  # of the mean; five of them are rarer than one in a million
    assert abs(noise.mean() - np.euler_gamma) < 5 * error
    expect_even((64 * np.exp(-np.exp(-noise))).astype(int))


def test_the_largest_of_log_probability_plus_gumbel_is_a_draw_from_the_law() -> None:
    probs = np.array([0.5, 0.25, 0.15, 0.08, 0.02])
    ids = np.array([4, 1, 3, 0, 2])
    law = Law(ids, np.log(probs[ids]))
    for stream in ("target", "draft"):
        drawn = np.array([law.draw(11, stream, position) for position in range(20000)])
        assert chi_square(drawn, probs) < QUANTILE[4]


def test_draws_at_neighbouring_positions_are_independent() -> None:
    law = Law(np.arange(8), np.full(8, -math.log(8)))
    drawn = np.array([law.draw(12, "target", position) for position in range(20001)])
    expect_even(drawn[:-1] * 8 + drawn[1:])


def test_equal_arguments_draw_equal_tokens() -> None:
    law = Law(np.arange(1000), np.full(1000, -math.log(1000)))
    first, again = ([law.draw(seed, "target", i) for seed in (1, 2) for i in range(9)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 15
