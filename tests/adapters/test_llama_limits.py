"""Claims about what does not fit a context: it is refused with the numbers, and nothing is lost."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from adapters.errors import AdapterError, ConfigError, ContextFull, PilotfishError
from adapters.llama_context import LlamaContext
from adapters.settings import KV_TYPES, ContextSettings
from tests.adapters.tiny_context import (
    CLOSE,
    NOTHING,
    PROMPT,
    Kept,
    TinyModel,
    chain,
    grow,
    keep,
    letters,
)
from tests.tiny_gguf import N_VOCAB

Models = Callable[..., TinyModel]

N_CTX = 256
LONG = (PROMPT * 10)[:N_CTX]

REFUSED = {
    "no tokens": ([], "there are no tokens to decode; give at least one"),
    "an id beyond the vocabulary": (
        [1, N_VOCAB, 2],
        f"token {N_VOCAB} is not in the vocabulary of {N_VOCAB}",
    ),
    "a negative id": ([1, -1], "token -1 is not in the vocabulary"),
    "an id beyond 32 bits": ([2**33], f"token {2**33} is not in the vocabulary"),
}


@pytest.mark.parametrize(("tokens", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("method", ["prefill", "extend"])
def test_tokens_that_do_not_exist_are_refused(
    method: str, tokens: list[int], message: str, tiny_model: Models
) -> None:
    model = tiny_model("llama")
    context = model.open()
    context.prefill(PROMPT)
    with pytest.raises(ConfigError, match=message):
        getattr(context, method)(tokens)
    model.expect_state(context, PROMPT)


def test_too_many_rows_are_refused(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(max_rows=8)
    context.prefill(PROMPT)
    model.expect_tree(context, PROMPT, grow(range(-1, 6)))
    with pytest.raises(ConfigError, match=r"a draft of 8 nodes does not fit max_rows=8 \(root included\)"):
        context.score(grow(range(-1, 7)))
    model.expect_state(context, PROMPT)


def test_too_many_leaves_are_refused(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(n_seq_max=3)
    context.prefill(PROMPT)
    with pytest.raises(ConfigError, match="tree of 4 leaves needs n_seq_max >= 4, this context has 3"):
        context.score(grow([-1] * 4))
    model.expect_state(context, PROMPT)


def test_capabilities_tell_the_limits(tiny_model: Models) -> None:
    model = tiny_model("llama")
    can = model.open(max_rows=8, n_seq_max=3).capabilities
    assert (can.n_vocab, can.n_ctx, can.max_rows, can.max_leaves) == (N_VOCAB, N_CTX, 8, 3)
    assert can.rollback and can.no_rollback == ""
    assert model.open(n_ctx=300).capabilities.n_ctx == 512
    assert model.open(n_ctx=0).capabilities.n_ctx == model.model.n_ctx_train == 512


# -- the end of the context ----------------------------------------------------------------------


def test_a_prompt_may_fill_the_context(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open()
    context.prefill(LONG)
    model.expect_state(context, LONG)
    with pytest.raises(ContextFull, match=f"{N_CTX + 1} tokens do not fit the context of {N_CTX}; shorten"):
        context.prefill([*LONG, 7])
    model.expect_state(context, LONG)


@pytest.mark.parametrize("parents", [range(-1, 5), (-1, -1, 0, 1, 2, 3)], ids=["chain", "tree"])
def test_a_draft_may_fill_the_context_and_be_kept(parents: Sequence[int], tiny_model: Models) -> None:
    model, draft, prompt = tiny_model("llama"), grow(parents), LONG[: N_CTX - 6]
    context = model.open(n_seq_max=2)
    context.prefill(prompt)
    with pytest.raises(ContextFull, match=f"{N_CTX + 1} tokens do not fit the context of {N_CTX}"):
        context.score(grow([*parents, 5]))
    model.expect_tree(context, prompt, draft)
    context.commit(keep(draft, 3, 7))
    model.expect_state(context, [*prompt, *draft.tokens_of(draft.path(3)), 7])


def expect_full(context: LlamaContext) -> None:
    with pytest.raises(ContextFull, match=f"{N_CTX + 1} tokens do not fit the context of {N_CTX}"):
        context.score(NOTHING)


def test_extending_may_fill_the_context(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open()
    context.extend(LONG[:-2])
    with pytest.raises(ContextFull, match=f"{N_CTX + 1} tokens do not fit"):
        context.extend(LONG[:3])
    model.expect_row(context.extend(LONG[-2:]), LONG)
    with pytest.raises(ContextFull):
        context.extend(LONG[:1])


def test_a_full_context_is_usable_again_after_a_rollback(tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(n_seq_max=2)
    context.prefill(LONG)
    context.score(NOTHING)
    context.commit(Kept((), (7,)))
    for _ in range(2):
        expect_full(context)
        context.rollback()
    assert context.n_past == N_CTX
    context.prefill(LONG[:20])
    model.expect_tree(context, LONG[:20], grow([-1, -1, 0]))


# -- closed contexts -----------------------------------------------------------------------------

USES: dict[str, Callable[[LlamaContext], object]] = {
    "prefill": lambda context: context.prefill(PROMPT),
    "score": lambda context: context.score(NOTHING),
    "commit": lambda context: context.commit(Kept((), (7,))),
    "rollback": lambda context: context.rollback(),
    "truncate": lambda context: context.truncate(3),
    "extend": lambda context: context.extend(PROMPT),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_closed_context_says_so(use: Callable[[LlamaContext], object], tiny_model: Models) -> None:
    context = tiny_model("llama").open()
    context.prefill(PROMPT)
    context.score(chain(letters("ab")))
    context.close()
    context.close()
    with pytest.raises(AdapterError, match=r"the context of .*\.gguf is closed; open a new one"):
        use(context)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_every_cache_type_works(kv_type: str, tiny_model: Models) -> None:
    assert cache_error(tiny_model("llama"), kv_type) < 1


def test_the_coarser_the_cache_the_larger_the_error(tiny_model: Models) -> None:
    errors = [cache_error(tiny_model("llama"), kv_type) for kv_type in ("f16", "bf16", "q8_0", "q4_0")]
    assert errors == sorted(errors) and errors[-1] > 10 * errors[0]


def cache_error(model: TinyModel, kv_type: str) -> float:
    """Largest change of a logit; their deviation is 3."""
    context = model.open(flash_attn=None, type_k=kv_type, type_v=kv_type, n_seq_max=2)
    context.prefill(PROMPT)
    return float(np.abs(context.score(grow([-1, -1])).logits[0] - model.after(PROMPT)).max())


@pytest.mark.parametrize("flash_attn", [None, True, False])
def test_flash_attention_changes_little(flash_attn: bool | None, tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(flash_attn=flash_attn)
    np.testing.assert_allclose(context.extend(PROMPT), model.after(PROMPT), atol=0.02)


@pytest.mark.parametrize("settings", [{"n_threads": 2}, {"n_threads": None}, {"n_threads_batch": 2}])
def test_the_number_of_threads_changes_nothing(settings: dict[str, int | None], tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(**settings)
    np.testing.assert_allclose(context.extend(PROMPT), model.after(PROMPT), atol=CLOSE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_ctx": -1}, "n_ctx must be >= 0"),
        ({"n_batch": 0}, "n_batch must be >= 1, got 0"),
        ({"n_ubatch": 513}, r"n_ubatch must be between 1 and n_batch \(512\), got 513"),
        ({"max_rows": 0}, "max_rows must be between 1 and n_ubatch"),
        ({"max_rows": 513}, "max_rows must be between 1 and n_ubatch"),
        ({"n_seq_max": 65}, "n_seq_max must be between 1 and 64"),
        ({"max_rows": 512, "n_seq_max": 257}, "n_seq_max must be between 1 and 256"),
        ({"n_threads": 0}, "n_threads must be between 1 and 512, got 0"),
        ({"n_threads_batch": 513}, "n_threads_batch must be between 1 and 512, got 513"),
        ({"type_k": "f64"}, "type_k must be one of f32, .*, got 'f64'"),
        ({"type_v": "q8_0", "flash_attn": False}, "type_v='q8_0' needs flash attention"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(PilotfishError, match=message):
        ContextSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{"max_rows": 512, "n_seq_max": 256}, {"n_batch": 1, "n_ubatch": 1, "max_rows": 1}]
)
def test_the_most_and_the_least_settings_work(settings: dict[str, int], tiny_model: Models) -> None:
    model = tiny_model("llama")
    context = model.open(**settings)
    context.prefill(PROMPT)
    model.expect_state(context, PROMPT)
