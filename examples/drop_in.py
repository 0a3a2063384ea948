"""A script for llama-cpp-python, with one import line changed.

usage: python examples/drop_in.py [MODEL.gguf]
"""

import sys

from orchestrator.compat import Llama  # instead of: from llama_cpp import Llama

NOTE = "The night bus 14 leaves Harbour Square at 00:10 and 00:50. It ends at the Botanical Garden."

llm = Llama(
    model_path=sys.argv[1] if len(sys.argv) > 1 else "smollm2",
    n_ctx=1024,
    seed=7,
    verbose=False,
)

output = llm("Q: Name the planets in the solar system? A: ", max_tokens=32, stop=["Q:", "\n"], echo=True)
print(output["choices"][0]["text"])

messages = [{"role": "user", "content": f"Repeat this notice word for word.\n\n{NOTE}"}]
for chunk in llm.create_chat_completion(messages, temperature=0, max_tokens=60, stream=True):
    print(chunk["choices"][0]["delta"].get("content", ""), end="", flush=True)
print()
print(llm.last_stats.summary(), file=sys.stderr)  # what llama-cpp-python does not have

schema = {"type": "object", "properties": {"bus": {"type": "integer"}}, "required": ["bus"]}
messages = [{"role": "user", "content": f"Which bus is it? Answer in JSON.\n\n{NOTE}"}]
answer = llm.create_chat_completion(messages, response_format={"type": "json_object", "schema": schema})
print(answer["choices"][0]["message"]["content"])
llm.close()
