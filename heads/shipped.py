"""The heads that come with pilotfish, and which of them is for a GGUF.

Knows folders of this package, each with a provenance.json beside its weights; what a head is, is for the
loader to say.
"""

from dataclasses import dataclass
from pathlib import Path

from adapters.gguf_file import GgufFacts
from heads.pairs import Original

_FOLDER = Path(__file__).parent / "shipped"
_SMOLLM2 = Original(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "",
    "llama",
    576,
    30,
    49_152,
    also=("Smollm2 135M 8k Lc100K Mix1 Ep2",),  # what its conversions are called
)


@dataclass(frozen=True, slots=True)
class Shipped:
    """A head and the model on whose hidden states it was trained. types: of the weights it is best on, ()
    = any."""

    original: Original
    name: str
    types: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return _FOLDER / self.name

    def is_for(self, facts: GgufFacts) -> bool:
        return self.original.is_in(facts) and (not self.types or facts.file_type in self.types)


# the first that is for a target is taken
SHIPPED = (
    Shipped(_SMOLLM2, "smollm2-135m-q4_0", ("Q4_0",)),
    Shipped(_SMOLLM2, "smollm2-135m-bf16"),
)


def shipped_head(facts: GgufFacts) -> Path | None:
    """The folder of the head for this model, None where none comes with pilotfish."""
    return next((head.folder for head in SHIPPED if head.is_for(facts)), None)
