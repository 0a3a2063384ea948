"""Claims about loops, cost curves and intervals."""

import numpy as np
import pytest

from orchestrator.bench.costs import ROWS, CostMeter, Curve, Sample
from orchestrator.bench.interval import Pair, speedup_interval
from orchestrator.bench.loops import ends_in_a_loop
from tests.fakes import random_law
from tests.orchestrator.bench.memory_engine import N_VOCAB, Clock, TimedTarget, row_ms


@pytest.mark.parametrize("period", [1, 3, 20, 64])
def test_three_rounds_and_24_tokens_are_a_loop(period):
    rounds = max(3, -(-24 // period))
    stretch = list(range(100, 100 + period))
    assert ends_in_a_loop([1, 2, 3, *stretch * rounds])
    assert ends_in_a_loop([1, 2, 3, *stretch * rounds, 0])  # an end token
    assert not ends_in_a_loop([1, 2, 3, *stretch * rounds, 0, 5])


def test_two_rounds_are_no_loop_nor_is_a_short_list():
    assert not ends_in_a_loop(list(range(30)) * 2)
    assert not ends_in_a_loop([1, 2] * 11)
    assert not ends_in_a_loop([])


def test_a_meter_measures_every_row_count_and_leaves_the_target_as_it_was():
    clock = Clock()
    target = TimedTarget(clock, random_law(0, N_VOCAB))
    target.prefill([1, 2, 3])
    meter = CostMeter(clock)
    meter.measure(target, "a")
    curve = meter.curve()
    assert curve.rows == ROWS
    assert curve.ms == pytest.approx([row_ms(n) for n in ROWS])
    assert (target.memory, target.root, curve.n_past) == ([1, 2], 3, 2)


def test_a_meter_measures_what_there_is_room_for():
    clock = Clock()
    target = TimedTarget(clock, random_law(0, N_VOCAB), n_ctx=6)
    target.prefill([1, 2, 3])
    meter = CostMeter(clock)
    meter.measure(target, "a")
    assert meter.curve("a").rows == (1, 2, 3)
    full = TimedTarget(clock, random_law(0, N_VOCAB), n_ctx=3)
    full.prefill([1, 2, 3])
    meter.measure(full, "b")
    assert meter.curve("b") is None


def test_a_curve_is_medians_and_is_read_between_and_beyond_its_points():
    samples = [Sample({1: 10.0, 4: ms}, 5) for ms in (19.0, 16.0, 40.0)]
    curve = Curve.of(samples)
    assert curve.ms == (10.0, 19.0)
    assert (curve.at(1), curve.at(3), curve.at(4), curve.at(6)) == pytest.approx((10.0, 16.0, 19.0, 25.0))
    assert curve.ceiling_ms(100) == pytest.approx(100 * 19 / 4)
    assert curve.oracle_ms({1: 2, 4: 3}) == pytest.approx(2 * 10 + 3 * 19)


def test_an_interval_is_a_point_where_every_prompt_gives_the_same_ratio():
    pairs = [Pair(n, (n / 10,), n, (n / 25,)) for n in (5, 50, 500)]
    assert speedup_interval(pairs) == pytest.approx((2.5, 2.5))
    assert speedup_interval(pairs[:1]) is None


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(7), 0
    truth = 1.2 / np.exp(0.2**2 / 2)  # one over the mean of 1 / ratio
    for _ in range(100):
        ratios = 1.2 * rng.lognormal(0.0, 0.2, 40)
        low, high = speedup_interval([Pair(100, (1.0,), 100, (1 / r,)) for r in ratios])
        covered += low <= truth <= high
    assert covered >= 85


def test_repeats_widen_an_interval():
    steady = [Pair(100, (1.0, 1.0), 100, (0.8, 0.8))] * 10
    shaky = [Pair(100, (1.0, 1.0), 100, (0.7, 0.9))] * 10
    assert np.ptp(speedup_interval(steady)) == pytest.approx(0)
    assert np.ptp(speedup_interval(shaky)) > 0.05
