"""The kernels, compiled by Numba for the processor they run on.

The mathematics is that of the compiled backend, step by step: see ``_cython/_isa.pyx`` for
the derivations, and ``docs/decisions`` for what was measured.  A row's work has three
parts: *scan* leaves its statistics, *finish* turns them into the loss and the numbers of
the gradient, *emit* writes the gradient.  Rows with contiguous classes are walked one by
one, lanes across the classes; others, and those of few classes, 64 at a time, one row per
lane.

Everything is an address (see ``_vectors``): `t` is a table of what the call is about, `s`
the state of up to 64 rows, a column of 64 doubles for each number.  `like` is a number of
the precision to compute in; each function is compiled once for each.
"""

import numpy as np
from numba import njit, prange

from .._spec import ALL, FINISH, SCAN
from ._cache import cached
from ._table import (
    ABSENT,
    BEGIN,
    BFLOAT,
    BOOL,
    BY_CLASS,
    BY_INNER,
    BY_OUTER,
    CLASSES,
    COLUMN_COUNT,
    COUNTER,
    DATA,
    DENSE,
    DOUBLE,
    END,
    ENTRY,
    FACTOR,
    GAP,
    GRAD,
    HALF,
    HAS_IGNORE,
    IGNORE,
    IN_PLACE,
    INDEX,
    INNER,
    INT8,
    INT16,
    INT32,
    INT64,
    KIND,
    KINDS,
    LABEL,
    LOG_SOFTMAX,
    LOGSUMEXP,
    LONG,
    LOSS,
    MASK,
    MASKED,
    NONZERO,
    OBJECTS,
    OP,
    OUTER,
    PHASE,
    REST,
    SCALE,
    SHARE,
    SHARE_ERROR,
    SHIFT,
    SIGMOID,
    SINGLE,
    SOFTMAX,
    STATE_BYTES,
    STATS,
    STREAM,
    SWAPPED,
    TABLE_BYTES,
    TAIL,
    TOP,
    TOTAL,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VIEWS,
    WEIGHT,
    WEIGHT_U,
    ZERO,
    A,
    E,
    G,
    M,
    R,
    U,
    W,
    X,
    Y,
    Z,
    at,
    column,
    field,
    has,
    infinity,
    native,
    number,
    set_column,
    set_state,
    state,
    view,
    width,
    zero_of,
)  # fmt: skip
from ._vectors import (
    LANES,
    apart,
    bits,
    broaden,
    call,
    cast,
    copy,
    exact_fma,
    fetch_add,
    first_lane,
    fma,
    get,
    has_fma,
    is_single,
    lane_is,
    lanes_below,
    lanes_to_rows,
    largest,
    load,
    load_first,
    narrow_bfloat,
    narrow_half,
    pick,
    prefetch,
    prefetch_to_write,
    put,
    real,
    rows_to_lanes,
    scaled,
    scratch,
    splat,
    store,
    store_first,
    stream,
    stream_fence,
    total,
    total_exactly,
    where,
    wide,
    widen_bfloat,
    widen_half,
)

# No fast-math flag anywhere: NaN and infinities mean something.  Division by zero gives them.
# Only what Python calls needs wrappers.
entry = njit(error_model="numpy", nogil=True)
_bare = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
function = njit(**_bare, forceinline=False)
inline = njit(**_bare, forceinline=True)
sweeping = njit(error_model="numpy", nogil=True, parallel=True)

U8, U16 = np.uint8(0), np.uint16(0)
I8, I16, I32, I64 = np.int8(0), np.int16(0), np.int32(0), np.int64(0)
U32, U64 = np.uint32(0), np.uint64(0)
F32, F64 = np.float32(0), np.float64(0)

BLOCK = 2048  # elements per block: 8 or 16 KB, stays in L1
BLOCK_BYTES = 8 * BLOCK
AHEAD = 10240  # elements from a block's end to what is fetched meanwhile
LABELS_AHEAD = 16384  # bytes from a label to what is fetched meanwhile
BATCH = 16  # rows with contiguous classes finished together,
NEAR = 2048  # but so few that labels, a gradient and its exponentials stay in L1
BASES = 96  # blocks in a batch, at most
BASES_BYTES = 16 * BASES  # for two rows
TILE = 64  # rows per tile
LINE_BYTES = 8 * TILE
LINES_BYTES = BLOCK_BYTES + LINE_BYTES  # a tile row by row; conversions write whole groups
DEPTH = 32  # classes per tile block: TILE * DEPTH == BLOCK

#: Bytes before the fields of an array object: address, dimensions, shape, strides.
HEAD = object.__basicsize__


@function
def bind_view(t, array, place, kind, classed):
    p = t + 8 * (VIEWS + 5 * array)
    for k in range(5):
        put(p + 8 * k, I64)
    if place == 0:
        return
    put(p, get(place + HEAD, I64))
    dimensions = get(place + HEAD + 8, I32)
    strides = get(place + HEAD + 24, I64)
    put(p + 8 * BY_OUTER, get(strides, I64))
    if classed:
        put(p + 8 * BY_CLASS, get(strides + 8, I64))
    if dimensions > 1 + classed:
        put(p + 8 * BY_INNER, get(strides + 8 * (1 + classed), I64))
    put(p + 8 * KIND, kind)


@function
def bind(t, task, e, z, scale):
    """Fill the table of a call from what Python packed."""
    apart()
    for k in range(7):
        put(t + 8 * k, field(task, k))
    op = field(t, OP)
    rows = op < SIGMOID
    for array in range(10):
        classed = rows and (array in (X, MASK, GRAD) or (array == Y and op == DENSE))
        kind = field(task, KINDS + array)
        bind_view(t, array, field(task, OBJECTS + array), kind, np.int64(classed))
    p = t + 8 * (VIEWS + 5 * W)
    put(p + 8 * BY_CLASS, get(p + 8 * BY_OUTER, I64))
    place = field(task, OBJECTS + X)
    dimensions = get(place + HEAD + 8, I32)
    shape = get(place + HEAD + 16, I64)
    put(t + 8 * OUTER, get(shape, I64))
    put(t + 8 * CLASSES, get(shape + 8, I64))
    inner = get(shape + 16, I64) if dimensions == 3 else 1
    put(t + 8 * INNER, inner if rows else get(shape + 8, I64))
    in_place = view(t, GRAD, DATA) == view(t, X, DATA)
    put(t + 8 * IN_PLACE, np.int64(in_place))
    put(t + 8 * E, e)
    put(t + 8 * Z, z)
    put(t + 8 * SCALE, scale)


# ---------------------------------------------------------------- elements


@function
def straight(p, kind, buf):
    """The address of an element in native byte order."""
    if kind < SWAPPED:
        return p
    kind -= SWAPPED
    size = 1 if kind < INT16 else 2 if kind < INT32 else 4 if kind < INT64 else 8
    if kind == LONG:
        size = 16
    for k in range(size):
        put(buf + k, get(p + size - 1 - k, U8))
    return buf


@function
def extended(p):
    """A double of an 80-bit float: 64 bits of mantissa, then exponent and sign."""
    exponent = np.int64(get(p + 8, U16))
    mantissa = get(p, U64)
    sign = -1.0 if exponent & 0x8000 else 1.0
    exponent &= 0x7FFF
    if exponent == 0x7FFF:
        return sign * np.inf if mantissa << np.uint64(1) == U64 else np.nan
    v = sign * np.float64(mantissa)
    exponent -= 16383 + 63
    while exponent > 0 and not np.isinf(v):
        step = min(exponent, 1000)
        v *= real((step + 1023) << 52)
        exponent -= step
    while exponent < 0 and v != 0:
        step = min(-exponent, 1000)
        v *= real((1023 - step) << 52)
        exponent += step
    return v


@function
def element(p, kind):
    """The element at an address, whatever its kind, as a double."""
    apart()
    if kind == SINGLE:
        return np.float64(get(p, F32))
    if kind == DOUBLE:
        return get(p, F64)
    p = straight(p, kind, scratch(16))
    kind &= SWAPPED - 1
    if kind == HALF:
        return np.float64(widen_half(get(p, U16)))
    if kind == BFLOAT:
        return np.float64(widen_bfloat(get(p, U16)))
    if kind == SINGLE:
        return np.float64(get(p, F32))
    if kind == DOUBLE:
        return get(p, F64)
    if kind == LONG:
        return extended(p)
    if kind == UINT64:
        return np.float64(get(p, U64))
    if kind == BOOL:
        return 1.0 if get(p, U8) != 0 else 0.0
    return np.float64(integer(p, kind))


@function
def integer(p, kind):
    """A label in its own dtype.  uint64 beyond 2^63 comes out negative: out of any range."""
    apart()
    if kind == INT64:
        return get(p, I64)
    p = straight(p, kind, scratch(16))
    kind &= SWAPPED - 1
    if kind == INT8:
        return np.int64(get(p, I8))
    if kind == UINT8:
        return np.int64(get(p, U8))
    if kind == INT16:
        return np.int64(get(p, I16))
    if kind == UINT16:
        return np.int64(get(p, U16))
    if kind == INT32:
        return np.int64(get(p, I32))
    if kind == UINT32:
        return np.int64(get(p, U32))
    return get(p, I64)


@function
def put_element(p, kind, v):
    """Write an element of a floating kind."""
    apart()
    buf = scratch(16)
    q = p if kind < SWAPPED else buf
    plain = kind & (SWAPPED - 1)
    if plain == SINGLE:
        put(q, np.float32(v))
    elif plain == DOUBLE:
        put(q, v)
    elif plain == HALF:
        put(q, narrow_half(np.float32(v)))
    else:
        put(q, narrow_bfloat(np.float32(v)))
    if kind >= SWAPPED:
        size = 8 if plain == DOUBLE else 4 if plain == SINGLE else 2
        for k in range(size):
            put(p + k, get(buf + size - 1 - k, U8))


@inline
def element_at(t, array, o, i, c):
    return element(at(t, array, o, i, c), view(t, array, KIND))


@inline
def label_at(t, o, i):
    return integer(at(t, Y, o, i, 0), view(t, Y, KIND))


@function
def reals(p, kind, stride, n, buf, like):
    """The address of n elements as contiguous reals: in place if they are, else in buf."""
    apart()
    size = width(like)
    if kind == native(like):
        if stride == size:
            return p
        for k in range(n):
            put(buf + k * size, get(p + k * stride, like))
        return buf
    if is_single(like) and stride == 2 and kind in (HALF, BFLOAT):
        for k in range(0, n, LANES):
            if n - k >= LANES:
                h = load(p + 2 * k, U16)
            else:
                h = load_first(p + 2 * k, n - k, U16)
            store(buf + 4 * k, widen_half(h) if kind == HALF else widen_bfloat(h))
        return buf
    for k in range(n):
        put(buf + k * size, cast(element(p + k * stride, kind), like))
    return buf


@function
def stream_copy(to, source, size):
    """Copy past the cache: whole lines, the ragged ends with ordinary stores."""
    apart()
    head = min(-to & 63, size)
    copy(to, source, head)
    whole = (size - head) >> 6
    to += head
    source += head
    for k in range(whole):
        stream(to + 64 * k, source + 64 * k)
    copy(to + 64 * whole, source + 64 * whole, (size - head) & 63)


@function
def write_reals(p, kind, stride, n, d, past, like):
    """Write n contiguous reals from d as elements of any floating kind."""
    apart()
    size = width(like)
    if kind == native(like):
        if stride != size:
            for k in range(n):
                put(p + k * stride, get(d + k * size, like))
        elif past:
            stream_copy(p, d, n * size)
        else:
            copy(p, d, n * size)
        return
    if is_single(like) and stride == 2 and kind in (HALF, BFLOAT):
        for k in range(0, n, LANES):
            if n - k >= LANES:
                v = load(d + 4 * k, F32)
            else:
                v = load_first(d + 4 * k, n - k, F32)
            h = narrow_half(v) if kind == HALF else narrow_bfloat(v)
            if n - k >= LANES:
                store(p + 2 * k, h)
            else:
                store_first(p + 2 * k, n - k, h)
        return
    for k in range(n):
        put_element(p + k * stride, kind, np.float64(get(d + k * size, like)))


@function
def allowed_bytes(t, o, i, c, n, buf):
    """The address of n contiguous bytes of the mask; 0 without a mask."""
    apart()
    if not has(t, MASK):
        return np.int64(0)
    p = at(t, MASK, o, i, c)
    stride = view(t, MASK, BY_CLASS)
    if stride == 1:
        return p
    for k in range(n):
        put(buf + k, get(p + k * stride, U8))
    return buf


# ---------------------------------------------------------------- groups of 64


@inline
def group(p, k, n, other):
    """Elements k to k + 64 of n; those from n on are ``other``."""
    size = width(other)
    if n - k >= LANES:
        return load(p + k * size, other)
    return load_first(p + k * size, n - k, other)


@inline
def group_allowed(p, k, n):
    if n - k >= LANES:
        return load(p + k, U8) != 0
    return load_first(p + k, n - k, U8) != 0


@inline
def put_group(p, k, n, v, like):
    size = width(like)
    if n - k >= LANES:
        store(p + k * size, v)
    else:
        store_first(p + k * size, n - k, v)


# ---------------------------------------------------------------- exp and log1p

# The sum of exponentials is kept times 2^BIAS so that terms which would be subnormal
# keep their digits: a confident row's loss is as small as exp(-103) in float32.
BIAS32, BIAS64 = 64, 256


@inline
def unbias(like):
    return 2.0**-BIAS32 if is_single(like) else 2.0**-BIAS64


@inline
def tiny(like):
    """Below this a factor should not be multiplied by unbias."""
    return 1e-15 if is_single(like) else 1e-220


@inline
def lowest(like, term):
    """Below this exp gives exactly 0."""
    return pick(like, -130.0, -880.0) if term else pick(like, -87.3, -708.0)


@inline
def scale_of(b, like):
    """The power of two whose exponent is in the low bits of b."""
    return real(bits(b) << (23 if is_single(like) else 52))


@inline
def curve_of_exp(r, one, like):
    """(exp(r) - 1 - r) / r^2 times one, for |r| <= ln(2)/2."""
    if is_single(like):
        q = fma(r, pick(like, 0.00138144663088, 0.0) * one, pick(like, 0.00836878030255, 0.0) * one)
        q = fma(q, r, pick(like, 0.0416683942321, 0.0) * one)
        q = fma(q, r, pick(like, 0.166665201088, 0.0) * one)
        return fma(q, r, pick(like, 0.499999934123, 0.0) * one)
    q = fma(
        r,
        pick(like, 0.0, 2.499997286429089851e-8) * one,
        pick(like, 0.0, 2.763037827860424467e-7) * one,
    )
    q = fma(q, r, pick(like, 0.0, 2.755758731800244181e-6) * one)
    q = fma(q, r, pick(like, 0.0, 0.00002480149276373791425) * one)
    q = fma(q, r, pick(like, 0.0, 0.0001984126949479256364) * one)
    q = fma(q, r, pick(like, 0.0, 0.001388888894392176027) * one)
    q = fma(q, r, pick(like, 0.0, 0.008333333333495611326) * one)
    q = fma(q, r, pick(like, 0.0, 0.0416666666665291917) * one)
    q = fma(q, r, pick(like, 0.0, 0.1666666666666641025) * one)
    return fma(q, r, pick(like, 0.0, 0.5000000000000010721) * one)


@inline
def tail_of_exp(r, like):
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return fma(curve_of_exp(r, pick(like, 1.0, 1.0), like) * r, r, r)


@inline
def remainder(x, n, far, like):
    """x - n ln 2; with far its error does not grow with n."""
    if not is_single(like):
        r = fma(n, pick(like, 0.0, -0.693147180369123816490), x)
        return fma(n, pick(like, 0.0, -1.90821492927058770002e-10), r)
    if not has_fma():
        r = x - n * pick(like, 0.693145751953125, 0.0)
        return r - n * pick(like, 1.428606765330187045e-06, 0.0)
    # One step: n times the error of float32's ln 2 is 0.02 units per unit of x.
    r = fma(n, pick(like, -0.69314718055994530942, 0.0), x)
    return fma(n, pick(like, 1.904654323148236e-09, 0.0), r) if far else r


@inline
def factors(x, term, like):
    """exp(x) = s (1 + t) for lowest <= x <= 0, s a power of two; with term times 2^BIAS."""
    if is_single(like):
        magic = pick(like, 12582912.0 + 127 + (BIAS32 if term else 0), 0.0)
    else:
        magic = pick(like, 0.0, 6755399441055744.0 + 1023 + (BIAS64 if term else 0))
    b = fma(x, pick(like, 1.44269504088896340736, 1.44269504088896340736), magic)
    t = tail_of_exp(remainder(x, b - magic, False, like), like)
    return scale_of(b, like), t


@inline
def nearest(x, like):
    """The whole number next to x / ln 2."""
    magic = pick(like, 12582912.0, 6755399441055744.0)
    return fma(x, pick(like, 1.44269504088896340736, 1.44269504088896340736), magic) - magic


@inline
def clamped(x, term, like):
    """Where an exponential is 0, far from where it would be subnormal; NaN passes.

    A result that underflows costs as much as hundreds of others.
    """
    low = pick(like, -130.0, -880.0) if term else pick(like, -104.0, -746.0)
    return where(x < low, pick(like, -1000.0, -8000.0), x)


@inline
def exponential(x, term, like):
    """exp(x) for x <= 0, with term times 2^BIAS.  NaN stays NaN, -inf gives 0."""
    if wide(x):
        d = clamped(x, term, like)
        n = nearest(d, like)
        one = pick(like, 1.0, 1.0)
        if term:
            one = pick(like, 2.0**BIAS32, 2.0**BIAS64)
        r = remainder(d, n, False, like)
        return scaled(fma(fma(curve_of_exp(r, one, like), r, one), r, one), n)
    s, t = factors(x, term, like)
    return where(x < lowest(like, term), zero_of(like), fma(s, t, s))


@function
def exp64(x):
    apart()
    return exponential(x, False, F64)


@inline
def log1p64(s):
    """log(1 + s) for s >= 0; what rounding 1 + s leaves is given back."""
    u = s + 1.0
    return log_sum(u, s - (u - 1.0))


@inline
def log_sum(u, c):
    """log(u + c) for normal u > 0 and a c that is rounding of it; branch-free, about 1 ulp."""
    # Adding the distance from sqrt(1/2) to 1 in the exponent's units picks k.
    b = bits(u) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    k = real((b >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1023.0)
    f = real((b & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD) - 1.0
    z = f / (f + 2.0)
    w = z * z
    h = f * 0.5 * f
    p = fma(w, 2.0 / 21.0, 2.0 / 19.0)
    p = fma(p, w, 2.0 / 17.0)
    p = fma(p, w, 2.0 / 15.0)
    p = fma(p, w, 2.0 / 13.0)
    p = fma(p, w, 2.0 / 11.0)
    p = fma(p, w, 2.0 / 9.0)
    p = fma(p, w, 2.0 / 7.0)
    p = fma(p, w, 2.0 / 5.0)
    p = fma(p, w, 2.0 / 3.0)
    p = p * w
    return k * 0.693147180369123816490 + (
        f - (h - (z * (h + p) + (k * 1.90821492927058770002e-10 + c / u)))
    )


@inline
def product(a, b):
    """a b, and what that rounds off."""
    p = a * b
    return p, exact_fma(a, b, -p)


@inline
def sum_of(a, b):
    """a + b, and what that rounds off."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


# ---------------------------------------------------------------- blocks of a row


@inline
def block_max(x, begin, n, lanes, like):
    """Largest of the lanes and of the elements from begin on; NaN never wins."""
    for k in range(begin, n, LANES):
        v = group(x, k, n, -infinity(like))
        lanes = where(v > lanes, v, lanes)
    return largest(lanes)


@inline
def add_exp(lanes, x, n, m, ahead, kept, to, following, later, like):
    """Sum exp(x - m) of whole groups; and the maxima of as many of the block that follows.

    A pass of its own for these would wait for the second-level cache, which is slower than
    the arithmetic of this one is long.
    """
    size = width(like)
    groups = n >> 6
    both = min(groups, later >> 6)
    tops = splat(-infinity(like))
    for g in range(both):
        k = g << 6
        for j in range(size):
            prefetch(ahead + k * size + 64 * j)
        v = exponential(load(x + k * size, like) - m, True, like)
        if kept != 0:
            store(kept + k * size, v)
            for j in range(size):
                prefetch_to_write(to + k * size + 64 * j)
        lanes = lanes + v
        v = load(following + k * size, like)
        tops = where(v > tops, v, tops)
    for g in range(both, groups):
        k = g << 6
        if ahead != 0:
            for j in range(size):
                prefetch(ahead + k * size + 64 * j)
        v = exponential(load(x + k * size, like) - m, True, like)
        if kept != 0:
            store(kept + k * size, v)
        lanes = lanes + v
    return lanes, tops


@function
def block_sum(x, n, m, leave_out, ahead, kept, to, following, later, like):
    """Sum of exp(x - m) 2^BIAS over a block, without one element equal to m if asked to.

    And the largest of the later elements that follow.

    Where the sum is small, only the lane with the maximum has lost digits: that lane is
    summed again without it.  With kept, all the terms are left there, in whole groups.
    """
    apart()
    size = width(like)
    whole, ragged = n >> 6, n & 63
    rest = x + (whole << 6) * size
    lanes, tops = add_exp(splat(zero_of(like)), x, n, m, ahead, kept, to, following, later, like)
    top = -infinity(like)
    if later > 0:
        top = block_max(following, min(whole, later >> 6) << 6, later, tops, like)
    if ragged:
        v = exponential(load_first(rest, ragged, -infinity(like)) - m, True, like)
        if kept != 0:
            store(kept + (whole << 6) * size, v)
        lanes = lanes + v
    one = 1.0 / unbias(like)
    result = total(lanes)
    if not leave_out:
        return result, top
    if result >= 4 * one:
        return result - one, top
    spot = np.int64(0)
    for k in range(0, n, LANES):
        lane = first_lane(group(x, k, n, -infinity(like)) == m)
        if lane < LANES:
            spot = k + lane
            break
    lane = spot & 63
    line = scratch(BLOCK_BYTES)
    store(line, splat(-infinity(like)))
    for g in range(whole):
        put(line + g * size, get(x + ((g << 6) + lane) * size, like))
    if lane < ragged:
        put(line + whole * size, get(rest + lane * size, like))
    put(line + (spot >> 6) * size, -infinity(like))
    lanes = where(lane_is(lane), zero_of(like), lanes)
    return total(lanes + exponential(load(line, like) - m, True, like)), top


@function
def nan_or_zero(x, n, like):
    size = width(like)
    for k in range(n):
        v = get(x + k * size, like)
        if v != v:
            return np.nan
    return 0.0


@function
def block_gap(x, c, n, m, like):
    """sum c and what that rounded off, sum c (m - x), and the number of c != 0.

    The sum of c scales p in the gradient, where a p - c may cancel: for float64 it is
    summed exactly; sums of a few float32 in each of many lanes are exact enough.
    """
    apart()
    size = width(like)
    zero = splat(zero_of(like))
    weight, error, gap, count = zero, zero, zero, zero
    for k in range(0, n, LANES):
        cs = group(c, k, n, zero_of(like))
        xs = group(x, k, n, m)
        for j in range(size):
            prefetch(c + k * size + LABELS_AHEAD + 64 * j)
        some = cs != 0
        gap = fma(cs, where(some, m - xs, zero_of(like)), gap)
        count = where(some, count + pick(like, 1.0, 1.0), count)
        if is_single(like):
            weight = weight + cs
        else:
            weight, off = sum_of(weight, cs)
            error = error + off
    weight_sum, off = total_exactly(weight)
    return weight_sum, off + total(error), total(gap), total(count)


@function
def block_gap_plain(x, n, m, like):
    """Sum of m - x."""
    gap = splat(zero_of(like))
    for k in range(0, n, LANES):
        gap = gap + (m - group(x, k, n, m))
    return total(gap)


@inline
def difference(x, m, a, tail, c, c_tail, g, like):
    """g ((a + tail) exp(x - m) - (c + c_tail)), right to a unit of a exp(x - m)."""
    d = x - m
    s, f = factors(d, False, like)
    f = where(d < lowest(like, False), zero_of(like), f)
    s = where(d < lowest(like, False), zero_of(like), s)
    p = s * a
    return (fma(p, f, s * tail * (f + 1.0) - c_tail) + (p - c)) * g


# ---------------------------------------------------------------- open and finish a row


@function
def count_allowed(t, o, i):
    p = at(t, MASK, o, i, 0)
    stride = view(t, MASK, BY_CLASS)
    n = 0
    for c in range(field(t, CLASSES)):
        n += np.int64(get(p + c * stride, U8) != 0)
    return n


@function
def open_row(t, o, i, s, j):
    """What is known before the logits are read."""
    apart()
    set_state(s, M, j, -np.inf)
    for k in range(REST, R + 1):
        set_state(s, k, j, 0.0)
    u = 1.0
    absent = False
    if has(t, U):
        u = element_at(t, U, o, i, 0)
        absent = u == 0
    if field(t, HAS_IGNORE) and label_at(t, o, i) == field(t, IGNORE):
        absent = True
    set_state(s, WEIGHT_U, j, u)
    set_state(s, ABSENT, j, np.float64(absent))
    if absent:
        return
    allowed = field(t, CLASSES)
    if has(t, MASK):
        allowed = count_allowed(t, o, i)
        set_state(s, MASKED, j, np.float64(allowed == 0))
    e = number(t, E)
    if e != 0 and allowed > 0:
        share = e / allowed
        set_state(s, SHARE, j, share)
        set_state(s, SHARE_ERROR, j, exact_fma(-share, np.float64(allowed), e) / allowed)


@function
def write_stats(t, o, i, s, j):
    p = at(t, STATS, o, i, 0)
    put(p, state(s, M, j))
    put(p + 8, state(s, REST, j))
    put(p + 16, state(s, WEIGHT, j))
    put(p + 24, state(s, GAP, j))
    put(p + 32, state(s, NONZERO, j))


@function
def read_stats(t, o, i, s, j):
    p = at(t, STATS, o, i, 0)
    set_state(s, M, j, get(p, F64))
    set_state(s, REST, j, get(p + 8, F64))
    set_state(s, WEIGHT, j, get(p + 16, F64))
    set_state(s, GAP, j, get(p + 24, F64))
    set_state(s, NONZERO, j, get(p + 32, F64))


@inline
def has_coefficients(t):
    return field(t, OP) == DENSE or (field(t, OP) == INDEX and number(t, E) != 0)


@function
def finish(t, o, i, s, j):
    """Loss of a row (or its normaliser) from its statistics, and the gradient's numbers.

    With d = m - x >= 0 and r = log1p(rest) every term is a coefficient times (d + r):
    nothing cancels.  1 - p of the label is the sum of the others.
    """
    apart()
    op = field(t, OP)
    m, rest, r = state(s, M, j), state(s, REST, j), state(s, R, j)
    weight, gap = state(s, WEIGHT, j), state(s, GAP, j)
    absent, masked = state(s, ABSENT, j) != 0, state(s, MASKED, j) != 0
    lse = m + r
    broken = not masked and np.isinf(m)
    smooth = state(s, NONZERO, j) > 0
    set_state(s, TOP, j, 0.0 if m == -np.inf else m)
    set_state(s, FACTOR, j, 1.0)
    set_state(s, TAIL, j, 0.0)
    set_state(s, LABEL, j, -1.0)
    set_state(s, ENTRY, j, 0.0)
    set_state(s, SHIFT, j, r)
    set_state(s, ZERO, j, 0.0)

    if op == LOGSUMEXP:
        return lse
    if op in (SOFTMAX, LOG_SOFTMAX):
        set_state(s, ZERO, j, np.float64(masked))
        set_state(s, A, j, np.nan if broken else 1.0 / (1.0 + rest))
        if broken:
            set_state(s, SHIFT, j, np.nan)
        return 0.0

    set_state(s, ZERO, j, 1.0)
    set_state(s, A, j, 0.0)
    if absent:
        return 0.0
    e, z = number(t, E), number(t, Z)
    share = state(s, SHARE, j)
    loss, hard, wy, d, error = 0.0, 0.0, 1.0, 0.0, 0.0
    y = np.int64(0)
    allowed = True
    if op == INDEX:
        y = label_at(t, o, i)
        if has(t, W):
            wy = element(view(t, W, DATA) + y * view(t, W, BY_CLASS), view(t, W, KIND))
        hard, error = product(1.0 - e, wy)
        error += ((1.0 - (1.0 - e)) - e) * wy
        if hard == 0 and not smooth and z == 0:
            return 0.0
        if has(t, MASK):
            allowed = get(at(t, MASK, o, i, y), U8) != 0
        d = np.inf
        if allowed:
            d = m - element_at(t, X, o, i, y)
        if hard != 0:
            loss += hard * (d + r)
        if smooth:
            loss += share * (weight * r + gap)
        v, off = product(share, weight)
        error += off
        a, off = sum_of(hard, v)
        error += off + state(s, SHARE_ERROR, j) * weight
    else:
        if not smooth and z == 0:
            return 0.0
        if smooth:
            loss += weight * r + gap
        a = weight
    if z != 0:
        loss += z * lse * lse
    u = state(s, WEIGHT_U, j)
    if masked:
        return u * np.inf
    if broken:
        loss = np.nan

    # The gradient's scale: sample weight, upstream gradient, reduction.
    g = number(t, SCALE)
    if has(t, G):
        g *= element_at(t, G, o, i, 0)
    if g == 0 or not has(t, GRAD):
        return u * loss
    g *= u
    set_state(s, ZERO, j, 0.0)
    if z != 0:
        a, off = sum_of(a, 2.0 * z * lse)
        error += off
    if broken:
        a = np.nan
    p = a / (1.0 + rest)
    set_state(s, FACTOR, j, g)
    set_state(s, A, j, p)
    if has_coefficients(t):
        # What the division leaves, and the rounding of 1 + rest: a p - c may cancel.
        tail = exact_fma(-p, 1.0 + rest, a) + error
        one_plus, off = sum_of(1.0, rest)
        tail -= p * off
        set_state(s, TAIL, j, tail / one_plus)
    if op == INDEX and allowed:
        top = exp64(-d)
        p = top / (1.0 + rest)
        other = rest if d == 0 else 1.0 + rest - top
        # a holds (1-e) w_y too; its share of the entry is -(1-e) w_y (1 - p).
        entry = g * ((a - hard) * p - share * wy - hard * other / (1.0 + rest))
        set_state(s, ENTRY, j, entry)
        set_state(s, LABEL, j, y)
    return u * loss


# ---------------------------------------------------------------- rows with contiguous classes


@function
def load_logits(t, o, i, c, n, buf, like):
    """The address of the logits of n classes; masked ones are -inf."""
    apart()
    x = reals(at(t, X, o, i, c), view(t, X, KIND), view(t, X, BY_CLASS), n, buf, like)
    if not has(t, MASK):
        return x
    p = allowed_bytes(t, o, i, c, n, scratch(BLOCK))
    for k in range(0, n, LANES):
        v = group(x, k, n, zero_of(like))
        store(buf + k * width(like), where(group_allowed(p, k, n), v, -infinity(like)))
    return buf


@inline
def label_share(q, keep, share, like):
    """(1-e) q + share; nothing of q is read if it has no part in it."""
    return where(keep == 0, splat(zero_of(like)), q * keep) + share


@function
def load_coefs(t, s, j, o, i, c, n, buf, extra, like):
    """The address of the coefficients of n classes: w, or w ((1-e) q + e/C) for dense labels.

    0 stands for all ones.
    """
    apart()
    size = width(like)
    w = np.int64(0)
    if has(t, W):
        stride = view(t, W, BY_CLASS)
        w = reals(view(t, W, DATA) + c * stride, view(t, W, KIND), stride, n, extra, like)
    e = number(t, E)
    dense = field(t, OP) == DENSE
    if not dense and not has(t, MASK):
        return w
    p = allowed_bytes(t, o, i, c, n, scratch(BLOCK))
    q = np.int64(0)
    if dense:
        q = reals(at(t, Y, o, i, c), view(t, Y, KIND), view(t, Y, BY_CLASS), n, buf, like)
        if w == 0 and e == 0:
            return q
    keep, share = cast(1.0 - e, like), cast(state(s, SHARE, j), like)
    for k in range(0, n, LANES):
        part = splat(pick(like, 1.0, 1.0))
        if dense:
            part = group(q, k, n, zero_of(like))
            if e != 0:
                shares = splat(share)
                if p != 0:
                    shares = where(group_allowed(p, k, n), shares, zero_of(like))
                part = label_share(part, keep, shares, like)
        elif p != 0:
            part = where(group_allowed(p, k, n), part, zero_of(like))
        if w != 0:
            by = group(w, k, n, zero_of(like))
            part = where((by == 0) | (part == 0), zero_of(like), by * part)
        store(buf + k * size, part)
    return buf


@inline
def exact_coef(share, share_error, keep, keep_error, q, w):
    """Coefficients in the gradient, w ((1-e) q + share), in doubles; and their rounding error.

    For index labels keep is 0.
    """
    v, off = product(q, keep)
    error = where(keep == 0, 0.0, q * keep_error + off) + share_error
    v, off = sum_of(share, where(keep == 0, 0.0, v))
    error = error + off
    none = (w == 0) | (v == 0)
    p, off = product(v, w)
    return where(none, 0.0, p), where(none, 0.0, error * w + off)


@function
def load_exact(t, s, j, o, i, c, n, buf, tail, like):
    """What the gradient subtracts for n classes, and in tail what rounding it to real left.

    The address of the first; and from class to class the step of both in bytes, 0 where one
    group stands for all.
    """
    apart()
    size = width(like)
    dense = field(t, OP) == DENSE
    e = number(t, E)
    q = np.int64(0)
    if dense:
        q = reals(at(t, Y, o, i, c), view(t, Y, KIND), view(t, Y, BY_CLASS), n, buf, like)
        if e == 0 and not has(t, W):
            store(tail, splat(zero_of(like)))
            return q, size, 0
    p = allowed_bytes(t, o, i, c, n, scratch(BLOCK))
    w = np.int64(0)
    if has(t, W):
        stride = view(t, W, BY_CLASS)
        place = view(t, W, DATA) + c * stride
        w = reals(place, view(t, W, KIND), stride, n, scratch(BLOCK_BYTES), F64)
    step = size
    if q == p == w == 0:
        n, step = LANES, 0
    keep = 1.0 - e if dense else 0.0
    keep_error = (1.0 - keep) - e if dense else 0.0
    zeros = splat(0.0)
    for k in range(0, n, LANES):
        share, share_error = splat(state(s, SHARE, j)), splat(state(s, SHARE_ERROR, j))
        if p != 0:
            allowed = group_allowed(p, k, n)
            share, share_error = where(allowed, share, 0.0), where(allowed, share_error, 0.0)
        qs = zeros
        if dense:
            qs = cast(group(q, k, n, zero_of(like)), F64)
        ws = splat(1.0)
        if w != 0:
            ws = group(w, k, n, F64)
        v, error = exact_coef(share, share_error, splat(keep), keep_error, qs, ws)
        rounded = cast(v, like)
        store(buf + k * size, rounded)
        store(tail + k * size, cast((v - cast(rounded, F64)) + error, like))
    return buf, step, step


@function
def emit_less(t, s, j, o, i, k0, n, kept, base, d, like):
    """A block of g ((a + tail) exp(x - m) - (c + c_tail)), with kept from what the scan left."""
    apart()
    size = width(like)
    zero = zero_of(like)
    m, g, a = state(s, TOP, j), cast(state(s, FACTOR, j), like), state(s, A, j)
    tail = state(s, TAIL, j)
    lost = scratch(BLOCK_BYTES)
    c, step, lost_step = load_exact(t, s, j, o, i, k0, n, scratch(BLOCK_BYTES), lost, like)
    if kept == 0:
        x = load_logits(t, o, i, k0, n, scratch(BLOCK_BYTES), like)
        top, factor = cast(m, like), cast(a, like)
        rest = cast(a - np.float64(factor) + tail, like)
        for k in range(0, n, LANES):
            xs, cs = group(x, k, n, zero), group(c + k * step, 0, n - k, zero)
            v = difference(xs, top, factor, rest, cs, load(lost + k * lost_step, like), g, like)
            put_group(d, k, n, v, like)
        return
    scale = (a + tail) * fall(base, m)
    if abs(scale) < 1e-10:  # as in emit_block
        by = splat(cast(unbias(like), like))
        for k in range(0, n, LANES):
            store(kept + k * size, load(kept + k * size, like) * by)
    else:
        scale *= unbias(like)
    factor = cast(scale, like)
    rest = cast(scale - np.float64(factor), like)
    whole = n & -LANES
    for k in range(0, whole, LANES):
        cs, ls = load(c + k * step, like), load(lost + k * lost_step, like)
        store(d + k * size, less(load(kept + k * size, like), factor, rest, cs, ls, g))
    if whole < n:
        cs, ls = group(c + whole * step, 0, n - whole, zero), load(lost + whole * lost_step, like)
        v = less(load(kept + whole * size, like), factor, rest, cs, ls, g)
        store_first(d + whole * size, n - whole, v)


@inline
def less(v, a, tail, c, c_tail, g):
    return (fma(v, a, -c) + fma(v, tail, -c_tail)) * g


@inline
def fall(base, m):
    """What a block's kept terms are multiplied by: exp(base - m), as a rule 1."""
    return 1.0 if base == m else exp64(base - m)


@inline
def plain_gradient(t, like):
    return view(t, GRAD, BY_CLASS) == width(like) and view(t, GRAD, KIND) == native(like)


@function
def emit_block(t, o, i, s, j, kept, bases, b, like):
    """A block of a row's gradient; with kept one multiplication each of what the scan left."""
    apart()
    size = width(like)
    op = field(t, OP)
    nothing = -infinity(like) if op == LOG_SOFTMAX else zero_of(like)
    past = field(t, STREAM) != 0
    stride, kind = view(t, GRAD, BY_CLASS), view(t, GRAD, KIND)
    direct = plain_gradient(t, like) and not past and (kept != 0 or field(t, IN_PLACE) == 0)
    k0 = field(t, BEGIN) + b * BLOCK
    n = min(BLOCK, field(t, END) - k0)
    to = at(t, GRAD, o, i, k0)
    d = to if direct else kept + b * BLOCK * size if kept != 0 else scratch(BLOCK_BYTES)
    m, g, a = state(s, TOP, j), state(s, FACTOR, j), state(s, A, j)
    if state(s, ZERO, j) != 0:
        for k in range(0, n, LANES):
            put_group(d, k, n, splat(nothing), like)
    elif has_coefficients(t):
        base = get(bases + 8 * b, F64) if kept != 0 else m
        place = kept + b * BLOCK * size if kept != 0 else 0
        emit_less(t, s, j, o, i, k0, n, place, base, d, like)
    elif kept != 0:
        scale = g * a * fall(get(bases + 8 * b, F64), m)
        # The terms' bias goes into the factor, unless a small weight would underflow with it.
        first = 1.0
        if abs(scale) < tiny(like):
            first = unbias(like)
        factor = cast(scale * (unbias(like) if first == 1.0 else 1.0), like)
        narrow = cast(first, like)
        x = kept + b * BLOCK * size
        for k in range(0, n, LANES):
            put_group(d, k, n, (load(x + k * size, like) * narrow) * factor, like)
    else:
        buf = scratch(BLOCK_BYTES)
        x = load_logits(t, o, i, k0, n, buf, like)
        top = cast(m, like)
        if op == LOG_SOFTMAX:
            shift = cast(state(s, SHIFT, j), like)
            for k in range(0, n, LANES):
                put_group(d, k, n, (group(x, k, n, zero_of(like)) - top) - shift, like)
        else:
            factor = cast(g * a, like)
            for k in range(0, n, LANES):
                v = exponential(group(x, k, n, zero_of(like)) - top, False, like) * factor
                put_group(d, k, n, v, like)
    label = np.int64(state(s, LABEL, j))
    if k0 <= label < k0 + n:
        put(d + (label - k0) * size, cast(state(s, ENTRY, j), like))
    if has(t, MASK):
        p = allowed_bytes(t, o, i, k0, n, scratch(BLOCK))
        for k in range(0, n, LANES):
            v = group(d, k, n, zero_of(like))
            put_group(d, k, n, where(group_allowed(p, k, n), v, nothing), like)
    if not direct:
        write_reals(to, kind, stride, n, d, past, like)


@function
def emit_row(t, o, i, s, j, kept, bases, like):
    for b in range((field(t, END) - field(t, BEGIN) + BLOCK - 1) // BLOCK):
        emit_block(t, o, i, s, j, kept, bases, b, like)


@inline
def halves_ahead(t, o, i, k, n):
    """What to fetch while a block that was converted is summed: for halves, each line twice."""
    kind, stride = view(t, X, KIND), view(t, X, BY_CLASS)
    if stride == 2 and kind in (HALF, BFLOAT):
        return at(t, X, o, i, k + n) + 4 * AHEAD
    return np.int64(0)


@inline
def outer_and_inner(t, row):
    """Where a row lies."""
    inner = field(t, INNER)
    return (row, np.int64(0)) if inner == 1 else (row // inner, row % inner)


@function
def scan_row(t, o, i, s, j, kept, bases, late, late_o, late_i, late_bases, known, row, like):
    """The row's statistics; with kept, exp(x - base) of each block too, and the bases.

    What is known is where the block after the last one lies, and its maximum; after this
    row comes that of number `row`, if not negative.

    A gradient that is late, that of row `late` of the state, is written block by block as
    its place in kept is needed.
    """
    apart()
    size = width(like)
    buf = scratch(BLOCK_BYTES)
    begin, end = field(t, BEGIN), field(t, END)
    coefficients = has_coefficients(t)
    # A gradient that is written soon: its stores would wait for the cache, and all after them.
    soon = kept != 0 and field(t, STREAM) == 0 and plain_gradient(t, like)
    m = -infinity(like)
    rest, weight, error, gap, nonzero = 0.0, 0.0, 0.0, 0.0, 0.0
    for b in range((end - begin + BLOCK - 1) // BLOCK):
        k = begin + b * BLOCK
        n = min(BLOCK, end - k)
        x = load_logits(t, o, i, k, n, buf, like)
        # Past the row's end comes, as a rule, the next row.
        ahead = x + (n + AHEAD) * size if x != buf else halves_ahead(t, o, i, k, n)
        if x == get(known, I64):
            top = cast(get(known + 8, F64), like)
        else:
            top = block_max(x, 0, n, splat(-infinity(like)), like)
        following = later = np.int64(0)
        if x != buf:
            if k + n < end:
                following, later = x + n * size, min(BLOCK, end - k - n)
            elif row >= 0:
                next_o, next_i = outer_and_inner(t, row)
                following, later = at(t, X, next_o, next_i, begin), min(BLOCK, end - begin)
        grown = top > m
        if grown:
            if m != -infinity(like):
                rest = (rest + 1.0) * exp64(np.float64(m) - np.float64(top))
                gap += weight * (np.float64(top) - np.float64(m))
            m = top
        base = zero_of(like) if m == -infinity(like) else m
        if late >= 0:
            emit_block(t, late_o, late_i, s, late, kept, late_bases, b, like)
        if m == infinity(like):
            rest += nan_or_zero(x, n, like)
        else:
            place = kept + b * BLOCK * size if kept != 0 else 0
            to = at(t, GRAD, o, i, k) if soon else place
            v, above = block_sum(x, n, base, grown, ahead, place, to, following, later, like)
            rest += unbias(like) * v
            put(known, following)
            put(known + 8, np.float64(above))
        if kept != 0:
            put(bases + 8 * b, np.float64(m))  # -inf: nothing but zeros so far
        if coefficients:
            extra = scratch(BLOCK_BYTES)
            c = load_coefs(t, s, j, o, i, k, n, scratch(BLOCK_BYTES), extra, like)
            if c == 0:
                weight += n
                gap += block_gap_plain(x, n, base, like)
                nonzero += n
            else:
                v, off, more, count = block_gap(x, c, n, base, like)
                weight, lost = sum_of(weight, v)
                error += off + lost
                gap += more
                nonzero += count
    set_state(s, M, j, np.float64(m))
    set_state(s, REST, j, rest)
    set_state(s, WEIGHT, j, weight + error)
    set_state(s, GAP, j, gap)
    set_state(s, NONZERO, j, nonzero)


@function
def few_rows(t, first, count, stop, kept, known, s, like):
    """A few rows at once, for their logarithms: one alone waits for each of its operations.

    With kept, room for all their elements, each exponential is computed only once.
    """
    apart()
    size = width(like)
    bases = scratch(BASES_BYTES)
    phase, none = field(t, PHASE), np.int64(-1)
    length = (field(t, END) - field(t, BEGIN) + LANES - 1) // LANES * LANES
    blocks = (length + BLOCK - 1) // BLOCK
    for j in range(count):
        o, i = outer_and_inner(t, first + j)
        open_row(t, o, i, s, j)
        if phase == FINISH:
            read_stats(t, o, i, s, j)
        elif state(s, ABSENT, j) == 0:
            place = kept + j * length * size if kept != 0 else 0
            row = first + j + 1 if first + j + 1 < stop else -1
            base = bases + 8 * j * blocks
            # None is late: numbers of one type, or the function is compiled twice.
            scan_row(t, o, i, s, j, place, base, none, I64, I64, I64, known, row, like)
        if has(t, STATS) and phase != FINISH:
            write_stats(t, o, i, s, j)
    if phase == SCAN:
        return 0.0
    for j in range(count):
        set_state(s, R, j, log1p64(state(s, REST, j)))
    result = 0.0
    for j in range(count):
        o, i = outer_and_inner(t, first + j)
        loss = finish(t, o, i, s, j)
        result += loss
        if has(t, LOSS):
            put_element(at(t, LOSS, o, i, 0), view(t, LOSS, KIND), loss)
        if has(t, GRAD):
            place = kept + j * length * size if kept != 0 else 0
            emit_row(t, o, i, s, j, place, bases + 8 * j * blocks, like)
    return result


@function
def long_rows(t, first, stop, kept, known, s, like):
    """Loss and gradient, the gradient of a row while the next one is scanned.

    Writing past the cache waits for memory and the scan for arithmetic: together they take
    little more than the longer of them.
    """
    apart()
    bases = scratch(BASES_BYTES)
    result = 0.0
    late = -1
    late_o = late_i = np.int64(0)
    for row in range(first, stop):
        o, i = outer_and_inner(t, row)
        j = row % 2
        mine, others = bases + 8 * BASES * j, bases + 8 * BASES * (1 - j)
        open_row(t, o, i, s, j)
        if state(s, ABSENT, j) == 0:
            after = row + 1 if row + 1 < stop else -1
            scan_row(
                t, o, i, s, j, kept, mine, late, late_o, late_i, others, known, after, like
            )  # fmt: skip
        elif late >= 0:
            emit_row(t, late_o, late_i, s, late, kept, others, like)
        set_state(s, R, j, log1p64(state(s, REST, j)))
        loss = finish(t, o, i, s, j)
        result += loss
        if has(t, LOSS):
            put_element(at(t, LOSS, o, i, 0), view(t, LOSS, KIND), loss)
        late, late_o, late_i = j, o, i
    if late >= 0:
        emit_row(t, late_o, late_i, s, late, kept, bases + 8 * BASES * late, like)
    return result


@cached
@entry
def run_rows(task, e, z, scale, first, stop, block, room, offset, size, like):
    """Rows with contiguous classes; the room is some bytes of an array, from an offset on."""
    t, s = scratch(TABLE_BYTES), scratch(STATE_BYTES)
    bind(t, task, e, z, scale)
    wide = field(t, END) - field(t, BEGIN)
    most = max(1, min(BATCH, (NEAR if has(t, GRAD) else BATCH * BLOCK) // wide))
    kept = np.int64(0)
    # Rows are kept in whole groups, which may take up to a block more than their elements.
    size = min(size // width(like) - BLOCK, (BASES - BATCH) * BLOCK)
    if (
        has(t, GRAD)
        and field(t, PHASE) == ALL
        # Where they cancel against labels, doubles are computed anew from what rounding them lost.
        and (is_single(like) or not has_coefficients(t))
        and field(t, OP) != LOG_SOFTMAX
        and most * wide <= size
    ):
        kept = get(room + HEAD, I64) + offset
    known = scratch(16)
    put(known, I64)
    result = 0.0
    if kept != 0 and most == 1 and not has(t, STATS):
        result = long_rows(t, first, stop, kept, known, s, like)
    else:
        for row in range(first, stop, most):
            result += few_rows(t, row, min(most, stop - row), stop, kept, known, s, like)
    close(t, task, block, result)


@inline
def close(t, task, block, result):
    if field(t, STREAM):
        stream_fence()
    if has(t, TOTAL):
        put(view(t, TOTAL, DATA) + 8 * block, result)


# ---------------------------------------------------------------- tiles: one row per lane


@inline
def pitch(t, array):
    """Stride from one row of a tile to the next."""
    return view(t, array, BY_OUTER) if field(t, INNER) == 1 else view(t, array, BY_INNER)


@function
def rows_in(p, kind, by_class, across, count, depth, buf, like):
    """Classes of count rows, side by side in memory, to lanes."""
    apart()
    size = width(like)
    if kind != native(like) or by_class != size:
        lines = scratch(LINES_BYTES)
        if across == depth * by_class:
            reals(p, kind, by_class, count * depth, lines, like)
        else:
            for j in range(count):
                # Conversions write whole groups, each over the rest of the one before.
                reals(p + j * across, kind, by_class, depth, lines + j * depth * size, like)
        p, across = lines, depth * size
    each = 4 if is_single(like) else 2
    whole = count & -16 if depth >= each else 0
    for j in range(0, whole, 16):
        for k in range(0, depth, each):
            c = min(k, depth - each)  # the last few are done again with those before
            rows_to_lanes(p + j * across + c * size, across, buf + (c * TILE + j) * size, like)
    for j in range(whole, count):
        for k in range(depth):
            put(buf + (k * TILE + j) * size, get(p + j * across + k * size, like))


@function
def rows_out(p, kind, by_class, across, count, depth, d, past, like):
    """The way back."""
    apart()
    size = width(like)
    to, pitch = p, across
    straight = kind == native(like) and by_class == size and not past
    lines = scratch(LINES_BYTES)
    if not straight:
        to, pitch = lines, depth * size
    each = 4 if is_single(like) else 2
    whole = count & -16 if depth >= each else 0
    for j in range(0, whole, 16):
        for k in range(0, depth, each):
            c = min(k, depth - each)
            lanes_to_rows(to + j * pitch + c * size, pitch, d + (c * TILE + j) * size, like)
    for j in range(whole, count):
        for k in range(depth):
            put(to + j * pitch + k * size, get(d + (k * TILE + j) * size, like))
    if straight:
        return
    if across == depth * by_class:
        write_reals(p, kind, by_class, count * depth, lines, past, like)
        return
    for j in range(count):
        write_reals(p + j * across, kind, by_class, depth, lines + j * depth * size, past, like)


@function
def load_tile(t, array, o, i, count, c, depth, buf, like):
    """depth classes of count rows: an address, and the bytes from class to class.

    In place where rows are contiguous and fill the tile; else copied, the missing rows 0.
    """
    apart()
    size = width(like)
    p = at(t, array, o, i, c)
    kind, by_class, across = view(t, array, KIND), view(t, array, BY_CLASS), pitch(t, array)
    if count == TILE and across == size and kind == native(like):
        return p, by_class
    if count < TILE:
        for k in range(depth):
            store(buf + k * TILE * size, splat(zero_of(like)))
    if abs(by_class) < abs(across):
        rows_in(p, kind, by_class, across, count, depth, buf, like)
    else:
        for k in range(depth):
            place = buf + k * TILE * size
            q = reals(p + k * by_class, kind, across, count, place, like)
            if q != place:
                copy(place, q, count * size)
    return buf, np.int64(TILE * size)


@function
def store_tile(t, array, o, i, count, c, depth, d, like):
    apart()
    size = width(like)
    p = at(t, array, o, i, c)
    kind, by_class, across = view(t, array, KIND), view(t, array, BY_CLASS), pitch(t, array)
    past = field(t, STREAM) != 0
    if abs(by_class) < abs(across):
        rows_out(p, kind, by_class, across, count, depth, d, past, like)
    else:
        for k in range(depth):
            write_reals(p + k * by_class, kind, across, count, d + k * TILE * size, past, like)


@function
def load_allowed(t, o, i, count, c, depth, buf):
    """The mask of a tile, as bytes; the missing rows are allowed."""
    apart()
    p = at(t, MASK, o, i, c)
    by_class, across = view(t, MASK, BY_CLASS), pitch(t, MASK)
    for k in range(depth):
        store(buf + k * TILE, splat(np.uint8(1)))
        for j in range(count):
            put(buf + k * TILE + j, get(p + k * by_class + j * across, U8))


@function
def load_logits_tile(t, o, i, count, c, depth, allowed, buf, like):
    """Logits of a tile; masked ones are -inf."""
    apart()
    x, step = load_tile(t, X, o, i, count, c, depth, buf, like)
    if not has(t, MASK):
        return x, step
    for k in range(depth):
        v = where(load(allowed + k * TILE, U8) != 0, load(x + k * step, like), -infinity(like))
        store(buf + k * TILE * width(like), v)
    return buf, np.int64(TILE * width(like))


@function
def load_coefs_tile(t, s, o, i, count, c, depth, allowed, buf, like):
    """Coefficients of a tile, as load_coefs."""
    apart()
    size = width(like)
    dense, e = field(t, OP) == DENSE, number(t, E)
    q, step = buf, np.int64(TILE * size)
    if dense:
        q, step = load_tile(t, Y, o, i, count, c, depth, buf, like)
        if e == 0 and not has(t, W):
            return q, step
    keep, share = cast(1.0 - e, like), cast(column(s, SHARE), like)
    w = pick(like, 1.0, 1.0)
    for k in range(depth):
        if has(t, W):
            stride = view(t, W, BY_CLASS)
            w = cast(element(view(t, W, DATA) + (c + k) * stride, view(t, W, KIND)), like)
        part = splat(pick(like, 1.0, 1.0))
        if dense:
            shares = share
            if has(t, MASK):
                shares = where(load(allowed + k * TILE, U8) != 0, share, zero_of(like))
            part = label_share(load(q + k * step, like), keep, shares, like)
        elif has(t, MASK):
            part = where(load(allowed + k * TILE, U8) != 0, part, zero_of(like))
        if w == 0:
            part = splat(zero_of(like))
        else:
            part = where(part == 0, zero_of(like), part * w)
        store(buf + k * TILE * size, part)
    return buf, np.int64(TILE * size)


@inline
def any_lane(mask):
    return first_lane(mask) < LANES


@function
def scan_tile(t, o, i, count, s, like):
    """Statistics of the rows of a tile."""
    apart()
    buf, labels, allowed = scratch(BLOCK_BYTES), scratch(BLOCK_BYTES), scratch(BLOCK)
    begin, end = field(t, BEGIN), field(t, END)
    coefficients = has_coefficients(t)
    zero, low = zero_of(like), -infinity(like)
    m = splat(low)
    rest = ties = weight = error = gap = nonzero = splat(0.0)
    for b in range(begin, end, DEPTH):
        depth = min(DEPTH, end - b)
        if has(t, MASK):
            load_allowed(t, o, i, count, b, depth, allowed)
        x, step = load_logits_tile(t, o, i, count, b, depth, allowed, buf, like)
        new = m
        for k in range(depth):
            v = load(x + k * step, like)
            new = where(v > new, v, new)
        grown = new > m
        if b > begin and any_lane(grown):
            was, now = cast(m, F64), cast(new, F64)
            factor = exponential(was - now, False, F64)
            rest = where(grown, (rest + ties) * factor, rest)
            ties = where(grown, 0.0, ties)
            gap = where(grown & (m > low), fma(weight, now - was, gap), gap)
        m = new
        base = where(m == low, zero, m)
        # One lane sums up to 32 terms: s and s f apart, since sums of powers of two are exact.
        powers = parts = equal = splat(zero)
        for k in range(depth):
            v = load(x + k * step, like)
            top = v == m
            v = v - base
            power, f = factors(v, True, like)
            out = top | (v < lowest(like, True))
            parts = parts + where(out, zero, power * f)
            powers = powers + where(out, zero, power)
            equal = equal + where(top, pick(like, 1.0, 1.0), zero)
        rest = rest + (cast(powers, F64) + cast(parts, F64)) * unbias(like)
        ties = ties + cast(equal, F64)
        if coefficients:
            c, c_step = load_coefs_tile(t, s, o, i, count, b, depth, allowed, labels, like)
            some = more = splat(zero)
            for k in range(depth):
                cs = load(c + k * c_step, like)
                weight, off = sum_of(weight, cast(cs, F64))
                error = error + off
                none = cs == 0
                more = more + where(none, zero, cs * (base - load(x + k * step, like)))
                some = some + where(none, zero, pick(like, 1.0, 1.0))
            gap = gap + cast(more, F64)
            nonzero = nonzero + cast(some, F64)
    set_column(s, M, cast(m, F64))
    # All maxima but one.
    set_column(s, REST, where(cast(m, F64) > -np.inf, rest + (ties - 1.0), rest))
    set_column(s, WEIGHT, weight + error)
    set_column(s, GAP, gap)
    set_column(s, NONZERO, nonzero)


@function
def load_exact_tile(t, s, o, i, count, c, depth, allowed, buf, tail, like):
    """Coefficients of a tile, as load_exact."""
    apart()
    size = width(like)
    dense, e = field(t, OP) == DENSE, number(t, E)
    q, step = buf, np.int64(TILE * size)
    if dense:
        q, step = load_tile(t, Y, o, i, count, c, depth, buf, like)
        if e == 0 and not has(t, W):
            for k in range(depth):
                store(tail + k * TILE * size, splat(zero_of(like)))
            return q, step
    keep = 1.0 - e if dense else 0.0
    keep_error = (1.0 - keep) - e if dense else 0.0
    w = 1.0
    for k in range(depth):
        if has(t, W):
            w = element(view(t, W, DATA) + (c + k) * view(t, W, BY_CLASS), view(t, W, KIND))
        share, share_error = column(s, SHARE), column(s, SHARE_ERROR)
        if has(t, MASK):
            may = load(allowed + k * TILE, U8) != 0
            share, share_error = where(may, share, 0.0), where(may, share_error, 0.0)
        qs = splat(0.0)
        if dense:
            qs = cast(load(q + k * step, like), F64)
        v, error = exact_coef(share, share_error, splat(keep), keep_error, qs, splat(w))
        rounded = cast(v, like)
        store(buf + k * TILE * size, rounded)
        store(tail + k * TILE * size, cast((v - cast(rounded, F64)) + error, like))
    return buf, np.int64(TILE * size)


@function
def emit_tile(t, o, i, count, s, like):
    """The gradient of the rows of a tile."""
    apart()
    size = width(like)
    buf, allowed, out = scratch(BLOCK_BYTES), scratch(BLOCK), scratch(BLOCK_BYTES)
    labels, tails = scratch(BLOCK_BYTES), scratch(BLOCK_BYTES)
    op = field(t, OP)
    coefficients = has_coefficients(t)
    nothing = -infinity(like) if op == LOG_SOFTMAX else zero_of(like)
    m, g = cast(column(s, TOP), like), cast(column(s, FACTOR), like)
    a64 = column(s, A)
    a = cast(a64 if coefficients else column(s, FACTOR) * a64, like)
    tail = cast(a64 - cast(a, F64) + column(s, TAIL), like)
    shift = cast(column(s, SHIFT), like)
    present = lanes_below(count)
    zeros = (column(s, ZERO) != 0) & present
    any_zero = any_lane(zeros)
    begin, end = field(t, BEGIN), field(t, END)
    for b in range(begin, end, DEPTH):
        depth = min(DEPTH, end - b)
        if has(t, MASK):
            load_allowed(t, o, i, count, b, depth, allowed)
        x, step = load_logits_tile(t, o, i, count, b, depth, allowed, buf, like)
        if op == LOG_SOFTMAX:
            for k in range(depth):
                store(out + k * TILE * size, (load(x + k * step, like) - m) - shift)
        elif coefficients:
            c, c_step = load_exact_tile(t, s, o, i, count, b, depth, allowed, labels, tails, like)
            for k in range(depth):
                cs, lost = load(c + k * c_step, like), load(tails + k * TILE * size, like)
                v = difference(load(x + k * step, like), m, a, tail, cs, lost, g, like)
                store(out + k * TILE * size, v)
        else:
            for k in range(depth):
                v = exponential(load(x + k * step, like) - m, False, like) * a
                store(out + k * TILE * size, v)
        for j in range(count):
            label = np.int64(state(s, LABEL, j))
            if b <= label < b + depth:
                entry = cast(state(s, ENTRY, j), like)
                put(out + ((label - b) * TILE + j) * size, entry)
        if has(t, MASK) or any_zero:
            for k in range(depth):
                drop = zeros
                if has(t, MASK):
                    drop = drop | (load(allowed + k * TILE, U8) == 0)
                place = out + k * TILE * size
                store(place, where(drop, nothing, load(place, like)))
        store_tile(t, GRAD, o, i, count, b, depth, out, like)


@function
def run_tile(t, o, i, count, s, like):
    apart()
    inner, phase = field(t, INNER), field(t, PHASE)
    di = 1 if inner == 1 else 0
    dj = 1 - di
    for j in range(count):
        open_row(t, o + j * di, i + j * dj, s, j)
        if phase == FINISH:
            read_stats(t, o + j * di, i + j * dj, s, j)
    if phase != FINISH:
        scan_tile(t, o, i, count, s, like)
        if has(t, STATS):
            for j in range(count):
                write_stats(t, o + j * di, i + j * dj, s, j)
    if phase == SCAN:
        return 0.0
    set_column(s, R, log1p64(column(s, REST)))
    result = 0.0
    for j in range(count):
        loss = finish(t, o + j * di, i + j * dj, s, j)
        result += loss
        if has(t, LOSS):
            put_element(at(t, LOSS, o + j * di, i + j * dj, 0), view(t, LOSS, KIND), loss)
    if has(t, GRAD):
        emit_tile(t, o, i, count, s, like)
    return result


@cached
@entry
def run_tiles(task, e, z, scale, first, stop, block, room, offset, size, like):
    """Rows of few classes, or whose classes are not contiguous."""
    t, s = scratch(TABLE_BYTES), scratch(STATE_BYTES)
    bind(t, task, e, z, scale)
    for k in range(COLUMN_COUNT):
        set_column(s, k, splat(0.0))
    inner = field(t, INNER)
    result = 0.0
    row = first
    while row < stop:
        count = min(TILE, stop - row)
        if inner > 1:
            count = min(count, inner - row % inner)
        result += run_tile(t, row // inner, row % inner, count, s, like)
        row += count
    close(t, task, block, result)


# ---------------------------------------------------------------- labels


@cached
@entry
def run_labels(task, num_classes, plain):
    """Are all labels that count in range; the sum of their weights; their number."""
    t = scratch(TABLE_BYTES)
    for k in range(7):
        put(t + 8 * k, field(task, k))
    for array in (Y, U, W):
        kind = field(task, KINDS + array)
        bind_view(t, array, field(task, OBJECTS + array), kind, np.int64(0))
    place = field(task, OBJECTS + Y)
    shape = get(place + HEAD + 16, I64)
    outer = get(shape, I64)
    inner = get(shape + 8, I64) if get(place + HEAD + 8, I32) > 1 else 1
    if plain:
        p, step = view(t, Y, DATA), view(t, Y, BY_OUTER)
        size = 4 if view(t, Y, KIND) == INT32 else 8
        if inner == 1:
            outer, inner = np.int64(1), outer
        ignore, ignores = field(t, IGNORE), field(t, HAS_IGNORE) != 0
        bad = count = splat(I64)
        for o in range(outer):
            for k in range(0, inner, LANES):
                y = label_group(p + o * step + k * size, inner - k, size)
                wrong = y | ((num_classes - 1) - y)
                if ignores:
                    some = (y != ignore) & lanes_below(inner - k)
                    wrong = where(some, wrong, 0)
                    count = where(some, count + 1, count)
                bad = bad | wrong
        n = outer * inner
        if ignores:
            n = lane_sum(count)
        return first_lane(bad < 0) == LANES, np.float64(n), n
    good, weight, n = True, 0.0, np.int64(0)
    for o in range(outer):
        for i in range(inner):
            y = label_at(t, o, i)
            if field(t, HAS_IGNORE) and y == field(t, IGNORE):
                continue
            u = 1.0
            if has(t, U):
                u = element_at(t, U, o, i, 0)
            if u == 0:
                continue
            if y < 0 or y >= num_classes:
                good = False
                continue
            n += 1
            if has(t, W):
                u *= element(view(t, W, DATA) + y * view(t, W, BY_OUTER), view(t, W, KIND))
            weight += u
    return good, weight, n


@inline
def label_group(p, n, size):
    """64 labels of 4 or 8 bytes; those from n on are 0."""
    if size == 4:
        return broaden(load(p, I32) if n >= LANES else load_first(p, n, I32))
    return load(p, I64) if n >= LANES else load_first(p, n, I64)


@inline
def lane_sum(v):
    line = scratch(LINE_BYTES)
    store(line, v)
    n = 0
    for k in range(LANES):
        n += get(line + 8 * k, I64)
    return n


# ---------------------------------------------------------------- sweeps: all blocks at once


@cached
@sweeping
def sweep(
    run, task, e, z, scale, begin, end, rows, step, workers, rooms, size, like
):  # fmt: skip
    """Blocks ``begin`` to ``end``, of ``step`` rows each, on Numba's threads.

    ``run`` is the address of a compiled `run_rows` or `run_tiles`: compiled into the sweep,
    each would be compiled twice.  Blocks are handed out one by one: with another process on
    one core, equal shares would wait for the slower thread.
    """
    counter = task + 8 * COUNTER
    put(counter, begin)
    for worker in prange(workers):
        offset = worker * size
        while True:
            block = fetch_add(counter, 1)
            if block >= end:
                break
            first = block * step
            stop = min(rows, first + step)
            call(run, (task, e, z, scale, first, stop, block, rooms, offset, size, like))
