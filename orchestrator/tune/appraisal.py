"""What several files of one model are worth: size, speed, curve and perplexity, side by side.

One file is open at a time and they take turns, so that memory holds one and a slow minute hits all.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters.gguf_file import read_gguf
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings
from adapters.tokenizer import Tokenizer
from orchestrator.cost.timing import filler, score_ms, typical
from orchestrator.tune.choice import ACCEPTANCE
from orchestrator.tune.perplexity import WINDOW, perplexity
from orchestrator.tune.sample import MAX_TOKENS
from orchestrator.tune.speed import Best, best_draft, by_rows
from orchestrator.tune.timing import settled

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
N_PAST = 64
TURNS, PASSES = 3, 4


@dataclass(slots=True)
class Appraisal:
    """One file. ms: one decode, for each of ROWS. perplexity: on the first `n_tokens` of the sample."""

    name: str
    path: Path
    bytes: int
    ms: list[float] = field(default_factory=list)
    perplexity: float = 0.0
    n_tokens: int = 0

    @property
    def plain_tok_s(self) -> float:
        return 1e3 / self.ms[0]

    def ratio(self, rows: int) -> float:
        """A decode of so many rows against one of one."""
        return self.ms[ROWS.index(rows)] / self.ms[0]

    @property
    def best(self) -> Best:
        """The best draft length at the acceptance that types are chosen for."""
        return best_draft(by_rows(ROWS, self.ms), ACCEPTANCE)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bytes": self.bytes,
            "rows": ROWS,
            "ms": self.ms,
            "plain_tok_s": self.plain_tok_s,
            "speculative": asdict(self.best),
            "perplexity": self.perplexity,
            "n_tokens": self.n_tokens,
        }


def appraise(
    files: Sequence[tuple[str, Path]],
    text: str,
    model: ModelSettings,
    context: ContextSettings,
    report: Callable[[str], None],
) -> list[Appraisal]:
    """Measure each (name, file) with these settings; the perplexity is that of the sample `text`."""
    found = [Appraisal(name, path, read_gguf(path).bytes) for name, path in files]
    samples: list[list[list[float]]] = [[[] for _ in ROWS] for _ in files]
    settings = replace(context, n_ctx=WINDOW, max_rows=64, n_seq_max=1)
    for turn in range(TURNS):
        for one, times in zip(found, samples, strict=True):
            report(f"measuring {one.name}, turn {turn + 1} of {TURNS}")
            _visit(one, times, LlamaModel(one.path, settled(model)), settings, text if turn == 0 else "")
    for one, times in zip(found, samples, strict=True):
        one.ms = [typical(row_times) for row_times in times]
    return found


def _visit(
    one: Appraisal, times: list[list[float]], model: LlamaModel, settings: ContextSettings, text: str
) -> None:
    try:
        context = LlamaContext(model, settings)
        if text:
            _read(one, context, Tokenizer(model), text)
        context.truncate(0)
        context.prefill(filler(N_PAST + 1, model.n_vocab))
        for _ in range(PASSES):
            for n, row_times in zip(ROWS, times, strict=True):
                score_ms(context, n)  # builds the graph, which the next one uses again
                row_times.append(score_ms(context, n))
    finally:
        model.close()


def _read(one: Appraisal, context: LlamaContext, tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text, add_special=False, parse_special=False)[:MAX_TOKENS]
    one.n_tokens = len(tokens)
    one.perplexity = perplexity(context, tokens, bos=tokenizer.bos if tokenizer.add_bos else None)
