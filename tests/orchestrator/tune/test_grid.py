"""Claims about measuring a curve under several settings."""

import pytest

from adapters.settings import ContextSettings
from orchestrator.cost.curve import ROWS
from orchestrator.tune.grid import Timings, measure_grid, measured_rows, settings_grid
from tests.fakes import MemoryTarget, one_hot


class Clock:
    """A decode takes `ms(rows, n_past)` of this time; the decodes are kept."""

    def __init__(self, ms):
        self.now, self.ms, self.decodes = 0.0, ms, []

    def __call__(self):
        return self.now


class TimedTarget(MemoryTarget):
    def __init__(self, clock, name, **options):
        super().__init__(lambda tokens: one_hot(0, 10), 10, **options)
        self._clock, self._name = clock, name

    def score(self, draft):
        rows = 1 + len(draft)
        self._clock.now += 1e-3 * self._clock.ms(self._name, rows, self.n_past)
        self._clock.decodes.append((self._name, rows, self.n_past))
        return super().score(draft)


def test_every_setting_gets_its_own_curve_and_all_take_turns():
    clock = Clock(lambda name, rows, n_past: (1 if name == "a" else 2) * (10 + rows + n_past))
    targets = [TimedTarget(clock, "a", max_rows=2), TimedTarget(clock, "b", max_rows=2)]
    steps = []
    first, second = measure_grid(
        targets, (8, 4), 2, clock=clock, progress=lambda done, total: steps.append((done, total))
    )
    assert first == ({4: pytest.approx((15, 16)), 8: pytest.approx((19, 20))}, 0.0)
    assert second == ({4: pytest.approx((30, 32)), 8: pytest.approx((38, 40))}, 0.0)
    one_pass = [("a", 1), ("a", 1), ("a", 2), ("a", 2), ("b", 1), ("b", 1), ("b", 2), ("b", 2)]
    assert clock.decodes == [(*decode, n_past) for n_past in (4, 8) for decode in 2 * one_pass]
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_disturbed_pass_does_not_count():
    slow = iter([1, 1, 9, 9, 1, 1])
    clock = Clock(lambda *_: 10 * next(slow))
    ((found, _),) = measure_grid([TimedTarget(clock, "a", max_rows=1)], (4,), 3, clock=clock)
    assert found == {4: pytest.approx((10,))}


def test_what_a_change_of_rows_costs_is_no_part_of_the_rows():
    before = [0]

    def ms(_name, rows, _n_past):
        changed, before[0] = rows != before[0], rows
        return 10 + rows + 3 * changed

    clock = Clock(ms)
    ((found, switch),) = measure_grid([TimedTarget(clock, "a", max_rows=4)], (4, 8), 3, clock=clock)
    assert found[4] == pytest.approx((11, 12, 13, 14)) and switch == pytest.approx(3)
    timings = Timings(ContextSettings(), (1, 2, 3, 4), found, switch)
    assert timings.curve().switch == pytest.approx(3)


def test_rows_are_those_for_which_there_is_room():
    assert measured_rows(MemoryTarget(lambda _: one_hot(0, 2), 2), 64) == ROWS
    assert measured_rows(MemoryTarget(lambda _: one_hot(0, 2), 2, n_ctx=70), 64) == (1, 2, 3, 4, 5)
    assert measured_rows(MemoryTarget(lambda _: one_hot(0, 2), 2, max_rows=3), 64) == (1, 2, 3)


def test_the_grid_has_the_settings_in_use_first_and_none_twice():
    used = ContextSettings(n_threads=2, flash_attn=True)
    grid = settings_grid(used, (1, 2))
    assert grid[0] is used
    found = [(*settings.threads, settings.flash_attn) for settings in grid]
    assert found == [(2, 2, True), (1, 1, True), (1, 1, False), (2, 2, False)]
    undecided = settings_grid(ContextSettings(n_threads=1), (1,))
    assert [settings.flash_attn for settings in undecided] == [None, True, False]


def test_a_quantized_v_is_not_tried_without_flash_attention():
    grid = settings_grid(ContextSettings(n_threads=1, type_v="q8_0"), (1,))
    assert [settings.flash_attn for settings in grid] == [None, True]


def test_speeds_are_means_of_time_over_contexts():
    timings = Timings(ContextSettings(), (1, 2), {64: (10.0, 12.0), 1024: (20.0, 60.0)})
    assert timings.plain_ms() == 15
    # at acceptance 0.5 two rows emit 1.5 tokens: 8 ms each at 64, and nothing is drafted at 1024
    assert timings.best(64, 0.5).n_draft == 1 and timings.best(1024, 0.5).n_draft == 0
    assert timings.speculative_ms([0.5]) == pytest.approx((8 + 20) / 2)


def test_the_planners_curve_gives_the_measured_times_back():
    def ms(rows, n_past):
        return 5 + rows + n_past * (0.01 + 0.002 * (rows - 1))

    rows = (1, 2, 4, 8)
    measured = {n_past: tuple(ms(n, n_past) for n in rows) for n_past in (64, 512, 1024)}
    curve = Timings(ContextSettings(), rows, measured).curve()
    assert (curve.slope, curve.row_slope) == (pytest.approx(0.01), pytest.approx(0.002))
    assert [curve.ms(n, 700) for n in rows] == pytest.approx([ms(n, 700) for n in rows])


def test_a_context_that_measures_faster_when_longer_costs_nothing():
    curve = Timings(ContextSettings(), (1, 2), {64: (10.0, 12.0), 128: (9.0, 11.0)}).curve()
    assert (curve.slope, curve.row_slope, curve.base) == (0, 0, [10, 12])
