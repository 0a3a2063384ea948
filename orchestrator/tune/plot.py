"""A study as a picture: one panel for each length of the context, one line for each setting."""

from pathlib import Path

from orchestrator.bench.report.plots import COLOURS, DPI, MARKERS
from orchestrator.errors import BenchError
from orchestrator.tune.report import label
from orchestrator.tune.study import Study


def plot_study(study: Study, path: Path) -> None:
    """Write a PNG; BenchError without matplotlib, or where the file cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchError("plots need matplotlib: pip install 'pilotfish[bench]'") from error
    contexts = sorted(study.plan.contexts)
    figure = Figure(figsize=(7 * len(contexts), 5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"Cost of one decode by its rows\n{study.model.name}", fontsize="medium")
    for axes, n_past in zip(figure.subplots(1, len(contexts), squeeze=False).flat, contexts, strict=True):
        for index, one in enumerate(study.timings):
            look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            used = " (in use)" if index == 0 else ""
            axes.plot(one.rows, one.ms[n_past], label=label(one.settings) + used, **look)
        axes.set_title(f"{n_past} tokens in the cache", fontsize="small")
        axes.set_xlabel("rows of the decode")
        axes.set_ylabel("time (ms)")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise BenchError(
            f"cannot write {path}: {error.strerror or error}; name a file in another folder"
        ) from error
