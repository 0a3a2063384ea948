"""The engine with heads, on tiny GGUFs: the plain text with every layout, every shape, every way to go on."""

import numpy as np
import pytest

from orchestrator import Engine
from orchestrator.errors import DrafterError
from tests.adapters.tiny_context import CLOSE
from tests.exact import assert_same_text
from tests.heads.tiny_heads import EAGLES, KINDS, WORDS, talker, write_head
from tests.orchestrator.test_engine import GREEDY, PRECISE, PROMPT, SAMPLED
from tests.tiny_gguf import N_VOCAB

CHAIN, TREE = {}, {"max_leaves": 4, "tree_depth": 3}
FEW = ["medusa", "eagle-bias", "eagle3-reduced"]
SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
SHAPES = pytest.mark.parametrize("shape", [CHAIN, TREE], ids=["chain", "tree"])


@pytest.fixture
def load(tiny, tmp_path):
    """Loads a target with a head of one of KINDS."""

    def load_engine(kind, arch="llama", method="head", **settings):
        head = write_head(kind, tmp_path)
        return Engine.load(
            talker(tiny, arch),
            head=head,
            method=method,
            **{**PRECISE, **GREEDY, "head_dtype": "float32", **settings},
        )

    return load_engine


def assert_plain(engine, prompt, n=32, **options):
    """The plain text, drafted for; what the speculative run said of itself."""
    plain = engine.generate(prompt, max_tokens=n, speculate=False, **options)
    result = engine.generate(prompt, max_tokens=n, **options)
    assert plain.stats.n_drafted == 0 < result.stats.n_drafted
    assert_same_text(engine, prompt, plain, result)
    return result.stats


# -- exactness ---------------------------------------------------------------------------------


@SAMPLINGS
@pytest.mark.parametrize("kind", KINDS)
def test_heads_do_not_change_the_text(load, kind, sampling):
    n_accepted = 0
    for shape in (CHAIN, TREE):
        with load(kind, **shape, **sampling) as engine:
            stats = assert_plain(engine, engine.tokenizer.encode(PROMPT))
            n_accepted += stats.n_accepted
            assert stats.method == kind.partition("-")[0]
    assert n_accepted > 0  # else nothing was ever kept


@SAMPLINGS
@SHAPES
@pytest.mark.parametrize("arch", ["qwen2", "gemma3"])
def test_taps_by_callback_do_not_change_the_text(load, arch, shape, sampling):
    with load("eagle3-reduced", arch, **shape, **sampling) as engine:
        assert_plain(engine, engine.tokenizer.encode(PROMPT))


@SAMPLINGS
@SHAPES
@pytest.mark.parametrize("kind", ["medusa", "eagle-bias"])
@pytest.mark.parametrize("arch", ["gemma4", "glm4moe"])
def test_rows_that_are_no_outputs_do_not_change_the_text(load, arch, kind, shape, sampling):
    with load(kind, arch, **shape, **sampling) as engine:
        assert not engine.target._hidden.needs_outputs
        assert_plain(engine, engine.tokenizer.encode(PROMPT))


@SAMPLINGS
@pytest.mark.parametrize("tree", ["chain", "3x2x1", "mc_sim_7b_63"])
@pytest.mark.parametrize("kind", ["medusa", "medusa-tied"])
def test_named_medusa_trees_do_not_change_the_text(load, kind, tree, sampling):
    with load(kind, tree=tree, max_leaves=8, max_draft=20, **sampling) as engine:
        stats = assert_plain(engine, engine.tokenizer.encode(PROMPT))
        assert stats.n_drafted > 2 * stats.n_decodes


@SHAPES
@pytest.mark.parametrize("kind", FEW)
def test_auto_is_a_cascade_in_front_of_the_head(load, kind, shape):
    with load(kind, method="auto", planner="fixed", **shape) as engine:
        stats = assert_plain(engine, engine.tokenizer.encode(PROMPT))
        assert engine.drafter.name == stats.method == "cascade"
        assert stats.by_source[kind.partition("-")[0]].n_drafted > 0


def test_auto_plans_with_measured_costs(load):
    with load("eagle3-reduced", method="auto", **TREE, **SAMPLED) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        plain = engine.generate(prompt, max_tokens=40, speculate=False)
        assert_same_text(engine, prompt, plain, engine.generate(prompt, max_tokens=40))


@SHAPES
@pytest.mark.parametrize("kind", FEW)
def test_the_first_row_of_a_draft_is_the_plain_law(load, kind, shape):
    with load(kind, **shape) as engine, Engine.load(engine.model.path, method="none", **PRECISE) as plain:
        prompt = engine.tokenizer.encode(PROMPT)
        drafts, score = [], engine.target.score

        def watched(draft):
            before = [*engine.target.tokens.tolist(), engine.target.root]
            rows = score(draft)
            drafts.append((before, len(draft), rows.logits[0].copy()))
            return rows

        engine.target.score = watched
        engine.generate(prompt, max_tokens=12)
        for before, _n_nodes, row in drafts:
            plain.target.prefill(before)
            np.testing.assert_allclose(row, plain.target.extend(before[-1:]), atol=CLOSE)
        assert max(n_nodes for _before, n_nodes, _row in drafts) > 1


# -- rules and settings ------------------------------------------------------------------------


@SHAPES
@pytest.mark.parametrize("rule", ["rejection", "block"])
@pytest.mark.parametrize("kind", ["medusa", "eagle3-reduced"])
def test_rejection_rules_take_chains_of_heads(load, kind, rule, shape):
    with load(kind, rule=rule, **shape) as engine:
        assert_plain(engine, engine.tokenizer.encode(PROMPT))
        first, second = (engine.generate(PROMPT, max_tokens=24, **SAMPLED) for _ in range(2))
        assert first.tokens == second.tokens and len(first.tokens) == 24
        assert first.stats.n_drafted > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"head_window": 5},
        {"head_vocab": 120},
        {"head_dtype": "bfloat16"},
        {"head_dtype": "auto", "head_threads": 1},
        {"draft_p_min": 0.3},
    ],
    ids=str,
)
@SHAPES
def test_every_setting_of_a_head_keeps_the_text(load, settings, shape):
    with load("eagle-bias", **shape, **SAMPLED, **settings) as engine:
        assert_plain(engine, engine.tokenizer.encode(PROMPT))


def test_a_head_without_a_vocabulary_drafts_only_what_a_file_allows(load, tmp_path):
    allowed = tmp_path / "tokens.json"
    allowed.write_text(str(sorted(WORDS[:3])))
    with load("eagle-bias", head_vocab=str(allowed)) as engine:
        prompt, drafted, score = engine.tokenizer.encode(PROMPT), set(), engine.target.score
        engine.target.score = lambda draft: (drafted.update(draft.tokens.tolist()), score(draft))[1]
        engine.generate(prompt, max_tokens=30)
        assert drafted and drafted <= set(WORDS[:3])


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_head_taps_take_the_place_of_those_in_the_config(load, arch):
    with load("eagle3-own-embedding", arch, head_taps=(2, 4, 5)) as engine:
        assert engine.drafter.taps.layers == (2, 4, 5)
        assert_plain(engine, engine.tokenizer.encode(PROMPT), n=30)


# -- going on ----------------------------------------------------------------------------------


def in_step(engine, prompt, n=24):
    """What is drafted now is what a head drafts that begins with this prompt."""
    continued = engine.generate(prompt, max_tokens=n)
    engine.forget()
    fresh = engine.generate(prompt, max_tokens=n)
    assert fresh.stats.n_reused == 0
    assert_same_text(engine, prompt, fresh, continued)
    # rounding may turn one guess, a slip turns them all
    assert abs(continued.stats.n_accepted - fresh.stats.n_accepted) <= 2
    assert continued.stats.n_drafted > 0
    return continued


@SHAPES
@pytest.mark.parametrize("kind", FEW)
def test_the_second_turn_goes_on_where_the_first_ended(load, kind, shape):
    with load(kind, **shape) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        first = engine.generate(prompt, max_tokens=30)
        second = [*prompt, *first.tokens, *engine.tokenizer.encode(" and the other", add_special=False)]
        result = in_step(engine, second)
        assert result.stats.n_reused >= len(prompt) + 28


@pytest.mark.parametrize("kind", FEW)
def test_a_turn_without_speculation_is_read_when_the_head_drafts_again(load, kind):
    with load(kind) as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        engine.generate(prompt, max_tokens=10)
        plain = engine.generate(prompt, max_tokens=30, speculate=False)
        in_step(engine, [*prompt, *plain.tokens])


@pytest.mark.parametrize("kind", FEW)
def test_a_forgetful_engine_reads_its_prompt_again(load, kind):
    with load(kind) as engine:
        first = engine.generate(PROMPT, max_tokens=20)
        engine.forget()
        again = engine.generate(PROMPT, max_tokens=20)
        assert again.stats.n_reused == 0 and again.tokens == first.tokens
        assert again.stats.n_accepted == first.stats.n_accepted


@pytest.mark.parametrize("kind", FEW)
def test_after_a_cancelled_request_the_head_is_in_step(load, kind):
    with load(kind, **TREE) as engine:
        prompt, seen = engine.tokenizer.encode(PROMPT), []

        def on_token(token, text):
            seen.append(token)
            return len(seen) < 13

        cancelled = engine.generate(prompt, max_tokens=60, on_token=on_token)
        assert cancelled.finish_reason == "cancelled" and len(cancelled.tokens) == 13
        in_step(engine, [*prompt, *cancelled.tokens])


@pytest.mark.parametrize("kind", FEW)
def test_after_an_error_in_the_middle_the_head_is_in_step(load, kind):
    with load(kind) as engine:
        prompt, n_left = engine.tokenizer.encode(PROMPT), iter(range(9))

        def on_token(token, text):
            if next(n_left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.generate(prompt, max_tokens=60, on_token=on_token)
        in_step(engine, prompt)


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("where", ["propose", "observe"])
def test_after_an_error_of_the_head_it_is_in_step(load, kind, where, monkeypatch):
    with load(kind) as engine:
        prompt, n_left, real = engine.tokenizer.encode(PROMPT), iter(range(5)), getattr(engine.drafter, where)

        def failing(*arguments):
            if next(n_left, None) is None:
                raise RuntimeError("out of memory")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(engine.drafter, where, failing)
            with pytest.raises(DrafterError, match=r"'(medusa|eagle|eagle3)' failed: RuntimeError"):
                engine.generate(prompt, max_tokens=60)
        in_step(engine, prompt)


@pytest.mark.parametrize("kind", EAGLES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_prompts_work(load, kind, n):
    with load(kind) as engine:
        assert_plain(engine, list(WORDS[:n]), n=20)


def test_a_wrong_prompt_does_not_reach_the_head(load):
    with load("eagle3-reduced") as engine:
        prompt = engine.tokenizer.encode(PROMPT)
        first = engine.generate(prompt, max_tokens=20)
        for wrong in ([N_VOCAB], [[1], [2]], ["a"]):
            with pytest.raises(ValueError):
                engine.generate(wrong)
        again = engine.generate(prompt, max_tokens=20)
        assert again.tokens == first.tokens and again.stats.n_reused == len(prompt) - 2
