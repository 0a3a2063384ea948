"""Claims about what a curve is worth."""

import pytest

from orchestrator.tune.speed import Best, best_draft, by_rows, cheap_rows, expected_tokens


def test_a_round_emits_the_sum_of_the_powers_of_the_acceptance():
    assert expected_tokens(0.5, 3) == 1 + 0.5 + 0.25 + 0.125
    assert expected_tokens(0.0, 7) == 1
    assert expected_tokens(1.0, 7) == 8


def test_the_best_draft_weighs_tokens_against_milliseconds():
    # tokens per ms at 0.5: 1/10, 1.5/12, 1.75/13, 1.875/20
    assert best_draft([0, 10, 12, 13, 20], 0.5) == Best(0.5, 2, pytest.approx(1750 / 13))
    assert best_draft([0, 10, 12, 13, 20], 1.0) == Best(1.0, 2, pytest.approx(3000 / 13))


def test_nothing_is_drafted_where_every_row_costs_as_much_as_one():
    assert best_draft([0, 10, 20, 30], 0.9) == Best(0.9, 0, 100)


def test_rows_between_the_measured_ones_lie_on_a_line():
    assert by_rows((1, 2, 4), (10, 12, 20)) == [0, 10, 12, 16, 20]


def test_cheap_rows_are_new_lows_or_free():
    # ms per row: 10, 10.5, 9, 6.8, 8.2, 7, 6
    assert cheap_rows({1: 10, 2: 21, 3: 27, 4: 27.2, 5: 41, 6: 42, 8: 48}) == [3, 4, 6, 8]
    assert cheap_rows({1: 10, 2: 21, 3: 33}) == []
    assert cheap_rows({1: 10, 2: 25, 3: 25.75}) == [3]
    assert cheap_rows({1: 10, 3: 30.9}) == []  # its neighbour was not measured
