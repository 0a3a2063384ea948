"""From what a user calls a head to its config and its tensors: a folder, a file, or a Hub repository.

Knows file names and formats, and what damaged files look like; gives no tensor a meaning. Tensors are
mapped, not read: the pages of those that nobody uses never come into memory.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from torch import Tensor

from adapters.errors import HeadError, ModelNotFound
from adapters.hub_names import HubFile, is_inside, listing, parse_reference
from heads.tensor_files import read_tensors

CONFIG = "config.json"
_INDEX = ".index.json"
_USUAL = (
    "model.safetensors",
    "model.safetensors" + _INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + _INDEX,
    "medusa_lm_head.safetensors",
    "medusa_lm_head.pt",
)
_SUFFIXES = (".safetensors", ".bin", ".pt")
_OF_TRAINERS = ("training_args.", "optimizer.", "scheduler.", "rng_state", "vocab_mapping.")
_ADVICE = "give a folder, a .safetensors, .bin or .pt file, owner/repository or owner/repository:path/in/it"

T = TypeVar("T")
Found = tuple[dict[str, Any], dict[str, Tensor], str]
_Fetch = Callable[[list[str]], None]  # names of files beside the index that will be read


def read_files(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    show_progress: bool = False,
) -> Found:
    """(config, tensors by name, where they are from); of a full model with Medusa heads only these.

    Raises ModelNotFound if there is no such thing, HeadError if it cannot be read.
    """
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path):
        return _read(path.parent, path.name, str(name))
    if os.path.isdir(path):
        return _read(path, choose_weights(os.listdir(path), str(path)), str(name))
    reference = _hub_reference(name) if isinstance(name, str) else None
    if reference is None:
        raise ModelNotFound(f"no head {str(name)!r}: no such file or folder, and no Hub reference; {_ADVICE}")
    options = {"revision": revision, "token": token, "local_files_only": local_files_only}
    return _from_hub(*reference, str(name), {**options, "progress": show_progress})


def choose_weights(names: Iterable[str], where: str) -> str:
    """The file of a folder that holds the head, or the index of the files that do."""
    present = sorted(names)
    for usual in _USUAL:
        if usual in present:
            return usual
    others = [n for n in present if n.endswith(_SUFFIXES) and not n.startswith(_OF_TRAINERS)]
    if len(others) == 1:
        return others[0]
    if others:
        raise ModelNotFound(f"{where} has several files that may be the head; name one:{listing(others)}")
    if any(n.lower().endswith(".gguf") for n in present):
        raise ModelNotFound(f"{where} holds GGUF files, but a head in PyTorch or safetensors form is needed")
    raise ModelNotFound(f"{where} has no .safetensors, .bin or .pt file:{listing(present)}")


def _read(folder: Path, weights: str, source: str, fetch: _Fetch | None = None) -> Found:
    config = folder / CONFIG
    settings = _json(config) if os.path.isfile(config) else {}
    if not weights.endswith(_INDEX):
        return settings, _of_head(read_tensors(folder / weights)), source
    table = _json(folder / weights).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(n, str) and is_inside(n) for n in table.values()):
        raise HeadError(f"{folder / weights}: has no table of files (weight_map); fetch it again")
    files = sorted(set(_of_head(table).values()))
    if fetch is not None:
        fetch(files)
    absent = [name for name in files if not os.path.isfile(folder / name)]
    if absent:
        raise ModelNotFound(f"{folder}: {weights} names files that are not there; fetch:{listing(absent)}")
    tensors = {name: tensor for file in files for name, tensor in read_tensors(folder / file).items()}
    return settings, _of_head(tensors), source


def _of_head(named: Mapping[str, T]) -> dict[str, T]:
    """Without the model around it, if this is a whole model with Medusa heads."""
    inside = {name: value for name, value in named.items() if "medusa_head." in name}
    return inside or dict(named)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HeadError(f"{path}: is not JSON ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise HeadError(f"{path}: holds {type(value).__name__}, not a table; fetch it again")
    return value


def _hub_reference(name: str) -> tuple[str, str] | None:
    """(owner/repository, path in it or ""); None for what looks like a local file."""
    repo, colon, inside = name.partition(":")
    reference = parse_reference(repo)
    if reference is None or reference.file is not None or repo.endswith(_SUFFIXES):
        return None
    if colon and not is_inside(inside):
        return None
    return repo, inside


def _from_hub(repo: str, inside: str, source: str, options: dict[str, Any]) -> Found:
    from adapters.hub import fetch_files

    chosen = ""

    def first(files: list[HubFile], where: str) -> tuple[str, ...]:
        nonlocal chosen
        chosen = _choose_in_repo([file.name for file in files], inside, where)
        config = str(PurePosixPath(chosen).with_name(CONFIG))
        return (chosen, config) if any(file.name == config for file in files) else (chosen,)

    def fetch_shards(shards: list[str]) -> None:
        names = tuple(f"{folder_name}{shard}" for shard in shards)

        def wanted(files: list[HubFile], where: str) -> tuple[str, ...]:
            absent = set(names) - {file.name for file in files}
            if absent:
                raise ModelNotFound(f"{where} lacks files that its index names:{listing(absent)}")
            return names

        # the commit of the index: a push in between must not mix two heads
        commit = path.parents[chosen.count("/")].name
        fetch_files(repo, wanted, **{**options, "revision": commit})

    path = fetch_files(repo, first, **options)
    folder_name = chosen[: chosen.rfind("/") + 1]
    return _read(path.parent, path.name, source, fetch_shards)


def _choose_in_repo(names: list[str], inside: str, where: str) -> str:
    """The path in a repository of the file meant: `inside` itself, or what a folder of that name holds."""
    if inside in names:
        return inside
    folder = f"{inside.rstrip('/')}/" if inside else ""
    within = [name.removeprefix(folder) for name in names if name.startswith(folder)]
    beside = [name for name in within if "/" not in name]
    if not beside:
        what = repr(inside) if inside else "file outside of folders"
        raise ModelNotFound(f"{where} has no {what}; it has:{listing(names)}")
    return folder + choose_weights(beside, f"{where}{':' if inside else ''}{inside}")
