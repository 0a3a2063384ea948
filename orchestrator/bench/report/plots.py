"""A bench document as pictures.

Knows matplotlib's objects and a document's figures; keeps no global state, so it may run in any thread.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from orchestrator.bench.report.cells import known_bounds
from orchestrator.bench.report.facts import entrants, name_of, shares, warnings
from orchestrator.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the palette of Okabe and Ito, yellow last because it is faint on white
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
HATCHES = ("", "//", "..", "xx")  # tell the colours of a second, third and fourth turn from the first
MARKERS = "osD^vPX*"
DPI = 150
GROUP = 0.8  # width of a group of bars; the rest is the gap to the next


def plot(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a PNG file for each figure that the document has data for; BenchError without matplotlib."""
    written = []
    for name, figure in figures(document).items():
        path = folder / f"{name}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=DPI)
        except OSError as error:
            raise BenchError(
                f"cannot write {path}: {error.strerror or error}; name another folder"
            ) from error
        written.append(path)
    return written


def figures(document: Mapping[str, Any]) -> "dict[str, Figure]":
    """Figures by file name, only those with something to show."""
    made: dict[str, Figure] = {}
    painters: dict[str, Callable[[Mapping[str, Any]], Figure | None]] = {
        "speedup": speedup_figure,
        "tau": tau_figure,
        "cost": cost_figure,
        "draft_length": draft_length_figure,
        "acceptance": acceptance_figure,
    }
    for name, paint in painters.items():
        if (figure := paint(document)) is not None:
            made[name] = figure
    return made


def speedup_figure(document: Mapping[str, Any]) -> "Figure | None":
    """Bars by suite, one colour for each configuration and peer, with their intervals and the line at 1."""
    shown = entrants(document)
    if not shown:
        return None
    figure, (axes,) = _figure(document, "Speed-up over plain decoding")
    labels = [*dict.fromkeys(suite for one in shown for suite in one["suites"]), "overall"]
    for index, one in enumerate(shown):
        scores = {**one["suites"], "overall": one["overall"]}
        heights = [_number(scores.get(label, {}).get("speedup")) for label in labels]
        whiskers = _whiskers([scores.get(label, {}) for label in labels])
        _bars(axes, index, len(shown), heights, label=name_of(one), yerr=whiskers, capsize=2)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_ylabel("speed-up (times plain tok/s), interval")
    _legend(axes)
    return figure


def tau_figure(document: Mapping[str, Any]) -> "Figure | None":
    """How often a round emitted how many tokens."""
    found = [(name_of(one), shares(one["overall"]["histogram"])) for one in entrants(document)]
    found = [(name, by_tokens) for name, by_tokens in found if by_tokens]
    if not found:
        return None
    figure, (axes,) = _figure(document, "Tokens emitted by a round (tau is their mean)")
    tokens = range(1, max(max(by_tokens) for _, by_tokens in found) + 1)
    for index, (name, by_tokens) in enumerate(found):
        heights = [100 * by_tokens.get(n, 0.0) for n in tokens]
        _bars(axes, index, len(found), heights, label=name)
    axes.set_xticks(range(len(tokens)), list(map(str, tokens)))
    axes.set_xlabel("tokens emitted")
    axes.set_ylabel("rounds (%)")
    _legend(axes)
    return figure


def cost_figure(document: Mapping[str, Any]) -> "Figure | None":
    """Milliseconds of one decode by its rows, between its quartiles, and what as many decodes of 1 cost."""
    curves = document["curves"]
    if not curves:
        return None
    figure, (axes,) = _figure(document, "Cost of one decode")
    for index, curve in enumerate(curves):
        rows, colour = curve["rows"], COLOURS[index % len(COLOURS)]
        label = f"{curve['baseline']}, {curve['n_past']} tokens in the cache"
        axes.fill_between(rows, curve["low"], curve["high"], color=colour, alpha=0.25, linewidth=0)
        axes.plot(rows, curve["ms"], color=colour, marker=MARKERS[index % len(MARKERS)], label=label)
        one_by_one = [n * curve["ms"][0] / rows[0] for n in rows]
        axes.plot(rows, one_by_one, color=colour, linestyle="--", label="rows x ms(1)")
    highest = max(value for curve in curves for value in curve["high"])
    axes.set_ylim(0, 1.3 * highest)  # the dashed line leaves the picture: it would flatten the curve
    axes.set_xlabel("rows of the decode")
    axes.set_ylabel("time (ms), median and quartiles")
    _legend(axes)
    return figure


def draft_length_figure(document: Mapping[str, Any]) -> "Figure | None":
    """Speed-up by max_draft, one line for each suite; None unless configurations differ in it."""
    groups = draft_groups(document["configurations"])
    if not groups:
        return None
    figure, columns = _figure(document, "Speed-up by length of the draft", n_columns=len(groups))
    for axes, (title, members) in zip(columns, groups.items(), strict=True):
        lengths = [one["settings"]["max_draft"] for one in members]
        suites = dict.fromkeys(suite for one in members for suite in one["suites"])
        for index, suite in enumerate(suites):
            speeds = [_number(one["suites"].get(suite, {}).get("speedup")) for one in members]
            axes.plot(lengths, speeds, label=suite, **_line(index))
        overall = [_number(one["overall"]["speedup"]) for one in members]
        axes.plot(lengths, overall, label="overall", color="black", linewidth=3)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_title(title, fontsize="small")
        axes.set_xticks(lengths)
        axes.set_xlabel("max_draft (tokens)")
        axes.set_ylabel("speed-up (times plain tok/s)")
        _legend(axes)
    return figure


def draft_groups(configurations: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Configurations alike in all but max_draft, by what they share; only groups with several lengths."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in configurations:
        if isinstance(one["settings"].get("max_draft"), int):
            rest = [f"{key}={value}" for key, value in one["settings"].items() if key != "max_draft"]
            groups.setdefault(" ".join(rest), []).append(one)
    for members in groups.values():
        members.sort(key=lambda one: one["settings"]["max_draft"])
    return {
        title: members
        for title, members in groups.items()
        if members[0]["settings"]["max_draft"] != members[-1]["settings"]["max_draft"]
    }


def acceptance_figure(document: Mapping[str, Any]) -> "Figure | None":
    """The share of drafted tokens that were right, by their place in the draft."""
    shown = [one for one in entrants(document) if one["overall"]["acceptance_at"]]
    if not shown:
        return None
    figure, (axes,) = _figure(document, "Acceptance by position in the draft")
    longest = max(len(one["overall"]["acceptance_at"]) for one in shown)
    for index, one in enumerate(shown):
        by_position = [100 * _number(share) for share in one["overall"]["acceptance_at"]]
        axes.plot(range(1, len(by_position) + 1), by_position, label=name_of(one), **_line(index))
    axes.set_ylim(0, 105)
    axes.set_xticks(range(1, longest + 1))
    axes.set_xlabel("position in the draft (1 = first token)")
    axes.set_ylabel("accepted (%)")
    _legend(axes)
    return figure


def _figure(document: Mapping[str, Any], title: str, n_columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure with its own canvas, and its axes from left to right."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchError("plots need matplotlib: pip install 'pilotfish[bench]'") from error
    figure = Figure(figsize=(8 * n_columns, 5), layout="constrained")
    FigureCanvasAgg(figure)
    model = PurePath(document["provenance"]["model"]["path"]).name
    doubts = "\nWARNING: these speeds are doubtful, see the report" if warnings(document) else ""
    figure.suptitle(f"{title}\n{model}, {document['provenance']['cpu']}{doubts}", fontsize="medium")
    axes = figure.subplots(1, n_columns, squeeze=False)
    return figure, list(axes.flat)


def _bars(axes: "Axes", index: int, n: int, heights: Sequence[float], **options: Any) -> None:
    """The bars of one of `n` entrants, one in each group."""
    width = GROUP / n
    places = [group + (index - (n - 1) / 2) * width for group in range(len(heights))]
    axes.bar(places, heights, width, color=COLOURS[index % len(COLOURS)], hatch=_hatch(index), **options)


def _hatch(index: int) -> str:
    return HATCHES[index // len(COLOURS) % len(HATCHES)]


def _line(index: int) -> dict[str, Any]:
    """A look that does not rest on colour alone."""
    turn = index // len(COLOURS)
    styles = ("-", "--", ":", "-.")
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": styles[turn % len(styles)],
    }


def _whiskers(scores: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """[below, above]: how far the interval reaches from each bar's end; none where it is unknown."""
    reach = []
    for score in scores:
        bounds, speedup = known_bounds(score.get("speedup_ci")), score.get("speedup")
        low, high = bounds if bounds is not None else (speedup or 0.0, speedup or 0.0)
        reach.append((max((speedup or 0.0) - low, 0.0), max(high - (speedup or 0.0), 0.0)))
    return [[below for below, _ in reach], [above for _, above in reach]]


def _number(value: float | None) -> float:
    """Unknown values leave a gap."""
    return math.nan if value is None else value


def _legend(axes: "Axes") -> None:
    """Beside the axes, where it hides nothing; and a grid behind the data."""
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
