"""Answers of a target, one to a line of a file that only grows: a run that was killed goes on from it.

Knows token ids and files; nothing of who answers or what the answers are for.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from adapters.errors import AdapterError

_AS_IT_STANDS = "text-"


def key_of(prompt: Sequence[int]) -> str:
    """What tells prompts apart: a hash of their tokens, 32 hexadecimal digits."""
    return hashlib.sha256(np.asarray(prompt, "<i4").tobytes()).hexdigest()[:32]


def is_document(key: str) -> bool:
    """Whether it is the key of a text that nobody answered."""
    return key.startswith(_AS_IT_STANDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt's tokens and the tokens that the target made of it; no answer where there was no room."""

    key: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @classmethod
    def to(cls, prompt: Sequence[int], answer: Sequence[int]) -> "Answer":
        """With the key that belongs to `prompt`."""
        return cls(key_of(prompt), tuple(map(int, prompt)), tuple(map(int, answer)))

    @classmethod
    def as_it_stands(cls, before: Sequence[int], text: Sequence[int]) -> "Answer":
        """A text in an answer's place, `before` in the prompt's; its key is that of all its tokens."""
        key = _AS_IT_STANDS + key_of([*before, *text])
        return cls(key, tuple(map(int, before)), tuple(map(int, text)))


class AnswerFile:
    """Answers at `path`, at most one to a prompt; for one writer at a time.

        with AnswerFile(path) as file:
            if key_of(prompt) not in file:
                file.add(Answer.to(prompt, answer))

    What `add` has returned from outlives the process. A line without an end, which a killed run may
    leave, is cut off when the file is opened.
    """

    def __init__(self, path: str | Path) -> None:
        """Open or create `path` and its folder; raises AdapterError for what is no file of answers."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # without a buffer, nothing is left over that closing would try to write again
            self._file = open(self.path, "ab", buffering=0)
        except OSError as error:
            raise AdapterError(f"{self.path}: cannot be opened for answers: {error.strerror}") from error
        try:
            self._lock()
            self._end = self._whole_lines()
            self._keys = {answer.key for answer in self}
            self._file.truncate(self._end)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AdapterError(f"{self.path}: another run is writing to it; wait for its end") from error

    def _whole_lines(self) -> int:
        """Bytes up to the last end of a line."""
        with open(self.path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    return start + at + 1
                end = start
        return 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Answer]:
        """Each answer that was there when the iteration began, from the file."""
        end, at = self._end, 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                at += len(line)
                if at > end:
                    return
                yield self._parsed(line, number)

    def _parsed(self, line: bytes, number: int) -> Answer:
        try:
            found: Any = json.loads(line)
            answer = Answer.to(found["prompt"], found["answer"])
            intact = answer.key == found["key"]
        except (ValueError, TypeError, KeyError, OverflowError):
            intact = False
        if not intact:
            raise AdapterError(
                f"{self.path}: line {number} is no answer, or a damaged one; delete that line, or the file "
                "to have everything answered again"
            )
        return answer

    def add(self, answer: Answer) -> bool:
        """Write `answer`, unless its prompt has one; whether it was written.

        Raises AdapterError where the disk is full; the file then holds the answers before it.
        """
        if answer.key in self._keys:
            return False
        line = {"key": answer.key, "prompt": answer.prompt, "answer": answer.answer}
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.truncate(self._end)  # a write that Ctrl-C broke may have left something
            self._write(data)
        except OSError as error:
            raise AdapterError(
                f"{self.path}: could not write an answer: {error.strerror}; the {len(self)} before it are "
                "kept. Free some space and start again: it goes on from there"
            ) from error
        self._end += len(data)
        self._keys.add(answer.key)
        return True

    def _write(self, data: bytes) -> None:
        while data:  # a nearly full disk takes a part
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
