"""`response_format`: which JSON an answer must be."""

from collections.abc import Mapping
from typing import Any

from orchestrator.openai.error import ParameterError

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def json_schema_of(response_format: Any) -> Mapping[str, Any] | None:
    """The schema that an answer must fit; None for free text."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        schema = response_format.get("schema", ANY_OBJECT)  # llama-cpp-python's way to give one
    elif kind == "json_schema":
        named = response_format.get("json_schema")
        schema = named.get("schema", ANY_OBJECT) if isinstance(named, Mapping) else None
    else:
        raise ParameterError(
            "response_format", f"must have the type text, json_object or json_schema, got {response_format!r}"
        )
    if not isinstance(schema, Mapping):
        raise ParameterError("response_format", "must carry a schema: {'json_schema': {'schema': {...}}}")
    return schema
