"""EAGLE-3 heads as GGUF: llama.cpp computes with them what the head means."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from adapters.errors import AdapterError, HeadError
from adapters.gguf_fields import read_fields
from adapters.gguf_file import read_gguf, read_tensors
from adapters.gguf_weights import read_weights
from heads.export_gguf import GGUF_TYPES, interleaved, write_eagle3_gguf
from heads.spec import EagleSpec, Head, Rope
from tests.heads.llama_eagle3 import eagle3_graph
from tests.heads.random_heads import DRAFTED, LLAMA3, random_eagle, random_medusa, random_pairs
from tests.heads.reference import eagle_chain
from tests.heads.tiny_heads import N_LAYER
from tests.tiny_gguf import N_EMBD, N_VOCAB, TinyFactory

SIZES: Mapping[str, Any] = {"hidden_size": N_EMBD, "head_dim": 10, "intermediate_size": 96, "eps": 1e-5}
FITTING: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "borrowing": {"cut": False, "own_output": False},
    "own embedding": {"own_embedding": True},
    "narrower": {"width": 32, "own_embedding": True},
    "one key head": {"n_kv_heads": 1},
    "theta": {"rope": Rope(500.0)},
    "linear": {"rope": Rope(100.0, {"rope_type": "linear", "factor": 4.0})},
    "llama3": {"rope": Rope(10000.0, LLAMA3)},
    "norms": {"norm_before_residual": True, "input_norm": True},
}


@pytest.fixture
def target(tiny: TinyFactory) -> Path:
    return tiny("llama", n_layer=N_LAYER)


def made(**options: Any) -> Head:
    spec, arrays = random_eagle(np.random.default_rng(5), **{**SIZES, **options})
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "embedding.weight" in tensors:
        tensors["embedding.weight"] = torch.randn(N_VOCAB, spec.width, generator=torch.manual_seed(6))
    if "output.weight" not in tensors:
        spec = replace(spec, n_vocab=N_VOCAB)
    return Head(spec, tensors, "here")


@pytest.mark.parametrize("kind", FITTING)
def test_llama_cpp_computes_what_the_head_means(kind: str, target: Path, tmp_path: Path) -> None:
    head = made(**FITTING[kind])
    assert isinstance(head.spec, EagleSpec)
    path = write_eagle3_gguf(head, target, tmp_path / "head.gguf", dtype="f32")
    rng = np.random.default_rng(7)
    features, tokens = random_pairs(rng, head.spec, 12)
    follow = [3, 30]
    borrowed = [read_weights(target, name).read() for name in ("token_embd.weight", "output.weight")]
    arrays = {name: tensor.numpy() for name, tensor in head.tensors.items()}
    expected = eagle_chain(head.spec, arrays, features, tokens, follow, *borrowed)
    with eagle3_graph(target, path, N_VOCAB, head.spec.width) as graph:
        logits, out = graph.step(graph.fuse(features), tokens)
        found = [(logits[-1], out[-1])]
        for token in follow:
            logits, out = graph.step(out[-1:], [token])
            found.append((logits[-1], out[-1]))
    ids = [*DRAFTED] if "d2t" in head.tensors else [*range(N_VOCAB)]
    np.testing.assert_allclose([row[ids] for row, _ in found], expected["logits"], atol=1e-4)
    np.testing.assert_allclose([row for _, row in found], expected["features"], atol=1e-4)
    others = np.delete(found[0][0], ids)
    assert np.all(np.isneginf(others)) and len(others) == N_VOCAB - len(ids)
