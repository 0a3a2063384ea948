"""Several processes that train one network, each on its share of every batch, as `torchrun` starts them.

Knows torch.distributed; nothing of networks or data. A process that is alone has nobody to wait for.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from adapters.errors import HeadError

if dist.is_available():
    # Optimizers load this one late, and its functions' defaults then hold the group of that moment: its
    # threads would outlive destroy_process_group and could abort the process at its very end.
    import torch.distributed.nn

T = TypeVar("T")

_PATIENCE = timedelta(days=30)  # the others wait while rank 0 answers prompts


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number among `size`; rank 0 answers, judges, writes and speaks for all.

    local: its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Every `size`-th of `items`: together the ranks have each of them once."""
        return list(items[self.rank :: self.size])

    def add_up(self, tensor: Tensor) -> None:
        """Put the sum over all ranks into `tensor`."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set on any rank."""
        found = torch.tensor(flags, dtype=torch.int32)
        self.add_up(found)
        return [bool(n) for n in found.tolist()]

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.any(False)

    def from_first(self, value: T) -> T:
        """Rank 0's `value`, on every rank."""
        found = [value]
        if self.size > 1:
            dist.broadcast_object_list(found, src=0)
        return found[0]

    def first_does(self, work: Callable[[], T]) -> T:
        """What `work` returns on rank 0, while the others wait; HeadError on them where it fails there."""
        result: list[T] = []
        try:
            if self.first:
                result.append(work())
        finally:
            done = self.from_first(result)
        if not done:
            raise HeadError(
                f"process {self.rank} ends because the first one failed; what that says is the reason"
            )
        return done[0]


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that `torchrun` has started, or this one alone."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
