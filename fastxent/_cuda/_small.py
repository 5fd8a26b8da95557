"""The kernels around the large ones: labels, sums, and losses that pick an entry.

Sums are taken in double precision, in an order that depends on the shape only.
"""

import numpy as np
from numba import cuda, float64, int64

from ._language import F64, I64, WARP, function, get, integer, kernel, put, quiet
from ._math import DOUBLES

element = DOUBLES.element

BLOCK = 2 * WARP if WARP < 32 else 256
GRID = 4 if WARP < 32 else 256

#: The integers of the pass over labels; two more than the largest address is no address.
(
    Y, Y_OUTER, Y_INNER, Y_KIND, U, U_OUTER, U_INNER, U_KIND, W, W_CLASS, W_KIND, ROWS, INNER,
    CLASSES, HAS_IGNORE, IGNORE, FOUND, LOSSES, STRIDE, KIND,
) = range(20)  # fmt: skip
INTEGERS = 20


@function
def block_total(v, thread):
    """The sum over a block; every thread gets it."""
    box = cuda.shared.array(BLOCK, float64)
    cuda.syncthreads()
    box[thread] = v
    cuda.syncthreads()
    k = BLOCK // 2
    while k > 0:
        if thread < k:
            box[thread] += box[thread + k]
        cuda.syncthreads()
        k >>= 1
    return box[0]


@function
def block_count(v, thread):
    box = cuda.shared.array(BLOCK, int64)
    cuda.syncthreads()
    box[thread] = v
    cuda.syncthreads()
    k = BLOCK // 2
    while k > 0:
        if thread < k:
            box[thread] += box[thread + k]
        cuda.syncthreads()
        k >>= 1
    return box[0]


@function
def block_least(v, thread):
    box = cuda.shared.array(BLOCK, int64)
    cuda.syncthreads()
    box[thread] = v
    cuda.syncthreads()
    k = BLOCK // 2
    while k > 0:
        if thread < k:
            box[thread] = min(box[thread], box[thread + k])
        cuda.syncthreads()
        k >>= 1
    return box[0]


@kernel
def labels(t):
    """Per block: the sum of the weights of the labels that count, their number, the first bad one.

    Without labels the sample weights alone are summed and counted.
    """
    quiet()
    thread = np.int64(cuda.threadIdx.x)
    step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
    rows = t[ROWS]
    weight, count, bad = 0.0, np.int64(0), rows
    start = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + thread
    for row in range(start, rows, step):
        o, i = row, np.int64(0)
        if t[INNER] > 1:
            o = row // t[INNER]
            i = row - o * t[INNER]
        u = 1.0
        if t[U] != 0:
            u = element(t[U] + o * t[U_OUTER] + i * t[U_INNER], t[U_KIND])
        if u == 0.0:
            continue
        if t[Y] != 0:
            y = integer(t[Y] + o * t[Y_OUTER] + i * t[Y_INNER], t[Y_KIND])
            if t[HAS_IGNORE] != 0 and y == t[IGNORE]:
                continue
            if y < 0 or y >= t[CLASSES]:
                bad = min(bad, row)
                continue
            if t[W] != 0:
                u *= element(t[W] + y * t[W_CLASS], t[W_KIND])
        weight += u
        count += 1
    weight = block_total(weight, thread)
    count = block_count(count, thread)
    bad = block_least(bad, thread)
    if thread == 0:
        place = t[FOUND] + np.int64(cuda.blockIdx.x) * 24
        put(place, weight)
        put(place + 8, count)
        put(place + 16, bad)
