"""What making a head will take: each stage is run on a few texts, and the rest is arithmetic.

Knows the stages of a workshop; nothing of what comes out of this trial but how long it took.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from adapters.llama_model import LlamaModel
from adapters.settings import require
from heads.training.answers import Answer, is_document
from heads.training.batches import split
from heads.training.gather import Reader
from heads.training.recipe import Recipe
from heads.training.store import FeatureStore
from heads.training.trainer import TrainSettings
from heads.training.workshop import Workshop

_ANSWER = 48  # tokens of a trial answer
_PIECES = 16  # of documents, in the trial
_FORWARD = 1 / 3  # of a training step's work, which measuring does not go beyond
_MEASURED = 4  # lengths of chains that the decoder is measured with
_ROUND = 7  # tokens of a round with the longest of them


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of each stage, bytes on disk and in memory at the highest; gpu_memory: all that is in use on
    the GPU on which PyTorch trains, 0 where it does not.

    n_tokens: to be learned from, prompts included; n_left_out: those for which there is no room on the disk.
    """

    n_answers: int
    n_tokens: int
    n_left_out: int
    answer_s: float
    feature_s: float
    train_s: float
    measure_s: float
    disk: int
    memory: int
    gpu_memory: int

    @property
    def total_s(self) -> float:
        return self.answer_s + self.feature_s + self.train_s + self.measure_s


def estimate(
    target: Path,
    model: LlamaModel,
    prompts: Sequence[str],
    recipe: Recipe,
    *,
    texts: Sequence[Path] = (),
    n_measured: int = 16,
    device: torch.device | str = "cpu",
) -> Estimate:
    """Try every stage on the first prompts and texts; longest answers are assumed, so it rather takes less.

    n_measured: prompts on which the decoder measures the head in the end.
    """
    require(
        len(prompts) >= 8 or (not prompts and bool(texts)),
        f"an estimate needs 8 prompts at least, got {len(prompts)}",
    )
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(target, Path(folder), _small(recipe, len(prompts)), device=device)
        trial = _Trial(shop, model, prompts, texts)
        memory, gpu_memory = _peak_memory(), _gpu_memory(torch.device(device))
    n_answers = min(len(prompts), recipe.n_answers or len(prompts))
    length = min(recipe.max_length, trial.n_prompt + recipe.answer_tokens)
    n_tokens = int(n_answers * length) + trial.n_in_pieces
    n_stored = min(n_tokens, int(1e9 * recipe.disk_gb / trial.token_bytes)) if recipe.disk_gb else n_tokens
    train_s = trial.begin_s + recipe.train.epochs * n_stored * trial.learn_s
    if recipe.train.minutes:
        train_s = min(train_s, 60 * recipe.train.minutes)
    n_single = _MEASURED * n_measured * recipe.answer_tokens  # tokens, if every guess were wrong
    return Estimate(
        n_answers=n_answers,
        n_tokens=n_tokens,
        n_left_out=n_tokens - n_stored,
        answer_s=n_answers * recipe.answer_tokens * trial.answer_s,
        feature_s=n_stored * trial.feature_s,
        train_s=train_s,
        measure_s=n_single * trial.round_s,
        disk=int(n_stored * trial.token_bytes) + trial.n_files,
        memory=memory,
        gpu_memory=gpu_memory,
    )


def _small(recipe: Recipe, n_prompts: int) -> Recipe:
    """The same work on a few prompts, in one epoch."""
    train = TrainSettings(
        epochs=1,
        held_out=0.3,
        batch_tokens=recipe.train.batch_tokens,
        n_steps=recipe.train.n_steps,
        reached=0.0,  # a head that has learned for some seconds would reach, and learn, next to nothing
        bfloat16=recipe.train.bfloat16,
        prompt_share=recipe.train.prompt_share,
    )
    few = min(n_prompts, max(8, 2 * recipe.n_parallel))
    answer_tokens = min(_ANSWER, recipe.answer_tokens)
    return replace(recipe, n_answers=few, answer_tokens=answer_tokens, train=train)


class _Trial:
    """Every stage once. Seconds: answer_s, feature_s and learn_s for a token, begin_s once, round_s for a
    round of the decoder."""

    def __init__(
        self, shop: Workshop, model: LlamaModel, prompts: Sequence[str], texts: Sequence[Path]
    ) -> None:
        few = prompts[: shop.recipe.n_answers]
        began = time.monotonic()
        n_answered = shop.answer(model, few) if few else 0
        took = time.monotonic() - began
        self.answer_s = took / max(1, n_answered * shop.recipe.answer_tokens)
        # a decode of a single sequence is no slower than one of as many as were answered at once
        self.round_s = self.answer_s * min(shop.recipe.n_parallel, max(1, n_answered))
        self.n_in_pieces, pieces = 0, list[Answer]()
        for piece in shop.pieces(model, texts) if texts else ():
            self.n_in_pieces += len(piece.prompt) + len(piece.answer)
            if len(pieces) < _PIECES:
                pieces.append(piece)
        if not few:
            self.round_s = _short_decode(shop, model, pieces[0])
        store = shop.features(model)
        began = time.monotonic()
        shop.gather(store, pieces)
        require(store.n_tokens > 0, "no prompt leaves room for an answer within max_length; raise it")
        self.feature_s = (time.monotonic() - began) / store.n_tokens
        self.token_bytes = store.n_bytes / store.n_tokens
        answers = [text for text in store.texts if not is_document(text.key)]
        self.n_prompt = sum(text.n_prompt for text in answers) / max(1, len(answers))
        self._learn(shop, store)
        files = [path.stat().st_size for path in (shop.folder / "run").iterdir()]
        # a checkpoint is written beside the one before it; the head has half of a network's bytes
        self.n_files = sum(files) + max(files) + (shop.folder / "run" / "best.pt").stat().st_size // 2

    def _learn(self, shop: Workshop, store: FeatureStore) -> None:
        began = time.monotonic()
        shop.begin(store)
        self.begin_s = time.monotonic() - began
        began = time.monotonic()
        shop.train(store)
        took = time.monotonic() - began - self.begin_s
        learned, held = split(store.texts, shop.recipe.train.held_out)
        # what is held out is measured twice, before and after
        n = sum(text.n for text in learned) + 2 * _FORWARD * sum(text.n for text in held)
        self.learn_s = max(0.0, took) / n


def _short_decode(shop: Workshop, model: LlamaModel, piece: Answer) -> float:
    """Seconds of a decode of some rows, as a round of the decoder is."""
    reader = Reader(model, shop.taps, shop.recipe.max_length, shop.recipe.n_threads)
    try:
        for _ in range(2):  # the first one opens the context
            began = time.monotonic()
            reader.rows(piece.answer[:_ROUND])
        return time.monotonic() - began
    finally:
        reader.close()


def _gpu_memory(device: torch.device) -> int:
    """Bytes in use on a GPU; PyTorch has kept what it needed at the most."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free
    return torch.mps.driver_allocated_memory() if device.type == "mps" else 0


def _peak_memory() -> int:
    """Bytes that this process has had at the most."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
