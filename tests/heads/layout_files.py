"""Checkpoints on disk, in the formats in which heads are published.

Knows file names and formats; what is in them comes from tests.heads.layouts.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.heads.layouts import Tensors, Written


def save(folder: Path, written: Written, file: str = "model.safetensors") -> Path:
    """Write config.json and all tensors into one file, in the format that its name says."""
    config, tensors = written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    _save_tensors(folder / file, tensors)
    return folder


def save_sharded(folder: Path, written: Written, stem: str, suffix: str) -> Path:
    """Write the tensors to two files in turn, with an index."""
    config, tensors = written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    table: dict[str, str] = {}
    for part in (1, 2):
        file = f"{stem}-0000{part}-of-00002{suffix}"
        names = sorted(tensors)[part - 1 :: 2]
        _save_tensors(folder / file, {name: tensors[name] for name in names})
        table |= dict.fromkeys(names, file)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": table}))
    return folder


def _save_tensors(path: Path, tensors: Tensors) -> None:
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, str(path))
    else:
        torch.save(tensors, path)


def files_of(folder: Path) -> dict[str, bytes]:
    """What a repository of this folder holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
