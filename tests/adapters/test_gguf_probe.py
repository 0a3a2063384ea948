"""Claims about synthetic models that time one type."""

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from adapters.errors import UnsupportedModel
from adapters.gguf_file import read_gguf
from adapters.gguf_probe import bits, fits, write_probe
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from orchestrator.draft import Draft


@pytest.mark.parametrize("kind", ["Q4_0", "IQ4_NL", "Q4_K", "Q6_K", "Q8_0", "BF16", "F32"])
def test_a_probe_holds_one_matrix_of_its_type_and_decodes(tmp_path, kind):
    path = write_probe(tmp_path / "probe.gguf", kind, 256, 192)
    facts = read_gguf(path)
    assert (facts.token_embedding_type, facts.n_vocab, facts.n_embd) == (kind, 192, 256)
    model = LlamaModel(path)
    context = LlamaContext(model, ContextSettings(n_ctx=256, n_threads=1))
    context.prefill([1, 2, 3])
    logits = context.score(Draft.chain([4, 5])).logits
    assert logits.shape == (3, 192) and np.isfinite(logits).all() and logits.std() > 0
    model.close()


def test_rows_are_the_quantizers_own_repeated(tmp_path):
    path = write_probe(tmp_path / "probe.gguf", "Q4_0", 64, 128)
    (matrix,) = [t for t in GGUFReader(path).tensors if t.name == "token_embd.weight"]
    values = dequantize(matrix.data, matrix.tensor_type)
    np.testing.assert_array_equal(values[:64], values[64:])
    original = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    assert np.abs(values[:64] - original).mean() < 0.2


def test_bits_count_the_scales_and_rows_must_be_whole_blocks():
    assert [bits(kind) for kind in ("Q4_0", "Q8_0", "Q6_K", "BF16", "F32")] == [4.5, 8.5, 6.5625, 16, 32]
    assert fits(576, "Q8_0") and not fits(576, "Q4_K") and fits(512, "Q4_K")
    with pytest.raises(UnsupportedModel, match="type 99 is newer than the installed gguf"):
        bits("type 99")
