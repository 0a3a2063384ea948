"""What HTTP costs beside the engine itself, and what a saved session saves.

usage: python bench/service.py [--model NAME] [--tokens N] [--session-tokens N] [--repeats N]

The same prompt is answered by the engine's own stream and by that of `pilotfish serve`, read with the openai
client over loopback, in turns; caches are emptied before every answer. Then a text is read by the target,
saved, and loaded again. Needs the extra `serve` and the package openai.
Last line: JSON {http_ratio, engine_tok_s, http_tok_s, n_tokens, read_s, save_s, load_s, session_mb}: medians.
"""

import argparse
import contextlib
import functools
import json
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from openai import OpenAI

from orchestrator import Engine
from orchestrator.server.service import Service
from orchestrator.server.serving import Server, listen
from orchestrator.server.settings import ServerSettings

PROMPT = "Explain, step by step and with an example, how a library lends its books."
SENTENCE = "The pilot fish swims ahead of the shark, which follows it slowly and decides where both go. "


@contextlib.contextmanager
def served(engine: Engine) -> Iterator[OpenAI]:
    """A client of a server of `engine` on a free port of loopback."""
    server, listening = Server(Service(engine, ServerSettings("model", port=0))), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        port = listening.getsockname()[1]
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def stream_alone(engine: Engine, n_tokens: int) -> int:
    return sum(len(chunk.tokens) for chunk in engine.stream(PROMPT, max_tokens=n_tokens))


def stream_http(client: OpenAI, n_tokens: int) -> int:
    chunks = client.completions.create(model="model", prompt=PROMPT, max_tokens=n_tokens, stream=True)
    return sum(1 for _ in chunks)


def http_times(engine: Engine, n_tokens: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each answer: alone, over HTTP."""
    alone, http = list[float](), list[float]()
    with served(engine) as client:
        stream_http(client, 4)
        for _ in range(repeats):
            engine.forget()
            alone.append(seconds(functools.partial(stream_alone, engine, n_tokens)))
            engine.forget()
            http.append(seconds(functools.partial(stream_http, client, n_tokens)))
    return alone, http


def session_times(engine: Engine, text: str, repeats: int) -> tuple[dict[str, list[float]], float]:
    """(seconds of each first reading, saving and loading; MB of the file)."""
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session"
        for _ in range(repeats):
            engine.forget()
            times["read"].append(engine.generate(text, max_tokens=1).stats.t_prefill)
            times["save"].append(seconds(lambda: engine.save_session(path)))
            engine.forget()
            times["load"].append(seconds(lambda: engine.load_session(path)))
        return times, path.stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2:Q4_0")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of an answer")
    parser.add_argument("--session-tokens", type=int, default=1000, help="about, of the text that is kept")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    with Engine.load(arguments.model, method="none", temperature=0) as engine:
        alone, http = http_times(engine, arguments.tokens, arguments.repeats)
        per_sentence = len(engine.tokenizer.encode(SENTENCE, add_special=False))
        text = SENTENCE * max(1, arguments.session_tokens // per_sentence)
        n_tokens = len(engine.tokenizer.encode(text))
        times, size = session_times(engine, text, arguments.repeats)
    ratios = [a / b for a, b in zip(alone, http, strict=True)]
    print(f"HTTP stream at x{median(ratios):.3f} of the engine's ({min(ratios):.3f} to {max(ratios):.3f})")
    for name, found in times.items():
        print(f"{name} {n_tokens} tokens: {median(found):.3f} s ({min(found):.3f} to {max(found):.3f})")
    report = {
        "http_ratio": round(median(ratios), 3),
        "engine_tok_s": round(arguments.tokens / median(alone), 1),
        "http_tok_s": round(arguments.tokens / median(http), 1),
        "n_tokens": n_tokens,
        **{f"{name}_s": round(median(found), 3) for name, found in times.items()},
        "session_mb": round(size, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
