"""A copy for speculation as text for the terminal: what was made, and the files side by side."""

from collections.abc import Sequence

from orchestrator.bench.report.tables import aligned
from orchestrator.tune.appraisal import Appraisal
from orchestrator.tune.choice import ACCEPTANCE
from orchestrator.tune.neighbours import warnings
from orchestrator.tune.speculative_copy import SpeculativeCopy

_ROWS = (4, 5, 8)


def copy_text(made: SpeculativeCopy) -> str:
    """What was made, and the files side by side."""
    also = ", the token embedding, too" if made.tied else ""
    if made.head == made.head_before:
        choice = f"vocabulary projection: {made.head}{also}"
    else:
        gain = 100 * (made.expected_gain - 1)
        choice = (
            f"vocabulary projection: {made.head} instead of {made.head_before}{also}; the kernels promised "
            f"{gain:+.0f} % speculative speed"
        )
    parts = [*warnings(made.others), str(made.target), choice, *made.notes, _side_by_side(made.files)]
    return "\n".join(parts)


def _side_by_side(files: Sequence[Appraisal]) -> str:
    columns = ["MB", "plain tok/s", *(f"{n} rows" for n in _ROWS)]
    table = [["", *columns, f"tok/s accepting {ACCEPTANCE:g}", "perplexity"]]
    for one in files:
        ratios = [f"{one.ratio(n):.2f}" for n in _ROWS]
        best = f"{one.best.tok_s:.1f} drafting {one.best.n_draft}"
        size = f"{one.bytes / 1e6:,.1f}"
        table.append([one.name, size, f"{one.plain_tok_s:.1f}", *ratios, best, f"{one.perplexity:.2f}"])
    note = f"rows against one row; perplexity of the first {files[-1].n_tokens:,} tokens of the sample"
    return f"{aligned(table)}\n{note}"
