"""What EAGLE-3 heads have of their own: layer taps, their fusion, and flags.

Knows SafeAILab's, SpecForge's, AngelSlim's and speculators' files, after `heads.eagle_layouts.prepare`.
"""

from collections.abc import Mapping
from typing import Any

from heads.eagle_layouts import eagle_spec, layer_sizes, move_fc, move_layers
from heads.reading import Reading
from heads.spec import EagleSpec

_USUAL_TAPS = 3


def read_eagle3(reading: Reading) -> EagleSpec:
    """Sizes from shapes; flags, taps and the number of attention heads from the config."""
    width, n_in = reading.size("fc.weight")
    sizes = layer_sizes(reading, width)
    taps = read_taps(reading)
    hidden_size, n_taps = _features(reading, width, n_in, len(taps))
    move_fc(reading, width, n_in)
    has_fc_norm = _move_norms(reading, width, hidden_size, n_taps)
    n_layers = move_layers(reading, sizes, 2 * width)
    spec = eagle_spec(
        reading,
        sizes,
        n_layers,
        hidden_size=hidden_size,
        n_taps=n_taps,
        taps=taps,
        is_eagle3=True,
        # raw heads: False; speculators' configs that lack it are older than the key
        norm_before_residual=reading.flag("norm_before_residual", reading.is_speculators),
        norm_output=_feeds_norm_back(reading, has_fc_norm),
    )
    _check_borrowing(reading, spec)
    return spec


def read_taps(reading: Reading) -> tuple[int, ...]:
    """The layers whose inputs are read, low to high; empty where the config does not say.

    A top-level `eagle_aux_hidden_state_layer_ids` counts inputs (speculators, NVIDIA). In `eagle_config`
    (SpecForge), and as `aux_hidden_states_layer_ids` (AngelSlim), ids are of layers whose outputs are read.
    """
    nested = reading.config.get("eagle_config") or {}
    if not isinstance(nested, Mapping):
        reading.fail(f"eagle_config of config.json is {nested!r}, not a table; correct it")
    inputs, outputs = "eagle_aux_hidden_state_layer_ids", "aux_hidden_states_layer_ids"
    readings = {
        inputs: _ids(reading, inputs, reading.config.get(inputs), 0),
        f"eagle_config.{inputs}": _ids(reading, inputs, nested.get(inputs), 1),
        outputs: _ids(reading, outputs, reading.config.get(outputs), 1),
        f"eagle_config.{outputs}": _ids(reading, outputs, nested.get(outputs), 1),
    }
    found = {key: taps for key, taps in readings.items() if taps}
    if not found:
        return ()
    key, taps = next(iter(found.items()))
    if any(other != taps for other in found.values()):
        reading.notes.append(f"config names several sets of layers; {key} is used")
    if key != inputs:
        reading.notes.append(f"{key} read as outputs of these layers: taps {list(taps)}")
    return taps


def _ids(reading: Reading, key: str, value: Any, shift: int) -> tuple[int, ...]:
    if value is None or value == []:
        return ()
    is_list = isinstance(value, list | tuple) and all(type(layer) is int for layer in value)
    if not is_list or len(set(value)) != len(value) or min(value) + shift < 0:
        reading.fail(f"{key} of config.json is {value!r}, not a list of different layers; correct it")
    if list(value) != sorted(value):
        reading.notes.append(f"{key} is not in order; taps are always joined from low to high")
    return tuple(sorted(layer + shift for layer in value))


def _features(reading: Reading, width: int, n_in: int, n_named: int) -> tuple[int, int]:
    """(hidden size of the target, how many of its layers `fc` reads)."""
    hidden_size = reading.number("target_hidden_size")
    if not hidden_size:
        if n_in == _USUAL_TAPS * width or (n_named and n_in == n_named * width):
            hidden_size = width
        elif n_in % (n_named or _USUAL_TAPS) == 0:
            hidden_size = n_in // (n_named or _USUAL_TAPS)
            reading.notes.append(f"config has no target_hidden_size: {hidden_size}, by the columns of fc")
        else:
            hidden_size = width
    n_taps = n_in // hidden_size
    if n_taps * hidden_size != n_in or (n_named and n_named != n_taps):
        named = f"the {n_named} layers that config.json names" if n_named else "rows"
        reading.fail(
            f"fc.weight has {n_in} columns, which are not {named} of {hidden_size} each; "
            "correct target_hidden_size or the layer ids in config.json"
        )
    return hidden_size, n_taps


def _move_norms(reading: Reading, width: int, hidden_size: int, n_taps: int) -> bool:
    """The norms around the layers; whether each tap has one of its own."""
    reading.move("layers.0.input_layernorm.weight", "layers.0.input_norm.weight", width)
    reading.move("layers.0.hidden_norm.weight", "layers.0.hidden_norm.weight", width)
    reading.move("norm.weight", "norm.weight", width)
    has_input = reading.move_if("input_norm.weight", "input_norm.weight", n_taps * hidden_size)
    if reading.flag("norm_before_fc") and not has_input:
        reading.fail(
            "config.json says norm_before_fc, but there is no input_norm.weight; fetch the file again"
        )
    has_each = reading.flag("fc_norm") or "fc_norm.0.weight" in reading.left
    if has_each:
        for tap in range(n_taps):
            reading.move(f"fc_norm.{tap}.weight", f"fc_norms.{tap}.weight", hidden_size)
    return has_each


def _feeds_norm_back(reading: Reading, has_fc_norm: bool) -> bool:
    """`norm_output` of speculators and of all EAGLE-3.1 heads; SpecForge's older key means the projection."""
    if not reading.flag("norm_output"):
        return False
    if reading.is_speculators or has_fc_norm or "input_norm.weight" in reading.made:
        return True
    reading.notes.append("norm_output read as SpecForge's: its output goes on without the norm")
    return False


def _check_borrowing(reading: Reading, spec: EagleSpec) -> None:
    """What is as wide as the head cannot come from a target of another width."""
    for name in ("embedding.weight", "output.weight"):
        if spec.width != spec.hidden_size and name not in reading.made:
            reading.fail(
                f"is {spec.width} wide and its target {spec.hidden_size}, so it needs an embedding and a "
                "projection of its own, which the file lacks; fetch it again"
            )
