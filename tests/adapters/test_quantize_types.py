"""Claims about types of single tensors."""

import pytest

from adapters.errors import AdapterError, UnsupportedModel
from adapters.gguf_file import read_tensors
from adapters.quantize import quantize

NAMED = {"blk.0.ffn_up.weight": "Q8_0", "blk.1.attn_q.weight": "F16"}


def test_named_tensors_get_their_own_types_and_no_others(tiny, tmp_path):
    target = tmp_path / "out.gguf"
    quantize(tiny("llama"), target, "Q4_0", tensor_types=NAMED)
    types = {name: tensor.type for name, tensor in read_tensors(target).items()}
    assert {name: types[name] for name in NAMED} == NAMED
    assert types["blk.1.ffn_up.weight"] == types["blk.0.attn_q.weight"] == "Q4_0"


def test_a_tensor_that_keeps_its_type_keeps_its_bytes(tiny, tmp_path):
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    quantize(tiny("llama"), first, "Q4_1", tensor_types=NAMED)
    own = {name: tensor.type for name, tensor in read_tensors(first).items() if len(tensor.shape) == 2}
    report = quantize(first, second, "Q4_1", tensor_types=own)
    assert not report.lossy and second.stat().st_size == first.stat().st_size
    assert second.read_bytes()[-4096:] == first.read_bytes()[-4096:]


def test_what_llama_cpp_would_ignore_or_abort_on_is_refused(tiny, tmp_path):
    source, target = tiny("llama"), tmp_path / "out.gguf"
    with pytest.raises(AdapterError, match="only beside a quantized type, not BF16"):
        quantize(source, target, "BF16", tensor_types=NAMED)
    with pytest.raises(AdapterError, match="no tensor 'blk.9.x' in this model"):
        quantize(source, target, "Q4_0", tensor_types={"blk.9.x": "Q8_0"})
    with pytest.raises(UnsupportedModel, match="blk.0.ffn_up.weight cannot be Q4_K: its rows have 64"):
        quantize(source, target, "Q4_0", tensor_types={"blk.0.ffn_up.weight": "Q4_K"})
    assert not target.exists()
