"""An engine on an in-memory target whose decodes take an exact time on a clock of their own."""

from orchestrator.assembly import Parts
from orchestrator.bench.costs import CostMeter
from orchestrator.bench.engine_entrant import EngineEntrant
from orchestrator.bench.prompts import Prompter
from orchestrator.bench.runner import Group, Lane
from orchestrator.config import Config
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.none import NoDrafter
from orchestrator.engine import Engine
from tests.fakes import MemoryTarget

END = 99
N_VOCAB = 100


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def row_ms(rows: int) -> float:
    """10 ms for one row, 2 ms for each more."""
    return 8.0 + 2.0 * rows


class TimedTarget(MemoryTarget):
    """Decodes in `row_ms(rows)`; `n_forwards` > 1 is a target that works more than it must."""

    def __init__(self, clock: Clock, logits, *, n_forwards: int = 1, **options) -> None:
        super().__init__(logits, N_VOCAB, **options)
        self._clock, self.n_forwards = clock, n_forwards

    def score(self, draft):
        self._clock.now += self.n_forwards * row_ms(1 + len(draft)) / 1e3
        return super().score(draft)

    def truncate(self, n: int) -> None:
        del self.memory[n:]


class Working(Drafter):
    """Another drafter, whose every proposal takes `ms`."""

    name = "working"

    def __init__(self, clock: Clock, drafter: Drafter, ms: float, max_draft: int = 3) -> None:
        self._clock, self._drafter, self._ms, self.max_draft = clock, drafter, ms, max_draft

    def propose(self, context, budget):
        self._clock.now += self._ms / 1e3
        return self._drafter.propose(context, budget)


class Letters:
    """A tokenizer of one character a token."""

    n_vocab, bos = N_VOCAB, -1

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return [ord(letter) % (END - 1) for letter in text]

    def decode(self, tokens) -> str:
        return "".join(chr(48 + token) for token in tokens if token != END)

    def decoder(self) -> "Letters":
        return self

    def push(self, token: int) -> str:
        return self.decode([token])

    def finish(self) -> str:
        return ""

    def is_end(self, token: int) -> bool:
        return token == END


class Weights:
    """A model without metadata."""

    no_rollback = ""

    def meta(self, key: str) -> None:
        return None

    def close(self) -> None:
        return None


def memory_engine(target: MemoryTarget, drafter: Drafter | None = None, **settings) -> Engine:
    settings = {"temperature": 0, "seed": 0, **settings}
    parts = Parts(Weights(), target, Letters(), drafter or NoDrafter(), Config.of(**settings))
    return Engine(parts)


def memory_group(clock: Clock, logits, questions, drafters, *, n_forwards: int = 1, **settings) -> Group:
    """Plain decoding and one lane per name in `drafters`, all on targets of their own."""

    def lane(name: str, drafter: Drafter | None, n_forwards: int = 1) -> Lane:
        target = TimedTarget(clock, logits, n_forwards=n_forwards)
        return Lane(EngineEntrant(name, memory_engine(target, drafter, **settings), clock=clock))

    plain = lane("plain", None, n_forwards)
    others = [lane(name, drafter) for name, drafter in drafters.items()]
    prompter = Prompter(plain.entrant.engine, questions)
    return Group(plain, others, plain.entrant, prompter, CostMeter(clock))
