"""Claims about cost curves: what they say between their points, and what a round teaches them."""

from dataclasses import replace

import pytest

from orchestrator.cost.curve import CostCurve
from orchestrator.cost.measure import LONG, SHORT, measure_curve
from orchestrator.cost.timing import typical
from tests.fakes import random_law
from tests.orchestrator.bench.memory_engine import N_VOCAB, Clock, TimedTarget


def curve():
    return CostCurve((1, 2, 4, 8), [10.0, 15.0, 20.0, 28.0], slope=0.01, row_slope=0.002)


def test_points_lines_between_them_and_the_last_stretch_beyond():
    assert [curve().ms(n, 0) for n in (1, 2, 3, 4, 6, 8, 10)] == [10, 15, 17.5, 20, 24, 28, 32]


def test_context_costs_each_row_its_attention():
    assert curve().ms(1, 1000) == pytest.approx(20.0)
    assert curve().ms(4, 1000) == pytest.approx(20 + 10 + 6)


def test_a_table_is_the_curve_at_the_middle_of_its_cell():
    table = curve().table(8, 70)
    assert table[1:9] == pytest.approx([curve().ms(n, 96) for n in range(1, 9)])
    assert len(curve().table(40, 0)) > 40


def test_the_most_useful_rows_are_the_cheapest_each():
    stairs = CostCurve((1, 2, 4, 8, 16, 32), [10.0, 15.0, 16.0, 30.0, 40.0, 90.0])
    assert stairs.most_useful(33, 0) == 16 and stairs.most_useful(10, 0) == 10
    assert stairs.most_useful(4, 0) == 4
    stairs.row_slope = 0.05
    assert stairs.most_useful(33, 1000) < 16


def test_rounds_pull_a_point_towards_what_they_took():
    learned = curve()
    for _ in range(600):
        learned.observe(1, 0, 10.0)
        learned.observe(4, 0, 24.0)
    assert learned.ms(4, 0) / learned.ms(1, 0) == pytest.approx(2.4, rel=0.03)
    assert learned.table(4, 0)[4] == pytest.approx(learned.ms(4, 32))


def test_rounds_at_long_contexts_teach_what_attention_costs_each_row():
    truth, learned = curve(), curve()
    learned.row_slope = 0.0
    for n_past in [1, 500, 1000, 2000] * 100:
        for rows in (1, 1, 4, 8):
            learned.observe(rows, n_past, truth.ms(rows, n_past))
    assert learned.row_slope == pytest.approx(truth.row_slope, rel=0.15)
    assert learned.ms(4, 1500) / learned.ms(1, 1500) == pytest.approx(
        truth.ms(4, 1500) / truth.ms(1, 1500), rel=0.05
    )


def test_a_slow_minute_of_the_machine_changes_no_ratio():
    slowed = curve()
    for _ in range(200):
        for rows in (1, 2, 4, 8):
            slowed.observe(rows, 0, 1.4 * curve().ms(rows, 0))
    assert slowed.drift == pytest.approx(1.4, rel=0.15)
    assert slowed.ms(4, 0) / slowed.ms(1, 0) == pytest.approx(2.0, rel=0.05)


def test_one_disturbed_round_teaches_nothing_about_its_rows():
    learned = curve()
    learned.observe(4, 0, 500.0)
    assert learned.ms(4, 0) == 20.0


def test_a_curve_survives_its_file_form_and_nothing_else_does():
    assert CostCurve.from_dict(curve().as_dict()) == curve()
    for broken in ({**curve().as_dict(), "rows": [2, 4, 8, 16]}, {**curve().as_dict(), "base": [1.0]}):
        with pytest.raises(ValueError):
            CostCurve.from_dict(broken)


class Attention(TimedTarget):
    """Rows cost more the more tokens are in the cache."""

    def score(self, draft):
        rows = 1 + len(draft)
        self._clock.now += self.n_past * (0.004 + 0.001 * (rows - 1)) / 1e3
        return super().score(draft)


def test_measuring_finds_base_and_slopes_exactly_on_a_target_without_noise():
    clock = Clock()
    target = Attention(clock, random_law(0, N_VOCAB))
    found = measure_curve(target, clock=clock)
    assert [found.ms(n, 0) for n in found.rows] == pytest.approx([8.0 + 2 * n for n in found.rows])
    assert (found.slope, found.row_slope) == pytest.approx((0.004, 0.001))
    assert SHORT < LONG and found.noise == pytest.approx(0.0)


class Building(Attention):
    """And a change of rows costs 1.5 ms."""

    rows = 0

    def score(self, draft):
        rows = 1 + len(draft)
        self._clock.now += 1.5e-3 * (rows != self.rows)
        self.rows = rows
        return super().score(draft)


def test_measuring_finds_what_a_change_of_rows_costs_and_leaves_it_out_of_the_rows():
    clock = Clock()
    found = measure_curve(Building(clock, random_law(0, N_VOCAB)), clock=clock)
    assert found.switch == pytest.approx(1.5)
    assert [found.ms(n, 0) for n in found.rows] == pytest.approx([8.0 + 2 * n for n in found.rows])
    assert (found.slope, found.row_slope) == pytest.approx((0.004, 0.001))


def test_a_change_of_rows_teaches_no_row_to_be_slower():
    learned = replace(curve(), switch=2.0)
    for _ in range(50):
        learned.observe(4, 0, 22.0, switched=True)
        learned.observe(1, 0, 12.0, switched=True)
    assert learned.ms(4, 0) == pytest.approx(20.0) and learned.drift == pytest.approx(1.0)


def test_a_slow_target_takes_the_time_to_show_its_slopes():
    clock = Clock()
    target = Attention(clock, random_law(0, N_VOCAB))
    assert measure_curve(target, seconds=1e-3, clock=clock).row_slope == pytest.approx(0.001)


def test_a_small_context_is_measured_as_far_as_it_goes():
    clock = Clock()
    found = measure_curve(TimedTarget(clock, random_law(0, N_VOCAB), n_ctx=16), clock=clock)
    assert found.rows == (1, 2, 3, 4, 5, 6, 7, 8)
    assert (found.slope, found.row_slope) == (0.0, 0.0)


def test_typical_is_the_median_of_the_faster_half():
    assert typical([5.0]) == 5.0
    assert typical([9.0, 1.0, 2.0, 50.0, 3.0]) == 2.0
