"""Read what was written in some layout, and compare it with what it was written from."""

import pytest
import torch

from adapters.errors import HeadError
from heads.checkpoint import read_head
from heads.spec import Head, Spec
from tests.heads.layouts import Tensors, Written


def read(written: Written) -> Head:
    return read_head(*written, "here")


def error(written: Written) -> str:
    with pytest.raises(HeadError, match=r"\Ahere: ") as caught:
        read(written)
    return str(caught.value)


def check(written: Written, spec: Spec, made: Tensors) -> tuple[str, ...]:
    """Reads back as `spec` and exactly the tensors `made`; what was noted."""
    head = read(written)
    assert head.spec == spec and head.source == "here"
    assert set(head.tensors) == set(made)
    for name, tensor in made.items():
        assert torch.equal(head.tensors[name], tensor), name
        assert head.tensors[name].dtype == tensor.dtype
    return head.notes
