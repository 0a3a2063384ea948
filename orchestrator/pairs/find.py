"""GGUF files and heads on this machine: in folders, in the Hub's cache, in pilotfish's own.

Knows names of files; opens none of them.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.gguf_header import part_of

_WEIGHTS = (".safetensors", ".bin", ".pt")
_NO_MODELS = ("mmproj", "imatrix")
_SNAPSHOTS = "snapshots"


@dataclass(frozen=True, slots=True)
class Found:
    """name: what `--draft` or `--head` takes. path: a GGUF, or the folder of a head."""

    name: str
    path: Path
    kind: Literal["model", "head"]


def find(folders: Iterable[Path], *, caches: bool = True) -> list[Found]:
    """Everything that may be a draft model or a head, once each. caches: the Hub's and our own, too."""
    places = [*folders, *(_caches() if caches else ())]
    seen: dict[Path, Found] = {}
    for place in places:
        for found in _in_folder(place):
            seen.setdefault(found.path.resolve(), found)
    return sorted(seen.values(), key=lambda found: (found.kind, found.name))


def _caches() -> tuple[Path, ...]:
    from huggingface_hub import constants

    from adapters.presets import cache_folder

    return Path(constants.HF_HUB_CACHE), cache_folder()


def _in_folder(folder: Path) -> Iterator[Found]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(root)
        for name in sorted(names):
            if name.lower().endswith(".gguf") and not any(word in name.lower() for word in _NO_MODELS):
                path = here / name
                if (part_of(path) or (1, 1))[0] == 1 and path.is_file():
                    yield Found(_name(path), path, "model")
        if "config.json" in names and any(name.endswith(_WEIGHTS) for name in names):
            yield Found(_name(here), here, "head")


def _name(path: Path) -> str:
    """`owner/repository/file`, of heads `owner/repository:folder`, for what lies in the Hub's cache."""
    parts = path.parts
    if _SNAPSHOTS in parts:
        place = parts.index(_SNAPSHOTS)
        repo, inside = parts[place - 1], parts[place + 2 :]
        if repo.startswith("models--") and repo.count("--") == 2:
            owner, name = repo.split("--")[1:]
            between = (
                "/" if path.suffix == ".gguf" else ":"
            )  # as references to files, and to heads, are written
            return between.join((f"{owner}/{name}", "/".join(inside))) if inside else f"{owner}/{name}"
    return str(path)
