"""What the target is asked: prompts and texts out of files, or user turns that the model writes itself.

Knows file formats and chat templates; nothing of the answers. Files may be gzipped (.gz), and are read
as they are used, so their size does not matter.
"""

import contextlib
import gzip
import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adapters.chat import ChatTemplate
from adapters.errors import ChatTemplateError, ConfigError
from adapters.llama_crowd import Crowd
from adapters.settings import require
from adapters.target import FloatArray
from adapters.tokenizer import Tokenizer

logger = logging.getLogger("pilotfish.training")

_PLACEHOLDER = "PLACEHOLDERpilotfishPLACEHOLDER"
_TRIES = 4  # attempts at a user turn, for each that is wanted


# -- files ---------------------------------------------------------------------------------------


def read_prompts(path: str | Path) -> Iterator[str]:
    """The prompts of a file, in its order.

    .jsonl: an object a line, with "prompt", "turns" (the first is taken) or "messages" (the first of the
    role "user"). Any other file: each line is a prompt. Raises ConfigError, with the line's number.
    """
    for where, line in _lines(Path(path)):
        if _is_jsonl(path):
            yield _prompt_of(_object(line, where), where)
        else:
            yield line.strip()


def read_texts(path: str | Path, *, n_chars: int = 4000) -> Iterator[str]:
    """Stretches of a file's text, to be learnt from as they are.

    .jsonl: the "text" of each line's object. Any other file: its lines, put together to `n_chars`
    characters or little more. Raises ConfigError, with the line's number.
    """
    require(n_chars >= 1, f"n_chars must be at least 1, got {n_chars}")
    stretch: list[str] = []
    size = 0
    for where, line in _lines(Path(path), blank=True):
        if _is_jsonl(path):
            if line.strip():
                yield _text(_object(line, where).get("text"), '"text"', where)
            continue
        stretch.append(line)
        size += len(line)
        if size >= n_chars:
            yield "".join(stretch).strip()
            stretch, size = [], 0
    if "".join(stretch).strip():
        yield "".join(stretch).strip()


def _is_jsonl(path: str | Path) -> bool:
    name = str(path).lower().removesuffix(".gz")
    return name.endswith((".jsonl", ".ndjson"))


def _lines(path: Path, *, blank: bool = False) -> Iterator[tuple[str, str]]:
    """(the file and the line's number, the line); blank ones where they are wanted."""
    number = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            for number, data in enumerate(file, 1):
                line = data.decode("utf-8-sig" if number == 1 else "utf-8")
                if blank or line.strip():
                    yield f"{path}, line {number}", line
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path}, after line {number}: damaged gzip data ({error})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({error}); a .jsonl file has one object a line") from error
    require(
        isinstance(found, dict), f'{where}: an object like {{"prompt": "..."}} is needed, got {line[:60]!r}'
    )
    result: dict[str, Any] = found
    return result


def _prompt_of(found: dict[str, Any], where: str) -> str:
    if "prompt" in found:
        return _text(found["prompt"], '"prompt"', where)
    if "turns" in found:
        turns = found["turns"]
        return _text(turns[0] if isinstance(turns, list) and turns else None, 'the first of "turns"', where)
    if "messages" in found:
        return _text(_of_user(found["messages"]), 'the first "content" of the user in "messages"', where)
    raise ConfigError(f'{where}: no "prompt", "turns" or "messages" among {sorted(found)}')


def _of_user(messages: object) -> object:
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("role") == "user":
            return message.get("content")
    return None


def _text(found: object, what: str, where: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise ConfigError(f"{where}: {what} must be a text that is not empty, got {found!r}")
    return found


# -- the model asks itself -------------------------------------------------------------------------


class Draws:
    """Samples from softmax(logits / temperature): a `choose` for Crowd.answers.

    The same seed, key and position draw with the same number, whoever else is answered meanwhile.
    """

    def __init__(self, seed: int, temperature: float = 1.0) -> None:
        require(0 <= seed < 2**64, f"seed must be a 64-bit number >= 0, got {seed}")
        require(0 < temperature < float("inf"), f"temperature must be above 0, got {temperature}")
        self.seed, self.temperature = seed, temperature

    def __call__(self, key: object, position: int, logits: FloatArray) -> int:
        u = np.random.default_rng([self.seed, zlib.crc32(str(key).encode()), position]).random()
        mass = np.cumsum(np.exp((logits - logits.max()) / self.temperature), dtype=np.float64)
        # u < 1, but the product may round up to the whole mass
        return min(int(np.searchsorted(mass, u * mass[-1], side="right")), int(np.argmax(mass)))


def self_prompts(
    crowd: Crowd,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    n: int,
    *,
    max_tokens: int = 256,
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[str]:
    """Up to `n` different user turns that the model writes, as they are finished.

    The chat template is opened for the user's turn and sampled until the turn ends. What is not ended
    after `max_tokens`, blank, or there already does not count; after four attempts for each wanted turn
    it is left at fewer, and logged. Raises ChatTemplateError where the template has no such opening.
    """
    require(n >= 1, f"n must be at least 1, got {n}")
    opening, closing = _around_user_turn(template)
    start = tokenizer.encode_rendered(opening)
    ends = _end_tokens(tokenizer, closing)
    seen: set[str] = set()
    turns = crowd.answers(
        ((attempt, start) for attempt in range(n * _TRIES)),
        max_tokens=max_tokens,
        is_end=lambda token: token in ends or tokenizer.is_end(token),
        choose=Draws(seed, temperature),
    )
    with contextlib.closing(turns):
        for _, tokens in turns:
            text = _turn(tokenizer, tokens, closing, ends)
            if text and text not in seen:
                seen.add(text)
                yield text
            if len(seen) == n:
                return
    logger.warning("of %d user turns that the model was to write, %d came out", n, len(seen))


def _around_user_turn(template: ChatTemplate) -> tuple[str, str]:
    """The prompt before what a user says, and the mark after it."""
    opening, found, rest = template.render([{"role": "user", "content": _PLACEHOLDER}]).partition(
        _PLACEHOLDER
    )
    if not found or not opening.strip() or not rest.strip():
        raise ChatTemplateError(
            "the chat template does not show where a user's turn begins and ends, so the model cannot write "
            "one; give prompts in a file"
        )
    return opening, rest.strip().splitlines()[0]


def _end_tokens(tokenizer: Tokenizer, closing: str) -> frozenset[int]:
    """The control token that `closing` begins with, if it does: not all of them end a generation."""
    first = tokenizer.encode(closing, add_special=False)[:1]
    return frozenset(token for token in first if not tokenizer.piece(token))


def _turn(tokenizer: Tokenizer, tokens: list[int], closing: str, ends: frozenset[int]) -> str:
    """The user's text in `tokens`; empty where it is not ended, or runs into another turn."""
    ended = bool(tokens) and (tokens[-1] in ends or tokenizer.is_end(tokens[-1]))
    said = tokens[:-1] if ended else tokens
    if not all(tokenizer.piece(token) for token in said):
        return ""  # a control token within
    text, found, _ = tokenizer.decode(said).partition(closing)
    return text.strip() if ended or found else ""
