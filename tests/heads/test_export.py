"""Heads are written in published layouts, and come back as they were; nothing half-written remains."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from adapters.errors import AdapterError, HeadError
from adapters.gguf_file import GgufFacts, read_gguf
from heads import export
from heads.checkpoint import load_head
from heads.export import write_head
from heads.export_config import LAYOUTS, Layout
from heads.spec import EagleSpec, Head, MedusaSpec, Spec
from tests.heads import layouts
from tests.heads.random_heads import (
    DRAFTED,
    LLAMA3,
    MEDUSA_VARIANTS,
    N_VOCAB,
    VARIANTS,
    random_eagle,
    random_medusa,
)
from tests.tiny_gguf import TinyFactory

OWN = {"own_embedding": True}  # so that the head alone tells how many tokens there are
# what a layout has no place for, by the variant
REFUSED: Mapping[Layout, Mapping[str, str]] = {
    "safeailab": {
        "eagle-layernorms-fed-back": "cannot hold its norm_output",
        "eagle3-norm-output": "no place for norm_output",
        "eagle3-all-norms": "no place for norms of queries",
        "eagle3-three-layers": "no place for 3 layers",
        "eagle3-layers-qk-norm": "no place for 2 layers",
        "eagle3-only-v-bias": "no place for biases of up, v alone",
    },
    "speculators": {
        "eagle-qkv-bias": "no place for biases of k, q, v alone",
        "eagle-token-map": "a cut vocabulary is unknown",
        "eagle-two-layers": "2 layers is unknown",
        "eagle-layernorms-fed-back": "cannot hold its norm_output",
        "eagle3-qkv-bias": "no place for biases of k, q, v alone",
        "eagle3-all-biases": "a bias of fc is unknown",
        "eagle3-only-v-bias": "no place for biases of up, v alone",
    },
}
CASES = [(layout, name) for layout in LAYOUTS for name in VARIANTS]


def torched(spec: Spec, arrays: Mapping[str, Any]) -> Head:
    return Head(spec, {name: torch.from_numpy(array) for name, array in arrays.items()}, "here")


def eagle(name: str = "eagle3", **more: Any) -> Head:
    return torched(*random_eagle(np.random.default_rng(3), **{**VARIANTS[name], **OWN, **more}))


def names_in(path: Path) -> dict[str, torch.Tensor]:
    opened: Any = safe_open
    with opened(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def check(folder: Path, head: Head) -> None:
    found = load_head(folder)
    assert found.spec == head.spec and set(found.tensors) == set(head.tensors)
    for name, tensor in head.tensors.items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_every_eagle_head_comes_back_as_it_was_or_is_refused(
    layout: Layout, name: str, tmp_path: Path
) -> None:
    head, problem = eagle(name), REFUSED[layout].get(name)
    if problem is None:
        assert write_head(head, tmp_path / "head", layout=layout) == tmp_path / "head"
        check(tmp_path / "head", head)
        return
    with pytest.raises(HeadError, match=rf"\Ahere: .*{problem}.*; use "):
        write_head(head, tmp_path / "head", layout=layout)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", MEDUSA_VARIANTS)
def test_every_medusa_head_comes_back_as_it_was_or_is_refused(name: str, tmp_path: Path) -> None:
    head = torched(*random_medusa(np.random.default_rng(3), **MEDUSA_VARIANTS[name]))
    assert isinstance(head.spec, MedusaSpec)
    if "token_map" in head.tensors:
        with pytest.raises(HeadError, match="no place for a token_map"):
            write_head(head, tmp_path / "head")
        return
    folder = write_head(head, tmp_path / "head", target_name="owner/model")
    check(folder, head)
    config, tensors = layouts.medusa_plain(head.spec, dict(head.tensors))
    found = config_of(folder)
    version = found.pop("version", None)
    assert found == {**config, "base_model_name_or_path": "owner/model"}
    assert version == (None if head.spec.n_vocab else "2")
    assert set(names_in(folder / "medusa_lm_head.safetensors")) == set(tensors)


def test_speculators_has_no_medusa(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="speculators has no layout for Medusa"):
        write_head(torched(*random_medusa(np.random.default_rng(3))), tmp_path / "head", layout="speculators")


def test_names_and_vocabulary_of_eagle3_are_the_published_ones(tmp_path: Path) -> None:
    head = eagle()
    offsets = [target - i for i, target in enumerate(DRAFTED)]
    for layout in LAYOUTS:
        folder = write_head(head, tmp_path / layout, layout=layout)  # type: ignore[arg-type]
        tensors = names_in(folder / "model.safetensors")
        write = layouts.eagle3_plain if layout == "safeailab" else layouts.eagle3_speculators
        assert isinstance(head.spec, EagleSpec)
        _, published = write(head.spec, dict(head.tensors))
        assert set(tensors) == set(published)
        assert tensors["d2t"].dtype == torch.int64 and tensors["d2t"].tolist() == offsets
        assert tensors["t2d"].dtype == torch.bool and len(tensors["t2d"]) == N_VOCAB
        assert tensors["t2d"].nonzero().flatten().tolist() == [*DRAFTED]


def test_names_of_eagle1_are_the_published_ones(tmp_path: Path) -> None:
    head = eagle("eagle-layernorms", own_output=True)
    assert isinstance(head.spec, EagleSpec)
    for layout, write in (("safeailab", layouts.eagle_plain), ("speculators", layouts.eagle_speculators)):
        folder = write_head(head, tmp_path / layout, layout=layout)  # type: ignore[arg-type]
        config, published = write(head.spec, dict(head.tensors))
        assert set(names_in(folder / "model.safetensors")) == set(published)
        if layout == "speculators":
            found = config_of(folder)
            same = ("architectures", "speculators_model_type", "layernorms", "fusion_bias")
            assert {key: found[key] for key in same} == {key: config[key] for key in same}


def test_config_of_safeailab(tmp_path: Path) -> None:
    spec = eagle().spec
    assert isinstance(spec, EagleSpec)
    head = Head(replace(spec, taps=(1, 4, 6)), eagle().tensors, "here")
    config = config_of(write_head(head, tmp_path / "head"))
    assert config["architectures"] == ["LlamaForCausalLMEagle3"] and config["torch_dtype"] == "float32"
    assert (config["vocab_size"], config["draft_vocab_size"]) == (N_VOCAB, len(DRAFTED))
    # inputs of layers for vLLM and llama.cpp, outputs of the layers before for SGLang
    assert config["eagle_aux_hidden_state_layer_ids"] == [1, 4, 6]
    assert config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] == [0, 3, 5]
    plain = config_of(write_head(eagle(), tmp_path / "plain"))
    assert not [key for key in plain if "eagle_" in key]
    whole = eagle("eagle3-full-vocabulary")
    assert config_of(write_head(whole, tmp_path / "whole"))["draft_vocab_size"] is None
    assert config_of(write_head(eagle("eagle-no-fc-bias"), tmp_path / "one"))["bias"] is False


def test_scaled_positions_in_the_forms_that_loaders_take(tmp_path: Path) -> None:
    linear = config_of(write_head(eagle("eagle3-linear-rope"), tmp_path / "linear"))
    assert linear["rope_scaling"] == {"type": "linear", "factor": 4.0}
    assert config_of(write_head(eagle("eagle3-llama3-rope"), tmp_path / "3"))["rope_scaling"] == LLAMA3


def test_config_of_speculators(tmp_path: Path) -> None:
    folder = tmp_path / "head"
    config = config_of(write_head(eagle(), folder, layout="speculators", target_name="owner/model"))
    assert {"speculators_model_type", "speculators_config", "transformer_layer_config"} <= set(config)
    assert config["speculators_config"]["verifier"]["name_or_path"] == "owner/model"
    assert config["transformer_layer_config"]["vocab_size"] == N_VOCAB
    assert config["norm_before_residual"] is False  # absent, it would be taken for True


def small_target(tiny: TinyFactory) -> GgufFacts:
    return replace(read_gguf(tiny("llama")), n_embd=32, n_vocab=N_VOCAB, n_layer=8)


def test_what_the_head_does_not_tell_comes_from_the_target(tiny: TinyFactory, tmp_path: Path) -> None:
    head, facts = eagle(own_embedding=False), small_target(tiny)
    with pytest.raises(HeadError, match="how many tokens its target has; name the target"):
        write_head(head, tmp_path / "head")
    folder = write_head(head, tmp_path / "head", target=facts)
    check(folder, head)
    assert config_of(folder)["max_position_embeddings"] == facts.n_ctx_train
    assert "embed_tokens.weight" not in names_in(folder / "model.safetensors")
    with pytest.raises(HeadError, match="hidden size of 32, the target .* has 48"):
        write_head(head, tmp_path / "other", target=replace(facts, n_embd=48))
    with pytest.raises(HeadError, match="drafts token 39, the target has 30"):
        write_head(head, tmp_path / "other", target=replace(facts, n_vocab=30))


def test_weights_can_be_written_in_another_type(tmp_path: Path) -> None:
    folder = write_head(eagle(), tmp_path / "head", dtype=torch.bfloat16)
    tensors = names_in(folder / "model.safetensors")
    assert tensors["fc.weight"].dtype == torch.bfloat16 and tensors["d2t"].dtype == torch.int64
    assert config_of(folder)["torch_dtype"] == "bfloat16"


def test_provenance_stands_beside_it_and_all_may_be_read_by_others(tmp_path: Path) -> None:
    folder = write_head(eagle(), tmp_path / "head", provenance={"steps": 7})
    assert json.loads((folder / "provenance.json").read_text()) == {"steps": 7}
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "provenance.json"}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert not (write_head(eagle(), tmp_path / "plain") / "provenance.json").exists()


def test_a_head_that_is_there_is_replaced_only_where_allowed_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "head"
    folder.mkdir()
    (folder / "answers.jsonl").write_text("mine")
    write_head(eagle(), folder)
    other = eagle("eagle3-theta")
    with pytest.raises(AdapterError, match="has config.json already; allow overwriting"):
        write_head(other, folder)
    check(folder, eagle())
    write_head(other, folder, overwrite=True)
    check(folder, other)
    assert (folder / "answers.jsonl").read_text() == "mine"
    medusa = torched(*random_medusa(np.random.default_rng(3)))
    with pytest.raises(AdapterError, match="another kind of head"):
        write_head(medusa, folder, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterError, match="is a file; name a folder"):
        write_head(other, tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "head"]


def test_nothing_half_written_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_head(eagle(), tmp_path / "head")

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_save_json", fail)
    for folder in ("head", "new"):
        with pytest.raises(AdapterError, match="cannot be written .*No space left"):
            write_head(eagle("eagle3-theta"), tmp_path / folder, overwrite=True)
    assert os.listdir(tmp_path) == ["head"]
    check(tmp_path / "head", eagle())


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="no layout 'gguf'; the layouts are safeailab, speculators"):
        write_head(eagle(), tmp_path / "head", layout="gguf")  # type: ignore[arg-type]
