"""Claims about which types are worth having."""

import pytest

from orchestrator.tune.census import Census
from orchestrator.tune.choice import Change, best_change, candidates, changes, replaced
from orchestrator.tune.kernels import Kernels
from orchestrator.tune.speculative_copy import head_changes
from orchestrator.tune.split import Split
from orchestrator.tune.study import better_types

# Q8_0: each row costs as much again; BF16: one row is dearer, more are free
KERNELS = Kernels((1, 2, 4), {"Q4_0": (1, 1.5, 2), "Q8_0": (2, 4, 8), "BF16": (4, 4, 4)})


def census(head="Q8_0", layers=None):
    layers = {"Q4_0": 3_000_000} if layers is None else layers
    return Census(head, 1_000_000, 64, True, layers, {}, "token_embd.weight", 2)


def test_a_matrix_costs_its_weights_times_their_kernel():
    assert KERNELS.matrix_ms({"Q4_0": 3_000_000, "BF16": 1_000_000}) == pytest.approx([0, 7, 8.5, 9.25, 10])


def test_a_type_that_was_not_measured_counts_as_the_closest_in_bits():
    assert [KERNELS.of(kind) for kind in ("Q8_0", "Q4_K", "F16", "F32", "Q6_K")] == [
        "Q8_0",
        "Q4_0",
        "BF16",
        "BF16",
        "Q8_0",
    ]


def test_a_replaced_part_costs_as_its_kernels_do_and_the_rest_stays():
    weights = {"Q8_0": 1_000_000}  # 2, 4, 6, 8 ms; as BF16 4, 4, 4, 4
    curve = replaced([0, 10, 14, 18, 22], [0, 2, 4, 6, 8], weights, "BF16", KERNELS)
    assert curve == pytest.approx([0, 12, 14, 16, 18])


def test_a_part_that_is_faster_than_its_kernels_alone_stays_above_nothing():
    weights = {"Q8_0": 10_000_000}  # 20 ms and more, where all of the part took 2
    curve = replaced([0, 10, 14], [0, 2, 4], weights, "Q4_0", KERNELS)
    assert curve == pytest.approx([0, 10 - 2 + 1, 14 - 4 + 1.5])


def test_changes_come_best_first_with_their_gain():
    ms, part = [0.0, 10, 14, 18, 22], [0.0, 2, 4, 6, 8]
    found = changes(ms, part, {"Q8_0": 1_000_000}, ["Q8_0", "Q4_0", "BF16"], KERNELS, acceptance=0.7)
    assert [change.new for change in found] == ["Q4_0", "BF16", "Q8_0"]
    assert found[-1].gain == 1
    now, then = max(1 / 10, 1.7 / 14, 2.19 / 18, 2.533 / 22), max(1.7 / 14, 2.19 / 16, 2.533 / 18)
    assert found[1].gain == pytest.approx(then / now)


def test_only_what_is_worth_it_is_proposed():
    assert best_change([Change("F16", 1.01), Change("BF16", 1.019)]) is None
    assert best_change([Change("F16", 1.03), Change("BF16", 1.2)]) == Change("BF16", 1.2)
    assert best_change([]) is None


def test_candidates_are_limited_in_bits():
    assert candidates(KERNELS, 8.5, 16) == ["Q8_0", "BF16"]


def test_a_copys_projection_never_gets_fewer_bits():
    assert [change.new for change in head_changes(census(), KERNELS)] == ["BF16", "Q8_0"]
    assert [change.new for change in head_changes(census(head="BF16"), KERNELS)] == ["BF16"]
    assert head_changes(census(head="F32"), KERNELS) == []


def test_better_types_are_told_for_projection_and_layers():
    split = Split((1, 2, 4), (4.0, 6.0, 8.0), (2.0, 4.0, 8.0))
    head, layers = better_types(census(layers={"Q8_0": 3_000_000}), split, KERNELS)
    assert [change.new for change in head] == ["BF16"] and head[0].gain > 1.02
    assert layers == ()  # Q4_0 would be faster, with half the bits
    alike = Kernels((1, 2, 4), {"Q4_0": (1, 1.5, 2), "Q4_1": (0.5, 0.5, 0.5)})
    _, layers = better_types(census(head="Q4_0"), split, alike)
    assert [change.new for change in layers] == ["Q4_1"]


def test_the_projections_part_in_the_rise_is_a_share():
    split = Split((1, 2, 4), (4.0, 6.0, 7.0), (2.0, 4.0, 3.0))
    assert split.total == (6, 10, 10)
    assert split.head_share(4) == 0.25
    assert Split((1, 4), (4.0, 3.0), (2.0, 2.0)).head_share(4) == 0
