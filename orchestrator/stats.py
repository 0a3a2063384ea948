"""What a run cost and gave, as a fold over its steps.

tau = tokens emitted per decode (1.0 = plain decoding). Knows numbers only.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.draft import Step


@dataclass(slots=True)
class SourceStats:
    """What one drafter contributed."""

    n_rounds: int = 0
    n_drafted: int = 0
    n_accepted: int = 0

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that the target agreed with."""
        return self.n_accepted / self.n_drafted if self.n_drafted else 0.0


class Quote(NamedTuple):
    """Accepted tokens that were copied: `n_tokens` from the emitted token `at` on, out of `document`
    (`prompt`, `output` or a reference's name) from its token `offset` on."""

    at: int
    n_tokens: int
    document: str
    offset: int

    def is_continued(self, at: int, document: str, offset: int) -> bool:
        """Whether a token at `at` from that place goes on where this quote ends."""
        here = (self.at + self.n_tokens, self.document, self.offset + self.n_tokens)
        return here == (at, document, offset)


@dataclass(slots=True)
class Stats:
    """Counts and times (seconds) of one request.

    n_decodes: decodes after the prefill; plain decoding has one per token. n_reused: prompt tokens
    that were still in the cache. t_decode: from the end of the prefill to the last step, and
    t_rest the part of it that is neither draft, verify nor sample. t_first: from the request to its
    first token. histogram[n]: rounds that emitted n tokens. depths[d] / accepted[d]: rounds whose draft
    was d deep / of which d tokens were right. quotes: where accepted tokens were copied from. plan: what
    the planner made of it. note: why something was switched off.
    """

    n_prompt: int = 0
    n_reused: int = 0
    n_tokens: int = 0
    n_decodes: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    t_prefill: float = 0.0
    t_first: float = 0.0
    t_decode: float = 0.0
    t_draft: float = 0.0
    t_verify: float = 0.0
    t_sample: float = 0.0
    histogram: Counter[int] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    by_source: dict[str, SourceStats] = field(default_factory=dict)
    quotes: list[Quote] = field(default_factory=list)
    method: str = ""
    plan: str = ""
    note: str = ""
    seed: int = 0

    def add(self, step: Step) -> None:
        """Count one more round."""
        self._quote(step)
        self.n_tokens += step.n_emitted
        self.n_decodes += 1
        self.n_drafted += step.n_drafted
        self.n_accepted += step.n_accepted
        self.t_draft += step.t_draft
        self.t_verify += step.t_verify
        self.t_sample += step.t_sample
        self.histogram[step.n_emitted] += 1
        self.depths[step.depth_drafted] += 1
        self.accepted[step.n_accepted] += 1
        if step.drafted_by:
            self._count_by_node(step)
        elif step.n_drafted:
            source = self.by_source.setdefault(step.source or "unnamed", SourceStats())
            source.n_rounds += 1
            source.n_drafted += step.n_drafted
            source.n_accepted += step.n_accepted

    def _count_by_node(self, step: Step) -> None:
        for name in dict.fromkeys(step.drafted_by):
            source = self.by_source.setdefault(name, SourceStats())
            source.n_rounds += 1
            source.n_drafted += step.drafted_by.count(name)
            source.n_accepted += step.sources.count(name)

    def _quote(self, step: Step) -> None:
        """Runs of accepted tokens that stand one after the other in one document, too, are one quote."""
        for i, place in enumerate(step.quoted):
            if place is None:
                continue
            (document, offset), at = place, self.n_tokens + i
            if self.quotes and self.quotes[-1].is_continued(at, document, offset):
                self.quotes[-1] = self.quotes[-1]._replace(n_tokens=self.quotes[-1].n_tokens + 1)
            else:
                self.quotes.append(Quote(at, 1, document, offset))

    @property
    def tau(self) -> float:
        return self.n_tokens / self.n_decodes if self.n_decodes else 0.0

    @property
    def acceptance(self) -> float:
        return self.n_accepted / self.n_drafted if self.n_drafted else 0.0

    @property
    def tok_s(self) -> float:
        """Tokens per second of decoding, the prefill left out."""
        return self.n_tokens / self.t_decode if self.t_decode > 0 else 0.0

    @property
    def t_rest(self) -> float:
        return max(0.0, self.t_decode - self.t_draft - self.t_verify - self.t_sample)

    @property
    def acceptance_at(self) -> list[float]:
        """Share of the drafts reaching depth d whose first d tokens were all right, d = 1, 2, ..."""
        deepest = max(self.depths, default=0)
        return [_at_least(self.accepted, d) / _at_least(self.depths, d) for d in range(1, deepest + 1)]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        derived = {
            name: getattr(self, name) for name in ("tau", "acceptance", "tok_s", "t_rest", "acceptance_at")
        }
        plain["quotes"] = [quote._asdict() for quote in self.quotes]
        plain["histogram"] = dict(sorted(self.histogram.items()))
        plain["by_source"] = {
            name: {"n_rounds": s.n_rounds, "n_drafted": s.n_drafted, "n_accepted": s.n_accepted}
            for name, s in self.by_source.items()
        }
        for name in ("depths", "accepted"):
            plain[name] = dict(sorted(getattr(self, name).items()))
        return plain | derived

    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.n_tokens} tokens", f"{self.tok_s:.1f} tok/s", f"tau {self.tau:.2f}"]
        for name, source in self.by_source.items():
            parts.append(f"{name} {source.n_accepted}/{source.n_drafted} accepted ({source.acceptance:.0%})")
        return ", ".join([*parts, *filter(None, (self.plan, self.note))])


def _at_least(counts: Counter[int], bound: int) -> int:
    return sum(n for value, n in counts.items() if value >= bound)
