"""Claims about finding a model by what a user calls it, and about the messages when there is none."""

from pathlib import Path
from typing import Any

import pytest

from adapters import hub, models
from adapters.errors import ModelLoadError, ModelNotFound
from adapters.models import resolve_model
from tests.tiny_gguf import TinyFactory


@pytest.fixture
def folder(tmp_path: Path, tiny: TinyFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two models, one of them split, and a text."""
    content = tiny("llama").read_bytes()
    for name in ("tiny.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("no model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What is asked of the Hub, which answers at once."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    def fetch(reference: Any, **options: Any) -> Path:
        calls.append((reference, options))
        return Path("fetched.gguf")

    monkeypatch.setattr(hub, "fetch_gguf", fetch)
    return calls


def test_a_path_is_taken_as_it_is(folder: Path) -> None:
    assert resolve_model(folder / "tiny.gguf") == folder / "tiny.gguf"
    assert resolve_model("tiny.gguf") == Path("tiny.gguf")


def test_the_home_folder_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert resolve_model("~/tiny.gguf") == folder / "tiny.gguf"


def test_another_kind_of_file_is_refused_by_its_first_bytes(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="notes.txt: not a GGUF file; it begins with b'no mo"):
        resolve_model("notes.txt")


def test_a_git_lfs_pointer_is_explained(folder: Path) -> None:
    (folder / "tiny.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ModelLoadError, match="run git lfs pull"):
        resolve_model("tiny.gguf")


def test_an_empty_file_is_explained(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="it is empty: fetch it again"):
        resolve_model("tiny.gguf")


def test_a_later_part_names_the_first(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="part 2 of 2 of a model; give big-00001-of-00002"):
        resolve_model("big-00002-of-00002.gguf")
    assert resolve_model("big-00001-of-00002.gguf").name == "big-00001-of-00002.gguf"


def test_a_folder_lists_what_can_be_given(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="is a folder; give one of its") as caught:
        resolve_model(folder)
    assert str(caught.value).split("\n")[1:] == ["  big-00001-of-00002.gguf", "  tiny.gguf"]


def test_a_folder_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="is a folder without a GGUF file"):
        resolve_model(tmp_path)


def test_a_preset_is_made_with_its_progress(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "smollm2").mkdir()  # a folder of that name is not in the way
    asked: list[tuple[str, Any]] = []

    def make(name: str, *, progress: Any) -> Path:
        asked.append((name, progress))
        return Path("made.gguf")

    def progress(_done: int, _total: int) -> None: ...

    monkeypatch.setattr(models, "resolve_preset", make)
    assert resolve_model("smollm2:Q4_0", progress=progress) == Path("made.gguf")
    resolve_model("smollm2")
    assert asked == [("smollm2:Q4_0", progress), ("smollm2", None)]


def test_a_reference_goes_to_the_hub_with_its_options(
    folder: Path, fetched: list[tuple[Any, dict[str, Any]]]
) -> None:
    options: dict[str, Any] = {"revision": "v1", "token": "secret", "local_files_only": True}
    assert resolve_model("owner/repo:Q8_0", show_progress=True, **options) == Path("fetched.gguf")
    assert fetched == [(hub.parse_reference("owner/repo:Q8_0"), options | {"progress": True})]


def test_a_path_object_never_goes_to_the_hub(folder: Path, fetched: list[tuple[Any, dict[str, Any]]]) -> None:
    with pytest.raises(ModelNotFound, match="it is no file"):
        resolve_model(Path("owner/repo"))
    assert fetched == []


def test_a_misspelt_file_in_a_subfolder_never_goes_to_the_hub(
    folder: Path, fetched: list[tuple[Any, dict[str, Any]]]
) -> None:
    (folder / "models" / "mine").mkdir(parents=True)
    with pytest.raises(ModelNotFound, match="it is no file"):
        resolve_model("models/mine/typo.gguf")
    assert fetched == []
    resolve_model("models/yours/file.gguf")
    assert len(fetched) == 1


def test_a_misspelt_file_is_corrected(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model 'tinny.gguf'.*did you mean tiny.gguf"):
        resolve_model("tinny.gguf")
    with pytest.raises(ModelNotFound, match="did you mean .*tiny.gguf"):
        resolve_model(folder / "tinny.gguf")


def test_a_misspelt_preset_is_corrected(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean smollm2?"):
        resolve_model("smolm2:Q4_0")


def test_what_is_close_to_nothing_says_what_was_tried(folder: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_model("xyz")
    message = str(caught.value)
    assert "no file, no preset (smollm2, gemma3-270m) and no Hub reference" in message
    assert message.split("\n")[1:] == ["  big-00001-of-00002.gguf", "  tiny.gguf"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody-of-that-name/x.gguf", "/no/where/x"])
def test_odd_names_are_just_not_found(folder: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="no model"):
        resolve_model(name)
