"""Fixtures for tests that run tiny models through llama.cpp."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.adapters.tiny_context import TinyModel
from tests.tiny_gguf import TinyFactory


@pytest.fixture(scope="session")
def tiny_model(tiny: TinyFactory) -> Iterator[Callable[..., TinyModel]]:
    """Loads a tiny model, or returns the one loaded before for the same arguments."""
    loaded: dict[str, TinyModel] = {}

    def factory(arch: str = "llama", **options: Any) -> TinyModel:
        key = f"{arch} {sorted(options.items())}"
        if key not in loaded:
            loaded[key] = TinyModel(tiny(arch, **options))
        return loaded[key]

    yield factory
    for model in loaded.values():
        model.model.close()
