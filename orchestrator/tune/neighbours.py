"""How much of the processors others use while something is measured: decodes of several threads suffer
much from little."""

import os
from time import perf_counter

import psutil

MUCH = 0.1  # from this share on, figures are worth nothing
_IDLE = ("idle", "iowait")
_COUNTED_TWICE = ("guest", "guest_nice")  # they are in `user` and `nice`, too


class Neighbours:
    """Counts from its construction on."""

    def __init__(self) -> None:
        self._others, self._began = _others(), perf_counter()

    def share(self) -> float:
        """The part of all processors' time that other programs (or virtual machines) have taken."""
        elapsed = (perf_counter() - self._began) * (os.cpu_count() or 1)
        return max(0.0, _others() - self._others) / elapsed if elapsed > 0 else 0.0


def warnings(share: float) -> list[str]:
    """What to say of such a share; nothing where it is small."""
    if share < MUCH:
        return []
    taken = f"other programs took {100 * share:.0f} % of the processors meanwhile"
    return [f"WARNING: {taken}; measure again without them"]


def _others() -> float:
    """Seconds that processors have been busy with anything but this process."""
    times = psutil.cpu_times()._asdict()
    busy = sum(value for name, value in times.items() if name not in (*_IDLE, *_COUNTED_TWICE))
    own = psutil.Process().cpu_times()
    return float(busy - own.user - own.system)
