"""How each family begins: the head before training, its network, and what it is to learn."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import HeadError
from adapters.gguf_file import read_gguf
from heads.eagle import Eagle
from heads.medusa import Medusa
from heads.network import Network, network_of
from heads.spec import EagleSpec, Family, Head, MedusaSpec
from heads.target_weights import TargetWeights
from heads.training.objective import Eagle3Objective, EagleObjective, MedusaObjective, Objective, aims_of
from heads.training.unroll import Aims
from heads.training.warm_start import warm_eagle, warm_head, with_vocabulary


@dataclass(frozen=True, slots=True)
class Beginning:
    """head: as it would be written before training."""

    head: Head
    network: Network
    objective: Objective

    def trained(self) -> Head:
        """The head as its network is now."""
        found = self.network.canonical()
        tensors = {name: found.get(name, tensor).detach().cpu() for name, tensor in self.head.tensors.items()}
        return Head(self.head.spec, tensors, self.head.source, self.head.notes)


def begin(
    family: Family,
    path: Path,
    taps: tuple[int, ...],
    ids: Tensor,
    n_steps: int,
    device: torch.device | str = "cpu",
) -> Beginning:
    """ids: the tokens that are learned; EAGLE-3 keeps them as its vocabulary, the others draft from all of
    the target's. n_steps: guesses in a row; Medusa's number of heads. device: of the network and what it
    learns; the head stays in memory."""
    weights = TargetWeights(path)
    aims = _moved(aims_of(weights.output.to(torch.bfloat16), ids), device)
    if family == "eagle3":
        head = warm_head(path, taps, ids)
        network = _ready(network_of(head, weights, device=device))
        assert isinstance(network, Eagle)
        return Beginning(head, network, Eagle3Objective(network, aims, n_steps))
    if family == "eagle":
        head = warm_eagle(path)
        network = _ready(network_of(head, weights, device=device, vocabulary=ids))
        assert isinstance(network, Eagle)
        return Beginning(head, network, EagleObjective(network, aims, n_steps))
    h = read_gguf(path).n_embd
    spec = MedusaSpec(n_heads=n_steps, n_blocks=1, hidden_size=h)
    # W = 0 makes every head say what the target says, one token too early
    tensors = {f"blocks.{i}.0.weight": torch.zeros(h, h) for i in range(n_steps)}
    tensors |= {f"blocks.{i}.0.bias": torch.zeros(h) for i in range(n_steps)}
    heads = Medusa(spec, tensors, weights.output[ids]).to(device)
    _ready(heads)
    return Beginning(Head(spec, tensors, str(path)), heads, MedusaObjective(heads, aims))


def go_on(
    head: Head,
    path: Path,
    n_steps: int,
    device: torch.device | str = "cpu",
    *,
    ids: Tensor | None = None,
) -> Beginning:
    """With an EAGLE head that exists, published or trained before, on a target that it fits: what it learned
    of 16-bit weights, say, it learns anew of what the quantized target makes. Its vocabulary stays, unless
    `ids` are another."""
    spec = head.spec
    if not isinstance(spec, EagleSpec):
        raise HeadError(f"{head.source}: is a {spec.family} head; training goes on with EAGLE heads")
    head = replace(head, tensors={name: tensor.clone() for name, tensor in head.tensors.items()})
    weights = TargetWeights(path)
    if ids is not None:
        head = with_vocabulary(head, ids, weights)
    n_vocab = len(weights.embedding)
    network = _ready(network_of(head, weights, device=device, n_vocab=n_vocab))
    assert isinstance(network, Eagle)
    learned = head.tensors.get("d2t", torch.arange(min(n_vocab, network.output.weight.shape[0])))
    aims = _moved(aims_of(weights.output.to(torch.bfloat16), learned.to(torch.int64)), device)
    if spec.family == "eagle3":
        return Beginning(head, network, Eagle3Objective(network, aims, n_steps))
    return Beginning(head, network, EagleObjective(network, aims, n_steps))


def _moved(aims: Aims, device: torch.device | str) -> Aims:
    return replace(aims, output=aims.output.to(device), places=aims.places.to(device))


def _ready(network: Network) -> Network:
    network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network
