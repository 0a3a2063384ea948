"""The tokens that a head may draft, where it has no vocabulary of its own: fewer rows, cheaper steps.

FR-Spec (Zhao et al. 2025): most of what is said is said with few tokens. Its published lists can be used.
"""

import json
import pickle
from pathlib import Path

import torch
from torch import Tensor

from adapters.errors import ConfigError


def frequent_tokens(given: int | str, n_vocab: int) -> Tensor:
    """Target ids, `[n]` int64, ascending: the first `given` ones, as byte-pair vocabularies begin with what
    is frequent, or those in a file (a JSON list, or what torch.save made of a list or a tensor)."""
    if isinstance(given, int):
        return torch.arange(min(given, n_vocab))
    path = Path(given).expanduser()
    try:
        found = (
            torch.load(path, weights_only=True)
            if path.suffix == ".pt"
            else json.loads(path.read_text("utf-8"))
        )
        ids: Tensor = torch.unique(torch.as_tensor(found, dtype=torch.int64))
    except (OSError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(f"head_vocab: {path} is no list of token ids ({error})") from error
    if len(ids) == 0 or int(ids[0]) < 0 or int(ids[-1]) >= n_vocab:
        raise ConfigError(f"head_vocab: {path} must name tokens between 0 and {n_vocab - 1}, one at least")
    return ids
