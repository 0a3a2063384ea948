"""Medusa heads in the layouts that are published.

    {i}.{l}.linear.*, {i}.{L}.weight           FasterDecoding, TGI; "version 2" lacks the projections
    medusa_head.{i}...                         the same inside a full model (Medusa-2)
    blocks.{i}.layers.{l}.*, lm_heads.{i}.*    vLLM; one projection may serve all, token_map may cut it down

Knows names and shapes of these; see heads.reading for what it shares with the others.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from heads.reading import Reading
from heads.spec import MedusaSpec
from heads.vocabulary import read_target_ids

_INSIDE = re.compile(r"(?:.+\.)?medusa_head\.(\d+\..+)")
_BLOCK = re.compile(r"(\d+)\.(\d+)\.linear\.(weight|bias)")
_OUTPUT = re.compile(r"(\d+)\.(\d+)\.weight")
_VLLM_BLOCK = re.compile(r"blocks\.(\d+)\.layers\.(\d+)\.(weight|bias)")
_VLLM_OUTPUT = re.compile(r"lm_heads\.(\d+)\.weight")


def is_medusa(names: Iterable[str]) -> bool:
    return any(
        pattern.fullmatch(name.removeprefix("medusa_heads."))
        for name in names
        for pattern in (_INSIDE, _BLOCK, _OUTPUT, _VLLM_BLOCK, _VLLM_OUTPUT)
    )


def read_medusa(reading: Reading) -> MedusaSpec:
    """Move the tensors to their canonical names; how many there are, is read off them."""
    _leave_the_model(reading)
    reading.rename(lambda name: name.removeprefix("medusa_heads."))
    if any(_VLLM_BLOCK.fullmatch(name) or _VLLM_OUTPUT.fullmatch(name) for name in reading.left):
        outputs = _vllm_outputs(reading)
        reading.rename(_plain_block)
    else:
        outputs = _plain_outputs(reading)
    blocks = [(int(m[1]), int(m[2])) for name in reading.left if (m := _BLOCK.fullmatch(name))]
    n_heads = reading.count("head", {head for head, _ in blocks} | set(outputs))
    n_blocks = reading.count("block", {block for _, block in blocks})
    reading.compare("heads", n_heads, "medusa_num_heads", "num_heads")
    reading.compare("blocks in each", n_blocks, "medusa_num_layers")
    width = reading.size("0.0.linear.weight" if n_blocks else outputs[0])[1]
    _move_blocks(reading, n_heads, n_blocks, width)
    n_vocab = _move_outputs(reading, n_heads, outputs, width)
    reading.finish()
    return MedusaSpec(n_heads=n_heads, n_blocks=n_blocks, hidden_size=width, n_vocab=n_vocab)


def _leave_the_model(reading: Reading) -> None:
    """Keep the heads only, if they lie inside a full model."""
    inside = {name for name in reading.left if _INSIDE.fullmatch(name)}
    if not inside:
        return
    reading.drop(*(set(reading.left) - inside))
    reading.rename(lambda name: _INSIDE.sub(r"\1", name))
    reading.notes.append(
        "the heads come out of a full model, which may have been trained along with them: "
        "the GGUF must be made from that very model"
    )


def _plain_block(name: str) -> str:
    return _VLLM_BLOCK.sub(r"\1.\2.linear.\3", name)


def _plain_outputs(reading: Reading) -> dict[int, str]:
    """Name of the projection by head."""
    found: dict[int, str] = {}
    for name in reading.left:
        if match := _OUTPUT.fullmatch(name):
            if int(match[1]) in found:
                reading.fail(f"head {match[1]} has two projections, {found[int(match[1])]} and {name}")
            found[int(match[1])] = name
    return found


def _vllm_outputs(reading: Reading) -> dict[int, str]:
    found = {int(m[1]): name for name in reading.left if (m := _VLLM_OUTPUT.fullmatch(name))}
    if reading.flag("original_lm_head") and 0 in found:
        reading.drop(*(name for head, name in found.items() if head))
        found = {0: found[0]}
    return found or ({0: "lm_head.weight"} if "lm_head.weight" in reading.left else {})


def _move_blocks(reading: Reading, n_heads: int, n_blocks: int, width: int) -> None:
    n_without = 0
    for head in range(n_heads):
        for block in range(n_blocks):
            file, made = f"{head}.{block}.linear", f"blocks.{head}.{block}"
            reading.move(f"{file}.weight", f"{made}.weight", width, width)
            if not reading.move_if(f"{file}.bias", f"{made}.bias", width):
                reading.made[f"{made}.bias"] = reading.made[f"{made}.weight"].new_zeros(width)
                n_without += 1
    if n_without:
        reading.notes.append(f"{n_without} of {n_heads * n_blocks} blocks have no bias: zeros")


def _move_outputs(reading: Reading, n_heads: int, outputs: dict[int, str], width: int) -> int | None:
    """The rows of a projection; None where the heads use the target's."""
    if not outputs:
        if "token_map" in reading.left:
            reading.fail("has a token_map but no projection that it belongs to; fetch the file again")
        return None
    if len(outputs) not in (1, n_heads):
        absent = sorted(set(range(n_heads)) - set(outputs))
        reading.fail(f"has projections for some heads, but none for head {absent[0]}; fetch the file again")
    n_rows = reading.size(outputs[0])[0]
    found = {head: reading.weight(name, n_rows, width) for head, name in outputs.items()}
    n_rows = _trim(reading, found, n_rows)
    for head in range(n_heads):
        reading.made[f"outputs.{head}.weight"] = found[head if len(found) > 1 else 0]
    return n_rows


def _trim(reading: Reading, outputs: dict[int, Tensor], n_rows: int) -> int:
    """Cut the projections down to the tokens of token_map, if they are longer."""
    ids = read_target_ids(reading, n_rows, None)
    if ids is None:
        return n_rows
    if len(ids) < n_rows:
        for head, output in outputs.items():
            outputs[head] = torch.index_select(output, 0, ids)
    reading.made["token_map"] = ids
    return len(ids)
