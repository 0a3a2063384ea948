"""The loop: guess, score, keep what is right. Plain decoding is the same loop with empty drafts.

Knows ids, protocols and the order of things; nothing of llama.cpp, text or how drafts are made.
"""

from collections.abc import Callable, Iterator
from time import perf_counter

from adapters.target import HiddenRows, Rows
from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft, Step, Walk
from orchestrator.drafters.base import Drafter
from orchestrator.errors import DrafterError, PilotfishError
from orchestrator.limits import CANCELLED, LENGTH, Limits
from orchestrator.protocols import Planner, Target
from orchestrator.verify import Rule


class Loop:
    """One request being decoded. The target has been prefilled with the context's tokens."""

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        planner: Planner,
        rule: Rule,
        context: Context,
        limits: Limits,
        cancelled: Callable[[], bool] = lambda: False,
        on_rows: Callable[[Rows, Walk], None] | None = None,
    ) -> None:
        """on_rows: shown what each round emitted and the rows that led to it, valid during the call."""
        self.target, self.drafter, self.planner, self.rule = target, drafter, planner, rule
        self.context, self.limits, self.cancelled, self.on_rows = context, limits, cancelled, on_rows
        self.finish_reason = ""

    def prefill(self) -> int:
        """Tell the drafter that a request begins, and let both read its prompt; how many of its tokens the
        target had in its memory."""
        drafter, target = self.drafter, self.target
        drafter.gate = self.planner
        wants_rows = bool(drafter.taps) and drafter.taps.prompt
        try:
            drafter.begin(self.context)
            if wants_rows and drafter.n_known(self.context) < target.n_past:
                target.truncate(drafter.n_known(self.context))
        except Exception as error:
            raise self._blame(error) from error
        on_hidden = self._read_prompt if wants_rows else None
        return target.prefill(self.context.tokens, should_stop=self.cancelled, on_hidden=on_hidden)

    def _read_prompt(self, start: int, hidden: HiddenRows) -> None:
        try:
            self.drafter.read_prompt(start, hidden)
        except Exception as error:
            raise self._blame(error) from error

    def steps(self) -> Iterator[Step]:
        """Decode to the end. At every yield the target's memory holds all tokens but the newest,
        so the iterator may be dropped anywhere."""
        while not self._finished():
            try:
                step = self._round()
            except BaseException:  # Ctrl-C included: leave a target that can go on
                self.target.rollback()
                raise
            yield step

    def _finished(self) -> bool:
        if not self.finish_reason and self.cancelled():
            self.finish_reason = CANCELLED
        if not self.finish_reason and (self.limits.left <= 0 or self._free_cells() <= 0):
            self.finish_reason = LENGTH
        return bool(self.finish_reason)

    def _round(self) -> Step:
        context, start = self.context, perf_counter()
        draft = self._draft()
        drafted = perf_counter()
        rows = self.target.score(draft)
        verified = perf_counter()
        walk = self.rule(draft, rows, context.sampler, len(context), self.limits.ends)
        n_admitted, self.finish_reason = self.limits.admit(walk.tokens)
        walk = walk.first(n_admitted)
        sampled = perf_counter()
        self.target.commit(walk)
        context.extend(walk.tokens)
        committed = perf_counter()
        if self.on_rows is not None:
            self.on_rows(rows, walk)
        step = Step(
            tokens=walk.tokens,
            n_drafted=len(draft),
            n_accepted=walk.n_accepted,
            depth_drafted=draft.depth,
            source=draft.source,
            t_draft=drafted - start,
            t_verify=verified - drafted + committed - sampled,
            t_sample=sampled - verified,
            finish_reason=self.finish_reason or ("" if self._free_cells() > 0 else LENGTH),
            quoted=self._quoted(draft, walk),
            sources=tuple(draft.sources[node] for node in walk.path) if draft.sources else (),
            drafted_by=draft.sources,
        )
        try:
            self.drafter.observe(draft, walk, rows)
        except Exception as error:
            raise self._blame(error) from error
        self.planner.observe(draft, walk, step)
        return step

    def _quoted(self, draft: Draft, walk: Walk) -> tuple[tuple[str, int] | None, ...]:
        """Where each accepted token was copied from, if its drafter says."""
        locate, origin = self.drafter.locate, draft.origin
        return tuple(locate(origin[node]) for node in walk.path) if origin else ()

    def _free_cells(self) -> int:
        return self.target.capabilities.n_ctx - self.target.n_past

    def _room(self) -> int:
        """Most nodes that could be of use: the round itself emits one token more than it accepts."""
        can = self.target.capabilities
        return min(can.max_rows, self._free_cells(), self.limits.left) - 1 if can.rollback else 0

    def _draft(self) -> Draft:
        budget = self.planner.budget(self.context, self._room())
        if budget <= 0:
            return EMPTY
        try:
            draft = self.drafter.propose(self.context, budget)
        except Exception as error:
            raise self._blame(error) from error
        if not isinstance(draft, Draft):
            raise DrafterError(f"drafter {self.drafter.name!r} must return a Draft, got {draft!r}")
        draft.require_vocabulary(self.target.capabilities.n_vocab)
        return self.planner.trim(draft, budget)

    def _blame(self, error: Exception) -> PilotfishError:
        """A drafter's code may be anybody's: whatever it raises comes out with its name."""
        if isinstance(error, PilotfishError):
            return error
        return DrafterError(f"drafter {self.drafter.name!r} failed: {error!r}")
