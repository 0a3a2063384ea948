"""Where a head runs and in which numbers: what was asked for, or what this machine does best."""

import torch

from adapters.errors import ConfigError
from heads.ggml_network import why_no_graph
from heads.spec import Spec

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


def choose_device(name: str, *, on_gpu: bool) -> torch.device:
    """`name` as a device; "auto" is a GPU of PyTorch's where the target is on one, too."""
    if name == "auto":
        if on_gpu and torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if on_gpu and torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # PyTorch raises either
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"head_device={name!r} cannot be used: {reason}; auto and cpu always work"
        ) from error
    return device


def choose_ggml(name: str, device: torch.device, spec: Spec) -> bool:
    """Whether ggml computes the steps: "auto", on a CPU, where this llama.cpp and this head allow it."""
    return name == "auto" and device.type == "cpu" and not why_no_graph(spec)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`name` as a dtype of PyTorch. "auto": int8 on a CPU (a step reads every weight once, so the smallest
    are the fastest), bfloat16 elsewhere."""
    if name == "int8" and device.type != "cpu":
        raise ConfigError(f"head_dtype='int8' is for a CPU, this head runs on {device}; use bfloat16")
    if name != "auto":
        return DTYPES[name]
    return torch.int8 if device.type == "cpu" else torch.bfloat16
