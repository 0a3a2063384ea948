"""From configurations to loaded entrants: one plain engine per target and sampling, weights shared."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from adapters.llama_model import LlamaModel
from adapters.settings import ModelSettings
from orchestrator.bench.answer import Entrant
from orchestrator.bench.configuration import Configuration, plain_label
from orchestrator.bench.engine_entrant import EngineEntrant, open_engine
from orchestrator.bench.memory import Growth
from orchestrator.bench.prompts import Prompter
from orchestrator.bench.runner import Group, Lane
from orchestrator.bench.suite import Question
from orchestrator.config import Config

Resolve = Callable[[str], Path]
ROOM = 512  # tokens of question beside the filler, where prompts are filled up


class Opener:
    """Opens engines and peers; everything is closed with `stack`."""

    def __init__(
        self, stack: ExitStack, resolve: Resolve, questions: Sequence[Question], *, ignore_eos: bool
    ) -> None:
        self._stack, self._resolve, self._questions = stack, resolve, questions
        self._ignore_eos = ignore_eos
        self._models: dict[tuple[Path, ModelSettings], LlamaModel] = {}
        self.configurations: dict[str, Configuration] = {}

    def groups(self, configurations: Sequence[Configuration], max_tokens: int) -> list[Group]:
        """Configurations with the same plain decoding share a group; `self.configurations` has the names."""
        known = [_with_room(configuration, max_tokens) for configuration in configurations]
        plain = [configuration.plain for configuration in known]
        distinct = [p for i, p in enumerate(plain) if p not in plain[:i]]
        groups = []
        for baseline in distinct:
            group = self._open_group(baseline, plain_label(baseline, distinct))
            for configuration, own in zip(known, plain, strict=True):
                if own == baseline:
                    group.others.append(self._open_engine(configuration, configuration.label))
            groups.append(group)
        return groups

    def _open_group(self, baseline: Configuration, name: str) -> Group:
        lane = self._open_engine(baseline, name)
        entrant = lane.entrant
        assert isinstance(entrant, EngineEntrant)
        return Group(lane, [], entrant, Prompter(entrant.engine, self._questions, baseline.context))

    def _open_engine(self, configuration: Configuration, name: str) -> Lane:
        self.configurations[name] = configuration
        return self.open(
            lambda: EngineEntrant(
                name,
                open_engine(self._drafted(configuration), self._model(configuration)),
                ignore_eos=self._ignore_eos,
            )
        )

    def open(self, make: Callable[[], Entrant]) -> Lane:
        """A lane for what `make` opens, with the memory that this took."""
        opened: list[Lane] = []
        growth = Growth()
        with growth.watched(lambda: opened[0].pid):
            opened.append(Lane(make(), growth))
        self._stack.callback(opened[0].entrant.close)
        growth.has_loaded()
        return opened[0]

    def _drafted(self, configuration: Configuration) -> Configuration:
        draft = configuration.draft
        return configuration if draft is None else replace(configuration, draft=str(self._resolve(draft)))

    def _model(self, configuration: Configuration) -> LlamaModel:
        key = self._resolve(configuration.model), Config.of(**configuration.settings).model
        if key not in self._models:
            self._models[key] = LlamaModel(*key)
            self._stack.callback(self._models[key].close)
        return self._models[key]


def _with_room(configuration: Configuration, max_tokens: int) -> Configuration:
    """A context that holds filled-up prompts, where the user has not said how large it is."""
    if configuration.context is None or "n_ctx" in configuration.settings:
        return configuration
    n_ctx = configuration.context + max_tokens + ROOM
    return replace(configuration, settings={**configuration.settings, "n_ctx": n_ctx})
