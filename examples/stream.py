"""Print a text as it is made, with what was guessed in brackets, and leave when it is enough.

usage: python examples/stream.py [MODEL]
"""

import sys

from orchestrator import Engine

PROMPT = "one two three four five six, one two three four five six, one two"

with Engine.load(sys.argv[1] if len(sys.argv) > 1 else "smollm2", temperature=0) as engine:
    stream = engine.stream(PROMPT, max_tokens=80, stop=["\n\n"])
    for chunk in stream:
        accepted = chunk.step.n_accepted if chunk.step else 0
        print(f"[{accepted}>{chunk.text}]" if accepted else chunk.text, end="", flush=True)
        if len(stream.result.tokens) >= 40:
            break  # nothing is left half done: the engine is free for the next request
    print(f"\n{stream.result.stats.summary()}", file=sys.stderr)
