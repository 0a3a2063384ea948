"""Claims about a run: it learns, it goes on where it was killed to the same result, and it loses nothing."""

import json

import pytest
import torch

from adapters.errors import ConfigError, HeadError
from heads.network import network_of
from heads.spec import Head
from heads.training import trainer as trainer_module
from heads.training.objective import Eagle3Objective, aims_of
from heads.training.store import FeatureStore
from heads.training.trainer import Trainer, TrainSettings
from tests.heads.random_heads import N_VOCAB, random_eagle

SETTINGS = TrainSettings(epochs=5, batch_tokens=120, lr=5e-3, n_steps=2, held_out=0.3, patience=9)


def texts(n=30, seed=0):
    """Texts in which the next token follows from the one before: the features say which."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(n):
        tokens = [int(torch.randint(N_VOCAB, (1,), generator=generator))]
        while len(tokens) < 16:
            tokens.append((3 * tokens[-1] + 1) % N_VOCAB)
        yield f"text {number}", tokens


def filled(folder, network):
    spec = network.spec
    store = FeatureStore(folder, spec.n_taps * spec.hidden_size, spec.hidden_size, {"target": "t"})
    code = torch.randn(N_VOCAB, spec.n_taps * spec.hidden_size, generator=torch.Generator().manual_seed(1))
    for key, tokens in texts() if len(store) == 0 else ():
        following = [(3 * token + 1) % N_VOCAB for token in tokens]
        last = 3 * torch.nn.functional.one_hot(torch.tensor(following), spec.hidden_size)
        store.add(key, 2, tokens, torch.cat([code[tokens], last], dim=1).to(torch.bfloat16))
    return store


def objective():
    torch.manual_seed(0)
    import numpy as np

    spec, tensors = random_eagle(np.random.default_rng(0), hidden_size=48, own_embedding=True, cut=False)
    head = Head(spec, {name: torch.from_numpy(value) for name, value in tensors.items()}, "random")
    network = network_of(head, None).train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    projection = 4 * torch.eye(N_VOCAB, spec.hidden_size)
    aims = aims_of(projection.to(torch.bfloat16), torch.arange(N_VOCAB))
    return Eagle3Objective(network, aims, SETTINGS.n_steps)


def run(folder, settings=SETTINGS, **options):
    made = objective()
    store = filled(folder / "features", made.network)
    trainer = Trainer(made, store, folder / "run", settings)
    trainer.run(**options)
    return trainer


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.objective.network.parameters()])


def test_a_run_learns_and_keeps_the_best(tmp_path):
    trainer = run(tmp_path)
    taus = [line["tau"] for line in trainer.progress.history]
    assert len(taus) == 1 + SETTINGS.epochs
    assert taus[-1] > taus[0] + 0.5
    assert trainer.progress.best == max(taus) and (tmp_path / "run" / "best.pt").exists()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["tau"] for line in lines if "tau" in line] == taus


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path):
    whole = run(tmp_path / "whole")
    stops = iter([False] * 4 + [True])
    first = run(tmp_path / "parts", should_stop=lambda: next(stops))
    assert 0 < first.progress.step < whole.progress.step
    second = run(tmp_path / "parts")
    assert second.progress.step == whole.progress.step
    assert torch.equal(weights(second), weights(whole))
    assert second.progress.history == whole.progress.history


@pytest.mark.parametrize("name, value", [("lr", 1e-3), ("decay", 0.5), ("prompt_share", 0.5)])
def test_other_settings_need_another_folder(tmp_path, name, value):
    run(tmp_path)
    with pytest.raises(ConfigError, match=rf"other settings \({name}\); give those, or another folder"):
        run(tmp_path, TrainSettings(**{**vars_of(SETTINGS), name: value}))


def test_when_a_run_ends_may_change(tmp_path):
    done = run(tmp_path).progress
    again = run(tmp_path, TrainSettings(**{**vars_of(SETTINGS), "patience": 1, "checkpoint_minutes": 1.0}))
    assert again.progress == done


def vars_of(settings):
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_it_ends_when_nothing_gets_better(tmp_path):
    settings = TrainSettings(**{**vars_of(SETTINGS), "epochs": 40, "lr": 1e-12, "patience": 2})
    assert run(tmp_path, settings).progress.epoch == 2


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_checkpoint(tmp_path):
    made = objective()
    store = filled(tmp_path / "features", made.network)
    trainer = Trainer(made, store, tmp_path / "run", SETTINGS)
    trainer._save()
    with torch.no_grad():
        made.network.fc.weight.fill_(float("nan"))
    with pytest.raises(HeadError, match="not a number; the last checkpoint .* is kept"):
        trainer.run()
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in kept["network"].values())


def test_a_device_that_is_full_ends_it_and_says_what_is_smaller(tmp_path, monkeypatch):
    made = objective()
    trainer = Trainer(made, filled(tmp_path / "features", made.network), tmp_path / "run", SETTINGS)

    def full(_batch):
        raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")

    monkeypatch.setattr(trainer, "_step", full)
    with pytest.raises(HeadError, match="cpu: no room for steps of 120 tokens; .* fewer --batch-tokens"):
        trainer.run()


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    trainer = run(tmp_path)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    def full(*_arguments):
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos: No space left on device")

    monkeypatch.setattr(trainer_module.torch, "save", full)
    with pytest.raises(HeadError, match="the one before is kept: make room"):
        trainer._save()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.partial"))


def test_too_few_texts_are_said_to_be_too_few(tmp_path):
    made = objective()
    spec = made.network.spec
    store = FeatureStore(tmp_path / "f", spec.n_taps * spec.hidden_size, spec.hidden_size, {})
    with pytest.raises(ConfigError, match="0 texts are too few"):
        Trainer(made, store, tmp_path / "run", SETTINGS)
