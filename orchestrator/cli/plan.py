"""`pilotfish plan`: will it fit, before anything is loaded?"""

import functools
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, given_settings, hub_options, json_option
from orchestrator.cli.output import print_facts, print_json

if TYPE_CHECKING:
    from adapters.hub_names import HubFile
    from orchestrator.plan.memory import Placed
    from orchestrator.plan.plan import Plan


@click.command()
@click.argument("model")
@click.option("--draft", metavar="MODEL", help="A smaller model that drafts.")
@click.option("--head", metavar="HEAD", help="Medusa or EAGLE heads that draft, as elsewhere.")
@click.option(
    "--vram", metavar="SIZE", help="Memory of the GPU, e.g. 16G; default: what is free on this machine's."
)
@click.option("--ram", metavar="SIZE", help="Main memory; default: what is free.")
@click.option("--n-ctx", type=int, metavar="N", help="Tokens that the context holds.")
@click.option("--flash-attn/--no-flash-attn", default=None, help="Default: llama.cpp decides.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting, e.g. type_k=q8_0; may be repeated.",
)
@json_option("everything that the table has, in bytes")
@hub_options
def plan(
    model: str,
    draft: str | None,
    head: str | None,
    vram: str | None,
    ram: str | None,
    assignments: tuple[str, ...],
    revision: str | None,
    offline: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Will MODEL fit, with its draft or head, caches and buffers?

    Nothing is loaded; of a model on the Hub that is not here only the header is fetched. Says how many layers
    go to the GPU, and which context, cache type, quantization or draft would fit.
    """
    from adapters.gguf_file import read_gguf
    from adapters.hub_names import parse_reference
    from orchestrator.config import Config
    from orchestrator.plan.budget import budget_of
    from orchestrator.plan.head import head_memory
    from orchestrator.plan.memory import Reckoner
    from orchestrator.plan.plan import Company
    from orchestrator.plan.plan import plan as make
    from orchestrator.plan.quants import quants_by_rule, quants_on_hub

    config = Config.of(**given_settings(assignments, **given))
    budget = budget_of(vram, ram)
    path, files = header_of(model, revision, offline)
    facts = read_gguf(path)
    reference = parse_reference(model)
    on_hub = quants_on_hub(reference.repo, files, facts.bytes) if reference and files else ()
    with ExitStack() as stack:
        target = stack.enter_context(Reckoner("target", path, config.model))
        second = None
        if draft is not None:
            second = stack.enter_context(Reckoner("draft", header_of(draft, None, offline)[0], config.model))

        @functools.cache  # every variant of a plan asks, few for another context
        def reckon_head(n_ctx: int) -> Any:
            n_batch, on_gpu = config.context.n_batch, budget.vram is not None
            return head_memory(
                str(head), path, facts, n_ctx=n_ctx, n_batch=n_batch, on_gpu=on_gpu, offline=offline
            )

        # a tree's branches are sequences, each of which has logits of its own
        leaves = max(config.context.n_seq_max, config.speculation.max_leaves)
        draft_layers = config.speculation.draft_n_gpu_layers
        company = Company(
            target,
            replace(config.context, n_seq_max=leaves),
            second,
            reckon_head if head is not None else None,
            on_hub or quants_by_rule(facts),
            n_gpu_layers=config.model.n_gpu_layers,
            draft_n_gpu_layers=config.model.n_gpu_layers if draft_layers is None else draft_layers,
        )
        made = make(company, budget, facts.n_ctx_train)
    if as_json:
        print_json({"model": model, "name": facts.name, "quantization": facts.file_type, **made.document()})
    else:
        print_facts(plan_facts(made))


def header_of(name: str, revision: str | None, offline: bool) -> "tuple[Path, list[HubFile]]":
    """A file with the header of what `name` means, and what its repository has where the Hub was asked."""
    from adapters.hub_names import parse_reference
    from adapters.models import resolve_model
    from orchestrator.errors import ModelNotFound

    reference = parse_reference(name)
    if reference is None or offline or Path(name).exists():
        return find_model(name, revision, offline), []
    try:
        return resolve_model(name, revision=revision, local_files_only=True), []
    except ModelNotFound:
        from adapters.hub_header import fetch_header

        return fetch_header(reference, revision=revision)


def plan_facts(plan: "Plan") -> list[tuple[str, str]]:
    """The table's rows."""
    budget, on_gpu = plan.budget, plan.budget.vram is not None
    rows = [(part.what, _sizes(part, on_gpu)) for part in plan.parts if part.vram or part.ram]
    rows.append(("together", _together(plan.vram, plan.ram, on_gpu)))
    rows.append(("budget", f"{_together(budget.vram or 0, budget.ram, on_gpu)}, {budget.source}"))
    rows.append(("fits", _verdict(plan)))
    kind = "instead" if plan.fits != "whole" else "room for"
    for number, advice in enumerate(plan.advice):
        about = f" ({advice.about})" if advice.about else ""
        fit = " fits partly" if advice.fits == "partly" else ""
        rows.append(("" if number else kind, f"{advice.change}{about}{fit}"))
    return rows + [("note", note) for note in plan.notes]


def _verdict(plan: "Plan") -> str:
    if plan.fits == "no":
        return f"no, with a context of {plan.n_ctx:,} tokens"
    where = "in the main memory" if plan.budget.vram is None else "on the GPU"
    if plan.fits == "whole":
        return f"yes, {where}, with a context of {plan.n_ctx:,} tokens"
    return (
        f"partly: n_gpu_layers={plan.n_gpu_layers} of {plan.n_layers}, the rest in the main memory, "
        f"with a context of {plan.n_ctx:,} tokens"
    )


def _sizes(part: "Placed", on_gpu: bool) -> str:
    return _together(part.vram, part.ram, on_gpu)


def _together(vram: int, ram: int, on_gpu: bool) -> str:
    main = f"{ram / 2**20:>10,.1f} MiB"
    return f"{vram / 2**20:>10,.1f} MiB on the GPU, {main} beside it" if on_gpu else main
