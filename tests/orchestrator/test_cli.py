"""Claims about the program: help, errors, exit codes, log lines, and how it leaves."""

import io
import logging
import subprocess
import sys
from importlib import metadata

import click
import pytest

from orchestrator.cli import main
from orchestrator.cli.output import Bar
from orchestrator.sampling import Sampling
from tests.cli_program import ENDLESS, GREEDY, PROGRAM, run, start

COMMANDS = sorted(main.commands)


@pytest.fixture
def model(tiny):
    return tiny("llama")


def test_the_version_is_the_package_s_also_as_a_module():
    expected = f"pilotfish {metadata.version('pilotfish')}\n"
    assert run("--version").stdout == expected
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (expected, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_fits_a_terminal_and_explains_every_option(command):
    text = run(command, "--help").stdout
    assert text.startswith(f"Usage: main {command}")
    assert max(map(len, text.splitlines())) <= 80
    options = [option for option in main.commands[command].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_says_the_defaults_that_sampling_has():
    text, sampling = run("generate", "--help").stdout, Sampling()
    for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty"):
        line = text.split(f"--{name.replace('_', '-')} ")[1].split("--")[0]
        assert f"default {getattr(sampling, name):g}." in " ".join(line.split())


def test_help_loads_neither_llama_cpp_nor_torch_nor_numpy():
    heavy = {"llama_cpp", "torch", "numpy", "huggingface_hub", "gguf", "jinja2", "rich"}
    helps = [["--help"], *([command, "--help"] for command in COMMANDS)]
    code = (
        "import sys; from orchestrator.cli import main\n"
        f"for args in {helps}: main(args, standalone_mode=False)\n"
        f"print('loaded:', {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: set()\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate", "nope.gguf", "x"], "no model 'nope.gguf'"),
        (["generate", "MODEL", "x", "--set", "n_ctxx=3"], "unknown setting 'n_ctxx'; did you mean n_ctx"),
        (["generate", "MODEL", "x", "--set", "n_batch=big"], "n_batch must be a whole number, got 'big'"),
        (["generate", "MODEL", "x", "--set", "n_batch"], "--set needs NAME=VALUE, got 'n_batch'"),
        (["generate", "MODEL", "x", "--set", "n_batch=64", "--set", "n_batch=64"], "n_batch is set twice"),
        (["generate", "MODEL", "x", "--n-ctx", "64", "--set", "n_ctx=64"], "n_ctx is given by --set and by"),
        (["generate", "MODEL", "x", "--rule", "strict"], "rule must be one of coupled, rejection, block"),
        (["generate", "MODEL", "x", "--method", "magic"], "unknown method 'magic'"),
        (["generate", "MODEL", "x", "--max-draft", "0"], "max_draft must be >= 1"),
        (["generate", "MODEL", "x", "--temperature", "-1"], "temperature must be >= 0"),
        (["generate", "MODEL", "x", "--max-tokens", "-1"], "max_tokens must be >= 0, got -1"),
        (["generate", "MODEL", "x", "--stop", ""], "a stop string must not be empty"),
        (["generate", "MODEL", "word " * 600], "do not fit the context"),
        (["generate", "MODEL", "x", "--draft", "nope.gguf"], "no model 'nope.gguf'"),
        (["generate", "MODEL", "x", "--method", "lookup", "--draft", "MODEL"], "does not use draft="),
        (["chat", "BARE"], "has no chat template"),
        (["chat", "nope.gguf"], "no model 'nope.gguf'"),
        (["generate", "MAMBA", "x", "--method", "lookup"], "cannot be sped up"),
        (["inspect", "nope.gguf"], "no model 'nope.gguf'"),
        (["quantize", "nope.gguf", "Q4_0"], "no model 'nope.gguf'"),
        (["quantize", "MODEL", "Q4_00"], "no type 'Q4_00'; did you mean Q4_0?"),
        (["quantize", "MODEL", "Q8_0", "-o", "MODEL"], "is the source itself"),
        (["demo", "--model", "MODEL"], "do not fit the context of 512"),
    ],
)
def test_an_error_is_a_line_on_stderr_and_exit_code_1(tiny, args, message):
    paths = {"MODEL": tiny("llama"), "BARE": tiny("llama", chat_template=None), "MAMBA": tiny("mamba")}
    result = run(*(paths.get(arg, arg) for arg in args), code=1)
    assert result.stdout in ("", "\n")
    error = result.stderr[result.stderr.index("pilotfish: ") :]
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sing"], "No such command 'sing'"),
        (["generate"], "Missing argument 'MODEL'"),
        (["generate", "m", "x", "--loud"], "No such option"),
        (["generate", "m", "x", "--threads", "many"], "'many' is not a valid integer"),
        (["generate", "m", "x", "--system", "y"], "--system needs --chat"),
        (["generate", "m", "x", "--file", __file__], "either PROMPT or --file"),
        (["generate", "m", "--file", "nowhere.txt"], "'nowhere.txt' does not exist"),
        (["generate", "m", "--file", "LATIN1"], "not UTF-8 text"),
        (["generate", "m", "x\udce9"], "not UTF-8 text at character 1"),
        (["bench", "--repeats", "0"], "0 is not in the range"),
        (["quantize", "m", "Q4_0", "--threads", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_call_ends_with_exit_code_2(tmp_path, args, message):
    latin1 = tmp_path / "latin1.txt"
    latin1.write_bytes("é".encode("latin-1"))
    result = run(*(latin1 if arg == "LATIN1" else arg for arg in args), code=2)
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())


def test_a_full_disk_is_an_error_like_others(monkeypatch):
    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adapters.models.resolve_model", fail)
    assert "pilotfish: [Errno 28] No space left on device\n" == run("inspect", "m", code=1).stderr


def test_log_lines_are_on_stderr_and_llama_cpp_s_only_with_verbose(tiny):
    args = ["generate", tiny("mamba"), "x", "--max-tokens", "4", *GREEDY]
    quiet, verbose = run(*args), run("--verbose", *args)
    assert quiet.stdout == verbose.stdout
    assert quiet.stderr.startswith("pilotfish: ")
    assert "decoding plainly" in quiet.stderr and "llama_model_loader" not in quiet.stderr
    assert "INFO pilotfish.llama_cpp: llama_model_loader" in verbose.stderr
    kinds = {type(handler) for handler in logging.getLogger("pilotfish").handlers}
    assert kinds == {logging.NullHandler}


def test_a_reader_that_leaves_ends_the_program_quietly(model):
    process = start("generate", model, "x", *ENDLESS)
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 1
    process.stderr.close()


def test_a_bar_off_a_terminal_is_one_line(capsys):
    with Bar("making it") as bar:
        assert capsys.readouterr().err == ""
        bar(1, 3)
        bar(2, 3)
    assert capsys.readouterr().err == "making it ...\n"


def test_a_bar_on_a_terminal_shows_how_far_it_is(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Bar("making it") as bar:
        bar(1, 4)
    assert "making it" in terminal.getvalue() and "25%" in terminal.getvalue()
