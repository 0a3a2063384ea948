"""Claims about a target's own matrices: the right tensors of the file, and that they make its logits."""

import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from adapters.errors import ModelLoadError, UnsupportedModel
from adapters.gguf_weights import read_weights
from adapters.quantize import quantize
from adapters.target import HiddenTaps
from heads.target_weights import TargetWeights
from tests.adapters.tiny_context import PROMPT, TinyModel, chain, letters
from tests.tiny_gguf import N_EMBD, N_VOCAB, TinyFactory

EMBEDDING = np.arange(12, dtype=np.float32).reshape(4, 3)
NORM = np.ones(3, np.float32)


def write(path: Path, arch: str = "llama", eps: float | None = 0.125, **tensors: np.ndarray) -> Path:
    """A file of a tied model: nothing but what TargetWeights reads, `tensors` added."""
    writer = gguf.GGUFWriter(path, arch)
    if eps is not None:
        writer.add_layer_norm_rms_eps(eps)
    for name, values in {"token_embd": EMBEDDING, "output_norm": NORM, **tensors}.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_untied_model_gives_its_three_tensors(tiny: TinyFactory, tmp_path: Path) -> None:
    path = tmp_path / "q8.gguf"
    quantize(tiny("llama"), path, "Q8_0")
    weights = TargetWeights(path)
    assert not weights.tied
    assert weights.embedding.shape == weights.output.shape == (N_VOCAB, N_EMBD)
    assert weights.final_norm.shape == (N_EMBD,)
    for name, found in (("token_embd", weights.embedding), ("output", weights.output)):
        np.testing.assert_array_equal(found.numpy(), read_weights(path, f"{name}.weight").read())
    assert weights.embedding is weights.embedding


def test_a_tied_model_gives_one_tensor_twice(tmp_path: Path) -> None:
    weights = TargetWeights(write(tmp_path / "tied.gguf"))
    assert weights.tied and weights.output is weights.embedding
    np.testing.assert_array_equal(weights.output.numpy(), EMBEDDING)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2)])
def test_memory_is_known_before_anything_is_loaded(dtype: torch.dtype, size: int, tmp_path: Path) -> None:
    untied = TargetWeights(write(tmp_path / "untied.gguf", output=2 * EMBEDDING), dtype)
    tied = TargetWeights(write(tmp_path / "tied.gguf"), dtype)
    assert (tied.n_bytes, untied.n_bytes) == ((12 + 3) * size, (12 + 12 + 3) * size)
    assert not {"embedding", "output", "final_norm"} & vars(untied).keys()
    loaded = (untied.embedding, untied.output, untied.final_norm)
    assert {tensor.dtype for tensor in loaded} == {dtype}
    assert sum(tensor.nbytes for tensor in loaded) == untied.n_bytes


@pytest.mark.parametrize("quant", ["F32", "Q8_0"])
def test_output_times_a_post_norm_row_is_the_logits(quant: str, tiny: TinyFactory, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    quantize(tiny("llama"), path, quant)
    context = TinyModel(path).open(HiddenTaps(post_norm=True))
    context.prefill(PROMPT)
    rows = context.score(chain(letters("abc")))
    assert rows.hidden is not None and rows.hidden.post_norm is not None
    hidden = torch.from_numpy(rows.hidden.post_norm.copy())
    logits = (hidden @ TargetWeights(path).output.T).numpy()
    # beside 8-bit weights llama.cpp rounds the rows to 8 bits, too
    noise = 1e-4 if quant == "F32" else 0.03 * float(rows.logits.std())
    np.testing.assert_allclose(logits, rows.logits, atol=noise)


def test_a_split_model_is_read_from_all_its_parts(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    parts: tuple[dict[str, np.ndarray], ...]
    parts = ({"token_embd.weight": EMBEDDING}, {"output_norm.weight": NORM, "output.weight": -EMBEDDING})
    for number, (path, tensors) in enumerate(zip(paths, parts, strict=True)):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    weights = TargetWeights(paths[0])
    np.testing.assert_array_equal(weights.embedding.numpy(), EMBEDDING)
    np.testing.assert_array_equal(weights.output.numpy(), -EMBEDDING)
    np.testing.assert_array_equal(weights.final_norm.numpy(), NORM)


def test_loading_a_matrix_reports_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.gguf_weights._STRETCH", 2 * 3 * 4)  # two rows
    seen: list[tuple[int, int]] = []
    path = write(tmp_path / "m.gguf", token_embd=np.ones((5, 3), np.float32))
    weights = TargetWeights(path, progress=lambda done, total: seen.append((done, total)))
    assert weights.final_norm.sum() == 3 and not seen
    assert weights.embedding.sum() == 15
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("arch", ["gemma", "gemma2", "gemma3", "gemma3n", "gemma4"])
def test_gemmas_scale_their_embeddings(arch: str, tmp_path: Path) -> None:
    weights = TargetWeights(write(tmp_path / "m.gguf", arch))
    assert weights.embedding_scale == pytest.approx(math.sqrt(3))
    np.testing.assert_array_equal(weights.embedding.numpy(), EMBEDDING)  # as stored


def test_others_do_not_scale_theirs(tmp_path: Path) -> None:
    assert TargetWeights(write(tmp_path / "m.gguf", "qwen2")).embedding_scale == 1.0


def test_eps_is_that_of_the_architecture(tmp_path: Path) -> None:
    assert TargetWeights(write(tmp_path / "m.gguf", "qwen2")).eps == 0.125


def test_a_model_without_rms_norms_has_no_eps(tmp_path: Path) -> None:
    weights = TargetWeights(write(tmp_path / "m.gguf", "phi2", eps=None))
    with pytest.raises(UnsupportedModel, match=r"phi2\.attention\.layer_norm_rms_epsilon is None"):
        _ = weights.eps


def test_what_is_no_gguf_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"something else")
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        TargetWeights(tmp_path / "x.gguf")
