"""Heads that are published for well-known models, and which of them belong to a GGUF by its own metadata.

Knows names and sizes; asks no network. Whether a head that was fetched fits is for heads.fit.
"""

import re
from dataclasses import dataclass

from adapters.gguf_file import GgufFacts
from heads.spec import Family, default_taps

_BEST_FIRST: tuple[Family, ...] = ("eagle3", "eagle", "medusa")  # by accepted tokens per round in the papers
# words in names of conversions that say nothing of the model
_IDLE = frozenset(("gguf", "hf", "lmsys", "meta", "mistralai"))


@dataclass(frozen=True, slots=True)
class Original:
    """A model as it was published, whatever its weights are stored as.

    name: on the Hub. gguf: a repository of conversions, "" = none well known. architecture: llama.cpp's name.
    also: what conversions call the model besides its own name.
    """

    name: str
    gguf: str
    architecture: str
    n_embd: int
    n_layer: int
    n_vocab: int
    also: tuple[str, ...] = ()

    def is_in(self, facts: GgufFacts) -> bool:
        """Whether a GGUF is this model: all sizes agree, and its name has the same words, none more."""
        sizes = (facts.architecture, facts.n_embd, facts.n_layer, facts.n_vocab)
        if sizes != (self.architecture, self.n_embd, self.n_layer, self.n_vocab):
            return False
        names = (self.name.partition("/")[2], *self.also)
        return _words(facts.name) in map(_words, names)


@dataclass(frozen=True, slots=True)
class Pair:
    """A head and the model that it was made for. note: what to know before choosing it."""

    original: Original
    head: str  # on the Hub
    family: Family
    note: str = ""

    @property
    def model(self) -> str:
        return self.original.name

    @property
    def gguf(self) -> str:
        return self.original.gguf

    @property
    def taps(self) -> tuple[int, ...]:
        """The layers whose inputs it reads: of every head here the usual ones, () = post-norm rows."""
        return default_taps(self.original.n_layer) if self.family == "eagle3" else ()


def _llama3(name: str, gguf: str, n_embd: int = 4096, n_layer: int = 32) -> Original:
    return Original(name, gguf, "llama", n_embd, n_layer, 128_256)


def _qwen3(size: str, n_embd: int, n_layer: int, architecture: str = "qwen3") -> Original:
    # Qwen's own conversions add a word to the name
    also = (f"Qwen3 {size} Instruct",)
    return Original(
        f"Qwen/Qwen3-{size}", f"Qwen/Qwen3-{size}-GGUF", architecture, n_embd, n_layer, 151_936, also
    )


_LLAMA_3_8B = _llama3("meta-llama/Meta-Llama-3-8B-Instruct", "bartowski/Meta-Llama-3-8B-Instruct-GGUF")
_LLAMA_3_70B = _llama3(
    "meta-llama/Meta-Llama-3-70B-Instruct", "bartowski/Meta-Llama-3-70B-Instruct-GGUF", 8192, 80
)
_LLAMA_31_8B = _llama3("meta-llama/Llama-3.1-8B-Instruct", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF")
_LLAMA_33_70B = _llama3(
    "meta-llama/Llama-3.3-70B-Instruct", "bartowski/Llama-3.3-70B-Instruct-GGUF", 8192, 80
)
_R1_LLAMA_8B = _llama3(
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF"
)
_QWEN3_1_7B = _qwen3("1.7B", 2048, 28)
_QWEN3_4B = _qwen3("4B", 2560, 36)
_QWEN3_8B = _qwen3("8B", 4096, 36)
_QWEN3_14B = _qwen3("14B", 5120, 40)
_QWEN3_32B = _qwen3("32B", 5120, 64)
_QWEN3_30B_A3B = _qwen3("30B-A3B", 2048, 48, "qwen3moe")
_QWEN2_7B = Original("Qwen/Qwen2-7B-Instruct", "bartowski/Qwen2-7B-Instruct-GGUF", "qwen2", 3584, 28, 152_064)
_MISTRAL_7B = Original(
    "mistralai/Mistral-7B-Instruct-v0.2", "TheBloke/Mistral-7B-Instruct-v0.2-GGUF", "llama", 4096, 32, 32_000
)
_VICUNA_7B = Original("lmsys/vicuna-7b-v1.3", "", "llama", 4096, 32, 32_000)
_VICUNA_13B = Original("lmsys/vicuna-13b-v1.3", "", "llama", 5120, 40, 32_000)

_VICUNA_PROMPT = "drafts well behind Vicuna's own prompt (USER: ... ASSISTANT:)"
_EXPERTS = "a mixture of experts: further rows cost more than in dense models, so less is won"

# of one model's heads of the same family the first is what `auto` takes
PAIRS: tuple[Pair, ...] = (
    Pair(
        _LLAMA_31_8B,
        "lmsys/SGLang-EAGLE3-Llama-3.1-8B-Instruct-SpecForge",
        "eagle3",
        "by its makers' figures level with the next in chat, better in code and mathematics",
    ),
    Pair(_LLAMA_31_8B, "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", "eagle3"),
    Pair(_LLAMA_31_8B, "RedHatAI/Llama-3.1-8B-Instruct-speculator.eagle3", "eagle3"),
    Pair(_LLAMA_31_8B, "yuhuili/EAGLE-LLaMA3.1-Instruct-8B", "eagle"),
    Pair(_LLAMA_3_8B, "yuhuili/EAGLE-LLaMA3-Instruct-8B", "eagle"),
    Pair(_LLAMA_3_70B, "yuhuili/EAGLE-LLaMA3-Instruct-70B", "eagle"),
    Pair(_LLAMA_33_70B, "yuhuili/EAGLE3-LLaMA3.3-Instruct-70B", "eagle3"),
    Pair(_LLAMA_33_70B, "lmsys/SGLang-EAGLE3-Llama-3.3-70B-Instruct-SpecForge", "eagle3"),
    Pair(_R1_LLAMA_8B, "yuhuili/EAGLE3-DeepSeek-R1-Distill-LLaMA-8B", "eagle3"),
    Pair(_QWEN3_1_7B, "AngelSlim/Qwen3-1.7B_eagle3", "eagle3"),
    Pair(_QWEN3_4B, "AngelSlim/Qwen3-4B_eagle3", "eagle3"),
    Pair(_QWEN3_8B, "AngelSlim/Qwen3-8B_eagle3", "eagle3"),
    Pair(_QWEN3_8B, "RedHatAI/Qwen3-8B-speculator.eagle3", "eagle3"),
    Pair(_QWEN3_8B, "Tengyunw/qwen3_8b_eagle3", "eagle3"),
    Pair(_QWEN3_8B, "Zjcxy-SmartAI/Eagle3-Qwen3-8B-zh", "eagle3", "for Chinese"),
    Pair(_QWEN3_14B, "AngelSlim/Qwen3-14B_eagle3", "eagle3"),
    Pair(_QWEN3_14B, "RedHatAI/Qwen3-14B-speculator.eagle3", "eagle3"),
    Pair(_QWEN3_32B, "AngelSlim/Qwen3-32B_eagle3", "eagle3"),
    Pair(_QWEN3_32B, "RedHatAI/Qwen3-32B-speculator.eagle3", "eagle3"),
    Pair(_QWEN3_30B_A3B, "AngelSlim/Qwen3-a3B_eagle3", "eagle3", _EXPERTS),
    Pair(_QWEN3_30B_A3B, "Tengyunw/qwen3_30b_moe_eagle3", "eagle3", _EXPERTS),
    Pair(
        _QWEN2_7B,
        "yuhuili/EAGLE-Qwen2-7B-Instruct",
        "eagle",
        "overflows in float16; 1.7 tokens a round were measured in chains, few for an EAGLE head",
    ),
    Pair(_MISTRAL_7B, "text-generation-inference/Mistral-7B-Instruct-v0.2-medusa", "medusa"),
    Pair(_VICUNA_7B, "yuhuili/EAGLE-Vicuna-7B-v1.3", "eagle", _VICUNA_PROMPT),
    Pair(_VICUNA_7B, "FasterDecoding/medusa-vicuna-7b-v1.3", "medusa", _VICUNA_PROMPT),
    Pair(_VICUNA_13B, "yuhuili/EAGLE3-Vicuna1.3-13B", "eagle3", _VICUNA_PROMPT),
    Pair(_VICUNA_13B, "yuhuili/EAGLE-Vicuna-13B-v1.3", "eagle", _VICUNA_PROMPT),
    Pair(_VICUNA_13B, "FasterDecoding/medusa-vicuna-13b-v1.3", "medusa", _VICUNA_PROMPT),
)


def published_heads(facts: GgufFacts) -> tuple[Pair, ...]:
    """The heads that are known for this very model, the best first; fine-tuned relatives have none."""
    found = [pair for pair in PAIRS if pair.original.is_in(facts)]
    return tuple(sorted(found, key=lambda pair: _BEST_FIRST.index(pair.family)))


def _words(name: str) -> list[str]:
    """Words and numbers in lower case and in order of the alphabet: "8B-Instruct" and "Instruct 8b" agree."""
    words = re.findall(r"\d+(?:\.\d+)*|[^\W\d_]+", name.lower())
    return sorted(word for word in words if word not in _IDLE)
