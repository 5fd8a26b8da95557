"""The kernels around the large ones: labels, sums, and losses that pick an entry.

Sums are taken in double precision, in an order that depends on the shape only.
"""

import numpy as np
from numba import cuda, float64, int64

from ._language import (
    DOUBLE,
    HALF,
    SINGLE,
    WARP,
    function,
    integer,
    kernel,
    narrow_bfloat,
    narrow_half,
    put,
    quiet,
)
from ._math import DOUBLES

element, exp_small, log1p = DOUBLES.element, DOUBLES.exp_small, DOUBLES.log1p

BLOCK = 2 * WARP if WARP < 32 else 256
GRID = 4 if WARP < 32 else 256

#: The integers of the pass over labels. An array has an address (0: absent), strides, a kind.
(
    Y, Y_OUTER, Y_INNER, Y_KIND, U, U_OUTER, U_INNER, U_KIND, W, W_CLASS, W_KIND, ROWS, INNER,
    CLASSES, HAS_IGNORE, IGNORE, FOUND,
) = range(17)  # fmt: skip
INTEGERS = 17


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


#: The integers of the sums of losses: where they are, and where the result goes.
SUM_LOSSES, SUM_COUNT, SUM_KIND, SUM_PARTS, SUM_OUT, SUM_PAIRS = range(6)
SUM_INTEGERS = 6


@kernel
def sums(t):
    """The sum of some losses, per block."""
    quiet()
    thread = np.int64(cuda.threadIdx.x)
    step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
    start = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + thread
    size = 8 if t[SUM_KIND] == DOUBLE else 4
    total = 0.0
    for k in range(start, t[SUM_COUNT], step):
        total += element(t[SUM_LOSSES] + k * size, t[SUM_KIND])
    total = block_total(total, thread)
    if thread == 0:
        put(t[SUM_PARTS] + np.int64(cuda.blockIdx.x) * 8, total)


@kernel
def close(t, f):
    """The sum of the blocks' sums by the denominator, rounded once. Blocks may have left pairs."""
    quiet()
    if cuda.threadIdx.x != 0 or cuda.blockIdx.x != 0:
        return
    total, low = 0.0, 0.0
    kind = DOUBLE if t[SUM_PAIRS] == 0 else t[SUM_KIND]
    size = np.int64(8 if kind == DOUBLE else 4)
    for k in range(t[SUM_COUNT]):
        if t[SUM_PAIRS] == 0:
            total += element(t[SUM_PARTS] + k * size, kind)
        else:
            total += element(t[SUM_PARTS] + 2 * k * size, kind)
            low += element(t[SUM_PARTS] + (2 * k + 1) * size, kind)
    if low - low == 0.0:
        total += low
    total = total / f[0] if f[0] != 0.0 else f[1]
    store(t[SUM_OUT], t[SUM_KIND], total)


#: The integers of the weights' shares, and of the sums over time.
S_U, S_U_OUTER, S_U_INNER, S_U_KIND, S_EXAMPLES, S_STEPS, S_OUT = range(7)
S_INTEGERS = 7
R_LOSSES, R_EXAMPLES, R_STEPS, R_KIND, R_OUT = range(5)
R_INTEGERS = 5


@kernel
def shares(t, f):
    """Weights of an example by their sum over time, 0 where that is 0; by f[0] too."""
    quiet()
    step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
    start = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)
    for b in range(start, t[S_EXAMPLES], step):
        total = 0.0
        for k in range(t[S_STEPS]):
            u = 1.0
            if t[S_U] != 0:
                u = element(t[S_U] + b * t[S_U_OUTER] + k * t[S_U_INNER], t[S_U_KIND])
            total += u
        for k in range(t[S_STEPS]):
            u = 1.0
            if t[S_U] != 0:
                u = element(t[S_U] + b * t[S_U_OUTER] + k * t[S_U_INNER], t[S_U_KIND])
            share = 0.0 if total == 0.0 else u / total / f[0]
            put(t[S_OUT] + (b * t[S_STEPS] + k) * 8, np.float64(share))


@kernel
def row_sums(t):
    """The sums over time."""
    quiet()
    step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
    start = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)
    size = 8 if t[R_KIND] == DOUBLE else 4
    for b in range(start, t[R_EXAMPLES], step):
        total = 0.0
        for k in range(t[R_STEPS]):
            total += element(t[R_LOSSES] + (b * t[R_STEPS] + k) * size, t[R_KIND])
        store(t[R_OUT] + b * size, t[R_KIND], total)


#: The integers of the gradient to ``pos_weight``: arrays along kept and summed axes.
(
    V_X, V_X_KEPT, V_X_SUMMED, V_X_KIND, V_Z, V_Z_KEPT, V_Z_SUMMED, V_Z_KIND,
    V_U, V_U_KEPT, V_U_SUMMED, V_U_KIND, V_G, V_G_KEPT, V_G_SUMMED, V_G_KIND,
    V_OUT, V_OUT_KEPT, V_OUT_KIND, V_SUMS, V_KEPT, V_SUMMED, V_FIRST, V_LAST,
) = range(24)  # fmt: skip
V_INTEGERS = 24


@kernel
def pos_weight_slopes(t, f):
    """Sums of g z' log(1 + exp(-x)), a block for each; added to what was summed before."""
    quiet()
    thread = np.int64(cuda.threadIdx.x)
    step = np.int64(cuda.blockDim.x)
    for j in range(np.int64(cuda.blockIdx.x), t[V_KEPT], np.int64(cuda.gridDim.x)):
        total = 0.0
        for k in range(thread, t[V_SUMMED], step):
            z = 0.0
            if f[0] != 0.0:  # 1 - e
                place = t[V_Z] + j * t[V_Z_KEPT] + k * t[V_Z_SUMMED]
                z = f[0] * element(place, t[V_Z_KIND])
            z += f[1]
            by = f[2]
            if t[V_U] != 0:
                by = times(by, element(t[V_U] + j * t[V_U_KEPT] + k * t[V_U_SUMMED], t[V_U_KIND]))
            if t[V_G] != 0:
                by = times(by, element(t[V_G] + j * t[V_G_KEPT] + k * t[V_G_SUMMED], t[V_G_KIND]))
            by = times(by, z)
            if by != 0.0:
                x = element(t[V_X] + j * t[V_X_KEPT] + k * t[V_X_SUMMED], t[V_X_KIND])
                size = -x if x < 0.0 else x
                total += times(by, (size if x < 0.0 else x - size) + log1p(exp_small(-size)))
        total = block_total(total, thread)
        if thread == 0:
            place = t[V_SUMS] + j * 8
            if t[V_FIRST] == 0:
                total += element(place, DOUBLE)
            put(place, np.float64(total))
            if t[V_LAST] != 0:
                store(t[V_OUT] + j * t[V_OUT_KEPT], t[V_OUT_KIND], total)


@function
def store(p, kind, v):
    """Write an element of a floating kind; half precision by way of float32."""
    if kind == DOUBLE:
        put(p, np.float64(v))
    elif kind == SINGLE:
        put(p, np.float32(v))
    elif kind == HALF:
        put(p, narrow_half(np.float32(v)))
    else:
        put(p, narrow_bfloat(np.float32(v)))


#: The integers of a loss that picks an entry; the labels come as for their pass.
(
    P_X, P_X_OUTER, P_X_CLASS, P_X_INNER, P_X_KIND, P_G, P_G_OUTER, P_G_INNER, P_G_KIND,
    P_LOSS, P_LOSS_OUTER, P_LOSS_INNER, P_LOSS_KIND,
    P_GRAD, P_GRAD_OUTER, P_GRAD_CLASS, P_GRAD_INNER, P_GRAD_KIND,
) = range(INTEGERS, INTEGERS + 18)  # fmt: skip
P_INTEGERS = INTEGERS + 18


@function
def times(a, b):
    return 0.0 if a == 0.0 or b == 0.0 else a * b


@kernel
def pick(t, f):
    """Minus the entry of each row that its label picks, and the gradient of that."""
    quiet()
    step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
    start = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)
    each = t[CLASSES] if t[P_GRAD] != 0 else np.int64(1)
    for number in range(start, t[ROWS] * each, step):
        # Neighbours write neighbours: classes run fastest where their stride is the smallest.
        inner = t[INNER]
        row, k = number, np.int64(0)
        o, i = row, np.int64(0)
        if inner > 1:
            if each > 1:
                o = number // (each * inner)
                k = (number - o * each * inner) // inner
                i = number - (o * each + k) * inner
            else:
                o = number // inner
                i = number - o * inner
        elif each > 1:
            o = number // each
            k = number - o * each
        u = 1.0
        if t[U] != 0:
            u = element(t[U] + o * t[U_OUTER] + i * t[U_INNER], t[U_KIND])
        y = integer(t[Y] + o * t[Y_OUTER] + i * t[Y_INNER], t[Y_KIND])
        if t[HAS_IGNORE] != 0 and y == t[IGNORE]:
            u = 0.0
        if u == 0.0 or y < 0 or y >= t[CLASSES]:
            y = np.int64(0)
            u = 0.0
        elif t[W] != 0:
            u *= element(t[W] + y * t[W_CLASS], t[W_KIND])
        place = t[P_X] + o * t[P_X_OUTER] + y * t[P_X_CLASS] + i * t[P_X_INNER]
        x = 0.0 if u == 0.0 else element(place, t[P_X_KIND])
        if t[P_LOSS] != 0 and k == 0:
            store(
                t[P_LOSS] + o * t[P_LOSS_OUTER] + i * t[P_LOSS_INNER], t[P_LOSS_KIND], -times(u, x)
            )
        if t[P_GRAD] != 0:
            slope = 0.0
            if k == y:
                g = 1.0
                if t[P_G] != 0:
                    g = element(t[P_G] + o * t[P_G_OUTER] + i * t[P_G_INNER], t[P_G_KIND])
                slope = -times(times(f[0], u), g)
                if x != x:
                    slope = times(slope, x)
            place = t[P_GRAD] + o * t[P_GRAD_OUTER] + k * t[P_GRAD_CLASS] + i * t[P_GRAD_INNER]
            store(place, t[P_GRAD_KIND], slope)
