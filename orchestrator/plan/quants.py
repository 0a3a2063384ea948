"""In which other quantizations a model can be had, and how large they are: from the Hub's list, or a rule.

Knows names of quantizations and what they usually take; nothing of plans.
"""

from collections.abc import Sequence

from adapters.gguf_file import GgufFacts
from adapters.hub_names import HubFile

# bits of a weight over whole files, embeddings and scales included, of models of 7 to 8 billion weights; in
# smaller ones the embeddings, which keep more bits, are a larger part
BITS = {"Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q4_K_M": 4.9, "Q3_K_M": 4.0, "Q2_K": 3.2}


def quants_by_rule(facts: GgufFacts) -> Sequence[tuple[str, float]]:
    """(how to make it, share of this file's bytes), the largest first."""
    n_bytes = max(1, facts.bytes)
    shares = [(name, bits * facts.n_params / 8 / n_bytes) for name, bits in BITS.items()]
    return [(f"quantized to {name} (pilotfish quantize)", share) for name, share in shares if share < 1]


def quants_on_hub(repo: str, files: Sequence[HubFile], n_bytes: int) -> Sequence[tuple[str, float]]:
    """What the repository has beside it, by the sizes of its files."""
    sizes: dict[str, int] = {}
    for file in files:
        if file.quant is not None and file.size:
            sizes[file.quant] = sizes.get(file.quant, 0) + file.size
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return [(f"{repo}:{quant}", size / max(1, n_bytes)) for quant, size in ordered if size < n_bytes]
