"""transformers as an entrant, with modules that stand in for it and for torch."""

import contextlib
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from orchestrator.bench.peers.transformers import Transformers
from orchestrator.errors import BenchError, ConfigError


class Model:
    """Gives the bursts that a test wants, as generate() does."""

    def __init__(self, log, bursts):
        self.log, self.bursts, self.generation_config = log, bursts, {"eos_token_id": [99]}

    def eval(self):
        return self

    def generate(self, ids, *, attention_mask, streamer, max_new_tokens, **options):
        self.log.append({"ids": ids.tolist(), "max": max_new_tokens, "threads": self.threads(), **options})
        streamer.put(ids)
        for burst in self.bursts:
            if isinstance(burst, Exception):
                raise burst
            time.sleep(0.01)
            streamer.put(np.array(burst))
        streamer.end()


@pytest.fixture
def library(monkeypatch):
    """Stand-ins for torch and transformers; what was loaded, seeded and asked."""
    seen = SimpleNamespace(loaded=[], asked=[], seeds=[], threads=7, models=[], bursts=[[5], [6], [7]])

    torch = ModuleType("torch")
    torch.float32, torch.bfloat16 = "f32", "bf16"
    torch.tensor, torch.ones_like = np.array, np.ones_like
    torch.get_num_threads = lambda: seen.threads
    torch.set_num_threads = lambda n: setattr(seen, "threads", n)
    torch.random = SimpleNamespace(fork_rng=lambda devices: contextlib.nullcontext())
    torch.manual_seed, torch.seed = seen.seeds.append, lambda: seen.seeds.append("fresh")

    def from_pretrained(folder, **options):
        seen.loaded.append((folder, options))
        if "bad" in options["gguf_file"]:
            raise ValueError("GGUF model with architecture bad is not supported yet")
        model = Model(seen.asked, seen.bursts)
        model.threads = torch.get_num_threads
        seen.models.append(model)
        return model

    transformers = ModuleType("transformers")
    transformers.AutoModelForCausalLM = SimpleNamespace(from_pretrained=from_pretrained)
    transformers.GenerationConfig = dict
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    return seen


def start(folder, **options):
    settings = {"n_threads": 2, "sampling": {"temperature": 0.0}, "end_tokens": [2, 3], **options}
    return Transformers(folder / "model.gguf", **settings)


def test_clock_starts_after_the_first_token(tmp_path, library):
    answer = start(tmp_path).answer([1, 2, 3], 8)
    assert (answer.tokens, answer.n_timed) == ((5, 6, 7), 2)
    assert 0 < answer.t_first < answer.t_total
    assert answer.t_decode == pytest.approx(answer.t_total - answer.t_first)
    assert answer.n_drafted is None


def test_tokens_of_the_first_burst_are_not_timed(tmp_path, library):
    library.bursts[:] = [[[5, 6, 7]], [[8, 9]]]
    answer = start(tmp_path, lookup=4).answer([1], 8)
    assert (answer.tokens, answer.n_timed) == ((5, 6, 7, 8, 9), 2)


def test_the_same_file_is_loaded_in_the_type_asked_for(tmp_path, library):
    start(tmp_path, dtype="bfloat16")
    ((folder, options),) = library.loaded
    assert (folder, options["gguf_file"], options["dtype"]) == (str(tmp_path), "model.gguf", "bf16")
    assert options["local_files_only"]


def test_greedy_takes_the_place_of_what_the_file_says(tmp_path, library):
    start(tmp_path)
    assert library.models[0].generation_config == {
        "do_sample": False,
        "pad_token_id": 2,
        "eos_token_id": [2, 3],
    }


def test_ignored_end_tokens_are_forbidden(tmp_path, library):
    start(tmp_path, ignore_eos=True)
    config = library.models[0].generation_config
    assert config["suppress_tokens"] == [2, 3]
    assert "eos_token_id" not in config


def test_sampling_settings_and_seed_are_passed_on(tmp_path, library):
    start(tmp_path, sampling={"temperature": 0.5, "top_k": 7, "seed": 11}).answer([1], 4)
    config = library.models[0].generation_config
    assert (config["do_sample"], config["temperature"], config["top_k"]) == (True, 0.5, 7)
    assert (config["top_p"], config["min_p"]) == (0.95, 0.05)
    assert library.seeds == [11]


@pytest.mark.parametrize("setting", [{"repeat_penalty": 1.1}, {"logit_bias": {4: 1.0}}])
def test_what_it_cannot_do_is_refused(tmp_path, library, setting):
    with pytest.raises(ConfigError, match=f"transformers has no {next(iter(setting))}"):
        start(tmp_path, sampling=setting)


def test_plain_lookup_and_assisted_differ_in_one_option(tmp_path, library):
    start(tmp_path).answer([4, 5], 9)
    start(tmp_path, lookup=6).answer([4, 5], 9)
    start(tmp_path, assistant=tmp_path / "draft.gguf").answer([4, 5], 9)
    plain, lookup, assisted = library.asked
    assert plain == {"ids": [[4, 5]], "max": 9, "threads": 2}
    assert lookup == {**plain, "prompt_lookup_num_tokens": 6}
    assert assisted == {**plain, "assistant_model": library.models[-1]}
    assert library.loaded[-1][1]["gguf_file"] == "draft.gguf"


def test_torch_gets_its_threads_back_also_after_an_error(tmp_path, library):
    peer = start(tmp_path)
    peer.answer([1], 4)
    assert library.threads == 7
    library.bursts[:] = [RuntimeError("no memory")]
    with pytest.raises(BenchError, match="transformers failed: no memory"):
        peer.answer([1], 4)
    assert (library.threads, library.asked[-1]["threads"]) == (7, 2)


def test_an_architecture_that_it_does_not_read_is_an_error(tmp_path, library):
    with pytest.raises(BenchError, match=r"cannot load .*bad.gguf: .*not supported yet"):
        start(tmp_path, assistant=tmp_path / "bad.gguf")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_library_is_told_with_how_to_get_it(tmp_path, library, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BenchError, match=rf"needs {missing} .*pip install transformers torch"):
        start(tmp_path)


def test_an_unknown_type_is_refused(tmp_path, library):
    with pytest.raises(ConfigError, match="dtype must be one of float32, bfloat16, float16, got 'int8'"):
        start(tmp_path, dtype="int8")


def test_a_closed_one_says_so(tmp_path, library):
    peer = start(tmp_path)
    peer.close()
    peer.close()
    with pytest.raises(BenchError, match="transformers is closed"):
        peer.answer([1], 1)
