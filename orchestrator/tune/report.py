"""A study as text for the terminal. Knows how to say it; measures nothing."""

from collections.abc import Iterator, Sequence

from adapters.gguf_probe import bits
from adapters.settings import ContextSettings
from orchestrator.bench.report.tables import aligned
from orchestrator.tune.choice import ACCEPTANCE, Change
from orchestrator.tune.grid import Timings
from orchestrator.tune.neighbours import warnings
from orchestrator.tune.speed import by_rows, cheap_rows
from orchestrator.tune.study import Study

_KERNEL_ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
POOR = 2.0  # four rows for the price of two: the best draft then gains little


def label(settings: ContextSettings) -> str:
    """A setting in words."""
    single, many = settings.threads
    threads = f"{single} thread{'s' if single > 1 else ''}"
    threads += f" ({many} for several rows)" if many != single else ""
    flash = {None: "auto", True: "on", False: "off"}[settings.flash_attn]
    return f"{threads}, flash attention {flash}"


def study_text(study: Study) -> str:
    """Tables of every context, what to use, where the time goes and which types would be better."""
    parts = [
        *warnings(study.others),
        *(_context(study, n_past) for n_past in sorted(study.plan.contexts)),
        _use(study),
        _split(study),
        _kernels(study),
        _advice(study),
    ]
    return "\n\n".join(parts)


def _context(study: Study, n_past: int) -> str:
    rows = study.timings[0].rows
    table = [["ms of so many rows", *map(str, rows)]]
    ratios = [["times one row", *map(str, rows)]]
    speeds = [["tokens per second", "plain", *(f"accepting {a:g}" for a in study.plan.acceptances)]]
    for one in study.timings:
        name, ms = _name(study, one), one.ms[n_past]
        table.append([name, *(f"{value:.2f}" for value in ms)])
        ratios.append([name, *(f"{value / ms[0]:.2f}" for value in ms)])
        best = [one.best(n_past, a) for a in study.plan.acceptances]
        speeds.append([name, f"{1e3 / ms[0]:.1f}", *(f"{b.tok_s:.1f} drafting {b.n_draft}" for b in best)])
    title = f"== {n_past} tokens in the cache"
    return "\n".join([title, aligned([*table, *ratios]), aligned(speeds), _cheap(study, n_past)])


def _name(study: Study, one: Timings) -> str:
    return label(one.settings) + (" (in use)" if one is study.timings[0] else "")


def _cheap(study: Study, n_past: int) -> str:
    used = study.timings[0]
    cheap = cheap_rows(dict(zip(used.rows, used.ms[n_past], strict=True)))
    if not cheap:
        return "cheap row counts with the settings in use: none, each row costs as much as one alone"
    return f"cheap row counts with the settings in use: {', '.join(map(str, cheap))}"


def _use(study: Study) -> str:
    found = study.recommendation
    lines = [
        f"best for plain decoding: {label(found.plain.settings)}",
        f"best for speculation: {label(found.speculative.settings)}",
        _how_to(study),
    ]
    if study.stored:
        lines.append("stored: engines with any of these settings plan by these curves from now on")
    elif len(study.plan.contexts) < 2:
        lines.append("not stored: a curve needs two contexts")
    else:
        lines.append("not stored: other programs disturbed the measurement")
    return "\n".join(lines)


def _how_to(study: Study) -> str:
    change = study.recommendation.change
    if not change:
        return "use: the settings in use are as good as any (within 2 %)"
    arguments = ", ".join(f"{name}={value}" for name, value in change.items())
    options = " ".join(f"--set {name}={str(value).lower()}" for name, value in change.items())
    return f"use: Engine.load(..., {arguments}), on the command line {options}"


def _split(study: Study) -> str:
    split, found = study.split, study.census
    head = f"vocabulary projection ({found.head}{', the token embedding, too' if found.tied else ''})"
    layers = f"layers ({', '.join(found.layers) or 'no matrices'})"
    table = [["ms of so many rows", *map(str, split.rows)]]
    for name, ms in ((head, split.head), (layers, split.layers)):
        table.append([name, *(f"{value:.2f}" for value in ms)])
        table.append(["  times one row", *(f"{value / ms[0]:.2f}" if ms[0] else "-" for value in ms)])
    return "\n".join(["== where the time goes", aligned(table), *_blame(study)])


def _blame(study: Study) -> Iterator[str]:
    """What makes the curve climb."""
    rows, total = study.split.rows, study.split.total
    if 4 in rows:
        growth, share = total[rows.index(4)] / total[0], study.split.head_share(4)
        poor = ", a poor curve" if growth >= POOR else ""
        yield (
            f"4 rows cost {growth:.2f} times one{poor}; {100 * share:.0f} % of the rise is the "
            f"vocabulary projection, {100 * (1 - share):.0f} % the layers"
        )


def _kernels(study: Study) -> str:
    kernels, head = study.kernels, study.census.head
    shown = [n for n in _KERNEL_ROWS if n <= kernels.rows[-1]]
    unit = kernels.ns[kernels.of(head)][0]
    title = f"== the same matrix in other types: time of so many rows ({kernels.of(head)}, one row = 1)"
    table = [["type", "bits", *map(str, shown)]]
    for kind in sorted(kernels.ns, key=bits):
        ns = by_rows(kernels.rows, kernels.ns[kind])
        table.append([kind, f"{bits(kind):.1f}", *(f"{ns[n] / unit:.2f}" for n in shown)])
    return f"{title}\n{aligned(table)}"


def _advice(study: Study) -> str:
    found = study.census
    lines = [
        _better("vocabulary projection", found.head, study.head),
        _better("layers", " and ".join(found.layers) or "-", study.layers),
    ]
    if study.head:
        lines.append("`pilotfish quantize MODEL --for-speculation` makes a copy with the better projection")
    if study.layers:
        lines.append(
            "layers in another type: make them from 16-bit weights, a second quantization costs quality"
        )
    return "\n".join(lines)


def _better(part: str, now: str, found: Sequence[Change]) -> str:
    if not found:
        return f"{part}: no type is better here than {now}"
    named = ", ".join(f"{change.new} ({100 * (change.gain - 1):+.0f} %)" for change in found[:3])
    return f"{part}: instead of {now} better {named}: expected speculative speed at acceptance {ACCEPTANCE:g}"
