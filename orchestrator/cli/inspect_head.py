"""`pilotfish inspect HEAD --target MODEL`: what a head is, whether it fits, and which layers it reads."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.output import Bar
from orchestrator.errors import ChatTemplateError
from orchestrator.extras import require_torch

if TYPE_CHECKING:
    from adapters.gguf_file import GgufFacts
    from heads.spec import Head
    from orchestrator.engine import Engine

_SHIFTS = (-1, 0, 1)  # conventions differ by one: is a layer named by its input or by its output?
_PROMPTS = (
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "Explain how a bicycle stays upright while it is ridden.",
    "Write a Python function that counts the words of a text, and explain it.",
)


def head_document(
    name: str, path: Path, facts: "GgufFacts", *, offline: bool, calibrate: bool
) -> dict[str, Any]:
    """Everything that is known of the head beside this target; HeadError where they do not fit."""
    require_torch()
    from adapters.llama_hidden import tap_way
    from heads.checkpoint import load_head
    from heads.choice import chosen_head
    from heads.fit import check_fit, head_bytes, taps_of
    from heads.target_weights import TargetWeights

    name = str(chosen_head(name, path))
    head = load_head(name, local_files_only=offline)
    way = tap_way(facts.architecture)
    notes = check_fit(head, facts, layer_inputs=way != "none")
    taps = taps_of(head, facts.n_layer)
    tied = TargetWeights(path).tied
    sizes = {
        dtype: asdict(
            head_bytes(head, n_embd=facts.n_embd, n_vocab=facts.n_vocab, dtype=_dtype(dtype), tied=tied)
        )
        for dtype in ("int8", "bfloat16", "float32")
    }
    return {
        "head": head.source,
        **asdict(head.spec),
        "family": head.spec.family,
        "own_embedding": "embedding.weight" in head.tensors,
        "own_projection": any(name.startswith("output") for name in head.tensors),
        "reads": "post-norm rows" if not taps else f"inputs of layers {', '.join(map(str, taps))}",
        "taps": taps,
        "tap_way": way if taps else "",
        "bytes": sizes,
        "notes": [*head.notes, *notes],
        "calibration": calibration(head, name, path, taps) if calibrate and taps else [],
    }


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def calibration(head: "Head", name: str, path: Path, taps: tuple[int, ...]) -> list[Mapping[str, Any]]:
    """tau of chains of 4, greedy, by the layers that the head is given; what is right stands out."""
    from adapters.llama_hidden import tap_way
    from adapters.llama_model import LlamaModel
    from orchestrator.engine import Engine

    found: list[Mapping[str, Any]] = []
    with Bar("trying the layers") as bar:
        model = LlamaModel(path)
        first = 1 if tap_way(model.architecture) == "callback" else 0  # the callback does not see layer 0's
        try:
            for n_done, shift in enumerate(_SHIFTS):
                layers = tuple(tap + shift for tap in taps)
                if min(layers) < first or max(layers) >= model.n_layer:
                    continue
                engine = Engine.load(
                    model, method="head", head=name, temperature=0.0, max_draft=4, head_taps=layers
                )
                with engine:
                    found.append({"taps": layers, "tau": _tau(engine)})
                bar(n_done + 1, len(_SHIFTS))
        finally:
            model.close()
    return found


def _tau(engine: "Engine") -> float:
    stats = []
    for prompt in _PROMPTS:
        try:
            tokens = engine.chat_prompt([{"role": "user", "content": prompt}])
        except ChatTemplateError:  # a model without one just goes on
            tokens = engine.tokenizer.encode(prompt)
        stats.append(engine.generate_tokens(tokens, max_tokens=96).stats)
    return float(sum(one.n_tokens for one in stats) / sum(one.n_decodes for one in stats))


def head_facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table's rows."""
    rows = [("head", document["head"]), ("family", document["family"])]
    if document["family"] == "medusa":
        rows.append(("heads", f"{document['n_heads']}, of {document['n_blocks']} block(s) each"))
    else:
        layer = f"{document['n_layers']} of width {document['width']}, MLP {document['intermediate_size']}"
        attention = (
            f"{document['n_heads']} heads of {document['head_dim']}, {document['n_kv_heads']} for keys"
        )
        rows += [("layers", layer), ("attention", attention)]
        rope = document["rope"]
        scaling = "" if rope["scaling"] is None else f", scaled ({rope['scaling']['rope_type']})"
        rows.append(("positions", f"theta {rope['theta']:g}{scaling}"))
    rows.append(("vocabulary", _vocabulary(document)))
    rows.append(("reads", document["reads"]))
    if document["tap_way"] == "callback":
        rows.append(("", "through a callback at every node of the graph: slower, see bench/taps.py"))
    rows += [(f"memory, {dtype}", _memory(sizes)) for dtype, sizes in document["bytes"].items()]
    rows += [("note", note) for note in document["notes"]]
    best = max((one["tau"] for one in document["calibration"]), default=0.0)
    for one in document["calibration"]:
        mark = "  <- best" if one["tau"] == best else ""
        rows.append((f"layers {','.join(map(str, one['taps']))}", f"tau {one['tau']:.2f}{mark}"))
    return rows


def _vocabulary(document: Mapping[str, Any]) -> str:
    own = "its own projection" if document["own_projection"] else "the target's projection"
    n_vocab = document["n_vocab"]
    return own if n_vocab is None else f"{n_vocab:,} tokens, {own}"


def _memory(sizes: Mapping[str, int]) -> str:
    borrowed = f" and {sizes['borrowed'] / 1e6:,.0f} MB of the target's" if sizes["borrowed"] else ""
    return (
        f"{sizes['weights'] / 1e6:,.0f} MB{borrowed}, "
        f"{sizes['kv_per_1000_tokens'] / 1e6:,.1f} MB per 1,000 tokens of context"
    )
