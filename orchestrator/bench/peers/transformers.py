"""Hugging Face transformers as an entrant: the same GGUF, its weights unpacked to floats.

transformers and torch are optional and imported when a peer is made. Its greedy text can differ from
ours, as its weights are not rounded again while it computes; sampled text follows another law, as it
applies the temperature before it cuts the law. Its generate() reports no numbers of drafted tokens.
"""

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.bench.answer import Answer
from orchestrator.bench.peers.sampling import refuse, sampling_of
from orchestrator.errors import BenchError, ConfigError
from orchestrator.sampling import Sampling

DTYPES = ("float32", "bfloat16", "float16")


class _Clock:
    """A streamer for generate(): the tokens of each burst, and when the first and the last one came."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.start = self.first = self.last = time.perf_counter()
        self.n_first = 0  # tokens in the first burst
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        if not self._prompt_seen:  # generate() begins with the prompt
            self._prompt_seen = True
            return
        self.last = time.perf_counter()
        burst = value.reshape(-1).tolist()
        if not self.tokens:
            self.first, self.n_first = self.last, len(burst)
        self.tokens += burst

    def end(self) -> None:
        """Nothing is left to flush."""

    def answer(self) -> Answer:
        return Answer(
            tokens=tuple(self.tokens),
            n_timed=len(self.tokens) - self.n_first,
            t_decode=self.last - self.first,
            t_first=self.first - self.start,
            t_total=self.last - self.start,
        )


class Transformers:
    """generate() of transformers, on the CPU; its caches live for one answer."""

    def __init__(
        self,
        model: Path,
        *,
        n_threads: int,
        sampling: Mapping[str, Any],
        end_tokens: Sequence[int],
        ignore_eos: bool = False,
        lookup: int = 0,
        assistant: Path | None = None,
        dtype: str = "float32",
        name: str = "transformers",
    ) -> None:
        """lookup: tokens that prompt lookup drafts at once, 0 = none. assistant: a GGUF that drafts.

        sampling: our settings by name. end_tokens: they end an answer, or are forbidden with ignore_eos.
        """
        if dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        self._torch, library = _module("torch"), _module("transformers")
        self._name, self._n_threads = name, n_threads
        self._sampling = sampling_of(sampling)
        settings = _generation(self._sampling)
        # without it a batch of one has no padding, and generate() warns
        settings |= {"pad_token_id": next(iter(end_tokens), 0)}
        ends = list(end_tokens) or None
        settings |= {"suppress_tokens": ends} if ignore_eos else {"eos_token_id": ends}
        self._options: dict[str, Any] = {"prompt_lookup_num_tokens": lookup} if lookup else {}
        config = library.GenerationConfig(**settings)
        self._model = self._load(library, model, dtype)
        # in place of what the file says: generate() fills gaps of a config in a call from the model's
        self._model.generation_config = config
        if assistant is not None:
            self._options["assistant_model"] = self._load(library, assistant, dtype)

    def _load(self, library: Any, path: Path, dtype: str) -> Any:
        try:
            model = library.AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                dtype=getattr(self._torch, dtype),
                local_files_only=True,
            )
        except (ImportError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
            raise BenchError(f"transformers cannot load {path}: {error}; leave that peer out") from error
        return model.eval()

    @property
    def name(self) -> str:
        return self._name

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        if self._model is None:
            raise BenchError(f"{self.name} is closed; open a new one")
        ids = self._torch.tensor([list(prompt)])
        options = {**self._options, "max_new_tokens": max_tokens}
        with self._threads(), self._seeded():
            clock = _Clock()
            mask = self._torch.ones_like(ids)
            try:
                self._model.generate(ids, attention_mask=mask, streamer=clock, **options)
            except (RuntimeError, ValueError) as error:
                raise BenchError(f"{self.name} failed: {error}; drop this peer") from error
        return clock.answer()

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Only here: torch's pool and llama.cpp's would otherwise fight over the cores."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(self._n_threads)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        with self._torch.random.fork_rng(devices=[]):
            if self._sampling.seed is None:
                self._torch.seed()
            else:
                self._torch.manual_seed(self._sampling.seed)
            yield

    def close(self) -> None:
        """Free the weights; safe to call twice."""
        self._model, self._options = None, {}


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = "pip install transformers torch"
        raise BenchError(f"the peer transformers needs {name} ({error}): {hint}") from error


def _generation(sampling: Sampling) -> dict[str, Any]:
    """The fields of a GenerationConfig; a rule that is switched off is not made."""
    penalties = ("repeat_penalty", "frequency_penalty", "presence_penalty")
    refuse(sampling, "transformers", *penalties, "logit_bias")
    if sampling.greedy:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p or None,
        "typical_p": sampling.typical_p,
    }
