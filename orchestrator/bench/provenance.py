"""Where figures come from: versions, machine, model, arguments. Enough to take them again."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from gguf.constants import LlamaFileType

from adapters.cpu import usable_cores
from adapters.devices import devices
from adapters.gguf_header import read_header
from adapters.llama_lib import library
from orchestrator.config import Config

PACKAGES = ("llama-cpp-python", "numpy", "torch", "transformers", "tokenizers")


def provenance(
    argv: Sequence[str], model: Path, suites: Iterable[Path], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The provenance of a run of `model` with `settings`; call it when the run is over."""
    threads, threads_batch = Config.of(**settings).context.threads
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pilotfish": version("pilotfish"),
        "commit": _commit(),
        "argv": list(argv),
        "python": platform.python_version(),
        "versions": _versions(),
        "llama_cpp_system": library().llama_print_system_info().decode(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "n_cores": usable_cores(),
        "gpus": [device.description for device in devices() if device.kind != "CPU"],
        "threads": threads,
        "threads_batch": threads_batch,
        "model": _model(model),
        "seed": settings.get("seed"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "suites": [{"path": path.name, "sha256": _sha256(path)} for path in suites],
        "peak_memory_mb": _peak_mb(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an optional one
    return found


def _commit() -> str | None:
    """The commit of the checkout that this file is in, `-dirty` with changes; None in an installation."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git here
    return done.stdout.strip() or None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _model(path: Path) -> dict[str, Any]:
    header = read_header(path)
    return {
        "name": header.fields.get("general.name"),
        "path": path.name,
        "sha256": _sha256(path),
        "size_mb": path.stat().st_size / 1e6,
        "file_type": _file_type(header.fields.get("general.file_type")),
    }


def _file_type(number: int | None) -> str | None:
    """llama.cpp's name of a GGUF's `general.file_type`, such as Q4_0."""
    names = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    return names.get(number, str(number)) if number is not None else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _peak_mb() -> float:
    """The most main memory that this process has held."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
