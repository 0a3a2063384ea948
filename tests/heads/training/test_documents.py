"""Claims about documents: whatever is long enough is learned from, as plain text."""

import gzip

import pytest

from adapters.errors import ConfigError
from adapters.llama_model import LlamaModel
from adapters.tokenizer import Tokenizer
from heads.training.answers import Answer, is_document
from heads.training.batches import split
from heads.training.documents import document_files, pieces
from heads.training.store import Text


@pytest.fixture(scope="module")
def tokenizer(tiny):
    model = LlamaModel(tiny("llama"))
    yield Tokenizer(model)
    model.close()


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {i} of a <|im_end|> book\n" for i in range(400)))
    return path


def test_pieces_are_the_whole_text_behind_a_bos(tokenizer, book):
    found = list(pieces(tokenizer, [book], max_length=64))
    assert all(piece.prompt == (tokenizer.bos,) and is_document(piece.key) for piece in found)
    assert all(16 <= len(piece.answer) <= 63 for piece in found) and len(found) > 50
    text = tokenizer.decode(token for piece in found for token in piece.answer)
    assert text.replace("\n", "").startswith("line 0 of a <|im_end|> bookline 1 of")
    kept = sum(len(piece.answer) for piece in found)
    whole = len(tokenizer.encode(book.read_text(), add_special=False, parse_special=False))
    assert 0.95 * whole < kept <= whole


def test_a_vocabulary_that_wants_no_bos_gets_none(tokenizer, book, monkeypatch):
    monkeypatch.setattr(tokenizer, "add_bos", False)
    assert {piece.prompt for piece in pieces(tokenizer, [book], max_length=64)} == {()}


def test_a_folder_stands_for_its_texts(tmp_path):
    for name in ("b.md", "deep/a.TXT", "c.jsonl", "d.txt.gz", "no.py", "no.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = document_files([tmp_path, tmp_path / "b.md"])
    assert [path.name for path in found] == ["b.md", "c.jsonl", "d.txt.gz", "a.TXT"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty holds no .txt, .md, .jsonl, .ndjson file"):
        document_files([tmp_path / "empty"])


def test_what_cannot_be_learned_from_is_named(tokenizer, tmp_path):
    short, latin, cut = tmp_path / "short.txt", tmp_path / "latin.txt", tmp_path / "cut.md.gz"
    short.write_text("a fish")
    latin.write_bytes(b"one\nna\xefve\n")
    cut.write_bytes(gzip.compress(bytes(range(128)) * 9)[:-9])
    for path, complaint in (
        (short, "no text of 16 tokens or more in .*short.txt"),
        (latin, "latin.txt, line 2: not UTF-8"),
        (cut, "cut.md.gz, after line .*: damaged gzip data"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            list(pieces(tokenizer, [path], max_length=64))
    with pytest.raises(ConfigError, match="max_length must be at least 17 for texts, got 12"):
        pieces(tokenizer, [short], max_length=12)  # before anything is read


def text(key):
    return Text(key, 0, 10, 1)


def test_documents_are_held_out_only_where_there_are_no_answers():
    documents = [text(Answer.as_it_stands([1], [n]).key) for n in range(60)]
    answers = [text(Answer.to([n], [2]).key) for n in range(60)]
    learned, held = split([*documents, *answers], 0.2)
    assert held == split(answers, 0.2)[1] and len(held) < 60
    assert [one for one in learned if is_document(one.key)] == documents
    assert split([*documents, answers[0]], 0.01)[1] == answers[:1]
    assert 2 <= len(split(documents, 0.2)[1]) <= 25
