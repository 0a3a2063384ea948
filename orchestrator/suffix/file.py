"""A settled automaton and the names of its documents as one .npz file, checked when it is read.

Knows arrays and bytes; nothing of what the documents are for.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import ConfigError
from orchestrator.suffix.automaton import SuffixAutomaton

FORMAT = 1
_PER_STATE = ("length", "link", "recent", "count")
_ARRAYS = ("header", "tokens", *_PER_STATE, "edges", "edge_token", "edge_target")
# what zipfile and numpy raise for bytes that are not what they expect
_DAMAGE = (KeyError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_ADVICE = "index the documents again and save the new index"

Arrays = Mapping[str, NDArray[Any]]


def write_automaton(path: Path, automaton: SuffixAutomaton, names: Sequence[str], fingerprint: str) -> None:
    """Write `automaton` to `path`, whatever its suffix."""
    header = json.dumps({"format": FORMAT, "fingerprint": fingerprint, "names": list(names)})
    columns: dict[str, Any] = {
        "tokens": automaton.tokens,
        **{name: getattr(automaton, name) for name in _PER_STATE},
        "edges": [len(edges) for edges in automaton.next],  # [states]: transitions of each
        "edge_token": list(chain.from_iterable(automaton.next)),
        "edge_target": list(chain.from_iterable(edges.values() for edges in automaton.next)),
    }
    arrays: dict[str, Any] = {name: np.asarray(column, np.int32) for name, column in columns.items()}
    try:
        with path.open("wb") as file:
            np.savez(file, header=np.frombuffer(header.encode(), np.uint8), **arrays)
    except OSError as error:
        raise ConfigError(f"{path}: the references cannot be saved: {error}") from error


def read_automaton(path: Path, fingerprint: str) -> tuple[SuffixAutomaton, list[str]]:
    """The automaton and the names in `path`; ConfigError where they are not those of `fingerprint`."""
    arrays = _read(path)
    names = _names(path, arrays["header"], fingerprint)
    if not _is_whole(arrays, len(names)):
        raise ConfigError(f"{path}: its parts do not fit together; {_ADVICE}")
    return _rebuilt(arrays), names


def _read(path: Path) -> Arrays:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with loaded:
                return {name: loaded[name] for name in _ARRAYS}
    except OSError as error:
        raise ConfigError(f"{path}: the references cannot be read: {error}") from error
    except _DAMAGE as error:
        raise ConfigError(f"{path}: no saved references, or damaged ({error}); {_ADVICE}") from error


def _names(path: Path, header: NDArray[Any], fingerprint: str) -> list[str]:
    try:
        saved = json.loads(header.tobytes())
        names, version, vocabulary = saved["names"], saved["format"], saved["fingerprint"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: the references have no readable header ({error!r}); {_ADVICE}") from error
    if version != FORMAT:
        raise ConfigError(f"{path}: references of format {version}, this version reads {FORMAT}; {_ADVICE}")
    if vocabulary != fingerprint:
        raise ConfigError(
            f"{path}: made for the vocabulary {vocabulary}, this model has {fingerprint}; {_ADVICE} for it"
        )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: the names of the references are no list of texts; {_ADVICE}")
    return names


def _is_whole(arrays: Arrays, n_names: int) -> bool:
    """Whether reading the automaton cannot leave its arrays or run in circles."""
    numbers = [array for name, array in arrays.items() if name != "header"]
    if any(array.ndim != 1 or array.dtype != np.int32 for array in numbers):
        return False
    tokens, edges = arrays["tokens"], arrays["edges"]
    length, link, recent, count = (arrays[name] for name in _PER_STATE)
    n_states, n_edges, target = len(edges), len(arrays["edge_token"]), arrays["edge_target"]
    if n_states < 1 or {len(length), len(link), len(recent), len(count)} != {n_states}:
        return False
    if link[0] != -1 or length[0] != 0 or len(target) != n_edges or (edges < 0).any():
        return False
    if edges.sum() != n_edges or not _within(link[1:], 0, n_states) or not _within(target, 1, n_states):
        return False
    ended = len(tokens) == 0 or tokens[-1] < 0
    return (
        ended
        and int((tokens < 0).sum()) == n_names
        and bool((length[link[1:]] < length[1:]).all())
        and _within(recent[1:], 1, len(tokens) + 1)
        and _within(count[1:], 1, len(tokens) + 1)
    )


def _within(numbers: NDArray[Any], least: int, bound: int) -> bool:
    return bool(((numbers >= least) & (numbers < bound)).all())


def _rebuilt(arrays: Arrays) -> SuffixAutomaton:
    automaton = SuffixAutomaton(reach=0)
    automaton.tokens = arrays["tokens"].tolist()
    for name in _PER_STATE:
        setattr(automaton, name, arrays[name].tolist())
    pairs = zip(arrays["edge_token"].tolist(), arrays["edge_target"].tolist(), strict=True)
    automaton.next = [dict(islice(pairs, n)) for n in arrays["edges"].tolist()]
    automaton.last = int(arrays["length"].argmax())
    return automaton
