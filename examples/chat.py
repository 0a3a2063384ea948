"""A conversation: every turn goes on behind what the model has read already, and the last one is JSON.

usage: python examples/chat.py [MODEL]
"""

import json
import sys

from orchestrator import Engine

TURNS = ("I am going to Prague in May. What should I take along?", "And if it rains?")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

with Engine.load(sys.argv[1] if len(sys.argv) > 1 else "smollm2", temperature=0.5, seed=1) as engine:
    messages = [{"role": "system", "content": "You answer in one sentence."}]
    for turn in TURNS:
        messages.append({"role": "user", "content": turn})
        print(f"> {turn}")
        stream = engine.stream_chat(messages, max_tokens=60)
        for chunk in stream:
            print(chunk.text, end="", flush=True)
        stats = stream.result.stats
        print(f"\n({stats.n_reused} of {stats.n_prompt} tokens read before)")
        messages.append({"role": "assistant", "content": stream.result.text})
    messages.append({"role": "user", "content": "Which city do I go to? Answer in JSON."})
    answer = engine.chat(messages, max_tokens=40, json_schema=SCHEMA)
    print(json.loads(answer.text)["city"])
