"""Sessions on disk: the tokens that a target has read, and its memory of them, checked before they are used.

Knows the file; what is in the memory is llama.cpp's business. A file begins with a line that names it and the
length of a header in JSON; then come the header, the tokens (32 bits each) and the memory. The header
has the hash of the two, so what was cut off, changed, or made for something else never reaches llama.cpp.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapters.llama_context import LlamaContext
from adapters.llama_state import state_key
from adapters.new_file import new_file
from orchestrator.errors import ConfigError

FORMAT = 1
_MAGIC = b"pilotfish session\n"
_LENGTH = 8  # bytes of the header's length
_MOST_HEADER = 2**16
_ADVICE = "save the session again"
_WHAT = {
    "llama_cpp": "version of llama-cpp-python",
    "model": "model",
    "lora": "LoRA adapters",
    "type_k": "type_k",
    "type_v": "type_v",
    "flash_attn": "flash_attn",
}


def save(path: str | Path, context: LlamaContext) -> int:
    """Write what `context` has read to `path`, all or nothing; how many tokens these are."""
    target, tokens = Path(path), context.tokens.astype("<i4").tobytes()
    if not tokens:
        raise ConfigError(
            "there is nothing to save yet: generate first, or give the prompt that is to be kept"
        )
    state = context.save_state()
    header = {
        "format": FORMAT,
        "key": state_key(context.model, context.settings),
        "n_tokens": context.n_past,
        "n_bytes": len(state),
        "sha256": _digest(tokens, state),
    }
    text = json.dumps(header).encode()
    try:
        with new_file(target) as partial, partial.open("wb") as file:
            for piece in (_MAGIC, len(text).to_bytes(_LENGTH, "little"), text, tokens, state):
                file.write(piece)
    except OSError as error:
        raise ConfigError(f"{target}: the session cannot be saved: {error.strerror}") from error
    return context.n_past


def load(path: str | Path, context: LlamaContext) -> int:
    """Make `context` hold what was saved to `path`; how many tokens these are.

    ConfigError for a file that is damaged, no session, or another model's: the context is then as it was.
    """
    source = Path(path)
    tokens, state = _read(source, state_key(context.model, context.settings))
    if len(tokens) >= context.capabilities.n_ctx:
        raise ConfigError(
            f"{source}: {len(tokens)} tokens do not fit the context of {context.capabilities.n_ctx}, "
            f"with one more to go on; load the model with n_ctx={len(tokens) + 256} or more"
        )
    context.load_state(tokens, state)
    return len(tokens)


def _read(path: Path, key: Mapping[str, Any]) -> tuple[list[int], bytes]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the session cannot be read: {error.strerror}") from error
    if not data.startswith(_MAGIC):
        raise ConfigError(f"{path}: no saved session; give a file that save_session has written")
    start = len(_MAGIC) + _LENGTH
    n_header = int.from_bytes(data[len(_MAGIC) : start], "little")
    header = _header(path, data[start : start + min(n_header, _MOST_HEADER)])
    _require_key(path, header["key"], key)
    at = start + n_header
    n_tokens, n_bytes = 4 * header["n_tokens"], header["n_bytes"]
    if len(data) != at + n_tokens + n_bytes:
        raise ConfigError(
            f"{path}: {len(data)} bytes where {at + n_tokens + n_bytes} were written: "
            f"cut short or damaged; {_ADVICE}"
        )
    tokens, state = data[at : at + n_tokens], data[at + n_tokens :]
    if _digest(tokens, state) != header["sha256"]:
        raise ConfigError(f"{path}: damaged (its bytes do not have the hash they had); {_ADVICE}")
    return np.frombuffer(tokens, "<i4").tolist(), state


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(text)
        version, sizes = header["format"], (header["n_tokens"], header["n_bytes"])
        if not isinstance(header["key"], dict) or not isinstance(header["sha256"], str):
            raise ValueError("entries of the wrong kind")
        if any(not isinstance(size, int) or size < 0 for size in sizes):
            raise ValueError(f"sizes of {sizes}")
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: cut short or damaged (its header: {error}); {_ADVICE}") from error
    if version != FORMAT:
        raise ConfigError(f"{path}: a session of format {version}, this version reads {FORMAT}; {_ADVICE}")
    return header


def _require_key(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            shown = "" if name in ("model", "lora") else f" ({found.get(name)}, here {value})"
            raise ConfigError(f"{path}: was saved with another {_WHAT[name]}{shown}; {_ADVICE} with this one")


def _digest(tokens: bytes, state: bytes) -> str:
    digest = hashlib.sha256(tokens)
    digest.update(state)
    return digest.hexdigest()
