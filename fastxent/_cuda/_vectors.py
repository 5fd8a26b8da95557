"""The kernels around products of matrices: rows moved and added, columns summed.

The products are made by the library whose arrays they are of, see ``_compose``.
"""

from types import SimpleNamespace

import numpy as np
from numba import cuda

from ._language import (
    F32,
    F64,
    HALF,
    I64,
    SINGLE,
    WARP,
    fma,
    function,
    get,
    integer,
    kernel,
    narrow_bfloat,
    narrow_half,
    put,
    quiet,
    xor,
)
from ._math import DOUBLES, SINGLES
from ._small import element, store

#: The integers of a move. An array has an address (0: absent), strides in bytes, and a kind.
(
    M_OUT, M_OUT_ROW, M_OUT_COLUMN, M_OUT_KIND, M_X, M_X_ROW, M_X_COLUMN, M_X_KIND,
    M_BY, M_BY_ROW, M_BY_KIND, M_IDS, M_ROWS, M_COLUMNS, M_ADD, M_TEAM,
) = range(16)  # fmt: skip
M_INTEGERS = 16

#: Of products of the rows of two arrays, row by row.
D_OUT, D_OUT_ROW, D_X, D_X_ROW, D_X_COLUMN, D_V, D_V_ROW, D_V_COLUMN, D_ROWS, D_COLUMNS = range(10)
D_INTEGERS = 10

#: Of rows that are summed up by where they go: row k goes with first[n] <= k < first[n + 1].
(
    A_OUT, A_OUT_ROW, A_OUT_COLUMN, A_OUT_KIND, A_X, A_X_ROW, A_X_COLUMN, A_X_KIND,
    A_AT, A_FIRST, A_ORDER, A_ROWS, A_COLUMNS, A_TEAM,
) = range(14)  # fmt: skip
A_INTEGERS = 14

#: Of sums of columns, of entries that are struck out, and of rows that have a gradient.
C_X, C_X_ROW, C_X_COLUMN, C_X_KIND, C_ROWS, C_COLUMNS, C_PIECE, C_OUT = range(8)
C_INTEGERS = 8
S_OUT, S_OUT_ROW, S_OUT_COLUMN, S_OUT_KIND, S_AT, S_COUNT = range(6)
S_INTEGERS = 6
(
    L_Y, L_Y_ROW, L_Y_KIND, L_U, L_U_ROW, L_U_KIND, L_G, L_G_ROW, L_G_KIND,
    L_W, L_W_CLASS, L_W_KIND, L_ROWS, L_HAS_IGNORE, L_IGNORE, L_OUT,
) = range(16)  # fmt: skip
L_INTEGERS = 16


@function
def first_and_step(team):
    """The first row of a thread's team, and how far it is to the next."""
    thread = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)
    return thread // team, np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x) // team


def _make(math):
    """The kernels that compute in a precision."""
    single = math is SINGLES
    real, zero, one, element = math.real, math.zero, math.one, math.element

    if single:

        @function
        def load(p):
            return get(p, F32)

        @function
        def write(p, kind, v):
            if kind == SINGLE:
                put(p, v)
            elif kind == HALF:
                put(p, narrow_half(v))
            else:
                put(p, narrow_bfloat(v))

    else:
        write = store

        @function
        def load(p):
            return get(p, F64)

    @kernel
    def move(t):
        """Rows by their ids (of a negative one: 0) times numbers, into or onto other rows."""
        quiet()
        team = t[M_TEAM]
        lane = np.int64(cuda.threadIdx.x) % team
        first, step = first_and_step(team)
        for i in range(first, t[M_ROWS], step):
            k, by = i, one
            if t[M_IDS] != 0:
                k = get(t[M_IDS] + i * 8, I64)
            if t[M_BY] != 0:
                by = element(t[M_BY] + i * t[M_BY_ROW], t[M_BY_KIND])
            absent = t[M_X] == 0 or k < 0 or by == zero
            p = t[M_X] + k * t[M_X_ROW]
            q = t[M_OUT] + i * t[M_OUT_ROW]
            for j in range(lane, t[M_COLUMNS], team):
                place = q + j * t[M_OUT_COLUMN]
                v = zero
                if not absent:
                    v = by * element(p + j * t[M_X_COLUMN], t[M_X_KIND])
                if t[M_ADD] != 0:
                    v += element(place, t[M_OUT_KIND])
                write(place, t[M_OUT_KIND], v)

    @kernel
    def dots(t):
        """The product of each row with that of another array; a warp for each."""
        quiet()
        lane = np.int64(cuda.threadIdx.x) % WARP
        first, step = first_and_step(np.int64(WARP))
        for i in range(first, t[D_ROWS], step):
            p = t[D_X] + i * t[D_X_ROW]
            q = t[D_V] + i * t[D_V_ROW]
            s = zero
            for j in range(lane, t[D_COLUMNS], WARP):
                s = fma(load(p + j * t[D_X_COLUMN]), load(q + j * t[D_V_COLUMN]), s)
            k = 1
            while k < WARP:
                s += xor(s, k)
                k <<= 1
            if lane == 0:
                put(t[D_OUT] + i * t[D_OUT_ROW], real(s))

    @kernel
    def scatter(t):
        """Add rows to those of another array, all that go to one place in their order."""
        quiet()
        team = t[A_TEAM]
        lane = np.int64(cuda.threadIdx.x) % team
        first, step = first_and_step(team)
        for n in range(first, t[A_ROWS], step):
            q = t[A_OUT] + get(t[A_AT] + n * 8, I64) * t[A_OUT_ROW]
            begin, end = get(t[A_FIRST] + n * 8, I64), get(t[A_FIRST] + (n + 1) * 8, I64)
            for j in range(lane, t[A_COLUMNS], team):
                total = zero
                for k in range(begin, end):
                    p = t[A_X] + get(t[A_ORDER] + k * 8, I64) * t[A_X_ROW]
                    total += element(p + j * t[A_X_COLUMN], t[A_X_KIND])
                place = q + j * t[A_OUT_COLUMN]
                write(place, t[A_OUT_KIND], element(place, t[A_OUT_KIND]) + total)

    return SimpleNamespace(move=move, dots=dots, scatter=scatter)


KERNELS = {"float32": _make(SINGLES), "float64": _make(DOUBLES)}


@kernel
def column_sums(t):
    """The sums of the columns, over some rows at a time."""
    quiet()
    first, step = first_and_step(np.int64(1))
    columns, piece = t[C_COLUMNS], t[C_PIECE]
    for number in range(first, -(-t[C_ROWS] // piece) * columns, step):
        row = number // columns
        j = number - row * columns
        row *= piece
        total = 0.0
        for i in range(row, min(t[C_ROWS], row + piece)):
            total += element(t[C_X] + i * t[C_X_ROW] + j * t[C_X_COLUMN], t[C_X_KIND])
        put(t[C_OUT] + number * 8, np.float64(total))


@kernel
def strike(t):
    """Let entries, given by row and column, be minus infinity."""
    quiet()
    first, step = first_and_step(np.int64(1))
    for n in range(first, t[S_COUNT], step):
        row, column = get(t[S_AT] + n * 16, I64), get(t[S_AT] + n * 16 + 8, I64)
        store(t[S_OUT] + row * t[S_OUT_ROW] + column * t[S_OUT_COLUMN], t[S_OUT_KIND], -np.inf)


@kernel
def live(t):
    """1 for each row that counts and whose upstream gradient is not 0, else 0."""
    quiet()
    first, step = first_and_step(np.int64(1))
    for i in range(first, t[L_ROWS], step):
        y = integer(t[L_Y] + i * t[L_Y_ROW], t[L_Y_KIND])
        counts = t[L_HAS_IGNORE] == 0 or y != t[L_IGNORE]
        if counts and t[L_U] != 0:
            counts = element(t[L_U] + i * t[L_U_ROW], t[L_U_KIND]) != 0.0
        if counts and t[L_G] != 0:
            counts = element(t[L_G] + i * t[L_G_ROW], t[L_G_KIND]) != 0.0
        if counts and t[L_W] != 0:
            counts = element(t[L_W] + y * t[L_W_CLASS], t[L_W_KIND]) != 0.0
        put(t[L_OUT] + i * 4, np.float32(1.0 if counts else 0.0))
