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


def test_the_file_has_llama_cpps_keys_and_the_targets_vocabulary(target: Path, tmp_path: Path) -> None:
    head = made(norm_before_residual=True)
    path = write_eagle3_gguf(head, target, tmp_path / "head.gguf")
    keys = {key: value for key, _, value in read_fields(path, "")}
    assert keys["general.architecture"] == b"eagle3"
    assert keys["eagle3.target_layers"] == [2, 4, 5]
    sizes = {
        "embedding_length": N_EMBD,
        "target_hidden_size": N_EMBD,
        "block_count": 1,
        "vocab_size": N_VOCAB,
    }
    sizes |= {"attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 10}
    sizes |= {"feed_forward_length": 96, "rope.dimension_count": 10, "context_length": 512}
    assert {key: keys[f"eagle3.{key}"] for key in sizes} == sizes
    assert keys["eagle3.norm_before_residual"] and not keys["eagle3.norm_before_fc"]
    assert read_fields(path, "tokenizer.ggml.") == read_fields(target, "tokenizer.ggml.")
    assert len(keys["tokenizer.ggml.tokens"]) == read_gguf(path).n_vocab == N_VOCAB
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert tensors["d2t"].tensor_type.name == "I64" and tensors["d2t"].data.tolist() == [*DRAFTED]
    assert tensors["fc.weight"].shape.tolist() == [3 * N_EMBD, N_EMBD]
    assert "token_embd.weight" not in tensors and "t2d" not in tensors


def test_named_taps_are_written_as_they_are(target: Path, tmp_path: Path) -> None:
    head = made()
    assert isinstance(head.spec, EagleSpec)
    named = Head(replace(head.spec, taps=(1, 3, 6)), head.tensors, "here")
    path = write_eagle3_gguf(named, target, tmp_path / "head.gguf")
    assert read_fields(path, "eagle3.target_layers")[0].value == [1, 3, 6]


def test_rows_of_queries_and_keys_are_put_in_pairs(target: Path, tmp_path: Path) -> None:
    head = made()
    path = write_eagle3_gguf(head, target, tmp_path / "head.gguf", dtype="f32")
    for name, n_heads in (("q", 4), ("k", 2)):
        stored = torch.from_numpy(read_weights(path, f"blk.0.attn_{name}.weight").read())
        back = stored.reshape(n_heads, -1, 2, stored.shape[1]).transpose(1, 2).reshape(stored.shape)
        assert torch.equal(back, head.tensors[f"layers.0.{name}.weight"])
        assert not torch.equal(stored, back)
    rows = torch.arange(12).reshape(12, 1)
    assert interleaved(rows, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize("dtype", GGUF_TYPES)
def test_matrices_have_the_type_that_was_asked_for_and_vectors_are_floats(
    dtype: str, target: Path, tmp_path: Path
) -> None:
    head = made(head_dim=16)
    path = write_eagle3_gguf(head, target, tmp_path / "head.gguf", dtype=dtype)
    types = {name: tensor.type for name, tensor in read_tensors(path).items()}
    # half precision does not reach as far as features do
    assert types.pop("fc.weight") == {"f16": "BF16"}.get(dtype, dtype.upper())
    assert types.pop("d2t") == "I64"
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}
    assert {kind for name, kind in types.items() if "norm" not in name} == {dtype.upper()}
    assert read_gguf(path).file_type == dtype.upper()
    stored = read_weights(path, "blk.0.ffn_down.weight").read()
    worst = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8_0": 1e-2, "q4_0": 0.2}[dtype]
    original = head.tensors["layers.0.down.weight"].numpy()
    assert np.abs(stored - original).max() <= worst * np.abs(original).max()


def test_padding_of_a_whole_vocabulary_is_cut_off_and_missing_tokens_are_never_drafted(
    target: Path, tmp_path: Path
) -> None:
    for n_rows, ids in ((N_VOCAB + 8, None), (N_VOCAB - 8, [*range(N_VOCAB - 8)])):
        head = made(cut=False, own_output=False)
        assert isinstance(head.spec, EagleSpec)
        own = {"output.weight": torch.randn(n_rows, N_EMBD), "embedding.weight": torch.randn(n_rows, N_EMBD)}
        padded = Head(replace(head.spec, n_vocab=n_rows), {**head.tensors, **own}, "here")
        path = write_eagle3_gguf(padded, target, tmp_path / "head.gguf", overwrite=True)
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        assert tensors["output.weight"].shape[1] == min(n_rows, N_VOCAB)
        assert tensors["token_embd.weight"].shape[1] == max(n_rows, N_VOCAB)
        assert ("d2t" in tensors) == (ids is not None)
        assert ids is None or tensors["d2t"].data.tolist() == ids


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"family": "eagle"}, "family eagle"),
        ({"n_layers": 2}, "2 layers"),
        ({"norm_output": True}, "norm_output"),
        ({"qk_norm": True}, "layers.0.k_norm.weight"),
        ({"fc_norms": True}, "fc_norms.0.weight"),
        ({"biases": ("v",)}, "layers.0.v.bias"),
        ({"hidden_size": 32}, "hidden size of 32"),
        ({"n_taps": 2}, "reads 2 layers"),
    ],
)
def test_heads_that_llama_cpp_cannot_run_are_refused_before_anything_is_written(
    options: dict[str, Any], what: str, target: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeadError, match=rf"\Ahere: .*{what}"):
        write_eagle3_gguf(made(**options), target, tmp_path / "head.gguf")
    assert not [*tmp_path.iterdir()]


def test_a_medusa_head_a_wrong_type_and_a_file_that_is_there_are_refused(
    target: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head.gguf"
    spec, arrays = random_medusa(np.random.default_rng(1))
    medusa = Head(spec, {name: torch.from_numpy(array) for name, array in arrays.items()}, "here")
    with pytest.raises(HeadError, match="family medusa"):
        write_eagle3_gguf(medusa, target, out)
    with pytest.raises(AdapterError, match="no type 'q5'.*f16, bf16"):
        write_eagle3_gguf(made(), target, out, dtype="q5")
    with pytest.raises(HeadError, match="rows have 40 weights, which is no multiple of 32"):
        write_eagle3_gguf(made(), target, out, dtype="q8_0")
    assert not [*tmp_path.iterdir()]
    out.write_text("mine")
    with pytest.raises(AdapterError, match="exists already"):
        write_eagle3_gguf(made(), target, out)
    assert out.read_text() == "mine" and len([*tmp_path.iterdir()]) == 1


def test_llama_server_drafts_with_it_and_its_greedy_text_stays(target: Path, tmp_path: Path) -> None:
    """With LLAMA_SERVER=/path/to/llama-server; without, the file itself must be what gguf can read."""
    path = write_eagle3_gguf(made(), target, tmp_path / "head.gguf")
    server = os.environ.get("LLAMA_SERVER")
    if not server:
        reader = gguf.GGUFReader(path)
        assert bytes(reader.fields["general.architecture"].parts[-1]) == b"eagle3"
        assert len(reader.tensors) == 14
        return
    plain = _completion(server, target, ())
    drafted = _completion(server, target, ("-md", str(path), "--spec-type", "draft-eagle3"))
    assert drafted["tokens"] == plain["tokens"] and len(plain["tokens"]) == 24
    assert drafted["timings"]["draft_n"] > 0 and "draft_n" not in plain["timings"]


def _completion(server: str, target: Path, options: tuple[str, ...]) -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server, "-m", str(target), "--port", str(port), "-c", "256", "-t", "1", "-np", "1", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.2)
        request = {"prompt": "The pilot fish", "n_predict": 24, "temperature": 0, "return_tokens": True}
        body = json.dumps({**request, "ignore_eos": True}).encode()
        with urllib.request.urlopen(f"{url}/completion", body, timeout=60) as answer:
            return json.load(answer)
    finally:
        process.terminate()
        process.wait()
