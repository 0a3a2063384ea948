"""Where a head is trained. Knows PyTorch's devices only."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from adapters.settings import require
from heads.training.unroll import Batch


def device_of(name: str, index: int = 0) -> torch.device:
    """cpu, cuda, mps, or auto for the fastest that is there; index: of several GPUs. ConfigError for one that
    PyTorch has not."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    there = {"cpu": True, "cuda": cuda, "mps": mps}
    known = ", ".join(there)
    require(name in there, f"device must be auto or one of {known}, got {name!r}")
    require(there[name], f"device {name}: this PyTorch ({torch.__version__}) has none here; use auto or cpu")
    if name != "cuda":
        return torch.device(name)
    n = torch.cuda.device_count()
    require(index < n, f"process {index} of this machine has no GPU of its own: there are {n}; start {n}")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)  # NCCL takes the current one
    return device


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(
        batch, **{name: one.to(device) for name, one in tensors.items() if isinstance(one, Tensor)}
    )
