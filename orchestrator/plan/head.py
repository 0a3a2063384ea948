"""What a head takes beside its target: its weights, what it borrows, its cache, and the rows that it reads.

Knows heads.fit; a head that is not here yet is judged by the sizes that the Hub lists, not downloaded.
"""

from dataclasses import dataclass
from pathlib import Path

from adapters.gguf_file import GgufFacts
from orchestrator.errors import ModelNotFound
from orchestrator.extras import require_torch
from orchestrator.plan.memory import Placed

_FLOAT = 4


@dataclass(frozen=True, slots=True)
class HeadMemory:
    """Bytes. note: how sure they are."""

    name: str
    weights: int
    cache: int  # of all the context's tokens
    rows: int
    note: str = ""

    def placed(self, *, on_gpu: bool) -> tuple[Placed, ...]:
        parts = (("head weights", self.weights), ("head cache", self.cache))
        moved = tuple(Placed(what, n if on_gpu else 0, 0 if on_gpu else n) for what, n in parts)
        return (*moved, Placed("head rows", 0, self.rows))


def head_memory(
    name: str,
    target: Path,
    facts: GgufFacts,
    *,
    n_ctx: int,
    n_batch: int,
    on_gpu: bool,
    offline: bool = False,
) -> HeadMemory:
    """`name`: as `--head` takes it. on_gpu: in 16 bits there, in 8 on a CPU. Raises HeadError where the head
    does not fit this target."""
    require_torch()
    import torch

    from adapters.llama_hidden import tap_way
    from heads.checkpoint import load_head
    from heads.choice import chosen_head
    from heads.fit import check_fit, head_bytes, taps_of
    from heads.target_weights import TargetWeights

    chosen = str(chosen_head(name, target))
    try:
        head = load_head(chosen, local_files_only=True)
    except ModelNotFound:
        if offline or Path(chosen).exists():
            raise
        return _unseen(chosen, facts, n_ctx, n_batch, on_gpu)
    check_fit(head, facts, layer_inputs=tap_way(facts.architecture) != "none")
    dtype = torch.bfloat16 if on_gpu else torch.int8
    tied = TargetWeights(target).tied
    sizes = head_bytes(head, n_embd=facts.n_embd, n_vocab=facts.n_vocab, dtype=dtype, tied=tied)
    n_rows = max(1, len(taps_of(head, facts.n_layer)))
    cache = sizes.total(n_ctx) - sizes.total(0)
    return HeadMemory(chosen, sizes.total(0), cache, n_rows * n_batch * facts.n_embd * _FLOAT)


def _unseen(name: str, facts: GgufFacts, n_ctx: int, n_batch: int, on_gpu: bool) -> HeadMemory:
    """By the Hub's list of files: weights in 16 bits there, and all that a head may borrow."""
    from adapters.hub import Repository
    from heads.files import choose_weights

    repository = Repository(name, None, None)
    files = {file.name: file.size or 0 for file in repository.files()}
    n_bytes = files[choose_weights([file for file in files if "/" not in file], name)]
    per_weight = 1.0 if on_gpu else 34 / 64
    borrowed = 2 * 2 * facts.n_vocab * facts.n_embd
    cache = 2 * facts.n_embd * n_ctx * (2 if on_gpu else _FLOAT)
    return HeadMemory(
        name,
        int((n_bytes + borrowed) * per_weight),
        cache,
        3 * n_batch * facts.n_embd * _FLOAT,
        "from the size of its file on the Hub: an upper bound",
    )
