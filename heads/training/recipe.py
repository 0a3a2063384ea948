"""From a GGUF to a head that drafts for it: answers, features, training, a head in a folder.

Each stage keeps what it has done in a folder of its own, so that the same command goes on after a kill. Knows
the order of things; how each is done is in the other files here.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapters.chat import ChatTemplate
from adapters.gguf_file import read_gguf
from adapters.llama_crowd import Crowd
from adapters.llama_lib import version
from adapters.llama_model import LlamaModel
from adapters.settings import require
from adapters.tokenizer import Tokenizer
from heads.export import write_head
from heads.spec import Family, Head, default_taps
from heads.training.answers import Answer, AnswerFile, key_of
from heads.training.batches import split
from heads.training.beginning import begin
from heads.training.gather import gather
from heads.training.prompts import Draws, read_prompts, self_prompts
from heads.training.store import FeatureStore
from heads.training.trainer import Progress, Trainer, TrainSettings
from heads.training.warm_start import draft_vocabulary

Tell = Callable[[str], None]


def _silent(_text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make and of what.

    family: eagle3, eagle or medusa. n_answers: prompts to be answered at most, 0 = all. answer_tokens: the
    longest answer; temperature: of the answers, 0 = greedy. max_length: tokens of prompt and answer that are
    learned from. draft_vocab: tokens that the head may draft. taps: layers whose inputs it reads, () = the
    usual ones. disk_gb: for features. n_parallel: answers at once.
    """

    family: Family = "eagle3"
    n_answers: int = 0
    answer_tokens: int = 256
    temperature: float = 0.0
    max_length: int = 512
    draft_vocab: int = 8192
    taps: tuple[int, ...] = ()
    disk_gb: float = 20.0
    n_parallel: int = 16
    seed: int = 0
    train: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "max_length", "draft_vocab", "n_parallel"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.temperature >= 0, f"temperature must be >= 0 (0 = greedy), got {self.temperature}")
        require(self.disk_gb > 0, f"disk_gb must be > 0, got {self.disk_gb}")


class Workshop:
    """One target and one folder in which a head is made for it."""

    def __init__(
        self,
        target: Path,
        folder: Path,
        recipe: Recipe,
        *,
        tell: Tell = _silent,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.target, self.folder, self.recipe = target, folder, recipe
        self._tell, self._should_stop = tell, should_stop
        facts = read_gguf(target)
        self.taps = (recipe.taps or default_taps(facts.n_layer)) if recipe.family == "eagle3" else ()
        self._facts = facts

    # -- 0: prompts --------------------------------------------------------------------------------

    def own_prompts(self, model: LlamaModel) -> list[str]:
        """As many user turns as are to be answered, which the target writes itself: for those without data.

        They are written once, so that a run that goes on asks the same.
        """
        path = self.folder / "prompts.jsonl"
        if not path.exists():
            require(self.recipe.n_answers > 0, "say how many prompts the model is to write: --prompts N")
            tokenizer = Tokenizer(model)
            template = ChatTemplate.of(model, tokenizer)
            with contextlib.closing(
                Crowd(model, n_parallel=self.recipe.n_parallel, n_ctx_each=self.recipe.max_length)
            ) as crowd:
                found = list(
                    self_prompts(crowd, tokenizer, template, self.recipe.n_answers, seed=self.recipe.seed)
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in found), "utf-8")
            partial.replace(path)
            self._tell(f"the model has written {len(found)} prompts")
        return list(read_prompts(path))

    # -- 1: answers --------------------------------------------------------------------------------

    def answer(self, model: LlamaModel, prompts: Iterable[str]) -> int:
        """Have the target answer what it has not answered yet, by its chat template; how many there are."""
        tokenizer = Tokenizer(model)
        template = ChatTemplate.of(model, tokenizer)
        recipe = self.recipe
        with (
            AnswerFile(self.folder / "answers.jsonl") as file,
            contextlib.closing(
                Crowd(model, n_parallel=recipe.n_parallel, n_ctx_each=recipe.max_length)
            ) as crowd,
        ):
            asked: dict[str, list[int]] = {}

            def missing() -> Iterator[tuple[str, list[int]]]:
                for number, text in enumerate(prompts):
                    if (recipe.n_answers and number >= recipe.n_answers) or self._should_stop():
                        return
                    tokens = tokenizer.encode_rendered(template.render([{"role": "user", "content": text}]))
                    key = key_of(tokens)
                    if key not in file and key not in asked and len(tokens) < recipe.max_length:
                        asked[key] = tokens
                        yield key, tokens

            draws = Draws(recipe.seed, recipe.temperature) if recipe.temperature > 0 else None
            began, n_tokens = time.monotonic(), 0
            answers = crowd.answers(
                missing(), max_tokens=recipe.answer_tokens, is_end=tokenizer.is_end, choose=draws
            )
            for n_new, (key, tokens) in enumerate(answers, start=1):
                file.add(Answer.to(asked.pop(key), tokens))
                n_tokens += len(tokens)
                if n_new % 20 == 0:
                    speed = n_tokens / (time.monotonic() - began)
                    self._tell(f"answered {len(file)} prompts, {speed:.0f} tokens a second")
            return len(file)

    # -- 2: features -------------------------------------------------------------------------------

    def features(self) -> FeatureStore:
        """Open what is stored of the target's features."""
        h = self._facts.n_embd
        meta: dict[str, object] = {
            "target": digest(self.target),
            "taps": list(self.taps),
            "max_length": self.recipe.max_length,
        }
        return FeatureStore(self.folder / "features", len(self.taps) * h, h, meta)

    def gather(self, model: LlamaModel, store: FeatureStore) -> None:
        """Store the features of every answer, as far as the disk budget goes."""
        told = [0]

        def progress(n_tokens: int) -> None:
            if n_tokens - told[0] >= 20_000:
                told[0] = n_tokens
                self._tell(f"features of {n_tokens:,} tokens, {store.n_bytes / 1e9:.2f} GB")

        with AnswerFile(self.folder / "answers.jsonl") as answers:
            gather(
                model,
                self.taps,
                answers,
                store,
                max_length=self.recipe.max_length,
                budget=int(1e9 * self.recipe.disk_gb),
                progress=progress,
                should_stop=self._should_stop,
            )

    # -- 3: training -------------------------------------------------------------------------------

    def train(self, store: FeatureStore) -> tuple[Head, Progress]:
        """Train to the end, or go on; the best head so far and how far it came."""
        start = begin(
            self.recipe.family, self.target, self.taps, self._vocabulary(store), self.recipe.train.n_steps
        )
        torch.manual_seed(self.recipe.seed)
        trainer = Trainer(start.objective, store, self.folder / "run", self.recipe.train, self._tell_line)
        progress = trainer.run(self._should_stop)
        best = torch.load(self.folder / "run" / "best.pt", weights_only=True)
        start.network.load_state_dict(best["network"])
        return start.trained(), progress

    def _vocabulary(self, store: FeatureStore) -> torch.Tensor:
        """The most frequent tokens of the answers that teach; what is held out has no say."""
        learned = {text.key for text in split(store.texts, self.recipe.train.held_out)[0]}
        answers = (tokens[text.n_prompt :].tolist() for text, tokens in store.tokens() if text.key in learned)
        ids = draft_vocabulary(answers, self.recipe.draft_vocab)
        require(len(ids) > 0, f"{len(store)} answers are too few to learn from; give more prompts")
        return ids

    def _tell_line(self, line: dict[str, Any]) -> None:
        if "tau" in line:
            shares = " ".join(f"{share:.3f}" for share in line["held_out"])
            self._tell(
                f"epoch {line['epoch']}: held out, first 1, 2, ... right: {shares}; tau {line['tau']:.2f}"
            )
        else:
            self._tell(f"epoch {line['epoch']}, step {line['step']}: loss {line['loss']:.3f}")

    def held_out_prompts(self, store: FeatureStore) -> list[list[int]]:
        """The prompts of what was held out, as token ids."""
        held = {text.key for text in split(store.texts, self.recipe.train.held_out)[1]}
        return [tokens[: text.n_prompt].tolist() for text, tokens in store.tokens() if text.key in held]

    # -- 4: the head -------------------------------------------------------------------------------

    def write(self, head: Head, progress: Progress, store: FeatureStore, data: str) -> Path:
        """Write the head and where it comes from; returns its folder."""
        provenance = {
            "target": self._facts.name,
            "target_digest": digest(self.target),
            "target_type": self._facts.file_type,
            "llama_cpp": version(),
            "data": data,
            "texts": len(store),
            "tokens": store.n_tokens,
            "recipe": asdict(self.recipe),
            "held_out": progress.history,
        }
        return write_head(
            head,
            self.folder / "head",
            target=self._facts,
            target_name=self._facts.name,
            dtype=torch.bfloat16,
            provenance=provenance,
            overwrite=True,
        )


def digest(path: Path) -> str:
    """SHA-256 of a file's first and last million bytes and its size: enough to tell models apart."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        found.update(file.read(1_000_000))
        file.seek(max(0, size - 1_000_000))
        found.update(file.read())
    return found.hexdigest()
