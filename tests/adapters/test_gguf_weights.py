"""Claims about reading weights: the same floats as gguf's own reader gives, a stretch at a time."""

import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from adapters import gguf_weights as module
from adapters.errors import ModelLoadError, UnsupportedModel
from adapters.gguf_header import Tensor
from adapters.gguf_weights import GgufTensor, read_weights
from adapters.quantize import quantize
from adapters.target import FloatArray
from tests.tiny_gguf import TinyFactory

N_ROWS, WIDTH = 5, 512


def write(path: Path, *, part: int = 0, n_parts: int = 1, **tensors: np.ndarray) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if n_parts > 1:
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", n_parts)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored_as(kind: GGMLQuantizationType, path: Path) -> np.ndarray:
    """Write the tensor `w` of that type with bytes that are no infinite scales; return the bytes."""
    weights, size = GGML_QUANT_SIZES[kind]
    data = np.random.default_rng(0).integers(0, 0x3C, (N_ROWS, WIDTH // weights * size), np.uint8)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("w", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return data


def numbers(*shape: int) -> FloatArray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("type", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_0", "IQ4_NL"])
def test_every_tensor_is_what_gguf_dequantizes(type: str, tiny: TinyFactory, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    quantize(tiny("llama"), path, type)
    for expected in gguf.GGUFReader(path).tensors:
        found = read_weights(path, expected.name)
        assert found.type == expected.tensor_type.name
        values = found.read()
        assert values.dtype == np.float32 and values.shape == found.shape
        np.testing.assert_array_equal(values, dequantize(expected.data, expected.tensor_type))


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "MXFP4"])
def test_types_whose_blocks_are_wider_than_tiny_models(name: str, tmp_path: Path) -> None:
    kind = GGMLQuantizationType[name]
    data = stored_as(kind, tmp_path / "w.gguf")
    found = read_weights(tmp_path / "w.gguf", "w")
    assert (found.type, found.shape, found.n_rows, found.width) == (name, (N_ROWS, WIDTH), N_ROWS, WIDTH)
    np.testing.assert_array_equal(found.read(), dequantize(data, kind))
    np.testing.assert_array_equal(found.rows(1, 3), dequantize(data, kind)[1:3])


def test_chunks_cover_all_rows_once_and_in_order(tmp_path: Path) -> None:
    values = numbers(10, 4)
    found = read_weights(write(tmp_path / "w.gguf", w=values), "w")
    chunks = list(found.chunks(4))
    assert [start for start, _ in chunks] == [0, 4, 8]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in chunks]), values)


def test_rows_beyond_the_end_are_not_there(tmp_path: Path) -> None:
    values = numbers(3, 4)
    found = read_weights(write(tmp_path / "w.gguf", w=values), "w")
    np.testing.assert_array_equal(found.rows(1, 100), values[1:])
    assert found.rows(3, 100).shape == (0, 4)


def test_rows_may_be_written_to_and_outlive_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gguf", w=numbers(3, 4))
    rows = read_weights(path, "w").rows(0, 3)
    rows[0] = -1
    path.unlink()
    np.testing.assert_array_equal(rows[1:], numbers(3, 4)[1:])


def test_a_vector_is_one_row_and_a_stack_of_matrices_is_flattened(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gguf", vector=numbers(7), stack=numbers(2, 3, 4))
    vector, stack = read_weights(path, "vector"), read_weights(path, "stack")
    assert (vector.n_rows, vector.shape) == (1, (7,))
    np.testing.assert_array_equal(vector.read(), numbers(7))
    np.testing.assert_array_equal(stack.read(), numbers(2, 3, 4))
    np.testing.assert_array_equal(stack.rows(3, 5), numbers(2, 3, 4).reshape(6, 4)[3:5])


def test_a_tensor_of_any_part_of_a_split_model_is_found(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    write(first, part=0, n_parts=2, a=numbers(3, 4))
    write(second, part=1, n_parts=2, filler=numbers(9), b=-numbers(2, 8))
    np.testing.assert_array_equal(read_weights(first, "a").read(), numbers(3, 4))
    np.testing.assert_array_equal(read_weights(first, "b").read(), -numbers(2, 8))
    assert read_weights(first, "b").path == second


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gguf", w=numbers(3, 4))
    with pytest.raises(UnsupportedModel, match=r"w\.gguf: no tensor 'output\.weight' in this model"):
        read_weights(path, "output.weight")


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"something else")
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        read_weights(tmp_path / "x.gguf", "w")


def test_a_type_that_gguf_cannot_dequantize_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gguf", w=np.ones((3, 4), np.int8))
    with pytest.raises(UnsupportedModel, match="w is stored as I8, .*update gguf.*quantize the model again"):
        read_weights(path, "w").read()


def test_a_type_that_this_gguf_does_not_know_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gguf", w=numbers(3, 4))
    newer = GgufTensor(path, "w", Tensor(999, (4, 3), 0), read_weights(path, "w").start)
    with pytest.raises(UnsupportedModel, match="w is stored as type 999"):
        newer.rows(0, 1)


def test_a_large_matrix_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    kind = GGMLQuantizationType.Q8_0
    n_rows, width = 24_576, 1024  # 100 MB as floats
    data = np.zeros((n_rows, width // 32 * 34), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "llama")
    writer.add_tensor("w", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    del data, writer
    found = read_weights(tmp_path / "w.gguf", "w")
    tracemalloc.start()
    n_read = sum(len(rows) for _, rows in found.chunks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_read == n_rows
    assert module._STRETCH < peak < 64e6
