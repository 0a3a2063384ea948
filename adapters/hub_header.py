"""The header of a GGUF on the Hub, without its weights: megabytes instead of gigabytes.

Knows ranges of files; what a header means is for others. It is kept as a file of the full length whose
weights are a hole: that takes no room on most file systems, and llama.cpp reads it as it reads the model.
"""

from hashlib import sha256
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from adapters.errors import ModelLoadError, ModelNotFound
from adapters.gguf_header import header_in
from adapters.hub import Repository
from adapters.hub_names import HubFile, HubReference, choose_gguf
from adapters.new_file import new_file
from adapters.presets import cache_folder

_FIRST, _MOST = 2**22, 2**28  # bytes asked for at first, and at last
_TIMEOUT = 30.0  # seconds


def fetch_header(
    reference: HubReference, *, revision: str | None = None, token: str | None = None
) -> tuple[Path, list[HubFile]]:
    """A file that has the header of the GGUF that is meant (of a split one: its first part, the others
    beside it), and all files of the repository. Raises ModelNotFound or ModelLoadError."""
    repository = Repository(reference.repo, revision, token)
    files = repository.files()
    sizes = {file.name: file.size for file in files}
    names = choose_gguf(reference, files, repository.title)
    starts = [_start(repository, name, sizes[name] or 0) for name in names]
    # by content: another revision may have another header under the same name
    digest = sha256(b"".join(starts)).hexdigest()[:16]
    folder = cache_folder(f"headers/{repository.name.replace('/', '--')}/{digest}")
    paths = [folder / name.rpartition("/")[2] for name in names]
    for path, name, start in zip(paths, names, starts, strict=True):
        if not path.is_file():
            _write(path, start, sizes[name] or 0)
    return paths[0], files


def _start(repository: Repository, name: str, n_bytes: int) -> bytes:
    """As many bytes as the header takes, or some more."""
    if not n_bytes:
        raise ModelNotFound(f"{repository.title}: the Hub does not say how large {name} is; download it")
    url = hf_hub_url(repository.name, name, revision=repository.revision, endpoint=repository.endpoint)
    start, wanted = b"", _FIRST
    while True:
        start += _range(repository, url, len(start), min(wanted, n_bytes))
        if header_in(start, Path(name), n_bytes) is not None:
            return start
        if len(start) >= min(_MOST, n_bytes):
            reason = f"the header of {name} is longer than {len(start)} bytes"
            raise ModelLoadError(f"{repository.title}: {reason}; download the file")
        wanted *= 4


def _range(repository: Repository, url: str, begin: int, end: int) -> bytes:
    headers = build_hf_headers(token=repository.api.token, library_name="pilotfish")
    headers["Range"] = f"bytes={begin}-{end - 1}"
    with repository.asking():
        reply = get_session().get(url, headers=headers, timeout=_TIMEOUT)
        hf_raise_for_status(reply)
    data: bytes = reply.content
    if len(data) != end - begin:
        found = f"{len(data)} bytes where {end - begin} were asked for"
        raise ModelNotFound(f"{url} gave {found}; download the file")
    return data


def _write(path: Path, start: bytes, n_bytes: int) -> None:
    with new_file(path) as partial, partial.open("wb") as file:
        file.write(start)
        file.truncate(n_bytes)
