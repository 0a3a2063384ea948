"""What `Llama.save_state` keeps of a Llama."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """All that texts to come depend on."""

    seed: int
