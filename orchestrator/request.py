"""What one call asks for, and what it gets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from adapters.settings import require
from adapters.target import FloatArray, IntArray
from orchestrator.config import CALL_OPTIONS, override
from orchestrator.draft import Step
from orchestrator.errors import ConfigError
from orchestrator.logprobs import TokenLogprobs
from orchestrator.planner import Decision
from orchestrator.sampling import Sampling
from orchestrator.stats import Stats
from orchestrator.suffix.references import References

LogitsProcessor = Callable[[IntArray, FloatArray], FloatArray]
OnToken = Callable[[int, str], "bool | None"]


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one call.

    max_tokens: tokens emitted at most. stop: strings that end the text and are not part of it.
    stop_tokens: ids that end it, besides the model's own end tokens. on_token(id, text): called for
    each token with the text that became certain; False stops. speculate=False: plain decoding.
    grammar: GBNF; json_schema: a JSON schema, as text or object. references: documents that the answer may
    quote: texts, texts by name, or what `Engine.prepare` made of them. explain(decision, step): called
    after each round with what the planner decided. logprobs: with each token its log-probability and so many
    of the likeliest alternatives (0 = only its own), None = not computed. logits_processor(ids, logits): all
    ids so far and logits [n_vocab] that it may change; what it returns is chosen from.
    """

    sampling: Sampling
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    on_token: OnToken | None = None
    speculate: bool = True
    grammar: str | None = None
    json_schema: str | Mapping[str, Any] | None = None
    references: References | Mapping[str, str] | Sequence[str] | None = None
    explain: Callable[[Decision, Step], None] | None = None
    logprobs: int | None = None
    logits_processor: LogitsProcessor | None = None

    def __post_init__(self) -> None:
        require(self.max_tokens >= 0, f"max_tokens must be >= 0, got {self.max_tokens}")
        require(all(self.stop), "a stop string must not be empty")
        require(
            not isinstance(self.references, str),
            "references must be several texts; put a single one into a list",
        )
        require(
            self.grammar is None or self.json_schema is None,
            "give either grammar or json_schema, not both",
        )
        require(
            self.logits_processor is None or callable(self.logits_processor),
            f"logits_processor must be callable with ids and logits, got {self.logits_processor!r}",
        )
        require(
            self.logprobs is None or (type(self.logprobs) is int and self.logprobs >= 0),
            f"logprobs must be the number of alternatives to each token (0 = none), got {self.logprobs!r}",
        )


def request_of(sampling: Sampling, options: Mapping[str, Any]) -> Request:
    """The request that a call's flat options describe; what they leave out of sampling is `sampling`'s."""
    call = {name: value for name, value in options.items() if name in CALL_OPTIONS}
    changes = {name: value for name, value in options.items() if name not in CALL_OPTIONS}
    if isinstance(call.get("stop"), str):
        call["stop"] = (call["stop"],)
    changed = override(sampling, changes)
    try:
        for name in ("stop", "stop_tokens"):
            if name in call:
                call[name] = tuple(call[name])
        return Request(changed, **call)
    except TypeError as error:
        raise ConfigError(f"an option of the call has a value of the wrong type: {error}") from error


class Chunk(NamedTuple):
    """A piece of a stream: the text that a round made certain, the round itself, and what the target thought
    of each of its tokens, where the request asks for that."""

    text: str
    step: Step | None
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.step.tokens if self.step else ()


@dataclass(frozen=True, slots=True)
class Result:
    """A finished text.

    tokens: everything emitted, the token that ended the text included. finish_reason: `stop` (an end
    token or a stop string), `length` (budget or context used up), `cancelled`. logprobs: one for each token
    where the request asks for them, else empty.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    stats: Stats
    logprobs: tuple[TokenLogprobs, ...] = ()
