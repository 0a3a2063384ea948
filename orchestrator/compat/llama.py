"""llama_cpp.Llama's interface on an Engine: a script changes one import line and keeps the rest.

Arguments have llama-cpp-python's names, order and defaults. What cannot be honoured is refused with the
reason. Knows arguments and engines; what replies look like is orchestrator.openai's.
"""

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.gguf_file import read_gguf
from adapters.models import resolve_model
from orchestrator.compat.chat_formats import handler_of
from orchestrator.compat.errors import NotHonoured
from orchestrator.compat.hub import gguf_on_the_hub
from orchestrator.compat.settings import drafter_of, engine_settings
from orchestrator.compat.state import State
from orchestrator.compat.vocabulary import Refused, Vocabulary
from orchestrator.engine import Engine
from orchestrator.openai.answer import Answer
from orchestrator.openai.parameters import Call, chat_call, completion_call
from orchestrator.openai.replies import Reply
from orchestrator.sampling import RANDOM_SEED

Replied = Reply | Iterator[Reply]


class Llama(Vocabulary, Refused):
    """A model, loaded; `engine` is what it runs on, `last_stats` how the last answer came about."""

    def __init__(
        self,
        model_path: str | Path,
        *,
        n_gpu_layers: int = 0,
        split_mode: int | str = 1,
        main_gpu: int = 0,
        tensor_split: Sequence[float] | None = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: Mapping[str, Any] | None = None,
        seed: int = RANDOM_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int | None = -1,
        pooling_type: int = -1,
        attention_type: int = -1,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool = False,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: str | None = None,
        lora_scale: float = 1.0,
        lora_path: str | None = None,
        numa: bool | int = False,
        chat_format: str | None = None,
        chat_handler: Any = None,
        draft_model: Any = None,
        tokenizer: Any = None,
        type_k: int | str | None = None,
        type_v: int | str | None = None,
        spm_infill: bool = False,
        verbose: bool = True,
        references: Any = None,
        **settings: Any,
    ) -> None:
        """Load `model_path`: a GGUF, or any other name that Engine.load knows.

        The arguments are llama_cpp.Llama's, with its defaults. draft_model: an object for its hook, a smaller
        GGUF, or a Drafter; without one the text drafts for itself. references: documents that answers may
        quote. verbose: a line on stderr about each answer. settings: pilotfish's own (method, head, planner,
        temperature is each call's, ...), as Engine.load takes them. Raises ConfigError for what cannot be
        honoured.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "settings")}
        if n_ctx == 0:
            given["n_ctx"] = read_gguf(resolve_model(model_path)).n_ctx_train
        own = engine_settings(given)
        self.model_path, self.verbose, self.chat_format = str(model_path), verbose, chat_format
        self._seed = seed or RANDOM_SEED
        self.engine = Engine.load(model_path, drafter_of(draft_model), **{**own, **settings})
        try:
            self.metadata = self.engine.model.metadata
            self._handler = handler_of(chat_format, chat_handler, "tokenizer.chat_template" in self.metadata)
            self._references = None if references is None else self.engine.prepare(references)
        except BaseException:
            self.engine.close()
            raise
        self.last_stats: Any = None

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None,
        additional_files: Sequence[str] | None = None,
        local_dir: Any = None,
        local_dir_use_symlinks: Any = "auto",
        cache_dir: Any = None,
        **kwargs: Any,
    ) -> "Llama":
        """Load a GGUF of a repository on the Hugging Face Hub: `filename`, or what it matches (`*Q4_K_M*`).

        It is kept in the Hub's own cache (HF_HOME); the other parts of a split model come with the first.
        """
        for name, value in (("local_dir", local_dir), ("cache_dir", cache_dir)):
            if value is not None:
                raise NotHonoured(
                    f"{name} cannot be honoured: files are kept in the Hub's cache; set HF_HOME"
                )
        if additional_files:
            raise NotHonoured("additional_files cannot be honoured: the parts of a model come with its first")
        return cls(gguf_on_the_hub(repo_id, filename), **kwargs)

    # -- completions -------------------------------------------------------------------------------

    def create_completion(
        self,
        prompt: str | Sequence[int],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: int | None = None,
        echo: bool = False,
        stop: str | Sequence[str] | None = (),
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        stopping_criteria: Any = None,
        logits_processor: Any = None,
        grammar: Any = None,
        logit_bias: Mapping[Any, float] | None = None,
        references: Any = None,
    ) -> Replied:
        """Continue `prompt` (text or token ids): a dictionary, or with `stream` an iterator of them.

        max_tokens: None and what is below 1 are as many as fit. references: documents of this call.
        """
        return self._answer(completion_call(self._parameters(locals())))

    __call__ = create_completion

    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        functions: Sequence[Mapping[str, Any]] | None = None,
        function_call: Any = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | Sequence[str] | None = (),
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Any = None,
        grammar: Any = None,
        logit_bias: Mapping[Any, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        references: Any = None,
    ) -> Any:
        """Answer a conversation: a dictionary, or with `stream` an iterator of them."""
        given = {name: value for name, value in locals().items() if name != "self"}
        if self._handler is not None:
            if references is not None:
                raise NotHonoured(
                    "references cannot be honoured with a chat_format; give them to the constructor"
                )
            del given["references"]
            given["stop"] = [stop] if isinstance(stop, str) else list(stop or ())
            return self._handler(llama=self, **given)
        call = chat_call(self._parameters(given))
        # llama-cpp-python writes a chosen function in the older words, too
        return self._answer(replace(call, tools=replace(call.tools, legacy=bool(call.tools.chosen))))

    def generate(self, tokens: Sequence[int], temp: float = 0.8, **options: Any) -> Iterator[int]:
        """Token ids that follow `tokens`, up to the one that ends the text or the end of the context.

        options: sampling parameters as `create_completion` has them, and grammar.
        """
        parameters = {"prompt": list(tokens), "max_tokens": -1, "temperature": temp, **options}
        call = completion_call(self._parameters(parameters))
        for chunk in Answer(self.engine, call).stream:
            yield from chunk.tokens

    # -- the rest ----------------------------------------------------------------------------------

    def set_seed(self, seed: int) -> None:
        """The seed that those of the calls to come are drawn from."""
        self._seed = seed

    def save_state(self) -> State:
        """What texts to come depend on: the seed. The KV cache is no part of it: it saves time only."""
        return State(self._seed)

    def load_state(self, state: State) -> None:
        """Go on as at `save_state`."""
        self._seed = state.seed

    def reset(self) -> None:
        """Forget earlier texts; nothing but speed depends on them."""
        self.engine.forget()

    def close(self) -> None:
        """Free the model; safe to call twice."""
        self.engine.close()

    def __enter__(self) -> "Llama":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # -- inside ------------------------------------------------------------------------------------

    def _parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """llama-cpp-python's arguments as OpenAI's parameters."""
        parameters = {name: value for name, value in given.items() if name != "self" and value is not None}
        if not parameters.get("mirostat_mode"):
            parameters["mirostat_mode"] = 0
        # they belong to mirostat, which is off
        parameters.pop("mirostat_tau", None)
        parameters.pop("mirostat_eta", None)
        most = parameters.get("max_tokens")
        if most is None or (isinstance(most, int) and most <= 0):
            parameters["max_tokens"] = -1
        if "seed" not in parameters:
            # as llama-cpp-python draws the seeds of calls from the constructor's
            parameters["seed"] = random.Random(self._seed).randint(0, 2**32)
        self._seed = parameters["seed"]
        if parameters["seed"] == RANDOM_SEED:
            parameters["seed"] = -1
        if "references" not in parameters and self._references is not None:
            parameters["references"] = self._references
        return parameters

    def _answer(self, call: Call) -> Replied:
        answer = Answer(self.engine, call, model=self.model_path)
        if call.stream:
            return self._stream(answer)
        reply = answer.whole()
        self._note(answer)
        return reply

    def _stream(self, answer: Answer) -> Iterator[Reply]:
        try:
            yield from answer.chunks()
        finally:
            self._note(answer)

    def _note(self, answer: Answer) -> None:
        self.last_stats = answer.result.stats
        if self.verbose:
            print(self.last_stats.summary(), file=sys.stderr)
