"""Claims about which settings are recommended."""

from adapters.settings import ContextSettings
from orchestrator.tune.grid import Timings
from orchestrator.tune.recommend import recommend


def timings(single, several, **settings):
    """A decode of one row takes `single` ms, one of four `several`; more rows are not worth it."""
    return Timings(ContextSettings(**settings), (1, 4), {64: (float(single), float(several))})


def test_the_best_for_speculation_decides_and_the_use_is_said():
    used = timings(10, 30, n_threads=2)
    on, off = timings(10, 30, n_threads=2, flash_attn=True), timings(11, 15, n_threads=2, flash_attn=False)
    found = recommend([used, on, off], [0.8])
    assert found.speculative is off and found.plain is used
    assert found.change == {"n_threads": 2, "flash_attn": False}


def test_one_row_may_want_fewer_threads_than_several():
    used = timings(12, 14, n_threads=4)
    few = timings(10, 30, n_threads=2)
    found = recommend([used, few], [0.8])
    assert (found.plain, found.speculative) == (few, used)
    assert found.change == {"n_threads": 2, "n_threads_batch": 4}


def test_threads_are_not_taken_from_a_setting_with_other_attention():
    used = timings(12, 14, n_threads=4, flash_attn=False)
    found = recommend([used, timings(10, 30, n_threads=2, flash_attn=True)], [0.8])
    assert found.plain.settings.n_threads == 2 and found.change == {}


def test_what_is_hardly_faster_needs_no_change():
    used = timings(10, 20, n_threads=2)
    found = recommend([used, timings(9.9, 19.8, n_threads=2, flash_attn=False)], [0.6, 0.8])
    assert found.plain is found.speculative is used and found.change == {}
