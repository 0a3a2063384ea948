"""Claims about quantizing: what is written, what is refused before llama.cpp sees it, and stopping."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from adapters import quantize as module
from adapters.errors import AdapterError, ModelLoadError, ModelNotFound, UnsupportedModel
from adapters.gguf_file import read_gguf, read_tensors
from adapters.llama_lib import library
from adapters.quantize import file_types, quantize, tensor_types
from tests.tiny_gguf import TinyFactory


def weights(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return {t.name: dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def tied(source: Path, target: Path) -> Path:
    """A copy of a tiny model whose output matrix is its token embedding."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], sub)
    for tensor in reader.tensors:
        if tensor.name != "output.weight":
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_q8_copy_is_smaller_and_close(tiny: TinyFactory, tmp_path: Path) -> None:
    source, target = tiny("llama"), tmp_path / "q8.gguf"
    report = quantize(source, target, "Q8_0")
    assert read_gguf(target).file_type == report.type == "Q8_0"
    assert (report.source_bytes, report.target_bytes) == (
        source.stat().st_size,
        target.stat().st_size,
    )
    assert report.target_bytes < report.source_bytes / 2
    before, after = weights(source), weights(target)
    for name, tensor in before.items():
        assert np.abs(after[name] - tensor).max() <= np.abs(tensor).max() / 127


def test_bf16_rounds_each_weight_to_the_nearest(tiny: TinyFactory, tmp_path: Path) -> None:
    source = tiny("llama")
    quantize(source, tmp_path / "bf16.gguf", "BF16")
    name = "blk.0.ffn_up.weight"
    bits = weights(source)[name].view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    np.testing.assert_array_equal(weights(tmp_path / "bf16.gguf")[name], nearest.view(np.float32))


def test_every_type_that_is_offered_can_be_made(tiny: TinyFactory, tmp_path: Path) -> None:
    for name in file_types().keys() - {"Q1_0"}:  # its blocks of 128 do not fit rows of 64
        quantize(tiny("llama"), tmp_path / f"{name}.gguf", name, n_threads=1)
    assert {"Q4_0", "Q4_K_M", "Q8_0", "BF16", "F16", "IQ4_NL"} < file_types().keys()


def test_small_letters_do(tiny: TinyFactory, tmp_path: Path) -> None:
    assert quantize(tiny("llama"), tmp_path / "q4.gguf", "q4_0").type == "Q4_0"


@pytest.mark.parametrize(
    ("first", "second", "lossy"),
    [
        ("F16", "Q4_0", False),
        ("Q4_1", "Q4_0", True),
        ("Q4_1", "BF16", False),
        ("Q8_0", "Q8_0", False),
    ],
)
def test_only_quantizing_twice_is_called_lossy(
    tiny: TinyFactory, tmp_path: Path, first: str, second: str, lossy: bool
) -> None:
    quantize(tiny("llama"), tmp_path / "first.gguf", first)
    report = quantize(tmp_path / "first.gguf", tmp_path / "second.gguf", second)
    assert report.lossy is lossy
    assert ("lossy" in str(report)) is lossy


def test_embedding_and_output_take_types_of_their_own(tiny: TinyFactory, tmp_path: Path) -> None:
    target = tmp_path / "mixed.gguf"
    quantize(tiny("llama"), target, "Q4_0", token_embedding_type="Q5_1", output_tensor_type="BF16")
    facts = read_gguf(target)
    assert (facts.token_embedding_type, facts.output_tensor_type) == ("Q5_1", "BF16")


@pytest.mark.parametrize("type", ["Q4_0", "F16"])
def test_output_type_reaches_a_tied_embedding(tiny: TinyFactory, tmp_path: Path, type: str) -> None:
    source = tied(tiny("llama"), tmp_path / "tied.gguf")
    quantize(source, tmp_path / "out.gguf", type, output_tensor_type="BF16")
    assert read_tensors(tmp_path / "out.gguf")["token_embd.weight"].type == "BF16"


def test_a_tied_embedding_cannot_have_two_types(tiny: TinyFactory, tmp_path: Path) -> None:
    source = tied(tiny("llama"), tmp_path / "tied.gguf")
    target = tmp_path / "out.gguf"
    with pytest.raises(UnsupportedModel, match="one tensor.*both Q8_0 and BF16"):
        quantize(source, target, "Q4_0", token_embedding_type="Q8_0", output_tensor_type="BF16")


def test_blocks_that_do_not_fit_a_row_are_refused(tiny: TinyFactory, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="output.weight cannot be Q6_K.* 64 .* 256"):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0", output_tensor_type="Q6_K")


@pytest.mark.parametrize("type", ["IQ1_S", "IQ2_XXS", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"])
def test_types_that_need_an_importance_matrix_say_so(tiny: TinyFactory, tmp_path: Path, type: str) -> None:
    with pytest.raises(AdapterError, match=f"{type} needs an importance matrix"):
        quantize(tiny("llama"), tmp_path / "out.gguf", type)


def test_an_unknown_type_lists_the_known_and_the_close(tiny: TinyFactory, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="'Q4_KM'; did you mean Q4_K_M.*BF16, F16.*Q8_0"):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_KM")


def test_an_unknown_tensor_type_lists_the_known(tiny: TinyFactory, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="'I32'; .*Q4_K"):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0", token_embedding_type="I32")
    assert "IQ4_NL" in tensor_types()


def test_paths_that_cannot_work_are_refused(tiny: TinyFactory, tmp_path: Path) -> None:
    source, target = tiny("llama"), tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(ModelNotFound, match="none.gguf: no such file"):
        quantize(tmp_path / "none.gguf", target, "Q4_0")
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        quantize(target, tmp_path / "other.gguf", "Q4_0")
    with pytest.raises(AdapterError, match="folder .*nowhere does not exist"):
        quantize(source, tmp_path / "nowhere" / "out.gguf", "Q4_0")
    with pytest.raises(AdapterError, match="is a folder"):
        quantize(source, tmp_path, "Q4_0")
    with pytest.raises(AdapterError, match="is the source itself"):
        quantize(source, source.parent / "." / source.name, "Q4_0", overwrite=True)
    with pytest.raises(AdapterError, match="exists already"):
        quantize(source, target, "Q4_0")
    assert target.read_bytes() == b"mine"


def test_overwrite_replaces(tiny: TinyFactory, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    quantize(tiny("llama"), target, "Q4_0", overwrite=True)
    assert read_gguf(target).file_type == "Q4_0"


def test_llama_cpps_own_reason_is_given_and_nothing_left(tiny: TinyFactory, tmp_path: Path) -> None:
    quantize(tiny("llama"), tmp_path / "q4.gguf", "Q4_0")
    with pytest.raises(ModelLoadError, match="requantizing from type q4_0 is disabled"):
        quantize(tmp_path / "q4.gguf", tmp_path / "q5.gguf", "Q5_0", allow_requantize=False)
    assert [*tmp_path.iterdir()] == [tmp_path / "q4.gguf"]


def test_an_unknown_architecture_is_named(tiny: TinyFactory, tmp_path: Path) -> None:
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(tiny("llama").read_bytes().replace(b"llama", b"lamas"))
    with pytest.raises(ModelLoadError, match="unknown model architecture: 'lamas'"):
        quantize(strange, tmp_path / "out.gguf", "Q4_0")


def test_progress_ends_with_all_tensors(tiny: TinyFactory, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0", progress=lambda *step: steps.append(step))
    n_tensors = len(read_tensors(tmp_path / "out.gguf"))
    assert steps == sorted(steps)
    assert steps[-1] == (n_tensors, n_tensors)


def test_ctrl_c_stops_the_quantizer_and_leaves_nothing(
    tiny: TinyFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    def endless(_source: Path, target: Path, params: Any, lines: list[str]) -> int:
        deadline = time.monotonic() + 30
        if not params.dry_run:
            target.write_bytes(b"GGUF")
            lines.append("[   1/ 272] token_embd.weight - [64, 320], type = f32, size = 1 MiB")
            while not params.dry_run and time.monotonic() < deadline:
                time.sleep(0.01)
            stopped.append(params.dry_run)
        return 0

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_call", endless)
    with pytest.raises(KeyboardInterrupt):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0", progress=interrupt)
    assert stopped == [True]
    assert [*tmp_path.iterdir()] == []


def test_llama_cpp_heeds_the_stop(tiny: TinyFactory, tmp_path: Path) -> None:
    """What stopping relies on: a dry run that is asked for mid-way leaves the rest unwritten."""
    lines: list[str] = []
    params = library().llama_model_quantize_default_params()

    class Stop(list[str]):
        def append(self, line: str) -> None:
            lines.append(line)
            params.dry_run = True

    module._call(tiny("llama"), tmp_path / "out.gguf", params, Stop())
    assert any("[  21/  21]" in line for line in lines)
    with pytest.raises(ModelLoadError):
        read_gguf(tmp_path / "out.gguf")


def test_a_write_that_was_cut_short_is_no_success(
    tiny: TinyFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(source: Path, target: Path, params: Any, _lines: list[str]) -> int:
        if not params.dry_run:
            target.write_bytes(source.read_bytes()[:-1000])
        return 0

    monkeypatch.setattr(module, "_call", cut)
    with pytest.raises(ModelLoadError, match="only a part of it was written"):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0")
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_is_noticed_before_writing(
    tiny: TinyFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=10))
    with pytest.raises(AdapterError, match="0 MB are free"):
        quantize(tiny("llama"), tmp_path / "out.gguf", "Q4_0")
    assert [*tmp_path.iterdir()] == []
