"""Every setting of an engine, with its default; an unknown key is an error.

Five groups, each a frozen dataclass: `ModelSettings` and `ContextSettings` (adapters.settings),
`SpeculationSettings` and `HeadSettings` (here) and `Sampling` (orchestrator.sampling). Users pass them flat.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from adapters.settings import MAX_SEQ, ContextSettings, ModelSettings, require
from orchestrator.errors import ConfigError
from orchestrator.sampling import Sampling
from orchestrator.synthetic import synthetic
from orchestrator.verify import RULES, Rule

HEAD_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
PLANNERS = ("auto", "adaptive", "fixed")


@dataclass(frozen=True, slots=True)
class SpeculationSettings:
    """How guesses are made and checked.

    rule: coupled, rejection or block (orchestrator.verify). max_draft: tokens drafted per round, None =
    the method's own default. ngram_min: tokens that must match in prompt lookup. draft_p_min: a draft
    model stops drafting at the first token that it gives less probability. draft_n_gpu_layers: layers
    of the draft model on the GPU, None = as the target. planner: adaptive (drafts what pays under measured
    costs), fixed (always as much as there is), auto = adaptive for the methods auto, suffix and cascade.
    max_leaves: branches of a draft tree that suffix and cascade may propose. synthetic_accept: a what-if
    study: drafted tokens are accepted with this probability, whatever the target thinks of them. THE TEXT
    IS THEN INVALID.
    """

    rule: str = "coupled"
    max_draft: int | None = None
    ngram_min: int = 2
    draft_p_min: float = 0.0
    draft_n_gpu_layers: int | None = None
    planner: str = "auto"
    max_leaves: int = 1
    synthetic_accept: float | None = None

    def __post_init__(self) -> None:
        require(self.rule in RULES, f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        require(
            self.max_draft is None or self.max_draft >= 1,
            f"max_draft must be >= 1 (method='none' drafts nothing), got {self.max_draft}",
        )
        require(
            self.planner in PLANNERS, f"planner must be one of {', '.join(PLANNERS)}, got {self.planner!r}"
        )
        require(
            1 <= self.max_leaves <= MAX_SEQ,
            f"max_leaves must be between 1 and {MAX_SEQ}, got {self.max_leaves}",
        )
        require(self.ngram_min >= 1, f"ngram_min must be >= 1, got {self.ngram_min}")
        rate = self.synthetic_accept
        require(
            rate is None or 0 <= rate <= 1, f"synthetic_accept must be a rate between 0 and 1, got {rate}"
        )
        require(
            rate is None or self.rule == "coupled",
            f"synthetic_accept takes the place of a rule; drop {self.rule!r}",
        )
        require(0 <= self.draft_p_min <= 1, f"draft_p_min must be between 0 and 1, got {self.draft_p_min}")

    @property
    def verify(self) -> Rule:
        """What checks a draft."""
        return RULES[self.rule] if self.synthetic_accept is None else synthetic(self.synthetic_accept)

    @property
    def invalid_text(self) -> str:
        """Why what comes out is no text of the model; empty in honest use."""
        rate = self.synthetic_accept
        return "" if rate is None else f"synthetic acceptance {rate:g}: the text is invalid"


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """How a head runs.

    head_dtype: float32, bfloat16, float16, int8 (weights of 8 bits, CPU only), auto = 8 bits on a CPU, else
    bfloat16. On a CPU, auto lets llama.cpp's ggml compute the steps of an EAGLE head; the others are
    PyTorch's. head_device: cpu, cuda, mps, ..., auto = the GPU where PyTorch has one and the target uses it.
    head_threads: threads on a CPU, None = the target's for ggml and PyTorch's choice for PyTorch, where they
    are process-wide. head_window: tokens that an EAGLE head looks back, 0 = all. head_vocab: the likeliest
    tokens that a head without a vocabulary of its own may draft: a number (the first ones of the vocabulary)
    or a file of token ids; None = all.
    head_taps: layers whose inputs an EAGLE-3 head reads, where its config is wrong about them; () = as it
    says. tree: nodes of a Medusa tree: auto (the likeliest), chain, widths (4x2x1) or a preset's name.
    tree_depth: levels of an EAGLE tree.
    """

    head_dtype: str = "auto"
    head_device: str = "auto"
    head_threads: int | None = None
    head_window: int = 0
    head_vocab: int | str | None = None
    head_taps: tuple[int, ...] = ()
    tree: str = "auto"
    tree_depth: int = 5

    def __post_init__(self) -> None:
        require(
            self.head_dtype in HEAD_DTYPES,
            f"head_dtype must be one of {', '.join(HEAD_DTYPES)}, got {self.head_dtype!r}",
        )
        for name, least in (("head_threads", 1), ("head_window", 0), ("tree_depth", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name} must be >= {least}, got {value}")
        vocab = self.head_vocab
        require(not isinstance(vocab, int) or vocab >= 1, f"head_vocab must be >= 1, got {vocab}")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of an engine."""

    model: ModelSettings = field(default_factory=ModelSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    speculation: SpeculationSettings = field(default_factory=SpeculationSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def of(cls, **settings: Any) -> "Config":
        """A config from flat settings: `Config.of(n_ctx=8192, temperature=0)`."""
        config = cls()
        owner = {f.name: group.name for group in fields(cls) for f in fields(getattr(config, group.name))}
        grouped: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in owner:
                raise ConfigError(unknown_setting(name, list(owner)))
            grouped.setdefault(owner[name], {})[name] = _frozen(value)
        try:
            groups = {group: replace(getattr(config, group), **given) for group, given in grouped.items()}
        except TypeError as error:  # a comparison between, say, a string and a number
            raise ConfigError(f"a setting has a value of the wrong type: {error}") from error
        return replace(config, **groups)


def unknown_setting(name: str, known: list[str]) -> str:
    """The message for a setting that does not exist, with the closest ones that do."""
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known settings: {', '.join(sorted(known))}"
    return f"unknown setting {name!r}; {hint}"


def override(sampling: Sampling, changes: Mapping[str, Any]) -> Sampling:
    """`sampling` with some fields changed for one call."""
    for name in changes:
        if name not in Sampling.field_names():
            raise ConfigError(unknown_setting(name, [*Sampling.field_names(), *CALL_OPTIONS]))
    try:
        return replace(sampling, **changes)
    except TypeError as error:
        raise ConfigError(f"a sampling setting has a value of the wrong type: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# what one call takes besides sampling; see orchestrator.request.Request
CALL_OPTIONS = (
    "max_tokens",
    "stop",
    "stop_tokens",
    "on_token",
    "speculate",
    "grammar",
    "json_schema",
    "references",
    "explain",
    "logprobs",
    "logits_processor",
)
