"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Cores given to this process: fewer than the machine has where its affinity is restricted."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
