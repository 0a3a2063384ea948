"""From a GGUF and a few prompts to a head that drafts for it, and to what that brings.

usage: python examples/train_head.py MODEL.gguf [PROMPTS] [FOLDER]       (pip install "pilotfish[heads]")

Sixteen prompts show the way and no more; `pilotfish train` is the same with thousands of them.
"""

import sys
from itertools import islice
from pathlib import Path

from adapters.llama_model import LlamaModel
from heads.training.prompts import read_prompts
from heads.training.recipe import Recipe
from heads.training.trainer import TrainSettings
from heads.training.workshop import Workshop
from orchestrator import Engine

PROMPTS = [f"Write one sentence about the number {n}." for n in range(16)]


def main(target: str, prompts: str = "", folder: str = "head-of-an-example") -> None:
    asked = list(islice(read_prompts(prompts), 2000)) if prompts else PROMPTS
    recipe = Recipe(answer_tokens=64, train=TrainSettings(epochs=3))
    shop = Workshop(Path(target), Path(folder), recipe, tell=print)
    model = LlamaModel(target)
    shop.answer(model, asked)  # what the target itself says is what the head has to guess
    store = shop.features(model)
    shop.gather(store)
    written = shop.write(*shop.train(store), store, data="an example")

    with Engine.load(model, method="head", head=written, temperature=0) as engine:
        for tokens in shop.held_out_prompts(store)[:4]:  # the head has never seen these
            plain = engine.generate_tokens(tokens, max_tokens=64, speculate=False)
            fast = engine.generate_tokens(tokens, max_tokens=64)
            print(f"plain {plain.stats.summary()}\nhead  {fast.stats.summary()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
