"""Claims about reading GGUF headers: right facts, and one clear error for every damaged file."""

import re
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from adapters.errors import AdapterError, ModelLoadError
from adapters.gguf_file import is_gguf, new_gguf, read_gguf, read_tensors
from tests.tiny_gguf import N_VOCAB, TinyFactory


def write(path: Path, tensors: dict[str, Any], **fields: Any) -> Path:
    """A GGUF of architecture `llama` with these tensors; fields are keys after `llama.`."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in fields.items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"llama.{key.replace('__', '.')}", value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_split(folder: Path) -> list[Path]:
    """A model in two parts of one tensor each, 64 and 32 weights."""
    paths = [folder / f"model-0000{n}-of-00002.gguf" for n in (1, 2)]
    for number, (path, name) in enumerate(zip(paths, ("token_embd", "output"), strict=True)):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_tensor(f"{name}.weight", np.ones((2 - number, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def test_facts_are_those_the_model_was_written_with(tiny: TinyFactory) -> None:
    path = tiny("llama", n_ctx_train=256)
    facts = read_gguf(path)
    assert (facts.architecture, facts.name, facts.file_type) == ("llama", "tiny", "F32")
    assert (facts.n_layer, facts.n_embd, facts.n_head, facts.n_head_kv) == (2, 64, 4, 2)
    assert (facts.n_vocab, facts.n_ctx_train) == (N_VOCAB, 256)
    assert (facts.sliding_window, facts.has_chat_template) == (None, True)
    assert facts.bytes == path.stat().st_size


@pytest.mark.parametrize("arch", ["llama", "qwen2", "phi3", "gemma3", "mamba"])
def test_tensor_table_agrees_with_ggufs_own_reader(tiny: TinyFactory, arch: str) -> None:
    path = tiny(arch, dtype="f16")
    oracle = {t.name: t for t in gguf.GGUFReader(path).tensors}
    tensors = read_tensors(path)
    assert list(tensors) == list(oracle)
    for name, tensor in tensors.items():
        assert tensor.type == oracle[name].tensor_type.name
        assert list(tensor.shape) == oracle[name].shape.tolist()
        assert tensor.bytes == oracle[name].n_bytes
    assert read_gguf(path).n_params == sum(t.n_elements for t in oracle.values())


def test_sliding_window_and_missing_template_are_seen(tiny: TinyFactory) -> None:
    facts = read_gguf(tiny("gemma3", chat_template=None))
    assert facts.sliding_window == 16
    assert not facts.has_chat_template


def test_tensor_types_are_counted(tiny: TinyFactory) -> None:
    facts = read_gguf(tiny("llama", dtype="f16"))
    assert facts.file_type == "F16"
    assert facts.tensor_types == {"F16": 2 * 7 + 2, "F32": 2 * 2 + 1}  # two layers; the norms
    assert facts.output_tensor_type == facts.token_embedding_type == "F16"


def test_tied_output_has_the_type_of_the_embedding(tmp_path: Path) -> None:
    path = write(tmp_path / "tied.gguf", {"token_embd.weight": np.ones((4, 32), np.float16)})
    assert read_gguf(path).output_tensor_type == "F16"


def test_without_a_file_type_the_type_of_most_weights_counts(tmp_path: Path) -> None:
    few, many = np.ones((1, 32), np.float32), np.ones((9, 32), np.float16)
    path = write(tmp_path / "untyped.gguf", {"a": few, "b": few, "c": many})
    assert read_gguf(path).file_type == "F16"


def test_where_layers_differ_the_largest_head_count_is_given(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", {}, attention__head_count=[4, 8, 6])
    assert read_gguf(path).n_head == read_gguf(path).n_head_kv == 8


def test_a_size_that_is_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", {}, block_count=["two"])
    with pytest.raises(ModelLoadError, match="block_count is .* not a whole number"):
        read_gguf(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"block_count": 0},
        {"block_count": 513},
        {"expert_count": 4000, "expert_used_count": 2},
        {"expert_count": 4, "expert_used_count": 5},
        {"expert_count": 4},
        {"expert_used_count": 1},
        {"rope__scaling__type": 7},
    ],
)
def test_numbers_that_abort_llama_cpp_are_refused(tmp_path: Path, fields: dict[str, int]) -> None:
    path = write(tmp_path / "model.gguf", {}, **fields)
    with pytest.raises(ModelLoadError, match="llama.* cannot be"):
        read_gguf(path)


def test_a_mixture_of_experts_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", {}, block_count=512, expert_count=4, expert_used_count=4)
    assert read_gguf(path).n_layer == 512


def test_parts_of_a_split_model_are_read_together(tmp_path: Path) -> None:
    parts = write_split(tmp_path)
    facts = read_gguf(parts[0])
    assert facts.n_params == 96
    assert facts.bytes == sum(part.stat().st_size for part in parts)


def test_a_later_part_names_the_first(tmp_path: Path) -> None:
    first, second = write_split(tmp_path)
    with pytest.raises(ModelLoadError, match=re.escape(f"is part 2 of 2; give {first}")):
        read_gguf(second)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first, second = write_split(tmp_path)
    second.unlink()
    with pytest.raises(ModelLoadError, match=re.escape(f"{second}: cannot be read")):
        read_gguf(first)


def test_a_renamed_part_is_told_its_name(tmp_path: Path) -> None:
    renamed = write_split(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelLoadError, match="must end in -00001-of-00002.gguf"):
        read_gguf(renamed)


def test_every_cut_is_one_clear_error(tiny: TinyFactory, tmp_path: Path) -> None:
    whole = tiny("llama").read_bytes()
    path = tmp_path / "cut.gguf"
    cuts = [*range(0, 2000, 37), *range(2000, len(whole) - 32, len(whole) // 50)]
    for length in cuts:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelLoadError, match="not a GGUF file|damaged or cut short"):
            read_gguf(path)


def test_wrong_bytes_in_the_header_raise_nothing_but_model_load_error(
    tiny: TinyFactory, tmp_path: Path
) -> None:
    source = tiny("llama")
    whole, path = bytearray(source.read_bytes()), tmp_path / "wrong.gguf"
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(400):
        wrong = whole.copy()
        for at in rng.integers(4, 12_000, 3):
            wrong[at] = rng.integers(0, 256)
        path.write_bytes(wrong[:20_000] if rng.random() < 0.1 else wrong)
        try:
            read_gguf(path)
        except ModelLoadError:
            n_refused += 1
    assert n_refused > 100


def test_a_big_endian_file_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + bytes(16))
    with pytest.raises(ModelLoadError, match="version 50331648"):
        read_gguf(path)


def test_what_is_no_gguf_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04")
    assert not is_gguf(path)
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        read_gguf(path)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        read_gguf(tmp_path / "none.gguf")


def test_new_gguf_appears_only_when_it_is_complete(tiny: TinyFactory, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    with new_gguf(target) as partial:
        shutil.copy(tiny("llama"), partial)
        assert not target.exists()
    assert target.read_bytes() == tiny("llama").read_bytes()
    assert [*tmp_path.iterdir()] == [target]


def test_new_gguf_that_is_cut_short_leaves_the_old_one(tiny: TinyFactory, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    with pytest.raises(ModelLoadError, match="disk full"), new_gguf(target) as partial:
        partial.write_bytes(tiny("llama").read_bytes()[:-200])
    assert target.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [target]


def test_new_gguf_vanishes_on_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_gguf(tmp_path / "model.gguf") as partial:
        partial.write_bytes(b"GGUF")
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


def test_new_gguf_that_cannot_take_its_name_says_so(tiny: TinyFactory, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    (target / "in the way").mkdir(parents=True)
    with pytest.raises(AdapterError, match="cannot be written"), new_gguf(target) as partial:
        shutil.copy(tiny("llama"), partial)
