"""Claims about features that are on no disk: training does not see the difference, and nothing is stored."""

import torch

from heads.training.live import LiveFeatures
from heads.training.trainer import Trainer
from tests.heads.training.test_trainer import SETTINGS, filled, objective, run, weights


def live(folder, stored):
    """The texts of `stored`, whose rows are computed when they are read."""
    by_tokens = {tuple(tokens.tolist()): text for text, tokens in stored.tokens()}
    store = LiveFeatures(
        folder,
        stored.n_features,
        stored.n_last,
        {"target": "t"},
        lambda tokens: stored.read(by_tokens[tuple(tokens)])[1],
    )
    for text, tokens in stored.tokens() if len(store) == 0 else ():
        store.add_text(text.key, text.n_prompt, tokens.tolist())
    return store


def trained(folder, **options):
    made = objective()
    stored = filled(folder / "elsewhere", made.network)
    trainer = Trainer(made, live(folder / "texts", stored), folder / "run", SETTINGS)
    trainer.run(**options)
    return trainer


def test_a_run_without_stored_rows_comes_to_the_same_result_and_goes_on_to_it(tmp_path):
    whole = run(tmp_path / "stored")
    assert torch.equal(weights(trained(tmp_path / "live")), weights(whole))
    stops = iter([False] * 4 + [True])
    trained(tmp_path / "parts", should_stop=lambda: next(stops))
    second = trained(tmp_path / "parts")
    assert torch.equal(weights(second), weights(whole))
    assert second.progress.history == whole.progress.history


def test_only_tokens_are_on_the_disk(tmp_path):
    stored = filled(tmp_path / "stored", objective().network)
    store = live(tmp_path / "live", stored)
    store.add("another", 1, [3, 4], stored.read(stored.texts[0])[1][:2])  # as to a store like any other
    assert store.n_bytes == 4 * store.n_tokens and len(store) == len(stored) + 1
    assert {path.name for path in (tmp_path / "live").iterdir()} == {"meta.json", "index.jsonl", "tokens.bin"}
    again = live(tmp_path / "live", stored)
    assert again.texts == store.texts
    assert torch.equal(again.read(again.texts[4])[1], stored.read(stored.texts[4])[1])
