"""What a plan says before, llama.cpp says after loading: weights, caches and compute buffers, within 5 %."""

import re

import pytest

from adapters.llama_context import LlamaContext
from adapters.llama_lib import log_listener
from adapters.llama_model import LlamaModel
from adapters.presets import resolve_preset
from adapters.settings import ContextSettings, ModelSettings
from orchestrator.plan.memory import Reckoner

SIZE = re.compile(r" (model|KV|RS|compute) buffer size = +([\d.]+) MiB")
WHOLE = ModelSettings(use_mmap=False)  # what is mapped from a file is counted twice where it is repacked
CONTEXTS = [
    {},
    {"n_ctx": 1024, "type_k": "q8_0", "type_v": "q8_0"},
    {"n_ctx": 2048, "flash_attn": False, "type_k": "bf16"},
    {"n_ctx": 768, "n_seq_max": 4, "max_rows": 32, "n_batch": 256, "n_ubatch": 128},
    {"n_ctx": 512, "n_seq_max": 8, "flash_attn": False, "type_k": "q4_0"},
]


def reported(path, settings, context):
    """Bytes by kind, as llama.cpp reports them once all is there."""
    found = {"model": 0.0, "KV": 0.0, "RS": 0.0, "compute": 0.0}

    def collect(line):
        match = SIZE.search(line)
        if match:
            found[match[1]] += 2**20 * float(match[2])

    with log_listener(collect):
        model = LlamaModel(path, settings)
        LlamaContext(model, context).close()
        model.close()
    return found["model"], found["KV"] + found["RS"], found["compute"]


def error(path, options, settings=WHOLE):
    """By how much the plan errs, of the weights, the cache, the compute buffers and all together."""
    context = ContextSettings(n_threads=1, **options)
    with Reckoner("target", path, settings) as reckoner:
        memory = reckoner.memory(context)
    planned = (memory.weights.total, memory.context.cache, sum(memory.context.compute.values()))
    real = reported(path, settings, context)
    pairs = [*zip(planned, real, strict=True), (sum(planned), sum(real))]
    return [abs(one / other - 1) for one, other in pairs]


@pytest.mark.parametrize("options", CONTEXTS, ids=str)
@pytest.mark.parametrize("arch", ["llama", "gemma3", "gemma4", "phi3", "glm4moe", "mamba"])
def test_a_tiny_model_takes_what_was_planned(tiny, arch, options):
    if arch not in ("llama", "glm4moe"):  # rows of 16 numbers are no whole blocks of 32
        options = {name: value for name, value in options.items() if not name.startswith("type")}
    assert max(error(tiny(arch), options)) < 0.05


def test_half_precision_weights_are_counted_as_they_are(tiny):
    assert max(error(tiny("llama", dtype="f16"), {})) < 0.05


@pytest.mark.model
@pytest.mark.parametrize("options", CONTEXTS[1:4], ids=str)
@pytest.mark.parametrize("preset", ["smollm2:Q4_0", "gemma3-270m"])
def test_a_real_model_takes_what_was_planned(preset, options):
    errors = error(resolve_preset(preset), options)
    print(f"{preset} {options}: {', '.join(f'{100 * one:.3f} %' for one in errors)}")
    assert max(errors) < 0.05


@pytest.mark.model
def test_weights_that_are_mapped_are_counted_once():
    mapped = ModelSettings(use_extra_bufts=False)
    assert max(error(resolve_preset("smollm2"), {}, mapped)) < 0.05
