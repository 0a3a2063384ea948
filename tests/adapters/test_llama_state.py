"""The claim of all claims: after any sequence of calls a context goes on as a fresh one would that was
fed the same tokens. Random trees, random kept paths, errors between scoring and keeping."""

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adapters.errors import ConfigError, ContextFull, RollbackError
from tests.adapters.tiny_context import Kept, TinyModel, Tree, chain, keep, letters

Models = Callable[..., TinyModel]

N_SEQ, MAX_ROWS = 4, 12
N_CTX = 1024  # more than the steps of one example can fill

# few different tokens, so that prompts share beginnings and siblings may be equal
token = st.sampled_from(letters("abc"))
prompts = st.lists(token, min_size=1, max_size=30)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree of at most N_SEQ leaves."""
    parents: list[int] = []
    for node in range(draw(st.integers(0, MAX_ROWS - 1))):
        parent = draw(st.integers(-1, node - 1))
        if n_leaves([*parents, parent]) > N_SEQ:
            parent = node - 1
        if n_leaves([*parents, parent]) <= N_SEQ:
            parents.append(parent)
    n = len(parents)
    chosen = draw(st.lists(token, min_size=n, max_size=n))
    return Tree(np.asarray(chosen, np.int32), np.asarray(parents, np.int32))


def n_leaves(parents: list[int]) -> int:
    return len(set(range(len(parents))) - set(parents))


class Session(RuleBasedStateMachine):
    """One context in use, and what it should hold."""

    def __init__(self, model: TinyModel) -> None:
        super().__init__()
        self.model = model
        self.context = model.open(n_seq_max=N_SEQ, max_rows=MAX_ROWS, n_batch=16, n_ubatch=16, n_ctx=N_CTX)
        self.cached: list[int] = []
        self.root: int | None = None  # None: undefined until the next prefill
        self.tree: Tree | None = None  # scored, and neither kept nor dropped

    def teardown(self) -> None:
        if self.root is not None:
            self.look()
        self.context.close()

    @initialize(prompt=prompts)
    def begin(self, prompt: list[int]) -> None:
        self.prefill(0, prompt)

    @rule(n_shared=st.integers(0, 40), more=prompts)
    def prefill(self, n_shared: int, more: list[int]) -> None:
        prompt = [*self.cached[:n_shared], *more]
        n_kept = self.context.prefill(prompt)
        assert prompt[:n_kept] == self.cached[:n_kept]
        assert n_kept == min(len(prompt) - 1, len(self.cached)) or prompt[n_kept] != self.cached[n_kept]
        self.cached, self.root, self.tree = prompt[:-1], prompt[-1], None

    @precondition(lambda self: self.root is not None)
    @rule(tree=trees(), data=st.data())
    def score(self, tree: Tree, data: st.DataObject) -> None:
        rows = self.context.score(tree).logits
        self.tree = tree
        node = data.draw(st.integers(-1, len(tree.tokens) - 1))
        self.model.expect_row(rows[1 + node], [*self.tokens, *tree.tokens_of(tree.path(node))])

    @property
    def tokens(self) -> list[int]:
        assert self.root is not None
        return [*self.cached, self.root]

    @precondition(lambda self: self.tree is not None)
    @rule(data=st.data(), root=token)
    def commit(self, data: st.DataObject, root: int) -> None:
        assert self.tree is not None
        walk = keep(self.tree, data.draw(st.integers(-1, len(self.tree.tokens) - 1)), root)
        self.context.commit(walk)
        self.cached, self.root, self.tree = [*self.tokens, *walk.tokens[:-1]], root, None

    @rule()
    def rollback(self) -> None:
        self.context.rollback()
        self.tree = None

    @rule(n=st.integers(0, 60))
    def truncate(self, n: int) -> None:
        self.context.truncate(n)
        if n < len(self.cached):
            self.root = None
        self.cached, self.tree = self.cached[:n], None
        assert [*self.context.tokens] == self.cached

    @rule(more=prompts)
    def extend(self, more: list[int]) -> None:
        row = self.context.extend(more)
        self.cached, self.root, self.tree = [*self.cached, *more], None, None
        self.model.expect_row(row, self.cached)

    @precondition(lambda self: self.tree is None)
    @rule()
    def keep_what_was_not_scored(self) -> None:
        with pytest.raises(RollbackError):
            self.context.commit(Kept((), (letters("a")[0],)))

    @rule()
    def score_too_much(self) -> None:
        with pytest.raises(ConfigError):
            self.context.score(chain(letters("a") * MAX_ROWS))
        self.tree = None

    @rule()
    def prefill_too_much(self) -> None:
        with pytest.raises(ContextFull):
            self.context.prefill(letters("a") * (N_CTX + 1))

    @precondition(lambda self: self.root is not None)
    @rule()
    def look(self) -> None:
        self.model.expect_state(self.context, self.tokens)
        self.tree = None


@pytest.mark.parametrize("arch", ["llama", "gemma3", "qwen2"])
def test_any_sequence_of_calls_leaves_a_context_as_good_as_fresh(arch: str, tiny_model: Models) -> None:
    model = tiny_model(arch)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Session(model),
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
