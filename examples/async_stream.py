"""Stream an answer in an asyncio program, and stop it early.

usage: python examples/async_stream.py [MODEL]
"""

import asyncio
import sys

from orchestrator import Engine


async def main() -> None:
    with Engine.load(sys.argv[1] if len(sys.argv) > 1 else "smollm2", temperature=0) as engine:
        n_tokens = 0
        async for chunk in engine.astream("A short history of the lighthouse:", max_tokens=100):
            print(chunk.text, end="", flush=True)
            n_tokens += len(chunk.tokens)
            if n_tokens >= 30:
                engine.cancel()
        print()


asyncio.run(main())
