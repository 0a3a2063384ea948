"""Matrices that are one: laid on top of each other when they are read, so that joining them copies nothing.

Knows memory, and what a mapped file has of it; nothing of what the matrices are for.
"""

import ctypes
import mmap
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_STRETCH = 16_000_000  # bytes that are in memory twice while they are copied
_PAGEMAP = "/proc/self/pagemap"  # Linux's
_PRESENT, _SWAPPED, _OF_A_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))


def laid_out(parts: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Copies of `parts [n_i, n_in]` in one piece of memory, for `on_top`; the originals' pages go."""
    sizes = [len(part) for part in parts]
    whole = torch.empty(sum(sizes), *parts[0].shape[1:], dtype=dtype, device=device)
    copies = list(torch.split(whole, sizes))
    for copy, part in zip(copies, parts, strict=True):
        n_rows = max(1, _STRETCH * len(part) // max(1, part.nbytes))
        for to, rows in zip(torch.split(copy, n_rows), torch.split(part, n_rows), strict=True):
            to.copy_(rows)
            give_back(rows)
    return copies


def copied(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`tensor` itself if it is so already, else a copy, with the original's pages gone."""
    same = tensor.dtype == dtype and tensor.device == device
    return tensor if same else laid_out([tensor], dtype, device)[0]


def on_top(parts: Sequence[Tensor]) -> Tensor:
    """`parts` as one matrix: a copy, but of a single one, and of those that `laid_out` has made."""
    whole = parts[0] if len(parts) == 1 else parts[0]._base
    if whole is None or not _lie_in(whole, parts):
        return torch.cat(list(parts))
    return whole


def _lie_in(whole: Tensor, parts: Sequence[Tensor]) -> bool:
    """Whether `whole` is nothing but the parts, in their order."""
    at = whole.data_ptr()
    for part in parts:
        if part.data_ptr() != at or part.shape[1:] != whole.shape[1:] or not part.is_contiguous():
            return False
        at += part.nbytes
    return whole.is_contiguous() and at == whole.data_ptr() + whole.nbytes


def give_back(tensor: Tensor) -> None:
    """Take the pages of a mapped file out of memory; who reads the tensor again reads the file again.

    Pages of anything else, or that were written to, stay, and so do all where the system does not tell.
    """
    if tensor.device.type != "cpu" or not os.access(_PAGEMAP, os.R_OK):
        return
    size = mmap.PAGESIZE
    first = -(-tensor.data_ptr() // size)
    n_pages = (tensor.data_ptr() + tensor.nbytes) // size - first
    if n_pages > 0 and _is_clean_file(first, n_pages):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        advise(first * size, n_pages * size, mmap.MADV_DONTNEED)


def _is_clean_file(first: int, n_pages: int) -> bool:
    """Whether what is in memory of these pages is a file's, as it is on the disk."""
    with open(_PAGEMAP, "rb", buffering=0) as file:
        file.seek(8 * first)
        pages = np.frombuffer(file.read(8 * n_pages), np.uint64)
    here = pages & _PRESENT != 0
    return not (pages & _SWAPPED).any() and bool((pages[here] & _OF_A_FILE).all())
