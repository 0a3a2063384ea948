"""Training a head on stored features: epochs, a schedule, checkpoints, and what is held out as the judge.

A run that was killed goes on from its last checkpoint to the same result: order and schedule follow from the
seed and the step alone. Knows objectives and files; how features come about is not its business.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapters.errors import HeadError
from adapters.settings import require
from heads.training.batches import batched, load, split
from heads.training.device import moved
from heads.training.objective import Objective
from heads.training.ranks import ALONE, Ranks
from heads.training.store import FeatureStore, Text
from heads.training.unroll import Batch, Losses, rounds

logger = logging.getLogger("pilotfish.train")

_FREE = frozenset(("patience", "minutes", "checkpoint_minutes"))  # when it ends, not what it comes to


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """epochs: passes over the texts. batch_tokens: tokens of one step, padding included. lr: the highest; it
    rises over `warmup` of all steps and falls as a cosine. reached: a step is learned where all before it
    gave the right token such a chance, 0 = everywhere. decay: a row of unrolled step j weighs decay^j; 1 = as
    much as a draft gains by it, as later steps have fewer rows already. held_out: share of the texts that
    measure and never teach. patience: epochs without a better acceptance before it ends. prompt_share:
    how many of the prompts' tokens teach, too, others in each epoch. minutes: end after so long, 0 = never;
    checkpoint_minutes: between two checkpoints."""

    epochs: int = 10
    batch_tokens: int = 4096
    lr: float = 3e-4
    warmup: float = 0.03
    clip: float = 0.5
    weight_decay: float = 0.0
    n_steps: int = 4
    decay: float = 1.0
    reached: float = 0.1
    held_out: float = 0.03
    patience: int = 3
    seed: int = 0
    bfloat16: bool = False
    prompt_share: float = 1.0
    minutes: float = 0.0
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "n_steps", "patience"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.lr > 0, f"lr must be > 0, got {self.lr}")
        require(0 < self.held_out < 1, f"held_out must be a share between 0 and 1, got {self.held_out}")
        share = self.prompt_share
        require(0 <= share <= 1, f"prompt_share must be between 0 (answers alone) and 1, got {share}")


@dataclass(slots=True)
class Progress:
    """Where a run is. best: the highest expected tokens per round on what is held out; tau of chains."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = 0.0
    since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One run in one folder: `checkpoint.pt`, `best.pt`, `log.jsonl`."""

    def __init__(
        self,
        objective: Objective,
        store: FeatureStore,
        folder: Path,
        settings: TrainSettings,
        report: Callable[[dict[str, Any]], None] = lambda _line: None,
        *,
        ranks: Ranks = ALONE,
    ) -> None:
        """The network stays on the device that it is on. ranks: processes among which each step is divided;
        they come to what one of them would, but for rounding."""
        self.objective, self.store, self.folder, self.settings = objective, store, folder, settings
        self._report, self._ranks = report, ranks
        self._train, self._held = split(store.texts, settings.held_out)
        require(
            bool(self._train) and bool(self._held),
            f"{len(store)} texts are too few to learn from and to measure with; give more prompts",
        )
        for module in objective.frozen:
            module.requires_grad_(False)
        self._parameters = [p for p in objective.network.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.lr,
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
            fused=self._device.type in ("cpu", "cuda"),
        )
        self._groups_per_epoch = len(batched(self._train, settings.batch_tokens, 0))
        self.progress = Progress()
        self._resume()

    # -- the run -----------------------------------------------------------------------------------

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Progress:
        """Train to the end, or until `should_stop`; the best network is in `best.pt`."""
        progress = self._run(should_stop)
        self._ranks.wait()  # until the first has written it
        return progress

    def _run(self, should_stop: Callable[[], bool]) -> Progress:
        began = saved = time.monotonic()
        settings, progress = self.settings, self.progress
        if progress.step == 0 and not progress.history:
            self._judge()  # before anything is learned
        while progress.epoch < settings.epochs and progress.since_best < settings.patience:
            seed = settings.seed + progress.epoch
            groups = batched(self._train, settings.batch_tokens, seed)
            rest = groups[progress.batch :]
            for texts in rest:
                try:
                    self._step(self._share(texts, seed))
                except torch.OutOfMemoryError as error:
                    raise HeadError(
                        f"{self._device}: no room for steps of {settings.batch_tokens} tokens; what is in "
                        f"{self.folder} is kept. Use another folder and fewer --batch-tokens, or --device cpu"
                    ) from error
                progress.batch += 1
                now = time.monotonic()
                stopped, out_of_time = self._ranks.any(should_stop(), 0 < 60 * settings.minutes < now - began)
                if stopped or out_of_time:
                    self._save()
                    if out_of_time:
                        self._judge()
                        self._save()
                    return progress
                if now - saved > 60 * settings.checkpoint_minutes:
                    self._save()
                    saved = now
            progress.epoch, progress.batch = progress.epoch + 1, 0
            self._judge()
            self._save()
        return progress

    def _share(self, texts: Sequence[Text], seed: int) -> Batch | None:
        """This process's share of a step, None where there are fewer texts than processes."""
        own = self._ranks.share(texts)
        if not own:
            return None
        batch = load(self.store, own, prompt_share=self.settings.prompt_share, seed=seed)
        return moved(batch, self._device)

    def _step(self, batch: Batch | None) -> None:
        progress = self.progress
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr(progress.step)
        sums = torch.zeros(2, self.settings.n_steps, device=self._device)  # losses and rows, of all processes
        if batch is not None:
            found = self._losses(batch)
            sums += torch.stack([found.loss.detach(), found.n_learned])
        self._ranks.add_up(sums)
        weights = self.settings.decay ** torch.arange(self.settings.n_steps, device=self._device)
        weights = weights / sums[1, 0].clamp(min=1)  # later steps count as often as they are reached
        loss = (weights * sums[0]).sum()
        if not bool(torch.isfinite(loss)):
            raise HeadError(
                f"the loss of step {progress.step} is not a number; the last checkpoint in {self.folder} is "
                "kept: go on from it with a lower --lr"
            )
        self._optimizer.zero_grad(set_to_none=True)
        if batch is not None:
            (weights * found.loss).sum().backward()  # type: ignore[no-untyped-call]
        self._add_up_gradients()
        nn.utils.clip_grad_norm_(self._parameters, self.settings.clip)
        self._optimizer.step()
        progress.step += 1
        if progress.step % 20 == 0:
            self._log({"step": progress.step, "epoch": progress.epoch, "loss": round(loss.item(), 4)})

    def _losses(self, batch: Batch) -> Losses:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            return self.objective.losses(batch, self.settings.reached)

    def _add_up_gradients(self) -> None:
        if self._ranks.size == 1:
            return
        for parameter in self._parameters:
            if parameter.grad is None:  # had no share of this step
                parameter.grad = torch.zeros_like(parameter)
            self._ranks.add_up(parameter.grad)

    def _lr(self, step: int) -> float:
        settings, total = self.settings, self.settings.epochs * self._groups_per_epoch
        warm = max(1, round(settings.warmup * total))
        if step < warm:
            return settings.lr * (step + 1) / warm
        share = min(1.0, (step - warm) / max(1, total - warm))
        return settings.lr * 0.5 * (1 + math.cos(math.pi * share))

    def _judge(self) -> None:
        """Measure on what is held out, and keep the network if it is the best so far."""
        progress = self.progress
        # the first measures; the others wait for what it finds
        line = self._ranks.from_first(self._measured() if self._ranks.first else {})
        self._log(line)
        progress.history.append(line)
        if line["tau"] > progress.best:
            progress.best, progress.since_best = line["tau"], 0
            self._write("best.pt", {"network": self.objective.network.state_dict()})
        else:
            progress.since_best += 1

    @torch.no_grad()
    def _measured(self) -> dict[str, Any]:
        """How often the first 1, 2, ... guesses are all right at all places, and tokens per round (tau)."""
        rows, loss, learned = torch.zeros(3, device=self._device)
        n_tokens = n_rounds = 0
        groups = batched(self._held, self.settings.batch_tokens, None)
        rights: Tensor | None = None
        for texts in groups:
            found = self._losses(moved(load(self.store, texts), self._device))
            rights = found.right if rights is None else rights + found.right
            rows, loss = rows + found.n_rows[0], loss + found.loss[0]
            learned = learned + found.n_learned[0]
            tokens, more = rounds(found.streaks)
            n_tokens, n_rounds = n_tokens + tokens, n_rounds + more
        assert rights is not None
        shares = (rights / rows.clamp(min=1)).tolist()
        return {
            "step": self.progress.step,
            "epoch": self.progress.epoch,
            "held_out": [round(share, 4) for share in shares],
            "tau": round(n_tokens / max(1, n_rounds), 4),
            "held_out_loss": round(float(loss / learned.clamp(min=1)), 4),
        }

    # -- files -------------------------------------------------------------------------------------

    def _log(self, line: dict[str, Any]) -> None:
        if not self._ranks.first:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 1), **line}) + "\n")
        self._report(line)

    def _save(self) -> None:
        state = {
            "network": self.objective.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": asdict(self.progress),
            "settings": asdict(self.settings),
        }
        self._write("checkpoint.pt", state)

    def _write(self, name: str, state: dict[str, Any]) -> None:
        if self._ranks.first:
            _replace(self.folder / name, state)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location="cpu")
        changed = [
            name
            for name, value in asdict(self.settings).items()
            if name not in _FREE and state["settings"].get(name, value) != value
        ]
        require(
            not changed,
            f"{path} was made with other settings ({', '.join(changed)}); give those, or another folder",
        )
        self.objective.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        logger.info("going on from step %d of %s", self.progress.step, path)


def _replace(path: Path, state: dict[str, Any]) -> None:
    """Write `path` whole or not at all: a kill leaves the last one."""
    partial = path.with_suffix(".partial")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # PyTorch raises either when a disk is full
        raise HeadError(
            f"{path}: cannot be written ({error}); the one before is kept: make room and run it again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
