"""Our sampling settings in the words of other systems, and a refusal where they have no word for one.

Every setting is passed on, also those that were not given: a peer's own defaults may come from its
build or the model's file, and a comparison must not hang on them.
"""

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.config import override
from orchestrator.errors import ConfigError
from orchestrator.sampling import RANDOM_SEED, Sampling


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """`settings` with our defaults filled in; raises ConfigError for unknown names and bad values."""
    return override(Sampling(), settings)


def llama_seed(sampling: Sampling) -> int:
    """The seed in the 32 bits that llama.cpp has; the same seed gives other text in another system."""
    return RANDOM_SEED if sampling.seed is None else sampling.seed % RANDOM_SEED


def refuse(sampling: Sampling, peer: str, *names: str) -> None:
    """Raise ConfigError where `peer` would have to ignore one of the settings `names`."""
    default = Sampling()
    for name in names:
        value = getattr(sampling, name)
        if value != getattr(default, name):
            raise ConfigError(f"{peer} has no {name}, got {value!r}; leave that setting or that peer out")


def same_words(sampling: Sampling) -> dict[str, Any]:
    """The settings that llama.cpp's server and llama-cpp-python call as we do."""
    names = (
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "frequency_penalty",
        "presence_penalty",
    )
    return {name: getattr(sampling, name) for name in names}


def server_sampling(sampling: Sampling) -> dict[str, Any]:
    """The fields of a llama-server request; temperature 0 makes it choose the likeliest token."""
    biases = ((t, bias if math.isfinite(bias) else False) for t, bias in sampling.logit_bias.items())
    return {
        "temperature": sampling.temperature,
        **same_words(sampling),
        "repeat_last_n": sampling.penalty_last_n,
        "logit_bias": [list(pair) for pair in biases],  # false forbids a token
        "seed": llama_seed(sampling),
    }
