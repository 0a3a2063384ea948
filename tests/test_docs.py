"""The README and the examples say what works: their code is run, their commands are parsed."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^pilotfish .*$", README, re.MULTILINE)))
TRAINS = ROOT / "examples" / "train_head.py"  # on a tiny model: others take hours
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {TRAINS})


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ},
        timeout=300,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.model
@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_in_the_readme_runs_and_prints(code):
    assert run("-c", code).strip()


@pytest.mark.model
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints(path):
    assert len(path.read_text().splitlines()) <= 40
    assert run(str(path)).strip()


def test_the_example_that_trains_measures_what_it_made(tiny, tmp_path):
    assert len(TRAINS.read_text().splitlines()) <= 40
    model = str(tiny("llama", n_layer=8))
    said = run(str(TRAINS), model, "", str(tmp_path / "made"), preexec_fn=_on_one_core)
    assert said.count("plain ") == said.count("head  ") >= 1 and "epoch 3: held out" in said
    assert (tmp_path / "made" / "head" / "config.json").exists()


def _on_one_core():
    """Threads of two libraries that wait for each other take minutes on a busy machine."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_has_the_options_it_names(line):
    from orchestrator.cli import main as cli

    arguments = shlex.split(line)[1:]
    command = cli.get_command(click.Context(cli), arguments[0])
    assert command is not None, f"no command {arguments[0]!r}"
    command.make_context(arguments[0], arguments[1:], resilient_parsing=False)


def test_the_readme_names_every_command_and_method():
    from orchestrator.cli import main as cli
    from orchestrator.drafters.registry import method_names

    for name in cli.list_commands(click.Context(cli)):
        assert f"pilotfish {name}" in README
    for method in method_names():
        assert f"`{method}`" in README


def test_the_readme_and_the_map_of_heads_name_all_settings_and_modules_of_heads():
    import heads
    from orchestrator.config import HeadSettings

    for setting in fields(HeadSettings):
        assert f"| `{setting.name}` |" in README
    modules = {path.stem for path in (ROOT / "heads").glob("*.py")} - {"__init__"}
    named = set(re.findall(r"[a-z0-9_]+", heads.__doc__ or ""))
    assert modules <= named


def test_the_two_commands_of_the_readme_are_there():
    assert 'pip install ".[demo]" && pilotfish demo' in README
    assert 'pip install -e ".[dev]" && pytest' in README


def test_reproducing_the_figures_calls_commands_that_exist(tmp_path):
    from orchestrator.cli import main as cli

    stub = tmp_path / "pilotfish"
    log = tmp_path / "calls"
    stub.write_text(f"""#!/bin/sh\nprintf '%s\\n' "$@" '' >>{log}\n""")
    stub.chmod(0o755)
    results = tmp_path / "RESULTS.md"
    tools = {"LLAMA_SERVER": str(stub), "LLAMA_BENCH": str(stub), "RESULTS": str(results)}
    environment = {**os.environ, **tools, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "bench" / "reproduce.sh"), str(tmp_path / "out")]
    subprocess.run(script, env=environment, check=True, capture_output=True, timeout=60)
    calls = [call.split("\n") for call in log.read_text().strip().split("\n\n")]
    assert len(calls) >= 9 and results.exists()
    for name, *arguments in calls[:-1]:
        cli.get_command(click.Context(cli), name).make_context(name, arguments)
    assert calls[-1][:2] == ["bench", "results"]
