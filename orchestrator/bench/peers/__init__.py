"""Peers: other systems that answer the same prompts, token ids in and token ids out.

A spec names one: `llama-server`, `llama-server:ngram-mod --spec-ngram-mod-n-max 32`,
`llama-cpp-python:lookup --num-pred-tokens 5`, `transformers:assisted`. What follows the kind are flags:
llama-server's own, or those in PYTHON_FLAGS.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.gguf_header import read_header
from adapters.settings import require
from orchestrator.bench.answer import Entrant
from orchestrator.bench.peers.llama_cpp_python import LlamaCppPython
from orchestrator.bench.peers.llama_server import LlamaServer, remembers, server_flags, speculative_types
from orchestrator.bench.peers.transformers import Transformers
from orchestrator.errors import ConfigError

__all__ = ["expand_peers", "open_peer"]

SERVER, PYTHON, HUGGING_FACE = "llama-server", "llama-cpp-python", "transformers"
KINDS: Mapping[str, tuple[str, ...]] = {PYTHON: ("", "lookup"), HUGGING_FACE: ("", "lookup", "assisted")}
LOOKUP = 10  # tokens that prompt lookup drafts; the default of both libraries


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


# peer and flag -> the constructor's argument, what reads it, and the kinds that it goes with
PYTHON_FLAGS: Mapping[tuple[str, str], tuple[str, Callable[[str], Any], tuple[str, ...]]] = {
    (PYTHON, "--num-pred-tokens"): ("lookup", _count, ("lookup",)),
    (PYTHON, "--max-ngram-size"): ("max_ngram_size", _count, ("lookup",)),
    (PYTHON, "--flash-attn"): ("flash_attn", lambda text: {"on": True, "off": False}[text], ("", "lookup")),
    (HUGGING_FACE, "--prompt-lookup-num-tokens"): ("lookup", _count, ("lookup",)),
    (HUGGING_FACE, "--dtype"): ("dtype", str, ("", "lookup", "assisted")),
}


@dataclass(frozen=True, slots=True)
class _Spec:
    text: str
    peer: str
    kind: str
    flags: tuple[str, ...]


def open_peer(
    spec: str,
    *,
    model: Path,
    draft: Path | None,
    llama_server: Path | None,
    n_ctx: int,
    n_threads: int,
    sampling: Mapping[str, Any],
    ignore_eos: bool,
    end_tokens: Sequence[int],
) -> Entrant:
    """The entrant that `spec` names, which is its name, loaded with `model`.

    draft: a GGUF for kinds that draft with a model. llama_server: the binary. sampling: our settings by
    name. ConfigError for a spec that means nothing; BenchError for a peer that does not start.
    """
    parsed = _parse(spec)
    common: dict[str, Any] = {"n_threads": n_threads, "sampling": sampling, "name": spec}
    common |= {"ignore_eos": ignore_eos}
    if parsed.peer == SERVER:
        binary = _binary(spec, llama_server)
        flags = [*_speculation(parsed, binary, draft), *parsed.flags]
        return LlamaServer(binary, model, n_ctx=n_ctx, flags=flags, fresh=remembers(parsed.kind), **common)
    options = common | {"end_tokens": end_tokens} | _python_options(parsed)
    if parsed.peer == PYTHON:
        return LlamaCppPython(model, n_ctx=n_ctx, **options)
    if parsed.kind == "assisted":
        require(draft is not None, f"{spec} drafts with a model; give a draft model's GGUF")
        options["assistant"] = draft
    return Transformers(model, **options)


def expand_peers(specs: Iterable[str], llama_server: Path | None, draft: Path | None) -> list[str]:
    """`specs` checked, each `llama-server:all` made one spec for plain decoding and one per kind.

    The kinds are those that the binary names and can run: of those that draft with a model, the one that
    `draft` is made for. Flags after `all` go to each. A spec that comes twice is kept once.
    """
    expanded: list[str] = []
    for spec in specs:
        parsed = _parse(spec)
        if (parsed.peer, parsed.kind) != (SERVER, "all"):
            expanded.append(spec)
            continue
        names = [SERVER, *(f"{SERVER}:{kind}" for kind in _runnable(_binary(spec, llama_server), draft))]
        expanded += [shlex.join([name, *parsed.flags]) for name in names]
    return list(dict.fromkeys(expanded))


def _parse(spec: str) -> _Spec:
    try:
        head, *flags = shlex.split(spec)
    except ValueError as error:  # empty, or a quote that is not closed
        raise ConfigError(_unknown(spec)) from error
    peer, colon, kind = head.partition(":")
    known = peer == SERVER or kind in KINDS.get(peer, ())
    require(known and bool(kind) == bool(colon), _unknown(spec))
    return _Spec(spec, peer, kind, tuple(flags))


def _unknown(spec: str) -> str:
    kinds = [f"{peer}:{kind}".rstrip(":") for peer, names in KINDS.items() for kind in names]
    server = f"{SERVER}, {SERVER}:TYPE (see llama-server --help, --spec-type), {SERVER}:all"
    return f"unknown peer {spec!r}; there are {server}, {', '.join(kinds)}"


def _binary(spec: str, llama_server: Path | None) -> Path:
    if llama_server is None:
        raise ConfigError(f"{spec} needs the path of a llama-server binary; give it")
    return llama_server


def _speculation(spec: _Spec, binary: Path, draft: Path | None) -> list[str]:
    # which kinds learn from request to request is told by the kind
    require("--spec-type" not in spec.flags, f"{spec.text}: write {SERVER}:TYPE instead of --spec-type")
    if not spec.kind:
        return []
    require(spec.kind != "all", f"{spec.text} stands for several peers; expand it first")
    known = speculative_types(binary)
    for name in spec.kind.split(","):
        require(name in known, f"{spec.text}: {binary} knows no type {name!r}; it has {', '.join(known)}")
    return server_flags(spec.kind, draft)


def _runnable(binary: Path, draft: Path | None) -> list[str]:
    made_for = None if draft is None else _made_for(draft)
    known = speculative_types(binary)
    return [name for name in known if name == made_for or not name.startswith("draft-")]


def _made_for(draft: Path) -> str:
    """The type that drafts with this GGUF."""
    header = read_header(draft)
    architecture = str(header.fields.get("general.architecture"))
    if architecture in ("eagle3", "dflash"):
        return f"draft-{architecture}"
    return "draft-mtp" if header.number(f"{architecture}.nextn_predict_layers") else "draft-simple"


def _python_options(spec: _Spec) -> dict[str, Any]:
    options: dict[str, Any] = {"lookup": LOOKUP} if spec.kind == "lookup" else {}
    flags = [flag for peer, flag in PYTHON_FLAGS if peer == spec.peer]
    usage = f"{spec.text}: flags come as `--name value`, and {spec.peer} knows {', '.join(flags)}"
    require(len(spec.flags) % 2 == 0, usage)
    for flag, text in zip(spec.flags[::2], spec.flags[1::2], strict=True):
        require(flag in flags, usage)
        argument, read, kinds = PYTHON_FLAGS[spec.peer, flag]
        require(spec.kind in kinds, f"{spec.text}: {flag} goes with {spec.peer}:{kinds[0]} only")
        try:
            options[argument] = read(text)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{spec.text}: {flag} cannot be {text!r}") from error
    return options
