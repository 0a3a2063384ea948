"""A training run as pictures: its loss, and how often the first guesses were right on what is held out.

Knows the lines of a run's `log.jsonl`, and matplotlib; nothing of training.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.bench.report.plots import COLOURS, DPI, MARKERS
from orchestrator.errors import PilotfishError
from orchestrator.extras import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lines = Sequence[Mapping[str, Any]]


def plot_run(log: Path, folder: Path) -> list[Path]:
    """Write PNG and SVG files into `folder`, as far as the log goes; ConfigError without matplotlib."""
    require_matplotlib()
    learned, judged = read_log(log)
    written: list[Path] = []
    if not judged:
        return written
    figures = {"loss": _loss(learned, judged), "acceptance": _acceptance(judged)}
    for path in (folder / f"{name}.{kind}" for name in figures for kind in ("png", "svg")):
        try:
            figures[path.stem].savefig(path, dpi=DPI)
        except OSError as error:
            raise PilotfishError(f"cannot write {path}: {error.strerror or error}") from error
        written.append(path)
    return written


def read_log(log: Path) -> tuple[Lines, Lines]:
    """(what was logged while learning, what was measured on held-out texts), each by step."""
    learned: dict[int, Mapping[str, Any]] = {}
    judged: dict[int, Mapping[str, Any]] = {}
    for text in log.read_text("utf-8").splitlines() if log.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a kill tore it
        # a run that went on from a checkpoint has logged some steps twice
        (judged if "tau" in line else learned)[line["step"]] = line
    return [learned[step] for step in sorted(learned)], [judged[step] for step in sorted(judged)]


def _loss(learned: Lines, judged: Lines) -> "Figure":
    figure, (left, right) = _figure("Loss: cross-entropy against the target's own law")
    left.set_title("while learning, all guesses weighted", fontsize="small")
    left.plot([line["step"] for line in learned], [line["loss"] for line in learned], color=COLOURS[0])
    right.set_title("held out, first guess", fontsize="small")
    steps = [line["step"] for line in judged]
    right.plot(steps, [line["held_out_loss"] for line in judged], color=COLOURS[0], marker=MARKERS[0])
    return figure


def _acceptance(judged: Lines) -> "Figure":
    figure, (left, right) = _figure("Held-out texts: what would be accepted of a chain")
    steps = [line["step"] for line in judged]
    for index in range(len(judged[0]["held_out"])):
        shares = [100 * line["held_out"][index] for line in judged]
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        label = f"first {index + 1}" if index else "first"
        left.plot(steps, shares, label=label, color=colour, marker=marker)
    left.set_ylim(0, 105)
    left.set_ylabel("all of them right (%)")
    left.legend(fontsize="small", title="guesses", title_fontsize="small")
    right.plot(steps, [line["tau"] for line in judged], color="black", marker=MARKERS[0])
    right.set_ylabel("tau: tokens a round")
    return figure


def _figure(title: str) -> "tuple[Figure, list[Axes]]":
    """A figure with its own canvas and two axes over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize="medium")
    both: list[Axes] = list(figure.subplots(1, 2))
    for axes in both:
        axes.set_xlabel("steps")
        axes.grid(axis="y", alpha=0.3)
    return figure, both
