"""From a GGUF to a head that drafts for it: answers, features, training, a head in a folder.

Each stage keeps what it has done in a folder of its own, so that the same command goes on after a kill. Knows
the order of things; how each is done is in the other files here.
"""

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from adapters.chat import ChatTemplate
from adapters.devices import on_gpu
from adapters.gguf_file import GgufFacts, read_gguf
from adapters.llama_crowd import Crowd
from adapters.llama_lib import version
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, require
from adapters.tokenizer import Tokenizer
from heads.export import write_head
from heads.fit import check_fit, taps_of
from heads.spec import Head, default_taps
from heads.training.answers import Answer, AnswerFile, is_document, key_of
from heads.training.batches import split
from heads.training.beginning import Beginning, begin, go_on
from heads.training.documents import SHORTEST, document_files, pieces
from heads.training.gather import Reader, gather, new_texts
from heads.training.live import LiveFeatures
from heads.training.prompts import Draws, read_prompts, self_prompts
from heads.training.ranks import ALONE, Ranks
from heads.training.recipe import Recipe
from heads.training.store import FeatureStore
from heads.training.trainer import Progress, Trainer
from heads.training.warm_start import draft_vocabulary

Tell = Callable[[str], None]
_WINDOW = 16  # times the prompts that are answered at once: they are sorted by length


def _silent(_text: str) -> None:
    """Nobody listens."""


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
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
        head: Head | None = None,
    ) -> None:
        """device: where the head is trained. ranks: the processes that train it together, each with a
        workshop of its own; only the first one answers, gathers and writes. head: one that goes on learning,
        with its own vocabulary and layers, in the place of a new one."""
        self.device, self._ranks, self._head = device, ranks, head
        self.target, self.folder, self.recipe = target, folder, recipe
        self._tell, self._should_stop = tell, should_stop
        facts = read_gguf(target)
        self.taps = self._taps(facts)
        self._facts = facts
        self._reader: Reader | None = None

    def _taps(self, facts: GgufFacts) -> tuple[int, ...]:
        if self._head is None:
            taps = self.recipe.taps or default_taps(facts.n_layer)
            return taps if self.recipe.family == "eagle3" else ()
        found, wanted = self._head.spec.family, self.recipe.family
        require(found == wanted, f"{self._head.source} is an {found} head, not one of family {wanted}")
        check_fit(self._head, facts)  # whether its layers can be read, the context says
        return taps_of(self._head, facts.n_layer)

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
            with contextlib.closing(self._crowd(model)) as crowd:
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
            contextlib.closing(self._crowd(model)) as crowd,
        ):
            asked: dict[str, list[int]] = {}

            def missing() -> Iterator[tuple[str, list[int]]]:
                texts = itertools.islice(prompts, recipe.n_answers or None)
                while window := list(itertools.islice(texts, _WINDOW * recipe.n_parallel)):
                    rendered = (template.render([{"role": "user", "content": text}]) for text in window)
                    # those answered together share the longest one's attention: equals side by side
                    for tokens in sorted(map(tokenizer.encode_rendered, rendered), key=len):
                        if self._should_stop():
                            return
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

    def _crowd(self, model: LlamaModel) -> Crowd:
        recipe = self.recipe
        # many rows at once are quicker without flash attention on CPUs, by a third here
        flash_attn = None if on_gpu(model.settings) else False
        settings = ContextSettings(n_threads=recipe.n_threads, flash_attn=flash_attn)
        return Crowd(model, n_parallel=recipe.n_parallel, n_ctx_each=recipe.max_length, settings=settings)

    # -- 2: features -------------------------------------------------------------------------------

    def pieces(self, model: LlamaModel, texts: Sequence[Path]) -> Iterator[Answer]:
        """Documents to be learned from as they stand: files and folders, cut into pieces."""
        # the last guess of an unrolled head is n_steps + 1 tokens behind the first
        shortest = max(SHORTEST, self.recipe.train.n_steps + 2)
        files = document_files(texts)
        return pieces(Tokenizer(model), files, max_length=self.recipe.max_length, shortest=shortest)

    def features(self, model: LlamaModel | None) -> FeatureStore:
        """Open what is stored of the target's features, or, where none are to be, what computes them; without
        a model it is only to be read from."""
        h = self._facts.n_embd
        meta: dict[str, object] = {
            "target": digest(self.target),
            "taps": list(self.taps),
            "max_length": self.recipe.max_length,
        }
        n_features = len(self.taps) * h
        if model is not None:
            self._reader = Reader(model, self.taps, self.recipe.max_length, self.recipe.n_threads)
        if self.recipe.disk_gb == 0:
            assert self._reader is not None  # nothing else has the features
            return LiveFeatures(self.folder / "texts", n_features, h, meta, self._reader.rows)
        return FeatureStore(self.folder / "features", n_features, h, meta)

    def gather(self, store: FeatureStore, texts: Iterable[Answer] = ()) -> int:
        """Store the features of every answer and of `texts`, as far as the disk budget goes; how many texts
        were left out because of it."""
        assert self._reader is not None  # the store was opened with a model
        told = [0]

        def progress(n_tokens: int) -> None:
            if n_tokens - told[0] >= 20_000:
                told[0] = n_tokens
                self._tell(f"features of {n_tokens:,} tokens, {store.n_bytes / 1e9:.2f} GB")

        with AnswerFile(self.folder / "answers.jsonl") as answers:
            everything = itertools.chain(answers, texts)
            if isinstance(store, LiveFeatures):
                for text in new_texts(everything, store, self.recipe.max_length):
                    if self._should_stop():
                        break
                    store.add_text(*text)
                return 0
            try:
                n_left_out = gather(
                    self._reader,
                    everything,
                    store,
                    max_length=self.recipe.max_length,
                    budget=int(1e9 * self.recipe.disk_gb),
                    progress=progress,
                    should_stop=self._should_stop,
                )
            finally:
                self._reader.close()
        if n_left_out:
            self._tell(
                f"the disk budget of {self.recipe.disk_gb:g} GB ({store.n_bytes / 1e9:.2f} GB used) holds "
                f"{len(store)} texts; {n_left_out} are left out: give more, or 0 to store none"
            )
        return n_left_out

    # -- 3: training -------------------------------------------------------------------------------

    def train(self, store: FeatureStore) -> tuple[Head, Progress]:
        """Train to the end, or go on; the best head so far and how far it came."""
        start = self.begin(store)
        torch.manual_seed(self.recipe.seed)
        trainer = Trainer(
            start.objective,
            store,
            self.folder / "run",
            self.recipe.train,
            self._tell_line,
            ranks=self._ranks,
        )
        try:
            progress = trainer.run(self._should_stop)
        finally:
            if self._reader is not None:
                self._reader.close()
        best = torch.load(self.folder / "run" / "best.pt", weights_only=True, map_location="cpu")
        start.network.load_state_dict(best["network"])
        return start.trained(), progress

    def begin(self, store: FeatureStore) -> Beginning:
        """The head as it is before training."""
        recipe, n_steps = self.recipe, self.recipe.train.n_steps
        if self._head is not None:
            ids = self._vocabulary(store) if recipe.new_vocab else None
            return go_on(self._head, self.target, n_steps, self.device, ids=ids)
        ids = self._vocabulary(store)
        return begin(recipe.family, self.target, self.taps, ids, n_steps, self.device)

    def _vocabulary(self, store: FeatureStore) -> torch.Tensor:
        """The most frequent tokens of the texts that teach; what is held out has no say. Prompts count as
        answers do: what they ask about is what answers they were not given would say."""
        learned = {text.key for text in split(store.texts, self.recipe.train.held_out)[0]}
        texts = (tokens.tolist() for text, tokens in store.tokens() if text.key in learned)
        ids = draft_vocabulary(texts, self.recipe.draft_vocab)
        require(len(ids) > 0, f"{len(store)} texts are too few to learn from; give more prompts or texts")
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
        """The prompts of what was held out, as token ids; of documents, their first halves."""
        held = {text.key for text in split(store.texts, self.recipe.train.held_out)[1]}
        return [
            tokens[: text.n // 2 if is_document(text.key) else text.n_prompt].tolist()
            for text, tokens in store.tokens()
            if text.key in held
        ]

    # -- 4: the head -------------------------------------------------------------------------------

    def write(self, head: Head, progress: Progress, store: FeatureStore, data: str) -> Path:
        """Write the head and where it comes from; returns its folder."""
        provenance = {
            "target": self._facts.name,
            "target_digest": digest(self.target),
            "target_type": self._facts.file_type,
            "begun_with": None if self._head is None else self._head.source,
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
