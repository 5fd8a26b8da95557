"""Plain rows of few classes in single precision: tiles of 64, one row per lane.

What `_kernels.run_tiles` does for every option, dtype and layout, without them: all classes
of a tile stay in the first-level cache, each exponential is computed once, and losses are
settled in floats, whose errors the budgets allow.
"""

import numpy as np

from ._cache import cached
from ._kernels import (
    BIAS32,
    BLOCK_BYTES,
    F32,
    F64,
    I32,
    I64,
    LINE_BYTES,
    TILE,
    any_lane,
    bind,
    close,
    curve_of_exp,
    entry,
    exponential,
    factors,
    function,
    inline,
    integer,
    lowest,
    nearest,
    pitch,
    reals,
    remainder,
    rows_in,
    rows_out,
    write_reals,
)
from ._table import (
    BY_CLASS,
    CLASSES,
    GRAD,
    HAS_IGNORE,
    IGNORE,
    INDEX,
    INNER,
    INT32,
    INT64,
    KIND,
    LOG_SOFTMAX,
    LOSS,
    OP,
    SINGLE,
    STREAM,
    TABLE_BYTES,
    G,
    U,
    X,
    Y,
    at,
    field,
    has,
    view,
)
from ._vectors import (
    apart,
    bits,
    cast,
    fma,
    inverse,
    lanes_below,
    load,
    load_first,
    narrow,
    prefetch,
    put,
    real,
    scaled,
    scratch,
    splat,
    store,
    store_first,
    total,
    where,
    wide,
)

LINE = 4 * TILE  # bytes of a class
MOST = BLOCK_BYTES // LINE  # classes
ONE, ZERO, NAN, INFINITY = np.float32(1), np.float32(0), np.float32(np.nan), np.float32(np.inf)
BIAS, UNBIAS = np.float32(2.0**BIAS32), np.float32(2.0**-BIAS32)

#: Here an exponential is 0 in single precision, but not yet when multiplied by the bias: what
#: underflows costs as much as hundreds of other operations.  And where that product is.
LEAST, NOTHING = np.float32(-130), np.float32(2.0 ** (BIAS32 - 150))

LN2, LN2_HIGH, LN2_LOW = (np.float32(v) for v in (0.6931471805599453, 0.693359375, -2.12194440e-4))


@inline
def log1p_floats(s, u, inverse_u):
    """log(1 + s) for s >= 0 and u = 1 + s, to about a unit."""
    # Adding the distance from sqrt(1/2) to 1 in the exponent's units picks k: u = 2^k (1 + f).
    b = bits(u) + (0x3F800000 - 0x3F3504F3)
    k = cast((b >> 23) - 127, F32)
    f = real((b & 0x007FFFFF) + 0x3F3504F3) - ONE
    p = fma(f, np.float32(0.0691536806881), np.float32(-0.1178980769569))
    p = fma(p, f, np.float32(0.1187297629345))
    p = fma(p, f, np.float32(-0.1238434847014))
    p = fma(p, f, np.float32(0.1421865809021))
    p = fma(p, f, np.float32(-0.1666925081615))
    p = fma(p, f, np.float32(0.2000222661400))
    p = fma(p, f, np.float32(-0.2499998659983))
    p = fma(p, f, np.float32(0.3333331043986))
    # What rounding 1 + s leaves, and the low part of ln 2.
    low = fma(s - (u - ONE), inverse_u, k * LN2_LOW)
    return fma(k, LN2_HIGH, f + fma(f * f, fma(f, p, np.float32(-0.5)), low))


@function
def load_labels(t, o, i, count):
    apart()
    p, kind, stride = at(t, Y, o, i, 0), view(t, Y, KIND), pitch(t, Y)
    if kind == INT32 and stride == 4:
        return load(p, I32) if count == TILE else load_first(p, count, I32)
    if kind != INT64 or stride != 8:
        line = scratch(LINE)
        for j in range(count):
            put(line + 4 * j, np.int32(integer(p + j * stride, kind)))
        return load(line, I32)
    return narrow(load(p, I64) if count == TILE else load_first(p, count, I64))


@function
def are_ignored(t, o, i, count):
    """The mask of rows whose labels are to be ignored; these may be of any size."""
    apart()
    p, kind, stride = at(t, Y, o, i, 0), view(t, Y, KIND), pitch(t, Y)
    line = scratch(LINE_BYTES)
    for j in range(count):
        put(line + 8 * j, integer(p + j * stride, kind))
    return (load(line, I64) == field(t, IGNORE)) & lanes_below(count)


@function
def load_column(t, array, o, i, count):
    """A number of each row."""
    apart()
    line = scratch(LINE_BYTES)
    p = reals(at(t, array, o, i, 0), view(t, array, KIND), pitch(t, array), count, line, F64)
    return load(p, F64) if count == TILE else load_first(p, count, F64)


@function
def tile(t, o, i, count, scale, buf):
    """Losses and gradients of some rows; the sum of the losses."""
    apart()
    op, classes = field(t, OP), field(t, CLASSES)
    index, emit = op == INDEX, has(t, GRAD)
    y = splat(I32)
    absent = lanes_below(0)
    if index:
        y = load_labels(t, o, i, count)
        if field(t, HAS_IGNORE):
            absent = are_ignored(t, o, i, count)
    u = splat(1.0)
    if has(t, U):
        u = load_column(t, U, o, i, count)
        absent = absent | (u == 0)

    # All classes side by side, the maxima, the labels' logits.
    p, by_class, across = at(t, X, o, i, 0), view(t, X, BY_CLASS), pitch(t, X)
    kind = view(t, X, KIND)
    straight = kind == SINGLE and across == 4
    if count < TILE and not straight:
        for k in range(classes):
            store(buf + k * LINE, splat(ZERO))
    if not straight and abs(by_class) < abs(across):
        rows_in(p, kind, by_class, across, count, classes, buf, F32)
    elif not straight:
        for k in range(classes):
            q = reals(p + k * by_class, kind, across, count, buf + k * LINE, F32)
            store(buf + k * LINE, load(q, F32) if count == TILE else load_first(q, count, ZERO))
    m = splat(-INFINITY)
    picked = splat(ZERO)
    for k in range(classes):
        place = buf + k * LINE
        if straight:
            q = p + k * by_class
            # The processor does not follow as many streams.
            for j in range(4):
                prefetch(q + LINE + 64 * j)
            v = load(q, F32) if count == TILE else load_first(q, count, ZERO)
            store(place, v)
        else:
            v = load(place, F32)
        m = where(v > m, v, m)
        picked = where(y == np.int32(k), v, picked)

    # Sums of exponentials without those of maxima: of powers of two, which is exact, and of
    # what they leave.
    low = m == -INFINITY
    base = where(low, ZERO, m)
    keep = emit and op != LOG_SOFTMAX
    powers = parts = others = splat(ZERO)
    for k in range(classes):
        place = buf + k * LINE
        v = load(place, F32)
        other = v != m
        d = v - base
        if wide(d):
            d = where(d < LEAST, LEAST, d)
            n = nearest(d, F32)
            r = remainder(d, n, False, F32)
            f = fma(curve_of_exp(r, ONE, F32) * r, r, r)
            power = scaled(splat(BIAS), n)
        else:
            power, f = factors(d, True, F32)
            power = where(d < lowest(F32, True), ZERO, power)
            f = where(d < lowest(F32, True), ZERO, f)
        parts = where(other, fma(power, f, parts), parts)
        powers = where(other, powers + power, powers)
        others = where(other, others + ONE, others)
        if keep:
            store(place, fma(power, f, power))
    # All maxima but one.
    ties = np.float32(classes - 1) - others
    rest = fma(powers + parts, UNBIAS, where(low, ZERO, ties))
    whole = rest + ONE
    share = inverse(whole)
    r = log1p_floats(rest, whole, share)
    broken = low | (m == INFINITY)

    d = m - picked
    loss = m + r
    if index:
        loss = where(broken, NAN, d + r)
        if has(t, U):
            loss = cast(cast(loss, F64) * u, F32)
        loss = where(absent, ZERO, loss)
    if has(t, LOSS):
        line = scratch(LINE)
        store(line, loss)
        q = at(t, LOSS, o, i, 0)
        write_reals(q, view(t, LOSS, KIND), pitch(t, LOSS), count, line, False, F32)
    result = total(where(lanes_below(count), loss, ZERO))
    if not emit:
        return result

    a, label = share, splat(ZERO)
    shift = where(broken, NAN, r)
    dead = absent
    if index:
        g = splat(cast(scale, F32))
        none = g == 0
        if has(t, U) or has(t, G):
            by = splat(scale)
            if has(t, G):
                by = load_column(t, G, o, i, count) * by
            none = by == 0
            g = cast(by * u, F32)
        dead = dead | none
        a = share * g
        most = where(d == 0, rest, whole - exponential(-d, False, F32))
        label = where(broken, NAN, (most * share) * -g)
    a = where(broken, NAN, a)
    some = any_lane(dead & lanes_below(count))
    p, by_class, across = at(t, GRAD, o, i, 0), view(t, GRAD, BY_CLASS), pitch(t, GRAD)
    kind = view(t, GRAD, KIND)
    past = field(t, STREAM) != 0
    straight = kind == SINGLE and across == 4 and not past
    for k in range(classes):
        v = load(buf + k * LINE, F32)
        if op == LOG_SOFTMAX:
            v = (v - base) - shift
        else:
            v = where(v < NOTHING, ZERO, v * UNBIAS) * a
            v = where(y == np.int32(k), label, v) if index else v
            if some:
                v = where(dead, ZERO, v)
        q = p + k * by_class
        if not straight:
            store(buf + k * LINE, v)
        elif count == TILE:
            store(q, v)
        else:
            store_first(q, count, v)
    if not straight and abs(by_class) < abs(across):
        rows_out(p, kind, by_class, across, count, classes, buf, past, F32)
    elif not straight:
        for k in range(classes):
            write_reals(p + k * by_class, kind, across, count, buf + k * LINE, past, F32)
    return result


@cached
@entry
def run_few(task, e, z, scale, first, stop, block, room, offset, size, like):
    """Rows of at most MOST classes: logits, labels, weights of rows."""
    t, buf = scratch(TABLE_BYTES), scratch(BLOCK_BYTES)
    bind(t, task, e, z, scale)
    inner = field(t, INNER)
    result = 0.0
    row = first
    while row < stop:
        o, i = row // inner, row % inner
        count = min(TILE, stop - row)
        if inner > 1:
            count = min(count, inner - i)
        result += tile(t, o, i, count, scale, buf)
        row += count
    close(t, task, block, result)
