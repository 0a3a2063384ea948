"""The benchmark harness: entrants answer the same prompts in turn, and what they took is compared.

`pilotfish bench` is its command. Nothing here decides how text is generated.
"""
