"""Make a smaller, or a differently stored, copy of a GGUF with llama.cpp's quantizer.

Knows the names of llama.cpp's types, what its quantizer would refuse or abort on, and how to stop
it; knows nothing of loading or running models.
"""

import ctypes
import difflib
import functools
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from adapters.errors import AdapterError, ModelLoadError, ModelNotFound, UnsupportedModel
from adapters.gguf_file import new_gguf, read_gguf, read_tensors
from adapters.gguf_header import Tensor, all_parts
from adapters.llama_lib import complaint, library, log_listener

Progress = Callable[[int, int], None]  # tensors done, tensors in all

_IMATRIX_TENSORS = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"}
# these mixtures put such tensors (or, Q2_K_S, hardly better ones) into attention and feed-forward
_IMATRIX_FILES = _IMATRIX_TENSORS | {"IQ2_M", "IQ3_XS", "Q2_K_S"}
_UNMAKEABLE_FILES = {"GUESSED", "NVFP4"}  # names that the quantizer itself does not take
_UNMAKEABLE_TENSORS = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")

UNQUANTIZED = ("F32", "F16", "BF16")
NO_TYPES: Mapping[str, str] = MappingProxyType({})

_STEP = re.compile(r"\[ *(\d+)/ *(\d+)\]")
_SIZE = re.compile(r"quant size *= *([\d.]+) MiB")
_FAILURE = re.compile(r"failed to quantize: (.+)")
_MAX_BUFFER = 512 * 2**20  # bytes of rows in memory at once; llama.cpp would take 8 GiB


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What came of it; `lossy` if weights that were quantized already now have under 16 bits."""

    source_bytes: int
    target_bytes: int
    seconds: float
    lossy: bool
    type: str

    def __str__(self) -> str:
        sizes = f"{self.source_bytes / 1e6:,.1f} MB -> {self.target_bytes / 1e6:,.1f} MB"
        loss = "; lossy: made from weights that were quantized before" if self.lossy else ""
        return f"{self.type}: {sizes} in {self.seconds:.1f} s{loss}"


@functools.cache
def file_types() -> dict[str, int]:
    """llama.cpp's number for each name that `quantize` takes as `type`."""
    pattern = re.compile("LLAMA_FTYPE_(?:ALL|MOSTLY)_(.+)")
    found = {m[1]: getattr(library(), m[0]) for m in map(pattern.match, dir(library())) if m}
    return {name: found[name] for name in sorted(found.keys() - _UNMAKEABLE_FILES - _IMATRIX_FILES)}


def tensor_types() -> dict[str, int]:
    """ggml's number for each name that `quantize` takes as the type of a single tensor."""
    refused = _IMATRIX_TENSORS | _UNMAKEABLE_TENSORS
    return {kind.name: kind.value for kind in GGMLQuantizationType if kind.name not in refused}


def quantize(
    source: Path,
    target: Path,
    type: str,
    *,
    token_embedding_type: str | None = None,
    output_tensor_type: str | None = None,
    tensor_types: Mapping[str, str] = NO_TYPES,
    n_threads: int | None = None,
    allow_requantize: bool = True,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> QuantizeReport:
    """Write `source` as `type` to `target`, which appears complete or not at all.

    `tensor_types`: of single tensors, by name. `progress` is called in the calling thread. An exception
    in it, and Ctrl-C, stop the quantizer at its next tensor. What cannot work raises an AdapterError
    before anything is written, what llama.cpp fails at a ModelLoadError with its reason.
    """
    started = time.perf_counter()
    check_paths(source, target, overwrite)
    facts, tensors = read_gguf(source), read_tensors(source)
    params = library().llama_model_quantize_default_params()
    params.nthread = n_threads or 0
    params.ftype = _lookup(type, file_types(), _IMATRIX_FILES)
    params.allow_requantize = allow_requantize
    params.max_buf_size = _MAX_BUFFER
    _set_tensor_types(params, tensors, token_embedding_type, output_tensor_type)
    _set_overrides(params, type, tensors, tensor_types)
    _check_space(source, target, params)
    with new_gguf(target) as partial:
        _run(source, partial, params, progress)
    return QuantizeReport(
        source_bytes=facts.bytes,
        target_bytes=target.stat().st_size,
        seconds=time.perf_counter() - started,
        lossy=is_lossy(tensors, read_tensors(target)),
        type=type.upper(),
    )


def is_lossy(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether a tensor that was quantized is now stored as another type of under 16 bits."""
    pairs = [(before[name], tensor) for name, tensor in after.items() if name in before]
    return any(a.type_id != b.type_id and a.is_quantized and b.is_quantized for a, b in pairs)


def check_paths(source: Path, target: Path, overwrite: bool) -> None:
    if not source.is_file():
        raise ModelNotFound(f"{source}: no such file")
    if not target.parent.is_dir():
        raise AdapterError(f"{target}: the folder {target.parent} does not exist; make it first")
    if target.is_dir():
        raise AdapterError(f"{target}: is a folder; name a file in it")
    if target.resolve() in [part.resolve() for part in all_parts(source)]:
        raise AdapterError(f"{target}: is the source itself; give another target")
    if target.exists() and not overwrite:
        raise AdapterError(f"{target}: exists already; allow overwriting or give another target")


def _lookup(name: str, known: dict[str, int], need_imatrix: Iterable[str]) -> int:
    wanted = name.upper()
    if wanted in need_imatrix:
        raise AdapterError(
            f"{wanted} needs an importance matrix: so few bits without one give garbage. "
            "Take a larger type, or fetch a file that was made with one."
        )
    if wanted not in known:
        close = difflib.get_close_matches(wanted, known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ModelNotFound(f"no type {name!r}; {hint}known types: {', '.join(known)}")
    return known[wanted]


def _set_tensor_types(
    params: Any, tensors: dict[str, Tensor], embedding: str | None, output: str | None
) -> None:
    """Translate the two names; where embedding and output are one tensor, `output` is its type."""
    if output is not None and "output.weight" not in tensors:
        if embedding not in (None, output):
            raise UnsupportedModel(
                f"token embedding and output are one tensor in this model: it cannot be both "
                f"{embedding} and {output}; give one of the two"
            )
        embedding, output = output, None
    if embedding is not None:
        params.token_embedding_type = _fitting(embedding, tensors, _EMBEDDINGS)
    if output is not None:
        params.output_tensor_type = _fitting(output, tensors, ("output.weight",))


def _set_overrides(
    params: Any, type: str, tensors: dict[str, Tensor], tensor_types: Mapping[str, str]
) -> None:
    """llama.cpp takes patterns, up to one without a name, and heeds them beside quantized types only."""
    if not tensor_types:
        return
    if type.upper() in UNQUANTIZED:
        raise AdapterError(f"single tensors have types of their own only beside a quantized type, not {type}")
    unknown = [name for name in tensor_types if name not in tensors]
    if unknown:
        raise AdapterError(f"no tensor {unknown[0]!r} in this model, so it cannot be stored in another type")
    override = library().llama_model_tensor_override
    rows = [
        override(f"^{re.escape(name)}$".encode(), _fitting(kind, tensors, (name,)))
        for name, kind in tensor_types.items()
    ]
    params.tt_overrides = (override * (len(rows) + 1))(*rows)  # ctypes keeps the array alive in `params`


def _fitting(name: str, tensors: dict[str, Tensor], targets: Iterable[str]) -> int:
    """ggml's number of the type; llama.cpp would abort where rows are not whole blocks of it."""
    number = _lookup(name, tensor_types(), _IMATRIX_TENSORS)
    block, _ = GGML_QUANT_SIZES[GGMLQuantizationType(number)]
    for target in targets:
        if target in tensors and tensors[target].shape[0] % block:
            raise UnsupportedModel(
                f"{target} cannot be {name.upper()}: its rows have {tensors[target].shape[0]} "
                f"weights, which is no multiple of {block}; Q8_0, Q4_0 and BF16 fit most models"
            )
    return number


def _check_space(source: Path, target: Path, params: Any) -> None:
    """Have llama.cpp reckon the size first: a dry run reads the header only."""
    params.dry_run = True
    lines = _run(source, target, params, None)
    params.dry_run = False
    if any("will require an imatrix" in line for line in lines):
        raise AdapterError(f"{source}: this type needs an importance matrix; take a larger one")
    sizes = [float(match[1]) for match in map(_SIZE.search, lines) if match]
    needed = int(max(sizes, default=0) * 2**20)
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise AdapterError(
            f"{target.parent}: {free / 1e6:,.0f} MB are free, {needed / 1e6:,.0f} MB are needed"
        )


def _run(source: Path, target: Path, params: Any, progress: Progress | None) -> list[str]:
    """Run the quantizer and return what it logged, in a thread, so that Ctrl-C reaches Python."""
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(_call, source, target, params, lines)
        try:
            _watch(lambda: not wait([job], 0.05).not_done, lines, progress)
        except BaseException:
            params.dry_run = True  # the quantizer looks at this before each tensor
            raise
    if job.result() != 0:
        raise ModelLoadError(f"{source}: llama.cpp cannot quantize it: {_reason(lines)}")
    return lines


def _call(source: Path, target: Path, params: Any, lines: list[str]) -> int:
    caller = threading.get_ident()

    def listen(line: str) -> None:
        if threading.get_ident() == caller:  # other threads may be using llama.cpp, too
            lines.append(line)

    with log_listener(listen):
        paths = os.fsencode(source), os.fsencode(target)
        status: int = library().llama_model_quantize(*paths, ctypes.byref(params))
        return status


def _watch(done: Callable[[], bool], lines: list[str], progress: Progress | None) -> None:
    n_read, finished = 0, False
    while not finished:
        finished = done()
        news = lines[n_read:]
        n_read += len(news)
        steps = [step for step in map(_STEP.match, news) if step]
        if steps and progress is not None:
            progress(int(steps[-1][1]), int(steps[-1][2]))


def _reason(lines: list[str]) -> str:
    failures = [match[1] for match in map(_FAILURE.search, lines) if match]
    reason = failures[-1] if failures else complaint(lines)
    hint = "; is the disk full?" if "iostream error" in reason else ""
    return reason + hint
