"""From what a user calls a model to a GGUF file: a path, a preset's name, or a Hub reference.

Knows in which order to try these and how to say what was tried; knows nothing of what is in the
file beyond its first bytes.
"""

import difflib
import os
from pathlib import Path

from adapters.errors import ModelLoadError, ModelNotFound
from adapters.gguf_file import is_gguf
from adapters.gguf_header import all_parts, part_of
from adapters.presets import PRESETS, Progress, is_preset, resolve_preset

_MAX_LISTED = 20
_LFS_POINTER = b"version https://git-lfs"


def resolve_model(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    progress: Progress | None = None,
    show_progress: bool = False,
) -> Path:
    """The local GGUF file that `name` means, made or fetched where needed.

    `revision`, `token`, `local_files_only` and `show_progress` (a bar) are for the Hub, `progress`
    is for presets that must be made. Raises ModelNotFound, and ModelLoadError for a wrong file.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path):
        return _checked(path)
    if isinstance(name, str) and is_preset(name):
        return resolve_preset(name, progress=progress)
    if os.path.isdir(path):
        raise ModelNotFound(_about_folder(path))
    from adapters.hub import fetch_gguf, parse_reference

    reference = parse_reference(name) if isinstance(name, str) and not _is_local(path) else None
    if reference is None:
        raise ModelNotFound(_nothing_found(str(name), path))
    return fetch_gguf(
        reference,
        revision=revision,
        token=token,
        local_files_only=local_files_only,
        progress=show_progress,
    )


def _is_local(path: Path) -> bool:
    """Whether `folder/sub/file.gguf`, which could be the Hub's, is a misspelt local file instead."""
    return path.suffix.lower() == ".gguf" and os.path.isdir(path.parent)


def _checked(path: Path) -> Path:
    part = part_of(path)
    if part is not None and part[0] != 1:
        first = all_parts(path)[0]
        raise ModelLoadError(f"{path}: is part {part[0]} of {part[1]} of a model; give {first}")
    if not is_gguf(path):
        raise ModelLoadError(f"{path}: not a GGUF file; {_what_it_is(path)}")
    return path


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        return "it only points to one: run git lfs pull, or download the file itself"
    if not start:
        return "it is empty: fetch it again"
    return f"it begins with {start[:8]!r}; models in other formats must be converted to GGUF"


def _about_folder(folder: Path) -> str:
    names = _ggufs_in(folder)
    if not names:
        return f"{folder}: is a folder without a GGUF file; give the path of a GGUF file"
    return f"{folder}: is a folder; give one of its GGUF files:{_listed(names)}"


def _nothing_found(name: str, path: Path) -> str:
    """What was tried and what is close: presets, and the GGUF files where `path` should be."""
    siblings = _ggufs_in(path.parent)
    close = difflib.get_close_matches(name.partition(":")[0], PRESETS, 1)
    close += [str(path.parent / n) for n in difflib.get_close_matches(path.name, siblings, 3)]
    tried = (
        f"no model {name!r}: it is no file, no preset ({', '.join(PRESETS)}) "
        "and no Hub reference (owner/repository, owner/repository:Q4_K_M)"
    )
    if close:
        return f"{tried}; did you mean {' or '.join(close)}?"
    return f"{tried}; GGUF files in {path.parent}:{_listed(siblings)}" if siblings else tried


def _ggufs_in(folder: Path) -> list[str]:
    """Names of the files in `folder` that can be given: of split models only the first part."""
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):
        return []  # there is no such folder, so nothing to suggest
    paths = [folder / name for name in sorted(names) if name.lower().endswith(".gguf")]
    return [path.name for path in paths if (part_of(path) or (1, 1))[0] == 1]


def _listed(names: list[str]) -> str:
    more = [f"and {len(names) - _MAX_LISTED} more"] if len(names) > _MAX_LISTED else []
    return "".join(f"\n  {name}" for name in names[:_MAX_LISTED] + more)
