"""From names and settings to loaded parts: which method serves, what it needs, in which order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ModelSettings
from adapters.tokenizer import Tokenizer
from orchestrator.config import Config
from orchestrator.cost.curve import CostCurve
from orchestrator.cost.store import curve_key, curve_of, store_curve
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.function import FunctionDrafter
from orchestrator.drafters.gated import GatedDrafter
from orchestrator.drafters.registry import build_drafter
from orchestrator.drafters.setup import Setup
from orchestrator.errors import ConfigError, UnsupportedTarget

DRAFT_MODEL_METHODS = ("model", "cascade")
HEAD_METHODS = ("head", "cascade")
ADAPTIVE_METHODS = ("suffix", "cascade")  # and with them `auto`
_TAKE_TIME = ("model", "head")
TargetArgument = str | Path | LlamaModel  # a loaded model may serve several engines at once
# what users may give as a draft: a model, a drafter of their own, or a function (tokens, budget)
DraftArgument = str | Path | Drafter | Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that an engine runs on.

    note: why the method is not the one that was asked for. shared: the model is somebody else's to close.
    curve: what decodes cost, where the planner asks; it is refined, and kept under costs_key.
    """

    model: LlamaModel
    context: LlamaContext
    tokenizer: Tokenizer
    drafter: Drafter
    config: Config
    note: str = ""
    shared: bool = False
    curve: CostCurve | None = None
    costs_key: Mapping[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        self.drafter.close()
        if self.curve is not None:
            store_curve(self.costs_key, self.curve)
        if self.shared:
            self.context.close()
        else:
            self.model.close()


Resolve = Callable[[str | Path], Path]  # a model's name to its file
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def assemble(
    target: TargetArgument,
    draft: DraftArgument,
    method: str,
    config: Config,
    resolve: Resolve,
    *,
    head: str | Path | None = None,
    hub: Mapping[str, Any] = NO_OPTIONS,
    progress: Callable[[int, int], None] | None = None,
) -> Parts:
    """Load the target, unless it is loaded already, and open it for `method`. hub: how to fetch a head;
    progress: told while the target's matrices are made ready for it."""
    shared = isinstance(target, LlamaModel)
    model = (
        _loaded(target, config)
        if isinstance(target, LlamaModel)
        else LlamaModel(resolve(target), config.model)
    )
    drafter = None
    try:
        name, note = choose_method(method, draft, model, config.speculation.rule, head)
        if name == "own":
            drafter = own_drafter(draft, config)
        else:
            setup = Setup(
                speculation=config.speculation,
                model=config.model,
                context=config.context,
                head_settings=config.head,
                draft=draft,
                head=head,
                hub=hub,
                progress=progress,
                resolve=resolve,
                target=model,
            )
            drafter = build_drafter(name, setup)
            if name in _TAKE_TIME and _is_adaptive(name, config):
                drafter = GatedDrafter(drafter)
        leaves = max(config.context.n_seq_max, 1 if model.no_rollback else drafter.leaves)
        context = LlamaContext(model, replace(config.context, n_seq_max=leaves), drafter.taps)
        parts = Parts(model, context, Tokenizer(model), drafter, config, note, shared)
        if not _is_adaptive(name, config):
            return parts
        # the key now: the file may be gone when the curve is kept
        return replace(parts, curve=curve_of(context), costs_key=curve_key(context))
    except BaseException:
        if drafter is not None:
            drafter.close()
        if not shared:
            model.close()
        raise


def _is_adaptive(method: str, config: Config) -> bool:
    settings = config.speculation
    if method == "none" or settings.planner == "fixed":
        return False
    # where guesses are drawn from q, dropping the unlikely ones would change the law of what comes out
    lawful = settings.rule == "coupled" or method in ("suffix", "lookup")
    if settings.planner == "adaptive" and not lawful:
        raise ConfigError(f"planner='adaptive' with method={method!r} needs rule='coupled'")
    return lawful and (settings.planner == "adaptive" or method in ADAPTIVE_METHODS)


def _loaded(model: LlamaModel, config: Config) -> LlamaModel:
    model.require_open()
    if config.model not in (model.settings, ModelSettings()):
        raise ConfigError(
            f"{model.path.name} is loaded already, with settings of its own; "
            "leave n_gpu_layers, use_mmap and the like out, or give the file's path"
        )
    return model


def choose_method(
    method: str,
    draft: DraftArgument,
    model: LlamaModel,
    rule: str = "coupled",
    head: str | Path | None = None,
) -> tuple[str, str]:
    """The method that will serve, and a note where it is not what was hoped for.

    `auto` is `cascade` where a head or a draft model is given (`head` or `model` under rules that take
    sampled chains), else `suffix`, and `none` for a target that cannot drop rejected tokens. An explicit
    method that the target cannot serve is an error.
    """
    own = draft is not None and not isinstance(draft, str | Path)
    if head is not None and draft is not None:
        raise ConfigError("a head and a draft are given; leave one of them out")
    if head is not None and method not in ("auto", *HEAD_METHODS):
        raise ConfigError(f"method={method!r} does not use head={str(head)!r}; leave one of them out")
    if own and method != "auto":
        raise ConfigError(f"a drafter of your own goes with method='auto', not {method!r}")
    if draft is not None and not own and method not in ("auto", *DRAFT_MODEL_METHODS):
        raise ConfigError(f"method={method!r} does not use draft={str(draft)!r}; leave one of them out")
    wanted = "own" if own else method
    if method == "auto" and not own:
        alone = "model" if head is None else "head"
        wanted = "suffix" if draft is None and head is None else "cascade" if rule == "coupled" else alone
    if wanted == "none" or not model.no_rollback:
        return wanted, ""
    reason = f"{model.path.name} cannot be sped up: {model.no_rollback}"
    if method == "auto" and draft is None and head is None:
        return "none", f"{reason}; decoding plainly"
    raise UnsupportedTarget(f"{reason}; use method='none'")


def own_drafter(draft: DraftArgument, config: Config) -> Drafter:
    """What a user wrote: a drafter, or a function."""
    if isinstance(draft, Drafter):
        return draft
    assert callable(draft)
    return FunctionDrafter(draft, config.speculation.max_draft)
