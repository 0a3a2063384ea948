"""PyTorch heads (Medusa, EAGLE) that draft from a target's hidden states.

May import `adapters`; nothing else of the project. No head is implemented yet: the hidden rows
they read are already served by `adapters.llama_context`.
"""
