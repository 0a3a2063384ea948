"""Which of the measured settings to use. Knows timings; measures nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.tune.grid import Timings

TIE = 1.02  # what is no slower than this is as good: the settings in use need no change for it


@dataclass(frozen=True, slots=True)
class Recommendation:
    """plain, speculative: the best setting for each alone. change: what to set instead of what is in use,
    for both together (an engine decodes single rows, too); empty where nothing is better."""

    plain: Timings
    speculative: Timings
    change: dict[str, Any]


def recommend(timings: Sequence[Timings], acceptances: Sequence[float]) -> Recommendation:
    """The first of `timings` are those of the settings in use; speculation weighs more than single rows."""

    def plain_ms(one: Timings) -> float:
        return one.plain_ms()

    def speculative_ms(one: Timings) -> float:
        return one.speculative_ms(acceptances)

    many = _best(timings, speculative_ms)
    alike = [one for one in timings if one.settings.flash_attn == many.settings.flash_attn]
    single = _best([many, *alike], plain_ms)
    used = timings[0].settings
    wanted = {
        "n_threads": single.settings.threads[0],
        "n_threads_batch": many.settings.threads[1],
        "flash_attn": many.settings.flash_attn,
    }
    current = dict(zip(wanted, (*used.threads, used.flash_attn), strict=True))
    change = {} if wanted == current else _shortest(wanted, current)
    return Recommendation(_best(timings, plain_ms), many, change)


def _best(timings: Sequence[Timings], ms: Callable[[Timings], float]) -> Timings:
    fastest = min(timings, key=ms)
    return timings[0] if ms(timings[0]) <= TIE * ms(fastest) else fastest


def _shortest(wanted: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The settings to name: threads for several rows are as many as for one unless said otherwise."""
    change = dict(wanted)
    if change["n_threads_batch"] == change["n_threads"]:
        del change["n_threads_batch"]
    if change["flash_attn"] == current["flash_attn"]:
        del change["flash_attn"]
    return change
