"""The planner of `auto`: drafts what pays under the measured costs, and nothing where nothing does.

A set of guesses is worth (1 + its expected right ones) / ms(1 + its size); plain decoding, the empty
set, is worth 1 / ms(1). Guesses enter in order of the chance that all of their path is right: for a given
size that order is the best (SpecExec: Svirschevski et al. 2024). Every proposal is judged by what came
after it, used or not, so nothing has to be tried out to be known.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from orchestrator.acceptance import Acceptance
from orchestrator.context import Context
from orchestrator.cost.curve import CostCurve
from orchestrator.draft import EMPTY, Draft, Step, Walk
from orchestrator.ledger import Ledger
from orchestrator.planner import LOST, NOTHING, PAYS, PAYS_NOT, Decision
from orchestrator.stages import Stage

_HOPELESS = 0.02  # chance of a path below which no row is ever worth it
_NO_GUESS = Decision(0, 0, 1.0, NOTHING)


class AdaptivePlanner:
    """Weighs every proposal; one per engine, `begin` starts a request."""

    def __init__(self, curve: CostCurve, *, max_draft: int, max_leaves: int = 1) -> None:
        self.curve = curve
        self._max_draft, self._max_leaves = max_draft, max_leaves
        self._acceptance = Acceptance()
        self.stages = defaultdict[str, Stage](Stage)
        self.explain: Callable[[Decision, Step], None] | None = None
        self.begin()

    def begin(self) -> None:
        """A request begins."""
        self._ledger = Ledger()
        self._proposal = EMPTY
        self._decision = _NO_GUESS
        self._reasons: Counter[str] = Counter()
        self._n_past = 0
        self._rows = 1  # of the decode before
        self._asked: Stage | None = None  # in this round
        for stage in self.stages.values():
            stage.begin()
        # plain rounds without a guess, not booked yet: after a decode caches are cold, and every function
        # that such a round need not call is some microseconds
        self._n_quiet, self._t_quiet, self._verified = 0, 0.0, 0.0

    def budget(self, context: Context, room: int) -> int:
        """Ask for as much as could be of use; what is kept is decided when it is known."""
        self._proposal, self._decision, self._n_past = EMPTY, _NO_GUESS, len(context.tokens) - 1
        self._asked = None
        most = min(self._max_draft, room)
        return self.curve.most_useful(1 + most, self._n_past) - 1 if most > 0 else 0

    def trim(self, draft: Draft, budget: int) -> Draft:
        asked, self._asked = self._asked, None
        if len(draft) == 0:
            if asked is not None:
                self._book_promise(asked, 0, 1.0)
            return EMPTY
        self._settle()
        self._proposal = draft = draft.with_leaves(self._max_leaves)
        kept, gain = self._best_part(draft, budget)
        if asked is not None:
            self._book_promise(asked, len(kept), gain)
        if len(kept) and self._ledger.is_out:
            self._decision = Decision(len(draft), 0, gain, LOST)
            return EMPTY
        self._decision = Decision(len(draft), len(kept), gain, PAYS if len(kept) else PAYS_NOT)
        return kept

    def _best_part(self, draft: Draft, most: int) -> tuple[Draft, float]:
        """The nodes worth scoring, at most `most`, and the speed that they promise, in plain speeds."""
        if draft.is_chain:
            size, gain = self._best_size(self._chain_chances(draft, most))
            return draft.first(size) if size else EMPTY, gain
        chances = self._tree_chances(draft)
        order = sorted(range(len(chances)), key=lambda node: -chances[node])[:most]
        size, gain = self._best_size([chances[node] for node in order])
        return draft.keep(sorted(order[:size])) if size else EMPTY, gain

    def ask(self, source: str, rival: Draft, most: int) -> int:
        """How many guesses to ask of a source that takes time; rival: what there is already."""
        stage = self.stages[source]
        if len(rival) == 0 and stage.rests():
            return 0
        self._settle()
        if most <= 0 or self._ledger.is_out:
            return 0
        gain = self._best_part(rival, len(rival))[1] if len(rival) else 1.0
        n = stage.ask(most, gain, self._ledger.margin)
        self._asked = stage if n else None
        return n

    def goes_on(self, source: str, probs: Sequence[float], most: int) -> bool:
        """Whether a chain of guesses so sure of themselves is worth a further one."""
        chances = self._acceptance.of(source).reach(probs, _HOPELESS)
        if len(chances) < len(probs):
            return False
        stage = self.stages[source]
        return stage.goes_on(self._costs(most), chances, most, self._ledger.margin)

    def answered(self, source: str, n_guesses: int, seconds: float) -> None:
        self.stages[source].answered(n_guesses, seconds)

    def _book_promise(self, stage: Stage, n_kept: int, gain: float) -> None:
        costs = self._costs(n_kept)
        cost = costs[n_kept + 1] / costs[1]
        stage.promised(gain * cost, cost, costs[1])

    def _chain_chances(self, draft: Draft, most: int) -> list[float]:
        """Per node, the chance that it and all before it are right; as far as that is worth a thought."""
        probs, of = draft.prob[:most].tolist(), self._acceptance.of
        if not draft.sources:
            return of(draft.source).reach(probs, _HOPELESS)
        chances, chance = list[float](), 1.0
        for prob, source in zip(probs, draft.sources, strict=False):
            chance *= of(source).estimate(prob)
            if chance < _HOPELESS:
                break
            chances.append(chance)
        return chances

    def _tree_chances(self, draft: Draft) -> list[float]:
        """Per node, the chance that it and all before it on its path are right."""
        of, source, sources = self._acceptance.of, draft.source, draft.sources
        chances: list[float] = []
        for node, (parent, prob) in enumerate(zip(draft.parents.tolist(), draft.prob.tolist(), strict=True)):
            chance = of(sources[node] if sources else source).estimate(prob)
            # a child sorts behind its parent
            chances.append(chance * (0.9999 * chances[parent] if parent >= 0 else 1.0))
        return chances

    def _best_size(self, chances: list[float]) -> tuple[int, float]:
        """How many of the best nodes to keep, and the speed that this promises, in plain speeds."""
        costs = self._costs(len(chances))
        one, affordable = costs[1], self._ledger.most * costs[1]
        expected, best, best_gain = 1.0, 0, self._ledger.margin
        for size, chance in enumerate(chances, start=1):
            expected += chance
            cost = costs[size + 1]
            if cost > affordable:
                break
            gain = expected * one / cost
            if gain > best_gain:
                best, best_gain = size, gain
        return best, best_gain if best else 1.0

    def _costs(self, most: int) -> Sequence[float]:
        """ms of 0 (unused), 1, 2, ... rows, at least up to `most` + 1, with what changes of rows add: after
        plain rounds a draft pays for two, as plain rounds are what is likely to follow it."""
        table, switch, before = self.curve.table(most + 1, self._n_past), self.curve.switch, self._rows
        if not switch:
            return table
        more = 2 * switch if before == 1 else switch
        costs = [ms + more for ms in table[: most + 2]]
        for rows in (1, before):
            if rows < len(costs):
                costs[rows] = table[rows]
        return costs

    def observe(self, draft: Draft, walk: Walk, step: Step) -> None:
        """Book the round, and judge the whole proposal by the tokens that came."""
        if self._decision is _NO_GUESS and self._rows == 1 and self.explain is None:
            self._n_quiet += 1
            self._t_quiet += step.t_draft
            self._verified = step.t_verify
            return
        self._settle()
        rows = 1 + len(draft)
        costs, switched = self.curve.table(rows, self._n_past), rows != self._rows
        spent = costs[rows] + self.curve.switch * switched + 1e3 * step.t_draft
        self._ledger.book(step.n_emitted, spent / costs[1])
        self.curve.observe(rows, self._n_past, 1e3 * step.t_verify, switched=switched)
        self._rows = rows
        if len(self._proposal):
            self._judge(self._proposal, walk.tokens)
        self._reasons[self._decision.reason] += 1
        if self.explain is not None:
            self.explain(self._decision, step)

    def _settle(self) -> None:
        """Book the plain rounds that went by; the newest of them tells how fast the machine is now."""
        n = self._n_quiet
        if n:
            self._n_quiet = 0
            self._ledger.book(n, n + 1e3 * self._t_quiet / self.curve.table(1, self._n_past)[1])
            self._t_quiet = 0.0
            self.curve.observe(1, self._n_past, 1e3 * self._verified)
            self._reasons[NOTHING] += n

    def summary(self) -> str:
        """What was used, and why the rest was not, in one line."""
        self._settle()
        rounds, used = self._reasons.total(), self._reasons[PAYS]
        if not rounds:
            return ""
        why = [f"{reason} in {n}" for reason, n in self._reasons.most_common() if reason != PAYS]
        plain = f" ({'; '.join(why)})" if why else ""
        return f"drafted in {used} of {rounds} rounds{plain}"

    def _judge(self, proposal: Draft, tokens: tuple[int, ...]) -> None:
        """Learn from the proposal's nodes whose parents came true."""
        if proposal.is_chain:
            n_right = self._judge_chain(proposal, tokens)
            deepest = {name: n_right for name in self.stages if proposal.source == name}
        else:
            deepest = self._judge_tree(proposal, tokens)
        for name, n_right in deepest.items():
            sources = proposal.sources
            n_guessed = sources.count(name) if sources else len(proposal)
            # the first token that it did not foresee settles all that it guessed behind it
            n_known = n_guessed if n_right < len(tokens) else min(n_right, n_guessed)
            self.stages[name].judged(min(n_right, n_guessed), n_known)

    def _judge_chain(self, proposal: Draft, tokens: tuple[int, ...]) -> int:
        """How many of its guesses were right, as far as tokens tell."""
        of, source, sources, probs = self._acceptance.of, proposal.source, proposal.sources, proposal.prob
        guesses = proposal.tokens[: len(tokens)].tolist()
        for node, guess in enumerate(guesses):
            agreed = guess == tokens[node]
            of(sources[node] if sources else source).observe(float(probs[node]), agreed)
            if not agreed:
                return node
        return len(guesses)

    def _judge_tree(self, proposal: Draft, tokens: tuple[int, ...]) -> dict[str, int]:
        """How deep each stage's guesses were right."""
        source, sources = proposal.source, proposal.sources
        deepest = {name: 0 for name in self.stages if name == source or name in sources}
        right = {-1: 0}  # node -> how many tokens its path holds
        for node, (parent, guess, prob) in enumerate(
            zip(proposal.parents.tolist(), proposal.tokens.tolist(), proposal.prob.tolist(), strict=True)
        ):
            depth = right.get(parent, len(tokens))
            if depth == len(tokens):
                continue
            agreed, name = guess == tokens[depth], sources[node] if sources else source
            self._acceptance.of(name).observe(prob, agreed)
            if agreed:
                right[node] = depth + 1
                if name in deepest:
                    deepest[name] = depth + 1
        return deepest
