"""The kernels' interface: binds arrays, runs rows serially or all blocks at once.

A call from Python packs everything into one buffer of integers, array objects by their
address: reading a dozen arrays' layouts in Python would take longer than a small call's
arithmetic, and one argument type means one compilation per precision.
"""

import os
import threading
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types

from .. import _choices
from .._spec import ALL
from . import _direct, _entries, _few, _table
from . import _kernels as k
from ._vectors import share

_pool: Any
try:
    from .. import _pool
except ImportError:  # no compiled extension
    _pool = None

Array = np.ndarray[Any, Any]

#: Blocks per worker in one native call: Python looks for Ctrl-C in between.
_BLOCKS = 16

#: Numba's own threads.
_POOL: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

_SINGLE, _DOUBLE = np.float32(0), 0.0
_LABELS = (np.dtype(np.int64), np.dtype(np.int32))


class _Kinds(dict[Any, int]):
    """The kernels' number for a dtype's elements."""

    def __missing__(self, dtype: np.dtype[Any]) -> int:
        kind = self._kind(dtype)
        if not dtype.isnative:
            kind |= _table.SWAPPED
        self[dtype] = kind
        return kind

    @staticmethod
    def _kind(dtype: np.dtype[Any]) -> int:
        size = dtype.itemsize
        if dtype.kind == "V" or dtype.name == "bfloat16":
            return _table.BFLOAT  # by its name or raw, as 2-byte void
        if dtype.kind == "b":
            return _table.BOOL
        if dtype.kind == "i":
            return {1: _table.INT8, 2: _table.INT16, 4: _table.INT32, 8: _table.INT64}[size]
        if dtype.kind == "u":
            return {1: _table.UINT8, 2: _table.UINT16, 4: _table.UINT32, 8: _table.UINT64}[size]
        if dtype.kind == "f":
            return {2: _table.HALF, 4: _table.SINGLE, 8: _table.DOUBLE}.get(size, _table.LONG)
        raise TypeError(f"no kernel reads elements of dtype {dtype}")


_kinds = _Kinds()
_SINGLES = {_table.HALF, _table.BFLOAT, _table.SINGLE}

# Numba's threads run one sweep at a time: its portable threading layer ends the process
# when two meet.  A second caller does not wait, it has the pool of `_threads`.
_sweeping = threading.Lock()
_rooms = np.empty(0, np.uint8)
_forked = False


def _after_fork() -> None:
    """Neither OpenMP's threads nor the lock's holder exist in a forked child."""
    global _forked, _sweeping
    _forked, _sweeping = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


#: The addresses of compiled kernels, for `_direct`; 0 until a call has needed one.
_KERNELS = np.zeros(_direct.SLOTS, np.int64)
share(_direct.TABLE, _KERNELS)
_SLOTS = {_few.run_few: _direct.FEW, k.run_tiles: _direct.TILES, k.run_rows: _direct.ROWS}


class Job:
    """Arrays bound to a kernel; calling it computes a range of rows."""

    #: OpenMP's threads wait by spinning, some milliseconds long.
    spins = _pool is None

    __slots__ = ("_arrays", "_kernel", "_like", "_numbers", "_packed", "_task")

    def __init__(
        self,
        kernel: Any,
        op: int,
        arrays: tuple[Any, ...],
        numbers: tuple[float, float, float],
        ignore: int | None,
        phase: int,
        begin: int,
        end: int,
        stream: bool,
    ) -> None:
        kinds = [0 if a is None else _kinds[a.dtype] for a in arrays]
        self._kernel = kernel
        self._arrays = arrays  # alive as long as their addresses are in use
        # Logarithms of probabilities are taken in double whatever the dtype: 1 - p is exact.
        single = kinds[0] & 31 in _SINGLES and op != _table.PROBS
        self._like = _SINGLE if single else _DOUBLE
        self._numbers = numbers
        ids = [0 if a is None else id(a) for a in arrays]
        self._packed = array(
            "q",
            (op, phase, begin, end, stream, ignore is not None, ignore or 0, *ids, *kinds, 0),
        )
        self._task = self._packed.buffer_info()[0]

    def __call__(self, first: int, stop: int, block: int = 0, room: Array | None = None) -> None:
        place, size = (0, 0) if room is None else (id(room), room.nbytes)
        self._kernel(self._task, *self._numbers, first, stop, block, place, 0, size, self._like)
        _compiled(self._kernel, self._like is _DOUBLE)  # `_direct` may have it from now on

    @staticmethod
    def sweep(
        jobs: "list[Job]", rows: int, step: int, threads: int, room: Array | None
    ) -> "list[Job]":
        """Compute all rows of all jobs; the jobs that are left, where threads have other work.

        On the threads of the compiled pool, or if there is none on Numba's.
        """
        if _pool is not None:
            return [] if _on_pool(jobs, rows, step, threads, room) else jobs
        if rows <= step:  # pieces of long rows, a block each: they run side by side elsewhere
            return jobs
        size = 0 if room is None else room.nbytes
        return [job for job in jobs if not job._sweep(rows, step, threads, size)]

    def _sweep(self, rows: int, step: int, threads: int, room: int) -> bool:
        """All blocks at once on Numba's threads, at most as many as it has; False if not now."""
        global _rooms
        if _forked or not _sweeping.acquire(blocking=False):
            return False
        try:
            blocks = -(-rows // step)
            before = numba.get_num_threads()
            workers = min(threads, blocks, _POOL)
            run = _compiled(self._kernel, self._like is _DOUBLE)
            if _rooms.size < workers * room:
                _rooms = np.empty(workers * room, np.uint8)
            place = id(_rooms) if room else 0
            numba.set_num_threads(workers)
            try:
                for begin in range(0, blocks, _BLOCKS * workers):
                    end = min(blocks, begin + _BLOCKS * workers)
                    k.sweep(
                        run, self._task, *self._numbers, begin, end, rows, step, workers, place,
                        room, self._like,
                    )  # fmt: skip
            finally:
                numba.set_num_threads(before)
        finally:
            _sweeping.release()
        return True


def _on_pool(jobs: list[Job], rows: int, step: int, threads: int, room: Array | None) -> bool:
    """All blocks of all jobs on the compiled pool; False if it has other work."""
    parts = [len(jobs), rows, step]
    numbers = array("d")
    for job in jobs:
        numbers.extend(job._numbers)
    place, size = numbers.buffer_info()[0], 3 * numbers.itemsize
    for index, job in enumerate(jobs):
        double = job._like is _DOUBLE
        parts += _compiled(job._kernel, double), job._task, place + size * index, double
    sweep = array("q", parts)
    pieces = -(-rows // step) * len(jobs)
    return _pool.sweep(_direct.piece_address(), sweep.buffer_info()[0], pieces, threads, room)


def _rows_kernel(x: Any, plain: bool = False) -> Any:
    """Row by row where the classes are contiguous and many, else by tiles."""
    if plain and x.shape[1] <= _few.MOST and _kinds[x.dtype] & 31 in _SINGLES:
        return _few.run_few
    strides = x.strides
    across = strides[2] if x.ndim == 3 and x.shape[2] > 1 else strides[0]
    apart = strides[1] != x.itemsize and abs(strides[1]) > abs(across)
    return k.run_tiles if apart or x.shape[1] <= _choices.NUMBA_SMALL_CLASSES else k.run_rows


_OPS = {"logsumexp": _table.LOGSUMEXP, "softmax": _table.SOFTMAX, "log_softmax": _table.LOG_SOFTMAX}


def normalize(
    x: Any, mask: Any, kind: str, out: Any, stats: Any, phase: int, begin: int, end: int,
    stream: bool,
) -> Callable[..., None]:  # fmt: skip
    """logsumexp (``out`` per row), softmax or log_softmax (``out`` like ``x``)."""
    loss, grad = (out, None) if kind == "logsumexp" else (None, out)
    arrays = (x, None, mask, None, None, None, loss, grad, stats, None)
    plain = mask is None and stats is None and phase == ALL
    return Job(
        _rows_kernel(x, plain),
        _OPS[kind],
        arrays,
        (0.0, 0.0, 1.0),
        None,
        phase,
        begin,
        end,
        stream,
    )


def rows_index(
    x: Any, y: Any, mask: Any, u: Any, g: Any, w: Any, e: float, t: float, loss: Any, total: Any,
    grad: Any, stats: Any, scale: float, ignore: int | None, phase: int, begin: int, end: int,
    stream: bool,
) -> Callable[..., None]:  # fmt: skip
    """Softmax cross entropy with index labels ``y``."""
    arrays = (x, y, mask, u, g, w, loss, grad, stats, total)
    plain = mask is w is stats is None and e == 0 and t == 0 and phase == ALL
    return Job(
        _rows_kernel(x, plain),
        _table.INDEX,
        arrays,
        (e, t, scale),
        ignore,
        phase,
        begin,
        end,
        stream,
    )


def rows_dense(
    x: Any, q: Any, mask: Any, u: Any, g: Any, w: Any, e: float, t: float, loss: Any, total: Any,
    grad: Any, stats: Any, scale: float, phase: int, begin: int, end: int, stream: bool,
) -> Callable[..., None]:  # fmt: skip
    """Softmax cross entropy with label distributions ``q``."""
    arrays = (x, q, mask, u, g, w, loss, grad, stats, total)
    return Job(
        _rows_kernel(x), _table.DENSE, arrays, (e, t, scale), None, phase, begin, end, stream
    )


_KINDS = {
    "sigmoid": _table.SIGMOID, "log_sigmoid": _table.LOG_SIGMOID, "logits": _table.LOGITS,
    "probs": _table.PROBS,
}  # fmt: skip


def elements(
    x: Any, z: Any, u: Any, g: Any, pw: Any, e: float, kind: str, loss: Any, total: Any, grad: Any,
    scale: float, stream: bool,
) -> Callable[..., None]:  # fmt: skip
    """Each entry by itself; all arrays are seen as (outer, n)."""
    arrays = (x, z, None, u, g, pw, loss, grad, None, total)
    return Job(_entries.run_entries, _KINDS[kind], arrays, (e, 0.0, scale), None, 0, 0, 0, stream)


def labels(y: Any, u: Any, w: Any, ignore: int | None, num_classes: int) -> tuple[bool, float, int]:
    """Are all labels that count in range; the sum of their weights; their number."""
    plain = (
        u is None and w is None and y.dtype in _LABELS
        and y.strides[-1] == y.itemsize and y.shape[1:] != (1,)
    )  # fmt: skip
    arrays = (None, y, None, u, None, w, None, None, None, None)
    ids = [0 if a is None else id(a) for a in arrays]
    kinds = [0 if a is None else _kinds[a.dtype] for a in arrays]
    packed = array("q", (0, 0, 0, 0, 0, ignore is not None, ignore or 0, *ids, *kinds, 0))
    return k.run_labels(packed.buffer_info()[0], num_classes, plain)


_I, _F = types.int64, types.float64


@cache
def _compiled(kernel: Any, double: bool) -> int:
    """The address of a kernel's machine code."""
    like = types.float64 if double else types.float32
    signature = (_I, _F, _F, _F, _I, _I, _I, _I, _I, _I, like)
    kernel.compile(signature)
    done = kernel.overloads[signature]
    address = int(done.library.get_pointer_to_function(done.fndesc.llvm_func_name))
    if kernel in _SLOTS:
        _KERNELS[_SLOTS[kernel] + double] = address
    return address


def __getattr__(name: str) -> Any:
    """``DIRECT`` is compiled when it is asked for: `_front` may not be there to use it."""
    if name != "DIRECT":
        raise AttributeError(name)
    globals()[name] = capsule = _direct.capsule()
    return capsule


def warmup(single: bool, double: bool) -> None:
    """Compile, or read from the cache, what calls in these precisions may need."""
    k.run_labels.compile((_I, _I, types.boolean))
    for wide in [False] * single + [True] * double:
        _compiled(k.run_rows, wide)
        _compiled(k.run_tiles, wide)
        _compiled(_entries.run_entries, wide)
        if not wide:
            _compiled(_few.run_few, wide)
        like = types.float64 if wide else types.float32
        if _pool is None:
            k.sweep.compile((_I, _I, _F, _F, _F, _I, _I, _I, _I, _I, _I, _I, like))
        else:
            _direct.piece_address()
