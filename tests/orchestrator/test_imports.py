"""Importing does nothing: no llama.cpp, no torch, no logging set-up, no threads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CORE = ["loop", "verify", "sampling", "sampler", "draft", "planner", "stats", "limits", "text", "config"]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_importing_the_packages_loads_no_library():
    code = (
        "import sys, adapters, heads, orchestrator; print({'numpy', 'llama_cpp', 'torch'} & set(sys.modules))"
    )
    assert run(code) == "set()"


def test_the_core_needs_numpy_alone():
    modules = ", ".join(f"orchestrator.{name}" for name in CORE)
    code = f"import sys, {modules}; print({{'llama_cpp', 'torch', 'huggingface_hub'}} & set(sys.modules))"
    assert run(code) == "set()"


def test_importing_the_engine_loads_no_llama_cpp_and_touches_no_logger():
    code = (
        "import sys, logging, threading, orchestrator.engine;"
        "print('llama_cpp' in sys.modules, logging.getLogger('pilotfish').handlers, threading.active_count())"
    )
    assert run(code) == "False [] 1"


def test_every_public_name_exists():
    import orchestrator

    assert {name for name in orchestrator.__all__ if getattr(orchestrator, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = orchestrator.Motor


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("adapters", {"orchestrator", "heads"}), ("heads", {"orchestrator"})],
)
def test_arrows_between_packages_point_downward(package, forbidden):
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & forbidden, path
