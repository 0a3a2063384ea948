"""What was measured: every answer of one entrant to one prompt."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from orchestrator.bench.answer import Answer


@dataclass(frozen=True, slots=True)
class Task:
    """One turn of one question, as token ids."""

    id: str
    suite: str
    turn: int
    prompt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One entrant's answers to one task, in the order of the repeats."""

    task: Task
    answers: tuple[Answer, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.answers[0].tokens

    @property
    def n_timed(self) -> int:
        return self.answers[0].n_timed

    @property
    def seconds(self) -> float:
        """Decode time of the tokens of the first answer, at the median speed of all."""
        return median(self.times)

    @property
    def times(self) -> tuple[float, ...]:
        """Decode time of each repeat, for as many tokens as the first answer has."""
        return tuple(_scaled(answer, self.n_timed) for answer in self.answers)

    @property
    def first(self) -> float:
        """Median seconds to the first token."""
        return median(answer.t_first for answer in self.answers)


def _scaled(answer: Answer, n_timed: int) -> float:
    return answer.t_decode * n_timed / answer.n_timed if answer.n_timed else 0.0


def timed(trials: Iterable[Trial]) -> list[Trial]:
    """Those with a decode speed: an answer of one token has none where the clock starts with it."""
    return [trial for trial in trials if trial.n_timed > 0 and trial.seconds > 0]
