"""Claims about stored features: what was added is read back, and a kill costs the text in hand."""

import pytest
import torch

from adapters.errors import ConfigError, HeadError
from heads.training.batches import batched, is_held_out, load, split
from heads.training.store import FeatureStore


def opened(folder, **meta):
    return FeatureStore(folder, 4, 2, {"target": "t", **meta})


def rows(n, seed=0):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def filled(folder, lengths=(3, 5, 4)):
    store = opened(folder)
    for number, n in enumerate(lengths):
        store.add(f"key {number}", 1, list(range(number, number + n)), rows(n, number))
    return store


def test_what_was_added_is_read_back_by_another_process(tmp_path):
    filled(tmp_path)
    store = opened(tmp_path)
    assert (len(store), store.n_tokens, "key 1" in store, "key 9" in store) == (3, 12, True, False)
    tokens, found = store.read(store.texts[1])
    assert tokens.tolist() == [1, 2, 3, 4, 5] and torch.equal(found, rows(5, 1))
    assert [tokens.tolist() for _, tokens in store.tokens()][2] == [2, 3, 4, 5]


@pytest.mark.parametrize("torn", ["index.jsonl", "rows.bin", "tokens.bin"])
def test_a_kill_between_two_writes_costs_one_text(tmp_path, torn):
    filled(tmp_path)
    with (tmp_path / torn).open("ab") as file:
        file.write(b'{"key": "ke')
    store = opened(tmp_path)
    assert len(store) == 3
    store.add("key 3", 1, [9, 9], rows(2, 9))
    store = opened(tmp_path)
    assert len(store) == 4 and torch.equal(store.read(store.texts[3])[1], rows(2, 9))


def test_files_that_are_too_short_are_refused(tmp_path):
    filled(tmp_path)
    (tmp_path / "rows.bin").write_bytes(b"")
    with pytest.raises(HeadError, match="shorter than its index says; delete"):
        opened(tmp_path)


def test_features_of_another_target_need_another_folder(tmp_path):
    filled(tmp_path)
    with pytest.raises(ConfigError, match="of another target"):
        opened(tmp_path, taps=[1])


def test_a_full_disk_keeps_what_is_there(tmp_path):
    store = filled(tmp_path)

    def full(_name, _data):
        raise OSError(28, "No space left on device")

    store._append = full
    with pytest.raises(HeadError, match="3 texts are kept: make room"):
        store.add("key 3", 1, [1], rows(1))
    assert len(store) == 3 and "key 3" not in store


def test_a_batch_is_padded_and_only_answers_count(tmp_path):
    store = filled(tmp_path)
    batch = load(store, store.texts)
    shapes = [tuple(part.shape) for part in (batch.tokens, batch.features, batch.last)]
    assert shapes == [(3, 32), (3, 32, 4), (3, 32, 2)]  # 5 tokens at most
    assert not batch.counts[:, 5:].any() and not batch.taught[:, 5:].any()
    assert batch.counts[:, :5].tolist() == [
        [False, True, True, False, False],
        [False, True, True, True, True],
        [False, True, True, True, False],
    ]
    assert batch.taught[:, :5].tolist() == [
        [True, True, True, False, False],
        [True, True, True, True, True],
        [True, True, True, True, False],
    ]
    assert load(store, store.texts, prompt_share=0.0).taught.equal(batch.counts)


def test_of_prompts_a_share_is_learned_others_with_each_seed_and_of_answers_all(tmp_path):
    store = opened(tmp_path)
    for key, n in (("one", 400), ("two", 300)):
        store.add(key, n - 50, list(range(n)), rows(n))
    batches = [load(store, store.texts, prompt_share=0.25, seed=seed) for seed in (0, 0, -1)]
    answers = batches[0].counts
    in_prompts = [batch.taught & ~answers for batch in batches]
    n_prompt = sum(text.n_prompt for text in store.texts)
    assert all((batch.taught & answers).equal(answers) for batch in batches)
    assert all(0.15 * n_prompt < int(rows.sum()) < 0.35 * n_prompt for rows in in_prompts)
    assert in_prompts[0].equal(in_prompts[1]) and not in_prompts[0].equal(in_prompts[2])


def test_batches_hold_every_text_once_in_an_order_that_the_seed_makes(tmp_path):
    store = filled(tmp_path, lengths=[2 + i % 7 for i in range(40)])
    groups = batched(store.texts, 100, seed=1)
    assert sorted(text.key for group in groups for text in group) == sorted(text.key for text in store.texts)
    assert all(32 * len(group) <= 100 for group in groups)  # each is padded to 32 tokens
    assert groups == batched(store.texts, 100, seed=1) != batched(store.texts, 100, seed=2)


def test_who_is_held_out_stays_so_when_texts_are_added(tmp_path):
    store = filled(tmp_path, lengths=[2] * 60)
    _, few = split(store.texts[:30], 0.2)
    _, more = split(store.texts, 0.2)
    assert {text.key for text in few} <= {text.key for text in more}
    assert 2 <= len(more) <= 25 and all(is_held_out(text.key, 0.2) for text in more)
