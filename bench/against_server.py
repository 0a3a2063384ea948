"""pilotfish against llama.cpp's own llama-server: same GGUF, same prompts, same run.

usage: python bench/against_server.py LLAMA_SERVER SUITE.jsonl [--model NAME] [--per-suite N]
           [--max-tokens N] [--threads N] [--server "FLAGS"]... [--ours "SETTINGS"]...

Each --server is a set of llama-server flags, each --ours a set of Engine.load settings (`method=lookup
ngram_min=2`). One server per set runs on loopback; every prompt goes to all of them in turn, greedily,
so that a slow minute of the machine hits all alike. Speeds are each side's own decode time (prefill
left out; pilotfish counts the first token's decode, llama-server counts it as prefill).
Last line: JSON with tok/s per configuration, overall and by suite.
"""

import argparse
import collections
import contextlib
import json
import shlex
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters.models import resolve_model
from orchestrator import Engine

Row = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(url: str, body: Row) -> Row:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        result: Row = json.load(answer)
        return result


@contextlib.contextmanager
def server(binary: Path, model: Path, threads: int, flags: list[str]) -> Iterator[str]:
    """A llama-server on loopback; yields its base URL."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [str(binary), "-m", str(model), "-c", "4096", "-np", "1", "--no-webui", "--host", "127.0.0.1"]
    command += ["-t", str(threads), "-tb", str(threads), "--port", str(port), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(base, process)
        yield base
    finally:
        process.terminate()
        process.wait()


def wait_until_healthy(base: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit(f"llama-server ended with code {process.returncode}; check its flags")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(base + "/health", timeout=5)
            return
        time.sleep(0.25)
    raise SystemExit("llama-server did not become healthy within a minute")


def ask_server(base: str, messages: list[Row], max_tokens: int) -> tuple[int, float, str]:
    body = {"messages": messages, "temperature": 0, "max_tokens": max_tokens, "cache_prompt": False}
    answer = post(base + "/v1/chat/completions", body)
    timings = answer["timings"]
    return timings["predicted_n"], timings["predicted_ms"] / 1e3, answer["choices"][0]["message"]["content"]


def ask_engine(engine: Engine, messages: list[Row], max_tokens: int) -> tuple[int, float, str]:
    result = engine.chat(messages, max_tokens=max_tokens)
    return result.stats.n_tokens, result.stats.t_decode, result.text


def settings_of(text: str) -> Row:
    pairs = [pair.split("=", 1) for pair in shlex.split(text)]
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


def pick(suite: Path, per_suite: int) -> list[Row]:
    seen: collections.Counter[str] = collections.Counter()
    rows = []
    for line in suite.read_text().splitlines():
        row = json.loads(line)
        if seen[row["suite"]] < per_suite:
            seen[row["suite"]] += 1
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("binary", type=Path)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--per-suite", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--server", action="append", default=[])
    parser.add_argument("--ours", action="append", default=[])
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        run(arguments, stack)


def run(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    model, threads = resolve_model(arguments.model), arguments.threads
    ask = {}
    for flags in arguments.server:
        base = stack.enter_context(server(arguments.binary, model, threads, shlex.split(flags)))
        ask[f"llama-server {flags}".strip()] = lambda m, n, base=base: ask_server(base, m, n)
    for text in arguments.ours:
        settings = {"temperature": 0, "n_ctx": 4096, "n_threads": threads, **settings_of(text)}
        engine = stack.enter_context(Engine.load(model, settings.pop("draft", None), **settings))
        ask[f"pilotfish {text}"] = lambda m, n, engine=engine: ask_engine(engine, m, n)

    totals: Any = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, 0.0]))
    speeds: Any = collections.defaultdict(list)
    texts: Any = collections.defaultdict(list)
    rows = pick(arguments.suite, arguments.per_suite)
    for k, row in enumerate([rows[0], *rows]):  # the first is a warm-up
        messages = [{"role": "user", "content": row["turns"][0]}]
        for name, call in ask.items():
            n, seconds, text = call(messages, arguments.max_tokens)
            if k == 0:
                continue
            for key in ("overall", row["suite"]):
                totals[name][key][0] += n
                totals[name][key][1] += seconds
            speeds[name].append(n / seconds)
            texts[name].append(text)
    report(totals, speeds, texts)


def report(totals: Any, speeds: Any, texts: Any) -> None:
    first = next(iter(totals))
    result = {}
    for name, by_suite in totals.items():
        rates = {key: round(n / seconds, 1) for key, (n, seconds) in by_suite.items()}
        ratios = [a / b for a, b in zip(speeds[name], speeds[first], strict=True)]
        same = sum(a.strip() == b.strip() for a, b in zip(texts[name], texts[first], strict=True))
        ratio, overall = statistics.median(ratios), rates["overall"]
        result[name] = {"tok_s": rates, "median_ratio": round(ratio, 3)}
        print(f"{overall:8.1f} tok/s  x{ratio:.3f}  same text {same}/{len(ratios)}  {name}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
