"""Claims about a file of answers: what was added stays, and a run killed anywhere goes on."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.errors import AdapterError
from heads.training.answers import Answer, AnswerFile, key_of

ANSWERS = [Answer.to([1, 2, 3], [4, 5]), Answer.to([7], []), Answer.to([49_151, 0], [6] * 9)]


def filled(path: Path) -> Path:
    with AnswerFile(path) as file:
        for answer in ANSWERS:
            assert file.add(answer)
    return path


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 150 bytes: the second answer fits in part. Nor may a log that the tests write
    to, which is why this ends within the test."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_answers_come_back_in_order_from_a_file_opened_again(tmp_path: Path) -> None:
    with AnswerFile(filled(tmp_path / "new" / "answers.jsonl")) as file:
        assert list(file) == ANSWERS and len(file) == 3
        assert all(answer.key in file for answer in ANSWERS)
        assert key_of([1, 2]) not in file


def test_killed_at_any_byte_it_goes_on(tmp_path: Path) -> None:
    data = filled(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "cut.jsonl"
    for n in range(len(data) + 1):
        path.write_bytes(data[:n])
        with AnswerFile(path) as file:
            kept = data[:n].count(b"\n")
            assert list(file) == ANSWERS[:kept] and len(file) == kept
            for answer in ANSWERS:
                file.add(answer)
        assert path.read_bytes() == data


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b"9" * 200_000)
    with AnswerFile(path) as file:
        assert list(file) == ANSWERS
    assert path.read_bytes() == whole


def test_an_answer_to_the_same_prompt_is_not_written_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl")
    with AnswerFile(path) as file:
        assert not file.add(Answer.to([1, 2, 3], [9, 9]))
        assert list(file) == ANSWERS


def test_an_iteration_gives_what_was_there_when_it_began(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "answers.jsonl") as file:
        file.add(ANSWERS[0])
        answers = iter(file)
        assert next(answers) == ANSWERS[0]
        file.add(ANSWERS[1])
        assert list(answers) == []
        assert list(file) == ANSWERS[:2]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with full_disk(), AnswerFile(path) as file:
        file.add(ANSWERS[0])
        with pytest.raises(AdapterError, match="the 1 before it are kept. Free some space"):
            file.add(Answer.to(range(60), range(60)))
        assert list(file) == ANSWERS[:1]
        assert file.add(ANSWERS[1])  # there is room for a short one
    with AnswerFile(path) as file:
        assert list(file) == ANSWERS[:2]


def test_a_write_that_ctrl_c_broke_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path) as file:
        file.add(ANSWERS[0])

        def half(data: bytes) -> None:
            file._file.write(data[:20])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(file, "_write", half)
            file.add(ANSWERS[1])
        file.add(ANSWERS[1])
        assert list(file) == ANSWERS[:2]


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"key": "x", "prompt": [1], "answer": [2]}',
        b'{"key": "x", "prompt": [99999999999], "answer": [2]}',
        b'{"prompt": [1], "answer": [2]}',
        b'{"key": "x", "prompt": 1, "answer": null}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = filled(tmp_path / "answers.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(AdapterError, match="line 4 is no answer, or a damaged one"):
        AnswerFile(path)


def test_a_folder_is_no_file_of_answers(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="cannot be opened for answers: Is a directory"):
        AnswerFile(tmp_path)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path), pytest.raises(AdapterError, match="another run is writing to it"):
        AnswerFile(path)
    AnswerFile(path).close()
