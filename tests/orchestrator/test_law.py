"""Claims about laws: sums, look-ups, draws, and what is left of p where q was refused."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from orchestrator.law import Law, excess, log_softmax, residual

N = 9
# weights of few digits, so that p and q are often equal somewhere
weights = arrays(np.float64, N, elements=st.integers(0, 4).map(float)).filter(lambda w: w.sum() > 0)


def law_of(w: np.ndarray, order: np.ndarray | None = None) -> Law:
    ids = np.arange(N) if order is None else order
    return Law.of(ids, w[ids])


P = Law.of(np.array([5, 2, 7]), np.array([3.0, 1.0, 4.0]))


def test_a_law_names_only_what_is_possible() -> None:
    law = Law.of(np.array([4, 8, 6]), np.array([1.0, 0.0, 3.0]))
    assert [*law.ids] == [4, 6]
    np.testing.assert_allclose(np.exp(law.logp), [0.25, 0.75])


def test_a_point_is_certain() -> None:
    law = Law.point(17)
    assert law.prob(17) == 1 and law.prob(16) == 0
    assert {law.draw(seed, "target", 0) for seed in range(20)} == {17}


def test_probabilities_can_be_asked_in_any_order_and_of_strangers() -> None:
    asked = np.array([7, 9, 2, 2, 0, 5, -1, 10**9])
    np.testing.assert_allclose(P.probs_of(asked), [0.5, 0, 0.125, 0.125, 0, 0.375, 0, 0])
    assert [P.prob(int(token)) for token in asked] == pytest.approx([*P.probs_of(asked)])
    assert len(P.probs_of(np.array([], np.int64))) == 0


def test_a_dense_law_is_zero_outside_its_ids() -> None:
    np.testing.assert_allclose(P.dense(9), [0, 0, 0.125, 0, 0, 0.375, 0, 0.5, 0])


@given(w=weights, order=st.permutations(range(N)))
def test_probabilities_do_not_depend_on_the_order_of_the_ids(w: np.ndarray, order: list[int]) -> None:
    law = law_of(w, np.array(order))
    np.testing.assert_allclose(law.dense(N), w / w.sum())
    np.testing.assert_allclose(law.probs_of(np.arange(N)), w / w.sum())


@given(w=weights, order=st.permutations(range(N)), seed=st.integers(0, 2**64 - 1))
def test_a_draw_is_possible_and_does_not_depend_on_the_order(
    w: np.ndarray, order: list[int], seed: int
) -> None:
    token = law_of(w).draw(seed, "target", 3)
    assert w[token] > 0
    assert law_of(w, np.array(order)).draw(seed, "target", 3) == token


@given(p=weights, q=weights, scale=st.sampled_from([1.0, 0.5, 0.125]))
def test_the_residual_is_what_p_has_more_than_q(p: np.ndarray, q: np.ndarray, scale: float) -> None:
    left = np.maximum(scale * p / p.sum() - q / q.sum(), 0)
    np.testing.assert_allclose(excess(law_of(p), law_of(q), scale), left[p > 0], atol=1e-12)
    if left.sum() > 1e-9:
        expected = left / left.sum()
        np.testing.assert_allclose(residual(law_of(p), law_of(q), scale).dense(N), expected, atol=1e-9)


@given(p=weights, q=weights)
def test_accepting_from_q_and_drawing_the_rest_from_the_residual_is_p(p: np.ndarray, q: np.ndarray) -> None:
    p_law, q_law = law_of(p), law_of(q)
    accepted = np.minimum(p_law.dense(N), q_law.dense(N))
    mixed = accepted + (1 - accepted.sum()) * residual(p_law, q_law).dense(N)
    np.testing.assert_allclose(mixed, p_law.dense(N), atol=1e-9)


def test_where_p_and_q_agree_the_residual_is_p() -> None:
    assert residual(P, P) is P
    assert residual(P, P, 0.5) is P


def test_the_residual_of_laws_apart_is_p() -> None:
    np.testing.assert_allclose(residual(P, Law.point(1)).dense(9), P.dense(9))


def test_the_residual_of_a_point_never_repeats_it() -> None:
    left = residual(P, Law.point(7))
    assert sorted(left.ids) == [2, 5]
    assert left.prob(5) == pytest.approx(0.75)


@given(arrays(np.float64, N, elements=st.floats(-1e4, 1e4)))
def test_log_softmax_is_normalised_and_keeps_differences(values: np.ndarray) -> None:
    logp = log_softmax(values)
    assert math.isclose(np.exp(logp).sum(), 1, rel_tol=1e-9)
    np.testing.assert_allclose(logp - logp[0], values - values[0], atol=1e-9)
