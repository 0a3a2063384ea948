"""The curve under several settings: thread counts, flash attention, lengths of the context.

Passes go through all settings in turn, so that a slow minute of the machine hits all alike.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from adapters.settings import ContextSettings
from orchestrator.cost.curve import ROWS, CostCurve
from orchestrator.cost.timing import CLOCK, Clock, filler, fitting_rows, score_ms, typical
from orchestrator.protocols import Target
from orchestrator.tune.speed import Best, best_draft, by_rows
from orchestrator.tune.timing import no_progress

Milliseconds = dict[int, tuple[float, ...]]  # by tokens in the cache: ms for each of the row counts


@dataclass(frozen=True, slots=True)
class Timings:
    """One setting's curves. rows: ascending, from 1. switch: ms more after a decode of other rows."""

    settings: ContextSettings
    rows: tuple[int, ...]
    ms: Milliseconds
    switch: float = 0.0

    def plain_ms(self) -> float:
        """ms per token of plain decoding, mean over the contexts."""
        return float(np.mean([ms[0] for ms in self.ms.values()]))

    def speculative_ms(self, acceptances: Sequence[float]) -> float:
        """ms per token with the best draft length, mean over contexts and acceptances."""
        return float(np.mean([1e3 / self.best(n, a).tok_s for n in self.ms for a in acceptances]))

    def best(self, n_past: int, acceptance: float) -> Best:
        """The best draft length after `n_past` tokens."""
        return best_draft(by_rows(self.rows, self.ms[n_past]), acceptance)

    def curve(self) -> CostCurve:
        """What the planner uses; needs two contexts, as one does not tell what a longer one costs."""
        contexts = np.array(sorted(self.ms), float)
        times = np.array([self.ms[n] for n in sorted(self.ms)])  # [n_contexts, n_rows]
        grown = np.maximum(np.polyfit(contexts, times, 1)[0], 0.0)  # ms per token of context, by rows
        short = int(contexts[0])
        slopes = dict(zip(self.rows, grown, strict=True))
        return CostCurve.fitted(self.rows, self.ms[short], short, slopes, switch=self.switch)


def settings_grid(used: ContextSettings, threads: Iterable[int]) -> list[ContextSettings]:
    """`used` first, then every thread count with flash attention on and off, where V's type allows off."""
    flash = (True, False) if used.type_v in ("f32", "f16", "bf16") else (True,)
    others = [
        replace(used, n_threads=n, n_threads_batch=None, flash_attn=on) for n in threads for on in flash
    ]
    known, grid = {_essence(used)}, [used]
    for settings in others:
        if _essence(settings) not in known:
            known.add(_essence(settings))
            grid.append(settings)
    return grid


def _essence(settings: ContextSettings) -> tuple[int, int, bool | None]:
    return (*settings.threads, settings.flash_attn)


def measured_rows(target: Target, n_past: int) -> tuple[int, ...]:
    """The row counts for which there is room after `n_past` tokens."""
    return fitting_rows(target, ROWS, n_past)


def measure_grid(
    targets: Sequence[Target],
    contexts: Sequence[int],
    passes: int,
    *,
    progress: Callable[[int, int], None] = no_progress,
    clock: Clock = CLOCK,
) -> list[tuple[Milliseconds, float]]:
    """What decodes of `measured_rows` cost on each target, and what a change of rows does; their caches are
    used and then worthless."""
    rows = measured_rows(targets[0], max(contexts))
    found: list[Milliseconds] = [{} for _ in targets]
    changes: list[list[float]] = [[] for _ in targets]
    steps = len(contexts) * passes
    progress(0, steps)
    for index, n_past in enumerate(sorted(contexts)):
        samples: list[dict[int, list[float]]] = [defaultdict(list) for _ in targets]
        for target in targets:
            target.prefill(filler(n_past + 1, target.capabilities.n_vocab))
        for number in range(passes):
            for target, times, change in zip(targets, samples, changes, strict=True):
                for n in rows:
                    changed = score_ms(target, n, clock)  # builds the graph, which the next one uses again
                    times[n].append(score_ms(target, n, clock))
                    change.append(changed - times[n][-1])
            progress(index * passes + number + 1, steps)
        for times, ms in zip(samples, found, strict=True):
            ms[n_past] = tuple(typical(times[n]) for n in rows)
    return [(ms, max(0.0, median(change))) for ms, change in zip(found, changes, strict=True)]
