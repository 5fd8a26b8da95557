"""Plain calls straight from `_front`: a function with C's calling convention.

It packs what `_jobs.Job` packs, from a ``fx_direct`` (see ``_cython/_direct.h``) in place of
array objects, and calls the kernel that a job would.  A kernel that no call has compiled yet
it cannot wait for: then it steps back, and the general path compiles it.
"""

import ctypes
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
    # The room is read like an array's memory.
    place = scratch(8)
    put(place, room)
    place = place - HEAD if room != 0 else room
    scale = get(d + SCALE, F64)
    if size == 4:
        call(kernel, (task, 0.0, 0.0, scale, first, stop, block, place, 0, room_bytes, F32))
    else:
        call(kernel, (task, 0.0, 0.0, scale, first, stop, block, place, 0, room_bytes, F64))
    return np.int32(0)


#: A capsule's name must outlive it.
_NAME = ctypes.c_char_p(b"fastxent.direct")


def capsule() -> Any:
    """Wrap the function's address as `_front` takes it."""
    signature = (types.int64,) * 6
    direct.compile(signature)
    done = direct.overloads[signature]
    address = done.library.get_pointer_to_function(done.fndesc.llvm_cfunc_wrapper_name)
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return kind(("PyCapsule_New", ctypes.pythonapi))(address, _NAME, None)
