"""llama-bench's figures, and every way not to get them."""

import json
from pathlib import Path

import pytest

from orchestrator.bench.peers.llama_bench import BenchSpeed, llama_bench
from orchestrator.errors import BenchError, ConfigError
from tests.orchestrator.bench import standins

MODEL = Path("model.gguf")
ROW = {"n_gen": 8, "avg_ts": 50.5, "stddev_ts": 0.5, "samples_ts": [50.0, 51.0]}


def tool(folder, source):
    return standins.program(folder / "llama-bench", source)


def printing(folder, rows):
    return tool(folder, f"import sys; print('warming up', file=sys.stderr); print({json.dumps(rows)!r})")


def test_mean_deviation_and_samples_are_read(tmp_path):
    speed = llama_bench(printing(tmp_path, [ROW]), MODEL, n_threads=1)
    assert speed == BenchSpeed(50.5, 0.5, (50.0, 51.0))


def test_the_command_line_names_what_is_timed(tmp_path):
    binary = tool(tmp_path, "import sys; sys.exit(' '.join(sys.argv[1:]))")
    with pytest.raises(BenchError, match="-n 0 -p 32 -r 2 -d 128 -t 3 -fa on") as failure:
        llama_bench(
            binary, MODEL, n_threads=3, n_gen=0, n_prompt=32, repeats=2, depth=128, flags=["-fa", "on"]
        )
    assert "-m model.gguf -o json" in str(failure.value)


def test_a_failure_shows_code_and_log(tmp_path):
    binary = tool(tmp_path, "import sys; print('bad model', file=sys.stderr); sys.exit(4)")
    with pytest.raises(BenchError, match=r"(?s)ended with code 4.*bad model"):
        llama_bench(binary, MODEL, n_threads=1)


def test_one_that_hangs_is_given_up(tmp_path):
    with pytest.raises(BenchError, match=r"more than 0.3 s"):
        llama_bench(tool(tmp_path, "import time; time.sleep(20)"), MODEL, n_threads=1, timeout=0.3)


def test_no_binary_is_told_by_its_path(tmp_path):
    with pytest.raises(BenchError, match=r"cannot start .*absent"):
        llama_bench(tmp_path / "absent", MODEL, n_threads=1)


@pytest.mark.parametrize("output", [[], [ROW, ROW], [{"avg_ts": 1.0}], {"avg_ts": 1.0}])
def test_output_that_is_not_one_row_is_an_error(tmp_path, output):
    with pytest.raises(BenchError, match="not one JSON row"):
        llama_bench(printing(tmp_path, output), MODEL, n_threads=1)


@pytest.mark.parametrize("sizes", [{}, {"n_gen": 0}, {"n_gen": -1, "n_prompt": 4}, {"repeats": 0}])
def test_sizes_that_time_nothing_or_two_things_are_refused(tmp_path, sizes):
    sizes = sizes or {"n_gen": 4, "n_prompt": 4}
    with pytest.raises(ConfigError):
        llama_bench(printing(tmp_path, [ROW]), MODEL, n_threads=1, **sizes)
