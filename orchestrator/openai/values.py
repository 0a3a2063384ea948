"""Single values of a request, checked: what they must be, and what they are in the engine's words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.target import FloatArray, IntArray
from orchestrator.openai.error import ParameterError
from orchestrator.suffix.references import References

UNLIMITED = 1 << 30  # tokens: as many as the context holds
MOST_ALTERNATIVES = 100


def flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise ParameterError(name, f"must be true or false, got {shown(value)}")
    return value


def number(given: Mapping[str, Any], name: str) -> float:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ParameterError(name, f"must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise ParameterError(name, f"must be a number of common size, got {shown(value)}") from error


def integer(given: Mapping[str, Any], name: str) -> int:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ParameterError(name, f"must be a whole number, got {shown(value)}")
    return value


def alternatives(given: Mapping[str, Any], name: str) -> int:
    wanted = integer({name: 0, **given}, name)
    if not 0 <= wanted <= MOST_ALTERNATIVES:
        raise ParameterError(name, f"must be between 0 and {MOST_ALTERNATIVES}, got {wanted}")
    return wanted


def max_tokens(number: int) -> int:
    if number < -1:
        raise ParameterError("max_tokens", f"must be >= 0, or -1 for all that fit, got {number}")
    return UNLIMITED if number < 0 else min(number, UNLIMITED)


def seed(seed: int) -> int | None:
    """-1 is llama.cpp's word for a fresh one; other negative ones are numbers like any other."""
    return None if seed == -1 else seed % (1 << 64)


def stop(stop: Any) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) and text for text in stops):
        raise ParameterError("stop", f"must be a text or several, none of them empty, got {shown(stop)}")
    return tuple(stops)


def logit_bias(bias: Any) -> dict[int, float]:
    try:
        read = {int(token): float(value) for token, value in bias.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        read = None
    if read is None or any(math.isnan(value) or value == math.inf for value in read.values()):
        raise ParameterError("logit_bias", f"must map token ids to numbers, got {shown(bias)}")
    return read


def grammar(grammar: Any) -> str:
    text = getattr(grammar, "_grammar", grammar)  # llama-cpp-python's LlamaGrammar holds its text there
    if not isinstance(text, str) or not _is_unicode(text):
        raise ParameterError("grammar", f"must be GBNF as text, got {shown(grammar)}")
    return text


def _is_unicode(text: str) -> bool:
    """JSON may hold halves of characters, which no UTF-8 can."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def logits_processor(processor: Any) -> Any:
    """A function of ids and logits, or several, one after another; no request over a wire holds one."""
    several = [processor] if callable(processor) else processor
    if not isinstance(several, list | tuple) or not all(callable(each) for each in several):
        raise ParameterError(
            "logits_processor", f"must be callable with ids and logits, got {shown(processor)}"
        )

    def process(ids: IntArray, logits: FloatArray) -> FloatArray:
        for each in several:
            logits = each(ids, logits)
        return logits

    return process if several else None


def references(references: Any) -> Any:
    """Texts, texts by name, or what `Engine.prepare` made of them."""
    texts = list(references.values()) if isinstance(references, Mapping) else references
    if isinstance(texts, References) or (
        isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)
    ):
        return references
    raise ParameterError("references", "must be a list of texts, or texts by name")


def prediction(prediction: Any) -> list[str]:
    """OpenAI's predicted outputs: a text that the answer will largely repeat."""
    content = prediction.get("content") if isinstance(prediction, Mapping) else None
    parts = [content] if isinstance(content, str) else content
    if isinstance(parts, Sequence):
        read = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        texts = [text for text in read if isinstance(text, str)]
        if texts and len(texts) == len(read):
            return texts
    raise ParameterError("prediction", "must be {'type': 'content', 'content': a text}")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
