"""Graphs of our own, computed by the ggml that llama.cpp is built on, over memory that NumPy or PyTorch owns.

Knows tensors, operations, and what ggml would abort the process for, which is an AdapterError here, raised
before ggml is asked; nothing of models. Shapes are ggml's: the dimension that is contiguous comes first.
"""

import ctypes
import weakref
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from adapters.errors import AdapterError
from adapters.ggml_lib import Cpu, InitParams, Kind, functions

Shape = tuple[int, ...]  # four numbers

_ALIGNMENT = 64  # of memory that ggml is told of; a tensor in it may begin anywhere
_MOST = 1024  # tensors, or nodes, of one context
_HALVES = 2  # GGML_ROPE_TYPE_NEOX: dimension i turns with dimension i + n / 2


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AdapterError(f"no such graph: {message}")


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape`: elements of four dimensions; `strides`: bytes from one to the next in each."""

    pointer: int
    kind: Kind
    shape: Shape
    strides: Shape
    owner: object = field(repr=False, compare=False)  # the pointer is good as long as it is there

    @property
    def is_contiguous(self) -> bool:
        return self.strides == _packed(self.kind, self.shape)

    @property
    def n_bytes(self) -> int:
        """From the first byte to the last."""
        elements, size = self.kind.block
        steps = zip(self.shape[1:], self.strides[1:], strict=True)
        return self.shape[0] // elements * size + sum((n - 1) * stride for n, stride in steps)


def _packed(kind: Kind, shape: Shape) -> Shape:
    """Strides of a tensor without gaps."""
    elements, size = kind.block
    row = shape[0] // elements * size
    return (size, row, row * shape[1], row * shape[1] * shape[2])


def _four(shape: Shape) -> Shape:
    _expect(1 <= len(shape) <= 4 and all(n >= 1 for n in shape), f"a tensor of shape {shape}")
    return (*shape, *(1,) * (4 - len(shape)))


class _Context:
    """Room for the descriptions of tensors, and the buffers over memory that others own."""

    def __init__(self, n_bytes: int) -> None:
        lib = functions()
        self.pointer: int | None = lib.init(InitParams(n_bytes, None, True))
        if not self.pointer:
            raise AdapterError(f"ggml could not allocate {n_bytes} bytes")
        self.buffers: list[int] = []
        self.allocator: int | None = None

    def close(self) -> None:
        lib = functions()
        if self.allocator:
            lib.gallocr_free(self.allocator)
        for buffer in self.buffers:
            lib.backend_buffer_free(buffer)
        if self.pointer:
            lib.free(self.pointer)
        self.pointer, self.allocator, self.buffers = None, None, []


class Memory:
    """Tensors over memory that someone else owns; read and written where it is."""

    def __init__(self) -> None:
        self._left, self._kept = _MOST, list[object]()
        self._context = _Context(_MOST * functions().tensor_overhead())
        weakref.finalize(self, self._context.close)

    def tensor(self, address: int, kind: Kind, *shape: int) -> Tensor:
        """`address`: of elements without gaps, which must outlive every graph that uses them."""
        lib, full = functions(), _four(shape)
        elements, _ = kind.block
        _expect(full[0] % elements == 0, f"rows of {full[0]} in blocks of {elements}")
        _expect(self._left > 0, f"more than {_MOST} tensors")
        self._left -= 1
        pointer = lib.new_tensor_4d(self._context.pointer, int(kind), *full)
        made = Tensor(pointer, kind, full, _packed(kind, full), self)
        base = address - address % _ALIGNMENT
        buffer = lib.backend_cpu_buffer_from_ptr(base, address - base + made.n_bytes)
        self._context.buffers.append(buffer)
        lib.backend_tensor_alloc(buffer, made.pointer, address)
        return made

    def array(self, values: NDArray[np.generic]) -> Tensor:
        """Over an array (float32, float16, int32, int64), which is kept; its last dimension comes first."""
        kinds = {np.dtype(np.float32): Kind.F32, np.dtype(np.float16): Kind.F16}
        kinds |= {np.dtype(np.int32): Kind.I32, np.dtype(np.int64): Kind.I64}
        _expect(values.dtype in kinds and values.flags.c_contiguous, f"an array of {values.dtype}")
        self._kept.append(values)
        return self.tensor(values.ctypes.data, kinds[values.dtype], *reversed(values.shape))


class Graph:
    """Operations in the order in which they are asked for; `finish` allocates, `compute` computes.

    Results are float32. Tensors of `Memory`, which is kept, and results of this graph may be its operands.
    """

    def __init__(self) -> None:
        lib = functions()
        self._left = _MOST
        size = _MOST * lib.tensor_overhead() + lib.graph_overhead_custom(_MOST, False)
        self._context = _Context(size)
        weakref.finalize(self, self._context.close)
        self._graph = lib.new_graph_custom(self._context.pointer, _MOST, False)
        self._finished, self._views = False, set[int]()
        self._writes: list[Tensor] = []
        self._kept: dict[int, object] = {}  # others whose tensors are operands

    # -- operations ------------------------------------------------------------------------------

    def rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows of `table [n_in, m]` by `ids [n]`, int32, each below m when computed: `[n_in, n]`."""
        _expect(ids.kind == Kind.I32 and ids.shape[1:] == (1, 1, 1), f"ids {ids}")
        _expect(table.shape[2:] == (1, 1) and table.kind not in (Kind.I32, Kind.I64), f"table {table}")
        return self._made("get_rows", (table.shape[0], ids.shape[0], 1, 1), table, ids)

    def write(self, into: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """`rows [d, n, h]` to the rows of `into [d, m, h]` at `places [n]`, int64, each below m when computed
        -> `into` as it is then. What is asked for later may read `into` itself, too."""
        d, n, h, _ = rows.shape
        _expect(rows.kind == Kind.F32 and into.kind in (Kind.F32, Kind.F16), f"{rows} into {into}")
        _expect(into.shape[0] == d and into.shape[2] == h and rows.shape[3] == 1, f"{rows} into {into}")
        _expect(places.kind == Kind.I64 and places.shape == (n, 1, 1, 1), f"places {places} of {rows}")
        _expect(rows.strides[0] == 4, f"rows with gaps {rows}")
        made = self._made("set_rows", into.shape, into, rows, places, kind=into.kind, strides=into.strides)
        self._writes.append(made)
        return made

    def concat(self, first: Tensor, second: Tensor) -> Tensor:
        """Along the first dimension."""
        _expect(first.kind == second.kind == Kind.F32, f"{first} beside {second}")
        _expect(first.shape[1:] == second.shape[1:], f"{first} beside {second}")
        shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        return self._made("concat", shape, first, second, extra=(0,))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Over the first dimension, times `weight`, repeated where it has fewer rows."""
        _expect(x.kind == Kind.F32 and x.strides[0] == 4 and eps >= 0, f"a norm of {x} with eps {eps}")
        return self.mul(self._made("rms_norm", x.shape, x, extra=(eps,)), weight)

    def mul(self, x: Tensor, by: Tensor) -> Tensor:
        """`by` is repeated where it is smaller."""
        self._expect_repeatable(x, by)
        return self._made("mul", x.shape, x, by)

    def add(self, x: Tensor, more: Tensor) -> Tensor:
        """`more` is repeated where it is smaller."""
        self._expect_repeatable(x, more)
        return self._made("add", x.shape, x, more)

    def product(self, weight: Tensor, x: Tensor) -> Tensor:
        """`weight [n_in, n_out]` of any kind, `x [n_in, n]` -> `[n_out, n]`."""
        _expect(weight.is_contiguous and x.is_contiguous and x.kind == Kind.F32, f"{weight} by {x}")
        _expect(weight.kind not in (Kind.I32, Kind.I64), f"{weight} by {x}")
        _expect(weight.shape[0] == x.shape[0], f"{weight} by {x}")
        _expect(weight.shape[2:] == x.shape[2:] == (1, 1), f"{weight} by {x}")
        return self._made("mul_mat", (weight.shape[1], x.shape[1], 1, 1), weight, x)

    def scale(self, x: Tensor, factor: float) -> Tensor:
        _expect(x.is_contiguous and x.kind == Kind.F32, f"a multiple of {x}")
        return self._made("scale", x.shape, x, extra=(factor,))

    def swiglu(self, x: Tensor) -> Tensor:
        """`silu(first half) * second half` of the first dimension."""
        _expect(x.is_contiguous and x.kind == Kind.F32 and x.shape[0] % 2 == 0, f"halves of {x}")
        return self._made("swiglu", (x.shape[0] // 2, *x.shape[1:]), x)

    def rotate(self, x: Tensor, positions: Tensor, factors: Tensor, theta: float) -> Tensor:
        """`x [d, heads, n]` by `positions [n]`, int32: dimensions i and i + d / 2 turn by
        `theta ** (-2 i / d) / factors[i]` for each position."""
        d, _, n, _ = x.shape
        _expect(x.kind == Kind.F32 and x.strides[0] == 4 and d % 2 == 0 and x.shape[3] == 1, f"turning {x}")
        _expect(positions.kind == Kind.I32 and positions.shape == (n, 1, 1, 1), f"{positions} of {x}")
        _expect(factors.kind == Kind.F32 and factors.shape == (d // 2, 1, 1, 1), f"{factors} of {x}")
        extra = (d, _HALVES, 0, theta, 1.0, 0.0, 1.0, 0.0, 0.0)
        return self._made("rope_ext", x.shape, x, positions, factors, extra=extra)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q `[d, n, heads]`; k, v `[d, m, kv_heads]`, float32 or float16; mask `[m, n]` float16, added to the
        scores, which are divided by the root of d -> `[d, heads, n]`."""
        d, n, heads, _ = q.shape
        _expect(k.kind in (Kind.F32, Kind.F16) and v.kind == k.kind and q.kind == Kind.F32, f"{q}, {k}, {v}")
        _expect(k.shape == v.shape and k.shape[0] == d and heads % k.shape[2] == 0, f"{q} over {k}, {v}")
        _expect(q.shape[3] == k.shape[3] == 1, f"{q} over {k}")
        _expect(all(x.strides[0] == x.kind.block[1] for x in (q, k, v)), f"{q} over {k}, {v}")
        _expect(mask.kind == Kind.F16 and mask.is_contiguous, f"mask {mask}")
        _expect(mask.shape == (k.shape[1], n, 1, 1), f"mask {mask} of {q} over {k}")
        return self._made("flash_attn_ext", (d, heads, n, 1), q, k, v, mask, extra=(d**-0.5, 0.0, 0.0))

    def view(self, x: Tensor, shape: Shape, strides: Shape = (), offset: int = 0) -> Tensor:
        """Other dimensions over the same memory. strides: bytes of the second dimension and on, none = no
        gaps; offset: bytes."""
        full = _four(shape)
        packed = _packed(x.kind, full)
        steps = (packed[0], *strides, *packed[1 + len(strides) :])
        made = Tensor(x.pointer, x.kind, full, steps, x.owner)
        _expect(x.kind.block[0] == 1 and offset >= 0, f"a view of {x} from byte {offset} on")
        _expect(offset + max(made.n_bytes, prod(full) * packed[0]) <= x.n_bytes, f"{made} beyond {x}")
        made = self._made("view_4d", full, x, kind=x.kind, strides=steps, extra=(*full, *steps[1:], offset))
        self._views.add(made.pointer)
        return made

    def _expect_repeatable(self, x: Tensor, by: Tensor) -> None:
        _expect(x.kind == by.kind == Kind.F32 and by.strides[0] == x.strides[0] == 4, f"{x} with {by}")
        _expect(
            by.shape[0] == x.shape[0] and all(n % m == 0 for n, m in zip(x.shape, by.shape, strict=True)),
            f"{x} with {by}",
        )

    def _made(
        self,
        name: str,
        shape: Shape,
        *operands: Tensor,
        kind: Kind = Kind.F32,
        strides: Shape = (),
        extra: tuple[float, ...] = (),
    ) -> Tensor:
        _expect(not self._finished, "it is finished already")
        _expect(self._left > 0, f"more than {_MOST} operations")
        self._left -= 1
        call = getattr(functions(), name)
        pointer = call(self._context.pointer, *(operand.pointer for operand in operands), *extra)
        self._kept |= {id(x.owner): x.owner for x in operands if x.owner is not self}
        return Tensor(pointer, kind, shape, strides or _packed(kind, shape), self)

    # -- computing -------------------------------------------------------------------------------

    def finish(self, cpu: Cpu, *outputs: Tensor) -> list[NDArray[np.float32]]:
        """Allocate what lies between; the arrays are where each `compute` leaves the outputs, in shape
        `[n, width]`."""
        lib = functions()
        # first, and in their order: what is asked for later may read what is written
        for written in self._writes:
            lib.build_forward_expand(self._graph, written.pointer)
        for output in outputs:
            _expect(output.is_contiguous and output.kind == Kind.F32, f"output {output}")
            _expect(output.pointer not in self._views, f"{output} is a view: its memory may be used again")
            lib.set_output(output.pointer)
            lib.build_forward_expand(self._graph, output.pointer)
        for index in range(lib.graph_n_nodes(self._graph)):
            node = lib.graph_node(self._graph, index)
            _expect(lib.backend_supports_op(cpu.pointer, node), f"node {index} is unknown to this ggml")
        self._context.allocator = lib.gallocr_new(lib.backend_get_default_buffer_type(cpu.pointer))
        _expect(lib.gallocr_alloc_graph(self._context.allocator, self._graph), "it does not fit into memory")
        self._finished, self._cpu = True, cpu
        return [self._array(output) for output in outputs]

    def _array(self, output: Tensor) -> NDArray[np.float32]:
        n = prod(output.shape)
        memory = (ctypes.c_float * n).from_address(functions().get_data(output.pointer))
        return np.ctypeslib.as_array(memory).reshape(-1, output.shape[0])

    def compute(self) -> None:
        """Compute the outputs from what the tensors of `Memory` hold now."""
        status = functions().backend_graph_compute(self._cpu.pointer, self._graph)
        if status != 0:
            raise AdapterError(f"ggml could not compute a graph: status {status}")
