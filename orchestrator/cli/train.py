"""`pilotfish train`: a head for any GGUF, trained on what the quantized model itself says and computes."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import find_model, hub_options, json_option
from orchestrator.errors import ConfigError
from orchestrator.extras import require_matplotlib, require_torch

if TYPE_CHECKING:
    from heads.spec import Head
    from heads.training.recipe import Recipe


@click.command()
@click.argument("family", type=click.Choice(["eagle3", "eagle", "medusa"]))
@click.option("--target", required=True, metavar="MODEL", help="The GGUF that the head is to draft for.")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Prompts: lines of text, or JSON lines with "prompt", "turns" or "messages"; .gz too. Without it '
    "or --text, the model writes --prompts N itself.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help='Documents to be learned from as they stand: a text file, JSON lines with "text", or a folder of '
    "such files; may be repeated, and given beside --data.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder; the head comes into out/head."
)
@click.option(
    "--prompts", "n_answers", type=click.IntRange(min=1), metavar="N", help="Use the first N prompts."
)
@click.option("--max-tokens", "answer_tokens", default=256, show_default=True, help="Longest answer.")
@click.option("--temperature", default=0.0, show_default=True, help="Of the answers; 0 is greedy.")
@click.option("--max-length", default=512, show_default=True, help="Tokens of a prompt with its answer.")
@click.option(
    "--begin",
    metavar="HEAD",
    help="An EAGLE head to go on with instead of a new one, published ones too: a folder, a file, "
    "owner/repo, auto or default.",
)
@click.option("--draft-vocab", default=8192, show_default=True, help="Tokens that the head may draft.")
@click.option(
    "--new-vocab",
    is_flag=True,
    help="With --begin: draft the tokens that are frequent in these texts instead of those that it knows.",
)
@click.option(
    "--disk",
    "disk_gb",
    default=20.0,
    show_default=True,
    metavar="GB",
    help="For hidden states; 0 stores none, and the target computes them for each batch anew.",
)
@click.option("--epochs", default=10, show_default=True, help="Passes over the answers at most.")
@click.option("--minutes", default=0.0, show_default=True, help="End training after so long; 0 = never.")
@click.option("--lr", default=3e-4, show_default=True, help="Highest learning rate.")
@click.option("--batch-tokens", default=4096, show_default=True, help="Tokens of one step.")
@click.option(
    "--steps",
    "n_steps",
    default=4,
    show_default=True,
    help="Guesses in a row that are trained; Medusa's heads.",
)
@click.option(
    "--bf16/--fp32", "bfloat16", default=False, help="Multiply in bfloat16, where the device is fast at it."
)
@click.option(
    "--prompt-share",
    default=1.0,
    show_default=True,
    help="How much of the prompts' tokens is learned from, too; 0 = the answers alone.",
)
@click.option("--seed", default=0, show_default=True, help="Of sampled answers and of the order.")
@click.option(
    "--threads",
    "n_threads",
    type=click.IntRange(min=1, max=512),
    metavar="N",
    help="Threads of the target and of PyTorch, default: all cores.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where PyTorch trains; auto is a GPU if it has one.",
)
@click.option(
    "--plots", is_flag=True, help="Draw loss and acceptance into OUT, as PNG and SVG; needs matplotlib."
)
@click.option("--dry-run", is_flag=True, help="Try each stage for some seconds and say what all will take.")
@json_option("the estimate, or the head, its history and what the decoder measured")
@hub_options
def train(
    family: str,
    target: str,
    data: Path | None,
    texts: tuple[Path, ...],
    out: Path,
    begin: str | None,
    device: str,
    plots: bool,
    dry_run: bool,
    as_json: bool,
    revision: str | None,
    offline: bool,
    **options: Any,
) -> None:
    """Train heads of FAMILY for a GGUF, on its own answers and hidden states.

    The target answers the prompts, its hidden states are stored, those of documents (--text) too, the head
    learns from them, and what it learned is measured by the real decoder on prompts that it never saw. The
    same command goes on after a kill. Several GPUs: torchrun --standalone --nproc-per-node N -m orchestrator
    train ...
    """
    require_torch()
    if plots:
        require_matplotlib()
    from heads.training.device import device_of
    from heads.training.documents import document_files
    from heads.training.ranks import joined
    from orchestrator.cli.train_run import Order, Source, carry_out

    recipe = _recipe({"family": family, **options})
    if recipe.new_vocab and begin is None:
        raise click.UsageError("--new-vocab is for a head that goes on (--begin); a new one has no other")
    writes_own = data is None and (recipe.n_answers > 0 or not texts)
    if writes_own and (dry_run or not recipe.n_answers):
        raise click.UsageError(
            "without --data or --text the model writes --prompts N itself, and there is no --dry-run"
        )
    source = Source(data, _prompts(data, recipe), document_files(texts), writes_own)
    if recipe.n_threads is not None:
        import torch

        torch.set_num_threads(recipe.n_threads)
    with joined() as ranks:
        where = device_of(device, ranks.local)
        if dry_run and ranks.size > 1:
            raise click.UsageError("--dry-run tries one process; run it without torchrun")
        path = ranks.first_does(lambda: find_model(target, revision, offline))
        head = _begun(begin, path, offline)  # processes that fetch it wait for each other
        carry_out(Order(path, source, recipe, out, where, ranks, head, plots, as_json), dry_run)


def _begun(name: str | None, path: Path, offline: bool) -> "Head | None":
    from heads.checkpoint import load_head
    from heads.choice import chosen_head

    # --revision is the target's
    return None if name is None else load_head(chosen_head(name, path), local_files_only=offline)


def _prompts(data: Path | None, recipe: "Recipe") -> list[str]:
    from heads.training.prompts import read_prompts

    prompts = [] if data is None else list(itertools.islice(read_prompts(data), recipe.n_answers or None))
    if data is not None and not prompts:
        raise ConfigError(f"{data} holds no prompt")
    return prompts


def _recipe(options: dict[str, Any]) -> "Recipe":
    from heads.training.recipe import Recipe
    from heads.training.trainer import TrainSettings

    names = ("epochs", "minutes", "lr", "batch_tokens", "n_steps", "bfloat16", "prompt_share", "seed")
    learned = TrainSettings(**{name: options[name] for name in names})
    rest = {name: value for name, value in options.items() if name not in names and value is not None}
    return Recipe(**rest, seed=options["seed"], train=learned)
