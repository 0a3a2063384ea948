"""Whether a model or a head can draft for a target, and what it could win.

Knows the target's header, its vocabulary and its measured costs; decodes nothing, loads no weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapters.errors import PilotfishError
from adapters.gguf_file import GgufFacts, read_gguf
from adapters.gguf_header import read_header
from adapters.llama_context import LlamaContext
from adapters.llama_plan import PlannedModel
from adapters.settings import ContextSettings
from adapters.tokenizer import Tokenizer
from adapters.vocab import vocab_differences
from orchestrator.cost.curve import CostCurve
from orchestrator.cost.store import curve_key, load_curve
from orchestrator.extras import require_torch
from orchestrator.pairs.estimate import MOST, Effort, Gain, bytes_read, gain
from orchestrator.pairs.find import Found

_LEAST = 1.02  # a best case below this is none


@dataclass(frozen=True, slots=True)
class Pairing:
    """refusal: why it cannot be used, "" = it can. warning: why it will not pay. family: model, or a head's.
    measured: whether its costs and the target's were, or are guessed from bytes."""

    name: str
    family: str
    refusal: str = ""
    warning: str = ""
    bytes: int = 0  # that a guess reads
    gain: Gain | None = None
    measured: bool = False


class Judge:
    """Judges what may draft for one target."""

    def __init__(self, path: Path) -> None:
        """Raises ModelLoadError or UnsupportedModel for what is no target."""
        self.path, self.facts = path, read_gguf(path)
        self._planned = PlannedModel(path)
        self._tokenizer = Tokenizer(self._planned.model)
        self._tokenizer_model = _tokenizer_model(path)
        self.bytes = bytes_read(path)
        self.curve = _curve(self._planned)

    @property
    def refusal(self) -> str:
        """Why nothing can draft for it; "" where something may."""
        why = self._planned.model.no_rollback
        return f"{self.path.name} cannot be sped up: {why}" if why else ""

    def judge(self, found: Found) -> Pairing:
        """A verdict on everything, damaged files included."""
        family = "model" if found.kind == "model" else "head"
        try:
            return self._model(found) if found.kind == "model" else self._head(found)
        except PilotfishError as error:
            return Pairing(found.name, family, refusal=str(error))

    def _model(self, found: Found) -> Pairing:
        facts = read_gguf(found.path)
        refusal = self._refused(found.path, facts)
        if refusal:
            return Pairing(found.name, "model", refusal=refusal)
        with PlannedModel(found.path) as planned:
            if planned.model.no_rollback:
                return Pairing(found.name, "model", refusal=f"cannot draft: {planned.model.no_rollback}")
            differences = vocab_differences(self._tokenizer, Tokenizer(planned.model))
            if differences:
                return Pairing(found.name, "model", refusal=f"another vocabulary: {'; '.join(differences)}")
            curve = _curve(planned)
        n_bytes = bytes_read(found.path)
        both = self.curve is not None and curve is not None
        per_token = n_bytes / max(1, self.bytes)
        if self.curve is not None and curve is not None:
            per_token = curve.ms(1, 0) / self.curve.ms(1, 0)
        return self._paired(found.name, "model", n_bytes, Effort(per_token), measured=both)

    def _refused(self, path: Path, facts: GgufFacts) -> str:
        """What the header alone is enough to see."""
        if facts.architecture == "eagle3":
            return "a head in a GGUF file; a head in PyTorch or safetensors form is needed"
        if path.resolve() == self.path.resolve():
            return "the target itself"
        other = _tokenizer_model(path)
        if other != self._tokenizer_model:
            return f"another kind of vocabulary ({other}, the target's is {self._tokenizer_model})"
        return ""

    def _head(self, found: Found) -> Pairing:
        require_torch()
        import torch

        from adapters.llama_hidden import tap_way
        from heads.checkpoint import load_head
        from heads.fit import check_fit, step_bytes
        from heads.spec import MedusaSpec

        head = load_head(found.path)
        family = head.spec.family
        try:
            check_fit(head, self.facts, layer_inputs=tap_way(self.facts.architecture) != "none")
        except PilotfishError as error:
            return Pairing(found.name, family, refusal=str(error))
        n_bytes = step_bytes(head, n_embd=self.facts.n_embd, n_vocab=self.facts.n_vocab, dtype=torch.int8)
        share = n_bytes / max(1, self.bytes)
        # the heads of Medusa guess all at once, those of EAGLE one token after the other
        effort = Effort(share)
        if isinstance(head.spec, MedusaSpec):
            effort = Effort(0.0, share, min(MOST, head.spec.n_heads))
        return self._paired(found.name, family, n_bytes, effort, measured=False)

    def _paired(self, name: str, family: str, n_bytes: int, effort: Effort, *, measured: bool) -> Pairing:
        won = gain(effort, self.curve)
        warning = ""
        if won.best < _LEAST:
            warning = "cannot win: its guesses cost more than they can save, were they all right"
        elif won.likely < _LEAST:
            warning = "pays only where more than 70 % of its guesses are right"
        return Pairing(name, family, "", warning, n_bytes, won, measured)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._planned.close()


def _tokenizer_model(path: Path) -> str:
    return str(read_header(path).fields.get("tokenizer.ggml.model", "none"))


def _curve(planned: PlannedModel) -> CostCurve | None:
    """What was measured here with default settings, None = nothing yet."""
    context = LlamaContext(planned.model, ContextSettings())
    try:
        return load_curve(curve_key(context))
    finally:
        context.close()


def ranked(pairings: list[Pairing]) -> list[Pairing]:
    """What promises most comes first, what is refused last."""
    return sorted(
        pairings, key=lambda one: (bool(one.refusal), -(one.gain.likely if one.gain else 0), one.name)
    )
