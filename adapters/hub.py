"""Files from the Hugging Face Hub, or from its local cache where the Hub cannot be reached.

Knows repositories, revisions, tokens, the network and the cache; which file a name means is
decided in `adapters.hub_names`, and local paths and presets are for the caller to try first.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import CachedRevisionInfo, HfApi, constants, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from adapters.errors import ModelNotFound
from adapters.hub_names import (
    HubFile,
    HubReference,
    choose_gguf,
    is_inside,
    listing,
    parse_reference,
)

__all__ = [
    "HubFile",
    "HubReference",
    "fetch_file",
    "fetch_files",
    "fetch_gguf",
    "list_ggufs",
    "parse_reference",
]

_TOKEN_ADVICE = "set HF_TOKEN or pass token= (of an account that has access)"

# The Hub library's HTTP client was requests, then httpx, then httpx2. Whichever is installed, its
# most general error is the outermost ancestor of the Hub's HTTP error that is not Python's own.
_CLIENT_ERROR = [
    ancestor
    for ancestor in HfHubHTTPError.__mro__
    if issubclass(ancestor, Exception) and ancestor.__module__ != "builtins"
][-1]

_Choose = Callable[[list[HubFile], str], tuple[str, ...]]  # files, where they are -> names


def fetch_gguf(
    reference: HubReference,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Path:
    """Return the cached (first) file of a GGUF model after downloading the parts that are missing.

    Raises ModelNotFound; an OSError that is not about the network (a full disk) stays what it is.
    """

    def choose(files: list[HubFile], where: str) -> tuple[str, ...]:
        return choose_gguf(reference, files, where)

    repository = Repository(reference.repo, revision, token, cache_dir)
    with _progress_bars(progress):
        return repository.fetch(choose, local_files_only)


def fetch_file(
    repo: str,
    filename: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the cached copy of one file of any kind; raises what `fetch_gguf` raises."""

    def choose(files: list[HubFile], where: str) -> tuple[str, ...]:
        names = [file.name for file in files]
        if filename not in names:
            raise ModelNotFound(f"{where} has no file {filename!r}; it has:{listing(names)}")
        return (filename,)

    with _progress_bars(False):
        return Repository(repo, revision, token, cache_dir).fetch(choose, local_files_only)


def fetch_files(
    repo: str,
    wanted: _Choose,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Path:
    """Return the cached copy of the first file that `wanted` picks; the rest lie in the same snapshot."""
    with _progress_bars(progress):
        return Repository(repo, revision, token).fetch(wanted, local_files_only)


def list_ggufs(repo: str, *, revision: str | None = None, token: str | None = None) -> list[HubFile]:
    """List every GGUF file by name, each part of split ones and companions (mmproj) included."""
    files = Repository(repo, revision, token).files()
    return sorted((file for file in files if file.is_gguf), key=lambda file: file.name)


class _Unreachable(ModelNotFound):
    """The Hub gave no usable answer, so the local cache decides."""


@dataclass(frozen=True, slots=True)
class Repository:
    """One model repository at one revision, on the Hub and in the local cache."""

    name: str
    revision: str | None
    token: str | None = field(repr=False)
    cache_dir: str | Path | None = None

    @property
    def title(self) -> str:
        return self.name if self.revision is None else f"{self.name} at revision {self.revision}"

    @property
    def endpoint(self) -> str:
        # huggingface_hub reads the variable only once, when it is imported
        return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")

    @property
    def api(self) -> HfApi:
        # a token that was read from a file ends in a newline, which no HTTP header may hold
        token = (self.token or "").strip() or None
        if token and not (token.isascii() and token.isprintable()):
            raise ModelNotFound(f"token= for {self.name} holds characters that no token has")
        return HfApi(endpoint=self.endpoint, token=token, library_name="pilotfish")

    def fetch(self, choose: _Choose, local_files_only: bool) -> Path:
        """Download what `choose` picks from the file list, or find it in the cache."""
        if local_files_only:
            return self._find_cached(choose, "local_files_only=True")
        try:
            names = choose(self.files(), self.title)
        except _Unreachable as error:
            return self._find_cached(choose, str(error))
        return self._download_all(names)

    def files(self) -> list[HubFile]:
        """Ask the Hub, once and without retries; names that would leave the cache are dropped."""
        if _is_offline():
            raise _Unreachable("HF_HUB_OFFLINE is set")
        with self.asking():
            info = self.api.model_info(
                self.name,
                revision=self.revision,
                files_metadata=True,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            )
        siblings = info.siblings or ()
        return [HubFile(s.rfilename, s.size) for s in siblings if is_inside(s.rfilename)]

    def _download_all(self, names: tuple[str, ...]) -> Path:
        first = self._download(names[0], self.revision)
        # llama.cpp looks for the other parts beside the first, in snapshots/<commit>: name that
        # commit, so that a push in between cannot scatter them
        commit = first.parents[names[0].count("/")].name
        for name in names[1:]:
            self._download(name, commit)
        return first

    def _download(self, filename: str, revision: str | None) -> Path:
        with self.asking():
            path = self.api.hf_hub_download(self.name, filename, revision=revision, cache_dir=self.cache_dir)
        return Path(path)

    def _find_cached(self, choose: _Choose, reason: str) -> Path:
        wanted = self.revision or constants.DEFAULT_REVISION
        try:
            revisions = self._cached_revisions()
            for cached in revisions:
                if wanted == cached.commit_hash or wanted in cached.refs:
                    names = choose(_files_in(cached), f"the local cache of {self.title}")
                    return cached.snapshot_path / names[0]
            held = [name for cached in revisions for name in cached.refs or {cached.commit_hash}]
            other = f", only of:{listing(held)}" if held else ""
            raise ModelNotFound(f"the local cache has nothing of {self.name} at revision {wanted}{other}")
        except ModelNotFound as error:
            advice = "once fetched with a connection, local_files_only=True finds it"
            raise ModelNotFound(f"{reason}; {error}\n({advice})") from error

    def _cached_revisions(self) -> list[CachedRevisionInfo]:
        try:
            cache = scan_cache_dir(self.cache_dir)
        except CacheNotFound:
            return []
        folder = "--".join(("models", *self.name.split("/")))
        for damage in cache.warnings:
            if folder in re.split(r"[^\w.-]+", str(damage)):
                raise ModelNotFound(f"the local cache of {self.name} is damaged; delete {folder}: {damage}")
        ours = [c for c in cache.repos if c.repo_type == "model" and c.repo_id == self.name]
        return [revision for repo in ours for revision in repo.revisions]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what the Hub, or its absence, raises into a ModelNotFound that gives advice."""
        try:
            yield
        except LocalEntryNotFoundError as error:
            raise self._explain(error.__cause__ or error) from error
        except (
            _CLIENT_ERROR,
            HfHubHTTPError,
            HFValidationError,
            FileMetadataError,
            JSONDecodeError,
            ConnectionError,
            TimeoutError,
        ) as error:
            raise self._explain(error) from error

    def _explain(self, error: BaseException) -> ModelNotFound:
        status: int = getattr(getattr(error, "response", None), "status_code", 0)
        message = getattr(error, "server_message", None) or "no reason given"
        said = f"HTTP {status}: {message}" if status else f"{type(error).__name__}: {error}"
        match error:
            case GatedRepoError():
                page = f"{self.endpoint}/{self.name}"
                text = f"{self.name} is gated: accept its terms at {page}, then {_TOKEN_ADVICE}"
            case RepositoryNotFoundError():
                text = (
                    f"{self.endpoint} has no repository {self.name}, or it is private: "
                    f"check the spelling, or {_TOKEN_ADVICE}"
                )
            case RevisionNotFoundError():
                text = (
                    f"{self.name} has no revision {self.revision!r}: "
                    "name a branch, a tag or a full commit hash, or leave revision out"
                )
            case EntryNotFoundError():
                text = f"{self.title} lists a file that it does not serve: {said}"
            case HFValidationError():
                text = f"{self.name!r} is no repository; write owner/name: {error}"
            case HfHubHTTPError() if status in (401, 403):
                text = f"{self.endpoint} refused access to {self.name} ({said}); {_TOKEN_ADVICE}"
            case HfHubHTTPError() if 400 <= status < 500 and status not in (408, 429):
                text = f"{self.endpoint} cannot serve {self.title} ({said})"
            case _:
                return _Unreachable(
                    f"no usable answer from {self.endpoint} ({said}): check the connection and try again"
                )
        return ModelNotFound(text)


def _files_in(cached: CachedRevisionInfo) -> list[HubFile]:
    return [
        HubFile(file.file_path.relative_to(cached.snapshot_path).as_posix(), file.size_on_disk)
        for file in cached.files
    ]


def _is_offline() -> bool:
    # the constant tells how the variable stood when huggingface_hub was imported
    now = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return constants.HF_HUB_OFFLINE or now


@contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    """Silence the library's bars for a while, unless an environment variable has the say."""
    group = "huggingface_hub"
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if shown or decided or are_progress_bars_disabled(group):
        yield
        return
    disable_progress_bars(group)
    try:
        yield
    finally:
        enable_progress_bars(group)
