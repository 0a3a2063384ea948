"""The command line as tests run it: in this process, or as a process of its own."""

import os
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory

from click.testing import CliRunner

from orchestrator.cli import main

SINGLE = ["--threads", "1"]  # other processes of the machine disturb it less
GREEDY = ["--temperature", "0", *SINGLE]
ENDLESS = ["--n-ctx", "60000", "--max-tokens", "50000", "--seed", "1", *SINGLE]
_CACHE = TemporaryDirectory()  # the costs of tiny models are for nobody else
PROGRAM = [sys.executable, "-m", "orchestrator"]


def run(*args, code=0, **options):
    """Run a command in this process; what it raises beside its exit code is an error of the test."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False, **options)
    assert result.exit_code == code, result.output
    return result


def start(*args, **pipes):
    """Start the program; its output comes through pipes.

    Whoever runs the tests in the background of a shell has Ctrl-C switched off for all their children.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    pipes.setdefault("env", os.environ | {"PILOTFISH_CACHE": _CACHE.name})
    return subprocess.Popen([*PROGRAM, *map(str, args)], preexec_fn=_with_ctrl_c, **pipes)


def _with_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
