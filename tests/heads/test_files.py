"""Heads from folders, files and a stand-in Hub; damaged and wrong files say what they are."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants, scan_cache_dir

from adapters.errors import HeadError, ModelNotFound
from heads.checkpoint import load_head
from heads.files import read_files
from heads.spec import MedusaSpec
from tests.adapters.hub_stand_in import HubStandIn, resolve_here_only
from tests.heads.layout_files import files_of, save, save_sharded
from tests.heads.layouts import (
    EAGLE,
    H,
    V,
    Written,
    eagle_plain,
    eagle_tensors,
    medusa_full,
    medusa_plain,
    medusa_tensors,
)

MEDUSA = MedusaSpec(n_heads=2, n_blocks=1, hidden_size=H, n_vocab=V)
REPO = "owner/repo"


@pytest.fixture
def eagle() -> Written:
    return eagle_plain(EAGLE, eagle_tensors(EAGLE))


def check(found: tuple[Any, Any, str], written: Written, source: str) -> None:
    config, tensors, where = found
    assert (config, where) == (written[0], source)
    assert set(tensors) == set(written[1])
    assert all(torch.equal(tensors[name], tensor) for name, tensor in written[1].items())


def error(name: str | Path, kind: type[Exception] = HeadError) -> str:
    with pytest.raises(kind) as caught:
        read_files(name)
    return str(caught.value)


# local


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "medusa_lm_head.pt", "other.pt"])
def test_folder_and_file_of_every_format(tmp_path: Path, eagle: Written, file: str) -> None:
    save(tmp_path, eagle, file)
    check(read_files(tmp_path), eagle, str(tmp_path))
    check(read_files(str(tmp_path / file)), eagle, str(tmp_path / file))


def test_file_of_old_torch_versions(tmp_path: Path, eagle: Written) -> None:
    save(tmp_path, eagle)
    (tmp_path / "model.safetensors").unlink()
    torch.save(eagle[1], tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    check(read_files(tmp_path), eagle, str(tmp_path))


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_shards_are_joined(tmp_path: Path, eagle: Written, stem: str, suffix: str) -> None:
    save_sharded(tmp_path, eagle, stem, suffix)
    check(read_files(tmp_path), eagle, str(tmp_path))
    next(tmp_path.glob("*-00002-of-00002*")).unlink()
    assert f"names files that are not there; fetch:\n  {stem}-00002" in error(tmp_path, ModelNotFound)


def test_usual_names_come_first(tmp_path: Path, eagle: Written) -> None:
    save(tmp_path, eagle)
    for name in ("pytorch_model.bin", "medusa_lm_head.pt", "training_args.bin", "more.safetensors"):
        (tmp_path / name).write_bytes(b"of no use")
    check(read_files(tmp_path), eagle, str(tmp_path))


def test_config_may_be_missing(tmp_path: Path, eagle: Written) -> None:
    save(tmp_path, eagle)
    (tmp_path / "config.json").unlink()
    assert read_files(tmp_path)[0] == {}
    with pytest.raises(HeadError, match="there is no config.json beside it"):
        load_head(tmp_path)


def test_of_a_full_model_only_the_heads_are_read(tmp_path: Path) -> None:
    written = medusa_full(MEDUSA, medusa_tensors(MEDUSA))
    save_sharded(tmp_path, written, "pytorch_model", ".bin")
    assert set(read_files(tmp_path)[1]) == {name for name in written[1] if name.startswith("medusa_head.")}
    head = load_head(tmp_path)
    assert head.spec == MEDUSA and "full model" in head.notes[0] and head.source == str(tmp_path)


def test_folders_without_a_head_say_what_they_have(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    text = error(tmp_path, ModelNotFound)
    assert text == f"{tmp_path} has no .safetensors, .bin or .pt file:\n  README.md"
    (tmp_path / "model.gguf").touch()
    assert "GGUF files, but a head in PyTorch or safetensors form" in error(tmp_path, ModelNotFound)
    for name in ("a.pt", "b.bin"):
        (tmp_path / name).touch()
    text = error(tmp_path, ModelNotFound)
    assert text.endswith("several files that may be the head; name one:\n  a.pt\n  b.bin")


@pytest.mark.parametrize("name", ["no/such/folder", "heads/x.safetensors", "a b", "owner/repo:../x", "C:\\x"])
def test_what_is_nothing_says_what_to_give(name: str) -> None:
    text = error(name, ModelNotFound)
    assert repr(name) in text and "owner/repository:path/in/it" in text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (b"GGUF\x03\x00\x00\x00", "is GGUF; a head in PyTorch or safetensors form"),
        (b"<!doctype html><html>", "is a web page"),
        (b"not a head, nor anything like one", "no safetensors file"),
        (b"\x80\x02}q\x00X", "damaged"),
    ],
)
def test_wrong_files_are_told_apart(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert text in error(path) and error(path).startswith(str(path))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_files_are_named(tmp_path: Path, eagle: Written, file: str) -> None:
    path = save(tmp_path, eagle, file) / file
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{file}: is cut short" in error(path) and "fetch it again" in error(path)


class Code:
    """What a pickle may hold and a head may not."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("this must never be run",)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"0.0.linear.weight": Code()}, tmp_path / "medusa_lm_head.pt")
    text = error(tmp_path)
    assert "would have to run code to load" in text and "use a safetensors file" in text
    assert capsys.readouterr().out == ""


def test_what_torch_saved_must_be_tensors_by_name(tmp_path: Path) -> None:
    for value in ([torch.zeros(1)], {"epoch": 3}):
        torch.save(value, tmp_path / "x.pt")
        assert f"holds {type(value).__name__}, not tensors by name" in error(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_damaged_config_is_named(tmp_path: Path, eagle: Written, text: str) -> None:
    save(tmp_path, eagle)
    (tmp_path / "config.json").write_text(text)
    assert error(tmp_path).startswith(f"{tmp_path / 'config.json'}: ")


@pytest.mark.parametrize("table", [{}, {"weight_map": []}, {"weight_map": {"a": "../b"}}])
def test_index_without_usable_files_is_refused(tmp_path: Path, table: dict[str, Any]) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))
    assert "has no table of files" in error(tmp_path)


# the Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("adapters.hub.scan_cache_dir", lambda _: scan_cache_dir(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolve_here_only)
    with HubStandIn() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.members = {"hf_right"}
        yield hub


def fetched(hub: HubStandIn) -> set[str]:
    return {r.rpartition("/")[2] for r in hub.requests if r.startswith("GET /owner")}


def test_repo_is_read_and_only_its_head_fetched(hub: HubStandIn, tmp_path: Path, eagle: Written) -> None:
    files = files_of(save(tmp_path / "made", eagle, "pytorch_model.bin"))
    hub.add(REPO, {**files, "README.md": b"much", "optimizer.pt": b"more"})
    check(read_files(REPO), eagle, REPO)
    assert fetched(hub) == {"config.json", "pytorch_model.bin"}
    hub.requests.clear()
    check(read_files(REPO, local_files_only=True), eagle, REPO)
    assert hub.requests == []


@pytest.mark.parametrize("inside", ["sub/x.safetensors", "sub"])
def test_file_or_folder_in_a_repo(hub: HubStandIn, tmp_path: Path, eagle: Written, inside: str) -> None:
    files = files_of(save(tmp_path / "made", eagle, "x.safetensors"))
    hub.add(REPO, {**{f"sub/{name}": data for name, data in files.items()}, "model.safetensors": b"x"})
    check(read_files(f"{REPO}:{inside}"), eagle, f"{REPO}:{inside}")


def test_shards_of_a_repo_come_from_one_commit(hub: HubStandIn, tmp_path: Path, eagle: Written) -> None:
    files = files_of(save_sharded(tmp_path / "made", eagle, "model", ".safetensors"))
    repo = hub.add(REPO, files)

    def push(name: str) -> None:
        repo.commit({"model.safetensors": b"pushed in between"})

    hub.before_get = push
    check(read_files(REPO), eagle, REPO)
    hub.before_get = None
    check(read_files(REPO, local_files_only=True), eagle, REPO)


def test_of_a_full_model_only_shards_with_heads_are_fetched(hub: HubStandIn, tmp_path: Path) -> None:
    config, tensors = medusa_full(MEDUSA, medusa_tensors(MEDUSA))
    heads = {name: t for name, t in tensors.items() if name.startswith("medusa_head.")}
    files = files_of(save(tmp_path / "made", (config, heads), "b.safetensors"))
    table = {name: "b.safetensors" if name in heads else "a.safetensors" for name in tensors}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    hub.add(REPO, {**files, "a.safetensors": b"large"})
    assert load_head(REPO).spec == MEDUSA
    assert "a.safetensors" not in fetched(hub)


def test_revision_and_token_are_honoured(hub: HubStandIn, tmp_path: Path, eagle: Written) -> None:
    medusa = medusa_plain(MEDUSA, medusa_tensors(MEDUSA))
    repo = hub.add(REPO, files_of(save(tmp_path / "new", eagle)), "private")
    repo.commit(files_of(save(tmp_path / "old", medusa)), "v1")
    check(read_files(REPO, token="hf_right"), eagle, REPO)
    check(read_files(REPO, token="hf_right", revision="v1"), medusa, REPO)
    with pytest.raises(ModelNotFound, match="HF_TOKEN"):
        read_files(REPO)


def test_repo_without_what_was_named_lists_what_it_has(hub: HubStandIn) -> None:
    hub.add(REPO, {"README.md": b"", "m.gguf": b""})
    assert f"{REPO} holds GGUF files" in error(REPO, ModelNotFound)
    text = error(f"{REPO}:x.pt", ModelNotFound)
    assert text == f"{REPO} has no 'x.pt'; it has:\n  README.md\n  m.gguf"


def test_repo_that_lacks_a_shard_is_named(hub: HubStandIn) -> None:
    table = {"weight_map": {"fc.weight": "a.safetensors"}}
    hub.add(REPO, {"model.safetensors.index.json": json.dumps(table).encode()})
    assert "lacks files that its index names:\n  a.safetensors" in error(REPO, ModelNotFound)
