"""Reading the JSON document of an earlier bench back from a file.

Knows where the document stands in the file and how its format is called; nothing of what it says.
"""

import json
from pathlib import Path
from typing import Any

from orchestrator.errors import BenchError

FORMAT = "pilotfish-bench/1"


def load_document(path: Path | str) -> dict[str, Any]:
    """The document that the file is, or that its last line is; BenchError where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BenchError(f"no file {path}; name one that `pilotfish bench` wrote") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read {path}: {error}") from error
    return _checked(_parsed(text, path), path)


def _parsed(text: str, path: Path | str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass  # a stream that was written to a file: tables come first
    lines = text.strip().splitlines() or [""]
    try:
        return json.loads(lines[-1])
    except json.JSONDecodeError as error:
        raise BenchError(
            f"{path} is not JSON and its last line is not either ({lines[-1][:60]!r}); "
            "was the bench interrupted? Run it again"
        ) from error


def _checked(document: Any, path: Path | str) -> dict[str, Any]:
    found = document.get("format") if isinstance(document, dict) else None
    if not isinstance(document, dict) or found != FORMAT:
        raise BenchError(
            f"{path} is no bench document: its format is {found!r}, this version reads {FORMAT!r}; "
            "run `pilotfish bench` again"
        )
    return document
