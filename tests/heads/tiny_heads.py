"""Random heads for tiny GGUFs, in published layouts, and targets of so few words that heads guess some right.

Knows sizes and folders; layouts are in tests.heads.layouts.
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import torch

from adapters.target import FloatArray
from heads.spec import EagleSpec, MedusaSpec
from tests.heads import layouts
from tests.heads.layout_files import save
from tests.heads.layouts import Tensors, Written
from tests.tiny_gguf import FIRST_BYTE, N_EMBD, N_VOCAB, TinyFactory

N_LAYER = 8  # of the targets: the usual three taps are then 2, 4 and 5
WORDS = tuple(FIRST_BYTE + byte for byte in b" adehnrt")
DRAFTED = tuple(sorted({*range(FIRST_BYTE, FIRST_BYTE + 20), *WORDS}))
_QUIET = 0.05  # gain of the logits of all other tokens

EAGLE = EagleSpec(
    family="eagle",
    hidden_size=N_EMBD,
    width=N_EMBD,
    n_layers=1,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    n_vocab=N_VOCAB,
    eps=1e-5,
)
EAGLE3 = replace(EAGLE, family="eagle3", n_taps=3)
MEDUSA = MedusaSpec(n_heads=3, n_blocks=1, hidden_size=N_EMBD, n_vocab=N_VOCAB)


def talker(tiny: TinyFactory, arch: str = "llama", n_layer: int = N_LAYER) -> Path:
    """A tiny model that says little but WORDS."""
    source = tiny(arch, n_layer=n_layer)
    path = source.with_name(f"few-{source.name}")
    if not path.exists():
        shutil.copy(source, path)
        reader = gguf.GGUFReader(path, "r+")
        output = next(tensor.data for tensor in reader.tensors if tensor.name == "output.weight")
        output *= _gains(range(N_VOCAB))[:, None]
        reader.data.flush()
    return path


def write_head(kind: str, folder: Path) -> Path:
    """The folder of a head of one of KINDS."""
    return save(folder / kind, KINDS[kind]())


def _medusa_v1() -> Written:
    return layouts.medusa_plain(MEDUSA, _scaled(layouts.medusa_tensors(MEDUSA)))


def _medusa_tied() -> Written:
    spec = replace(MEDUSA, n_vocab=None)
    return layouts.medusa_plain(spec, _scaled(layouts.medusa_tensors(spec)))


def _eagle_bias() -> Written:
    return _for_target(layouts.eagle_plain(EAGLE, _scaled(layouts.eagle_tensors(EAGLE, fc_bias=True))))


def _eagle3_reduced() -> Written:
    spec = replace(EAGLE3, n_vocab=len(DRAFTED))
    made = layouts.eagle3_tensors(spec, embedding=False)
    del made["d2t"]  # of the layouts' own vocabulary
    config, tensors = _for_target(layouts.eagle3_plain(spec, _scaled(made)))
    marks = torch.zeros(N_VOCAB, dtype=torch.bool)
    marks[list(DRAFTED)] = True
    own = {"d2t": torch.tensor(DRAFTED) - torch.arange(len(DRAFTED)), "t2d": marks}
    return config, tensors | own


def _eagle3_own_embedding() -> Written:
    spec = replace(EAGLE3, taps=(1, 3, 6), norm_before_residual=True)
    own = {"embedding.weight": torch.randn(N_VOCAB, N_EMBD)}
    made = _scaled(layouts.eagle3_tensors(spec, embedding=False)) | own
    return _for_target(layouts.eagle3_speculators(spec, made))


KINDS = {
    "medusa": _medusa_v1,
    "medusa-tied": _medusa_tied,
    "eagle-bias": _eagle_bias,
    "eagle3-reduced": _eagle3_reduced,
    "eagle3-own-embedding": _eagle3_own_embedding,
}
EAGLES = [kind for kind in KINDS if kind.startswith("eagle")]


def _scaled(made: Tensors) -> Tensors:
    """Outputs as large as inputs, and projections that prefer WORDS."""
    scaled: Tensors = {}
    for name, tensor in made.items():
        one = tensor / tensor.shape[1] ** 0.5 if tensor.dim() == 2 else tensor
        if name.startswith("output"):
            ids = DRAFTED if len(one) == len(DRAFTED) else range(N_VOCAB)
            one = 3 * one * torch.from_numpy(_gains(ids))[:, None]
        scaled[name] = one
    return scaled


def _gains(ids: Iterable[int]) -> FloatArray:
    return np.array([1.0 if token in WORDS else _QUIET for token in ids], np.float32)


def _for_target(written: Written) -> Written:
    """With the target's size of the vocabulary in place of the layouts' own."""
    config, tensors = written
    config.get("transformer_layer_config", config)["vocab_size"] = N_VOCAB
    return config, tensors
