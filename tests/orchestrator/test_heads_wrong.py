"""What does not fit is one clear error, before any decode, and the process lives on."""

import json
import sys

import pytest
import torch

from orchestrator import Engine
from orchestrator.errors import ConfigError, HeadError, ModelNotFound, PilotfishError, UnsupportedTarget
from tests.heads import layouts
from tests.heads.layout_files import save
from tests.heads.tiny_heads import KINDS, talker, write_head
from tests.orchestrator.test_engine import PRECISE, PROMPT


@pytest.fixture
def load(tiny, tmp_path):
    """Loads a target with a head of one of KINDS, or with what else is given as `head`."""

    def load_engine(kind, arch="llama", *, n_layer=8, **settings):
        head = {} if "head" in settings else {"head": write_head(kind, tmp_path)}
        return Engine.load(talker(tiny, arch, n_layer), **{**PRECISE, **head, **settings})

    return load_engine


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("medusa", {"method": "suffix"}, ConfigError, "method='suffix' does not use head="),
        ("medusa", {"draft": "x.gguf"}, ConfigError, "a head and a draft are given; leave one of them out"),
        ("medusa", {"head": None, "method": "head"}, ConfigError, "needs a head: give head="),
        ("medusa", {"head": "no/where/at/all"}, ModelNotFound, "no head 'no/where/at/all'"),
        ("medusa", {"tree": "oak"}, ConfigError, "no tree is called 'oak'"),
        ("medusa", {"tree": "0x2"}, ConfigError, "every width must be at least 1"),
        ("eagle-bias", {"tree": "3x2"}, ConfigError, "an EAGLE tree grows"),
        ("eagle-bias", {"head_taps": (1, 2, 3)}, ConfigError, "head_taps names 3 layers, this head reads"),
        ("eagle3-reduced", {"head_taps": (1, 2)}, ConfigError, "names 2 layers, this head reads 3"),
        ("eagle3-reduced", {"head_taps": (1, 2, 8)}, ConfigError, "layer 8 does not exist"),
        ("eagle3-reduced", {"head_taps": (-1, 2, 3)}, ConfigError, "layer -1 does not exist"),
        ("eagle3-reduced", {"head_vocab": 20}, HeadError, "has a vocabulary of its own"),
        ("eagle-bias", {"head_vocab": "nowhere.json"}, ConfigError, "nowhere.json is no list of token ids"),
        ("eagle-bias", {"head_vocab": 0}, ConfigError, "head_vocab must be >= 1"),
        ("eagle-bias", {"head_dtype": "int3"}, ConfigError, "head_dtype must be one of"),
        ("eagle-bias", {"head_device": "abacus"}, ConfigError, "head_device='abacus' cannot be used"),
        ("eagle-bias", {"head_window": -1}, ConfigError, "head_window must be >= 0"),
        ("eagle-bias", {"tree_depth": 0}, ConfigError, "tree_depth must be >= 1"),
    ],
)
def test_wrong_settings_are_named(load, kind, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        load(kind, **settings)
    assert isinstance(caught.value, PilotfishError)


def test_taps_of_a_callback_target_cannot_begin_at_the_embedding(load):
    with pytest.raises(PilotfishError, match="does not expose the input of layer 0"):
        load("eagle3-reduced", "gemma3", head_taps=(0, 2, 3))


@pytest.mark.parametrize("kind", ["medusa", "eagle", "eagle3"])
def test_a_head_of_another_width_is_refused_with_both_numbers(load, tmp_path, kind):
    spec = layouts.MedusaSpec(n_heads=2, n_blocks=1, hidden_size=layouts.H, n_vocab=layouts.V)
    written = {
        "medusa": lambda: layouts.medusa_plain(spec, layouts.medusa_tensors(spec)),
        "eagle": lambda: layouts.eagle_plain(layouts.EAGLE, layouts.eagle_tensors(layouts.EAGLE)),
        "eagle3": lambda: layouts.eagle3_plain(layouts.EAGLE3, layouts.eagle3_tensors(layouts.EAGLE3)),
    }[kind]()
    with pytest.raises(HeadError, match=r"made for a hidden size of 16, the target \(llama\) has 64"):
        load("medusa", head=save(tmp_path / "narrow", written))


def test_a_head_of_another_vocabulary_is_refused_with_both_numbers(load, tmp_path):
    folder = write_head("medusa", tmp_path)
    config, tensors = KINDS["medusa"]()
    tensors["0.1.weight"] = torch.zeros(1000, 64)
    tensors["1.1.weight"] = tensors["2.1.weight"] = tensors["0.1.weight"]
    save(folder, (config, tensors))
    with pytest.raises(HeadError, match="projection has 1000 rows, the target has 320 tokens"):
        load("medusa", head=folder)


def test_a_target_with_too_few_layers_for_the_taps_is_refused(load):
    with pytest.raises(HeadError, match="input of layer 6, the target has layers 0 to 3"):
        load("eagle3-own-embedding", n_layer=4)
    with pytest.raises(HeadError, match="add eagle_aux_hidden_state_layer_ids to config.json"):
        load("eagle3-reduced", n_layer=2)


@pytest.mark.parametrize("method", ["auto", "head", "cascade"])
def test_a_recurrent_target_takes_no_head(load, method):
    with pytest.raises(UnsupportedTarget, match="its state is recurrent .*use method='none'"):
        load("eagle-bias", "mamba", method=method)


def test_damaged_files_are_named_and_a_good_head_serves_afterwards(load, tmp_path):
    folder = write_head("eagle3-reduced", tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(HeadError, match="cut short"):
        load("medusa", head=folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(HeadError, match="config.json: is not JSON"):
        load("medusa", head=folder)
    with pytest.raises(ModelNotFound, match="no .safetensors, .bin or .pt file"):
        weights.unlink()
        load("medusa", head=folder)
    with load("medusa", method="head") as engine:
        assert engine.generate(PROMPT, max_tokens=9).stats.n_drafted > 0


def test_a_missing_torch_says_what_to_install(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"pip install 'pilotfish\[heads\]'"):
        load("medusa", method="head", head="owner/repo")


def test_a_config_that_contradicts_its_tensors_is_believed_less(load, tmp_path):
    folder = write_head("medusa", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "medusa_num_heads": 5}))
    with load("medusa", head=folder, method="head", temperature=0.0) as engine:
        assert engine.generate(PROMPT, max_tokens=9).stats.n_drafted > 0


@pytest.mark.parametrize("setting", [{"head_vocab": 9}, {"head_taps": (1, 2, 3)}, {"head_window": 4}])
def test_settings_of_eagle_heads_are_refused_for_medusa(load, setting):
    with pytest.raises(ConfigError, match="are for EAGLE heads; leave them out"):
        load("medusa", method="head", **setting)
