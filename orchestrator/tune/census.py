"""The matrices of a model, by what they are for and how they are stored. Reads the header alone."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from adapters.gguf_file import read_gguf, read_tensors
from adapters.gguf_probe import bits
from orchestrator.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Census:
    """head: the vocabulary projection's type. layers: weights of the layers' matrices, by type; those of
    experts are left out, as only some of them work on a token. own: each matrix's type, by name."""

    head: str
    head_weights: int
    width: int  # of the projection's rows
    tied: bool  # the projection is the token embedding, too
    layers: dict[str, int]
    own: dict[str, str]
    head_name: str
    n_layer: int

    @property
    def n_weights(self) -> int:
        """Of these matrices together."""
        return self.head_weights + sum(self.layers.values())

    @property
    def layer_bits(self) -> float:
        """Bits per weight of the layers."""
        n = sum(self.layers.values())
        return sum(bits(kind) * count for kind, count in self.layers.items()) / n if n else 0.0


def census(path: Path) -> Census:
    """The census of a GGUF; raises UnsupportedModel for one without a vocabulary projection."""
    tensors = read_tensors(path)
    name = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    if name not in tensors:
        raise UnsupportedModel(f"{path}: has no vocabulary projection, so it is no language model")
    head, layers = tensors[name], Counter[str]()
    for key, tensor in tensors.items():
        if key.startswith("blk.") and key.endswith(".weight") and len(tensor.shape) == 2:
            layers[tensor.type] += tensor.n_params
    matrices = {
        key: tensor.type
        for key, tensor in tensors.items()
        if key.endswith(".weight") and len(tensor.shape) > 1
    }
    return Census(
        head=head.type,
        head_weights=head.n_params,
        width=head.shape[0],
        tied=name == "token_embd.weight",
        layers=dict(layers),
        own=matrices,
        head_name=name,
        n_layer=read_gguf(path).n_layer,
    )
