"""Claims about stored curves: used as long as nothing they depend on changes."""

import logging

import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.presets import cache_folder
from adapters.settings import ContextSettings
from orchestrator.cost import store
from orchestrator.cost.curve import CostCurve

CURVE = CostCurve((1, 2), [1.0, 1.5])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "cache_folder", cache_folder)  # the real one
    return tmp_path / "costs"


@pytest.fixture
def model(tiny):
    model = LlamaModel(tiny("llama"))
    yield model
    model.close()


def key_of(model, **settings):
    context = LlamaContext(model, ContextSettings(n_ctx=256, **{"n_threads": 1, **settings}))
    return store.curve_key(context)


def test_a_curve_is_measured_once(model, cache, monkeypatch):
    measured = []
    monkeypatch.setattr(store, "measure_curve", lambda context, seconds: measured.append(1) or CURVE)
    for _ in range(2):
        assert store.curve_of(LlamaContext(model, ContextSettings(n_ctx=256))) == CURVE
    assert len(measured) == 1 and len(list(cache.iterdir())) == 1


def test_a_measured_curve_leaves_an_empty_context(model, cache):
    context = LlamaContext(model, ContextSettings(n_ctx=512, n_threads=1))
    curve = store.curve_of(context, seconds=0.05)
    assert context.n_past == 0
    assert curve.rows[:8] == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    "settings",
    [{"n_threads": 2}, {"n_threads_batch": 2}, {"flash_attn": False}, {"type_k": "f32"}, {"n_seq_max": 4}],
)
def test_what_changes_costs_changes_the_key(model, settings):
    assert key_of(model) != key_of(model, **settings)


def test_what_does_not_change_costs_keeps_the_key(model):
    assert key_of(model) == key_of(model, n_batch=256, n_ubatch=256)


def test_a_broken_file_is_said_and_measured_again(cache, caplog):
    store.store_curve({"a": 1}, CURVE)
    (file,) = cache.iterdir()
    for content in ("{", "[]", '{"curve": {"rows": [1], "base": [-1]}}'):
        file.write_text(content)
        with caplog.at_level(logging.WARNING, "pilotfish.cost"):
            assert store.load_curve({"a": 1}) is None
        assert "measured again" in caplog.text
        caplog.clear()
    assert store.load_curve({"a": 2}) is None and not caplog.text


def test_a_curve_of_a_busy_machine_is_used_but_not_kept(cache, caplog):
    busy = CostCurve((1, 2), [1.0, 1.5], noise=1.2)
    with caplog.at_level(logging.INFO, "pilotfish.cost"):
        store.store_curve({"a": 1}, busy)
    assert "120% longer" in caplog.text and store.load_curve({"a": 1}) is None


def test_a_cache_that_cannot_be_written_costs_a_warning(cache, caplog, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("read-only")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with caplog.at_level(logging.WARNING, "pilotfish.cost"):
        store.store_curve({"a": 1}, CURVE)
    assert "read-only" in caplog.text
