"""Every prompt to every entrant in turn: what one slow minute of the machine hits, it hits alike.

Knows entrants, prompts and the order of things; nothing of figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.bench.answer import Answer, Entrant
from orchestrator.bench.costs import CostMeter
from orchestrator.bench.engine_entrant import EngineEntrant
from orchestrator.bench.memory import Growth
from orchestrator.bench.prompts import Prompter
from orchestrator.bench.suite import Question
from orchestrator.bench.trial import Task, Trial
from orchestrator.errors import BenchError, PilotfishError
from orchestrator.measure import Divergence, find_divergence

WARM_UP_TOKENS = 8

ORDER = (
    "Every prompt goes to all entrants, plain decoding among them, before the next prompt's turn comes; who "
    "begins changes from prompt to prompt and from repeat to repeat. Caches are emptied before each answer."
)
WARM_UP = f"The first prompt is answered once by everybody, with {WARM_UP_TOKENS} tokens, and not counted."


@dataclass(slots=True)
class Lane:
    """One entrant, what it answered and what it needed. withdrawn: the error that ended its part."""

    entrant: Entrant
    growth: Growth = field(default_factory=Growth)
    trials: dict[Task, Trial] = field(default_factory=dict)
    divergences: dict[Task, Divergence] = field(default_factory=dict)
    withdrawn: str = ""

    @property
    def name(self) -> str:
        return self.entrant.name

    @property
    def pid(self) -> int | None:
        """Of the entrant's own process, where it has one."""
        pid: int | None = getattr(self.entrant, "pid", None)
        return pid


@dataclass(slots=True)
class Group:
    """A target decoding plainly, and all that is paired with it: they get the same token ids."""

    plain: Lane
    others: list[Lane]
    engine: EngineEntrant
    prompter: Prompter
    meter: CostMeter = field(default_factory=CostMeter)
    skipped: dict[str, str] = field(default_factory=dict)  # question id -> why

    @property
    def lanes(self) -> list[Lane]:
        return [self.plain, *self.others]

    @property
    def n_ctx(self) -> int:
        return self.engine.engine.target.capabilities.n_ctx


class Runner:
    """Runs a benchmark; a group's trials are whole after every prompt, so it may be interrupted."""

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        max_tokens: int,
        repeats: int = 1,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._groups, self._max_tokens, self._repeats, self._report = groups, max_tokens, repeats, report
        self._n_rounds = 0

    def run(self, questions: Sequence[Question]) -> None:
        """Ask every question; what a later turn's conversation says is what plain decoding said."""
        for group in self._groups:
            self._warm_up(group, questions)
        for number, question in enumerate(questions, start=1):
            self._report(f"prompt {number} of {len(questions)}: {question.id}")
            for group in self._groups:
                self._ask(group, question)

    def _warm_up(self, group: Group, questions: Sequence[Question]) -> None:
        prompts = (group.prompter.prompt(question, ()) for question in questions)
        fitting = next((prompt for prompt in prompts if self._fits(group, prompt)), None)
        if fitting is not None:
            for lane in group.lanes:
                self._answer(lane, fitting, WARM_UP_TOKENS)

    def _ask(self, group: Group, question: Question) -> None:
        spoken: list[str] = []
        for turn in range(len(question.turns)):
            prompt = group.prompter.prompt(question, spoken)
            if not self._fits(group, prompt):
                group.skipped[question.id] = (
                    f"turn {turn}: {len(prompt)} tokens and {self._max_tokens} of answer do not fit "
                    f"n_ctx={group.n_ctx}"
                )
                return
            task = Task(question.id, question.suite, turn, tuple(prompt))
            self._take(group, task)
            if group.plain.withdrawn:
                raise BenchError(f"plain decoding failed on {question.id}: {group.plain.withdrawn}")
            spoken.append(group.engine.engine.tokenizer.decode(group.plain.trials[task].tokens).strip())

    def _fits(self, group: Group, prompt: Sequence[int]) -> bool:
        return len(prompt) + self._max_tokens <= group.n_ctx

    def _take(self, group: Group, task: Task) -> None:
        answers: dict[str, list[Answer]] = {lane.name: [] for lane in group.lanes}
        for _ in range(self._repeats):
            for lane in self._in_turn(group.lanes):
                answer = self._answer(lane, task.prompt, self._max_tokens)
                if answer is not None:
                    answers[lane.name].append(answer)
        for lane in group.lanes:
            if len(answers[lane.name]) == self._repeats:
                lane.trials[task] = Trial(task, tuple(answers[lane.name]))
        self._inspect(group, task)

    def _in_turn(self, lanes: Sequence[Lane]) -> list[Lane]:
        first = self._n_rounds % len(lanes)
        self._n_rounds += 1
        return [*lanes[first:], *lanes[:first]]

    def _answer(self, lane: Lane, prompt: Sequence[int], max_tokens: int) -> Answer | None:
        """None from an entrant that has failed: it is out, and the report says why."""
        if lane.withdrawn:
            return None
        try:
            with lane.growth.watched(lambda: lane.pid):
                return lane.entrant.answer(prompt, max_tokens)
        except PilotfishError as error:
            lane.withdrawn = str(error)
            self._report(f"{lane.name} is out: {error}")
            return None

    def _inspect(self, group: Group, task: Task) -> None:
        """Where texts part, and what rows cost, on the context that plain decoding has just left."""
        plain = group.plain.trials.get(task)
        if plain is None:
            return
        engine = group.engine.engine
        for lane in group.others:
            trial = lane.trials.get(task)
            if trial is not None and trial.tokens != plain.tokens:
                lane.divergences[task] = find_divergence(engine, task.prompt, plain.tokens, trial.tokens)
        engine.target.prefill([*task.prompt, *plain.tokens])
        group.meter.measure(engine.target, task.suite)
