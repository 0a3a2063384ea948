"""A request being answered: from a call to an engine's stream, and from that to replies."""

from collections.abc import Iterator

from orchestrator.engine import Engine
from orchestrator.openai.error import ParameterError, PromptTooLong
from orchestrator.openai.parameters import Call
from orchestrator.openai.replies import Replies, Reply
from orchestrator.request import Result
from orchestrator.stream import Stream


class Answer:
    """The answer to one call; nothing is decoded before `whole` or `chunks` is read.

    `stream` is the engine's own: `stream.cancel()` ends it, `stream.result` is what there is so far.
    """

    def __init__(self, engine: Engine, call: Call, *, model: str = "", details: bool = False) -> None:
        """model: the name that replies carry where the call has none. details: see `Replies`.

        Raises PilotfishError for what this engine cannot do, and PromptTooLong where no token would fit.
        """
        self.call = call
        _check_bias(engine, call)
        tokens = _tokens(engine, call)
        options = {**call.options, "max_tokens": _budget(engine, len(tokens), call.options["max_tokens"])}
        self.stream: Stream = engine.stream(tokens, **options)
        prompt = "" if call.chat else _text(engine, call)
        self.replies = Replies(call, engine.tokenizer, model=model, prompt=prompt, details=details)

    def whole(self) -> Reply:
        """The reply, once the text is finished."""
        return self.replies.whole(self.stream.finish())

    def chunks(self) -> Iterator[Reply]:
        """The replies of a stream, which may be dropped anywhere."""
        first = self.replies.first()
        if first:
            yield first
        for chunk in self.stream:
            reply = self.replies.chunk(chunk)
            if reply:
                yield reply
        yield from self.replies.last(self.result)

    @property
    def result(self) -> Result:
        """What there is so far."""
        return self.stream.result


def _tokens(engine: Engine, call: Call) -> list[int]:
    if call.chat:
        return engine.chat_prompt(call.messages, **call.tools.variables)
    return engine.tokenizer.encode(call.prompt) if isinstance(call.prompt, str) else list(call.prompt)


def _check_bias(engine: Engine, call: Call) -> None:
    n_vocab = engine.model.n_vocab
    for token in call.options.get("logit_bias", ()):
        if not 0 <= token < n_vocab:
            raise ParameterError("logit_bias", f"must name tokens below {n_vocab}, got {token}")


def _budget(engine: Engine, n_prompt: int, max_tokens: int) -> int:
    """No more than the context holds beside the prompt."""
    n_ctx = engine.target.capabilities.n_ctx
    if n_prompt >= n_ctx:
        raise PromptTooLong(
            f"requested tokens ({n_prompt}) exceed context window of {n_ctx}; "
            "shorten the prompt or load with a larger n_ctx"
        )
    return min(max_tokens, n_ctx - n_prompt)


def _text(engine: Engine, call: Call) -> str:
    return call.prompt if isinstance(call.prompt, str) else engine.tokenizer.decode(call.prompt)
