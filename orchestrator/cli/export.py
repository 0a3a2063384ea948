"""`pilotfish export`: a head in the layout that another program loads."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import note, print_json
from orchestrator.errors import AdapterError
from orchestrator.extras import require_torch

if TYPE_CHECKING:
    from adapters.gguf_file import GgufFacts
    from heads.spec import Head

_TORCH_TYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32"}


@click.command()
@click.argument("head")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    type=click.Choice(["safeailab", "speculators", "gguf"]),
    default="safeailab",
    show_default=True,
    help="safeailab: EAGLE's authors, vLLM, SGLang; of Medusa heads FasterDecoding's. speculators: vLLM. "
    "gguf: llama.cpp, EAGLE-3 only.",
)
@click.option("--target", metavar="MODEL", help="The GGUF that the head drafts for; gguf needs it.")
@click.option("--target-name", metavar="NAME", help="What config.json calls it, default: as MODEL does.")
@click.option(
    "--type",
    "type_name",
    type=click.Choice(["f16", "bf16", "f32", "q8_0", "q4_0"]),
    help="Store matrices as this; default: as HEAD has them, in a GGUF f16.",
)
@click.option("--force", is_flag=True, help="Overwrite a head that is there.")
@json_option("head, family, out, layout, bytes")
@hub_options
def export(
    head: str,
    out: Path,
    layout: str,
    target: str | None,
    target_name: str | None,
    type_name: str | None,
    force: bool,
    revision: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Write HEAD, a Medusa or EAGLE head, to OUT for other programs.

    HEAD is a folder, a file, owner/repo, auto for the best that is known for --target, or default for the
    one that comes with pilotfish. OUT is a folder, with --layout gguf a file, for llama-server -md OUT
    --spec-type draft-eagle3.
    """
    if layout == "gguf" and target is None:
        raise click.UsageError("--layout gguf needs --target, whose vocabulary the file takes")
    if layout != "gguf" and type_name not in (None, *_TORCH_TYPES):
        raise click.UsageError(f"--type {type_name} is for --layout gguf; others take f16, bf16 and f32")
    from heads.choice import AUTO, DEFAULT, chosen_head

    if head in (AUTO, DEFAULT) and target is None:
        raise click.UsageError(f"HEAD {head} needs --target")
    require_torch()
    from heads.checkpoint import load_head

    # the revision is the head's: of a target from the Hub the newest is as good
    path = find_model(target, None, offline) if target is not None else None
    name = head if path is None else str(chosen_head(head, path))
    loaded = load_head(name, revision=revision, local_files_only=offline)
    if layout == "gguf" and path is not None:
        _write_gguf(loaded, path, out, type_name or "f16", force)
    else:
        _write_folder(loaded, path, out, layout, type_name, target_name, force)
    document = {
        "head": name,
        "family": loaded.spec.family,
        "out": str(out),
        "layout": layout,
        "bytes": _size(out),
    }
    if as_json:
        print_json(document)
    else:
        click.echo(f"{out}\n{loaded.spec.family} head as {layout}: {_size(out) / 1e6:,.1f} MB")


def _write_gguf(head: "Head", target: Path, out: Path, type_name: str, force: bool) -> None:
    from adapters.gguf_file import read_gguf
    from adapters.llama_hidden import tap_way
    from heads.export_gguf import write_eagle3_gguf

    write_eagle3_gguf(head, target, out, dtype=type_name, overwrite=force)
    architecture = read_gguf(target).architecture
    if tap_way(architecture) != "captured":
        note(
            f"llama.cpp, as it is installed here, does not capture the layers of {architecture} models: "
            "its own programs end when they are given this head"
        )


def _write_folder(
    head: "Head",
    target: Path | None,
    out: Path,
    layout: Any,
    type_name: str | None,
    target_name: str | None,
    force: bool,
) -> None:
    import torch

    from adapters.gguf_file import read_gguf
    from heads.export import write_head

    facts = None if target is None else read_gguf(target)
    write_head(
        head,
        out,
        layout=layout,
        target=facts,
        target_name=target_name or (facts.name if facts is not None else ""),
        dtype=None if type_name is None else getattr(torch, _TORCH_TYPES[type_name]),
        provenance=_provenance(head, layout, facts),
        overwrite=force,
    )


def _provenance(head: "Head", layout: str, target: "GgufFacts | None") -> Mapping[str, Any]:
    """Of the copy, and under `origin` what stands beside the head itself."""
    found: dict[str, Any] = {
        "made_by": f"pilotfish {metadata.version('pilotfish')}, export",
        "head": head.source,
        "layout": layout,
        "target": None if target is None else target.name,
        "notes": list(head.notes),
    }
    before = Path(head.source).expanduser() / "provenance.json"
    if before.is_file():
        try:
            found["origin"] = json.loads(before.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AdapterError(f"{before}: is not JSON ({error}); remove or correct it") from error
    return found


def _size(out: Path) -> int:
    files = out.iterdir() if out.is_dir() else [out]
    return sum(path.stat().st_size for path in files)
