"""A server of our own, and OpenAI's client asking it: text as it comes, and who guessed which words.

pilotfish serve smollm2 does the first half on the command line.
"""

import os
import subprocess
import sys

from openai import OpenAI

NOTES = "The Vltava rises in the Bohemian Forest and joins the Elbe at Melnik after 430 kilometres."

command = [sys.executable, "-m", "orchestrator", "serve", "smollm2", "--port", "0", "--temperature", "0"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
try:
    assert server.stderr is not None
    address = next(line.split(" at ")[1].split(",")[0] for line in server.stderr if "/v1" in line)
    with OpenAI(base_url=address, api_key="none") as client:
        stream = client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": f"Repeat this sentence: {NOTES}"}],
            max_tokens=40,
            stream=True,
            extra_body={"references": {"rivers.txt": NOTES}, "include_sources": True},
        )
        for chunk in stream:
            for span in chunk.model_extra["pilotfish"]["sources"]:
                copied = span["source"] != "target"
                print(f"[{span['text']}]" if copied else span["text"], end="", flush=True)
        print(f"\ntau {chunk.model_extra['pilotfish']['tau']}")
finally:
    server.terminate()
    server.communicate()
