"""From arrays to launches: which kernel, how many lanes, in how many pieces.

The arrays here are NumPy's only by name: they describe memory of the GPU (of the host in
the simulator), and nothing reads or writes them but kernels. The choices depend on shapes
and layouts alone, so that a row's bits depend on nothing else.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._spec import ALL, FINISH, SCAN
from . import _entries, _language, _rows, _small, _vectors
from ._language import SIMULATED, WARP

Array = np.ndarray[Any, Any]

#: Rows longer than this are cut in pieces, each for a team of its own.
LONG = 32768 if not SIMULATED else 600
PIECE = 8192 if not SIMULATED else 256

#: From this many contiguous classes on, a row has a block of threads.
_BLOCK_FROM = 1024 if not SIMULATED else 64

#: Blocks in a launch, at most: more rows than these take go around.
_GRID = 1 << 16

_NORMALIZERS = {
    "logsumexp": _rows.LOGSUMEXP,
    "softmax": _rows.SOFTMAX,
    "log_softmax": _rows.LOG_SOFTMAX,
}
ROW_OPS = {**_NORMALIZERS, "index": _rows.INDEX, "dense": _rows.DENSE}
ENTRY_OPS = {
    "sigmoid": _entries.SIGMOID, "log_sigmoid": _entries.LOG_SIGMOID, "logits": _entries.LOGITS,
    "probs": _entries.PROBS,
}  # fmt: skip


_configuring = threading.Lock()


class Address:
    """Memory of a device as NumPy sees arrays: nothing here ever reads it."""

    def __init__(self, pointer: int, shape: tuple[int, ...], dtype: str, strides: Any = None):
        self.__array_interface__ = {
            "data": (pointer, False), "shape": shape, "typestr": dtype, "strides": strides,
            "version": 3,
        }  # fmt: skip


class Stream(NamedTuple):
    """Where kernels run, and where their scratch comes from."""

    stream: Any  # as Numba takes it; 0 is the default stream
    empty: Callable[[tuple[int, ...], Any], tuple[Array, Any]]  # an array, and what keeps it

    def run(self, kernel: Any, blocks: int, threads: int, *args: Any) -> None:
        """Launch a kernel; Numba has nothing to say about how small a launch is."""
        config: Any = _language.config  # type: ignore[attr-defined]
        with _configuring:
            said = config.CUDA_LOW_OCCUPANCY_WARNINGS
            config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
            try:
                launch = kernel[max(1, min(blocks, _GRID)), threads, self.stream]
            finally:
                config.CUDA_LOW_OCCUPANCY_WARNINGS = said
        launch(*args)


def kind_of(dtype: np.dtype[Any]) -> int:
    """The kernels' number for a dtype's elements."""
    if dtype.kind == "V" or dtype.name == "bfloat16":
        return _language.BFLOAT
    names = {
        "b1": _language.BOOL, "i1": _language.INT8, "u1": _language.UINT8, "i2": _language.INT16,
        "u2": _language.UINT16, "f2": _language.HALF, "i4": _language.INT32,
        "u4": _language.UINT32, "f4": _language.SINGLE, "i8": _language.INT64,
        "u8": _language.UINT64, "f8": _language.DOUBLE,
    }  # fmt: skip
    return names[f"{dtype.kind}{dtype.itemsize}"]


def kernel_kind(dtype: np.dtype[Any]) -> str:
    """The name of the kernels for logits of a dtype."""
    return "bfloat16" if dtype.kind == "V" else dtype.name


def address(a: Array | None) -> int:
    return 0 if a is None else int(a.__array_interface__["data"][0])


def _place(a: Array | None, axes: int, kind: bool = False) -> list[int]:
    """Address and strides of an array, along ``axes`` axes, and its kind."""
    if a is None:
        return [0] * (1 + axes + kind)
    strides = [*a.strides, 0, 0][:axes]
    return [address(a), *strides, *([kind_of(a.dtype)] if kind else [])]


def _pair(value: float, single: bool) -> tuple[float, float]:
    """A number in the kernel's precision, and what that leaves."""
    high = float(np.float32(value)) if single else value
    low = value - high
    return high, low if low - low == 0 else 0.0


def _reals(values: list[float], single: bool) -> tuple[Any, ...]:
    real = np.float32 if single else np.float64
    with np.errstate(all="ignore"):
        return tuple(real(v) for v in values)


def _team(x: Array) -> int:
    """Lanes of a row: neighbours read neighbouring elements."""
    num_classes = x.shape[1]
    if x.strides[1] != x.itemsize and x.ndim == 3 and abs(x.strides[2]) < abs(x.strides[1]):
        return 1
    if num_classes > _BLOCK_FROM:
        return _rows.BLOCK
    team = 1
    while team < WARP and team * 8 < num_classes:
        team *= 2
    return team


def rows(
    stream: Stream,
    op: str,
    x: Array,
    *,
    y: Array | None = None,
    mask: Array | None = None,
    u: Array | None = None,
    g: Array | None = None,
    w: Array | None = None,
    e: float = 0.0,
    t: float = 0.0,
    loss: Array | None = None,
    grad: Array | None = None,
    labels_grad: Array | None = None,
    labels_scale: float = 0.0,
    stats: Array | None = None,
    scale: float = 1.0,
    ignore: int | None = None,
    phase: int = ALL,
    begin: int = 0,
    end: int | None = None,
    at: Array | None = None,
) -> None:
    """Run the kernels for rows. ``stats`` are (rows, 8) in the kernel's precision.

    ``at`` has room for the logits of the labels, where ``x`` is a `tile`.
    """
    single = x.dtype.itemsize < 8
    num_classes = x.shape[1]
    end = num_classes if end is None else end
    inner = x.shape[2] if x.ndim == 3 else 1
    count = x.shape[0] * inner
    kernels = _rows.KERNELS[kernel_kind(x.dtype)]
    plain = (
        mask is None and w is None and labels_grad is None and op != "dense"
        and not (op == "index" and e != 0)
    )  # fmt: skip
    kernel = kernels.plain if plain else kernels.general
    wide = grad if grad is not None else labels_grad
    integers = [0] * _rows.INTEGERS
    team = _team(x)
    integers[_rows.OP] = ROW_OPS[op]
    integers[_rows.TEAM] = team
    integers[_rows.ROWS : _rows.CLASSES + 1] = [count, inner, num_classes]
    integers[_rows.HAS_IGNORE : _rows.IGNORE + 1] = [ignore is not None, ignore or 0]
    integers[_rows.WIDE] = wide is not None and wide.dtype.itemsize > x.dtype.itemsize
    integers[_rows.X : _rows.X_INNER + 1] = _place(x, 3)
    integers[_rows.MASK : _rows.MASK_INNER + 1] = _place(mask, 3)
    integers[_rows.U : _rows.U_KIND + 1] = _place(u, 2, True)
    integers[_rows.G : _rows.G_KIND + 1] = _place(g, 2, True)
    integers[_rows.W : _rows.W_KIND + 1] = _place(w, 1, True)
    labels = _place(y, 2 if op == "index" else 3, True)
    if op == "index":
        labels.insert(2, 0)
    integers[_rows.Y : _rows.Y_KIND + 1] = labels
    integers[_rows.AT] = address(at)
    reals = _reals(
        [*_pair(1.0 - e, single), e, t, *_pair(scale, single), (1.0 - e) * labels_scale], single
    )

    def launch(phase: int, begin: int, end: int, piece: int, *outputs: Array | None) -> None:
        loss, grad, labels_grad, stats = outputs
        pieces = -(-(end - begin) // piece) if piece else 1
        integers[_rows.PHASE] = phase
        integers[_rows.BEGIN : _rows.PIECES + 1] = [begin, end, piece or end - begin, pieces]
        integers[_rows.LOSS : _rows.LOSS_INNER + 1] = _place(loss, 2)
        integers[_rows.GRAD : _rows.GRAD_INNER + 1] = _place(grad, 3)
        integers[_rows.LABELS : _rows.LABELS_INNER + 1] = _place(labels_grad, 3)
        integers[_rows.STATS] = address(stats)
        blocks = -(-count * pieces * team // _rows.BLOCK)
        stream.run(kernel, blocks, _rows.BLOCK, tuple(map(int, integers)), reals)

    if phase == FINISH:
        if loss is not None:
            launch(FINISH, begin, end, 0, loss, None, None, stats)
        if grad is not None or labels_grad is not None:
            launch(FINISH, begin, end, PIECE, None, grad, labels_grad, stats)
        return
    if phase == SCAN or end - begin <= LONG:
        launch(phase, begin, end, 0, loss, grad, labels_grad, stats)
        return
    pieces = -(-(end - begin) // PIECE)
    parts, keep = stream.empty((pieces * count, 8), np.float32 if single else np.float64)
    launch(SCAN, begin, end, PIECE, None, None, None, parts)
    merge(stream, kernel_kind(x.dtype), parts, count)
    if loss is not None or (grad is None and labels_grad is None):
        launch(FINISH, begin, end, 0, loss, None, None, parts)
    if grad is not None or labels_grad is not None:
        launch(FINISH, begin, end, PIECE, None, grad, labels_grad, parts)
    del keep
    assert stats is None


def merge(stream: Stream, kind: str, parts: Array, count: int) -> None:
    """Merge the statistics of the pieces of rows, (pieces x rows, 8); over the first ones'."""
    integers = [0] * _rows.INTEGERS
    integers[_rows.ROWS] = count
    integers[_rows.PIECES] = len(parts) // max(1, count)
    integers[_rows.STATS] = address(parts)
    blocks, threads = -(-count // 128), min(128, _rows.BLOCK)
    stream.run(_rows.KERNELS[kind].merge, blocks, threads, tuple(integers))


def tile(z: Array, begin: int, num_classes: int) -> Array:
    """Logits of some classes as part of rows that are not there as a whole."""
    start = address(z) - begin * z.strides[1]
    return np.asarray(Address(start, (len(z), num_classes), z.dtype.str, z.strides))


def entries(
    stream: Stream,
    kind: str,
    x: Array,
    *,
    z: Array | None = None,
    u: Array | None = None,
    g: Array | None = None,
    pw: Array | None = None,
    e: float = 0.0,
    loss: Array | None = None,
    grad: Array | None = None,
    labels_grad: Array | None = None,
    labels_scale: float = 0.0,
    sums: Array | None = None,
    scale: float = 1.0,
) -> None:
    """Run the kernel for entries (outer, n). ``sums`` are (`entry_blocks`, 2) pairs."""
    single = x.dtype.itemsize < 8
    wide_labels = (
        single and z is not None and z.dtype.name not in ("bfloat16",)
        and not np.can_cast(z.dtype, np.float32)
    )  # fmt: skip
    kernel = _entries.KERNELS[kernel_kind(x.dtype), wide_labels]
    wide = grad if grad is not None else labels_grad
    integers = [
        ENTRY_OPS[kind], x.size, x.shape[1],
        wide is not None and wide.dtype.itemsize > x.dtype.itemsize,
        *_place(x, 2), *_place(grad, 2), *_place(z, 2, True), *_place(u, 2, True),
        *_place(g, 2, True), *_place(pw, 2, True), *_place(loss, 2), *_place(labels_grad, 2),
        address(sums),
    ]  # fmt: skip
    reals = _reals([1.0 - e, e / 2, scale, (1.0 - e) * labels_scale], single)
    stream.run(kernel, entry_blocks(x), _entries.BLOCK, tuple(map(int, integers)), reals)


def entry_blocks(x: Array) -> int:
    """How many blocks work on entries: their partial sums depend on the shape only."""
    return max(1, min(_entries.GRID, -(-x.size // (4 * _entries.BLOCK))))


def labels(
    stream: Stream, y: Array | None, u: Array | None, w: Array | None, ignore: int | None,
    num_classes: int, shape: tuple[int, ...], found: Array,
) -> None:  # fmt: skip
    """Run the pass over labels; ``found`` are (`label_blocks`, 3) of 8 bytes."""
    integers = [0] * _small.INTEGERS
    inner = shape[1] if len(shape) == 2 else 1
    integers[_small.Y : _small.Y_KIND + 1] = _place(y, 2, True)
    integers[_small.U : _small.U_KIND + 1] = _place(u, 2, True)
    integers[_small.W : _small.W_KIND + 1] = _place(w, 1, True)
    count = int(np.prod(shape))
    integers[_small.ROWS : _small.IGNORE + 1] = [
        count, inner, num_classes, ignore is not None, ignore or 0,
    ]  # fmt: skip
    integers[_small.FOUND] = address(found)
    stream.run(_small.labels, label_blocks(count), _small.BLOCK, tuple(map(int, integers)))


def label_blocks(count: int) -> int:
    return max(1, min(_small.GRID, -(-count // _small.BLOCK)))


def pick(
    stream: Stream, x: Array, y: Array, *, u: Array | None, g: Array | None, w: Array | None,
    ignore: int | None, loss: Array | None, grad: Array | None, scale: float,
) -> None:  # fmt: skip
    """Run the kernel for losses that pick an entry: losses first, a gradient may be in place."""
    inner = y.shape[1] if y.ndim == 2 else 1
    for losses, slopes in ((loss, None), (None, grad)):
        if losses is None and slopes is None:
            continue
        integers = [
            *_place(y, 2, True), *_place(u, 2, True), *_place(w, 1, True), y.size, inner,
            x.shape[1], ignore is not None, ignore or 0, 0,
            *_place(x, 3, True), *_place(g, 2, True), *_place(losses, 2, True),
            *_place(slopes, 3, True),
        ]  # fmt: skip
        work = y.size if slopes is None else x.size
        stream.run(
            _small.pick,
            -(-work // _small.BLOCK),
            _small.BLOCK,
            tuple(map(int, integers)),
            (scale,),
        )


def shares(stream: Stream, u: Array | None, divisor: float, out: Array) -> None:
    """Weights (B, T) by their sum over time, or 0, by a number more; into contiguous ``out``."""
    integers = [*_place(u, 2, True), *out.shape, address(out)]
    blocks = -(-out.shape[0] // _small.BLOCK)
    stream.run(_small.shares, blocks, _small.BLOCK, tuple(map(int, integers)), (divisor,))


def row_sums(stream: Stream, losses: Array, out: Array) -> None:
    """The sums over time of contiguous losses (B, T)."""
    integers = [address(losses), *losses.shape, kind_of(losses.dtype), address(out)]
    blocks = -(-losses.shape[0] // _small.BLOCK)
    stream.run(_small.row_sums, blocks, _small.BLOCK, tuple(map(int, integers)))


def pos_weight_slopes(
    stream: Stream, x: Array, z: Array, u: Array | None, g: Array | None, e: float, scale: float,
    out: Array,
) -> None:  # fmt: skip
    """The gradient to ``pos_weight``, summed along the axes where ``out`` has length 1 or none."""
    # Views only: whatever needs a copy would read the memory.
    out = out[(None,) * (x.ndim - out.ndim) + (...,)]
    summed = [k for k in range(x.ndim) if out.shape[k] == 1]
    kept = [k for k in range(x.ndim) if k not in summed]
    ends = (None,) * (not kept) + (...,) + (None,) * (not summed)  # at least one axis of each sort
    arrays = [None if a is None else a.transpose(kept + summed)[ends] for a in (x, z, u, g)]
    out = out.transpose(kept + summed)[ends]
    shape = x.transpose(kept + summed)[ends].shape
    n = max(1, len(kept))
    sums, keep = stream.empty((shape[n - 1],), np.float64)
    # The kernel walks along the last axis of each sort.
    turns = list(np.ndindex(*shape[n:-1])) if x.size else [None]
    for at in np.ndindex(*shape[: n - 1]):
        slopes = out[(*at, slice(None), *[0] * (len(shape) - n))]
        for turn, index in enumerate(turns):
            integers = []
            for a in arrays:
                part = None if a is None or index is None else a[(*at, slice(None), *index)]
                integers += _place(part, 2, True)
            integers += [*_place(slopes, 1, True), address(sums), shape[n - 1]]
            integers += [shape[-1] if x.size else 0, turn == 0, turn == len(turns) - 1]
            stream.run(
                _small.pos_weight_slopes, shape[n - 1], _small.BLOCK, tuple(map(int, integers)),
                (1.0 - e, e / 2, scale),
            )  # fmt: skip
    del keep


def total(
    stream: Stream, losses: Array, denominator: float, out: Array, nothing: float = np.nan
) -> None:
    """The sum of contiguous losses by the denominator, into ``out``."""
    blocks = label_blocks(losses.size)
    parts, keep = stream.empty((blocks,), np.float64)
    integers = [address(losses), losses.size, kind_of(losses.dtype), address(parts), 0, 0]
    stream.run(_small.sums, blocks, _small.BLOCK, tuple(map(int, integers)))
    close(stream, parts, denominator, out, pairs=False, nothing=nothing)
    del keep


def close(
    stream: Stream, parts: Array, denominator: float, out: Array, pairs: bool,
    nothing: float = np.nan,
) -> None:  # fmt: skip
    """The sum of the sums of blocks by the denominator, into ``out``."""
    integers = [0, len(parts), kind_of(out.dtype), address(parts), address(out), pairs]
    stream.run(_small.close, 1, 1, tuple(map(int, integers)), (denominator, float(nothing)))


#: Rows that a thread sums up.
_SUMMED = 256 if not SIMULATED else 4


def _lanes(columns: int) -> int:
    """Lanes of a row: a power of two."""
    team = 1
    while team < _small.BLOCK and team < columns:
        team *= 2
    return team


def _vectors_of(*arrays: Array | None) -> Any:
    """The kernels that keep the precision of arrays."""
    wide = any(a is not None and a.dtype == np.float64 for a in arrays)
    return _vectors.KERNELS["float64" if wide else "float32"]


def move(
    stream: Stream, out: Array, x: Array | None, *, by: Array | None = None,
    ids: Array | None = None, add: bool = False,
) -> None:  # fmt: skip
    """Rows of ``x`` (0 without it), those with contiguous ``ids``, times ``by``, to ``out``."""
    if not out.size:
        return
    rows, columns = out.shape
    team = _lanes(columns)
    integers = [
        *_place(out, 2, True), *_place(x, 2, True), *_place(by, 1, True), address(ids), rows,
        columns, add, team,
    ]  # fmt: skip
    kernel = _vectors_of(out).move
    blocks = -(-rows * team // _small.BLOCK)
    stream.run(kernel, blocks, _small.BLOCK, tuple(map(int, integers)))


def dots(stream: Stream, out: Array, x: Array, v: Array) -> None:
    """The products of the rows of two arrays, all of one dtype."""
    integers = [*_place(out, 1), *_place(x, 2), *_place(v, 2), *x.shape]
    blocks = -(-len(x) * WARP // _small.BLOCK)
    stream.run(_vectors_of(x).dots, blocks, _small.BLOCK, tuple(map(int, integers)))


def column_sums(stream: Stream, out: Array, x: Array, add: bool) -> None:
    """The sums of columns, made in double precision, into or onto ``out``."""
    keep = []
    while True:
        pieces = max(1, -(-len(x) // _SUMMED))
        parts, made = stream.empty((pieces, x.shape[1]), np.float64)
        keep.append(made)
        integers = [*_place(x, 2, True), *x.shape, _SUMMED, address(parts)]
        blocks = -(-parts.size // _small.BLOCK)
        stream.run(_vectors.column_sums, blocks, _small.BLOCK, tuple(map(int, integers)))
        x = parts
        if pieces == 1:
            break
    move(stream, out[None], parts, add=add)
    del keep


def strike(stream: Stream, x: Array, at: Array) -> None:
    """Let entries of ``x``, by contiguous pairs of row and column, be minus infinity."""
    integers = [*_place(x, 2, True), address(at), len(at)]
    stream.run(_vectors.strike, -(-len(at) // _small.BLOCK), _small.BLOCK, tuple(integers))


def scatter(stream: Stream, out: Array, x: Array, at: Array, first: Array, order: Array) -> None:
    """Add to each row ``at`` of ``out`` the rows of ``x`` from its ``first`` in ``order`` on."""
    team = _lanes(x.shape[1])
    integers = [
        *_place(out, 2, True), *_place(x, 2, True), address(at), address(first), address(order),
        len(at), x.shape[1], team,
    ]  # fmt: skip
    blocks = -(-len(at) * team // _small.BLOCK)
    stream.run(_vectors_of(out).scatter, blocks, _small.BLOCK, tuple(map(int, integers)))


def live(
    stream: Stream, out: Array, y: Array, u: Array | None, g: Array | None, w: Array | None,
    ignore: int | None,
) -> None:  # fmt: skip
    """1 into float32 ``out`` for each row that counts and has an upstream gradient, else 0."""
    integers = [
        *_place(y, 1, True), *_place(u, 1, True), *_place(g, 1, True), *_place(w, 1, True), len(y),
        ignore is not None, ignore or 0, address(out),
    ]  # fmt: skip
    blocks = -(-len(y) // _small.BLOCK)
    stream.run(_vectors.live, blocks, _small.BLOCK, tuple(map(int, integers)))
