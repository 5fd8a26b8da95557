"""Plain rows of few classes: tiles of 64, one row per lane.

What `_kernels.run_tiles` does for every option, dtype and layout, without them: all classes
of a tile stay in the first-level cache, each exponential is computed once, and losses are
settled in the logits' precision, whose errors the budgets allow.
"""

import numpy as np

from ._cache import cached
from ._kernels import (
    BIAS32,
    BIAS64,
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
    log1p64,
    lowest,
    nearest,
    pitch,
    reals,
    remainder,
    rows_in,
    rows_out,
    unbias,
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
    STREAM,
    TABLE_BYTES,
    G,
    U,
    X,
    Y,
    at,
    field,
    has,
    infinity,
    native,
    view,
    width,
    zero_of,
)
from ._vectors import (
    apart,
    bits,
    cast,
    fma,
    inverse,
    is_single,
    lanes_below,
    load,
    load_first,
    narrow,
    pick,
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

#: Most classes, by the bytes of a logit: all of a tile's stay in the first-level cache.
MOST = {size: BLOCK_BYTES // (size * TILE) for size in (4, 8)}
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ONE = np.float32(1)


@inline
def least(like):
    """From here on an exponential is 0, but not yet when it is multiplied by the bias.

    What underflows costs as much as hundreds of other operations.
    """
    return pick(like, -130.0, -880.0)


@inline
def nothing(like):
    """A multiplied exponential below this is 0."""
    return pick(like, 2.0 ** (BIAS32 - 150), 2.0 ** (BIAS64 - 1075))


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
        line = scratch(LINE_BYTES)
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
def tile(t, o, i, count, scale, buf, like):
    """Losses and gradients of some rows; the sum of the losses."""
    apart()
    zero, one, nan = zero_of(like), pick(like, 1.0, 1.0), pick(like, np.nan, np.nan)
    size = width(like)
    line = TILE * size
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
    straight = kind == native(like) and across == size
    if count < TILE and not straight:
        for k in range(classes):
            store(buf + k * line, splat(zero))
    if not straight and abs(by_class) < abs(across):
        rows_in(p, kind, by_class, across, count, classes, buf, like)
    elif not straight:
        for k in range(classes):
            q = reals(p + k * by_class, kind, across, count, buf + k * line, like)
            store(buf + k * line, load(q, like) if count == TILE else load_first(q, count, zero))
    m = splat(-infinity(like))
    picked = splat(zero)
    for k in range(classes):
        place = buf + k * line
        if straight:
            q = p + k * by_class
            # The processor does not follow as many streams.
            for j in range(size):
                prefetch(q + line + 64 * j)
            v = load(q, like) if count == TILE else load_first(q, count, zero)
            store(place, v)
        else:
            v = load(place, like)
        m = where(v > m, v, m)
        picked = where(y == np.int32(k), v, picked)

    # Sums of exponentials without those of maxima: of powers of two, which is exact, and of
    # what they leave.
    low = m == -infinity(like)
    base = where(low, zero, m)
    keep = emit and op != LOG_SOFTMAX
    powers = parts = others = splat(zero)
    for k in range(classes):
        place = buf + k * line
        v = load(place, like)
        other = v != m
        d = v - base
        if wide(d):
            d = where(d < least(like), least(like), d)
            n = nearest(d, like)
            r = remainder(d, n, False, like)
            f = fma(curve_of_exp(r, one, like) * r, r, r)
            power = scaled(splat(pick(like, 2.0**BIAS32, 2.0**BIAS64)), n)
        else:
            power, f = factors(d, True, like)
            power = where(d < lowest(like, True), zero, power)
            f = where(d < lowest(like, True), zero, f)
        parts = where(other, fma(power, f, parts), parts)
        powers = where(other, powers + power, powers)
        others = where(other, others + one, others)
        if keep:
            store(place, fma(power, f, power))
    # All maxima but one.
    ties = cast(np.float64(classes - 1), like) - others
    rest = fma(powers + parts, cast(unbias(like), like), where(low, zero, ties))
    whole = rest + one
    share = inverse(whole)
    if is_single(like):
        r = cast(log1p_floats(cast(rest, F32), cast(whole, F32), cast(share, F32)), like)
    else:
        r = cast(log1p64(cast(rest, F64)), like)
    broken = low | (m == infinity(like))

    d = m - picked
    loss = m + r
    if index:
        loss = where(broken, nan, d + r)
        if has(t, U):
            loss = cast(cast(loss, F64) * u, like)
        loss = where(absent, zero, loss)
    if has(t, LOSS):
        losses = scratch(LINE_BYTES)
        store(losses, loss)
        q = at(t, LOSS, o, i, 0)
        write_reals(q, view(t, LOSS, KIND), pitch(t, LOSS), count, losses, False, like)
    result = total(where(lanes_below(count), loss, zero))
    if not emit:
        return result

    a, label = share, splat(zero)
    shift = where(broken, nan, r)
    dead = absent
    if index:
        g = splat(cast(scale, like))
        none = g == 0
        if has(t, U) or has(t, G):
            by = splat(scale)
            if has(t, G):
                by = load_column(t, G, o, i, count) * by
            none = by == 0
            g = cast(by * u, like)
        dead = dead | none
        a = share * g
        most = where(d == 0, rest, whole - exponential(-d, False, like))
        label = where(broken, nan, (most * share) * -g)
    a = where(broken, nan, a)
    some = any_lane(dead & lanes_below(count))
    p, by_class, across = at(t, GRAD, o, i, 0), view(t, GRAD, BY_CLASS), pitch(t, GRAD)
    kind = view(t, GRAD, KIND)
    past = field(t, STREAM) != 0
    straight = kind == native(like) and across == size and not past
    for k in range(classes):
        v = load(buf + k * line, like)
        if op == LOG_SOFTMAX:
            v = (v - base) - shift
        else:
            v = where(v < nothing(like), zero, v * cast(unbias(like), like)) * a
            v = where(y == np.int32(k), label, v) if index else v
            if some:
                v = where(dead, zero, v)
        q = p + k * by_class
        if not straight:
            store(buf + k * line, v)
        elif count == TILE:
            store(q, v)
        else:
            store_first(q, count, v)
    if not straight and abs(by_class) < abs(across):
        rows_out(p, kind, by_class, across, count, classes, buf, past, like)
    elif not straight:
        for k in range(classes):
            write_reals(p + k * by_class, kind, across, count, buf + k * line, past, like)
    return result


@cached
@entry
def run_few(task, e, z, scale, first, stop, block, room, offset, size, like):
    """Rows of few classes: logits, labels, weights of rows."""
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
        result += tile(t, o, i, count, scale, buf, like)
        row += count
    close(t, task, block, result)
