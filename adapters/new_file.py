"""Files that appear whole or not at all. Knows names; nothing of what is written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to: it becomes `target`, or vanishes unless all went well."""
    partial = target.with_name(f".pilotfish-{secrets.token_hex(8)}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
