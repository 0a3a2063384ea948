"""Run llama-cpp-python's own tests against orchestrator.compat.

    python bench/published_tests.py CHECKOUT [--model GGUF] [--recurrent GGUF]

CHECKOUT is a clone or an unpacked source distribution of llama-cpp-python 0.3.36, whose tests import scipy.
They are read from there, with `Llama` and `LlamaGrammar` replaced by ours. Two things are changed:
lines that assert private attributes (`_ctx`, `_is_recurrent`) are left out, and models come from the
Hub only where no local file is given: --model for those that write text (one that knows
the quick brown fox; the published tests use Qwen3.5-0.8B), --recurrent for Mamba.
"""

import argparse
import ast
import sys
import tempfile
from pathlib import Path

import llama_cpp
import pytest

from orchestrator.compat import Llama, LlamaGrammar

FILES = ("test_llama.py", "test_llama_grammar.py")
# tests of other things than Llama and LlamaGrammar, and of methods that are refused with a reason
NOT_OURS = {
    "test_llama_cpp_version": "of the package",
    "test_llama_cpp_tokenization": "loads a vocabulary without weights (vocab_only)",
    "test_real_model": "of llama_cpp._internals",
    "test_hybrid_model_prompt_cache_reset": "needs Falcon-H1",
    "test_exact_cached_prompt_reuse_matches_fresh": "of eval and sample",
    "test_loaded_exact_cached_prompt_reuse_matches_fresh": "of eval and save_state's KV cache",
    "test_ram_cache_exact_prompt_hit_matches_fresh": "of set_cache",
    "test_shorter_prompt_prefix_reuse_matches_fresh": "of eval",
    "test_real_llama_embeddings": "of embed",
}


class WithoutPrivate(ast.NodeTransformer):
    """Leaves out assertions about attributes whose names begin with an underscore."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST | None:
        attributes = [each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)]
        return None if any(name[0] == "_" != name[1] for name in attributes) else node


class Replacements:
    """A pytest plugin: ours in the place of theirs, local files in the place of downloads."""

    def __init__(self, model: str | None, recurrent: str | None) -> None:
        self.model, self.recurrent = model, recurrent
        llama_cpp.Llama, llama_cpp.LlamaGrammar = Llama, LlamaGrammar

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        for item in items:
            reason = NOT_OURS.get(item.originalname)  # type: ignore[attr-defined]
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"does not apply: {reason}"))

    @pytest.fixture(autouse=True)
    def local_files(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import hf_hub_download

        def found(repo: str, filename: str) -> str:
            local = self.recurrent if "mamba" in filename else self.model
            return local or hf_hub_download(repo, filename)

        if hasattr(request.module, "hf_hub_download"):
            monkeypatch.setattr(request.module, "hf_hub_download", found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--model", help="GGUF for the tests that write text")
    parser.add_argument("--recurrent", help="GGUF of a recurrent model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            tree = WithoutPrivate().visit(ast.parse((given.checkout / "tests" / name).read_text()))
            (Path(folder) / name).write_text(ast.unparse(ast.fix_missing_locations(tree)))
        arguments = [folder, "-rA", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
        return int(pytest.main(arguments, plugins=[Replacements(given.model, given.recurrent)]))


if __name__ == "__main__":
    sys.exit(main())
