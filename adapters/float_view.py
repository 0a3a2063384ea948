"""llama.cpp's float buffers as arrays. Knows addresses and shapes; nothing of what they hold."""

import ctypes

import numpy as np

from adapters.target import FloatArray

_MOST = 256  # a buffer moves when it grows, so few are ever in use


def float_view(address: int, n_rows: int, width: int) -> FloatArray:
    """The `n_rows x width` floats at `address`, without a copy."""
    buffer = (ctypes.c_float * (n_rows * width)).from_address(address)
    view: FloatArray = np.ctypeslib.as_array(buffer).reshape(n_rows, width)
    return view


class FloatViews:
    """Views of rows of one width: the same few are asked for after every decode, and are slow to make."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._known: dict[tuple[int, int], FloatArray] = {}

    def at(self, address: int, n_rows: int) -> FloatArray:
        """The `n_rows` rows at `address`."""
        view = self._known.get((address, n_rows))
        if view is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            view = self._known[address, n_rows] = float_view(address, n_rows, self._width)
        return view
