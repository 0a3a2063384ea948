"""llama.cpp's own server as an entrant, and the kinds of speculation that a given build of it knows.

What its figures count (tools/server/server-context.cpp): `predicted_n` and `tokens` hold every token
sampled, the end token included, as ours do. The clock of `predicted_ms` is set when the first token has
been sampled, so it times predicted_n - 1 tokens, and it stops when the last draft has been checked.
`prompt_ms` ends where that clock starts: it holds the prompt's decode (the draft model's, too) and the
first token. The way through HTTP is in neither. `draft_n` is left out of a reply that drafted nothing.

Some kinds learn from one request to the next, whatever cache_prompt says (common/speculative.cpp):
ngram-mod knows an answer that it has given before, ngram-cache and ngram-map-* take a new prompt for a
longer version of the last one. Such a server is started anew for each answer.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.bench.answer import Answer
from orchestrator.bench.peers.process import HOST, ServerProcess, tail
from orchestrator.bench.peers.sampling import sampling_of, server_sampling
from orchestrator.errors import BenchError, ConfigError

# what sets the longest draft; the length of ngram-cache is fixed
_LENGTH_FLAGS = {
    "ngram-simple": "--spec-ngram-simple-size-m",
    "ngram-map-k": "--spec-ngram-map-k-size-m",
    "ngram-map-k4v": "--spec-ngram-map-k4v-size-m",
    "ngram-mod": "--spec-ngram-mod-n-max",
}


def speculative_types(binary: Path) -> list[str]:
    """The values of --spec-type that this llama-server names in its help, without `none`."""
    try:
        help_text = subprocess.run(
            [str(binary), "--help"], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cannot ask {binary} for its help ({error}); give llama-server's path") from error
    found = re.search(r"^--spec-type\s+(\S+)", help_text.stdout, re.MULTILINE)
    if found is None:
        reason = tail(help_text.stderr)
        raise BenchError(f"{binary} --help names no --spec-type; take a newer llama-server; {reason}")
    return [name for name in found[1].split(",") if name != "none"]


def needs_draft(type: str) -> bool:
    """Whether a kind of speculation drafts with a model of its own, which must be given."""
    return type.startswith("draft-") and type != "draft-mtp"  # the target may carry its MTP layers


def remembers(type: str) -> bool:
    """Whether one kind, or any of several with commas between, drafts from what earlier requests left."""
    return any(name.startswith("ngram-") and name != "ngram-simple" for name in type.split(","))


def server_flags(type: str, draft_model: Path | None = None, n_max: int | None = None) -> list[str]:
    """The flags for one kind, or several with commas between; n_max: tokens drafted at once."""
    flags = ["--spec-type", type]
    types = type.split(",")
    drafting = [name for name in types if name.startswith("draft-")]
    if draft_model is None and any(map(needs_draft, drafting)):
        raise ConfigError(f"llama-server:{type} drafts with a model; give a draft model's GGUF")
    if draft_model is not None and drafting:
        flags += ["--spec-draft-model", str(draft_model)]
    if n_max is not None:
        for name in types:
            flags += _length_flags(name, n_max)
    return flags


def _length_flags(type: str, n_max: int) -> list[str]:
    if type.startswith("draft-"):
        return ["--spec-draft-n-max", str(n_max)]
    if type not in _LENGTH_FLAGS:
        raise ConfigError(f"llama-server:{type} has no flag for the length of its drafts; leave it out")
    flags = [_LENGTH_FLAGS[type], str(n_max)]
    # its shortest draft is 48 by default, and must not exceed the longest
    return [*flags, "--spec-ngram-mod-n-min", str(min(n_max, 48))] if type == "ngram-mod" else flags


class LlamaServer:
    """A llama-server on loopback, with one slot and no cache of earlier prompts.

    It refuses to go on past its context: where prompt and answer do not fit, the answer is shorter.
    """

    def __init__(
        self,
        binary: Path,
        model: Path,
        *,
        n_ctx: int,
        n_threads: int,
        sampling: Mapping[str, Any],
        ignore_eos: bool = False,
        flags: Sequence[str] = (),
        fresh: bool = False,
        name: str = "llama-server",
        start_timeout: float = 300.0,
        answer_timeout: float = 600.0,
    ) -> None:
        """sampling: our settings by name. ignore_eos: end tokens are forbidden. Timeouts in seconds.

        fresh: every answer gets a new process; its start is in no figure.
        """
        self._name, self._ignore_eos = name, ignore_eos
        self._sampling = server_sampling(sampling_of(sampling))
        self._speculates = "--spec-type" in flags

        def command(port: int) -> list[str]:
            fixed = ["-m", model, "-c", n_ctx, "-np", 1, "-t", n_threads, "-tb", n_threads]
            # the RAM cache keeps earlier prompts, which nobody asks for again here
            fixed += ["--cache-ram", 0, "--no-webui", "--host", HOST, "--port", port]
            return [str(binary), *map(str, fixed), *flags]

        self._server = ServerProcess(command, start_timeout, answer_timeout)
        self._fresh, self._used = fresh, False

    @property
    def name(self) -> str:
        return self._name

    @property
    def pid(self) -> int:
        """The server's process, whose memory is the peer's; with `fresh` it changes."""
        return self._server.pid

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        body = {
            **self._sampling,
            "prompt": list(prompt),
            "n_predict": max_tokens,
            "cache_prompt": False,
            "return_tokens": True,
            "ignore_eos": self._ignore_eos,
        }
        if self._fresh and self._used:
            self._server.restart()
        self._used = True
        start = time.perf_counter()
        reply = self._server.post("/completion", body)
        t_total = time.perf_counter() - start
        try:
            return self._answer(reply, t_total)
        except (KeyError, TypeError, ValueError) as error:
            raise BenchError(f"{self.name}: the reply lacks tokens or timings ({error!r})") from error

    def _answer(self, reply: Any, t_total: float) -> Answer:
        timings = reply["timings"]
        tokens = tuple(int(token) for token in reply["tokens"])
        if len(tokens) != timings["predicted_n"]:
            raise ValueError(f"{len(tokens)} tokens, but predicted_n {timings['predicted_n']}")
        undrafted = 0 if self._speculates else None
        return Answer(
            tokens=tokens,
            n_timed=max(len(tokens) - 1, 0),
            t_decode=timings["predicted_ms"] / 1e3,
            t_first=timings["prompt_ms"] / 1e3,
            t_total=t_total,
            n_drafted=timings.get("draft_n", undrafted),
            n_accepted=timings.get("draft_n_accepted", undrafted),
        )

    def close(self) -> None:
        """End the server; safe to call twice."""
        self._server.close()
