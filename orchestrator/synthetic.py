"""Acceptance by coin: what a drafter of a given quality would bring. The text it makes is invalid.

Everything but the text is real: the drafter's time, the decodes with their rows, the rollbacks. Serving
systems offer the same for capacity studies (llama-server's --spec-synth-rates).
"""

from adapters.target import Rows
from orchestrator.draft import Draft, Walk
from orchestrator.noise import uniform_scalar
from orchestrator.sampler import Sampler
from orchestrator.verify import Ends, Rule


def synthetic(rate: float) -> Rule:
    """A rule that accepts each token of the draft's first branch with probability `rate`, to the first miss.

    The coins belong to the seed and the position, as the noise of the other rules does. A drafted end
    token is never accepted: it would end the study.
    """

    def verify(draft: Draft, rows: Rows, sampler: Sampler, position: int, ends: Ends) -> Walk:
        path: list[int] = []
        tokens: list[int] = []
        node = -1
        for child, (parent, token) in enumerate(
            zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
        ):
            if parent != node:
                continue  # another branch
            if ends(token) or uniform_scalar(sampler.seed, "accept", position + len(path)) > rate:
                break
            sampler.accept(token)
            path.append(child)
            tokens.append(token)
            node = child
        own = sampler.choose(rows.logits[node + 1], position + len(path))
        sampler.accept(own)
        return Walk(tuple(path), (*tokens, own))

    return verify
