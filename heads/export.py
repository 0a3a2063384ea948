"""A head as a folder that other programs load: config.json, safetensors, and where it comes from.

Knows how files come into being whole or not at all; what is in them is heads.export_layouts' business. What
was written is read back and compared, so a layout that cannot say all that a head is makes an error.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from adapters.errors import AdapterError, HeadError
from adapters.gguf_file import GgufFacts
from heads.checkpoint import load_head
from heads.export_config import Layout
from heads.export_layouts import Written, laid_out
from heads.files import CONFIG, choose_weights
from heads.fit import check_fit
from heads.spec import Head

PROVENANCE = "provenance.json"


def write_head(
    head: Head,
    folder: Path,
    *,
    layout: Layout = "safeailab",
    target: GgufFacts | None = None,
    target_name: str = "",
    dtype: torch.dtype | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `head` to `folder`, which is made; returns the folder.

    target: tells the length of texts, and the size of the vocabulary where the head does not. dtype: of the
    weights, default: as they are. provenance: goes to provenance.json. overwrite: replace a head that is
    there, other files stay. Raises HeadError if the layout cannot hold this head, AdapterError if it cannot
    be written.
    """
    if dtype is not None:
        head = replace(head, tensors=_cast(head.tensors, dtype))
    if target is not None:
        # layers are for other programs to read
        check_fit(head, target)
    written = laid_out(head, layout, target, target_name)
    _check_folder(folder, written.file, overwrite)
    with _new_files(folder) as partial:
        _save(partial, written, provenance)
        _compare(head, load_head(partial), layout)
    return folder


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: one.to(dtype) if one.is_floating_point() else one for name, one in tensors.items()}


def _check_folder(folder: Path, file: str, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise AdapterError(f"{folder}: is a file; name a folder")
    names = os.listdir(folder) if folder.is_dir() else []
    ours = [name for name in (CONFIG, file, PROVENANCE) if name in names]
    if ours and not overwrite:
        raise AdapterError(f"{folder}: has {ours[0]} already; allow overwriting or name another folder")
    if names and choose_weights({*names, file}, str(folder)) != file:
        raise AdapterError(f"{folder}: holds another kind of head, which would be read in place of this one")


@contextmanager
def _new_files(folder: Path) -> Iterator[Path]:
    """A folder to write to: its files move to `folder`, or vanish unless all went well."""
    partial = folder.with_name(f".pilotfish-{secrets.token_hex(8)}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.is_dir():
            # the config last: until then it describes what the folder held before
            for path in sorted(partial.iterdir(), key=lambda path: path.name == CONFIG):
                os.replace(path, folder / path.name)
        else:
            os.rename(partial, folder)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(folder: Path, written: Written, provenance: Mapping[str, Any] | None) -> None:
    # heads that share a matrix get a copy each, as the format knows no sharing
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in written.tensors.items()}
    save_file(tensors, str(folder / written.file), {"format": "pt"})
    _save_json(folder / CONFIG, written.config)
    if provenance is not None:
        _save_json(folder / PROVENANCE, provenance)
    # safetensors lets nobody else read its files
    (folder / written.file).chmod((folder / CONFIG).stat().st_mode & 0o777)
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the name on missing data


def _save_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _compare(head: Head, found: Head, layout: Layout) -> None:
    """Raise HeadError unless what was read is what was written."""
    lost = [
        field.name
        for field in fields(head.spec)
        if getattr(head.spec, field.name) != getattr(found.spec, field.name, None)
    ]
    for name in sorted({*head.tensors, *found.tensors}):
        before, after = head.tensors.get(name), found.tensors.get(name)
        if before is None or after is None or not torch.equal(before.cpu(), after):
            lost.append(name)
    if lost:
        raise HeadError(
            f"{head.source}: layout {layout} cannot hold its {', '.join(lost[:3])}; use another layout"
        )
