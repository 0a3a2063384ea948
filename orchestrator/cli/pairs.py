"""`pilotfish pairs`: which models and heads on this machine can draft for a target."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import print_facts, print_json

if TYPE_CHECKING:
    from adapters.gguf_file import GgufFacts
    from heads.pairs import Pair
    from orchestrator.pairs.find import Found
    from orchestrator.pairs.judge import Judge, Pairing


@click.command()
@click.argument("target")
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "refused", is_flag=True, help="Show what cannot be used, too, and why.")
@click.option("--no-caches", is_flag=True, help="Look into the FOLDERS only.")
@json_option("every model and head that was found, refused ones included")
@hub_options
def pairs(
    target: str,
    folders: tuple[Path, ...],
    refused: bool,
    no_caches: bool,
    revision: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Find what can draft for TARGET: in FOLDERS, the Hub's cache and pilotfish's.

    Vocabularies and sizes are compared, and what a drafter could win at best is estimated from what decodes
    read, or from what they were measured to cost. Nothing is loaded.
    """
    from heads.pairs import published_heads
    from orchestrator.pairs.find import find
    from orchestrator.pairs.judge import Judge, ranked

    path = find_model(target, revision, offline)
    with Judge(path) as judge:
        found = [*find(folders, caches=not no_caches), *_shipped(judge.facts)] if not judge.refusal else []
        pairings = ranked([judge.judge(one) for one in found])
        published = published_heads(judge.facts)
        if as_json:
            print_json(pairs_document(judge, pairings, published))
        else:
            print_facts(pairs_facts(judge, pairings, published, refused=refused))


def _shipped(facts: "GgufFacts") -> "list[Found]":
    """The head that comes with pilotfish, where one is for this model."""
    from heads.choice import DEFAULT
    from heads.shipped import shipped_head
    from orchestrator.pairs.find import Found

    folder = shipped_head(facts)
    return [] if folder is None else [Found(DEFAULT, folder, "head")]


def pairs_document(
    judge: "Judge", pairings: "list[Pairing]", published: "tuple[Pair, ...]"
) -> dict[str, Any]:
    """Everything; sizes in bytes."""
    return {
        "target": str(judge.path),
        "name": judge.facts.name,
        "refusal": judge.refusal,
        "measured": judge.curve is not None,
        "bytes": judge.bytes,
        "pairs": [asdict(one) for one in pairings],
        "published_heads": [{"head": one.head, "family": one.family, "note": one.note} for one in published],
    }


def pairs_facts(
    judge: "Judge", pairings: "list[Pairing]", published: "tuple[Pair, ...]", *, refused: bool
) -> list[tuple[str, str]]:
    """The table's rows."""
    rows = [("target", f"{judge.path}, {judge.bytes / 1e6:,.0f} MB a decode")]
    if judge.refusal:
        return [*rows, ("", judge.refusal)]
    if judge.curve is None:
        rows.append(("", "its costs are not measured yet: further rows are taken to cost nothing"))
    usable = [one for one in pairings if not one.refusal]
    rows += [(one.family, f"{one.name}: {_promise(one)}") for one in usable]
    if not usable:
        rows.append(("", "nothing that was found can draft for it"))
    others = [one for one in pairings if one.refusal]
    if refused:
        rows += [(f"no {one.family}", f"{one.name}: {one.refusal}") for one in others]
    elif others:
        rows.append(("", f"{len(others)} more cannot; --all says why"))
    return rows + [("published", f"{one.head} ({one.family})") for one in published]


def _promise(pairing: "Pairing") -> str:
    gain = pairing.gain
    assert gain is not None
    basis = "measured" if pairing.measured else "by size"
    warning = pairing.warning and f"; {pairing.warning}"
    promise = f"at best {gain.best:.1f}x with {gain.n_best} guesses, likely {gain.likely:.1f}x"
    return f"{promise} ({basis}, {pairing.bytes / 1e6:,.0f} MB a guess){warning}"
