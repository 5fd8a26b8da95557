"""Small plain calls straight from `_front`: a function with C's calling convention.

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
    GRAD,
    INT32,
    INT64,
    KINDS,
    LOSS,
    OBJECTS,
    PACKED,
    SINGLE,
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
LOGITS, LABELS, LOSSES, SLOPES, ROW_COUNT, CLASS_COUNT, SCALE, SUM, ROOM, ROOM_BYTES = range(
    16, 96, 8
)
DECLINED = 96

# What `bind` reads of an array object, and its shape and strides behind that.
HEAD_BYTES = HEAD + 32
OBJECT_BYTES = HEAD_BYTES + 32
PACKED_BYTES = 8 * PACKED
OBJECTS_BYTES = 5 * OBJECT_BYTES


@function
def pack(task, p, array, data, kind, rows, classes, size):
    """An array object at p: rows and classes of elements, or only rows where there is one class."""
    if data == 0:
        return
    put(task + 8 * (OBJECTS + array), p)
    put(task + 8 * (KINDS + array), kind)
    put(p + HEAD, data)
    put(p + HEAD + 8, np.int32(1 if classes == 0 else 2))
    put(p + HEAD + 16, p + HEAD_BYTES)
    put(p + HEAD + 24, p + HEAD_BYTES + 16)
    put(p + HEAD_BYTES, rows)
    put(p + HEAD_BYTES + 8, classes)
    put(p + HEAD_BYTES + 16, size * max(1, classes))
    put(p + HEAD_BYTES + 24, size)


@cached
@entry
def direct(d):
    """All rows of a plain call, at once."""
    op, size = np.int64(get(d + OP, I32)), np.int64(get(d + BYTES, I32))
    rows, classes = get(d + ROW_COUNT, I64), get(d + CLASS_COUNT, I64)
    slot = ROWS
    if size == 4 and op != DENSE and classes <= MOST:
        slot = FEW
    elif classes <= SMALL:
        slot = TILES
    kernel = get(shared(TABLE) + 8 * (slot + (size == 8)), I64)
    if kernel == 0:
        put(d + DECLINED, np.int32(1))
        return
    task, p = scratch(PACKED_BYTES), scratch(OBJECTS_BYTES)
    for k in range(PACKED):
        put(task + 8 * k, I64)
    put(task, op)
    put(task + 8 * 3, classes)  # to the last one
    kind = SINGLE if size == 4 else DOUBLE
    pack(task, p, X, get(d + LOGITS, I64), kind, rows, classes, size)
    pack(task, p + OBJECT_BYTES, GRAD, get(d + SLOPES, I64), kind, rows, classes, size)
    pack(task, p + 2 * OBJECT_BYTES, LOSS, get(d + LOSSES, I64), kind, rows, 0, size)
    if op == DENSE:
        pack(task, p + 3 * OBJECT_BYTES, Y, get(d + LABELS, I64), kind, rows, classes, size)
    else:
        width = np.int64(get(d + LABEL_BYTES, I32))
        kind = INT32 if width == 4 else INT64
        pack(task, p + 3 * OBJECT_BYTES, Y, get(d + LABELS, I64), kind, rows, 0, width)
    pack(task, p + 4 * OBJECT_BYTES, TOTAL, d + SUM, DOUBLE, 1, 0, 8)
    # The room is read like an array's memory.
    room = d + ROOM - HEAD
    scale, room_bytes = get(d + SCALE, F64), get(d + ROOM_BYTES, I64)
    if size == 4:
        call(kernel, (task, 0.0, 0.0, scale, 0, rows, 0, room, 0, room_bytes, F32))
    else:
        call(kernel, (task, 0.0, 0.0, scale, 0, rows, 0, room, 0, room_bytes, F64))


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
    return kind(("PyCapsule_New", ctypes.pythonapi))(_address(direct, 1), _NAME, None)
