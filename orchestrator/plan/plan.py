"""The plan itself: everything that will be loaded, where it goes, whether it fits, and what would.

Nothing is loaded; see orchestrator.plan.memory for where the figures come from.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.settings import ContextSettings
from orchestrator.plan.advice import Advice, Variant, advise
from orchestrator.plan.budget import Budget
from orchestrator.plan.head import HeadMemory
from orchestrator.plan.memory import ModelMemory, Placed, Reckoner

_LEAST_CTX = 512  # tokens; advice to take fewer helps nobody
_DRIVER = 2**29  # what a GPU's driver and its kernels take besides; a rule of thumb


@dataclass(frozen=True, slots=True)
class Plan:
    """fits: whole (on the GPU, or in the main memory where there is none), partly (with n_gpu_layers of the
    target's layers on the GPU, 0 = all in the main memory) or no."""

    fits: str
    n_gpu_layers: int
    n_layers: int  # that n_gpu_layers can count
    n_ctx: int
    parts: tuple[Placed, ...]
    budget: Budget
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def vram(self) -> int:
        return sum(part.vram for part in self.parts)

    @property
    def ram(self) -> int:
        return sum(part.ram for part in self.parts)

    def document(self) -> dict[str, Any]:
        """For JSON; sizes in bytes."""
        return {
            "fits": self.fits,
            "n_gpu_layers": self.n_gpu_layers,
            "n_layers": self.n_layers,
            "n_ctx": self.n_ctx,
            "vram": self.vram,
            "ram": self.ram,
            "budget": {"vram": self.budget.vram, "ram": self.budget.ram, "source": self.budget.source},
            "parts": [{"what": part.what, "vram": part.vram, "ram": part.ram} for part in self.parts],
            "advice": [{"change": one.change, "fits": one.fits, "about": one.about} for one in self.advice],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Company:
    """What is loaded together. head: reckons it for a number of tokens. quants: the target in other
    quantizations, how to ask for them and their share of its bytes, the largest first. n_gpu_layers,
    draft_n_gpu_layers: what the user wants on the GPU at most, -1 = all."""

    target: Reckoner
    context: ContextSettings
    draft: Reckoner | None = None
    head: Callable[[int], HeadMemory] | None = None
    quants: Sequence[tuple[str, float]] = field(default=())
    n_gpu_layers: int = -1
    draft_n_gpu_layers: int = -1

    def variant(self, **changes: Any) -> "Company":
        return replace(self, **changes)


def plan(company: Company, budget: Budget, n_ctx_train: int) -> Plan:
    """Where everything goes, and what could be changed."""
    made = _placed(company, budget)
    variants = _variants(company, budget, made, n_ctx_train)
    advice, notes = tuple(advise(made.fits, variants)), made.notes
    if not advice and made.fits == "no":
        notes = (*notes, "no single change is enough: take a smaller model, or several changes at once")
    return replace(made, advice=advice, notes=notes)


def _placed(company: Company, budget: Budget, share: float = 1.0) -> Plan:
    target = company.target.resized(company.context, share)
    most = target.weights.most_gpu_layers
    top = most if company.n_gpu_layers < 0 else min(company.n_gpu_layers, most)
    wanted = range(top, -1, -1) if budget.vram is not None else (0,)
    others, notes = _others(company, target, on_gpu=budget.vram is not None)
    in_ram, _ = _others(company, target, on_gpu=False)
    plans = []
    for n in wanted:
        parts = (*target.placed(n), *(others if n else in_ram))
        made = Plan("whole", n, most, target.context.n_ctx, parts, budget, (), notes)
        if made.vram <= (budget.vram or 0) and made.ram <= budget.ram:
            return made if n == wanted[0] else replace(made, fits="partly")
        plans.append(made)
    return replace(plans[0], fits="no", n_gpu_layers=0)


def _others(
    company: Company, target: ModelMemory, *, on_gpu: bool
) -> tuple[tuple[Placed, ...], tuple[str, ...]]:
    """What is not divided: draft and head go to the GPU whole, or not at all."""
    parts: list[Placed] = []
    notes: list[str] = []
    if company.draft is not None:
        draft = company.draft.memory(replace(company.context, n_seq_max=1))
        n, most = company.draft_n_gpu_layers, draft.weights.most_gpu_layers
        parts += draft.placed((most if n < 0 else n) if on_gpu else 0)
    if company.head is not None:
        head = company.head(target.context.n_ctx)
        parts += head.placed(on_gpu=on_gpu)
        notes += [f"head {head.name}: {head.note}"] if head.note else []
    if on_gpu:
        parts.append(Placed("driver (a rule of thumb)", _DRIVER, 0))
    return tuple(parts), tuple(notes)


def _variants(company: Company, budget: Budget, made: Plan, n_ctx_train: int) -> Iterator[Variant]:
    """What could be asked for instead, each reckoned when it is looked at; the gentlest first of its kind."""

    def fits(other: Company, share: float = 1.0) -> Callable[[], str]:
        return lambda: _placed(other, budget, share).fits

    context = company.context
    if made.fits == "whole":
        yield from _larger(company, made, n_ctx_train, fits)
        return
    if context.flash_attn is not False and (context.type_k, context.type_v) == ("f16", "f16"):
        quantized = replace(context, type_k="q8_0", type_v="q8_0")
        yield Variant("cache", "type_k=q8_0 type_v=q8_0", fits(company.variant(context=quantized)))
    n_ctx = made.n_ctx // 2
    while n_ctx >= _LEAST_CTX:
        shorter = company.variant(context=replace(context, n_ctx=n_ctx))
        yield Variant("context", f"n_ctx={n_ctx}", fits(shorter))
        n_ctx //= 2
    if company.draft is not None:
        yield Variant("draft", "without the draft model", fits(company.variant(draft=None)))
    if company.head is not None:
        yield Variant("head", "without the head", fits(company.variant(head=None)))
    for name, share in company.quants:
        if share < 1:
            yield Variant("quant", name, fits(company, share), about=f"{share:.2f} of the weights' bytes")


def _larger(
    company: Company, made: Plan, n_ctx_train: int, fits: Callable[[Company], Callable[[], str]]
) -> Iterator[Variant]:
    """The room that is left: a longer context, a draft model."""
    budget = made.budget
    n_ctx = n_ctx_train
    while n_ctx > made.n_ctx:
        larger = replace(company.context, n_ctx=n_ctx)
        yield Variant("context", f"up to n_ctx={n_ctx}", fits(company.variant(context=larger)))
        n_ctx //= 2
    left = budget.ram - made.ram if budget.vram is None else budget.vram - made.vram
    if company.draft is None and company.head is None:
        text = f"a draft model of up to {left / 1e9:.1f} GB, its cache included"
        yield Variant("draft", text, lambda: "whole" if left > 0 else "no")
