"""Which of the target's tokens the rows of a head's projection stand for.

Knows the three ways in which files say it (d2t, t2d, token_map); makes absolute ids of all of them.
"""

import torch
from torch import Tensor

from heads.reading import Reading


def read_target_ids(reading: Reading, n_rows: int, n_vocab: int | None) -> Tensor | None:
    """Distinct ids of the target, None where they are 0, 1, 2, ... of the whole vocabulary.

    n_rows: of the head's projection; a token_map may be shorter, and then names the rows to keep. n_vocab:
    tokens of the target, as far as a tensor tells.
    """
    chosen, n_marks = _chosen(reading)
    n_vocab = n_vocab if n_marks is None else n_marks
    offsets, absolute = reading.ids("d2t"), reading.ids("token_map")
    if offsets is not None:
        _check_length(reading, "d2t", len(offsets), n_rows)
        ids = _from_offsets(reading, offsets, chosen, n_vocab)
    elif absolute is not None:
        _check_length(reading, "token_map", len(absolute), n_rows, shorter=True)
        _check(reading, "token_map", absolute, n_vocab if len(absolute) == n_rows else n_rows)
        ids = absolute
    elif chosen is not None and len(chosen) == n_rows != n_marks:
        reading.notes.append("no d2t: its tokens are those that t2d marks")
        ids = chosen
    else:
        return None
    is_whole = len(ids) == n_vocab and torch.equal(ids, torch.arange(len(ids)))
    return None if is_whole else ids


def _chosen(reading: Reading) -> tuple[Tensor | None, int | None]:
    """The tokens that t2d marks, and the length of the target's vocabulary."""
    marks = reading.left.pop("t2d", None)
    if marks is None or marks.dim() != 1:
        return None, None
    return marks.to(torch.bool).nonzero().flatten(), len(marks)


def _from_offsets(reading: Reading, offsets: Tensor, chosen: Tensor | None, n_vocab: int | None) -> Tensor:
    """d2t as distances from the head's ids, its published meaning; as ids where only that can be meant."""
    shifted = torch.arange(len(offsets)) + offsets
    if chosen is not None and torch.equal(shifted.sort().values, chosen):
        return shifted
    if chosen is not None and torch.equal(offsets.sort().values, chosen):
        return _absolute(reading, offsets)
    if _problem(shifted, n_vocab) is None:
        if chosen is not None:
            reading.notes.append("t2d does not mark the tokens of d2t; d2t is used")
        return shifted
    rises = bool((offsets[1:] > offsets[:-1]).all())
    if rises and _problem(offsets, n_vocab) is None:
        return _absolute(reading, offsets)
    _check(reading, "d2t", shifted, n_vocab)
    return shifted


def _absolute(reading: Reading, ids: Tensor) -> Tensor:
    reading.notes.append("d2t holds the target's ids themselves, not distances")
    return ids


def _check_length(reading: Reading, name: str, n: int, n_rows: int, *, shorter: bool = False) -> None:
    if n == 0 or n > n_rows or (n < n_rows and not shorter):
        reading.fail(f"{name} names {n} tokens for a projection of {n_rows} rows; fetch the file again")


def _check(reading: Reading, name: str, ids: Tensor, n_vocab: int | None) -> None:
    problem = _problem(ids, n_vocab)
    if problem is not None:
        reading.fail(f"{name} {problem}; fetch the file again, or use another head")


def _problem(ids: Tensor, n_vocab: int | None) -> str | None:
    """What is wrong with a list of distinct ids of the target, if anything."""
    end = int(ids.max()) + 1 if n_vocab is None else n_vocab
    outside = ids[(ids < 0) | (ids >= end)]
    if len(outside):
        return f"names token {int(outside[0])}, outside of the target's vocabulary (0 to {end - 1})"
    ordered = ids.sort().values
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return f"names token {int(twice[0])} more than once" if len(twice) else None
