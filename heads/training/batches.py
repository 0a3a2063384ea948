"""Batches out of a feature store: texts of about the same length together, in an order that a seed makes.

Knows which texts are held out: a text's own key decides, so that it stays out however many texts come later.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
import torch

from heads.training.answers import is_document
from heads.training.store import FeatureStore, Text
from heads.training.unroll import Batch

_MULTIPLE = 32


def is_held_out(key: str, share: float) -> bool:
    """Whether the text of this key is for measuring only."""
    return _place(key) < share


def _place(key: str) -> float:
    """A number between 0 and 1 that the key makes."""
    return int.from_bytes(sha256(key.encode()).digest()[:4]) / 2**32


def split(texts: Sequence[Text], share: float) -> tuple[list[Text], list[Text]]:
    """(texts to learn from, texts held out); of very few texts one is held out whatever the share.

    Where there are answers, only answers are held out: what is drafted are answers, not documents.
    """
    judges = [text for text in texts if not is_document(text.key)] or texts
    held = [text for text in judges if is_held_out(text.key, share)]
    if not held and judges:
        held = [min(judges, key=lambda text: _place(text.key))]
    out = {text.key for text in held}
    return [text for text in texts if text.key not in out], held


def batched(texts: Sequence[Text], n_tokens: int, seed: int | None) -> list[list[Text]]:
    """Groups of about `n_tokens` tokens, padding included; seed: of their order, None = by length."""
    generator = torch.Generator().manual_seed(seed or 0)
    # equal lengths side by side, but not always the same neighbours
    jitter = torch.rand(len(texts), generator=generator) * 32 if seed is not None else torch.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda i: texts[i].n + float(jitter[i]))
    groups: list[list[Text]] = []
    for i in order:
        longest = padded([*groups[-1], texts[i]]) if groups else 0
        if not groups or longest * (len(groups[-1]) + 1) > n_tokens:
            groups.append([])
        groups[-1].append(texts[i])
    if seed is not None:
        groups = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
    return groups


def padded(texts: Iterable[Text]) -> int:
    """Tokens that each of these takes in a batch: whole multiples, so that few shapes come about, as PyTorch
    makes code for each on CPUs."""
    return -(-max(text.n for text in texts) // _MULTIPLE) * _MULTIPLE


def load(store: FeatureStore, texts: Sequence[Text], *, prompt_share: float = 1.0, seed: int = 0) -> Batch:
    """The texts' tokens and rows, padded at their ends with what does not count.

    prompt_share: how much of the prompts teaches, too (the target has a law of their tokens as of any
    others); seed: of which tokens these are.
    """
    longest = padded(texts)
    tokens = torch.zeros(len(texts), longest, dtype=torch.int64)
    rows = torch.zeros(len(texts), longest, store.n_features + store.n_last, dtype=torch.bfloat16)
    counts, taught = (torch.zeros(len(texts), longest, dtype=torch.bool) for _ in range(2))
    for place, text in enumerate(texts):
        tokens[place, : text.n], rows[place, : text.n] = store.read(text)
        counts[place, text.n_prompt : text.n] = True
        chosen = np.random.default_rng([seed % 2**64, text.start]).random(text.n_prompt) < prompt_share
        taught[place, : text.n_prompt] = torch.from_numpy(chosen)
        taught[place, text.n_prompt : text.n] = True
    features, last = torch.split(rows, [store.n_features, store.n_last], dim=-1)
    return Batch(tokens, features, last, counts, taught)
