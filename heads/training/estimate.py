"""What making a head will take: each stage is run for some seconds, and the rest is arithmetic.

Knows the stages of a workshop; nothing of what comes out of this trial but how long it took.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from adapters.llama_model import LlamaModel
from adapters.settings import require
from heads.training.recipe import Recipe, Workshop
from heads.training.trainer import TrainSettings

_ANSWER = 48  # tokens of a trial answer
_STEPS = 3  # training steps of the trial


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of each stage, bytes on disk and in memory. n_tokens: to be learned from, prompts included."""

    n_answers: int
    n_tokens: int
    answer_s: float
    feature_s: float
    train_s: float
    disk: int
    memory: int

    @property
    def total_s(self) -> float:
        return self.answer_s + self.feature_s + self.train_s


def estimate(target: Path, model: LlamaModel, prompts: Sequence[str], recipe: Recipe) -> Estimate:
    """Try every stage on the first prompts; longest answers are assumed, so it rather takes less."""
    require(len(prompts) >= 8, f"an estimate needs 8 prompts at least, got {len(prompts)}")
    n_answers = min(len(prompts), recipe.n_answers or len(prompts))
    few = prompts[: max(8, 2 * recipe.n_parallel)]
    trial = replace(
        recipe,
        n_answers=len(few),
        answer_tokens=min(_ANSWER, recipe.answer_tokens),
        train=TrainSettings(
            epochs=1,
            held_out=0.3,
            batch_tokens=recipe.train.batch_tokens,
            n_steps=recipe.train.n_steps,
            bfloat16=recipe.train.bfloat16,
            minutes=0.5,
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(target, Path(folder), trial)
        began = time.monotonic()
        n_done = shop.answer(model, few)
        answered = time.monotonic()
        store = shop.features()
        shop.gather(model, store)
        gathered = time.monotonic()
        shop.train(store)
        trained = time.monotonic()
        memory = psutil.Process().memory_info().rss
    n_prompt = sum(text.n_prompt for text in store.texts) / len(store)
    n_trial = store.n_tokens
    length = min(recipe.max_length, n_prompt + recipe.answer_tokens)
    n_tokens = int(n_answers * length)
    disk = min(int(n_tokens * store.n_bytes / n_trial), int(1e9 * recipe.disk_gb))
    per_answer_token = (answered - began) / (n_done * trial.answer_tokens)
    return Estimate(
        n_answers=n_answers,
        n_tokens=n_tokens,
        answer_s=n_answers * recipe.answer_tokens * per_answer_token,
        feature_s=n_tokens * (gathered - answered) / n_trial,
        # the trial also measures what is held out, before and after: three passes in all
        train_s=recipe.train.epochs * n_tokens * (trained - gathered) / (1.6 * n_trial),
        disk=disk,
        memory=memory,
    )
