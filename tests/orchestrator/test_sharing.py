"""Claims about engines that share weights, and about forgetting."""

import pytest

from adapters.llama_model import LlamaModel
from orchestrator import Engine
from orchestrator.errors import AdapterError, ConfigError, EngineBusy

GREEDY = {"temperature": 0, "n_threads": 1, "n_ctx": 512}


def test_engines_on_one_model_give_the_text_of_engines_of_their_own(tiny):
    with Engine.load(tiny("llama"), **GREEDY) as alone:
        expected = alone.generate("the cat", max_tokens=20).tokens
    model = LlamaModel(tiny("llama"))
    first = Engine.load(model, method="none", **GREEDY)
    second = Engine.load(model, method="lookup", **GREEDY)
    assert first.generate("the cat", max_tokens=20).tokens == expected
    assert second.generate("the cat", max_tokens=20).tokens == expected
    first.close()
    assert second.generate("the cat", max_tokens=20).tokens == expected
    second.close()
    model.require_open()
    model.close()


def test_an_engine_on_a_closed_model_or_with_other_weights_settings_is_refused(tiny):
    model = LlamaModel(tiny("llama"))
    with pytest.raises(ConfigError, match="loaded already"):
        Engine.load(model, use_mmap=False)
    model.close()
    with pytest.raises(AdapterError, match="closed"):
        Engine.load(model)


def test_a_refused_drafter_leaves_the_shared_model_open(tiny):
    model = LlamaModel(tiny("llama"))
    with pytest.raises(ConfigError, match="unknown method"):
        Engine.load(model, method="magic")
    with Engine.load(model, **GREEDY) as engine:
        assert engine.generate("the cat", max_tokens=3).tokens
    model.close()


@pytest.mark.parametrize("draft", [False, True])
def test_after_forgetting_a_prompt_is_read_anew_and_the_text_is_the_same(tiny, draft):
    method = "model" if draft else "lookup"  # the adaptive planner remembers what it has learned
    with Engine.load(tiny("llama"), tiny("llama") if draft else None, method, **GREEDY) as engine:
        first = engine.generate("the cat sat on the mat", max_tokens=20)
        assert engine.generate("the cat sat on the mat", max_tokens=20).stats.n_reused > 0
        engine.forget()
        again = engine.generate("the cat sat on the mat", max_tokens=20)
        assert (again.tokens, again.stats.n_reused) == (first.tokens, 0)
        assert again.stats.n_accepted == first.stats.n_accepted


def test_forgetting_ends_a_stream_and_is_refused_within_one(tiny):
    with Engine.load(tiny("llama"), **GREEDY) as engine:
        stream = engine.stream("the cat", max_tokens=20)
        next(stream)
        engine.forget()
        with pytest.raises(EngineBusy, match="newer request"):
            next(stream)
        with pytest.raises(EngineBusy, match=r"forget\(\) was called from a callback"):
            engine.generate("the cat", max_tokens=5, on_token=lambda *_: engine.forget())
