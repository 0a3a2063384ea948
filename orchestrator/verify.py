"""Which guesses the target agrees with: the verification rules.

Notation: p = target, q = draft, tau = tokens emitted per round. A rule maps a draft and its rows to
a Walk. All three are lossless: what is emitted has the law of plain sampling from p.

coupled    the target draws its own token with noise fixed by (seed, position, token) and descends
           where the draft has it; any tree; the text does not depend on the drafter.
rejection  token-wise acceptance with min(1, p/q) (Leviathan et al. 2023); chains.
block      block verification (Sun et al. 2024): never accepts less than `rejection`; chains.
"""

from collections.abc import Callable, Sequence

from adapters.target import Rows
from orchestrator.draft import Draft, Walk
from orchestrator.errors import DrafterError
from orchestrator.law import Law, excess, residual
from orchestrator.noise import uniform_scalar
from orchestrator.sampler import Sampler, round_position

Ends = Callable[[int], bool]  # tokens after which nothing may follow
Rule = Callable[[Draft, Rows, Sampler, int, Ends], Walk]


def coupled(draft: Draft, rows: Rows, sampler: Sampler, position: int, ends: Ends) -> Walk:
    """Let the target choose at every node from the root down, until the draft has no such child."""
    children = _children(draft) if len(draft) else {}
    path: list[int] = []
    tokens: list[int] = []
    node: int | None = -1
    while node is not None:
        token = sampler.choose(rows.logits[node + 1], position + len(path))
        sampler.accept(token)
        tokens.append(token)
        node = None if ends(token) else children.get((node, token))
        if node is not None:
            path.append(node)
    return Walk(tuple(path), tuple(tokens))


def _children(draft: Draft) -> dict[tuple[int, int], int]:
    children: dict[tuple[int, int], int] = {}
    for node, key in enumerate(zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)):
        children.setdefault(key, node)
    return children


def rejection(draft: Draft, rows: Rows, sampler: Sampler, position: int, ends: Ends) -> Walk:
    """Accept drafted tokens one by one; at the first refusal draw from what q left of p."""
    tokens: list[int] = []
    for i, (token, q) in enumerate(_chain(draft)):
        p = sampler.law(rows.logits[i])
        u = uniform_scalar(sampler.seed, "accept", round_position(position, i))
        if u > rejection_acceptance(p, q, token):
            return _finish(tokens, residual(p, q), sampler, position)
        sampler.accept(token)
        tokens.append(token)
        if ends(token):  # it takes the place of the target's own token
            return Walk(tuple(range(i)), tuple(tokens))
    return _finish(tokens, sampler.law(rows.logits[len(draft)]), sampler, position)


def rejection_acceptance(p: Law, q: Law, token: int) -> float:
    """min(1, p/q) at `token`, which was drawn from q."""
    return min(1.0, p.prob(token) / q.prob(token))


def block(draft: Draft, rows: Rows, sampler: Sampler, position: int, ends: Ends) -> Walk:
    """Accept the longest prefix that its own coin accepts; later coins may overrule earlier ones."""
    chain = _until_end(_chain(draft), ends)
    drafted = [token for token, _ in chain]
    p = [sampler.law(rows.logits[i], drafted[:i]) for i in range(len(chain) + 1)]
    ratios, coins = block_acceptance(p, [q for _, q in chain], drafted)
    kept = 0
    for i, coin in enumerate(coins, start=1):
        if uniform_scalar(sampler.seed, "accept", round_position(position, i)) <= coin:
            kept = i
    for token in drafted[:kept]:
        sampler.accept(token)
    if kept and ends(drafted[kept - 1]):
        return Walk(tuple(range(kept - 1)), tuple(drafted[:kept]))
    last = p[kept] if kept == len(chain) else residual(p[kept], chain[kept][1], ratios[kept])
    return _finish(drafted[:kept], last, sampler, position)


def block_acceptance(
    p: Sequence[Law], q: Sequence[Law], tokens: Sequence[int]
) -> tuple[list[float], list[float]]:
    """The block rule's numbers for a chain of n tokens, `p [n + 1]` and `q [n]` along it.

    ratios a_0..a_n: a_0 = 1, a_i = min(1, a_{i-1} p(x_i) / q(x_i)). coins h_1..h_n: the prefix of i
    tokens is accepted with probability h_i = S_i / (S_i + 1 - a_i), S_i = sum [a_i p - q]_+, h_n = a_n.
    """
    n, ratios, coins = len(tokens), [1.0], []
    for i, token in enumerate(tokens):
        ratios.append(min(1.0, ratios[i] * p[i].prob(token) / q[i].prob(token)))
    for i in range(1, n):
        left = float(excess(p[i], q[i], ratios[i]).sum())
        coins.append(1.0 if ratios[i] >= 1.0 else left / (left + 1.0 - ratios[i]))
    return ratios, [*coins, ratios[n]] if n else []


def _chain(draft: Draft) -> list[tuple[int, Law]]:
    """Each drafted token with its q: a point mass where the drafter does not sample."""
    if not draft.is_chain:
        raise DrafterError(
            f"drafter {draft.source!r} proposed a tree; rejection and block verification take chains, "
            "use rule='coupled'"
        )
    tokens = draft.tokens.tolist()
    return list(zip(tokens, draft.q or [Law.point(token) for token in tokens], strict=True))


def _until_end(chain: list[tuple[int, Law]], ends: Ends) -> list[tuple[int, Law]]:
    for i, (token, _) in enumerate(chain):
        if ends(token):
            return chain[: i + 1]
    return chain


def _finish(tokens: Sequence[int], last: Law, sampler: Sampler, position: int) -> Walk:
    token = last.draw(sampler.seed, "residual", round_position(position, len(tokens)))
    sampler.accept(token)
    return Walk(tuple(range(len(tokens))), (*tokens, token))


RULES: dict[str, Rule] = {"coupled": coupled, "rejection": rejection, "block": block}
