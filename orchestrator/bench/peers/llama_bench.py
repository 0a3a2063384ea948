"""llama.cpp's own benchmark tool: the speed of its bare decodes, the bar for everybody's plain decoding.

It decodes random tokens without sampling, one context for all repeats, and times every decode: nothing
of prompts, drafts or text.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.settings import require
from orchestrator.bench.peers.process import tail
from orchestrator.errors import BenchError


@dataclass(frozen=True, slots=True)
class BenchSpeed:
    """Tokens per second: mean and standard deviation over repeats, and each of them."""

    tok_s: float
    stddev: float
    samples: tuple[float, ...]


def llama_bench(
    binary: Path,
    model: Path,
    *,
    n_threads: int,
    n_gen: int = 64,
    n_prompt: int = 0,
    repeats: int = 3,
    depth: int = 0,
    flags: Sequence[str] = (),
    timeout: float = 1800.0,
) -> BenchSpeed:
    """Time either n_gen tokens one by one, or n_prompt at once, with `depth` tokens in the cache before.

    The other of the two must be 0. timeout: seconds for the whole run.
    """
    require(n_gen >= 0 and n_prompt >= 0, f"a number of tokens is negative: {n_gen=}, {n_prompt=}")
    require((n_gen > 0) != (n_prompt > 0), f"time either n_gen or n_prompt tokens: {n_gen=}, {n_prompt=}")
    require(repeats >= 1, f"repeats must be >= 1, got {repeats}")
    numbers = {"-n": n_gen, "-p": n_prompt, "-r": repeats, "-d": depth, "-t": n_threads}
    command = [str(binary), "-m", str(model), "-o", "json"]
    command += [text for flag, number in numbers.items() for text in (flag, str(number))]
    return _parse(_run([*command, *flags], timeout))


def _run(command: list[str], timeout: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
    except OSError as error:
        raise BenchError(f"cannot start {command[0]} ({error.strerror}); give llama-bench's path") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"llama-bench took more than {timeout:g} s; ask for fewer tokens") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} ended with code {done.returncode}; {tail(done.stderr)}")
    return done.stdout


def _parse(output: str) -> BenchSpeed:
    try:
        rows: list[dict[str, Any]] = json.loads(output)
        (row,) = rows
        samples = tuple(float(sample) for sample in row["samples_ts"])
        return BenchSpeed(float(row["avg_ts"]), float(row["stddev_ts"]), samples)
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"llama-bench's output is not one JSON row with speeds: {output[:300]!r}") from error
