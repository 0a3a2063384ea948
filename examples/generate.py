"""Generate text, plainly and speculatively: the same text, in less time.

usage: python examples/generate.py [MODEL]
"""

import sys

from orchestrator import Engine

DOCUMENT = (
    "The night bus 14 leaves Harbour Square at 00:10, 00:50 and 01:30. It stops at Mill Bridge, the "
    "Old Hospital and Quarry Road, and ends at the Botanical Garden. Bicycles travel free of charge."
)

with Engine.load(sys.argv[1] if len(sys.argv) > 1 else "smollm2", temperature=0) as engine:
    messages = [{"role": "user", "content": f"Repeat this notice word for word.\n\n{DOCUMENT}"}]
    plain = engine.chat(messages, max_tokens=80, speculate=False)
    result = engine.chat(messages, max_tokens=80)
    print(result.text)
    print(f"plain:       {plain.stats.summary()}", file=sys.stderr)
    print(f"speculative: {result.stats.summary()}", file=sys.stderr)
    print(f"same text:   {plain.tokens == result.tokens}", file=sys.stderr)
