"""A copy of a model whose tensor types suit speculation on this device, and what that brought.

The layers become the type that is asked for, or stay as they are; the type of the vocabulary projection
comes of measured kernels. Knows the order of the steps; each is a module of its own.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from adapters.gguf_file import read_gguf
from adapters.gguf_probe import bits
from adapters.llama_model import LlamaModel
from adapters.quantize import UNQUANTIZED, check_paths, quantize, tensor_types
from adapters.settings import ContextSettings, ModelSettings
from orchestrator.errors import AdapterError
from orchestrator.tune.appraisal import Appraisal, appraise
from orchestrator.tune.census import Census, census
from orchestrator.tune.choice import ACCEPTANCE, MOST_HEAD_BITS, Change, best_change, candidates, changes
from orchestrator.tune.kernels import Kernels, measure_kernels
from orchestrator.tune.neighbours import Neighbours
from orchestrator.tune.timing import require_rollback

_ROOM = 1.2  # of a file's size must be free to open it beside everything else


@dataclass(frozen=True, slots=True)
class SpeculativeCopy:
    """What was made. type: of the layers. head_before: what the projection would be without this.
    others: the share of the processors' time that other programs took."""

    target: Path
    type: str
    head_before: str
    head: str
    tied: bool
    expected_gain: float
    files: tuple[Appraisal, ...]
    notes: tuple[str, ...]
    others: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": str(self.target),
            "type": self.type,
            "head_before": self.head_before,
            "head": self.head,
            "tied": self.tied,
            "acceptance": ACCEPTANCE,
            "expected_gain": self.expected_gain,
            "files": [one.as_dict() for one in self.files],
            "notes": list(self.notes),
            "others": self.others,
        }


@dataclass(frozen=True, slots=True)
class Maker:
    """How to make and measure. report: a line for the user at each step."""

    model: ModelSettings
    context: ContextSettings
    sample: str
    report: Callable[[str], None]
    overwrite: bool = False

    def make(self, source: Path, target: Path, type: str | None) -> SpeculativeCopy:
        """Write `source` to `target` for speculation and measure it; AdapterError where that is impossible,
        or where, without a `type`, no other projection would be better."""
        check_paths(source, target, self.overwrite)
        neighbours = Neighbours()
        _require_chains(source)
        # beside the target: a temporary folder may be in memory
        with TemporaryDirectory(prefix=".pilotfish-", dir=target.parent) as folder:
            plain = source if type is None else Path(folder) / f"{type.upper()}.gguf"
            if type is not None:
                self.report(f"making a plain {type.upper()} to compare with")
                quantize(source, plain, type, n_threads=self.context.n_threads)
            found = census(plain)
            self.report("measuring the kernels of several types")
            change = best_change(head_changes(found, measure_kernels(found, self.model, self.context)))
            self._write(source, plain, target, type, found, change)
            made = self._result(source, plain, target, type, found, change)
        return replace(made, others=neighbours.share())

    def _write(
        self, source: Path, plain: Path, target: Path, type: str | None, found: Census, change: Change | None
    ) -> None:
        if change is None:
            if type is None:
                raise AdapterError(
                    f"{source}: {found.head} is the best type for its vocabulary projection on this device; "
                    "there is nothing to make without a TYPE for the layers"
                )
            os.replace(plain, target)
            return
        self.report(f"writing {target}, its vocabulary projection in {change.new}")
        quantize(
            source,
            target,
            type or read_gguf(source).file_type,
            output_tensor_type=change.new,
            tensor_types=own_types(source, found) if type is None else {},
            n_threads=self.context.n_threads,
            overwrite=self.overwrite,
        )

    def _result(
        self, source: Path, plain: Path, target: Path, type: str | None, found: Census, change: Change | None
    ) -> SpeculativeCopy:
        files, notes = [("source", source)], []
        size = read_gguf(source).bytes
        if type is not None:
            if size * _ROOM > psutil.virtual_memory().available:
                notes.append(f"the source is not measured: {size / 1e9:.1f} GB do not fit into free memory")
                files.clear()
            if change is not None:
                files.append((f"plain {type.upper()}", plain))
        files.append(("for speculation", target))
        measured = appraise(files, self.sample, self.model, self.context, self.report)
        stated = type.upper() if type is not None else read_gguf(source).file_type
        if change is None:
            notes.append(f"a plain {stated} is the best that there is on this device, and this is one")
        head, gain = (change.new, change.gain) if change is not None else (found.head, 1.0)
        return SpeculativeCopy(
            target, stated, found.head, head, found.tied, gain, tuple(measured), tuple(notes)
        )


def _require_chains(source: Path) -> None:
    # as light as can be: weights stay in the mapped file
    model = LlamaModel(source, ModelSettings(n_gpu_layers=0, use_extra_bufts=False))
    try:
        require_rollback(model)
    finally:
        model.close()


def head_changes(found: Census, kernels: Kernels) -> list[Change]:
    """What each type with no fewer bits would bring as the projection's, the best first."""
    head = {found.head: found.head_weights}
    part = kernels.matrix_ms(head)
    around = kernels.matrix_ms(found.layers)
    ms = [layers + projection for layers, projection in zip(around, part, strict=True)]
    return changes(ms, part, head, candidates(kernels, bits(found.head), MOST_HEAD_BITS), kernels)


def own_types(source: Path, found: Census) -> Mapping[str, str]:
    """What keeps every other matrix as it is, whatever the source's mixture would make of it; empty where
    no mixture is at work."""
    if read_gguf(source).file_type in UNQUANTIZED:
        return {}
    known = tensor_types()
    return {name: kind for name, kind in found.own.items() if kind in known and name != found.head_name}
