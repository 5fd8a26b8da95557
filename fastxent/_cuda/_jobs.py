"""The kernels' interface for NumPy arrays: blocks of rows are copied over and back.

Arrays that live on the GPU do not come this way: see ``_device`` two floors up.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import cuda

from .._spec import FINISH
from . import _launch, _simulated
from ._language import SIMULATED
from ._launch import Address

Array = np.ndarray[Any, Any]
Job = Callable[..., None]

_BIAS = {np.dtype(np.float32): 2.0**64, np.dtype(np.float64): 2.0**256}

# One launch at a time: the simulator allows no other, and copies would only wait in line.
_lock = threading.Lock()


class _Copies:
    """The arrays of one launch on the device; results are copied back."""

    def __init__(self) -> None:
        self._back: list[tuple[Array, Any]] = []
        self._alive: list[Any] = []

    def _view(self, host: Array) -> tuple[Array, Any]:
        if SIMULATED:
            start = _launch.address(host)
            _simulated.memory.append((start, start + host.nbytes, True))
            self._alive.append(host)
            return host, host
        device = cuda.to_device(host)
        self._alive.append(device)
        place = Address(device.device_ctypes_pointer.value, host.shape, host.dtype.str)
        return np.asarray(place), device

    def give(self, a: Any) -> Any:
        """An input."""
        return None if a is None else self._view(_plain(a))[0]

    def take(self, a: Array | None, given: Array | None = None, over: Any = None) -> Any:
        """An output; ``over`` if it is the array that was given as ``given``."""
        if a is None:
            return None
        if over is not None:
            self._back.append((a, self._alive[over]))
            return given
        kind = a.dtype if a.dtype.kind != "V" and a.dtype.name != "bfloat16" else np.dtype("V2")
        view, device = self._view(np.empty(a.shape, kind.newbyteorder("=")))
        self._back.append((a, device))
        return view

    def empty(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Any]:
        return self._view(np.empty(shape, dtype))

    def __enter__(self) -> "_Copies":
        _lock.acquire()
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            if kind is None:
                for host, device in self._back:
                    found = device if SIMULATED else device.copy_to_host()
                    host[...] = found.view(host.dtype) if found.dtype.kind == "V" else found
        finally:
            _simulated.memory.clear()
            _lock.release()


def _plain(a: Array) -> Array:
    """A contiguous copy in native byte order, of a dtype that kernels read."""
    if a.dtype.kind == "V" or a.dtype.name == "bfloat16":
        return np.array(a, order="C").view("V2")
    dtype = a.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return np.array(a, dtype, order="C")


def _spans(x: Array, first: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Rows first..stop as indices of (outer,) or of (outer, inner)."""
    if x.ndim == 2:
        yield (slice(first, stop),)
        return
    inner = x.shape[2]
    while first < stop:
        o, i = divmod(first, inner)
        if i == 0 and stop - first >= inner:
            outer = (stop - first) // inner
            yield slice(o, o + outer), slice(None)
            first += outer * inner
        else:
            n = min(inner - i, stop - first)
            yield slice(o, o + 1), slice(i, i + n)
            first += n


def _rows_job(
    op: str, x: Array, mask: Any, stats: Any, phase: int, begin: int, end: int, y: Any = None,
    u: Any = None, g: Any = None, w: Any = None, e: float = 0.0, t: float = 0.0, loss: Any = None,
    total: Any = None, grad: Any = None, scale: float = 1.0, ignore: int | None = None,
) -> Job:  # fmt: skip
    in_place = grad is not None and _launch.address(grad) == _launch.address(x)

    def job(first: int, stop: int, block: int = 0, room: Any = None) -> None:
        sums = [span(index) for index in _spans(x, first, stop)]
        if total is not None:
            total[block] = sum(sums)

    def span(index: tuple[Any, ...]) -> float:
        everything = (index[0], slice(None), *index[1:])

        def classed(a: Any) -> Any:
            return None if a is None else a[everything]

        def plain(a: Any) -> Any:
            return None if a is None else a[index]

        with _Copies() as copies:
            stream = _launch.Stream(0, copies.empty)
            xs = x[everything]
            if xs.dtype.kind in "biu":
                xs = xs.astype(np.float64)
            dx = copies.give(xs)
            real = np.float64 if dx.dtype.itemsize == 8 else np.float32
            count = xs.shape[0] * (xs.shape[2] if xs.ndim == 3 else 1)
            losses: Any = None
            if loss is not None or total is not None:
                losses = np.empty(xs.shape[:1] + xs.shape[2:], real)
            columns: Any = None
            if stats is not None:
                columns = np.empty((count, 8), real)
                if phase == FINISH:
                    columns[...] = _to_device(stats[index].reshape(count, 5), real)
            dcolumns = copies.give(columns) if phase == FINISH else copies.take(columns)
            _launch.rows(
                stream, op, dx,
                y=copies.give(plain(y) if op == "index" else classed(y)),
                mask=copies.give(classed(mask)), u=copies.give(plain(u)),
                g=copies.give(plain(g)), w=copies.give(w), e=e, t=t,
                loss=copies.take(losses),
                grad=copies.take(classed(grad), dx, 0 if in_place else None),
                stats=dcolumns, scale=scale, ignore=ignore, phase=phase, begin=begin, end=end,
            )  # fmt: skip
        if loss is not None:
            loss[index] = losses
        if stats is not None and phase != FINISH:
            stats[index] = _from_device(columns).reshape(*stats[index].shape)
        return 0.0 if total is None else float(losses.sum(dtype=np.float64))

    return job


def _from_device(columns: Any) -> Array:
    """(rows, 5) statistics as in every backend, from the kernels'."""
    bias = _BIAS[columns.dtype]
    m, s, n, weight, weight_low, gap, gap_low, nonzero = columns.astype(np.float64).T
    with np.errstate(all="ignore"):
        gap_low = np.where(np.isfinite(gap_low), gap_low, 0.0)
        rest = s / bias + np.maximum(n - 1, 0)
        return np.stack([m, rest, weight + weight_low, gap + gap_low, nonzero], 1)


def _to_device(stats: Array, real: Any) -> Array:
    m, rest, weight, gap, nonzero = stats.T
    with np.errstate(all="ignore"):
        s = rest * _BIAS[np.dtype(real)]
        pairs = []
        for v in (weight, gap):
            high = v.astype(real)
            low = v - high
            pairs += [high, np.where(np.isfinite(low), low, 0.0)]
        return np.stack([m, s, np.ones_like(m), *pairs, nonzero], 1).astype(real)


def normalize(x, mask, kind, out, stats, phase, begin, end, stream) -> Job:  # type: ignore[no-untyped-def]
    """logsumexp (``out`` per row), softmax or log_softmax (``out`` like ``x``)."""
    outputs = {"loss" if kind == "logsumexp" else "grad": out}
    return _rows_job(kind, x, mask, stats, phase, begin, end, **outputs)


def rows_index(  # type: ignore[no-untyped-def]
    x, y, mask, u, g, w, e, t, loss, total, grad, stats, scale, ignore, phase, begin, end, stream
) -> Job:
    """Softmax cross entropy with index labels ``y``."""
    return _rows_job(
        "index", x, mask, stats, phase, begin, end, y, u, g, w, e, t, loss, total, grad, scale,
        ignore,
    )  # fmt: skip


def rows_dense(  # type: ignore[no-untyped-def]
    x, q, mask, u, g, w, e, t, loss, total, grad, stats, scale, phase, begin, end, stream
) -> Job:
    """Softmax cross entropy with label distributions ``q``."""
    return _rows_job(
        "dense", x, mask, stats, phase, begin, end, q, u, g, w, e, t, loss, total, grad, scale
    )


def elements(x, z, u, g, pw, e, kind, loss, total, grad, scale, stream) -> Job:  # type: ignore[no-untyped-def]
    """Each entry by itself; all arrays are seen as (outer, n)."""
    in_place = grad is not None and _launch.address(grad) == _launch.address(x)

    def job(first: int, stop: int, block: int = 0, room: Any = None) -> None:
        sums = 0.0
        for part in _rectangles(x.shape[1], first, stop):
            with _Copies() as copies:
                xs = x[part]
                if xs.dtype.kind in "biu":
                    xs = xs.astype(np.float64)
                dx = copies.give(xs)
                real = np.float64 if dx.dtype.itemsize == 8 else np.float32
                losses: Any = None
                if loss is not None or total is not None:
                    losses = np.empty(xs.shape, real)
                given = [copies.give(None if a is None else a[part]) for a in (z, u, g, pw)]
                _launch.entries(
                    _launch.Stream(0, copies.empty), kind, dx,
                    **dict(zip(("z", "u", "g", "pw"), given)), e=e, loss=copies.take(losses),
                    grad=copies.take(
                        None if grad is None else grad[part], dx, 0 if in_place else None
                    ),
                    scale=scale,
                )  # fmt: skip
            if loss is not None:
                loss[part] = losses
            if total is not None:
                sums += float(losses.sum(dtype=np.float64))
        if total is not None:
            total[block] = sums

    return job


def _rectangles(n: int, first: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Entries first..stop of rows of n, as rectangles."""
    while first < stop:
        row, col = divmod(first, n)
        rows = 1 if col or stop - first < n else (stop - first) // n
        cols = min(n - col, stop - first)
        yield slice(row, row + rows), slice(col, col + cols)
        first += rows * cols


def labels(y, u, w, ignore, num_classes: int) -> tuple[bool, float, int]:  # type: ignore[no-untyped-def]
    """Are all labels that count in range; the sum of their weights; their number."""
    found = np.empty((_launch.label_blocks(y.size), 3))
    with _Copies() as copies:
        _launch.labels(
            _launch.Stream(0, copies.empty), copies.give(y), copies.give(u), copies.give(w),
            ignore, num_classes, y.shape, copies.take(found),
        )  # fmt: skip
    weight, count, bad = read_labels(found, y.size)
    return bad is None, 0.0 if bad is not None else weight, 0 if bad is not None else count


def read_labels(found: Array, size: int) -> tuple[float, int, int | None]:
    """The sum of the weights, the number of labels that count, and the first bad one."""
    numbers = found.view(np.int64)
    bad = int(numbers[:, 2].min())
    with np.errstate(all="ignore"):
        return (
            float(sum(found[:, 0].tolist())),
            int(numbers[:, 1].sum()),
            bad if bad < size else None,
        )
