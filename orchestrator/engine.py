"""The engine: a loaded target, a drafter, and the calls that users make.

    with Engine.load("smollm2") as engine:
        print(engine.generate("The pilot fish").text)

One request at a time. Text comes in and goes out here; everything below works on token ids.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from adapters.chat import ChatTemplate, Message
from adapters.grammar import LlamaGrammar
from adapters.models import resolve_model
from adapters.settings import require
from orchestrator.adaptive import AdaptivePlanner
from orchestrator.assembly import DraftArgument, Parts, TargetArgument, assemble
from orchestrator.config import Config
from orchestrator.drafters.base import Drafter
from orchestrator.drafters.none import NoDrafter
from orchestrator.errors import EngineBusy, PilotfishError
from orchestrator.planner import FixedPlanner
from orchestrator.protocols import Planner
from orchestrator.request import Chunk, Request, Result, request_of
from orchestrator.run import Run
from orchestrator.session import Sessions
from orchestrator.stream import Stream
from orchestrator.suffix.references import References

logger = logging.getLogger("pilotfish.engine")

Prompt = str | Sequence[int]
T = TypeVar("T")


class Engine(Sessions):
    """Generates text with one target model, speculatively."""

    def __init__(self, parts: Parts) -> None:
        """Use `Engine.load`; this takes parts that are loaded already."""
        self.model, self.target, self.tokenizer = parts.model, parts.context, parts.tokenizer
        self.drafter, self.config, self.note = parts.drafter, parts.config, parts.note
        self._parts = parts
        self._planner = self._adaptive_planner(parts)
        self._template: ChatTemplate | None = None
        self._lock = threading.Lock()
        self._owner = 0  # the thread that holds the lock
        self._current: Run | None = None
        # a conversation asks about the same documents again and again: the newest stay indexed
        self._indexed: tuple[tuple[Any, ...], References] | None = None
        self._closed = False
        if parts.note:
            logger.warning("%s", parts.note)

    @staticmethod
    def _adaptive_planner(parts: Parts) -> AdaptivePlanner | None:
        if parts.curve is None:
            return None
        most = parts.config.speculation.max_draft or parts.drafter.max_draft
        leaves = parts.context.capabilities.max_leaves
        return AdaptivePlanner(parts.curve, max_draft=most, max_leaves=leaves)

    @classmethod
    def load(
        cls,
        target: TargetArgument,
        draft: DraftArgument = None,
        method: str = "auto",
        *,
        head: str | Path | None = None,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        progress: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> "Engine":
        """Load a target and what drafts for it.

        target: a GGUF's path, a preset (`smollm2`), or `owner/repo:QUANT` on the Hugging Face Hub (fetched
        with `revision`, `token`, `local_files_only`), or a loaded LlamaModel, which several engines may share
        and whoever loaded it closes. draft: a smaller GGUF named in the same ways, a Drafter, or a function
        `(tokens, budget) -> tokens`. head: Medusa or EAGLE heads, a folder, a file, `owner/repo`, auto = the
        best that is known for this model, or default = the one that comes with pilotfish (heads.choice).
        method: auto, none, suffix, cascade, lookup, model, head or an installed one. progress(done, total):
        called while a preset's file, or what a head borrows of the target, is being made. settings: any field
        of orchestrator.config.Config, flat.
        """
        config = Config.of(**settings)

        def resolve(name: str | Path) -> Path:
            return resolve_model(
                name,
                # a revision is the target's: the draft is another repository
                revision=revision if name == target else None,
                token=token,
                local_files_only=local_files_only,
                progress=progress,
            )

        hub = {"token": token, "local_files_only": local_files_only}
        return cls(assemble(target, draft, method, config, resolve, head=head, hub=hub, progress=progress))

    # -- calls -----------------------------------------------------------------------------------

    def generate(self, prompt: Prompt, **options: Any) -> Result:
        """Generate after `prompt` (text, or token ids).

        options: fields of orchestrator.request.Request (max_tokens, stop, stop_tokens, on_token,
        speculate, grammar, json_schema, references, explain, logprobs, logits_processor) and of Sampling
        (temperature, seed, ...), for this call only.
        An error that interrupts the generation carries what there is so far as `error.result`.
        """
        return self.stream(prompt, **options).finish()

    def generate_tokens(self, tokens: Sequence[int], **options: Any) -> Result:
        """Generate after token ids, which are taken as they are: no BOS is added."""
        return self.generate(list(tokens), **options)

    def stream(self, prompt: Prompt, **options: Any) -> Stream:
        """Like `generate`, as an iterator of chunks that may be dropped anywhere."""
        self._require_open()
        request = request_of(self.config.sampling, options)
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        require(len(tokens) > 0, "the prompt is empty; give at least one token of text")
        self.target.checked(tokens)  # before a drafter sees them
        return Stream(self, self._run(tokens, request))

    def chat(self, messages: Sequence[Message], **options: Any) -> Result:
        """Answer a conversation, `[{"role": "user", "content": "..."}]`, by the model's template."""
        return self.generate(self.chat_prompt(messages), **options)

    def stream_chat(self, messages: Sequence[Message], **options: Any) -> Stream:
        """Like `chat`, as an iterator of chunks."""
        return self.stream(self.chat_prompt(messages), **options)

    def chat_prompt(self, messages: Sequence[Message], **variables: Any) -> list[int]:
        """Token ids of a conversation that is open for the assistant's answer."""
        self._require_open()
        if self._template is None:
            self._template = ChatTemplate.of(self.model, self.tokenizer)
        return self.tokenizer.encode_rendered(self._template.render(messages, **variables))

    def prepare(self, documents: Mapping[str, str] | Sequence[str]) -> References:
        """Index documents once, for `references=` of many requests; `save` and `load` keep the result."""
        self._require_open()
        require(
            not isinstance(documents, str), "documents must be several texts; put a single one into a list"
        )
        return References.from_texts(
            documents,
            lambda text: self.tokenizer.encode(text, add_special=False),
            self.tokenizer.fingerprint,
        )

    def load_references(self, path: str | Path) -> References:
        """Documents that `prepare` has indexed, for this vocabulary, and `References.save` has kept."""
        self._require_open()
        return References.load(path, self.tokenizer.fingerprint)

    async def agenerate(self, prompt: Prompt, **options: Any) -> Result:
        """`generate` without blocking the event loop; cancelling the task cancels the request."""
        return await self._in_thread(lambda: self.generate(prompt, **options))

    async def astream(self, prompt: Prompt, **options: Any) -> AsyncIterator[Chunk]:
        """`stream` without blocking the event loop."""
        stream = self.stream(prompt, **options)
        while (chunk := await self._in_thread(lambda: next(stream, None))) is not None:
            yield chunk

    async def _in_thread(self, call: Callable[[], T]) -> T:
        task = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait([task])  # the round in progress ends first: nothing is left half done
            raise

    def cancel(self) -> None:
        """End the request in progress after its current round; from any thread."""
        run = self._current
        if run is not None:
            run.cancel()

    def forget(self) -> None:
        """Empty the caches of earlier requests: the next one reads its whole prompt, as the first did."""
        with self._between_requests("forget"):
            self._current = None  # a stream in progress cannot go on without its cache
            self.target.truncate(0)
            self.drafter.forget()
            self._indexed = None

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _between_requests(self, method: str) -> Iterator[None]:
        self._refuse_in_callback(method)
        with self._lock:
            self._require_open()
            yield

    def _run(self, tokens: list[int], request: Request) -> Run:
        self._require_open()
        speculation = self.config.speculation
        drafter = self.drafter if request.speculate else NoDrafter()
        shaped = (request.grammar, request.json_schema, request.logits_processor)
        constrained = any(given is not None for given in shaped)
        require(
            not constrained or speculation.rule == "coupled",
            f"rule={speculation.rule!r} does not know grammars and logits processors; use rule='coupled'",
        )
        grammar = None
        if request.grammar is not None:
            grammar = LlamaGrammar(self.model, request.grammar)
        elif request.json_schema is not None:
            grammar = LlamaGrammar.from_schema(self.model, request.json_schema)
        return Run(
            tokens,
            request,
            target=self.target,
            drafter=drafter,
            planner=self._planner_for(drafter, request),
            rule=speculation.rule,
            verify=speculation.verify,
            decoder=self.tokenizer.decoder(),
            is_end=self.tokenizer.is_end,
            grammar=grammar,
            references=self._references(request),
            note=speculation.invalid_text or self.note,
        )

    def _references(self, request: Request) -> References | None:
        given = request.references
        if isinstance(given, References):
            given.require_vocabulary(self.tokenizer.fingerprint)
            return given
        if given is None:
            return None
        documents = tuple(given.items() if isinstance(given, Mapping) else given)
        if self._indexed is None or self._indexed[0] != documents:
            self._indexed = documents, self.prepare(given)
        return self._indexed[1]

    def _planner_for(self, drafter: Drafter, request: Request) -> Planner:
        if self._planner is not None and drafter is self.drafter:
            self._planner.begin()
            self._planner.explain = request.explain
            return self._planner
        most = self.config.speculation.max_draft or drafter.max_draft
        return FixedPlanner(most, self.target.capabilities.max_leaves, request.explain)

    def acquire(self, run: Run, *, first: bool) -> None:
        """Take the target for one round of `run`; `release` gives it back."""
        if not self._lock.acquire(blocking=False):
            raise EngineBusy("the engine is generating in another thread; wait for it, or load a second one")
        self._owner = threading.get_ident()
        try:
            self._require_open()
            if first:
                self._current = run
            elif self._current is not run:
                raise EngineBusy("a newer request has replaced this stream; finish one before the next")
        except PilotfishError:
            self.release()
            raise

    def release(self) -> None:
        self._owner = 0
        self._lock.release()

    def _require_open(self) -> None:
        if self._closed:
            raise PilotfishError("the engine is closed; load a new one")

    def close(self) -> None:
        """Free models and memory; the engine cannot be used again."""
        self.cancel()
        self._refuse_in_callback("close")
        with self._lock:  # a round in another thread ends first
            self._closed = True
            self._parts.close()

    def _refuse_in_callback(self, method: str) -> None:
        if self._owner == threading.get_ident():
            raise EngineBusy(
                f"{method}() was called from a callback of its own request; return False there first"
            )

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
