import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.suffix.file import FORMAT
from orchestrator.suffix.references import References

DOCUMENTS = {"manual": [1, 2, 3, 4, 5], "empty": [], "notes": [7, 2, 3, 9]}


def read(references, text):
    cursor = references.cursor()
    for token in text:
        cursor.advance(token)
    return cursor


def parts(references):
    automaton = references.automaton
    return [
        references.names,
        *(
            getattr(automaton, name)
            for name in ("tokens", "length", "link", "next", "recent", "count", "last")
        ),
    ]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "references.npz"
    References.of(DOCUMENTS, "vocab").save(path)
    return path


def change(path, **arrays):
    """The same file with some arrays replaced."""
    with np.load(path) as loaded:
        kept = dict(loaded)
    with path.open("wb") as file:
        np.savez(file, **{**kept, **arrays})


def header(**changes):
    fields = {"format": FORMAT, "fingerprint": "vocab", "names": list(DOCUMENTS), **changes}
    return np.frombuffer(json.dumps(fields).encode(), np.uint8)


def test_a_place_in_the_references_has_a_name_and_an_offset():
    references = References.of(DOCUMENTS)
    cursor = read(references, [8, 1, 2, 3])
    (match, shorter) = cursor.matches(8)
    assert (match.length, references.locate(match.end)) == (3, ("manual", 3))
    assert (shorter.length, references.locate(shorter.end)) == (2, ("notes", 3))


@given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 3), max_size=6), max_size=5))
def test_every_token_is_located_where_it_was_given(documents):
    references = References.of(documents)
    located = [
        (*references.locate(i), token) for i, token in enumerate(references.automaton.tokens) if token >= 0
    ]
    assert located == [(name, i, token) for name, ids in documents.items() for i, token in enumerate(ids)]
    assert references.n_tokens == len(located)


@pytest.mark.parametrize("position", [-1, 12])
def test_a_place_outside_the_references_is_an_error(position):
    with pytest.raises(ConfigError, match=f"no token {position}; positions go from 0 to 11"):
        References.of(DOCUMENTS).locate(position)


def test_no_match_goes_from_one_document_into_the_next():
    references = References.of({"a": [1, 2], "b": [3, 4]})
    cursor = read(references, [1, 2, 3])
    assert (cursor.length, references.locate(next(cursor.matches(8)).end)) == (1, ("b", 1))
    assert list(read(references, [1, 2]).matches(8)) == []


def test_counts_are_exact():
    references = References.of({"a": [1, 2, 1, 2, 1], "b": [1, 3]})
    cursor = read(references, [1])
    assert [(c.token, c.times) for c in references.automaton.continuations(cursor.state)] == [(2, 2), (3, 1)]
    assert references.automaton.count[cursor.state] == 4


def test_requests_do_not_disturb_each_other():
    references = References.of(DOCUMENTS)
    one, other = references.cursor(), references.cursor()
    one.advance(1)
    other.advance(7)
    one.advance(2)
    assert (one.length, other.length) == (2, 1)


def test_a_negative_token_in_a_document_is_an_error():
    with pytest.raises(ConfigError, match="reference 'a' holds token -1"):
        References.of({"a": [1, -1]})


def test_texts_are_tokenized_and_those_of_a_sequence_numbered():
    def encode(text):
        return [ord(character) for character in text]

    assert References.from_texts(["ab", "c"], encode).names == ("0", "1")
    named = References.from_texts({"x": "ab", "y": "c"}, encode)
    assert named.names == ("x", "y")
    assert [token for token in named.automaton.tokens if token >= 0] == [97, 98, 99]


def test_one_text_in_place_of_several_is_an_error():
    with pytest.raises(ConfigError, match=r"give \[text\] for a single one"):
        References.from_texts("ab", lambda text: [0])


@given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 2), max_size=20), max_size=4))
def test_what_is_loaded_is_what_was_saved(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("saved") / "references"
    references = References.of(documents, "vocab")
    references.save(path)
    assert parts(References.load(path, fingerprint="vocab")) == parts(references)


def test_references_for_another_vocabulary_are_refused(saved):
    with pytest.raises(ConfigError, match="made for the vocabulary vocab, this model has other"):
        References.load(saved, fingerprint="other")


def test_references_of_another_format_are_refused(saved):
    change(saved, header=header(format=FORMAT + 1))
    with pytest.raises(ConfigError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        References.load(saved, fingerprint="vocab")


@pytest.mark.parametrize(
    ("bytes_", "says"),
    [
        (np.frombuffer(b"{", np.uint8), "no readable header"),
        (np.frombuffer(b"[]", np.uint8), "no readable header"),
        (header(names=[1]), "no list of texts"),
        (header(names=["manual"]), "do not fit together"),
    ],
)
def test_a_damaged_header_is_refused(saved, bytes_, says):
    change(saved, header=bytes_)
    with pytest.raises(ConfigError, match=says):
        References.load(saved, fingerprint="vocab")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.npz: the references cannot be read"):
        References.load(tmp_path / "nowhere.npz", fingerprint="vocab")


def test_references_that_cannot_be_written_are_an_error_that_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match="no/folder.npz: the references cannot be saved"):
        References.of({}).save(tmp_path / "no" / "folder.npz")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04 half a file", b"\x93NUMPY"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no saved references, or damaged"):
        References.load(path, fingerprint="vocab")


def test_arrays_of_somebody_else_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "several.npz", x=np.zeros(3))
    for name in ("one.npy", "several.npz"):
        with pytest.raises(ConfigError, match="no saved references, or damaged"):
            References.load(tmp_path / name, fingerprint="vocab")


def test_a_truncated_file_is_refused(saved):
    content = saved.read_bytes()
    for n in range(0, len(content), 101):
        saved.write_bytes(content[:n])
        with pytest.raises(ConfigError, match="no saved references, or damaged"):
            References.load(saved, fingerprint="vocab")


def test_a_changed_byte_is_refused_or_changes_nothing(saved):
    content, whole = saved.read_bytes(), parts(References.load(saved, fingerprint="vocab"))
    n_refused = 0
    for i in range(0, len(content), 7):
        saved.write_bytes(content[:i] + bytes([content[i] ^ 0x41]) + content[i + 1 :])
        try:
            assert parts(References.load(saved, fingerprint="vocab")) == whole
        except ConfigError:
            n_refused += 1
    assert n_refused > len(content) // 7 // 2


@pytest.mark.parametrize(
    ("name", "change_it"),
    [
        ("tokens", lambda array: array[:-1]),
        ("link", lambda array: array[:-1]),
        ("link", lambda array: np.maximum(array, 0)),
        ("link", lambda array: array + len(array)),
        ("link", lambda array: np.where(array == 0, len(array) - 1, array)),
        ("length", lambda array: array + 1),
        ("recent", lambda array: array + 100),
        ("count", lambda array: array * 0),
        ("edges", lambda array: array + 1),
        ("edges", lambda array: array - 1),
        ("edge_target", lambda array: array * 0),
        ("edge_target", lambda array: array[1:]),
        ("edge_token", lambda array: array.astype(np.int64)),
        ("edge_token", lambda array: array[None]),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(saved, name, change_it):
    with np.load(saved) as loaded:
        array = loaded[name]
    change(saved, **{name: change_it(array)})
    with pytest.raises(ConfigError, match="do not fit together"):
        References.load(saved, fingerprint="vocab")
