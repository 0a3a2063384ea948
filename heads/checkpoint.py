"""From a file, a folder or a Hub repository to a head: which family it is, and its canonical tensors.

Knows how to tell the families apart, by names and shapes of tensors: what configs call themselves is not
reliable. The layouts are in heads.medusa_layouts, heads.eagle_layouts and heads.eagle3_layouts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from heads.eagle3_layouts import read_eagle3
from heads.eagle_layouts import prepare, read_eagle
from heads.files import read_files
from heads.medusa_layouts import is_medusa, read_medusa
from heads.reading import Reading
from heads.spec import EagleSpec, Head, Spec

_KNOWN = "Medusa, EAGLE-1, EAGLE-2, HASS and EAGLE-3 heads can be used"
_SPECULATORS = ("eagle", "eagle3")
# parts that only heads of other kinds have
_FOREIGN = {
    "mask_hidden": "P-EAGLE",
    "mtp.": "MTP",
}


def load_head(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    show_progress: bool = False,
) -> Head:
    """Read a head from a folder, a file, `owner/repo` or `owner/repo:path/in/it`.

    The keywords are for the Hub. Raises ModelNotFound where there is nothing, HeadError for what is no head.
    """
    config, tensors, source = read_files(
        name,
        revision=revision,
        token=token,
        local_files_only=local_files_only,
        show_progress=show_progress,
    )
    return read_head(config, tensors, source)


def read_head(config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> Head:
    """Bring tensors of any published layout to their canonical names; raises HeadError."""
    reading = Reading(config, tensors, source)
    spec = _read(reading)
    return Head(spec, reading.made, source, tuple(dict.fromkeys(reading.notes)))


def _read(reading: Reading) -> Spec:
    _refuse_foreign(reading)
    if is_medusa(reading.left):
        return read_medusa(reading)
    prepare(reading)
    if "fc.weight" not in reading.left or "layers.0.self_attn.q_proj.weight" not in reading.left:
        _refuse_headless(reading)
    return _read_eagle(reading)


def _read_eagle(reading: Reading) -> EagleSpec:
    width, n_in = reading.size("fc.weight")[0], reading.size("layers.0.self_attn.q_proj.weight")[1]
    if n_in == 2 * width:
        return read_eagle3(reading)
    if n_in == width:
        return read_eagle(reading)
    reading.fail(
        f"its attention reads {n_in} columns, neither {width} (EAGLE-1) nor {2 * width} (EAGLE-3), "
        f"by the rows of fc.weight; {_KNOWN}"
    )


def _refuse_foreign(reading: Reading) -> None:
    """Kinds of heads that look like others in part, and draft otherwise."""
    said = reading.outer.get("speculators_model_type")
    if said is None and isinstance(reading.outer.get("speculators_config"), Mapping):
        said = reading.outer["speculators_config"].get("algorithm")
    kind = said if said is not None and said not in _SPECULATORS else None
    for name in sorted(reading.left):
        bare = name.removeprefix("model.")
        kind = kind or next((kind for part, kind in _FOREIGN.items() if bare.startswith(part)), None)
    if kind is not None:
        reading.fail(f"is a head of type {kind}, which cannot be run; {_KNOWN}")


def _refuse_headless(reading: Reading) -> None:
    if not reading.left:
        reading.fail("holds no tensor; fetch it again")
    if "layers.0.hidden_norm.weight" in reading.left:
        reading.fail(
            f"has no fc.weight: an EAGLE-3 head that reads no layer taps, which cannot be run; {_KNOWN}"
        )
    is_model = {"embed_tokens.weight", "layers.0.self_attn.q_proj.weight"} <= set(reading.left)
    what = "is a whole language model, without a head" if is_model else "holds no head of a known kind"
    few = ", ".join(sorted(reading.left)[:3])
    reading.fail(f"{what} (its tensors: {few}, ...); {_KNOWN}")
