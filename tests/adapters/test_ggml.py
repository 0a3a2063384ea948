"""Graphs of our own: each operation says what NumPy says, and none that ggml would abort for gets through."""

from collections.abc import Callable

import gguf
import numpy as np
import pytest

from adapters import ggml_lib
from adapters.errors import AdapterError
from adapters.ggml import Graph, Memory, Tensor
from adapters.ggml_lib import Cpu, Kind, missing_functions

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 64)).astype(np.float32)  # [64, 3] to ggml
W = RNG.standard_normal((5, 64)).astype(np.float32)

Build = Callable[[Graph, Memory], Tensor]


def computed(build: Build, n_threads: int = 1) -> np.ndarray:
    graph, memory = Graph(), Memory()
    (found,) = graph.finish(Cpu(n_threads), build(graph, memory))
    graph.compute()
    return found.copy()


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_this_llama_cpp_has_all_functions() -> None:
    assert missing_functions() == ()


def test_functions_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ggml_lib._SIGNATURES, "of_tomorrow", ([], None))
    ggml_lib._bound.cache_clear()
    assert missing_functions() == ("ggml_of_tomorrow",)
    monkeypatch.undo()
    ggml_lib._bound.cache_clear()
    assert missing_functions() == ()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("kind", "stored", "close"),
    [
        (Kind.F32, lambda w: w, 1e-5),
        (Kind.F16, lambda w: w.astype(np.float16), 0.02),
        (Kind.BF16, lambda w: gguf.quants.quantize(w, gguf.GGMLQuantizationType.BF16), 0.15),
        (Kind.Q8_0, lambda w: gguf.quants.quantize(w, gguf.GGMLQuantizationType.Q8_0), 0.3),
    ],
)
def test_a_product_with_every_kind_of_weight(kind, stored, close: float, n_threads: int) -> None:
    weight = stored(W)

    def build(graph: Graph, memory: Memory) -> Tensor:
        return graph.product(memory.tensor(weight.ctypes.data, kind, 64, 5), memory.array(X))

    np.testing.assert_allclose(computed(build, n_threads), X @ W.T, atol=close)


def test_what_stands_at_no_round_address_is_read_all_the_same() -> None:
    weight = np.concatenate([[0.0], W.ravel()]).astype(np.float32)[1:]

    def build(graph: Graph, memory: Memory) -> Tensor:
        return graph.product(memory.tensor(weight.ctypes.data, Kind.F32, 64, 5), memory.array(X))

    np.testing.assert_allclose(computed(build), X @ W.T, rtol=1e-4, atol=1e-5)


def test_a_graph_reads_its_inputs_each_time() -> None:
    graph, memory, x = Graph(), Memory(), X.copy()
    (found,) = graph.finish(Cpu(1), graph.scale(memory.array(x), 2.0))
    for factor in (1.0, -3.0):
        x[:] = factor * X
        graph.compute()
        np.testing.assert_array_equal(found, 2 * factor * X)


def test_norms_sums_and_products_repeat_what_is_smaller() -> None:
    weight = floats(64)
    normed = X / np.sqrt((X**2).mean(axis=1, keepdims=True) + 1e-6) * weight
    found = computed(lambda g, m: g.rms_norm(m.array(X), m.array(weight), 1e-6))
    np.testing.assert_allclose(found, normed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(computed(lambda g, m: g.add(m.array(X), m.array(weight))), X + weight)
    np.testing.assert_allclose(computed(lambda g, m: g.mul(m.array(X), m.array(X))), X * X)


def test_rows_stand_side_by_side_and_are_gated() -> None:
    both = np.concatenate([X, 2 * X], axis=1)
    np.testing.assert_array_equal(computed(lambda g, m: g.concat(m.array(X), m.array(2 * X))), both)
    gated = X / (1 + np.exp(-X)) * 2 * X
    np.testing.assert_allclose(computed(lambda g, m: g.swiglu(m.array(both))), gated, rtol=1e-2, atol=1e-2)


def test_rows_are_looked_up_by_their_numbers() -> None:
    ids = np.array([4, 0, 4], np.int32)
    found = computed(lambda g, m: g.rows(m.array(W), m.array(ids)))
    np.testing.assert_array_equal(found, W[ids])


def test_what_nothing_reads_is_written_too_and_before_what_is_asked_for_later() -> None:
    into, rows = floats(1, 6, 8), floats(2, 1, 1, 8) + 5

    def build(graph: Graph, memory: Memory) -> Tensor:
        cells, ones = memory.array(into), memory.array(np.ones(8, np.float32))
        for place, row in enumerate(rows):
            graph.write(cells, memory.array(row), memory.array(np.array([3 * place])))
        return graph.mul(graph.view(cells, (8, 6, 1)), ones)

    found = computed(build)
    np.testing.assert_array_equal(found[[0, 3]], rows[:, 0, 0])
    np.testing.assert_array_equal(into[0], found)


def test_rows_are_written_where_they_belong_and_seen_there() -> None:
    into, rows, places = floats(2, 6, 8), floats(2, 3, 8) + 5, np.array([4, 0, 2], np.int64)
    expected = into.copy()
    expected[:, places] = rows

    def build(graph: Graph, memory: Memory) -> Tensor:
        written = graph.write(memory.array(into), memory.array(rows), memory.array(places))
        ones = memory.array(np.ones(8, np.float32))
        return graph.mul(graph.view(written, (8, 5, 2), written.strides[1:3]), ones)

    np.testing.assert_array_equal(computed(build).reshape(2, 5, 8), expected[:, :5])
    np.testing.assert_array_equal(into, expected)


def test_heads_turn_by_position_and_factor() -> None:
    x, positions, factors = floats(2, 3, 8), np.array([0, 900], np.int32), np.array([1, 2, 4, 8], np.float32)
    angles = positions[:, None] * 100.0 ** (-np.arange(4) / 4) / factors
    cos, sin, (first, second) = np.cos(angles)[:, None], np.sin(angles)[:, None], np.split(x, 2, axis=-1)
    expected = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def build(graph: Graph, memory: Memory) -> Tensor:
        return graph.rotate(memory.array(x), memory.array(positions), memory.array(factors), 100.0)

    np.testing.assert_allclose(computed(build).reshape(x.shape), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize(("n", "m"), [(1, 7), (1, 700), (5, 7), (8, 300)])
def test_attention_is_the_formula_under_its_mask(n: int, m: int, kind: type) -> None:
    heads, kv, d = 6, 2, 10
    q, k, v = floats(heads, n, d), floats(kv, m, d).astype(kind), floats(kv, m, d).astype(kind)
    mask = np.where(np.random.default_rng(2).random((n, m)) < 0.5, 0, -np.inf).astype(np.float16)
    mask[:, 3] = 0
    scores = np.einsum("hnd,hmd->hnm", q, k.astype(np.float32).repeat(3, 0)) / np.sqrt(d) + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("hnm,hmd->nhd", weights, v.astype(np.float32).repeat(3, 0))
    found = computed(lambda g, memory: g.attention(*(memory.array(x) for x in (q, k, v, mask))))
    close = 1e-5 if kind is np.float32 else 1e-2
    np.testing.assert_allclose(found.reshape(n, heads, d), expected, rtol=close, atol=close)


def of(graph: Graph, memory: Memory, *shape: int, kind: type = np.float32) -> Tensor:
    return memory.array(np.zeros(tuple(reversed(shape)), kind))


IMPOSSIBLE: dict[str, Callable[[Graph, Callable[..., Tensor]], Tensor]] = {
    "a product of other widths": lambda g, t: g.product(t(8, 4), t(9, 2)),
    "a product of three dimensions": lambda g, t: g.product(t(8, 4, 2), t(8, 2)),
    "a product with ids": lambda g, t: g.product(t(8, 4, kind=np.int32), t(8, 2)),
    "a product by half precision": lambda g, t: g.product(t(8, 4), t(8, 2, kind=np.float16)),
    "a sum of other widths": lambda g, t: g.add(t(8, 4), t(4)),
    "a sum that repeats unevenly": lambda g, t: g.add(t(8, 4), t(8, 3)),
    "a product of kinds": lambda g, t: g.mul(t(8, 4), t(8, kind=np.float16)),
    "a norm of half precision": lambda g, t: g.rms_norm(t(8, kind=np.float16), t(8), 1e-6),
    "a norm with a negative eps": lambda g, t: g.rms_norm(t(8), t(8), -1.0),
    "rows beside more rows": lambda g, t: g.concat(t(8, 4), t(8, 3)),
    "rows beside ids": lambda g, t: g.concat(t(8, 4), t(8, 4, kind=np.int32)),
    "halves of an odd width": lambda g, t: g.swiglu(t(7, 2)),
    "a multiple of ids": lambda g, t: g.scale(t(8, kind=np.int32), 2.0),
    "rows by long ids": lambda g, t: g.rows(t(8, 4), t(2, kind=np.int64)),
    "rows by a table of ids": lambda g, t: g.rows(t(8, 4), t(2, 2, kind=np.int32)),
    "rows of ids": lambda g, t: g.rows(t(8, 4, kind=np.int32), t(2, kind=np.int32)),
    "writing wider rows": lambda g, t: g.write(t(8, 9), t(9, 2), t(2, kind=np.int64)),
    "writing for other heads": lambda g, t: g.write(t(8, 9, 2), t(8, 2, 1), t(2, kind=np.int64)),
    "writing to fewer places": lambda g, t: g.write(t(8, 9), t(8, 2), t(1, kind=np.int64)),
    "writing to short places": lambda g, t: g.write(t(8, 9), t(8, 2), t(2, kind=np.int32)),
    "turning an odd width": lambda g, t: g.rotate(t(7, 2, 1), t(1, kind=np.int32), t(3), 100.0),
    "turning without positions": lambda g, t: g.rotate(t(8, 2, 3), t(1, kind=np.int32), t(4), 100.0),
    "turning without factors": lambda g, t: g.rotate(t(8, 2, 1), t(1, kind=np.int32), t(3), 100.0),
    "attention of other widths": lambda g, t: g.attention(
        t(8, 1, 2), t(6, 5, 2), t(6, 5, 2), t(5, 1, kind=np.float16)
    ),
    "attention of uneven groups": lambda g, t: g.attention(
        t(8, 1, 3), t(8, 5, 2), t(8, 5, 2), t(5, 1, kind=np.float16)
    ),
    "attention with a mask of floats": lambda g, t: g.attention(t(8, 1, 2), t(8, 5, 2), t(8, 5, 2), t(5, 1)),
    "attention with a short mask": lambda g, t: g.attention(
        t(8, 1, 2), t(8, 5, 2), t(8, 5, 2), t(4, 1, kind=np.float16)
    ),
    "attention over ids": lambda g, t: g.attention(
        t(8, 1, 2), t(8, 5, 2, kind=np.int32), t(8, 5, 2, kind=np.int32), t(5, 1, kind=np.float16)
    ),
    "a view that is larger": lambda g, t: g.view(t(8, 4), (8, 5)),
    "a view beyond the end": lambda g, t: g.view(t(8, 4), (8, 4), offset=4),
    "a view of nothing": lambda g, t: g.view(t(8, 4), (8, 0)),
    "a view of five dimensions": lambda g, t: g.view(t(8, 4), (8, 1, 1, 1, 4)),
}


@pytest.mark.parametrize("what", sorted(IMPOSSIBLE))
def test_what_ggml_would_abort_for_is_an_error(what: str) -> None:
    graph, memory = Graph(), Memory()
    with pytest.raises(AdapterError, match="no such graph"):
        IMPOSSIBLE[what](graph, lambda *shape, **kind: of(graph, memory, *shape, **kind))


def test_a_view_is_no_output() -> None:
    graph, memory = Graph(), Memory()
    view = graph.view(graph.scale(memory.array(X), 1.0), (64, 2))
    with pytest.raises(AdapterError, match="is a view"):
        graph.finish(Cpu(1), view)


def test_memory_is_of_kinds_that_ggml_has_in_whole_blocks() -> None:
    with pytest.raises(AdapterError, match="float64"):
        Memory().array(X.astype(np.float64))
    with pytest.raises(AdapterError, match="float32"):
        Memory().array(X[:, ::2])
    with pytest.raises(AdapterError, match="blocks of 32"):
        Memory().tensor(X.ctypes.data, Kind.Q8_0, 48, 2)


def test_a_graph_has_an_end() -> None:
    graph, memory = Graph(), Memory()
    x = memory.array(X)
    with pytest.raises(AdapterError, match="more than 1024"):
        for _ in range(2000):
            x = graph.scale(x, 1.0)
    with pytest.raises(AdapterError, match="more than 1024"):
        for _ in range(2000):
            memory.array(X)
    finished = Graph()
    memory = Memory()
    x = memory.array(X)
    finished.finish(Cpu(1), finished.scale(x, 1.0))
    with pytest.raises(AdapterError, match="finished already"):
        finished.scale(x, 1.0)
