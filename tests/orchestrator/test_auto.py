"""Claims about `auto`: what it chooses, what it says about it, and references that answers may quote."""

import pytest

from orchestrator import Engine
from orchestrator.assembly import choose_method
from orchestrator.cost.curve import CostCurve
from orchestrator.errors import ConfigError

EXACT = {"flash_attn": False, "type_k": "f32", "type_v": "f32", "n_threads": 1, "n_ctx": 512}
GREEDY = {"temperature": 0, "max_tokens": 64}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    """What these tests make up about costs is for nobody else."""
    monkeypatch.setattr("orchestrator.cost.store.cache_folder", lambda _name: tmp_path)


@pytest.fixture
def engine(tiny, monkeypatch):
    """One for which rows cost next to nothing: on a tiny model nothing would pay."""
    cheap = CostCurve(tuple(range(1, 33)), [10.0 + 0.01 * rows for rows in range(32)])
    monkeypatch.setattr("orchestrator.assembly.curve_of", lambda _context: cheap)
    monkeypatch.setattr(CostCurve, "observe", lambda *_args, **_options: None)
    with Engine.load(tiny("llama"), ngram_min=1, **EXACT) as engine:
        yield engine


def test_auto_is_suffix_drafting_under_the_planner(engine):
    result = engine.generate("the cat the cat", **GREEDY)
    assert engine.drafter.name == "suffix"
    assert f"of {result.stats.n_decodes} rounds" in result.stats.summary()


@pytest.mark.parametrize(
    ("rule", "draft", "method"),
    [
        ("coupled", None, "suffix"),
        ("coupled", "x.gguf", "cascade"),
        ("block", None, "suffix"),
        ("block", "x.gguf", "model"),
    ],
)
def test_what_auto_stands_for(engine, rule, draft, method):
    assert choose_method("auto", draft, engine.model, rule) == (method, "")


def test_each_round_can_be_explained(engine):
    seen = []
    result = engine.generate("the cat the cat", **GREEDY, explain=lambda *args: seen.append(args))
    assert len(seen) == result.stats.n_decodes
    assert all(decision.n_kept == step.n_drafted for decision, step in seen)
    assert {decision.reason for decision, _ in seen} > {"it pays"}


def test_a_fixed_plan_is_explained_too(tiny):
    seen = []
    with Engine.load(tiny("llama"), method="lookup", ngram_min=1, **EXACT) as engine:
        engine.generate("the cat the cat", **GREEDY, explain=lambda decision, _: seen.append(decision.reason))
    assert set(seen) == {"the plan is fixed"}


def test_answers_that_stand_in_a_reference_are_copied_from_it_by_name(tiny):
    with Engine.load(tiny("llama"), planner="fixed", **EXACT) as engine:
        plain = engine.generate("one two three", **GREEDY, speculate=False)
        known = engine.tokenizer.decode(plain.tokens)
        quoting = engine.generate("one two three", **GREEDY, references={"note": f"one two three{known}"})
        assert quoting.tokens == plain.tokens
        from_note = [quote for quote in quoting.stats.quotes if quote.document == "note"]
        assert sum(quote.n_tokens for quote in from_note) > 20
        for quote in quoting.stats.quotes:
            assert 0 <= quote.at and quote.at + quote.n_tokens <= quoting.stats.n_tokens
        again = engine.generate("one two three", **GREEDY)
        assert not [quote for quote in again.stats.quotes if quote.document == "note"]


def test_prepared_references_serve_many_requests_and_survive_a_file(tiny, tmp_path):
    with Engine.load(tiny("llama"), planner="fixed", **EXACT) as engine:
        plain = engine.generate("one two three", **GREEDY, speculate=False)
        prepared = engine.prepare([f"one two three{engine.tokenizer.decode(plain.tokens)}"])
        prepared.save(tmp_path / "notes.npz")
        for references in (prepared, engine.load_references(tmp_path / "notes.npz")):
            result = engine.generate("one two three", **GREEDY, references=references)
            assert result.tokens == plain.tokens
            assert {quote.document for quote in result.stats.quotes} >= {"0"}


def test_the_same_documents_are_indexed_once_and_others_anew(tiny, monkeypatch):
    with Engine.load(tiny("llama"), **EXACT) as engine:
        indexed, prepare = [], engine.prepare
        monkeypatch.setattr(engine, "prepare", lambda given: indexed.append(given) or prepare(given))
        for references in ({"a": "one two"}, {"a": "one two"}, {"b": "one two"}, ["one two"], ["one two"]):
            engine.generate("one two three", max_tokens=2, references=references)
        assert indexed == [{"a": "one two"}, {"b": "one two"}, ["one two"]]
        engine.forget()
        engine.generate("one two three", max_tokens=2, references=["one two"])
        assert len(indexed) == 4


def test_references_of_another_vocabulary_are_refused(tiny, tmp_path):
    with Engine.load(tiny("llama"), **EXACT) as engine:
        prepared = engine.prepare(["some text"])
        prepared.save(tmp_path / "notes.npz")
    with Engine.load(tiny("llama", pad_vocab=7), **EXACT) as other:
        with pytest.raises(ConfigError, match="vocabulary"):
            other.load_references(tmp_path / "notes.npz")
        with pytest.raises(ConfigError, match="another vocabulary"):
            other.generate("x", references=prepared)


def test_one_text_is_no_list_of_texts(engine):
    with pytest.raises(ConfigError, match="put a single one into a list"):
        engine.generate("x", references="a text")
    with pytest.raises(ConfigError, match="put a single one into a list"):
        engine.prepare("a text")


def test_what_rounds_teach_the_curve_is_kept_at_closing(tiny, monkeypatch):
    from orchestrator.cost import store

    curve = CostCurve(tuple(range(1, 33)), [0.2 + 0.01 * rows for rows in range(32)])
    monkeypatch.setattr(store, "measure_curve", lambda *_args: curve)
    engine = Engine.load(tiny("llama"), **EXACT)
    key = store.curve_key(engine.target)
    before = store.load_curve(key).ms(4, 0)
    drift = engine._planner.curve.drift
    engine.generate("the cat the cat", **GREEDY)
    assert engine._planner.curve.drift != drift  # rounds are told to the curve
    engine._planner.curve.drift = 1.0
    engine._planner.curve.observe(4, 0, 1.2 * engine._planner.curve.ms(4, 0))
    engine.close()
    assert store.load_curve(key).ms(4, 0) > before


def test_an_engine_whose_file_has_gone_closes_like_any_other(tiny, tmp_path):
    path = tmp_path / "gone.gguf"
    path.write_bytes(tiny("llama").read_bytes())
    engine = Engine.load(path, **EXACT)
    path.unlink()
    engine.close()


def test_an_adaptive_plan_would_change_the_law_of_sampled_drafts(tiny):
    with pytest.raises(ConfigError, match="needs rule='coupled'"):
        Engine.load(tiny("llama"), tiny("llama"), "model", rule="rejection", planner="adaptive", **EXACT)
