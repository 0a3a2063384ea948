"""Claims about several processes: together they come to what one comes to, and all end as one."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from adapters.errors import ConfigError, HeadError
from heads.training.device import device_of
from heads.training.ranks import ALONE, Ranks
from heads.training.trainer import Trainer, TrainSettings
from tests.heads.training.test_trainer import SETTINGS, filled, objective, run, vars_of, weights

# some steps have a single text, so that a process goes without
TWO = TrainSettings(**{**vars_of(SETTINGS), "epochs": 2, "batch_tokens": 40})


def in_two(work, folder):
    """Run work(ranks, folder) in two processes that know of each other."""
    processes.spawn(one_of_two, (work, folder), nprocs=2)


def one_of_two(rank, work, folder):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    try:
        work(Ranks(rank, 2, rank), folder)
    finally:
        dist.destroy_process_group()
    # threads that are left could abort the process while the interpreter ends
    assert not [name for name in thread_names() if "gloo" in name]


def thread_names():
    return [task.joinpath("comm").read_text() for task in Path("/proc/self/task").glob("*")]


def stop_and_go_on(ranks, folder):
    assert ranks.first_does(os.getpid) == ranks.from_first(os.getpid())
    assert ranks.any(False, ranks.rank == 1) == [False, True]
    ranks.first_does(lambda: filled(folder / "features", objective().network) and None)
    made, lines = objective(), []
    store = filled(folder / "features", made.network)
    stops = iter([False] * 4 + [ranks.rank == 1])  # one of them is told to stop
    first = Trainer(made, store, folder / "run", TWO, lines.append, ranks=ranks)
    assert first.run(lambda: next(stops)).step == 5
    made = objective()
    second = Trainer(made, store, folder / "run", TWO, lines.append, ranks=ranks)
    second.run()
    assert bool(lines) == ranks.first  # one speaks for all
    torch.save({"weights": weights(second), "history": second.progress.history}, folder / f"{ranks.rank}.pt")


def fail_in_the_first(ranks, _folder):
    if ranks.first:
        with pytest.raises(ZeroDivisionError):
            ranks.first_does(lambda: 1 // 0)
    else:
        with pytest.raises(HeadError, match="process 1 ends because the first one failed"):
            ranks.first_does(lambda: 1 // 0)


def test_two_processes_come_to_what_one_comes_to(tmp_path):
    alone = run(tmp_path / "alone", TWO)
    in_two(stop_and_go_on, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first["weights"], second["weights"]) and first["history"] == second["history"]
    assert torch.allclose(first["weights"], weights(alone), rtol=0, atol=1e-5)
    assert [line["step"] for line in first["history"]] == [line["step"] for line in alone.progress.history]
    assert (tmp_path / "run" / "best.pt").exists()


def test_what_fails_in_the_first_process_ends_all(tmp_path):
    in_two(fail_in_the_first, tmp_path)


def test_a_process_alone_waits_for_nobody():
    assert ALONE.first and ALONE.share([1, 2, 3]) == [1, 2, 3]
    assert ALONE.any(False, True) == [False, True] and ALONE.from_first("a") == "a"
    assert ALONE.first_does(lambda: None) is None


def test_ranks_divide_without_rest_or_overlap():
    shares = [Ranks(rank, 3).share(range(8)) for rank in range(3)]
    assert sorted(sum(shares, [])) == list(range(8)) and max(map(len, shares)) == 3


def test_a_device_that_is_not_there_is_named():
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device must be auto or one of cpu, cuda, mps, got 'tpu'"):
        device_of("tpu")
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(
        ConfigError, match=f"device {missing}: this PyTorch .* has none here; use auto or cpu"
    ):
        device_of(missing)
