"""Is plain decoding as fast as it can be? A speed-up over a slow baseline is no speed-up.

Plain decoding is held against a bare loop of decodes (the cost curve's first point: no sampling, no text),
against llama-bench and against llama-server, whatever was measured in the same run.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

from orchestrator.bench.score import CurveOf
from orchestrator.bench.trial import Trial

TOLERANCE = 0.1  # of the reference's speed: what sampling, text and a noisy machine may cost

Check = dict[str, Any]


def against_bare_decodes(baseline: str, trials: Sequence[Trial], curve: CurveOf) -> Check:
    """One-row decodes on the contexts that plain decoding left behind, between its runs; suite by suite."""
    n_tokens = sum(trial.n_timed for trial in trials)
    known = [(trial, curve(trial.task.suite)) for trial in trials]
    bare_ms = sum(trial.n_timed * bare.at(1) for trial, bare in known if bare is not None)
    return _check(
        baseline,
        n_tokens / sum(trial.seconds for trial in trials),
        "bare decodes",
        1e3 * n_tokens / bare_ms,
        "decodes of one row after each text, nothing else; medians by suite, weighed like the texts",
    )


def against_server(baseline: str, pairs: Sequence[tuple[Trial, Trial]]) -> Check:
    """llama-server without speculation on the same prompts, in turn with ours."""
    plain = sum(t.n_timed for t, _ in pairs) / sum(t.seconds for t, _ in pairs)
    server = sum(t.n_timed for _, t in pairs) / sum(t.seconds for _, t in pairs)
    ratios = [(a.n_timed / a.seconds) / (b.n_timed / b.seconds) for a, b in pairs]
    note = f"the same {len(pairs)} prompts in turn; median of the ratios per prompt {median(ratios):.3f}"
    return _check(baseline, plain, "llama-server", server, note)


def against_llama_bench(baseline: str, plain_tok_s: float, tok_s: Sequence[float], note: str) -> Check:
    """llama-bench's text generation before and after our runs."""
    return _check(baseline, plain_tok_s, "llama-bench", median(tok_s), note)


def _check(baseline: str, plain_tok_s: float, reference: str, reference_tok_s: float, note: str) -> Check:
    ratio = plain_tok_s / reference_tok_s
    return {
        "reference": reference,
        "baseline": baseline,
        "plain_tok_s": plain_tok_s,
        "reference_tok_s": reference_tok_s,
        "ratio": ratio,
        "ok": ratio >= 1 - TOLERANCE,
        "note": note,
    }
