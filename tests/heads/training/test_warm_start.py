"""Claims about where training begins: the head computes what the target's last layer computes."""

import numpy as np
import pytest
import torch

from adapters.gguf_file import read_gguf
from adapters.llama_context import LlamaContext
from adapters.llama_model import LlamaModel
from adapters.settings import ContextSettings
from adapters.target import HiddenTaps
from heads.network import network_of
from heads.rope import RotaryTable
from heads.target_weights import TargetWeights
from heads.training.unroll import Batch, outputs
from heads.training.warm_start import draft_vocabulary, warm_head
from orchestrator.draft import EMPTY

TEXT = [7, 80, 12, 99, 33, 80, 12, 55, 41, 9]


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_fed_with_what_enters_the_last_layer_it_gives_the_targets_logits(tiny, arch):
    path = tiny(arch, n_layer=4)
    n_layer = read_gguf(path).n_layer
    taps = (1, 2, n_layer - 1)
    found, logits = rows_and_logits(path, taps)
    ids = torch.arange(0, read_gguf(path).n_vocab, 3)
    network = network_of(warm_head(path, taps, ids), TargetWeights(path))
    n = len(TEXT)
    features = torch.from_numpy(np.concatenate(found, axis=1))[None]
    every = torch.ones(1, n + 2, dtype=torch.bool)
    batch = Batch(
        torch.tensor([[*TEXT, 0, 0]]), torch.cat([features, features[:, -2:]], 1), features, every, every
    )
    rope = RotaryTable(network.spec.rope, network.spec.head_dim, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        out = next(iter(outputs(network, batch, 1, rope)))
        said = network.logits(out)[0].numpy()
    assert len(said) == n
    assert said == pytest.approx(logits[:, ids.numpy()], abs=0.05)


def rows_and_logits(path, taps):
    """The inputs of layers `taps` and the logits of TEXT, each `[n, ...]`."""
    model = LlamaModel(path)
    context = LlamaContext(
        model, ContextSettings(n_ctx=64, n_threads=1, flash_attn=False), HiddenTaps(layers=taps)
    )
    rows: list[list[np.ndarray]] = []
    logits = []
    try:
        for n in range(1, len(TEXT) + 1):
            context.truncate(0)
            context.prefill(TEXT[:n])
            answer = context.score(EMPTY)
            rows.append([answer.hidden.layers[tap][0].copy() for tap in taps])
            logits.append(answer.logits[0].copy())
    finally:
        model.close()
    return [np.stack([row[i] for row in rows]) for i in range(len(taps))], np.stack(logits)


def test_the_vocabulary_is_what_the_target_says_most():
    assert draft_vocabulary([[5, 5, 9], [5, 9, 1]], 2).tolist() == [5, 9]
    assert draft_vocabulary([[3]], 10).tolist() == [3]
