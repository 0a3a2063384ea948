"""`pilotfish quantize`: another copy of a model, stored in other types."""

import re
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.cli.output import Bar, print_json


@click.command()
@click.argument("source")
@click.argument("type_name", metavar="TYPE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: named after SOURCE and TYPE.")
@click.option("--token-embedding-type", metavar="TYPE", help="Store the token embedding in this type.")
@click.option("--output-tensor-type", metavar="TYPE", help="Store the output matrix in this type.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads, default: llama.cpp's.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@json_option("source, target, type, sizes, seconds, lossy")
@hub_options
def quantize(
    source: str,
    type_name: str,
    output: Path | None,
    token_embedding_type: str | None,
    output_tensor_type: str | None,
    threads: int | None,
    force: bool,
    revision: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Write a copy of SOURCE, any MODEL, as TYPE.

    TYPE is Q4_0, Q4_K_M, Q8_0, BF16, ... The copy of a file is written beside it, that of a preset or of
    a model from the Hub to the current folder.
    """
    from adapters.quantize import quantize as write

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


def default_target(source: str, path: Path, type_name: str) -> Path:
    """`model-F16.gguf` becomes `model-Q4_0.gguf`: beside a file of the user's, else in the current folder."""
    from adapters.gguf_file import read_gguf
    from adapters.presets import is_preset

    own = Path(source).expanduser().is_file()
    if not own and is_preset(source):
        return Path(f"{source.partition(':')[0]}-{type_name.upper()}.gguf")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    before = re.escape(read_gguf(path).file_type)
    stem = re.sub(rf"[-._]{before}$", "", stem, flags=re.IGNORECASE)
    return (path.parent if own else Path()) / f"{stem}-{type_name.upper()}.gguf"
