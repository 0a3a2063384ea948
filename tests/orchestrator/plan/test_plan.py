"""Budgets, layers on a GPU, and advice: arithmetic on tiny models."""

import pytest

from adapters.gguf_file import read_gguf, read_tensors
from adapters.settings import ContextSettings, ModelSettings
from orchestrator.errors import ConfigError
from orchestrator.plan.advice import Advice, Variant, advise
from orchestrator.plan.budget import Budget, budget_of, parse_size
from orchestrator.plan.memory import Reckoner, weights_of
from orchestrator.plan.plan import _DRIVER, Company, plan
from orchestrator.plan.quants import quants_by_rule, quants_on_hub

GB = 10**9
SMALL = ContextSettings(n_ctx=512, n_threads=1)


@pytest.fixture
def target(tiny):
    with Reckoner("target", tiny("llama", n_layer=6, n_ctx_train=4096), ModelSettings()) as reckoner:
        yield reckoner


def planned(target, vram, ram=GB, **company):
    return plan(Company(target, SMALL, **company), Budget(vram, ram, "as given"), 4096)


@pytest.mark.parametrize(
    ("text", "size"),
    [("16G", 2**34), ("15.5 GiB", 31 * 2**29), ("512mb", 2**29), ("1000", 1000), ("1T", 2**40)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "16", "0G", "-1G", "16 gigs", "G"])
def test_what_is_no_size_is_refused_with_an_example(text):
    if text == "16":
        assert parse_size(text) == 16
        return
    with pytest.raises(ConfigError, match="write 16G"):
        parse_size(text)


def test_what_is_not_given_is_what_the_machine_has():
    budget = budget_of(vram="2G")
    assert budget.vram == 2**31 and budget.ram > 2**20
    assert budget_of(ram="3G").ram == 3 * 2**30


def test_weights_by_layer_are_all_the_bytes_of_the_file(tiny):
    path = tiny("gemma3")
    weights, tensors = weights_of(path), read_tensors(path)
    assert weights.total == sum(tensor.bytes for tensor in tensors.values())
    assert weights.input == tensors["token_embd.weight"].bytes and weights.tied == 0
    assert len(weights.layers) == 6 == weights.most_gpu_layers - 1
    assert sum(weights.kv_shares) == pytest.approx(1)


def test_with_room_enough_all_is_on_the_gpu_but_the_input_and_the_logits(target):
    made = planned(target, GB)
    assert (made.fits, made.n_gpu_layers, made.n_layers) == ("whole", 7, 7)
    in_ram = {part.what: part.ram for part in made.parts if part.ram}
    assert in_ram == {
        "target weights": target.weights.input,
        "target compute": 512 * (2 * 4 * 64 + 2 * 512),
        "target logits": 64 * 4 * target.planned.model.n_vocab,
    }


def test_a_smaller_gpu_gets_as_many_layers_as_fit(target):
    whole = planned(target, GB)
    layer = max(target.weights.layers)
    made = planned(target, whole.vram - layer)
    assert made.fits == "partly" and made.n_gpu_layers in (5, 6)
    assert made.vram <= whole.vram - layer < made.vram + 2 * layer
    assert sum(p.vram + p.ram for p in made.parts if p.what.endswith("weights")) == target.weights.total


def test_what_the_user_leaves_to_the_main_memory_stays_there(tiny, target):
    with Reckoner("draft", tiny("llama", seed=1), ModelSettings()) as draft:
        made = planned(target, GB, draft=draft, n_gpu_layers=3, draft_n_gpu_layers=0)
    assert (made.fits, made.n_gpu_layers) == ("whole", 3)
    sizes = {part.what: part for part in made.parts}
    assert sizes["target cache"].vram == pytest.approx(
        sizes["target cache"].ram / 2, rel=0.01
    )  # 2 of 6 layers
    assert sizes["draft weights"].vram == 0
    assert planned(target, GB, n_gpu_layers=0).vram == 0


def test_a_gpu_that_holds_nothing_leaves_all_to_the_main_memory(target):
    made = planned(target, 1000)
    assert (made.fits, made.n_gpu_layers, made.vram) == ("partly", 0, 0)


def test_without_a_gpu_everything_is_counted_against_the_main_memory(target):
    made = planned(target, None)
    assert made.fits == "whole" and made.vram == 0
    assert planned(target, None, ram=made.ram).fits == "whole"
    assert planned(target, None, ram=made.ram - 1).fits == "no"


def test_the_driver_is_counted_where_there_is_a_gpu(target):
    parts = {part.what: part.vram for part in planned(target, GB).parts}
    assert parts["driver (a rule of thumb)"] == _DRIVER


def test_what_fits_leaves_room_for_a_longer_context_and_a_draft(target):
    changes = [one.change for one in planned(target, None).advice]
    assert changes == ["up to n_ctx=4096", "a draft model of up to 1.0 GB, its cache included"]


def test_what_does_not_fit_is_told_what_would(tiny, target):
    with Reckoner("draft", tiny("llama", seed=1), ModelSettings()) as draft:
        whole = planned(target, None, draft=draft)
        made = planned(
            target, None, ram=whole.ram - 100_000, draft=draft, quants=[("in half", 0.5), ("in a third", 0.3)]
        )
    assert made.fits == "no"
    changes = [one.change for one in made.advice]
    assert changes == ["type_k=q8_0 type_v=q8_0", "without the draft model", "in half"]
    assert {one.fits for one in made.advice} == {"whole"}


def test_where_no_single_change_helps_it_says_so(target):
    made = planned(target, None, ram=1000)
    assert made.advice == () and "no single change" in made.notes[0]


def test_of_each_kind_the_first_that_fits_whole_is_advised():
    reached = {"a": "partly", "b": "whole", "c": "whole", "d": "partly", "e": "no"}
    variants = [
        Variant(kind, change, lambda c=change: reached[c])
        for kind, change in zip("xxxyy", "abcde", strict=True)
    ]
    assert [*advise("no", variants)] == [Advice("b", "whole"), Advice("d", "partly")]
    assert [*advise("partly", variants)] == [Advice("b", "whole")]


def test_quantizations_are_smaller_than_the_file(tiny):
    from adapters.hub_names import HubFile

    facts = read_gguf(tiny("llama"))
    by_rule = quants_by_rule(facts)
    assert "Q8_0" in by_rule[0][0] and all(share < 1 for _, share in by_rule)
    files = [
        HubFile(f"m-{quant}.gguf", size) for quant, size in (("Q8_0", 800), ("Q4_K_M", 400), ("F16", 1600))
    ]
    assert quants_on_hub("o/r", files, 1600) == [("o/r:Q8_0", 0.5), ("o/r:Q4_K_M", 0.25)]
