"""Counter-based randomness: the same (seed, stream, position, id) gives the same number, always.

Being a function and not a stream of draws, it can be evaluated for any subset of ids and does not
depend on what a drafter did. The mixer is splitmix64's finalizer (Steele, Lea, Flood 2014).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

# what the noise is for: numbers of different streams are independent of each other
Stream = Literal["target", "grammar", "draft", "accept", "residual"]
_STREAMS: dict[Stream, int] = {"target": 1, "grammar": 2, "draft": 3, "accept": 4, "residual": 5}

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _key(seed: int, stream: Stream, position: int) -> int:
    key = _mix((seed + _GOLDEN) & _MASK)
    key = _mix((key + _STREAMS[stream] * _GOLDEN) & _MASK)
    return _mix((key + (position + 1) * _GOLDEN) & _MASK)


def uniform(seed: int, stream: Stream, position: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number per id, uniform on the open interval (0, 1), 52 bits: a 53rd would round up to 1."""
    x = ids.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(_key(seed, stream, position))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    result: NDArray[np.float64] = ((x >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return result


def uniform_scalar(seed: int, stream: Stream, position: int) -> float:
    """One number, uniform on (0, 1)."""
    return ((_mix(_key(seed, stream, position)) >> 12) + 0.5) * 2.0**-52


def gumbel(seed: int, stream: Stream, position: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard Gumbel noise per id: argmax(log p + gumbel) is a draw from p (Gumbel-max)."""
    noise: NDArray[np.float64] = -np.log(-np.log(uniform(seed, stream, position, ids)))
    return noise
