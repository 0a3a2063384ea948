"""From trials to figures: one side's speed, and one configuration against its plain decoding.

Speeds are totals: all timed tokens over all their decode time, the time of a prompt being the median of
its repeats. Means of per-prompt speeds stand beside them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from orchestrator.bench.costs import Curve
from orchestrator.bench.interval import Pair, speedup_interval
from orchestrator.bench.trial import Trial
from orchestrator.stats import Stats

SPEEDS = (
    "tok/s: all tokens over all decode time, prefill left out, the time of a prompt being the median of its "
    "repeats; spread: lowest and highest repeat; mean: of the speeds of the single prompts; request tok/s: "
    "with the prefill."
)

Figures = dict[str, Any]
CurveOf = Callable[[str], Curve | None]


def side(trials: Sequence[Trial]) -> Figures:
    """Speeds of one entrant over `trials`, all of them timed; None where there are none."""
    if not trials:
        names = ("tok_s", "mean_tok_s", "spread", "request_tok_s", "t_first")
        return dict.fromkeys(names) | {"n_tokens": 0}
    n_tokens = sum(trial.n_timed for trial in trials)
    repeats = [n_tokens / sum(times) for times in zip(*(trial.times for trial in trials), strict=True)]
    firsts = [trial.first for trial in trials]
    return {
        "tok_s": n_tokens / sum(trial.seconds for trial in trials),
        "mean_tok_s": mean(trial.n_timed / trial.seconds for trial in trials),
        "spread": [min(repeats), max(repeats)],
        "request_tok_s": sum(len(t.tokens) for t in trials)
        / sum(median(answer.t_total for answer in t.answers) for t in trials),
        "t_first": [median(firsts), min(firsts), max(firsts)],
        "n_tokens": n_tokens,
    }


def score(pairs: Sequence[tuple[Trial, Trial]], curve: CurveOf) -> Figures:
    """A configuration's figures over (plain, its own) trials, all of them timed. curve: of each suite."""
    plain, own = side([trial for trial, _ in pairs]), side([trial for _, trial in pairs])
    return {
        "plain_tok_s": plain["tok_s"],
        "tok_s": own["tok_s"],
        "speedup": own["tok_s"] / plain["tok_s"] if pairs else None,
        "speedup_ci": speedup_interval(_clusters(pairs)),
        **_rounds([trial for _, trial in pairs], own["tok_s"], curve),
        "mean_plain_tok_s": plain["mean_tok_s"],
        "mean_tok_s": own["mean_tok_s"],
        "mean_speedup": mean(_speed(b) / _speed(a) for a, b in pairs) if pairs else None,
        "plain_spread": plain["spread"],
        "spread": own["spread"],
        "request_tok_s": own["request_tok_s"],
        "plain_request_tok_s": plain["request_tok_s"],
        "t_first": own["t_first"],
        "plain_t_first": plain["t_first"],
        "n_prompts": len({trial.task.id for trial, _ in pairs}),
        "n_requests": len(pairs),
        "n_tokens": own["n_tokens"],
        "n_plain_tokens": plain["n_tokens"],
    }


def _speed(trial: Trial) -> float:
    return trial.n_timed / trial.seconds


def _clusters(pairs: Sequence[tuple[Trial, Trial]]) -> list[Pair]:
    """One pair per question: its turns are drawn together."""
    by_question: dict[str, list[tuple[Trial, Trial]]] = {}
    for pair in pairs:
        by_question.setdefault(pair[0].task.id, []).append(pair)
    return [
        Pair(
            sum(plain.n_timed for plain, _ in group),
            tuple(map(sum, zip(*(plain.times for plain, _ in group), strict=True))),
            sum(own.n_timed for _, own in group),
            tuple(map(sum, zip(*(own.times for _, own in group), strict=True))),
        )
        for group in by_question.values()
    ]


def _rounds(trials: Sequence[Trial], tok_s: float | None, curve: CurveOf) -> Figures:
    """What only rounds tell: tau, acceptance, where the time went, and how far we are from the best."""
    stats = [answer.stats for trial in trials for answer in trial.answers if answer.stats is not None]
    told = [answer for trial in trials for answer in trial.answers if answer.n_drafted]
    n_drafted = sum(answer.n_drafted or 0 for answer in told)
    n_accepted = sum(answer.n_accepted or 0 for answer in told)
    acceptance = n_accepted / n_drafted if n_drafted else None
    histogram = _sum(s.histogram for s in stats)
    if not stats or tok_s is None:
        rounds = sum(len(t.tokens) - (t.answers[0].n_accepted or 0) for t in trials)
        tells = bool(trials) and all(t.answers[0].n_accepted is not None for t in trials)
        tau = sum(len(t.tokens) for t in trials) / rounds if tells and rounds else None
        return _unknown_rounds() | {"tau": tau, "acceptance": acceptance}
    oracle, ceiling = _limits(trials, curve)
    return {
        "tau": sum(s.n_tokens for s in stats) / sum(s.n_decodes for s in stats),
        "efficiency": tok_s / oracle if oracle else None,
        "oracle_tok_s": oracle,
        "ceiling_tok_s": ceiling,
        "acceptance": acceptance,
        "acceptance_at": Stats(
            depths=_sum(s.depths for s in stats), accepted=_sum(s.accepted for s in stats)
        ).acceptance_at,
        "histogram": {str(n): count for n, count in sorted(histogram.items())},
        "split": _split(stats),
    }


def _limits(trials: Sequence[Trial], curve: CurveOf) -> tuple[float | None, float | None]:
    """Speeds of the oracle and the ceiling, suite by suite: what rows cost depends on the context."""
    n_tokens, oracle_ms, ceiling_ms = 0, 0.0, 0.0
    for suite in {trial.task.suite for trial in trials}:
        known = curve(suite)
        if known is None:
            return None, None
        stats = [a.stats for t in trials if t.task.suite == suite for a in t.answers if a.stats is not None]
        emitted = sum(s.n_tokens for s in stats)
        n_tokens += emitted
        oracle_ms += known.oracle_ms(_sum(s.histogram for s in stats))
        ceiling_ms += known.ceiling_ms(emitted)
    return 1e3 * n_tokens / oracle_ms, 1e3 * n_tokens / ceiling_ms


def _unknown_rounds() -> Figures:
    unknown: Figures = dict.fromkeys(("efficiency", "oracle_tok_s", "ceiling_tok_s", "split"))
    return unknown | {"acceptance_at": [], "histogram": {}}


def _sum(counters: Any) -> Counter[int]:
    total: Counter[int] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _split(stats: Sequence[Stats]) -> Figures:
    total = sum(s.t_decode for s in stats)
    parts = {"draft": "t_draft", "verify": "t_verify", "sample": "t_sample", "rest": "t_rest"}
    return {name: sum(getattr(s, field) for s in stats) / total for name, field in parts.items()}
