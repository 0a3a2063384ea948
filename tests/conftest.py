"""Fixtures that more than one test module uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_gguf import TinyFactory, write_tiny


@pytest.fixture(scope="session", autouse=True)
def _own_cost_curves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Curves of tests stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("costs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.cost.store.cache_folder", lambda _name: folder)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFactory:
    """Writes a tiny model, or returns the one it has already written for the same arguments."""
    folder = tmp_path_factory.mktemp("tiny")
    written: dict[str, Path] = {}

    def factory(arch: str = "llama", **options: Any) -> Path:
        key = f"{arch} {sorted(options.items())}"
        if key not in written:
            written[key] = write_tiny(folder / f"{arch}-{len(written)}.gguf", arch, **options)
        return written[key]

    return factory
