"""One configuration of our engine as an entrant."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from orchestrator.bench.answer import Answer
from orchestrator.bench.configuration import FREE, Configuration
from orchestrator.engine import Engine


class EngineEntrant:
    """Answers with an engine whose caches are emptied before every prompt."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        ignore_eos: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """ignore_eos: end tokens are forbidden, so that every text uses up its budget."""
        self.name, self.engine, self._clock = name, engine, clock
        self.options = _without_end(engine) if ignore_eos else {}

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        """Every token's decode is timed: the prompt's last token is decoded with the first round."""
        self.engine.forget()
        begun = self._clock()
        result = self.engine.generate(prompt, max_tokens=max_tokens, **self.options)
        stats = result.stats
        return Answer(
            result.tokens,
            n_timed=stats.n_tokens,
            t_decode=stats.t_decode,
            t_first=stats.t_first,
            t_total=self._clock() - begun,
            n_drafted=stats.n_drafted,
            n_accepted=stats.n_accepted,
            stats=stats,
        )

    def close(self) -> None:
        self.engine.close()


def open_engine(configuration: Configuration, target: Any) -> Engine:
    """The engine of `configuration` on `target`: a loaded model or a file."""
    draft: Any = configuration.draft
    method = configuration.method
    if method == FREE:
        draft, method = _free, "auto"
    return Engine.load(target, draft, method, head=configuration.head, **configuration.settings)


def _free(tokens: Sequence[int], budget: int) -> list[int]:
    """Guesses that cost nothing and mean nothing."""
    return [tokens[-1]] * budget


def _without_end(engine: Engine) -> dict[str, Any]:
    bias = dict(engine.config.sampling.logit_bias)
    return {"logit_bias": bias | dict.fromkeys(engine.tokenizer.end_tokens, float("-inf"))}
