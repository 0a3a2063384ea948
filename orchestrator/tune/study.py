"""All that `tune` finds out about one model on this device, and the order in which it does."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapters.cpu import usable_cores
from adapters.gguf_probe import bits
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings, require
from orchestrator.cost.curve import ROWS
from orchestrator.cost.store import curve_key, store_curve
from orchestrator.tune.census import Census, census
from orchestrator.tune.choice import MOST_HEAD_BITS, WORTH, Change, candidates, changes
from orchestrator.tune.grid import Timings, measure_grid, measured_rows, settings_grid
from orchestrator.tune.kernels import Kernels, measure_kernels
from orchestrator.tune.neighbours import MUCH, Neighbours
from orchestrator.tune.recommend import Recommendation, recommend
from orchestrator.tune.speed import by_rows, cheap_rows
from orchestrator.tune.split import Split, measure_split
from orchestrator.tune.timing import no_progress, require_rollback

SHORT, LONG = 64, 1024  # tokens in the cache, unless others are asked for
SIZES = (0.9, 1.25)  # bits that a better type for the layers may have, against what they have
_ROOM = ROWS[-1] + 1  # tokens behind a context's for the largest decode


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. threads, contexts: to go through. acceptances: rates at which speeds are told."""

    threads: tuple[int, ...]
    contexts: tuple[int, ...]
    acceptances: tuple[float, ...]
    passes: int

    def __post_init__(self) -> None:
        for name in ("threads", "contexts", "acceptances"):
            require(bool(getattr(self, name)), f"{name} is empty; give one value at least")
        require(min(self.contexts) >= 1, f"contexts must be 1 token or more, got {min(self.contexts)}")
        for rate in self.acceptances:
            require(0 <= rate <= 1, f"acceptance must be a rate between 0 and 1, got {rate:g}")


@dataclass(frozen=True, slots=True)
class Study:
    """timings: of the settings in use first. head, layers: what other types would bring, the best first.
    stored: whether engines with these settings will plan by these curves. others: the share of the
    processors' time that other programs took."""

    model: Path
    plan: Plan
    timings: tuple[Timings, ...]
    recommendation: Recommendation
    census: Census
    split: Split
    kernels: Kernels
    head: tuple[Change, ...]
    layers: tuple[Change, ...]
    stored: bool
    others: float

    def as_dict(self) -> dict[str, Any]:
        found = self.recommendation
        return {
            "model": str(self.model),
            "settings": [_as_dict(one, self.plan.acceptances) for one in self.timings],
            "best_plain": self.timings.index(found.plain),
            "best_speculative": self.timings.index(found.speculative),
            "change": found.change,
            "stored": self.stored,
            "others": self.others,
            "split": {**asdict(self.split), "head_share_4": self.split.head_share(4)},
            "types": {"head": self.census.head, "tied": self.census.tied, "layers": self.census.layers},
            "kernels": {"rows": self.kernels.rows, "ns_per_weight": dict(self.kernels.ns)},
            "better_head": [asdict(change) for change in self.head],
            "better_layers": [asdict(change) for change in self.layers],
        }


def _as_dict(one: Timings, acceptances: Sequence[float]) -> dict[str, Any]:
    n_threads, n_threads_batch = one.settings.threads
    return {
        "n_threads": n_threads,
        "n_threads_batch": n_threads_batch,
        "flash_attn": one.settings.flash_attn,
        "rows": one.rows,
        "contexts": [
            {
                "n_past": n_past,
                "ms": ms,
                "plain_tok_s": 1e3 / ms[0],
                "cheap_rows": cheap_rows(dict(zip(one.rows, ms, strict=True))),
                "speculative": [asdict(one.best(n_past, rate)) for rate in acceptances],
            }
            for n_past, ms in sorted(one.ms.items())
        ],
    }


def default_threads() -> tuple[int, ...]:
    """All cores, and half of them."""
    return tuple(dict.fromkeys((usable_cores(), max(1, usable_cores() // 2))))


def default_contexts(n_ctx: int) -> tuple[int, ...]:
    """A short and a long context that a model of `n_ctx` tokens has room for."""
    long = min(LONG, max(2, n_ctx // 2))
    return min(SHORT, max(1, long // 2)), long


def with_room(settings: ContextSettings, contexts: Sequence[int]) -> ContextSettings:
    """n_ctx as small as the contexts allow, for many stand open at once; a given one must hold them."""
    needed = max(contexts) + _ROOM
    require(
        settings.n_ctx == 0 or settings.n_ctx >= needed,
        f"contexts of {max(contexts)} tokens and {ROWS[-1]} rows do not fit n_ctx={settings.n_ctx}; "
        f"{needed} would do",
    )
    return replace(settings, n_ctx=settings.n_ctx or needed)


def study(
    path: Path,
    weights: ModelSettings,
    used: ContextSettings,
    plan: Plan,
    *,
    progress: Callable[[int, int], None] = no_progress,
    report: Callable[[str], None] = lambda _text: None,
) -> Study:
    """Measure the model at `path` under `used` and the plan's settings; keeps the curves for the planner."""
    found, neighbours = census(path), Neighbours()
    with ExitStack() as stack:
        model = LlamaModel(path, weights)
        stack.callback(model.close)
        require_rollback(model)
        grid = settings_grid(with_room(used, plan.contexts), plan.threads)
        contexts = [LlamaContext(model, settings) for settings in grid]
        timings = _timings(contexts, plan, progress)
        stored = neighbours.share() < MUCH and len(plan.contexts) > 1
        for context, one in zip(contexts, timings, strict=True) if stored else ():
            store_curve(curve_key(context), one.curve())
        report("measuring the layers and the vocabulary projection apart")
        split = measure_split(contexts[0], plan.passes)
    report("measuring the kernels of other types")
    kernels = measure_kernels(found, weights, used)
    head, layers = better_types(found, split, kernels)
    best, others = recommend(timings, plan.acceptances), neighbours.share()
    return Study(path, plan, timings, best, found, split, kernels, head, layers, stored, others)


def _timings(
    contexts: Sequence[LlamaContext], plan: Plan, progress: Callable[[int, int], None]
) -> tuple[Timings, ...]:
    times = measure_grid(contexts, plan.contexts, plan.passes, progress=progress)
    rows = measured_rows(contexts[0], max(plan.contexts))
    return tuple(
        Timings(context.settings, rows, *measured) for context, measured in zip(contexts, times, strict=True)
    )


def better_types(
    found: Census, split: Split, kernels: Kernels
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Types worth having for the projection (no fewer bits) and for the layers (about as many bits)."""
    ms = by_rows(split.rows, split.total)
    wide = candidates(kernels, bits(found.head), MOST_HEAD_BITS)
    low, high = (share * found.layer_bits for share in SIZES)
    around = by_rows(split.rows, split.layers)
    projection = by_rows(split.rows, split.head)
    head = changes(ms, projection, {found.head: found.head_weights}, wide, kernels)
    layers = (
        changes(ms, around, found.layers, candidates(kernels, low, high), kernels) if found.layers else []
    )
    return _worth(head), _worth(layers)


def _worth(found: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(change for change in found if change.gain >= WORTH)
