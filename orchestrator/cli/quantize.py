"""`pilotfish quantize`: another copy of a model, stored in other types."""

import re
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import Bar, note, print_json


@click.command()
@click.argument("source")
@click.argument("type_name", metavar="[TYPE]", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: named after SOURCE and TYPE.")
@click.option("--token-embedding-type", metavar="TYPE", help="Store the token embedding in this type.")
@click.option("--output-tensor-type", metavar="TYPE", help="Store the output matrix in this type.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads, default: llama.cpp's.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option(
    "--for-speculation",
    is_flag=True,
    help="Choose the output matrix's type by what several rows cost here, and measure what it brought; "
    "without TYPE the other matrices stay as they are.",
)
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text for the perplexities of --for-speculation, default: pilotfish's own prompts.",
)
@json_option("source, target, type, sizes, seconds, lossy; with --for-speculation what was measured")
@hub_options
def quantize(
    source: str,
    type_name: str | None,
    output: Path | None,
    token_embedding_type: str | None,
    output_tensor_type: str | None,
    threads: int | None,
    force: bool,
    for_speculation: bool,
    sample: Path | None,
    revision: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Write a copy of SOURCE, any MODEL, as TYPE.

    TYPE is Q4_0, Q4_K_M, Q8_0, BF16, ... The copy of a file is written beside it, that of a preset or of
    a model from the Hub to the current folder.
    """
    from adapters.quantize import quantize as write

    if for_speculation:
        if token_embedding_type or output_tensor_type:
            raise click.UsageError("--for-speculation chooses the types of single tensors; leave them out")
        path = find_model(source, revision, offline)
        _for_speculation(source, path, type_name, output, threads, force, sample, as_json)
        return
    if sample is not None:
        raise click.UsageError("--sample goes with --for-speculation")
    if type_name is None:
        raise click.UsageError("Missing argument 'TYPE'.")
    path = find_model(source, revision, offline)
    target = output or default_target(source, path, type_name)
    with Bar(f"quantizing to {type_name.upper()}") as bar:
        report = write(
            path,
            target,
            type_name,
            token_embedding_type=token_embedding_type,
            output_tensor_type=output_tensor_type,
            n_threads=threads,
            progress=bar,
            overwrite=force,
        )
    if as_json:
        print_json({"source": str(path), "target": str(target), **asdict(report)})
    else:
        click.echo(f"{target}\n{report}")


def _for_speculation(
    source: str,
    path: Path,
    type_name: str | None,
    output: Path | None,
    threads: int | None,
    force: bool,
    sample: Path | None,
    as_json: bool,
) -> None:
    from adapters.gguf_file import read_gguf
    from adapters.settings import ContextSettings, ModelSettings
    from orchestrator.cli.common import read_text
    from orchestrator.tune.copy_report import copy_text
    from orchestrator.tune.sample import sample_text
    from orchestrator.tune.speculative_copy import Maker

    text = sample_text() if sample is None else read_text(sample)
    named = type_name or read_gguf(path).file_type
    target = output or default_target(source, path, named, "-speculative")
    maker = Maker(ModelSettings(), ContextSettings(n_threads=threads), text, note, force)
    made = maker.make(path, target, type_name)
    if as_json:
        print_json({"source": str(path), **made.as_dict()})
    else:
        click.echo(copy_text(made))


def default_target(source: str, path: Path, type_name: str, suffix: str = "") -> Path:
    """`model-F16.gguf` becomes `model-Q4_0.gguf`: beside a file of the user's, else in the current folder."""
    from adapters.gguf_file import read_gguf
    from adapters.presets import is_preset

    own = Path(source).expanduser().is_file()
    named = f"{type_name.upper()}{suffix}.gguf"
    if not own and is_preset(source):
        return Path(f"{source.partition(':')[0]}-{named}")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    before = re.escape(read_gguf(path).file_type)
    stem = re.sub(rf"[-._]{before}$", "", stem, flags=re.IGNORECASE)
    return (path.parent if own else Path()) / f"{stem}-{named}"
