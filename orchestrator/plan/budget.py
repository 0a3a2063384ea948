"""How much memory there may be used: what the user says, or what the machine has.

Knows sizes as people write them; nothing of models.
"""

import re
from dataclasses import dataclass

from orchestrator.errors import ConfigError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes. vram: of the GPUs together, None = there is none, all is done in the main memory. source: who
    says so."""

    vram: int | None
    ram: int
    source: str


def parse_size(text: str) -> int:
    """Bytes in `16G`, `512M`, `15.5 GiB`; units are powers of 1024, as those of memory are."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ConfigError(f"{text!r} is no amount of memory; write 16G, 512M or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def budget_of(vram: str | None = None, ram: str | None = None) -> Budget:
    """What is given, and of the machine what is not."""
    found = None if vram is not None else machine_vram()
    return Budget(
        vram=parse_size(vram) if vram is not None else found,
        ram=parse_size(ram) if ram is not None else machine_ram(),
        source="as given" if vram is not None or ram is not None else "free on this machine",
    )


def machine_vram() -> int | None:
    """Free bytes of all GPUs, None where llama.cpp sees none."""
    from adapters.devices import devices

    gpus = [device.free for device in devices() if device.kind == "GPU"]
    return sum(gpus) if gpus else None


def machine_ram() -> int:
    """Bytes that can be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
