"""What kind of head to make, and of what: the settings of a run. Knows numbers; nothing of how it is done."""

from dataclasses import dataclass, field

from adapters.settings import require
from heads.spec import Family
from heads.training.trainer import TrainSettings


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make and of what.

    family: eagle3, eagle or medusa. n_answers: prompts to be answered at most, 0 = all. answer_tokens: the
    longest answer; temperature: of the answers, 0 = greedy. max_length: tokens of prompt and answer that are
    learned from. draft_vocab: tokens that the head may draft; new_vocab: a head that goes on learning drafts
    those that are frequent in these texts instead of its own. taps: layers whose inputs it reads, () = the
    usual ones. disk_gb: for features, 0 = none are stored and the target computes them for each batch.
    n_parallel: answers at once. n_threads: the target's, None = one for each core.
    """

    family: Family = "eagle3"
    n_answers: int = 0
    answer_tokens: int = 256
    temperature: float = 0.0
    max_length: int = 512
    draft_vocab: int = 8192
    new_vocab: bool = False
    taps: tuple[int, ...] = ()
    disk_gb: float = 20.0
    n_parallel: int = 16
    n_threads: int | None = None
    seed: int = 0
    train: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "max_length", "draft_vocab", "n_parallel"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.temperature >= 0, f"temperature must be >= 0 (0 = greedy), got {self.temperature}")
        require(self.disk_gb >= 0, f"disk_gb must be >= 0 (0 = store none), got {self.disk_gb}")
