"""Downloads from the Hub and use of its cache, against a stand-in on 127.0.0.1."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from adapters.errors import ModelNotFound
from adapters.hub import HubFile, HubReference, fetch_file, fetch_gguf, list_ggufs
from tests.adapters.hub_stand_in import HubStandIn, resolve_here_only

REPO = "owner/repo"
Q8_0 = HubReference(REPO, quant="Q8_0")
SPLIT = [f"big-Q8_0-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
TOKEN = "hf_right"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    """A stand-in that the library talks to, whatever the surrounding environment says."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    tqdm_module = sys.modules["huggingface_hub.utils.tqdm"]
    monkeypatch.setattr(tqdm_module, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolve_here_only)
    with HubStandIn() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.members, hub.strangers = {TOKEN}, {"hf_stranger"}
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setenv("HF_ENDPOINT", NOWHERE)


def fetch_error(reference: HubReference, cache: Path, **options: str | bool | None) -> str:
    with pytest.raises(ModelNotFound) as caught:
        fetch_gguf(reference, cache_dir=cache, **options)  # type: ignore[arg-type]
    return str(caught.value)


def downloads(hub: HubStandIn) -> list[str]:
    return [request for request in hub.requests if request.startswith("GET /owner")]


def test_quant_is_downloaded_into_the_cache_once(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q4_0.gguf": b"four", "m-Q8_0.gguf": b"eight"})
    path = fetch_gguf(Q8_0, cache_dir=cache)
    assert path.read_bytes() == b"eight" and path.name == "m-Q8_0.gguf"
    assert path.is_relative_to(cache)
    assert fetch_gguf(Q8_0, cache_dir=cache) == path
    assert downloads(hub) == ["GET /owner/repo/resolve/main/m-Q8_0.gguf"]


def test_file_in_a_folder_is_fetched(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"Q8_0/m 1.gguf": b"eight"})
    path = fetch_gguf(HubReference(REPO, file="Q8_0/m 1.gguf"), cache_dir=cache)
    assert path.read_bytes() == b"eight"


def test_unknown_quant_and_file_list_what_the_repo_has(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    listed = "it has:\n  owner/repo:Q8_0 (5 B)"
    assert fetch_error(HubReference(REPO, quant="Q9"), cache) == f"{REPO} has no Q9; {listed}"
    assert listed in fetch_error(HubReference(REPO, file="x.gguf"), cache)


@pytest.mark.parametrize("folder", ["", "Q8_0/"])
def test_all_parts_come_and_the_first_is_returned(hub: HubStandIn, cache: Path, folder: str) -> None:
    hub.add(REPO, {f"{folder}{name}": name.encode() for name in reversed(SPLIT)})
    path = fetch_gguf(Q8_0, cache_dir=cache)
    assert path.name == SPLIT[0]
    assert [path.with_name(name).read_bytes() for name in SPLIT] == [n.encode() for n in SPLIT]


def test_parts_stay_together_when_the_repo_moves_on(hub: HubStandIn, cache: Path) -> None:
    repo = hub.add(REPO, {name: b"old " + name.encode() for name in SPLIT})

    def push(name: str) -> None:
        repo.commit({name: b"new" for name in SPLIT})

    hub.before_get = push
    path = fetch_gguf(Q8_0, cache_dir=cache)
    assert path.with_name(SPLIT[2]).read_bytes() == b"old " + SPLIT[2].encode()


def test_revision_may_be_a_tag_or_a_commit(hub: HubStandIn, cache: Path) -> None:
    repo = hub.add(REPO, {"m-Q8_0.gguf": b"new"})
    sha = repo.commit({"m-Q8_0.gguf": b"old"}, "v1")
    assert fetch_gguf(Q8_0, cache_dir=cache).read_bytes() == b"new"
    for revision in ("v1", sha):
        for offline in (False, True):
            path = fetch_gguf(Q8_0, cache_dir=cache, revision=revision, local_files_only=offline)
            assert path.read_bytes() == b"old"


def test_unknown_revision_is_named(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    assert "has no revision 'v9'" in fetch_error(Q8_0, cache, revision="v9")


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_unknown_and_private_repos_get_the_same_advice(
    hub: HubStandIn, cache: Path, token: str | None
) -> None:
    hub.add("owner/private", {"m-Q8_0.gguf": b"eight"}, "private")
    for name in ("owner/unknown", "owner/private"):
        text = fetch_error(HubReference(name), cache, token=token)
        assert f"has no repository {name}, or it is private" in text
        assert "HF_TOKEN or pass token=" in text


def test_invalid_repo_name_is_refused_before_any_request(hub: HubStandIn, cache: Path) -> None:
    assert "write owner/name" in fetch_error(HubReference("a/b/c"), cache)
    assert hub.requests == []


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_gated_repo_names_the_page_and_the_token(hub: HubStandIn, cache: Path, token: str | None) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"}, "gated")
    text = fetch_error(Q8_0, cache, token=token)
    assert f"{hub.endpoint}/{REPO}" in text and "HF_TOKEN or pass token=" in text


def test_wrong_token_is_told_apart(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    text = fetch_error(Q8_0, cache, token="hf_wrong")
    assert "refused access" in text and "Invalid credentials" in text
    for token in ("hf_wrong", "hf_\x01wrong", "hf_wröng"):
        assert token not in fetch_error(Q8_0, cache, token=token)


def test_right_token_opens_private_and_gated(
    hub: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"}, "private")
    hub.add("owner/gated", {"m.gguf": b"gated"}, "gated")
    assert fetch_gguf(Q8_0, cache_dir=cache, token=f"{TOKEN}\n").read_bytes() == b"eight"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_gguf(HubReference("owner/gated"), cache_dir=cache).read_bytes() == b"gated"


def test_local_files_only_and_hf_hub_offline_send_nothing(
    hub: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {name: b"part" for name in SPLIT})
    path = fetch_gguf(Q8_0, cache_dir=cache)
    hub.requests.clear()
    assert fetch_gguf(Q8_0, cache_dir=cache, local_files_only=True) == path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_gguf(Q8_0, cache_dir=cache) == path
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        list_ggufs(REPO)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # set before huggingface_hub's import
    assert fetch_gguf(Q8_0, cache_dir=cache) == path
    assert hub.requests == []


def test_unreachable_hub_falls_back_to_the_cache(
    hub: HubStandIn, cache: Path, unplug: Callable[[], None]
) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight", "tokenizer.json": b"{}"})
    model = fetch_gguf(Q8_0, cache_dir=cache)
    tokenizer = fetch_file(REPO, "tokenizer.json", cache_dir=cache)
    unplug()
    assert fetch_gguf(Q8_0, cache_dir=cache) == model
    assert fetch_gguf(HubReference(REPO), cache_dir=cache) == model
    assert fetch_file(REPO, "tokenizer.json", cache_dir=cache) == tokenizer


def test_unreachable_hub_without_a_copy_says_what_the_cache_has(
    hub: HubStandIn, cache: Path, unplug: Callable[[], None]
) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    endpoint = hub.endpoint
    unplug()
    text = fetch_error(Q8_0, cache)
    assert "no usable answer" in text and "the local cache has nothing of owner/repo" in text
    assert "local_files_only=True" in text and endpoint not in text


def test_cached_copy_of_something_else_is_listed(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight", "m-Q4_0.gguf": b"four"})
    fetch_gguf(Q8_0, cache_dir=cache)
    text = fetch_error(HubReference(REPO, quant="Q4_0"), cache, local_files_only=True)
    assert "cache of owner/repo has no Q4_0; it has:\n  owner/repo:Q8_0 (5 B)" in text
    text = fetch_error(Q8_0, cache, revision="v1", local_files_only=True)
    assert "nothing of owner/repo at revision v1, only of:\n  main" in text


def test_half_a_split_model_in_the_cache_is_not_used(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {name: b"part" + name.encode() for name in SPLIT})
    path = fetch_gguf(Q8_0, cache_dir=cache)
    path.with_name(SPLIT[1]).unlink()
    text = fetch_error(Q8_0, cache, local_files_only=True)
    assert f"lacks parts of {SPLIT[0]}:\n  {SPLIT[1]}" in text


def test_damaged_cache_is_named(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    fetch_gguf(Q8_0, cache_dir=cache).resolve().unlink()
    assert "is damaged; delete models--owner--repo: Blob missing" in fetch_error(
        Q8_0, cache, local_files_only=True
    )


def test_broken_hub_counts_as_unreachable(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    path = fetch_gguf(Q8_0, cache_dir=cache)
    hub.broken_status = 503
    assert fetch_gguf(Q8_0, cache_dir=cache) == path
    hub.broken_status, hub.answers_html = None, True
    assert fetch_gguf(Q8_0, cache_dir=cache) == path
    assert "no usable answer" in fetch_error(HubReference("owner/other"), cache)


def test_odd_refusal_is_passed_on(hub: HubStandIn, cache: Path) -> None:
    hub.broken_status = 410
    assert "HTTP 410: out of order" in fetch_error(Q8_0, cache)


def test_cut_download_goes_on_where_it_stopped(
    hub: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what is kept, is kept in chunks
    data = bytes(range(256)) * 4
    hub.add(REPO, {"m-Q8_0.gguf": data})
    hub.cut_once_after = 300
    with suppress(ModelNotFound):  # older libraries give up here, and resume in the next call
        fetch_gguf(Q8_0, cache_dir=cache)
    assert fetch_gguf(Q8_0, cache_dir=cache).read_bytes() == data
    assert hub.ranges == [300]


def test_names_that_leave_the_cache_are_never_fetched(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"../../x-Q8_0.gguf": b"evil", "m-Q4_0.gguf": b"four"})
    assert [file.name for file in list_ggufs(REPO)] == ["m-Q4_0.gguf"]
    fetch_error(Q8_0, cache)
    fetch_error(HubReference(REPO, file="../../x-Q8_0.gguf"), cache)
    with pytest.raises(ModelNotFound):
        fetch_file(REPO, "../../x-Q8_0.gguf", cache_dir=cache)
    assert not list(cache.parent.rglob("*x-Q8_0*")) and downloads(hub) == []


def test_unknown_file_lists_the_files(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"config.json": b"{}"})
    with pytest.raises(ModelNotFound, match=r"no file 'tokenizer.json'; it has:\n  config.json"):
        fetch_file(REPO, "tokenizer.json", cache_dir=cache)


def test_ggufs_are_listed_by_name_with_sizes(hub: HubStandIn) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight", "README.md": b"", "m-BF16.gguf": b"b"})
    assert list_ggufs(REPO) == [HubFile("m-BF16.gguf", 1), HubFile("m-Q8_0.gguf", 5)]


def test_unusable_cache_folder_stays_an_os_error(hub: HubStandIn, cache: Path) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    cache.write_text("a file where a folder should be")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        fetch_gguf(Q8_0, cache_dir=cache)


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_on_request_only(
    hub: HubStandIn,
    cache: Path,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": b"eight"})
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the library's switch for bars without a terminal
    fetch_gguf(Q8_0, cache_dir=cache, progress=shown)
    output = capsys.readouterr()
    assert ("m-Q8_0.gguf" in output.err) is shown
    assert output.out == "" and not are_progress_bars_disabled("huggingface_hub.http_get")
