"""Claims about reports: what is said first, what is marked, what is never hidden."""

import pytest

from orchestrator.bench.report.cells import factor, factor_with_interval, rounded, verdict
from orchestrator.bench.report.facts import histogram_line
from orchestrator.bench.report.score_table import curve_rows, overview_rows, swept_key
from orchestrator.bench.report.tables import aligned, summary
from tests.orchestrator.bench.report.documents import (
    check,
    configuration,
    curve,
    divergence,
    document,
    peer,
    provenance,
    score,
    swept,
)


def row(text: str, suite: str) -> str:
    """The first line of a table that begins with the suite's name."""
    return next(line for line in text.splitlines() if line.startswith(f"{suite} "))


@pytest.mark.parametrize(
    ("ci", "expected"),
    [
        ((0.8, 0.99), "loss"),
        ((0.9, 1.0), "no difference"),
        ((1.0, 1.2), "no difference"),
        ((1.01, 1.2), "win"),
    ],
)
def test_only_an_interval_on_one_side_of_1_is_a_verdict(ci: tuple[float, float], expected: str) -> None:
    assert verdict(score(1.0, ci)) == expected


def test_an_unknown_interval_is_no_verdict() -> None:
    assert verdict(score(1.0, speedup_ci=None)) == "-"
    assert verdict(score(1.0, speedup_ci=[None, None])) == "-"


def test_a_losing_suite_is_marked_in_its_row_and_named_again() -> None:
    losing = configuration(suites={"code": score(1.6), "chat": score(0.8, (0.75, 0.86))})
    text = summary(document([losing]))
    assert " loss " in row(text, "chat") and " win " in row(text, "code")
    assert "LOSS: lookup, chat: x0.80 (0.75 to 0.86) of plain decoding" in text
    assert text.count("LOSS") == 1


def test_a_report_without_losses_does_not_speak_of_them() -> None:
    assert "loss" not in summary(document()).lower()


def test_a_peer_that_is_faster_beyond_the_noise_is_a_loss() -> None:
    fast = {"code": score(2.0), "chat": score(1.25, (1.1, 1.4))}
    text = summary(document(peers=[peer("server", suites=fast, overall=score(1.4))]))
    assert "LOSS: lookup, code: x1.60 (1.55 to 1.65), behind server with x2.00 (1.95 to 2.05)" in text
    assert text.count("LOSS") == 1


def test_speedups_over_different_baselines_are_not_held_against_each_other() -> None:
    text = summary(document(peers=[peer(overall=score(9.0), baseline="plain on 4 threads")]))
    assert "LOSS" not in text


def test_invalid_text_is_said_before_any_figure() -> None:
    fake = configuration(invalid_text="accepts 80 % of all drafts unseen")
    first, *_ = summary(document([configuration("honest"), fake])).splitlines()
    assert first.startswith("WARNING") and "lookup" in first and "accepts 80 % of all drafts unseen" in first
    assert "honest" not in first
    assert "INVALID TEXT: lookup" in summary(document([configuration("honest"), fake]))
    assert [one[0] for one in overview_rows(document([configuration("honest"), fake]))][1:] == [
        "honest",
        "INVALID TEXT: lookup",
    ]


def test_a_failed_baseline_check_is_said_first() -> None:
    failed = check(0.8, ok=False, note="other threads")
    first, *others = summary(document(baseline_check=[check(), failed])).splitlines()
    assert first.startswith("WARNING") and "0.800" in first and "llama-bench" in first
    assert "80.0 against 100 tok/s" in first and "other threads" in first
    assert not [line for line in others if line.startswith("WARNING")]


def test_without_warnings_the_origin_comes_first() -> None:
    first, *_ = summary(document()).splitlines()
    assert "smollm2 (smollm2.gguf, Q4_0, 91.7 MB), Example CPU; threads 2 of 2; 2026-11-23" in first


def test_a_model_without_a_name_goes_by_its_file() -> None:
    nameless = provenance(model={**provenance()["model"], "name": None})
    assert summary(document(provenance=nameless)).startswith("smollm2.gguf (Q4_0, 91.7 MB)")


def test_prompts_that_were_left_out_are_named_before_the_figures() -> None:
    gap = {"baseline": "plain", "id": "rag/07", "reason": "does not fit the context"}
    text = summary(document(skipped=[gap]))
    assert text.index("skipped: rag/07 (plain): does not fit the context") < text.index("== lookup")


def test_a_suite_without_a_single_timed_answer_is_dashes() -> None:
    nothing = dict.fromkeys(score()) | {"acceptance_at": [], "histogram": {}, "n_prompts": 0}
    text = summary(document([configuration(suites={"code": nothing}, overall=nothing)]))
    assert row(text, "code").split() == ["code", *"- - - - - - - -".split(), "0"]


def test_a_withdrawn_configuration_says_so_at_once() -> None:
    lines = summary(document([configuration(note="out of the run: crashed")])).splitlines()
    assert [line for line in lines if line.startswith("note")] == ["note            out of the run: crashed"]
    assert lines[lines.index("note            out of the run: crashed") + 1].startswith("same text")


def test_divergences_show_the_largest_gap_and_stop_at_five() -> None:
    parting = [divergence(number, gap=number / 100) for number in range(1, 8)]
    text = summary(document([configuration(identical={"n": 1, "of": 8}, divergences=parting)]))
    assert "1 of 8; where they part, the two best logits are at most 0.07 apart" in text
    assert "chat/07 turn 0, token 17: plain 5, here 9, gap 0.07" in text
    assert "and 2 more" in text and "chat/02" not in text


def test_a_divergence_of_unknown_gap_is_shown_before_all_others() -> None:
    parting = [divergence(number, gap=number / 100) for number in range(1, 7)] + [divergence(9, gap=None)]
    text = summary(document([configuration(divergences=parting)]))
    assert "chat/09 turn 0, token 17: plain 5, here 9, gap -" in text
    assert text.index("chat/09") < text.index("chat/06")


def test_every_suite_and_the_overall_row_carry_all_figures() -> None:
    text = summary(document([configuration(suites={"code": score(1.6)})]))
    assert row(text, "code").split() == (
        "code 80.0 128 (127 to 129) x1.60 (1.55 to 1.65) win 2.25 63% 72% 0.210 4".split()
    )
    assert row(text, "overall").split()[1] == "80.0"


def test_a_peer_that_tells_nothing_has_dashes_not_zeros() -> None:
    text = summary(document([configuration()], peers=[peer("server")]))
    table = text[text.index("== peer server") :]
    assert row(table, "overall").split()[-5:] == ["-", "-", "-", "0.210", "4"]
    assert "memory          -" in table


def test_time_rounds_positions_loops_and_memory_are_reported() -> None:
    loops = {"n": 2, "of": 8, "looping": score(3.0), "others": score(1.1)}
    text = summary(document([configuration(loops=loops)]))
    assert "draft 5%, verify 85%, sample 4%, rest 6%" in text
    assert "1 ############ 60%  2 ##### 25%  4 ### 15%" in text
    assert "1: 80%, 2: 60%, 3: 50%" in text
    assert (
        "2 of 8 requests end in one: x3.00 (2.95 to 3.05) there, x1.10 (1.05 to 1.15) in the others" in text
    )
    assert "130 MB once loaded, 141 MB at its peak" in text


def test_rare_rounds_are_seen_and_rounds_are_in_order_of_their_numbers() -> None:
    assert histogram_line({"10": 1, "2": 999}) == "2 #################### 100%  10 . 0%"
    assert histogram_line({}) == ""


def test_a_report_fits_an_ascii_stream() -> None:
    assert summary(document(peers=[peer()])).isascii()


def test_the_cost_curve_is_also_told_in_decodes_of_one_row() -> None:
    assert curve_rows(curve(rows=[1, 8], ms=[12.0, 30.0])) == [
        ("rows", "1", "8"),
        ("ms", "12.0", "30.0"),
        ("in decodes of 1 row", "1.00", "2.50"),
    ]
    assert "412 tokens in the cache" in summary(document())


def test_a_sweep_is_one_key_in_three_or_more_configurations() -> None:
    lengths = [swept(n) for n in (1, 3, 7)]
    assert swept_key(lengths) == "max_draft"
    assert swept_key(lengths[:2]) is None
    other = configuration(settings={"method": "model", "max_draft": 5})
    assert swept_key([*lengths, other]) is None


def test_a_setting_that_only_one_configuration_names_is_a_difference() -> None:
    settings = [{"method": "none"}, {"method": "none", "seed": 1}, {"method": "none", "seed": 2}]
    assert swept_key([configuration(settings=one) for one in settings]) == "seed"


def test_the_overview_of_a_sweep_has_a_row_for_each_value() -> None:
    rows = overview_rows(document([swept(1, 1.1), swept(3, 1.2), swept(7, 1.3)], peers=[peer("server")]))
    assert [one[0] for one in rows] == ["max_draft", "1", "3", "7", "server"]
    assert [one[3].split()[0] for one in rows[1:]] == ["x1.10", "x1.20", "x1.30", "x1.50"]


def test_one_configuration_alone_needs_no_overview() -> None:
    assert overview_rows(document()) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(80.123, "80.1"), (812.1, "812"), (1234.5, "1234"), (0.01234, "0.0123"), (0.0, "0"), (None, "-")],
)
def test_figures_have_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert rounded(value) == text


def test_speedups_near_1_get_the_digit_that_decides() -> None:
    assert [factor(value) for value in (0.996, 1.004, 1.5, None)] == ["x0.996", "x1.004", "x1.50", "-"]
    assert factor_with_interval(0.98, (0.96, 0.997)) == "x0.980 (0.960 to 0.997)"
    assert factor_with_interval(1.1, (1.05, 1.15)) == "x1.10 (1.05 to 1.15)"


def test_columns_are_aligned_to_the_right_but_the_first() -> None:
    assert aligned([("suite", "tau"), ("code editing", "2.2")]) == "suite         tau\ncode editing  2.2"
