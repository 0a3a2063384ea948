"""A GGUF without meaning: one matrix of many rows in a type of choice, to time that type's kernels.

Knows what llama.cpp wants of the smallest model there is; measures nothing.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from adapters.errors import UnsupportedModel
from adapters.gguf_file import read_tensors
from adapters.quantize import quantize

_SEED_ROWS = 64  # quantized once, then repeated: kernels do not look at values
_HEAD = 64  # width of the one attention head and of the feed-forward, next to nothing


def fits(width: int, type: str) -> bool:
    """Whether rows of `width` weights are whole blocks of the type."""
    return width % _block(type)[0] == 0


def bits(type: str) -> float:
    """Bits that a weight takes, scales included."""
    weights, size = _block(type)
    return 8 * size / weights


def _block(type: str) -> tuple[int, int]:
    """Weights and bytes of a block."""
    if type not in gguf.GGMLQuantizationType.__members__:
        raise UnsupportedModel(f"{type} is newer than the installed gguf package; run: pip install -U gguf")
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type]]
    return weights, size


def write_probe(target: Path, type: str, width: int, n_rows: int) -> Path:
    """A model of one thin layer whose vocabulary matrix is `[n_rows, width]`, stored as `type`.

    n_rows must be a multiple of 64. What llama.cpp cannot quantize to raises an AdapterError.
    """
    with TemporaryDirectory() as folder:
        seed, stored = Path(folder) / "seed.gguf", Path(folder) / "stored.gguf"
        _write(seed, width, np.random.default_rng(0).standard_normal((_SEED_ROWS, width), np.float32))
        quantize(seed, stored, "Q8_0", token_embedding_type=type)
        rows = _raw_rows(stored, type)
    return _write(target, width, np.tile(rows, (n_rows // _SEED_ROWS, 1)), type)


def _raw_rows(path: Path, type: str) -> NDArray[np.uint8]:
    """The bytes of the vocabulary matrix, `[64, bytes of a row]`."""
    tensor = read_tensors(path)["token_embd.weight"]
    if tensor.type != type:
        raise ValueError(f"a probe for {type} became {tensor.type}")
    data = next(t.data for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    return np.array(data).view(np.uint8).reshape(_SEED_ROWS, -1)


def _write(path: Path, width: int, matrix: NDArray[Any], type: str = "F32") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_block_count(1)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(_HEAD)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(matrix))
    writer.add_tokenizer_model("none")
    writer.add_tensor("token_embd.weight", matrix, raw_dtype=gguf.GGMLQuantizationType[type])
    for name, shape in _layer(width).items():
        writer.add_tensor(name, np.full(shape, 0.01, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _layer(width: int) -> dict[str, tuple[int, ...]]:
    into, out = (_HEAD, width), (width, _HEAD)
    block = {"attn_norm": (width,), "attn_q": into, "attn_k": into, "attn_v": into, "attn_output": out}
    block |= {"ffn_norm": (width,), "ffn_gate": into, "ffn_up": into, "ffn_down": out}
    return {
        "output_norm.weight": (width,),
        **{f"blk.0.{name}.weight": shape for name, shape in block.items()},
    }
