"""Claims about cascades: who is asked, what becomes of two guesses, and that the text is the target's."""

import pytest

from orchestrator import Engine
from orchestrator.context import Context
from orchestrator.draft import EMPTY, Draft
from orchestrator.drafters.cascade import CascadeDrafter, merged
from orchestrator.drafters.suffix import SuffixDrafter
from tests.fakes import ListDrafter, RandomTreeDrafter

TEXT = [1, 2, 3, 4, 5, 6, 1, 2, 3]  # what followed 1 2 3 was 4 5 6


class Gate:
    """Lets so many guesses be asked for, and remembers what it was told."""

    def __init__(self, n: int) -> None:
        self.n, self.rivals, self.answers = n, [], []

    def ask(self, source, rival, most):
        self.rivals.append(rival.tokens.tolist())
        return min(self.n, most)

    def goes_on(self, source, probs, most):
        return True

    def answered(self, source, n_guesses, seconds):
        self.answers.append((source, n_guesses))


def cascade(n, *drafts, leaves=1):
    stage = ListDrafter(drafts)
    stage.leaves = leaves
    drafter = CascadeDrafter(SuffixDrafter(), stage, leaves=leaves)
    drafter.gate = Gate(n)
    context = Context(TEXT, None)
    drafter.begin(context)
    return drafter, context


def test_the_text_is_looked_at_first_and_the_planner_sees_it():
    drafter, context = cascade(0, [9])
    assert drafter.propose(context, 3).tokens.tolist() == [4, 5, 6]
    assert drafter.gate.rivals == [[4, 5, 6]] and drafter.gate.answers == []


def test_a_chain_is_lengthened_by_what_followed_its_end_in_the_text():
    drafter, context = cascade(8, [9, 2, 3])
    draft = drafter.propose(context, 5)
    assert draft.tokens.tolist() == [9, 2, 3, 4, 5]
    assert draft.sources == ("list",) * 3 + ("suffix",) * 2
    assert [drafter.locate(origin) for origin in draft.origin[3:]] == [("prompt", 3), ("prompt", 4)]
    assert drafter.gate.answers == [("list", 3)]


def test_whoever_has_no_idea_leaves_the_text_to_the_other():
    drafter, context = cascade(8, [])
    assert drafter.propose(context, 2).tokens.tolist() == [4, 5]


def test_with_leaves_both_are_branches_of_one_tree():
    drafter, context = cascade(8, [4, 9], leaves=2)
    draft = drafter.propose(context, 8)
    assert draft.tokens.tolist()[:2] == [4, 9] and not draft.is_chain
    assert draft.sources[:2] == ("list", "list") and "suffix" in draft.sources
    paths = {tuple(path(draft, node)) for node in range(len(draft))}
    assert (4, 9) in paths and (4, 5, 6) in paths


def path(draft, node):
    tokens = []
    while node >= 0:
        tokens.insert(0, int(draft.tokens[node]))
        node = int(draft.parents[node])
    return tokens


def test_merging_keeps_every_path_of_both_once():
    first = Draft.tree([1, 2, 3], [-1, 0, -1], 0.5, source="a")
    second = Draft.tree([3, 1, 7], [-1, -1, 1], 0.4, source="b", origin=(10, 11, 12))
    tree = merged(first, second)
    assert sorted(path(tree, node) for node in range(len(tree))) == [[1], [1, 2], [1, 7], [3]]
    assert tree.sources == ("a", "a", "a", "b") and tree.origin == (-1, -1, -1, 12)
    assert merged(first, EMPTY).tokens.tolist() == [1, 2, 3]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("settings", [{}, {"max_leaves": 4}, {"planner": "fixed", "max_draft": 6}])
def test_cascades_do_not_change_the_text(tiny, temperature, settings):
    exact = {"flash_attn": False, "type_k": "f32", "type_v": "f32", "n_threads": 1, "n_ctx": 512}
    sampling = {"temperature": temperature, "seed": 3, "max_tokens": 48}
    with Engine.load(tiny("llama"), tiny("llama", seed=5), ngram_min=1, **exact, **settings) as engine:
        assert engine.drafter.name == "cascade"
        plain = engine.generate("the cat the cat", **sampling, speculate=False)
        fast = engine.generate("the cat the cat", **sampling)
    assert fast.tokens == plain.tokens
    assert sum(source.n_drafted for source in fast.stats.by_source.values()) == fast.stats.n_drafted


def test_a_cascade_forgets_and_closes_both():
    class Recording(RandomTreeDrafter):
        calls: list[str] = []

        def forget(self):
            self.calls.append("forget")

        def close(self):
            self.calls.append("close")

    drafter = CascadeDrafter(SuffixDrafter(), Recording(10, 0))
    assert drafter.leaves == 8
    drafter.forget()
    drafter.close()
    assert Recording.calls == ["forget", "close"]
