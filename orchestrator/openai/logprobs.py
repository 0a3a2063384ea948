"""Log-probabilities in OpenAI's two shapes: four parallel lists for completions, one record for each token
of chats.

A token belongs to the text in which its first character appears: those of a stop string, and the token
that ended the text, have no place in it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from orchestrator.logprobs import TokenLogprobs
from orchestrator.text import Decoder

LEAST = -9999.0  # OpenAI's number for what is impossible: JSON knows no infinity


class Vocabulary(Protocol):
    """What tokens are called (adapters.tokenizer.Tokenizer)."""

    def piece(self, token: int) -> bytes: ...
    def name(self, token: int) -> str: ...
    def is_end(self, token: int) -> bool: ...
    def decoder(self) -> Decoder: ...


class Placed(NamedTuple):
    """A token's log-probabilities and where in the text its characters begin."""

    found: TokenLogprobs
    start: int


class Placement:
    """Finds the place of tokens in a text that comes out later than they do, or not at all."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._decoder = vocabulary, vocabulary.decoder()
        self._waiting: list[Placed] = []
        self._end = 0

    def push(self, found: Sequence[TokenLogprobs]) -> None:
        """More tokens have been emitted."""
        for each in found:
            if not self._vocabulary.is_end(each.token):
                self._end += len(text := self._decoder.push(each.token))
                # bytes before it that never became a character come out together with it
                own = _whole(self._vocabulary.piece(each.token))
                start = self._end - len(text if own is None else own)
                self._waiting.append(Placed(each, start))

    def take(self, length: int, *, rest: bool = False) -> list[Placed]:
        """The tokens that begin before `length` characters of text; rest: and all that are left."""
        n = len(self._waiting)
        if not rest:
            n = next((i for i, placed in enumerate(self._waiting) if placed.start >= length), n)
        taken, self._waiting = self._waiting[:n], self._waiting[n:]
        return taken


def shown(vocabulary: Vocabulary, token: int) -> str:
    """A token as text: parts of characters by their bytes, as OpenAI writes them, control tokens by name."""
    piece = vocabulary.piece(token)
    if not piece:
        return vocabulary.name(token)
    text = _whole(piece)
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece) if text is None else text


def _whole(piece: bytes) -> str | None:
    """The text of bytes that are whole characters."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


def completion_logprobs(vocabulary: Vocabulary, placed: Sequence[Placed], offset: int) -> dict[str, Any]:
    """The shape of completions; offset: of the text, counted in characters from the prompt's first."""
    tops = []
    for found, _ in placed:
        # OpenAI's list holds the token itself, too, however unlikely it was
        top = {shown(vocabulary, token): _finite(logprob) for token, logprob in found.top}
        tops.append({**top, shown(vocabulary, found.token): _finite(found.logprob)})
    return {
        "tokens": [shown(vocabulary, found.token) for found, _ in placed],
        "text_offset": [offset + start for _, start in placed],
        "token_logprobs": [_finite(found.logprob) for found, _ in placed],
        "top_logprobs": tops,
    }


def chat_logprobs(vocabulary: Vocabulary, placed: Sequence[Placed]) -> dict[str, Any]:
    """The shape of chats."""

    def record(token: int, logprob: float) -> dict[str, Any]:
        text, piece = shown(vocabulary, token), vocabulary.piece(token)
        return {"token": text, "logprob": _finite(logprob), "bytes": list(piece or text.encode())}

    content = [
        {**record(found.token, found.logprob), "top_logprobs": [record(*other) for other in found.top]}
        for found, _ in placed
    ]
    return {"content": content, "refusal": None}


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST
