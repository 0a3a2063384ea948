"""`pilotfish inspect`: what a GGUF holds, and which kinds of speculation it allows."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import print_facts, print_json
from orchestrator.errors import UnsupportedModel

if TYPE_CHECKING:
    from adapters.gguf_file import GgufFacts
    from heads.pairs import Pair


@click.command()
@click.argument("model")
@click.option(
    "--tokenizer",
    metavar="FILE",
    help="Compare its vocabulary with a tokenizer.json (file or Hub repository).",
)
@click.option("--target", metavar="MODEL", help="MODEL is a head: show what it is, and whether it fits this.")
@click.option("--calibrate", is_flag=True, help="Try which layers an EAGLE-3 head reads; needs --target.")
@json_option("everything that the table has")
@hub_options
def inspect(
    model: str,
    tokenizer: str | None,
    target: str | None,
    calibrate: bool,
    revision: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Show what MODEL is, and what can be done to speed it up.

    With --target, MODEL is a Medusa or EAGLE head: a folder, a file, owner/repo, auto for the best that is
    known, or default for the one that comes with pilotfish. A head or a draft that was published with a
    tokenizer.json fits MODEL where the vocabularies agree.
    """
    from adapters.gguf_file import read_gguf
    from adapters.presets import describe_preset, is_preset
    from heads.pairs import published_heads

    if target is not None:
        _inspect_head(model, target, revision, offline, calibrate, as_json)
        return
    if calibrate:
        raise click.UsageError("--calibrate needs --target, the model that the head is for")
    path = find_model(model, revision, offline)
    facts = read_gguf(path)
    origin = describe_preset(model) if is_preset(model) and str(path) != model else ""
    abilities = _abilities(path, facts, _tokenizer_json(tokenizer, offline) if tokenizer else None)
    heads = published_heads(facts)
    if as_json:
        known = [_head_document(pair) for pair in heads]
        document = {"path": str(path), "origin": origin, **asdict(facts), **abilities}
        print_json({**document, "published_heads": known})
    else:
        print_facts([*_file_facts(path, facts, origin), *_ability_facts(abilities), *_head_facts(heads)])


def _head_document(pair: "Pair") -> dict[str, Any]:
    return {"head": pair.head, "family": pair.family, "taps": pair.taps, "note": pair.note}


def _head_facts(pairs: "tuple[Pair, ...]") -> list[tuple[str, str]]:
    """One line each, the best first, which is what `--head auto` takes."""
    lines = [f"{pair.head} ({pair.family}){pair.note and f': {pair.note}'}" for pair in pairs]
    return [("" if number else "published heads", line) for number, line in enumerate(lines)]


def _inspect_head(
    head: str, target: str, revision: str | None, offline: bool, calibrate: bool, as_json: bool
) -> None:
    from adapters.gguf_file import read_gguf
    from orchestrator.cli.inspect_head import head_document, head_facts

    path = find_model(target, revision, offline)
    document = head_document(head, path, read_gguf(path), offline=offline, calibrate=calibrate)
    if as_json:
        print_json({"target": str(path), **document})
    else:
        print_facts([("target", str(path)), *head_facts(document)])


def _tokenizer_json(name: str, offline: bool) -> Path:
    from adapters.hub import fetch_file

    path = Path(name).expanduser()
    return path if path.exists() else fetch_file(name, "tokenizer.json", local_files_only=offline)


def _abilities(path: Path, facts: "GgufFacts", tokenizer_json: Path | None) -> dict[str, Any]:
    """What llama.cpp can do with the model; only a loaded model tells its kind of memory."""
    from adapters.llama_hidden import tap_way
    from adapters.llama_model import LlamaModel
    from adapters.settings import ModelSettings
    from adapters.tokenizer import Tokenizer
    from adapters.vocab import tokenizer_json_differences

    try:
        # as light as can be: weights stay in the mapped file
        model = LlamaModel(path, ModelSettings(n_gpu_layers=0, use_extra_bufts=False))
    except UnsupportedModel as error:
        return {"memory": None, "unsupported": str(error), "speculation": None}
    compared = {}
    if tokenizer_json is not None:
        compared["tokenizer_differences"] = tokenizer_json_differences(tokenizer_json, Tokenizer(model))
    model.close()
    speculation = {
        "chains": not model.no_rollback,
        "trees": not model.no_rollback,
        "post_norm_rows": True,
        "layer_inputs": tap_way(facts.architecture) != "none",
        "layer_inputs_by": tap_way(facts.architecture),
        "no_rollback": model.no_rollback,
    }
    return {"memory": model.memory_class, "unsupported": "", "speculation": speculation, **compared}


def _file_facts(path: Path, facts: "GgufFacts", origin: str) -> list[tuple[str, str]]:
    types = ", ".join(f"{name} ({count})" for name, count in facts.tensor_types.items())
    origins = [("origin", origin)] if origin else []
    return [
        ("file", str(path)),
        *origins,
        ("name", facts.name),
        ("architecture", facts.architecture),
        ("quantization", facts.file_type),
        ("tensors", types),
        ("embedding", f"{facts.token_embedding_type}, output {facts.output_tensor_type}"),
        ("parameters", f"{facts.n_params / 1e6:,.1f} million"),
        ("size", f"{facts.bytes / 1e6:,.1f} MB"),
        ("layers", f"{facts.n_layer}, of width {facts.n_embd}"),
        ("vocabulary", f"{facts.n_vocab:,} tokens"),
        ("context", f"{facts.n_ctx_train:,} tokens"),
        ("chat template", "yes" if facts.has_chat_template else "no"),
    ]


def _ability_facts(abilities: dict[str, Any]) -> list[tuple[str, str]]:
    can = abilities["speculation"]
    if can is None:
        return [("speculation", f"none: {abilities['unsupported']}")]
    drafts = "chains and trees" if can["chains"] else f"none: {can['no_rollback']}"
    layers = {
        "captured": ", inputs of its layers",
        "callback": ", inputs of its layers (through a callback, which takes time)",
        "none": " (this architecture gives no layer inputs)",
    }[can["layer_inputs_by"]]
    differences = abilities.get("tokenizer_differences")
    compared = [] if differences is None else [("tokenizer.json", "; ".join(differences) or "agrees")]
    return [
        ("memory", abilities["memory"]),
        ("speculation", drafts),
        ("hidden rows", f"post-norm{layers}"),
        *compared,
    ]
