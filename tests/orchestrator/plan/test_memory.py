"""Claims about where a model's parts are, by the layers that are on the GPU."""

from dataclasses import replace

import pytest

from adapters.llama_plan import ContextMemory
from orchestrator.plan.memory import ModelMemory, Weights

WEIGHTS = Weights(layers=(10, 20, 30), input=7, output=5, tied=0, kv_shares=(0.5, 0.25, 0.25))
CONTEXT = ContextMemory(
    n_ctx=64,
    cache=1200,
    compute={"CPU": 900},
    layers={"CPU": 500},
    output=300,
    last=350,
    embedded=100,
    inputs=250,
    rows=40,
)


def placed(memory, n_gpu_layers):
    """{part: (bytes on the GPU, bytes in the main memory)}"""
    return {one.what.removeprefix("target "): (one.vram, one.ram) for one in memory.placed(n_gpu_layers)}


@pytest.mark.parametrize(
    "n_gpu_layers, weights, cache, compute",
    [
        (0, (0, 72), (0, 1200), (0, 900)),
        (1, (5, 67), (0, 1200), (300, 500)),  # the output alone
        (2, (35, 37), (300, 900), (350, 500)),  # with the last layer, behind whose attention rows are few
        (3, (55, 17), (600, 600), (800, 500)),  # what a CPU reckoned, but for what it is given
        (4, (65, 7), (1200, 0), (800, 250)),  # the input embedding stays
        (99, (65, 7), (1200, 0), (800, 250)),
    ],
)
def test_the_output_and_the_last_layers_go_first(n_gpu_layers, weights, cache, compute):
    found = placed(ModelMemory("target", WEIGHTS, CONTEXT), n_gpu_layers)
    assert found == {"weights": weights, "cache": cache, "compute": compute, "logits": (0, 40)}


def test_where_llama_cpp_reckoned_with_a_gpu_its_own_figures_stand():
    reckoned = replace(CONTEXT, compute={"CUDA0": 700, "CPU": 200}, layers={"CUDA0": 400, "CPU": 100})
    memory = ModelMemory("target", WEIGHTS, reckoned)
    assert [placed(memory, n)["compute"] for n in (0, 1, 3, 4)] == [
        (0, 200),
        (300, 100),
        (700, 100),
        (700, 250),
    ]


def test_a_gpu_needs_its_own_copy_of_an_embedding_that_is_the_output_too():
    tied = replace(WEIGHTS, output=0, tied=7)
    found = placed(ModelMemory("target", tied, CONTEXT), 1)
    assert found["weights"] == (7, 67)  # 74 bytes for 67


def test_a_cache_may_stay_in_the_main_memory():
    memory = ModelMemory("target", WEIGHTS, CONTEXT, offload_kqv=False)
    assert placed(memory, 4)["cache"] == (0, 1200)
