"""The memory of a context's first sequence as bytes, and what tells whether bytes belong to a model.

Knows llama.cpp's state functions; nothing of files. What it is given must be what it once gave: llama.cpp
checks some of it, and where it does not, wrong bytes would be attended to.
"""

import ctypes
import hashlib
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.gguf_header import all_parts
from adapters.llama_lib import complaint, last_complaint, library, version
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings

_SAMPLES, _SAMPLE = 256, 4096  # stretches of a file's weights that are looked at, and bytes of each


def read_state(ctx: Any, name: str) -> bytes:
    """The state of sequence 0; raises AdapterError where llama.cpp gives none."""
    lib = library()
    with last_complaint() as lines:
        n_bytes = lib.llama_state_seq_get_size(ctx, 0)
        buffer = (ctypes.c_uint8 * n_bytes)()
        n_read = lib.llama_state_seq_get_data(ctx, buffer, n_bytes, 0)
    if not n_bytes or n_read != n_bytes:
        raise AdapterError(f"{name}: llama.cpp did not give its memory: {complaint(lines)}")
    return bytes(buffer)


def write_state(ctx: Any, state: bytes, name: str) -> None:
    """Make `state` sequence 0 of an empty memory; raises AdapterError, which leaves it to be emptied."""
    buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
    with last_complaint() as lines:
        n_written = library().llama_state_seq_set_data(ctx, buffer, len(state), 0)
    if n_written != len(state):
        reason = complaint(lines)
        raise AdapterError(f"{name}: llama.cpp did not take the saved memory: {reason}; save it again")


def state_key(model: LlamaModel, settings: ContextSettings) -> dict[str, Any]:
    """What a state depends on: with one entry different it is another model's, or of another shape."""
    loras = [[fingerprint(path), scale] for path, scale in model.settings.scaled_lora]
    return {
        "llama_cpp": version(),
        "model": fingerprint(model.path),
        "lora": loras,
        "type_k": settings.type_k,
        "type_v": settings.type_v,
        "flash_attn": settings.flash_attn,
    }


def fingerprint(path: Path) -> str:
    """Of a GGUF: its length, its first bytes and stretches all over it, every part of a split one; hashing
    it whole would take longer than reading a prompt."""
    digest = hashlib.sha256()
    for part in all_parts(path):
        n_bytes = part.stat().st_size
        digest.update(n_bytes.to_bytes(8, "little"))
        step = max(_SAMPLE, n_bytes // _SAMPLES)
        with part.open("rb") as file:
            for start in range(0, n_bytes, step):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
