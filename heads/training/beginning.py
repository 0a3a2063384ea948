"""How each family begins: the head before training, its network, and what it is to learn."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapters.gguf_file import read_gguf
from heads.eagle import Eagle
from heads.medusa import Medusa
from heads.network import Network, network_of
from heads.spec import Family, Head, MedusaSpec
from heads.target_weights import TargetWeights
from heads.training.objective import Eagle3Objective, EagleObjective, MedusaObjective, Objective, aims_of
from heads.training.warm_start import warm_eagle, warm_head


@dataclass(frozen=True, slots=True)
class Beginning:
    """head: as it would be written before training."""

    head: Head
    network: Network
    objective: Objective

    def trained(self) -> Head:
        """The head as its network is now."""
        found = self.network.canonical()
        tensors = {name: found.get(name, tensor).detach() for name, tensor in self.head.tensors.items()}
        return Head(self.head.spec, tensors, self.head.source, self.head.notes)


def begin(family: Family, path: Path, taps: tuple[int, ...], ids: Tensor, n_steps: int) -> Beginning:
    """ids: the tokens that are learned; EAGLE-3 keeps them as its vocabulary, the others draft from all of
    the target's. n_steps: guesses in a row; Medusa's number of heads."""
    weights = TargetWeights(path)
    aims = aims_of(weights.output.to(torch.bfloat16), ids)
    if family == "eagle3":
        head = warm_head(path, taps, ids)
        network = _ready(network_of(head, weights))
        assert isinstance(network, Eagle)
        return Beginning(head, network, Eagle3Objective(network, aims, n_steps))
    if family == "eagle":
        head = warm_eagle(path)
        network = _ready(network_of(head, weights, vocabulary=ids))
        assert isinstance(network, Eagle)
        return Beginning(head, network, EagleObjective(network, aims, n_steps))
    h = read_gguf(path).n_embd
    spec = MedusaSpec(n_heads=n_steps, n_blocks=1, hidden_size=h)
    # W = 0 makes every head say what the target says, one token too early
    tensors = {f"blocks.{i}.0.weight": torch.zeros(h, h) for i in range(n_steps)}
    tensors |= {f"blocks.{i}.0.bias": torch.zeros(h) for i in range(n_steps)}
    heads = Medusa(spec, tensors, weights.output[ids])
    _ready(heads)
    return Beginning(Head(spec, tensors, str(path)), heads, MedusaObjective(heads, aims))


def _ready(network: Network) -> Network:
    network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network
