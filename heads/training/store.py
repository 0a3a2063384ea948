"""Features on disk: what the target made of each text, in the order in which it came.

Three files in a folder: `rows.bin` (bfloat16: the taps of each token and its post-norm row), `tokens.bin`
(int32) and `index.jsonl` (one text a line). A text counts once its line is written, so that a kill loses the
text in hand and nothing else. Knows files; nothing of targets or training.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapters.errors import ConfigError, HeadError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Text:
    """One stored text: where its tokens begin in the files, how many they are, and how many are the
    prompt's."""

    key: str
    start: int
    n: int
    n_prompt: int


class FeatureStore:
    """Texts with `n_features + n_last` numbers for each token."""

    def __init__(self, folder: Path, n_features: int, n_last: int, meta: dict[str, object]) -> None:
        """Open or begin the store; meta: what the features depend on, which must be the same when it goes
        on."""
        self.folder, self.n_features, self.n_last = folder, n_features, n_last
        folder.mkdir(parents=True, exist_ok=True)
        self._check_meta({"format": FORMAT, "features": n_features, "last": n_last, **meta})
        self.texts = self._read_index()
        self._known = {text.key for text in self.texts}
        self.n_tokens = sum(text.n for text in self.texts)
        if self._row_bytes:
            self._cut_back("rows.bin", self._row_bytes)
        self._cut_back("tokens.bin", 4)

    def _check_meta(self, meta: dict[str, object]) -> None:
        path = self.folder / "meta.json"
        text = json.dumps(meta, sort_keys=True)
        if not path.exists():
            path.write_text(text, "utf-8")
        elif path.read_text("utf-8") != text:
            raise ConfigError(
                f"{self.folder} holds features of another target, of other layers or another length; "
                "give another folder, or delete this one"
            )

    def _read_index(self) -> list[Text]:
        """The texts whose lines are whole; a torn last line is cut off."""
        path = self.folder / "index.jsonl"
        if not path.exists():
            return []
        texts, good = list[Text](), 0
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            texts.append(Text(**json.loads(line)))
            good += len(line)
        os.truncate(path, good)
        return texts

    @property
    def _row_bytes(self) -> int:
        return 2 * (self.n_features + self.n_last)

    def _cut_back(self, name: str, size: int) -> None:
        """Drop what the index does not know of."""
        path = self.folder / name
        path.touch()
        if path.stat().st_size < self.n_tokens * size:
            raise HeadError(f"{path} is shorter than its index says; delete {self.folder} and begin again")
        os.truncate(path, self.n_tokens * size)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_bytes(self) -> int:
        return self.n_tokens * (self._row_bytes + 4)

    def add(self, key: str, n_prompt: int, tokens: list[int], rows: Tensor) -> None:
        """Append a text: rows `[n, n_features + n_last]` bfloat16, one for each of its tokens."""
        assert rows.shape == (len(tokens), self.n_features + self.n_last)
        self._add(key, n_prompt, tokens, rows.contiguous().view(torch.int16).numpy().tobytes())

    def _add(self, key: str, n_prompt: int, tokens: list[int], rows: bytes) -> None:
        text = Text(key, self.n_tokens, len(tokens), n_prompt)
        line = {"key": key, "start": text.start, "n": text.n, "n_prompt": n_prompt}
        try:
            if rows:
                self._append("rows.bin", rows)
            self._append("tokens.bin", np.asarray(tokens, np.int32).tobytes())
            self._append("index.jsonl", json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise HeadError(
                f"{self.folder}: cannot be written ({error.strerror}); {len(self)} texts are kept: "
                "make room and run the same command again"
            ) from error
        self.texts.append(text)
        self._known.add(key)
        self.n_tokens += text.n

    def _append(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def read(self, text: Text) -> tuple[Tensor, Tensor]:
        """(tokens `[n]` int64, rows `[n, n_features + n_last]` bfloat16) of a text."""
        width = self.n_features + self.n_last
        offset = self._row_bytes * text.start
        rows = np.fromfile(self.folder / "rows.bin", np.int16, text.n * width, offset=offset)
        return self._tokens(text), torch.from_numpy(rows).view(torch.bfloat16).view(-1, width)

    def tokens(self) -> Iterator[tuple[Text, Tensor]]:
        """Every text's tokens, without its rows."""
        for text in self.texts:
            yield text, self._tokens(text)

    def _tokens(self, text: Text) -> Tensor:
        found = np.fromfile(self.folder / "tokens.bin", np.int32, text.n, offset=4 * text.start)
        return torch.from_numpy(found.astype(np.int64))
