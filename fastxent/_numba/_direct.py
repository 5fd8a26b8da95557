"""Plain calls straight from `_front`: a function with C's calling convention.

It packs what `_jobs.Job` packs, from a ``fx_direct`` (see ``_cython/_direct.h``) in place of
array objects, and calls the kernel that a job would.  A kernel that no call has compiled yet
it cannot wait for: then it steps back, and the general path compiles it.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numba import types

from .. import _choices
from ._cache import cached
from ._few import MOST
from ._kernels import F32, F64, HEAD, I32, I64, entry, function
from ._table import (
    DENSE,
    DOUBLE,
    END,
    GRAD,
    INT32,
    INT64,
    KINDS,
    LOSS,
    OBJECTS,
    PACKED,
    SINGLE,
    STREAM,
    TOTAL,
    X,
    Y,
    field,
    number,
)
from ._vectors import call, get, put, scratch, shared

#: Places of kernels in the table of them: two each, the second one for double precision.
FEW, TILES, ROWS, SLOTS = 0, 2, 4, 6
TABLE = "fastxent_numba_kernels"
SMALL = _choices.NUMBA_SMALL_CLASSES

# Fields of a fx_direct.
OP, BYTES, LABEL_BYTES = 0, 4, 8
LOGITS, LABELS, LOSSES, SLOPES, ROW_COUNT, CLASS_COUNT, INNER, SCALE, STREAMS, SUMS = range(
    16, 96, 8
)

# What `bind` reads of an array object, and its shape and strides behind that.
HEAD_BYTES = HEAD + 32
OBJECT_BYTES = HEAD_BYTES + 48
PACKED_BYTES = 8 * PACKED
OBJECTS_BYTES = 5 * OBJECT_BYTES


@function
def pack(task, p, array, data, kind, rows, classes, inner, size):
    """An array object at p, C-contiguous: (outer[, classes], inner), classes 0 if it has none."""
    if data == 0:
        return
    put(task + 8 * (OBJECTS + array), p)
    put(task + 8 * (KINDS + array), kind)
    shape, strides = p + HEAD_BYTES, p + HEAD_BYTES + 24
    put(p + HEAD, data)
    put(p + HEAD + 16, shape)
    put(p + HEAD + 24, strides)
    within = inner if 1 < inner < rows else 1  # the rows of a single outer are outer ones
    put(shape, rows // within)
    put(strides, size if within < inner else max(1, classes) * inner * size)
    axes = 1
    if classes > 0:
        put(shape + 8, classes)
        put(strides + 8, inner * size)
        axes += 1
    if within > 1:
        put(shape + 8 * axes, within)
        put(strides + 8 * axes, size)
        axes += 1
    put(p + HEAD + 8, np.int32(axes))


@cached
@entry
def direct(d, first, stop, block, room, room_bytes):
    """A block of a plain call: 0, or 1 if there is no kernel for it."""
    op, size = np.int64(get(d + OP, I32)), np.int64(get(d + BYTES, I32))
    rows, classes, inner = get(d + ROW_COUNT, I64), get(d + CLASS_COUNT, I64), get(d + INNER, I64)
    slot = ROWS
    if size == 4 and op != DENSE and classes <= MOST:
        slot = FEW
    elif classes <= SMALL or inner > 1:
        slot = TILES
    kernel = get(shared(TABLE) + 8 * (slot + (size == 8)), I64)
    if kernel == 0:
        return np.int32(1)
    if first == stop:
        return np.int32(0)
    task, p = scratch(PACKED_BYTES), scratch(OBJECTS_BYTES)
    for k in range(PACKED):
        put(task + 8 * k, I64)
    put(task, op)
    put(task + 8 * END, classes)
    put(task + 8 * STREAM, np.int64(get(d + STREAMS, I32)))
    kind = SINGLE if size == 4 else DOUBLE
    pack(task, p, X, get(d + LOGITS, I64), kind, rows, classes, inner, size)
    pack(task, p + OBJECT_BYTES, GRAD, get(d + SLOPES, I64), kind, rows, classes, inner, size)
    pack(task, p + 2 * OBJECT_BYTES, LOSS, get(d + LOSSES, I64), kind, rows, 0, inner, size)
    if op == DENSE:
        pack(task, p + 3 * OBJECT_BYTES, Y, get(d + LABELS, I64), kind, rows, classes, inner, size)
    else:
        width = np.int64(get(d + LABEL_BYTES, I32))
        kind = INT32 if width == 4 else INT64
        pack(task, p + 3 * OBJECT_BYTES, Y, get(d + LABELS, I64), kind, rows, 0, inner, width)
    pack(task, p + 4 * OBJECT_BYTES, TOTAL, get(d + SUMS, I64), DOUBLE, 1, 0, 1, 8)
    head = scratch(HEAD_BYTES)  # the room is read like an array's memory
    put(head + HEAD, room)
    scale = get(d + SCALE, F64)
    if size == 4:
        call(kernel, (task, 0.0, 0.0, scale, first, stop, block, head, 0, room_bytes, F32))
    else:
        call(kernel, (task, 0.0, 0.0, scale, first, stop, block, head, 0, room_bytes, F64))
    return np.int32(0)


#: A capsule's name must outlive it.
_NAME = ctypes.c_char_p(b"fastxent.direct")


#: What a sweep tells each thread: numbers of parts, rows and rows in a block, then of each part
#: the kernel, the task, where its three numbers are, and whether it computes in double precision.
PARTS, ROWS_IN_ALL, STEP, FIRST_PART, PART_WORDS = 0, 1, 2, 3, 4


@cached
@entry
def piece(sweep, k, room, room_bytes):
    """A block of rows of one of a sweep's parts, as a thread of `_pool` computes it."""
    parts, step = field(sweep, PARTS), field(sweep, STEP)
    block, part = k // parts, sweep + 8 * (FIRST_PART + PART_WORDS * (k % parts))
    kernel, task, numbers = field(part, 0), field(part, 1), field(part, 2)
    first = block * step
    stop = min(field(sweep, ROWS_IN_ALL), first + step)
    head = scratch(HEAD_BYTES)
    put(head + HEAD, room)
    e, z, scale = number(numbers, 0), number(numbers, 1), number(numbers, 2)
    if field(part, 3):
        call(kernel, (task, e, z, scale, first, stop, block, head, 0, room_bytes, F64))
    else:
        call(kernel, (task, e, z, scale, first, stop, block, head, 0, room_bytes, F32))


@cache
def _address(function: Any, count: int) -> int:
    """Compile for that many integers, and find what C may call."""
    signature = (types.int64,) * count
    function.compile(signature)
    done = function.overloads[signature]
    return int(done.library.get_pointer_to_function(done.fndesc.llvm_cfunc_wrapper_name))


def piece_address() -> int:
    """Find where a block of rows is computed."""
    return _address(piece, 4)


def capsule() -> Any:
    """Wrap the address of `direct` as `_front` takes it."""
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return kind(("PyCapsule_New", ctypes.pythonapi))(_address(direct, 6), _NAME, None)
