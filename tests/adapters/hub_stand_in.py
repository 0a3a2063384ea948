"""A Hugging Face Hub on 127.0.0.1, as far as downloading models from it goes.

Knows repositories, commits, tokens and the headers that huggingface_hub reads. Announces no Xet
storage, so files travel as plain HTTP; knows nothing of uploads, datasets and search.
"""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

Access = Literal["public", "private", "gated"]

_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")

_real_getaddrinfo = socket.getaddrinfo


def resolve_here_only(host: str | bytes | None, *args: Any, **options: Any) -> Any:
    """Replace socket.getaddrinfo during a test, so that no bug can reach the real Hub."""
    if host not in ("127.0.0.1", b"127.0.0.1"):
        raise socket.gaierror(f"the tests have no network, not even for {host!r}")
    return _real_getaddrinfo(host, *args, **options)


@dataclass
class StandInRepo:
    """Commits by hash, and the branches and tags that name them."""

    access: Access = "public"
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *refs: str) -> str:
        """Add a commit, move `refs` (default: main) to it, return its hash."""
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha] = files
        for ref in refs or ("main",):
            self.refs[ref] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None


class HubStandIn:
    """Serves `repos` while it is entered as a context; the switches imitate trouble."""

    def __init__(self) -> None:
        self.repos: dict[str, StandInRepo] = {}
        self.members: set[str] = set()  # tokens that open private and gated repositories
        self.strangers: set[str] = set()  # valid tokens of accounts that have no access
        self.requests: list[str] = []  # "METHOD path", in order of arrival
        self.ranges: list[int] = []  # first bytes of the downloads that were resumed
        self.broken_status: int | None = None  # answer everything with this status
        self.answers_html = False  # like the sign-in page of a hotel network
        self.cut_once_after: int | None = None  # bytes of the next download that arrive
        self.before_get: Callable[[str], None] | None = None  # is told the file name
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], access: Access = "public") -> StandInRepo:
        repo = self.repos[name] = StandInRepo(access)
        repo.commit(files)
        return repo

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Refusal(Exception):
    """An answer other than success, in the Hub's terms."""

    def __init__(self, status: int, code: str = "", message: str = "", commit: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in headers.items() if value}


class _Handler(BaseHTTPRequestHandler):
    """One request; HTTP/1.0, so that no connection outlives its answer."""

    hub: HubStandIn

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep standard error for what is being tested."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        if self.hub.answers_html:
            return self._send(200, {"Content-Type": "text/html"}, b"<html>Please sign in</html>")
        try:
            if self.hub.broken_status is not None:
                raise _Refusal(self.hub.broken_status, message="out of order")
            self._route(path)
        except _Refusal as refusal:
            body = json.dumps({"error": str(refusal)}).encode()
            self._send(refusal.status, {**refusal.headers, "Content-Type": "application/json"}, body)

    def _route(self, path: str) -> None:
        if info := _INFO.fullmatch(path):
            self._send_info(info[1], unquote(info[2] or "main"))
        elif file := _RESOLVE.fullmatch(path):
            self._send_file(file[1], unquote(file[2]), unquote(file[3]))
        else:
            raise _Refusal(404, message="no such route")

    def _repo(self, name: str, *, opens: tuple[Access, ...]) -> StandInRepo:
        """Find a repository that the request's token may see; the Hub hides private ones."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.members | self.hub.strangers:
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        repo = self.hub.repos.get(name)
        if repo is not None and (repo.access in opens or token in self.hub.members):
            return repo
        if repo is not None and repo.access == "gated":
            raise _Refusal(403 if token else 401, "GatedRepo", f"Access to {name} is restricted")
        raise _Refusal(404 if token else 401, "RepoNotFound", "Repository not found")

    def _commit(self, repo: StandInRepo, revision: str) -> str:
        sha = repo.resolve(revision)
        if sha is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _send_info(self, name: str, revision: str) -> None:
        # the Hub shows the file list of a gated repository to everybody
        repo = self._repo(name, opens=("public", "gated"))
        sha = self._commit(repo, revision)
        siblings = [
            {"rfilename": path, "size": len(data), "blobId": _etag(data)}
            for path, data in repo.commits[sha].items()
        ]
        info = {"_id": "0", "id": name, "modelId": name, "sha": sha, "siblings": siblings}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _send_file(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name, opens=("public",))
        sha = self._commit(repo, revision)
        if path not in repo.commits[sha]:
            raise _Refusal(404, "EntryNotFound", "Entry not found", sha)
        if self.command == "GET" and self.hub.before_get is not None:
            self.hub.before_get(path)
        data = repo.commits[sha][path]
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or len(data)) + 1, len(data))
            self.hub.ranges.append(start)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            return self._send(206, headers, data[start:end])
        self._send(200, headers, data)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: self._bytes_to_send(headers)])

    def _bytes_to_send(self, headers: dict[str, str]) -> int | None:
        if "ETag" not in headers or self.hub.cut_once_after is None:
            return None
        limit, self.hub.cut_once_after = self.hub.cut_once_after, None
        return limit


def _handler_for(hub: HubStandIn) -> type[_Handler]:
    return type("Handler", (_Handler,), {"hub": hub})


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
