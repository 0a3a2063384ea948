"""One request being served: prefill, the loop, its text and its statistics."""

import threading
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from adapters.target import Rows
from orchestrator.context import Context
from orchestrator.draft import Walk
from orchestrator.drafters.base import Drafter
from orchestrator.limits import CANCELLED, STOP, EndTokens, Limits
from orchestrator.logprobs import TokenLogprobs, walk_logprobs
from orchestrator.loop import Loop
from orchestrator.protocols import Planner, Target
from orchestrator.request import Chunk, Request, Result
from orchestrator.sampler import Grammar, Sampler
from orchestrator.stats import Stats
from orchestrator.suffix.references import References
from orchestrator.text import Decoder, TextStream
from orchestrator.verify import RULES, Rule


class Run:
    """Serves one request on a target that nobody else is using."""

    def __init__(
        self,
        prompt: Sequence[int],
        request: Request,
        *,
        target: Target,
        drafter: Drafter,
        planner: Planner,
        rule: str,
        verify: Rule | None = None,
        decoder: Decoder,
        is_end: Callable[[int], bool],
        grammar: Grammar | None = None,
        references: References | None = None,
        note: str = "",
    ) -> None:
        """rule: how drafts are checked. verify: what checks them, if not the rule of that name."""
        self._request = request
        self._ends = EndTokens(is_end, request.stop_tokens).__getitem__
        processor, coupled = request.logits_processor, rule == "coupled"
        sampler = Sampler(request.sampling, prompt, grammar, coupled=coupled, processor=processor)
        self._context = Context(prompt, sampler, references)
        self._text = TextStream(decoder, request.stop)
        self._cancelled = threading.Event()
        limits = Limits(request.max_tokens, self._ends, self._watch)
        self._logprobs: list[TokenLogprobs] = []
        self._loop = Loop(
            target,
            drafter,
            planner,
            verify or RULES[rule],
            self._context,
            limits,
            self._cancelled.is_set,
            self._note_logprobs if request.logprobs is not None else None,
        )
        self._parts: list[str] = []
        self._fresh: list[str] = []
        self.stats = Stats(n_prompt=len(prompt), method=drafter.name, note=note, seed=sampler.seed)

    def chunks(self) -> Iterator[Chunk]:
        """Serve the request, one chunk per round; what a cancelled request held back comes last."""
        started = perf_counter()
        self.stats.n_reused = self._loop.prefill()
        self.stats.t_prefill = perf_counter() - started
        steps = self._loop.steps()
        while True:
            begun = perf_counter()
            step = next(steps, None)
            if step is None:
                break
            self.stats.add(step)
            # the time that a caller spends between two chunks is not ours
            self.stats.t_decode += perf_counter() - begun
            if self.stats.n_decodes == 1:
                self.stats.t_first = perf_counter() - started
            newest = tuple(self._logprobs[-len(step.tokens) :])
            yield Chunk(self._take(finished=bool(step.finish_reason)), step, newest)
        rest = self._take(finished=True)
        if rest:
            yield Chunk(rest, None)

    def _take(self, *, finished: bool) -> str:
        if finished:
            self._fresh.append(self._text.finish())
        text = "".join(self._fresh)
        self._fresh.clear()
        self._parts.append(text)
        return text

    def _watch(self, token: int) -> str:
        stopped = not self._ends(token) and self._text.push(token)
        text = self._text.take()
        self._fresh.append(text)
        on_token = self._request.on_token
        if on_token is not None and on_token(token, text) is False:
            return CANCELLED
        return STOP if stopped else ""

    def _note_logprobs(self, rows: Rows, walk: Walk) -> None:
        self._logprobs += walk_logprobs(rows, walk, self._request.logprobs or 0)

    def cancel(self) -> None:
        """Ask the request to end after the round in progress; from any thread."""
        self._cancelled.set()

    def result(self) -> Result:
        """What has been emitted so far."""
        reason = self._loop.finish_reason or CANCELLED
        self.stats.plan = self._loop.planner.summary()
        text, tokens = "".join(self._parts), tuple(self._context.emitted)
        return Result(text, tokens, reason, self.stats, tuple(self._logprobs))
