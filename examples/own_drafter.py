"""A drafter of your own, in ten lines: it guesses that words go on as they did last time.

usage: python examples/own_drafter.py [MODEL]
"""

import sys

from orchestrator import Context, Draft, Drafter, Engine


class LastTime(Drafter):
    """Remembers which token followed each token last."""

    name = "last-time"
    max_draft = 2

    def propose(self, context: Context, budget: int) -> Draft:
        follower = dict(zip(context.tokens, context.tokens[1:], strict=False))
        guesses = [follower.get(context.tokens[-1])]
        while guesses[-1] is not None and len(guesses) <= budget:
            guesses.append(follower.get(guesses[-1]))
        return Draft.chain([token for token in guesses[:budget] if token is not None], source=self.name)


with Engine.load(sys.argv[1] if len(sys.argv) > 1 else "smollm2", LastTime(), temperature=0) as engine:
    prompt = "one two three four five one two three four five one two"
    result = engine.generate(prompt, max_tokens=24)
    print(result.text)
    print(result.stats.summary(), file=sys.stderr)
