"""Rotary positions as a head's config.json describes them.

Knows the keys of Hugging Face's configs, before and since transformers 5; computes no angle.
"""

from collections.abc import Mapping
from typing import Any

from heads.reading import Reading, is_positive
from heads.spec import Rope

_THETA = 10000.0
_NEEDED = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def read_rope(reading: Reading) -> Rope:
    """The draft's own: where its config names no theta it was trained with 10000, whatever the target has."""
    config = reading.config
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping) or any(isinstance(v, Mapping) for v in parameters.values()):
        reading.fail(
            f"rope parameters {parameters!r} are not one set for all layers, which is all that is known"
        )
    theta = parameters.get("rope_theta") if config.get("rope_theta") is None else config["rope_theta"]
    if theta is None:
        reading.notes.append("config has no rope_theta: 10000, with which such heads were trained")
        theta = _THETA
    if not is_positive(theta):
        reading.fail(f"rope_theta of config.json is {theta!r}, not a positive number; correct it")
    part = parameters.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if part not in (None, 1):
        reading.fail(
            f"rotates {part} of each attention head only (partial_rotary_factor), which is not known"
        )
    return Rope(float(theta), _scaling(reading, parameters))


def _scaling(reading: Reading, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The scaling with `rope_type` for its kind, as newer configs have it; None where there is none."""
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return None
    if not isinstance(kind, str) or kind not in _NEEDED:
        reading.fail(f"rope scaling {kind!r} is not known; heads with linear or llama3 scaling, or none, are")
    scaling = {key: value for key, value in parameters.items() if key not in ("type", "rope_theta")}
    scaling["rope_type"] = kind
    length = "original_max_position_embeddings"
    if kind == "llama3" and scaling.get(length) is None:
        scaling[length] = reading.config.get(length)
    for key in _NEEDED[kind]:
        if not is_positive(scaling.get(key)):
            reading.fail(f"{key} of the {kind} rope scaling is {scaling.get(key)!r}, not a positive number")
    return scaling
