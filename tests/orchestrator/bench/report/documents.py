"""Small documents as `pilotfish bench` prints them, with every key; what a claim is about is an argument."""

from collections.abc import Mapping, Sequence
from typing import Any

Part = dict[str, Any]
CODE = "1f" * 32
CHAT = "2e" * 32
MODEL = "3d" * 32


def score(speedup: float = 1.5, ci: tuple[float, float] | None = None, **changes: Any) -> Part:
    """A SCORE with plain decoding at 80 tok/s; `ci` reaches 0.05 to either side if not given."""
    plain = 80.0
    found: Part = {
        "plain_tok_s": plain,
        "tok_s": plain * speedup,
        "speedup": speedup,
        "speedup_ci": list(ci or (speedup - 0.05, speedup + 0.05)),
        "tau": 2.25,
        "efficiency": 0.72,
        "oracle_tok_s": 166.7,
        "ceiling_tok_s": 212.0,
        "mean_plain_tok_s": plain,
        "mean_tok_s": plain * speedup,
        "mean_speedup": speedup,
        "plain_spread": [79.0, 81.0],
        "spread": [plain * speedup - 1, plain * speedup + 1],
        "request_tok_s": 0.8 * plain * speedup,
        "plain_request_tok_s": 0.8 * plain,
        "t_first": [0.21, 0.2, 0.23],
        "plain_t_first": [0.2, 0.19, 0.22],
        "acceptance": 0.63,
        "acceptance_at": [0.8, 0.6, 0.5],
        "histogram": {"1": 12, "2": 5, "4": 3},
        "split": {"draft": 0.05, "verify": 0.85, "sample": 0.04, "rest": 0.06},
        "n_prompts": 4,
        "n_requests": 8,
        "n_tokens": 512,
        "n_plain_tokens": 512,
    }
    return _changed(found, changes)


def unknown_score(**changes: Any) -> Part:
    """A SCORE of a system that says nothing about its drafts."""
    silent = {"tau": None, "efficiency": None, "oracle_tok_s": None, "ceiling_tok_s": None, "split": None}
    return score(**{**silent, "acceptance": None, "acceptance_at": [], "histogram": {}, **changes})


def side(tok_s: float = 80.0) -> Part:
    return {
        "tok_s": tok_s,
        "mean_tok_s": tok_s,
        "spread": [tok_s - 1, tok_s + 1],
        "request_tok_s": 0.8 * tok_s,
        "t_first": [0.2, 0.19, 0.22],
        "n_tokens": 512,
    }


def divergence(number: int = 1, gap: float | None = 0.012) -> Part:
    return {"id": f"chat/{number:02}", "turn": 0, "index": 17, "plain": 5, "other": 9, "gap": gap}


def configuration(
    name: str = "lookup",
    suites: Mapping[str, Part] | None = None,
    overall: Part | None = None,
    **changes: Any,
) -> Part:
    """A CONFIGURATION of the engine: suites code and chat, all texts equal to plain decoding's."""
    found: Part = {
        "name": name,
        "kind": "engine",
        "baseline": "plain",
        "settings": {"method": "lookup", "max_draft": 7},
        "invalid_text": None,
        "overall": overall or score(1.4),
        "suites": dict({"code": score(1.6), "chat": score(1.2)} if suites is None else suites),
        "identical": {"n": 8, "of": 8},
        "divergences": [],
        "loops": {"n": 0, "of": 8, "looping": None, "others": score(1.4)},
        "memory_mb": {"loaded": 130.0, "peak": 141.0},
        "note": "",
    }
    return _changed(found, changes)


def swept(max_draft: int, speedup: float = 1.4) -> Part:
    """One configuration of a sweep over max_draft."""
    settings = {"method": "lookup", "max_draft": max_draft}
    return configuration(f"lookup max_draft={max_draft}", settings=settings, overall=score(speedup))


def peer(name: str = "llama-server", **changes: Any) -> Part:
    """A CONFIGURATION of another system, which tells nothing of its drafts or its memory."""
    silent: Part = {
        "kind": "peer",
        "settings": {"spec-type": "ngram-simple"},
        "suites": {"code": unknown_score(), "chat": unknown_score()},
        "overall": unknown_score(),
        "loops": {"n": 0, "of": 8, "looping": None, "others": unknown_score()},
        "memory_mb": None,
    }
    return configuration(name, **{**silent, **changes})


def check(ratio: float = 0.99, ok: bool = True, **changes: Any) -> Part:
    found: Part = {
        "reference": "llama-bench",
        "baseline": "plain",
        "plain_tok_s": 80.0,
        "reference_tok_s": 80.0 / ratio,
        "ratio": ratio,
        "ok": ok,
        "note": "",
    }
    return _changed(found, changes)


def curve(**changes: Any) -> Part:
    found: Part = {
        "baseline": "plain",
        "rows": [1, 2, 4, 8],
        "ms": [12.0, 13.5, 18.0, 30.0],
        "low": [11.8, 13.1, 17.5, 29.0],
        "high": [12.4, 14.2, 19.1, 33.0],
        "n_samples": 40,
        "n_past": 412,
    }
    return _changed(found, changes)


def protocol(**changes: Any) -> Part:
    found: Part = {
        "max_tokens": 128,
        "repeats": 2,
        "n_prompts": 8,
        "n_requests": 8,
        "prompts_sha256": "7c" * 32,
        "end_of_text": "An end token ends the answer.",
        "order": "Entrants take turns, prompt by prompt.",
        "warm_up": "One answer of each entrant is thrown away.",
        "speeds": "Tokens divided by seconds of decoding.",
        "interval": "95 % of bootstrap resamples over prompts.",
    }
    return _changed(found, changes)


def provenance(**changes: Any) -> Part:
    found: Part = {
        "date": "2026-11-23T10:00:00+00:00",
        "pilotfish": "0.1.0",
        "commit": "abc1234",
        "argv": ["pilotfish", "bench", "smollm2", "--prompt", "two words"],
        "python": "3.11.2",
        "versions": {"llama-cpp-python": "0.3.36", "numpy": "2.3.0"},
        "llama_cpp_system": "AVX = 1 | AVX2 = 1",
        "platform": "Linux-6.1-x86_64",
        "cpu": "Example CPU",
        "n_cores": 2,
        "gpus": [],
        "threads": 2,
        "threads_batch": 2,
        "model": {
            "name": "smollm2",
            "path": "/models/smollm2.gguf",
            "sha256": MODEL,
            "size_mb": 91.7,
            "file_type": "Q4_0",
        },
        "seed": 0,
        "load_average": [0.1, 0.2, 0.3],
        "suites": [{"path": "code.jsonl", "sha256": CODE}, {"path": "chat.jsonl", "sha256": CHAT}],
        "peak_memory_mb": 812.1,
    }
    return _changed(found, changes)


def document(configurations: Sequence[Part] | None = None, **changes: Any) -> Part:
    """A whole document: one configuration, no peers, one baseline that passes its check, one curve."""
    shown = list(configurations if configurations is not None else [configuration()])
    suites = {"code": side(), "chat": side()}
    plain: Part = {"name": "plain", "settings": {"method": "none"}, "overall": side(), "suites": suites}
    found: Part = {
        "format": "pilotfish-bench/1",
        "overall": shown[0]["overall"],
        "suites": shown[0]["suites"],
        "identical": shown[0]["identical"],
        "configurations": shown,
        "peers": [],
        "baselines": [{**plain, "memory_mb": {"loaded": 120.0, "peak": 125.0}}],
        "baseline_check": [check()],
        "curves": [curve()],
        "protocol": protocol(),
        "skipped": [],
        "provenance": provenance(),
    }
    return _changed(found, changes)


def _changed(found: Part, changes: Mapping[str, Any]) -> Part:
    """A misspelt key would make a claim about nothing."""
    assert set(changes) <= set(found), set(changes) - set(found)
    return {**found, **changes}
