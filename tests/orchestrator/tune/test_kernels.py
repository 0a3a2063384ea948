"""Claims about timing kernels and the parts of a decode, on tiny models."""

import time

import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings, ModelSettings
from orchestrator.cost.timing import filler, score_ms
from orchestrator.errors import UnsupportedTarget
from orchestrator.tune.census import census
from orchestrator.tune.kernels import ROWS, measure_kernels, probe_settings, probe_types
from orchestrator.tune.neighbours import Neighbours, warnings
from orchestrator.tune.split import measure_split
from orchestrator.tune.timing import layers_ms, require_rollback

ONE = ContextSettings(n_threads=1)


def test_a_census_tells_the_projection_from_the_layers(tiny):
    found = census(tiny("llama"))
    assert (found.head, found.head_name, found.tied, found.width) == ("F32", "output.weight", False, 64)
    assert found.layers == {"F32": 2 * (128 * 64 + 2 * 64 * 64 + 64 * 128 + 3 * 128 * 64)}
    assert found.n_weights == found.head_weights + found.layers["F32"] and found.layer_bits == 32
    assert found.own["blk.0.attn_q.weight"] == "F32" and "output_norm.weight" not in found.own


def test_probes_are_of_types_that_fit_and_of_those_in_use(tiny):
    assert probe_types(census(tiny("llama"))) == [
        "Q4_0",
        "IQ4_NL",
        "Q4_1",
        "Q5_0",
        "Q8_0",
        "F16",
        "BF16",
        "F32",
    ]


@pytest.mark.parametrize(("given", "used"), [(-1, -1), (0, 0), (3, -1), (2, 0)])
def test_probes_run_where_the_projection_does(given, used):
    settings = probe_settings(ModelSettings(n_gpu_layers=given, lora=("a.gguf",)), n_layer=2)
    assert (settings.n_gpu_layers, settings.lora) == (used, ())


def test_every_probe_gets_a_price_for_every_row_count(tiny):
    found = census(tiny("llama"))
    kernels = measure_kernels(found, ModelSettings(), ONE)
    assert kernels.rows == ROWS and [*kernels.ns] == probe_types(found)
    assert all(len(ns) == len(ROWS) and min(ns) > 0 for ns in kernels.ns.values())


def test_the_parts_of_a_decode_are_measured_and_the_cache_is_as_before(tiny):
    model = LlamaModel(tiny("llama"))
    context = LlamaContext(model, ContextSettings(n_ctx=256, n_threads=1))
    tokens = filler(33, model.n_vocab)
    context.prefill(tokens)
    assert score_ms(context, 3) > 0 and layers_ms(context, tokens, 3) > 0
    assert (context.tokens.tolist(), context.root) == (tokens[:32], tokens[32])
    split = measure_split(context, 2)
    assert split.rows == (1, 2, 3, 4, 5, 6, 8, 12, 16)
    assert min(split.layers) > 0 and min(split.head) >= 0
    model.close()


def test_a_model_that_cannot_take_tokens_back_cannot_be_tuned(tiny):
    model = LlamaModel(tiny("mamba"))
    with pytest.raises(UnsupportedTarget, match="nothing to tune: its state is recurrent"):
        require_rollback(model)
    model.close()


def test_fillers_begin_alike():
    assert filler(40, 300)[:10] == filler(10, 300)


def test_the_neighbours_share_leaves_our_own_work_out(monkeypatch):
    monkeypatch.setattr("orchestrator.tune.neighbours._others", iter([100.0, 103.0]).__next__)
    monkeypatch.setattr("orchestrator.tune.neighbours.perf_counter", iter([5.0, 11.0]).__next__)
    monkeypatch.setattr("orchestrator.tune.neighbours.os.cpu_count", lambda: 2)
    assert Neighbours().share() == 3 / 12
    monkeypatch.undo()
    neighbours, until = Neighbours(), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0 <= neighbours.share() <= 1
    assert warnings(0.01) == []
    assert warnings(0.3) == [
        "WARNING: other programs took 30 % of the processors meanwhile; measure again without them"
    ]
