"""A checkpoint while it is read: tensors that are left, what they became, and what had to be assumed.

Knows names, shapes and dtypes, and how to say what is wrong with them; nothing of any layout.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from adapters.errors import HeadError

_WEIGHTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_IDS = (torch.int64, torch.int32, torch.int16, torch.uint8)
_SHOWN = 5


class Reading:
    """Tensors move from `left` (names of the layout) to `made` (canonical names).

    config: the draft's, with what it nests (`transformer_layer_config`, `model`) on the same level.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> None:
        self.outer, self.config = config, _flat(config)
        self.source = source
        self.left = dict(tensors)
        self.made: dict[str, Tensor] = {}
        self.notes: list[str] = []
        self._names = {name: name for name in tensors}  # as the file has them

    @property
    def is_speculators(self) -> bool:
        """Whether the config is one of the speculators library, whose defaults differ."""
        return "speculators_model_type" in self.outer or "speculators_config" in self.outer

    def fail(self, text: str) -> NoReturn:
        raise HeadError(f"{self.source}: {text}")

    def rename(self, new: Callable[[str], str]) -> None:
        """Give every tensor that is left the name `new` has for it."""
        renamed: dict[str, Tensor] = {}
        names: dict[str, str] = {}
        for name, tensor in self.left.items():
            after = new(name)
            if after in renamed:
                self.fail(f"{names[after]} and {self._names[name]} mean the same tensor; remove one of them")
            renamed[after], names[after] = tensor, self._names[name]
        self.left, self._names = renamed, names

    def size(self, name: str) -> tuple[int, int]:
        """Rows and columns of a matrix that must be there."""
        tensor = self.left.get(name)
        if tensor is None:
            self._miss(name)
        if tensor.dim() != 2:
            self.fail(f"{self._names[name]} has shape {list(tensor.shape)}, not that of a matrix; {_ADVICE}")
        return tensor.shape[0], tensor.shape[1]

    def move(self, name: str, made: str, *shape: int) -> None:
        """Take a weight that must be there, of exactly this shape."""
        if name not in self.left:
            self._miss(name, shape)
        self.made[made] = self.weight(name, *shape)

    def move_if(self, name: str, made: str, *shape: int) -> bool:
        """Take a weight if it is there; whether it was."""
        if name in self.left:
            self.move(name, made, *shape)
            return True
        return False

    def weight(self, name: str, *shape: int) -> Tensor:
        """Remove a weight from what is left, its shape and dtype checked."""
        tensor, shown = self.left.pop(name), self._names[name]
        if tensor.shape != shape:
            found, wanted = list(tensor.shape), list(shape)
            self.fail(f"{shown} has shape {found}, but the other tensors want {wanted}; {_ADVICE}")
        if tensor.dtype not in _WEIGHTS:
            self.fail(
                f"{shown} is stored as {tensor.dtype}; quantized heads are not read: "
                "use one in float32, bfloat16 or float16"
            )
        return tensor

    def ids(self, name: str) -> Tensor | None:
        """Remove a list of whole numbers from what is left, as int64; None if there is none."""
        tensor = self.left.pop(name, None)
        if tensor is None:
            return None
        if tensor.dim() != 1 or tensor.dtype not in _IDS:
            found = f"{tensor.dtype} of shape {list(tensor.shape)}"
            self.fail(f"{self._names[name]} is {found}, not a list of whole numbers; {_ADVICE}")
        return tensor.to(torch.int64)

    def drop(self, *names: str) -> None:
        for name in names:
            self.left.pop(name, None)

    def number(self, *keys: str) -> int | None:
        """The first of these whole numbers that the config has."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                self.fail(f"{key} of config.json is {value!r}, not a whole number; correct it")
            return value
        return None

    def real(self, key: str, default: float) -> float:
        """A positive number of the config."""
        value = self.config.get(key)
        if value is None:
            return default
        if not is_positive(value):
            self.fail(f"{key} of config.json is {value!r}, not a positive number; correct it")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.config.get(key)
        return default if value is None else bool(value)

    def compare(self, what: str, found: int, *keys: str) -> None:
        """Note a config that says something else than the tensors, which are right."""
        said = self.number(*keys)
        if said is not None and said != found:
            self.notes.append(f"config says {said} {what}, the file has {found}")

    def count(self, what: str, indices: Sequence[int] | set[int]) -> int:
        """How many there are, numbered from 0 without a gap."""
        n = max(indices, default=-1) + 1
        missing = sorted(set(range(n)) - set(indices))
        if missing:
            self.fail(f"has {what} {n - 1} but no {what} {missing[0]}; {_ADVICE}")
        return n

    def finish(self) -> None:
        """Refuse what nobody took: it would change what the head computes."""
        if self.left:
            names = sorted(self._names[name] for name in self.left)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            self.fail(
                f"tensors of an unknown kind: {', '.join(names[:_SHOWN])}{more}; "
                "heads with modules of their own (GRIFFIN and others) cannot be run"
            )

    def _miss(self, name: str, shape: Sequence[int] = ()) -> NoReturn:
        wanted = f" of shape {list(shape)}" if shape else ""
        self.fail(f"has no tensor {name}{wanted}; {_ADVICE}")


_ADVICE = "the file is incomplete, or of an architecture that is not known: fetch it again, or use another"


def is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(config)
    for key in ("transformer_layer_config", "model"):
        nested = config.get(key)
        if isinstance(nested, Mapping):
            flat |= nested
    return flat
