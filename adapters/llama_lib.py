"""llama.cpp's low-level functions, initialised once, with its log routed to `logging`.

Knows the shared library, its log and the symbols that llama-cpp-python does not bind; knows nothing
of models or contexts. Importing this module does not load llama.cpp: `library()` does.
"""

import ctypes
import functools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("pilotfish.llama_cpp")

# ggml_log_level (ggml.h) -> logging level; 5 (continue) belongs to the line before it
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUE = 5


class _LogRouter:
    """Joins llama.cpp's log fragments into lines and hands each to `logging` and to listeners."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self._fragments = threading.local()  # llama.cpp may log from worker threads

    def __call__(self, level: int, text: bytes, _user_data: object) -> None:
        fragments = self._fragments
        if level != _CONTINUE:
            fragments.level = _LEVELS.get(level, logging.DEBUG)
        fragments.text = getattr(fragments, "text", "") + text.decode("utf-8", "replace")
        if fragments.text.endswith("\n"):
            line, fragments.text = fragments.text.rstrip(), ""
            self._emit(getattr(fragments, "level", logging.DEBUG), line)

    def _emit(self, level: int, line: str) -> None:
        if not line.strip("."):
            return  # the loader's progress dots
        for listener in tuple(self.listeners):
            listener(line)
        logger.log(level, "%s", line)


_router = _LogRouter()


@functools.cache
def library() -> Any:
    """The module `llama_cpp.llama_cpp`, its backend initialised and its log routed."""
    # a library is silent by default: without this, Python prints warnings to stderr
    logging.getLogger("pilotfish").addHandler(logging.NullHandler())
    from llama_cpp import llama_cpp as lib

    callback = lib.llama_log_callback(_router)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    _keep_alive.append(callback)  # llama.cpp calls it until the process ends
    lib.llama_backend_init()
    return lib


_keep_alive: list[object] = []


@contextmanager
def log_listener(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand every line that llama.cpp logs within the block to `listener`, besides `logging`."""
    _router.listeners.append(listener)
    try:
        yield
    finally:
        _router.listeners.remove(listener)


@contextmanager
def last_complaint() -> Iterator[list[str]]:
    """Collect the lines that llama.cpp logs within the block: a NULL result names no reason itself."""
    lines: list[str] = []
    thread = threading.get_ident()  # another thread may be loading something else

    def collect(line: str) -> None:
        if threading.get_ident() == thread:
            lines.append(line)

    with ctrl_c_deferred(), log_listener(collect):
        yield lines


@contextmanager
def ctrl_c_deferred() -> Iterator[None]:
    """Hold Ctrl-C back within the block: in a callback from C, Python would print and then forget it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def complaint(lines: list[str]) -> str:
    """The most telling of `lines`: the first that reports an error, else the last."""
    for line in lines:
        if "error" in line.lower() or "failed" in line.lower():
            return line
    return lines[-1] if lines else "llama.cpp gave no reason"


def bind(names: tuple[str, ...], argtypes: list[Any], restype: Any) -> Any:
    """The first of `names` that llama.cpp exports, or None: C++ names differ between compilers."""
    shared = library()._lib
    for name in names:
        try:
            function = shared[name]  # of our own: others may bind it with other types
        except AttributeError:
            continue
        function.argtypes, function.restype = argtypes, restype
        return function
    return None


def version() -> str:
    """The version of llama-cpp-python, which fixes llama.cpp's."""
    from importlib.metadata import version as installed

    return installed("llama-cpp-python")
