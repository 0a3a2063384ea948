"""Cost curves in the user's cache: one small JSON file for each model, device and setting.

A curve is used as long as everything that it depends on is the same; see `curve_key`.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters.devices import devices
from adapters.llama_context import LlamaContext
from adapters.llama_lib import version
from adapters.presets import cache_folder
from orchestrator.cost.curve import CostCurve
from orchestrator.cost.measure import measure_curve

logger = logging.getLogger("pilotfish.cost")

FORMAT = 3  # 1 knew nothing of the context on slow targets, 2 nothing of changes of rows
TOO_NOISY = 0.6  # two busy processes on as many cores make it 2 and more


def curve_of(context: LlamaContext, seconds: float = 1.0) -> CostCurve:
    """The stored curve of an open context, measured and stored where there is none."""
    key = curve_key(context)
    stored = load_curve(key)
    if stored is not None:
        return stored
    logger.info("measuring what decodes of several rows cost here, once, in about %.0f s", seconds)
    curve = measure_curve(context, seconds)
    context.truncate(0)
    store_curve(key, curve)
    return curve


def curve_key(context: LlamaContext) -> Mapping[str, Any]:
    """Everything that a curve depends on."""
    model, settings = context.model, context.settings
    file = model.path.stat()
    return {
        "format": FORMAT,
        "model": [model.path.name, file.st_size, file.st_mtime_ns, model.n_params],
        "weights": {name: repr(value) for name, value in asdict(model.settings).items()},
        "threads": list(settings.threads),
        "attention": [settings.flash_attn, settings.type_k, settings.type_v, settings.offload_kqv],
        "sequences": context.capabilities.max_leaves > 1,
        "devices": [device.description for device in devices()],
        "llama_cpp": version(),
    }


def load_curve(key: Mapping[str, Any]) -> CostCurve | None:
    """The curve stored for `key`; None where there is none, or none that can be read."""
    path = _path(key)
    try:
        return CostCurve.from_dict(json.loads(path.read_text("utf-8"))["curve"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: not a cost curve (%s); it is measured again", path, error)
        return None


def store_curve(key: Mapping[str, Any], curve: CostCurve) -> None:
    """Keep `curve`, unless the machine was too busy to measure it: it is used, and measured again next time.

    A cache that cannot be written costs a measurement at the next load, nothing else.
    """
    if curve.noise > TOO_NOISY:
        logger.info(
            "the machine was busy while the costs of decodes were measured (the same decode took up to "
            "%.0f%% longer); they are measured again at the next load, and drafts fit badly until then",
            100 * curve.noise,
        )
        return
    path = _path(key)
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False) as file:
            json.dump({"key": dict(key), "curve": curve.as_dict()}, file)
        os.replace(file.name, path)
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the costs are measured again next time", path, error)


def _path(key: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder("costs") / f"{digest[:24]}.json"
