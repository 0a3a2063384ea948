"""Claims about the pictures, made on the figures before they are saved."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bench.report.plots import (
    acceptance_figure,
    cost_figure,
    draft_groups,
    draft_length_figure,
    figures,
    plot,
    speedup_figure,
    tau_figure,
)
from orchestrator.errors import BenchError
from tests.orchestrator.bench.report.documents import configuration, curve, document, peer, score, swept

SWEEP = [swept(1, 1.1), swept(7, 1.3), swept(3, 1.2)]


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn(figure: Any) -> Any:
    """The only axes of a figure, once it has been laid out."""
    figure.canvas.draw()
    (axes,) = figure.axes
    return axes


def test_there_is_a_bar_for_each_suite_and_overall_of_each_entrant() -> None:
    axes = drawn(speedup_figure(document(peers=[peer("server")])))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["code", "chat", "overall"]
    assert [round(bar.get_height(), 6) for bar in axes.patches] == [1.6, 1.2, 1.4, 1.5, 1.5, 1.5]
    assert labels(axes) == ["lookup", "server"]
    for tick, (left, right) in enumerate(zip(axes.patches[:3], axes.patches[3:], strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(tick) == right.get_x()


def test_whiskers_are_the_interval() -> None:
    lone = configuration(suites={"code": score(1.5, (1.2, 1.9))}, overall=score(1.5, (1.2, 1.9)))
    axes = drawn(speedup_figure(document([lone])))
    (whiskers,) = [one for one in axes.collections if hasattr(one, "get_segments")]
    for segment in whiskers.get_segments():
        assert [round(y, 6) for _, y in segment] == [1.2, 1.9]


def test_a_line_marks_plain_speed() -> None:
    axes = drawn(speedup_figure(document()))
    assert any(set(line.get_ydata()) == {1} for line in axes.lines)


def test_an_unknown_interval_draws_a_bar_without_whiskers() -> None:
    lone = configuration(suites={}, overall=score(1.5, speedup_ci=None))
    axes = drawn(speedup_figure(document([lone])))
    (whiskers,) = [one for one in axes.collections if hasattr(one, "get_segments")]
    assert {y for segment in whiskers.get_segments() for _, y in segment} == {1.5}


def test_the_histogram_shows_shares_of_rounds_and_the_gap_in_between() -> None:
    axes = drawn(tau_figure(document(peers=[peer()])))
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([60, 25, 0, 15])
    assert axes.get_ylabel() == "rounds (%)"


def test_the_cost_curve_stands_beside_rows_times_the_cost_of_one() -> None:
    axes = drawn(cost_figure(document(curves=[curve()])))
    measured, one_by_one = axes.lines
    assert [*measured.get_ydata()] == [12.0, 13.5, 18.0, 30.0]
    assert [*one_by_one.get_ydata()] == [12.0, 24.0, 48.0, 96.0]
    assert len(axes.collections) == 1  # the band of the quartiles
    assert "ms" in axes.get_ylabel()


def test_speed_by_draft_length_has_a_line_for_each_suite_and_overall() -> None:
    axes = drawn(draft_length_figure(document(SWEEP)))
    assert labels(axes) == ["code", "chat", "overall"]
    overall = axes.lines[2]
    assert [*overall.get_xdata()] == [1, 3, 7]
    assert [*overall.get_ydata()] == [1.1, 1.2, 1.3]


def test_without_different_draft_lengths_there_is_no_such_figure() -> None:
    alike = [configuration("a"), configuration("b"), configuration("c", settings={"method": "model"})]
    assert draft_length_figure(document(alike)) is None


def test_methods_with_different_draft_lengths_get_axes_each() -> None:
    model = [configuration(settings={"method": "model", "max_draft": n}) for n in (2, 4)]
    figure = draft_length_figure(document([*SWEEP, *model]))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["method=lookup", "method=model"]
    groups = draft_groups([*SWEEP, *model])
    assert [len(members) for members in groups.values()] == [3, 2]


def test_acceptance_is_drawn_by_position_from_1() -> None:
    axes = drawn(acceptance_figure(document(peers=[peer()])))
    (line,) = axes.lines
    assert [*line.get_xdata()] == [1, 2, 3]
    assert [*line.get_ydata()] == pytest.approx([80, 60, 50])


def test_entrants_differ_in_more_than_colour_once_the_palette_is_used_up() -> None:
    many = [configuration(f"c{index}", suites={}) for index in range(9)]
    axes = drawn(speedup_figure(document(many)))
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in axes.patches}
    assert len(looks) == 9


def test_doubtful_speeds_say_so_in_the_picture() -> None:
    figure = speedup_figure(document([configuration(invalid_text="synthetic")]))
    assert figure is not None and "WARNING" in figure.get_suptitle()


def test_a_document_without_data_for_a_figure_has_no_such_figure() -> None:
    silent = document([peer()], curves=[])
    assert list(figures(silent)) == ["speedup"]


def test_scores_without_figures_leave_gaps() -> None:
    nothing = dict.fromkeys(score()) | {"acceptance_at": [], "histogram": {}}
    axes = drawn(speedup_figure(document([configuration(suites={"code": nothing}, overall=score(1.4))])))
    assert [math.isnan(bar.get_height()) for bar in axes.patches] == [True, False]


def test_every_figure_becomes_a_png_file(tmp_path: Path) -> None:
    files = plot(document(SWEEP), tmp_path / "new" / "plots")
    names = ["speedup.png", "tau.png", "cost.png", "draft_length.png", "acceptance.png"]
    assert [file.name for file in files] == names
    for file in files:
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_plotting_leaves_pyplot_alone(tmp_path: Path) -> None:
    plot(document(), tmp_path)
    assert "matplotlib.pyplot" not in sys.modules


def test_a_folder_that_is_a_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    with pytest.raises(BenchError, match="plots/speedup.png: .*name another folder"):
        plot(document(), tmp_path / "plots")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BenchError, match=r"pip install 'pilotfish\[bench\]'"):
        speedup_figure(document())
