"""OpenAI's words for what an engine does: `parameters` reads requests, `answer` serves them, `replies` and
`logprobs` write what comes back. Knows dictionaries; nothing of HTTP, queues or llama-cpp-python."""
