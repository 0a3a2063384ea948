"""What a Hub reference and the names of GGUF files say: quantization, split parts, companions.

Knows text only; asks no network, no cache and no disk (`adapters.hub` does).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapters.errors import ModelNotFound

DEFAULT_QUANT = "Q4_K_M"
_MAX_LISTED = 20

# the Hub's own rules for owner/name
_REPO = re.compile(r"(?!.*(?:--|\.\.))(?!.*\.git\Z)\w[\w.-]*(?<=\w)/\w[\w.-]{0,95}(?<=\w)", re.ASCII)
_QUANT = re.compile(r"\w[\w.-]*", re.ASCII)
_LABEL = re.compile(
    r"(?:^|[-._/ ])"
    r"((?:UD-)?(?:I?Q\d+|TQ\d+|I2_S|(?:MX|NV)FP\d+|BF16|FP?(?:8|16|32|64))(?:_[A-Z0-9]+)*)"
    r"(?=[-./ ])",
    re.IGNORECASE | re.ASCII,
)
_PART = re.compile(r"(.+-)(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class HubReference:
    """What to fetch: a file, else a quantization, else the repository's only or usual GGUF."""

    repo: str  # owner/name
    file: str | None = None
    quant: str | None = None


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository, by its path in it."""

    name: str
    size: int | None  # bytes

    @property
    def is_gguf(self) -> bool:
        return _is_gguf(self.name)

    @property
    def is_companion(self) -> bool:
        """Whether it only goes with a model: a vision projector or an importance matrix."""
        basename = self.name.rpartition("/")[2].lower()
        return "mmproj" in basename or "imatrix" in basename

    @property
    def quant(self) -> str | None:
        """The last quantization label in folder and file name, in capitals; none for companions."""
        labels: list[str] = _LABEL.findall(self.name)
        return labels[-1].upper() if labels and self.is_gguf and not self.is_companion else None


def parse_reference(text: str) -> HubReference | None:
    """Read `owner/repo`, `owner/repo:QUANT` or `owner/repo/path/to/file.gguf`; None for others.

    `folder/file.gguf` is None too: it is far more often a misspelt local path than a repository.
    """
    path, colon, quant = text.partition(":")
    owner, _, rest = path.partition("/")
    name, slash, file = rest.partition("/")
    repo = f"{owner}/{name}"
    if not _REPO.fullmatch(repo):
        return None
    if colon:
        return HubReference(repo, quant=quant) if _QUANT.fullmatch(quant) and not slash else None
    if slash:
        return HubReference(repo, file=file) if _is_gguf(file) and is_inside(file) else None
    return None if _is_gguf(repo) else HubReference(repo)


def is_inside(name: str) -> bool:
    """Whether a listed name stays inside its repository's folder on every operating system."""
    return not re.search(r"[\\:\x00-\x1f]", name) and not {"", ".", ".."} & set(name.split("/"))


def choose_gguf(reference: HubReference, files: Iterable[HubFile], where: str) -> tuple[str, ...]:
    """Return all part names of the one GGUF meant; ModelNotFound lists what `where` has instead."""
    models = _models(files)
    if reference.file is not None:
        found = [model for model in models if reference.file in model.names]
    else:
        models = [model for model in models if not model.is_companion]
        label = (reference.quant or DEFAULT_QUANT).upper()
        is_only = reference.quant is None and len(models) == 1
        found = [model for model in models if is_only or model.quant == label]
    if len(found) == 1 and not found[0].missing:
        return found[0].names
    raise ModelNotFound(_complaint(reference, where, models, found))


def listing(lines: Iterable[str]) -> str:
    """Lay out for an error message, sorted, one a line, at most twenty."""
    ordered = sorted(lines)
    n_more = len(ordered) - _MAX_LISTED
    shown = ordered[:_MAX_LISTED] + ([f"and {n_more} more"] if n_more > 0 else [])
    return "".join(f"\n  {line}" for line in shown)


@dataclass(frozen=True, slots=True)
class _Model:
    """A GGUF file, or a split one: all part names, and those of its files that are there."""

    names: tuple[str, ...]
    files: tuple[HubFile, ...]

    @property
    def quant(self) -> str | None:
        return self.files[0].quant

    @property
    def is_companion(self) -> bool:
        return self.files[0].is_companion

    @property
    def missing(self) -> list[str]:
        present = {file.name for file in self.files}
        return [name for name in self.names if name not in present]

    @property
    def facts(self) -> str:
        """Size and completeness, as far as known, such as ` (5.1 GB, 3 of 3 parts)`."""
        sizes = [file.size for file in self.files if file.size is not None]
        facts = [_readable(sum(sizes))] if len(sizes) == len(self.files) else []
        if len(self.names) > 1:
            facts.append(f"{len(self.files)} of {len(self.names)} parts")
        return f" ({', '.join(facts)})" if facts else ""


def _models(files: Iterable[HubFile]) -> list[_Model]:
    groups: dict[tuple[str, ...], list[HubFile]] = {}
    for file in files:
        if file.is_gguf:
            groups.setdefault(_part_names(file.name), []).append(file)
    return [_Model(names, tuple(group)) for names, group in groups.items()]


def _part_names(name: str) -> tuple[str, ...]:
    """All parts that belong with this one, by llama.cpp's name-00001-of-00003.gguf."""
    split = _PART.fullmatch(name)
    if split is None or not 1 <= int(split[2]) <= int(split[3]):
        return (name,)
    parts = range(1, int(split[3]) + 1)
    return tuple(f"{split[1]}{part:05d}-of-{split[3]}{split[4]}" for part in parts)


def _complaint(reference: HubReference, where: str, models: Sequence[_Model], found: Sequence[_Model]) -> str:
    if not models:
        return f"{where} has no GGUF model; look for a repository with GGUF in its name"
    if len(found) == 1:
        return f"{where} lacks parts of {found[0].names[0]}:{listing(found[0].missing)}"
    wanted = reference.file or reference.quant
    if found:
        menu = _menu(reference.repo, found)
        return f"{where} has {len(found)} models in {wanted or DEFAULT_QUANT}; say which:{menu}"
    menu = _menu(reference.repo, models)
    if wanted is None:
        return f"{where} has {len(models)} models and none in {DEFAULT_QUANT}; say which:{menu}"
    return f"{where} has no {wanted}; it has:{menu}"


def _menu(repo: str, models: Sequence[_Model]) -> str:
    """List each model as the text that selects it alone."""
    n_with = Counter(model.quant for model in models)
    return listing(
        (
            f"{repo}:{model.quant}"
            if model.quant is not None and n_with[model.quant] == 1
            else f"{repo}/{model.names[0]}"
        )
        + model.facts
        for model in models
    )


def _readable(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")
