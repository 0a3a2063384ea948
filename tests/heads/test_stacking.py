"""Joining what was laid out copies nothing, and giving pages back loses nothing."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file

from heads.stacking import copied, give_back, laid_out, on_top
from heads.tensor_files import read_tensors

CPU = torch.device("cpu")


def mapped(folder: Path, n_rows: int = 4096) -> torch.Tensor:
    """Eight megabytes of a file."""
    save_file({"a": torch.arange(n_rows * 512).view(n_rows, 512)}, folder / "a.safetensors")
    return read_tensors(folder / "a.safetensors")["a"]


def parts() -> list[torch.Tensor]:
    return [torch.full((n, 3), float(n)) for n in (4, 1, 2)]


def test_what_was_laid_out_is_joined_without_a_copy() -> None:
    laid = laid_out(parts(), torch.float64, CPU)
    whole = on_top(laid)
    assert whole.data_ptr() == laid[0].data_ptr()
    assert torch.equal(whole, torch.cat(parts()).double())


@pytest.mark.parametrize("chosen", [[0, 1], [1, 2], [1, 0, 2], [0, 2]], ids=str)
def test_some_of_it_or_another_order_is_joined_by_a_copy(chosen: list[int]) -> None:
    laid = laid_out(parts(), torch.float32, CPU)
    found = [laid[one] for one in chosen]
    whole = on_top(found)
    assert torch.equal(whole, torch.cat(found))
    assert whole.data_ptr() not in [part.data_ptr() for part in laid]


def test_a_single_matrix_is_itself() -> None:
    (one,) = laid_out(parts()[:1], torch.float32, CPU)
    assert on_top([one]) is one


@pytest.mark.parametrize("stretch", [1, 5000, 10**9])
def test_a_copy_in_stretches_is_whole(stretch: int, tmp_path: Path) -> None:
    tensor = mapped(tmp_path, 50)
    with patch("heads.stacking._STRETCH", stretch):
        made = copied(tensor, torch.float64, CPU)
    assert torch.equal(made, torch.arange(50 * 512).view(50, 512).double())


def test_what_is_right_already_is_not_copied() -> None:
    tensor = torch.ones(3)
    assert copied(tensor, torch.float32, CPU) is tensor


def test_a_file_is_read_again_after_its_pages_were_given_back(tmp_path: Path) -> None:
    tensor = mapped(tmp_path)
    expected = tensor.clone()
    give_back(tensor)
    assert torch.equal(tensor, expected)


def test_what_was_written_into_a_mapped_tensor_stays(tmp_path: Path) -> None:
    tensor = mapped(tmp_path)
    tensor[1000] = -1
    give_back(tensor)
    assert (tensor[1000] == -1).all() and tensor[1001, 0] == 1001 * 512


@pytest.mark.parametrize("shared", [False, True])
def test_memory_of_no_file_stays(shared: bool) -> None:
    tensor = torch.ones(1000, 4096)
    give_back(tensor.share_memory_() if shared else tensor)
    assert (tensor == 1).all()
