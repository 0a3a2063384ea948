"""Documents that a head learns from as they stand, in pieces: nobody has to answer anything.

Knows files and tokens. A piece takes the place of an answer whose prompt is the BOS, or nothing; what the
target makes of it is not its business.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from adapters.errors import ConfigError
from adapters.settings import require
from adapters.tokenizer import Tokenizer
from heads.training.answers import Answer
from heads.training.prompts import read_texts

SUFFIXES = (".txt", ".md", ".jsonl", ".ndjson")
SHORTEST = 16  # tokens: what is shorter teaches next to nothing
_CHARS = 16  # read at once for each token of a piece, so that few pieces are the short end of a stretch


def document_files(paths: Sequence[Path]) -> list[Path]:
    """The files that `paths` name: a folder stands for all of its .txt, .md and .jsonl files, .gz too."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and _is_document(file))
            require(bool(inside), f"{path} holds no {', '.join(SUFFIXES)} file; name files or another folder")
            files += inside
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _is_document(file: Path) -> bool:
    return file.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def pieces(
    tokenizer: Tokenizer, files: Sequence[Path], *, max_length: int, shortest: int = SHORTEST
) -> Iterator[Answer]:
    """The files' texts, `shortest` to `max_length` tokens each, behind a BOS where the vocabulary wants one.

    What looks like a control token in a document is plain text. Raises ConfigError for a file that cannot be
    read; at once for a max_length without room, and where nothing in all of them is long enough.
    """
    bos = [tokenizer.bos] if tokenizer.add_bos and tokenizer.bos >= 0 else []
    room = max_length - len(bos)
    require(
        room >= shortest, f"max_length must be at least {shortest + len(bos)} for texts, got {max_length}"
    )
    found = _pieces(tokenizer, files, bos, room, shortest)
    first = next(found, None)
    if first is None:
        names = ", ".join(str(file) for file in files[:3]) + (" ..." if len(files) > 3 else "")
        raise ConfigError(f"no text of {shortest} tokens or more in {names}")
    return itertools.chain([first], found)


def _pieces(
    tokenizer: Tokenizer, files: Sequence[Path], bos: list[int], room: int, shortest: int
) -> Iterator[Answer]:
    for file in files:
        for text in read_texts(file, n_chars=_CHARS * room):
            tokens = tokenizer.encode(text, add_special=False, parse_special=False)
            for start in range(0, len(tokens) - shortest + 1, room):
                yield Answer.as_it_stands(bos, tokens[start : start + room])
