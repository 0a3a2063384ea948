"""The command line, `pilotfish`: parse, call, print.

Importing it loads click and nothing heavier: what a command needs is imported when it runs.
"""

import click

from orchestrator.cli.bench import bench
from orchestrator.cli.chat import chat
from orchestrator.cli.demo import demo
from orchestrator.cli.export import export
from orchestrator.cli.generate import generate
from orchestrator.cli.inspect import inspect
from orchestrator.cli.pairs import pairs
from orchestrator.cli.plan import plan
from orchestrator.cli.program import Program, log_to_stderr
from orchestrator.cli.quantize import quantize
from orchestrator.cli.serve import serve
from orchestrator.cli.train import train
from orchestrator.cli.tune import tune


@click.group(cls=Program)
@click.version_option(package_name="pilotfish", prog_name="pilotfish", message="%(prog)s %(version)s")
@click.option("--verbose", is_flag=True, help="Write log lines, llama.cpp's too, to stderr.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Speculative decoding for GGUF models: the same text, faster.

    MODEL is a GGUF file, a preset (smollm2, gemma3-270m) or a Hub reference (owner/repository:Q4_K_M).
    """
    log_to_stderr(context, verbose)


for command in (demo, generate, chat, serve, inspect, plan, pairs, quantize, tune, bench, train, export):
    main.add_command(command)

__all__ = ["main"]
