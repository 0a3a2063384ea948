"""How much faster a target can become with a drafter, from what their decodes read, or were measured to cost.

Decodes of one row take the time in which their weights are read, so bytes stand for time. What further rows
cost only a measurement tells; without one they are taken to cost nothing, and no machine does better.
"""

from dataclasses import dataclass
from pathlib import Path

from adapters.gguf_header import merged, read_headers
from orchestrator.cost.curve import CostCurve

MOST = 8  # guesses of a round that are looked at
LIKELY = 0.7  # share of guesses that prove right; good pairs reach it in chats
_INPUT = "token_embd.weight"


@dataclass(frozen=True, slots=True)
class Effort:
    """What a drafter's guesses cost, in decodes of one row of the target. per_token: each guess;
    per_round: besides, however many there are. most: guesses of a round."""

    per_token: float
    per_round: float = 0.0
    most: int = MOST


@dataclass(frozen=True, slots=True)
class Gain:
    """best: where every guess is right. likely: where LIKELY of them are. n_best, n_likely: guesses of such a
    round, 0 = drafting nothing is better."""

    best: float
    n_best: int
    likely: float
    n_likely: int


def gain(effort: Effort, curve: CostCurve | None) -> Gain:
    """The most that this drafter can bring, by the curve of its target, None = rows cost nothing."""
    best, n_best = max((_speedup(n, 1.0, effort, curve), n) for n in range(effort.most + 1))
    likely, n_likely = max((_speedup(n, LIKELY, effort, curve), n) for n in range(effort.most + 1))
    return Gain(best, n_best, likely, n_likely)


def _speedup(n: int, acceptance: float, effort: Effort, curve: CostCurve | None) -> float:
    if n == 0:
        return 1.0
    tokens = sum(acceptance**i for i in range(n + 1))
    rows = 1.0 if curve is None else curve.ms(n + 1, 0) / curve.ms(1, 0)
    return tokens / (rows + n * effort.per_token + effort.per_round)


def bytes_read(path: Path) -> int:
    """By a decode of one row: all weights but those of experts that are not asked, and rows of the embedding
    that are not looked up."""
    headers = read_headers(path)
    tensors = merged(headers)
    architecture = headers[0].fields.get("general.architecture")
    n_experts = headers[0].number(f"{architecture}.expert_count")
    n_used = headers[0].number(f"{architecture}.expert_used_count")
    share = n_used / n_experts if n_experts else 1.0
    tied = "output.weight" not in tensors
    total = 0.0
    for name, tensor in tensors.items():
        if name != _INPUT or tied:
            total += tensor.bytes * (share if "_exps." in name else 1.0)
    return int(total)
