"""How much memory an entrant has added: to its process, and to the devices that llama.cpp uses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from adapters.devices import devices

MB = 1e6


def resident_mb(pid: int | None = None) -> float:
    """MB of main memory that a process (None = this one) holds, 0 once it has ended.

    A mapped file counts as far as it has been read.
    """
    try:
        return float(psutil.Process(pid).memory_info().rss) / MB
    except psutil.NoSuchProcess:
        return 0.0


def gpu_mb() -> float:
    """MB in use on all GPUs, whoever uses them."""
    return sum(device.total - device.free for device in devices() if device.kind != "CPU") / MB


class Growth:
    """Memory that came with one entrant: `loaded` by opening it, `peak` with what its answers added.

    Entrants of one process are told apart by what grows while they run, so the first one on shared weights
    is charged for them. A process of the entrant's own counts in full.
    """

    def __init__(self) -> None:
        self._grown = self._foreign = self._loaded = 0.0

    @contextmanager
    def watched(self, pid: Callable[[], int | None] = lambda: None) -> Iterator[None]:
        """The entrant, and nobody else, works within the block. pid: of its own process, asked afterwards."""
        before = resident_mb() + gpu_mb()
        yield
        self._grown += max(0.0, resident_mb() + gpu_mb() - before)
        if (own := pid()) is not None:
            self._foreign = max(self._foreign, resident_mb(own))

    def has_loaded(self) -> None:
        """What has grown so far came with opening it."""
        self._loaded = self._grown + self._foreign

    def as_dict(self) -> dict[str, float]:
        """MB."""
        return {"loaded": self._loaded, "peak": self._grown + self._foreign}
