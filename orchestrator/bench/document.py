"""The JSON document of a run: every figure, and how it came about."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from orchestrator.bench.baseline_check import Check, against_bare_decodes, against_server
from orchestrator.bench.configuration import Configuration
from orchestrator.bench.interval import INTERVAL
from orchestrator.bench.loops import ends_in_a_loop
from orchestrator.bench.report.document_file import FORMAT
from orchestrator.bench.runner import ORDER, WARM_UP, Group, Lane
from orchestrator.bench.score import SPEEDS, score, side
from orchestrator.bench.trial import Task, Trial, timed

PLAIN_SERVER = "llama-server"  # the peer that is also a check of our plain decoding

Document = dict[str, Any]


def document(
    groups: Sequence[Group],
    configurations: dict[str, Configuration],
    *,
    max_tokens: int,
    repeats: int,
    ignore_eos: bool,
    provenance: Document,
    checks: Sequence[Check] = (),
) -> Document:
    """Everything about a run. configurations: by the names of their lanes. checks: made by other programs."""
    ours = [entry(g, lane, configurations[lane.name]) for g in groups for lane in _ours(g, configurations)]
    peers = [entry(g, lane, None) for g in groups for lane in g.others if lane.name not in configurations]
    main = (ours or peers)[0]
    return {
        "format": FORMAT,
        "overall": main["overall"],
        "suites": main["suites"],
        "identical": main["identical"],
        "configurations": ours,
        "peers": peers,
        "baselines": [_baseline(group, configurations[group.plain.name]) for group in groups],
        "baseline_check": [*_checks(groups), *checks],
        "curves": [
            curve.as_dict(group.plain.name) for group in groups if (curve := group.meter.curve()) is not None
        ],
        "protocol": _protocol(groups[0], max_tokens, repeats, ignore_eos),
        "skipped": [
            {"baseline": g.plain.name, "id": id, "reason": why}
            for g in groups
            for id, why in g.skipped.items()
        ],
        "provenance": provenance,
    }


def _ours(group: Group, configurations: dict[str, Configuration]) -> list[Lane]:
    return [lane for lane in group.others if lane.name in configurations]


def entry(group: Group, lane: Lane, configuration: Configuration | None) -> Document:
    """One configuration, or one peer (configuration None), against its plain decoding."""
    pairs = _pairs(group, lane)
    invalid = configuration.invalid_text if configuration else ""
    same = sum(a.tokens == b.tokens for a, b in pairs)
    speeds = _timed(pairs)
    return {
        "name": lane.name,
        "kind": "engine" if configuration else "peer",
        "baseline": group.plain.name,
        "settings": configuration.as_dict() if configuration else {},
        "invalid_text": invalid or None,
        "overall": score(speeds, group.meter.curve),
        "suites": {
            suite: score([p for p in speeds if p[0].task.suite == suite], group.meter.curve)
            for suite in _suites(group.plain)
        },
        "identical": {"n": same, "of": len(pairs)},
        "divergences": [_divergence(lane, task) for task in lane.divergences],
        "loops": _loops(pairs, group),
        "memory_mb": lane.growth.as_dict(),
        "note": f"out of the run: {lane.withdrawn}" if lane.withdrawn else "",
    }


def _pairs(group: Group, lane: Lane) -> list[tuple[Trial, Trial]]:
    return [(plain, lane.trials[task]) for task, plain in group.plain.trials.items() if task in lane.trials]


def _timed(pairs: Sequence[tuple[Trial, Trial]]) -> list[tuple[Trial, Trial]]:
    return [pair for pair in pairs if len(timed(pair)) == 2]


def _suites(lane: Lane) -> list[str]:
    return list(dict.fromkeys(task.suite for task in lane.trials))


def _divergence(lane: Lane, task: Task) -> Document:
    parting = lane.divergences[task]
    return {
        "id": task.id,
        "turn": task.turn,
        "index": parting.index,
        "plain": parting.plain,
        "other": parting.speculative,
        "gap": parting.gap,
    }


def _loops(pairs: Sequence[tuple[Trial, Trial]], group: Group) -> Document:
    kinds: dict[bool, list[tuple[Trial, Trial]]] = {True: [], False: []}
    for pair in pairs:
        kinds[ends_in_a_loop(pair[0].tokens)].append(pair)
    scores = {
        kind: score(speeds, group.meter.curve) if (speeds := _timed(kinds[kind])) else None for kind in kinds
    }
    return {"n": len(kinds[True]), "of": len(pairs), "looping": scores[True], "others": scores[False]}


def _baseline(group: Group, configuration: Configuration) -> Document:
    trials = timed(group.plain.trials.values())
    return {
        "name": group.plain.name,
        "settings": configuration.as_dict(),
        "overall": side(trials),
        "suites": {s: side([t for t in trials if t.task.suite == s]) for s in _suites(group.plain)},
        "memory_mb": group.plain.growth.as_dict(),
    }


def _checks(groups: Sequence[Group]) -> list[Check]:
    checks = []
    for group in groups:
        trials = timed(group.plain.trials.values())
        if trials and group.meter.curve() is not None:
            checks.append(against_bare_decodes(group.plain.name, trials, group.meter.curve))
        for lane in group.others:
            pairs = _timed(_pairs(group, lane))
            if lane.name == PLAIN_SERVER and pairs:
                checks.append(against_server(group.plain.name, pairs))
    return checks


def _protocol(group: Group, max_tokens: int, repeats: int, ignore_eos: bool) -> Document:
    tasks = list(group.plain.trials)
    # what a later turn's conversation says came out of the run itself
    asked = json.dumps([[task.id, task.prompt if task.turn == 0 else task.turn] for task in tasks])
    natural = f"texts end at the model's own end tokens or after {max_tokens} tokens"
    forced = f"end tokens are forbidden on every side: every text has exactly {max_tokens} tokens"
    return {
        "max_tokens": max_tokens,
        "repeats": repeats,
        "n_prompts": len({task.id for task in tasks}),
        "n_requests": len(tasks),
        "prompts_sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "end_of_text": forced if ignore_eos else natural,
        "order": ORDER,
        "warm_up": WARM_UP,
        "speeds": SPEEDS,
        "interval": INTERVAL,
    }
