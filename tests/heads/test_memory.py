"""A head takes the memory that was foretold, and loading says how far it is."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from heads.checkpoint import load_head
from heads.fit import HeadBytes, head_bytes
from heads.network import network_of
from heads.spec import EagleSpec, MedusaSpec
from heads.target_weights import TargetWeights
from tests.heads import layouts
from tests.heads.layout_files import save
from tests.heads.tiny_heads import talker, write_head
from tests.tiny_gguf import N_VOCAB, TinyFactory

# half as wide as the EAGLE-3 heads of models of 8 billion parameters
LARGE = EagleSpec(
    family="eagle3",
    hidden_size=2048,
    width=2048,
    n_layers=1,
    n_heads=16,
    n_kv_heads=8,
    head_dim=128,
    intermediate_size=7168,
    n_vocab=32000,
    n_taps=3,
)
MEDUSA = MedusaSpec(n_heads=5, n_blocks=1, hidden_size=LARGE.width, n_vocab=8192)
TARGET_VOCAB = 32768  # smaller than real ones: what is borrowed is a single matrix of that many rows
N_CTX = 512
SCRATCH = 50e6  # that PyTorch's products of 64 rows take, whatever the size of the head

# growth of the peak in bytes: of loading a head and borrowing an embedding, then of reading N_CTX tokens
MEASURE = """
import json, resource, sys
import numpy as np
import torch
from heads.checkpoint import load_head
from heads.draft_state import DraftState
from heads.network import network_of

folder, n_vocab, width, n_ctx, dtype = sys.argv[1], *map(int, sys.argv[2:5]), getattr(torch, sys.argv[5])
torch.set_num_threads(1)
borrowed = torch.bfloat16 if dtype == torch.int8 else dtype
(torch.zeros(64, 64, dtype=borrowed) @ torch.zeros(64, 64, dtype=borrowed)).sum()  # what PyTorch itself takes

class Target:
    output, embedding_scale = None, 1.0
    @property
    def embedding(self):
        return torch.ones(n_vocab, width, dtype=borrowed)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
head = load_head(folder)  # kept: whoever holds it must not pay for it
network = network_of(head, Target(), dtype)
if dtype != torch.int8:  # touch what stays in the file
    sum(int(t.view(torch.int8).flatten()[::4096].sum()) for t in network.canonical().values())
found = {"loaded": peak() - before}
if head.spec.family != "medusa":
    state = DraftState(network)
    for _ in range(n_ctx // 64):
        state.read(np.zeros((64, 3 * width), np.float32), [1] * 64)
    state.open(1)
    found |= {"read": peak() - before, "kv": state.n_bytes}
print(json.dumps(found))
"""


def of_ones(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.ones(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EAGLE-3 head, stored in bfloat16."""
    w, i, n_kv = LARGE.width, LARGE.intermediate_size, LARGE.n_kv_heads * LARGE.head_dim
    shapes = {"fc": (w, 3 * w), "output": (LARGE.n_vocab, w), "layers.0.q": (w, 2 * w), "layers.0.o": (w, w)}
    shapes |= {"layers.0.k": (n_kv, 2 * w), "layers.0.v": (n_kv, 2 * w)}
    shapes |= {"layers.0.gate": (i, w), "layers.0.up": (i, w), "layers.0.down": (w, i)}
    norms = ("norm", "layers.0.input_norm", "layers.0.hidden_norm", "layers.0.post_norm")
    made = {f"{name}.weight": shape for name, shape in shapes.items()}
    config, tensors = layouts.eagle3_plain(LARGE, of_ones(made | {f"{name}.weight": (w,) for name in norms}))
    config |= {"vocab_size": TARGET_VOCAB, "draft_vocab_size": LARGE.n_vocab}
    marks = torch.zeros(TARGET_VOCAB, dtype=torch.bool)
    marks[: LARGE.n_vocab] = True
    ids = {"d2t": torch.zeros(LARGE.n_vocab, dtype=torch.int64), "t2d": marks}
    return save(tmp_path_factory.mktemp("large"), (config, tensors | ids))


@pytest.fixture(scope="module")
def large_medusa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five Medusa heads, stored in bfloat16."""
    w = MEDUSA.hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for head in range(MEDUSA.n_heads):
        shapes |= {f"blocks.{head}.0.weight": (w, w), f"blocks.{head}.0.bias": (w,)}
        shapes |= {f"outputs.{head}.weight": (MEDUSA.n_vocab or 0, w)}
    return save(tmp_path_factory.mktemp("medusa"), layouts.medusa_plain(MEDUSA, of_ones(shapes)))


def measured(folder: Path, dtype: str) -> dict[str, int]:
    arguments = [str(folder), str(TARGET_VOCAB), str(LARGE.width), str(N_CTX), dtype]
    # through a shell: what a process inherits of its parent's peak would hide its own
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", MEASURE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def foretold_of(folder: Path, dtype: str) -> HeadBytes:
    n_embd, kind = LARGE.hidden_size, getattr(torch, dtype)
    return head_bytes(load_head(folder), n_embd=n_embd, n_vocab=TARGET_VOCAB, dtype=kind)


def test_what_is_foretold_is_the_size_of_the_tensors(large: Path) -> None:
    foretold = foretold_of(large, "bfloat16")
    assert foretold.weights == sum(t.numel() * t.itemsize for t in load_head(large).tensors.values())
    assert foretold.borrowed == 2 * TARGET_VOCAB * LARGE.width


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_peak_of_an_eagle_head_is_the_foretold_one(dtype: str, large: Path) -> None:
    found, foretold = measured(large, dtype), foretold_of(large, dtype)
    assert foretold.total(0) < found["loaded"] <= 1.05 * foretold.total(0)
    assert found["read"] <= 1.05 * foretold.total(N_CTX) + SCRATCH
    n_room = 2 * (N_CTX + 64)  # the cache doubles, and has room for a tree
    assert found["kv"] <= foretold.kv_per_1000_tokens * n_room // 1000


def test_what_is_foretold_of_8_bits_is_the_size_of_what_runs(large: Path) -> None:
    target = TARGET_VOCAB, LARGE.width

    class Target:
        embedding, output, embedding_scale = torch.ones(target), torch.ones(target), 1.0

    head = load_head(large)
    network = network_of(head, Target(), torch.bfloat16, in_blocks=True)
    found = sum(t.nbytes for t in [*network.parameters(), *network.buffers()])
    assert foretold_of(large, "int8").total(0) == found


def test_weights_of_8_bits_never_take_what_16_would(large: Path) -> None:
    assert measured(large, "int8")["loaded"] <= foretold_of(large, "bfloat16").total(0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_peak_of_medusa_heads_is_the_foretold_one(dtype: str, large_medusa: Path) -> None:
    found, foretold = measured(large_medusa, dtype), foretold_of(large_medusa, dtype)
    assert foretold.total(0) < found["loaded"] <= 1.05 * foretold.total(0)


@pytest.mark.parametrize("kind", ["eagle-bias", "medusa-tied", "medusa"])
def test_progress_is_told_of_what_is_borrowed(kind: str, tiny: TinyFactory, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    weights = TargetWeights(talker(tiny), progress=lambda done, total: told.append((done, total)))
    network_of(load_head(write_head(kind, tmp_path)), weights)
    n_matrices = {"eagle-bias": 2, "medusa-tied": 1, "medusa": 0}[kind]
    assert told.count((N_VOCAB, N_VOCAB)) == n_matrices
    assert all(0 < done <= total == N_VOCAB for done, total in told)


def test_the_engine_tells_progress(tiny: TinyFactory, tmp_path: Path) -> None:
    from orchestrator import Engine

    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    head = write_head("eagle-bias", tmp_path)
    target = talker(tiny)
    with Engine.load(target, head=head, method="head", progress=progress, n_ctx=256, n_threads=1) as engine:
        assert told[-1] == (N_VOCAB, N_VOCAB)
        assert engine.generate("the cat", max_tokens=5).stats.n_drafted > 0
