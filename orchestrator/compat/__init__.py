"""For programs written for llama-cpp-python: they change one import line.

    from orchestrator.compat import Llama  # instead of: from llama_cpp import Llama

`LookupDraft` and `SuffixDraft` go the other way: they draft for `llama_cpp.Llama(draft_model=...)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.compat.drafts import LookupDraft, SuffixDraft
    from orchestrator.compat.grammar import LlamaGrammar
    from orchestrator.compat.llama import Llama

_HOME = {
    "Llama": "orchestrator.compat.llama",
    "LlamaGrammar": "orchestrator.compat.grammar",
    "LookupDraft": "orchestrator.compat.drafts",
    "SuffixDraft": "orchestrator.compat.drafts",
}

__all__ = ["Llama", "LlamaGrammar", "LookupDraft", "SuffixDraft"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
