"""A benchmark from beginning to end: open, check, run, report. `pilotfish bench` in Python.

with ExitStack() as stack:
    bench = Bench(stack, configurations, questions, resolve=resolve_model)
    bench.open()
    bench.run()
    figures = bench.document(argv=[], suites=[])
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from orchestrator.bench.baseline_check import Check, against_llama_bench
from orchestrator.bench.configuration import Configuration
from orchestrator.bench.document import PLAIN_SERVER, document
from orchestrator.bench.opening import Opener, Resolve
from orchestrator.bench.peers import expand_peers, open_peer
from orchestrator.bench.peers.llama_bench import llama_bench
from orchestrator.bench.provenance import provenance
from orchestrator.bench.runner import Group, Runner
from orchestrator.bench.score import side
from orchestrator.bench.suite import Question
from orchestrator.bench.trial import timed
from orchestrator.errors import BenchError, PilotfishError


class Bench:
    """Configurations against plain decoding on the same questions, with other systems beside them."""

    def __init__(
        self,
        stack: ExitStack,
        configurations: Sequence[Configuration],
        questions: Sequence[Question],
        *,
        resolve: Resolve,
        max_tokens: int = 128,
        repeats: int = 1,
        ignore_eos: bool = False,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """stack: closes what is opened. resolve: a model's name to its file."""
        if not questions:
            raise BenchError("there is no question to ask; give a suite with prompts in it")
        self._configurations, self._questions, self._resolve = configurations, questions, resolve
        self._max_tokens, self._repeats, self._ignore_eos = max_tokens, repeats, ignore_eos
        self._report = report
        self._opener = Opener(stack, resolve, questions, ignore_eos=ignore_eos)
        self._groups: list[Group] = []
        self._checks: list[Check] = []

    def open(
        self, peers: Sequence[str] = (), *, draft: str | None = None, llama_server: Path | None = None
    ) -> None:
        """Load everything. peers: specs, run beside the first target; draft: for those that take one."""
        self._report(f"loading {len(self._configurations)} configurations")
        self._groups = self._opener.groups(self._configurations, self._max_tokens)
        assistant = None if draft is None else self._resolve(draft)
        wanted = expand_peers(peers, llama_server, assistant)
        if llama_server is not None and PLAIN_SERVER not in wanted:
            wanted.insert(0, PLAIN_SERVER)  # the check of the baseline
        for spec in wanted:
            self._report(f"starting {spec}")
            make = partial(self._peer, spec, draft=assistant, llama_server=llama_server)
            self._groups[0].others.append(self._opener.open(make))

    def _peer(self, spec: str, *, draft: Path | None, llama_server: Path | None) -> Any:
        engine = self._groups[0].engine.engine
        tokenizer, sampling = engine.tokenizer, engine.config.sampling
        return open_peer(
            spec,
            model=engine.model.path,
            draft=draft,
            llama_server=llama_server,
            n_ctx=engine.target.capabilities.n_ctx,
            n_threads=self._n_threads,
            sampling={name: getattr(sampling, name) for name in sampling.field_names()},
            ignore_eos=self._ignore_eos,
            end_tokens=tokenizer.end_tokens,
        )

    @property
    def _n_threads(self) -> int:
        return self._groups[0].engine.engine.config.context.threads[0]

    def run(self, bench_binary: Path | None = None) -> BaseException | None:
        """Ask every question; an interruption or an error that ended the run early is returned, for the
        figures up to there are good. bench_binary: llama-bench, which runs before and after."""
        runner = Runner(self._groups, max_tokens=self._max_tokens, repeats=self._repeats, report=self._report)
        before = self._bare_speeds(bench_binary)
        failure: BaseException | None = None
        try:
            runner.run(self._questions)
        except (KeyboardInterrupt, PilotfishError) as error:
            failure = error
        if not self._groups[0].plain.trials:
            raise failure or BenchError(self._nothing_fits())
        plain = self._groups[0].plain
        if failure is None and bench_binary is not None:
            self._check(plain.name, [*before, *self._bare_speeds(bench_binary)])
        withdrawn = [lane for group in self._groups for lane in group.lanes if lane.withdrawn]
        if failure is None and withdrawn:
            failure = BenchError(f"{withdrawn[0].name} did not finish: {withdrawn[0].withdrawn}")
        return failure

    def _nothing_fits(self) -> str:
        reasons = [reason for group in self._groups for reason in group.skipped.values()]
        return f"no question could be asked: {reasons[0] if reasons else 'there is none'}; raise --n-ctx"

    def _bare_speeds(self, binary: Path | None) -> list[float]:
        if binary is None:
            return []
        self._report(f"running {binary.name}")
        speed = llama_bench(
            binary, self._groups[0].engine.engine.model.path, n_threads=self._n_threads, depth=self._depth()
        )
        return list(speed.samples)

    def _depth(self) -> int:
        """The mean context length of this run, in the middle of its answers: cost grows with it linearly."""
        prompter = self._groups[0].prompter
        lengths = [len(prompter.prompt(question, ())) for question in self._questions]
        return int(mean(lengths)) + self._max_tokens // 2

    def _check(self, baseline: str, tok_s: Sequence[float]) -> None:
        speed = side(timed(self._groups[0].plain.trials.values()))["tok_s"]
        if speed:
            note = f"{len(tok_s)} runs of 64 tokens after {self._depth()}, half of them before and after ours"
            self._checks.append(against_llama_bench(baseline, speed, tok_s, note))

    def document(self, argv: Sequence[str], suites: Iterable[Path]) -> dict[str, Any]:
        """Every figure of the run. suites: the files that the questions came from."""
        plain = self._opener.configurations[self._groups[0].plain.name]
        files = [f for path in suites for f in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
        return document(
            self._groups,
            self._opener.configurations,
            max_tokens=self._max_tokens,
            repeats=self._repeats,
            ignore_eos=self._ignore_eos,
            checks=self._checks,
            provenance=provenance(argv, self._groups[0].engine.engine.model.path, files, plain.settings),
        )
