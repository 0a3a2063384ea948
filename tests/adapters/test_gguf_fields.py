"""Metadata goes from one GGUF to another unchanged, whatever its type."""

from pathlib import Path

import gguf
import pytest
from gguf.constants import GGUFValueType

from adapters.errors import ModelLoadError
from adapters.gguf_fields import read_fields, write_fields
from tests.tiny_gguf import TinyFactory


def written(path: Path, source: Path | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "any")
    if source is not None:
        write_fields(writer, read_fields(source, "x."))
    else:
        for number, kind in enumerate(GGUFValueType):
            if kind not in (GGUFValueType.ARRAY, GGUFValueType.STRING):
                writer.add_key_value(f"x.{kind.name}", bool(number % 2), kind)
        writer.add_string("x.text", "größer")
        writer.add_array("x.texts", ["a", "", "→"])
        writer.add_array("x.whole", [-1, 7])
        writer.add_array("x.real", [0.5, -1.25])
        writer.add_array("x.bytes", bytes([0, 128, 255]))
        writer.add_array("x.flags", [True, False])
        writer.add_string("y.other", "left behind")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_every_type_of_value_is_copied(tmp_path: Path) -> None:
    source = written(tmp_path / "a.gguf")
    copy = written(tmp_path / "b.gguf", source)
    fields = read_fields(source, "x.")
    assert read_fields(copy, "") == [*read_fields(source, "general."), *fields]
    values = {key: value for key, _, value in fields}
    assert values["x.texts"] == [b"a", b"", "→".encode()] and values["x.text"] == "größer".encode()
    assert values["x.bytes"] == b"\x00\x80\xff" and values["x.real"] == [0.5, -1.25]
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(copy)
    for key in values:
        assert before.fields[key].types == after.fields[key].types


def test_a_file_that_is_cut_short_is_refused(tiny: TinyFactory, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(tiny("llama").read_bytes()[:3000])
    with pytest.raises(ModelLoadError, match="cut short"):
        read_fields(short, "tokenizer.")
