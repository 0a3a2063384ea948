"""One file of tensors: safetensors, or what torch.save has written.

Knows both formats by their first bytes, and the commonest things that are none; runs no pickled code.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adapters.errors import HeadError

_open: Any = safe_open  # its stub has no types
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_OTHERS = {
    b"version https://git-lfs": "only points to the file: run git lfs pull, or download the file itself",
    b"GGUF": "is GGUF; a head in PyTorch or safetensors form is needed, and the GGUF is its target",
    b"<!DOCTYPE": "is a web page: download the file itself",
    b"<html": "is a web page: download the file itself",
}
# what unpickling damaged bytes can end in
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    SafetensorError,  # newer torch goes by the suffix
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU, mapped where the format allows; raises HeadError."""
    with path.open("rb") as file:
        start = file.read(32)
    if not start:
        raise HeadError(f"{path}: is empty; fetch it again")
    for other, text in _OTHERS.items():
        if start.lower().startswith(other.lower()):
            raise HeadError(f"{path}: {text}")
    # safetensors begin with the length of their table, whose bytes may look like anything
    if start[8:9] != b"{" and start.startswith((_ZIP, _PICKLE)):
        return _torch(path, is_zip=start.startswith(_ZIP))
    return _safetensors(path)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with _open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise HeadError(f"{path}: is cut short or no safetensors file ({error}); fetch it again") from error


def _torch(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    if is_zip and not zipfile.is_zipfile(path):  # torch would call it an invalid argument
        raise HeadError(f"{path}: is cut short; fetch it again")
    try:
        loaded: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().partition("\n")[0]
        raise HeadError(
            f"{path}: is damaged, or holds more than tensors and would have to run code to load; "
            f"fetch it again, or use a safetensors file ({reason})"
        ) from error
    except _DAMAGE as error:
        raise HeadError(f"{path}: is cut short or damaged ({error}); fetch it again") from error
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise HeadError(
            f"{path}: holds {type(loaded).__name__}, not tensors by name; save the head's state_dict instead"
        )
    return {str(name): tensor for name, tensor in loaded.items()}
