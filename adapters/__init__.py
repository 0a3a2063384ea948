"""The outside world: llama.cpp, GGUF files, the Hugging Face Hub, tokenizers, chat templates.

Knows nothing of drafts, verification or heads; imports neither `heads` nor `orchestrator`.
Importing this package loads nothing: each adapter imports its library when it is itself imported.
"""
