"""Rows of scores: statistics, losses, gradients; a team of lanes per row.

A row has three steps, as in every backend: *scan* leaves its statistics, *finish* turns
them into the loss and the numbers of the gradient, *emit* writes the gradient. A team is a
power of two of lanes of a warp, or a whole block; its lanes hold statistics of their own,
which are merged in a fixed order. Rows too long for that are scanned in pieces, each by a
team; the pieces' statistics are merged by a kernel of their own, and a third launch
finishes the rows.

A lane's statistics: the maximum ``m``; ``s``, the sum of exp(x - m) 2^BIAS without what
equals ``m``; ``n``, how many do; and for losses with coefficients of the classes their sum,
their sum with (m - x), both as pairs, and the number that are not 0.
"""

from types import SimpleNamespace

import numpy as np
from numba import cuda, float32, float64, int64

from .._spec import FINISH, SCAN
from ._language import (
    BFLOAT,
    DOUBLE,
    F32,
    F64,
    HALF,
    SINGLE,
    U8,
    U16,
    WARP,
    fma,
    function,
    get,
    get2,
    get4,
    get8,
    integer,
    kernel,
    larger,
    narrow_bfloat,
    narrow_half,
    put,
    put2,
    put4,
    put8,
    quiet,
    warp_sync,
    widen_bfloat,
    widen_half,
    xor,
)  # fmt: skip
from ._math import DOUBLES, SINGLES

LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, INDEX, DENSE = range(5)

#: The integers of a call. An array has an address (0: absent) and strides in bytes. ``AT`` has
#: the logits of the labels, where only a tile of the classes is at hand: a scan leaves there
#: what it meets.
(
    OP, PHASE, TEAM, ROWS, INNER, CLASSES, BEGIN, END, PIECE, PIECES, HAS_IGNORE, IGNORE, WIDE,
    X, X_OUTER, X_CLASS, X_INNER,
    GRAD, GRAD_OUTER, GRAD_CLASS, GRAD_INNER,
    MASK, MASK_OUTER, MASK_CLASS, MASK_INNER,
    Y, Y_OUTER, Y_CLASS, Y_INNER, Y_KIND,
    U, U_OUTER, U_INNER, U_KIND,
    G, G_OUTER, G_INNER, G_KIND,
    LOSS, LOSS_OUTER, LOSS_INNER,
    W, W_CLASS, W_KIND,
    LABELS, LABELS_OUTER, LABELS_CLASS, LABELS_INNER,
    STATS, AT,
) = range(50)  # fmt: skip
INTEGERS = 50

#: Its reals: 1 - e and e, 2 t and t, the scale, and that of the gradient to the labels.
KEEP, KEEP_LOW, SMOOTH, Z, SCALE, SCALE_LOW, LABELS_SCALE = range(7)
REALS = 7

#: Numbers of a row's statistics.
STATS_COLUMNS = MAXIMUM, SUM, COUNT, WEIGHT, WEIGHT_LOW, GAP, GAP_LOW, NONZERO = range(8)

#: Threads of a block, where a team is a block and where it is not.
BLOCK = 2 * WARP if WARP < 32 else 256
WARPS = BLOCK // WARP


def _make(kind):
    """The kernels for logits of a kind: "float32", "float64", "float16", "bfloat16"."""
    math = DOUBLES if kind == "float64" else SINGLES
    real, zero, one, two = math.real, math.zero, math.one, math.two
    exp, exp_term, log1p, element = math.exp, math.exp_term, math.log1p, math.element
    two_sum, two_product, times, over = math.two_sum, math.two_product, math.times, math.over
    width = 8 if kind == "float64" else 4 if kind == "float32" else 2
    group = min(16, 4 * width)  # bytes that four elements' access is aligned to
    wide = 8 if kind == "float64" else 4
    own = {"float64": DOUBLE, "float32": SINGLE, "float16": HALF, "bfloat16": BFLOAT}[kind]
    unit = real(2.0**math.bias)
    unbias = real(2.0**-math.bias)
    infinity, nan = real(np.inf), real(np.nan)
    numba_real = float64 if kind == "float64" else float32

    if kind == "float64":

        @function
        def load_wide(p):
            return get(p, F64)

    else:

        @function
        def load_wide(p):
            return get(p, F32)

    if kind == "float32":

        @function
        def load(p):
            return get(p, F32)

        @function
        def load4(p):
            return get4(p, F32)

        @function
        def narrow(v):
            return v

    elif kind == "float64":

        @function
        def load(p):
            return get(p, F64)

        @function
        def load4(p):
            return get4(p, F64)

        @function
        def narrow(v):
            return v

    else:
        widen, narrow = (
            (widen_half, narrow_half) if kind == "float16" else (widen_bfloat, narrow_bfloat)
        )

        @function
        def load(p):
            return widen(get(p, U16))

        @function
        def load4(p):
            a, b, c, d = get4(p, U16)
            return widen(a), widen(b), widen(c), widen(d)

    # A lane of the plain kernel takes 16 bytes at once (32 of doubles), and two or four times that
    # before it uses them.
    half = width == 2
    at_once = 8 if half else 4
    if half:

        @function
        def load_unit(p):
            a, b, c, d, e, f, g, h = get8(p)
            return (
                widen(a), widen(b), widen(c), widen(d), widen(e), widen(f), widen(g), widen(h)
            )  # fmt: skip

        @function
        def load16(p, by):
            return load_unit(p) + load_unit(p + by)

    else:
        load_unit = load4

        @function
        def load16(p, by):
            return load4(p) + load4(p + by) + load4(p + 2 * by) + load4(p + 3 * by)

    # A lane of the general kernel takes so many classes at once: of doubles half as many, for
    # four of them with all that belongs to them do not fit into its registers.
    if kind == "float64":
        some = 2

        @function
        def load_some(p):
            a, b = get2(p, F64)
            return a, b, zero, zero

        @function
        def put_some(p, a, b, c, d):
            put2(p, a, b)

    else:
        some, load_some = 4, load4

        @function
        def put_some(p, a, b, c, d):
            put4(p, narrow(a), narrow(b), narrow(c), narrow(d))

    @function
    def merge3(m, s, n, m2, s2, n2):
        """Maximum, sum and count of two parts."""
        top = larger(m, m2)
        f = one if m == top else exp(m - top)
        f2 = one if m2 == top else exp(m2 - top)
        s = (s if m == top else (s + n * unit) * f) + (s2 if m2 == top else (s2 + n2 * unit) * f2)
        n = (n if m == top else zero) + (n2 if m2 == top else zero)
        return top, s, n

    @function
    def lift(gap, gap_low, weight, weight_low, m, top):
        """The sum with (top - x), from that with (m - x)."""
        if m < top and m > -infinity and weight != zero:
            by = top - m
            p, low = two_product(weight, by)
            gap, rest = two_sum(gap, p)
            gap_low += rest + (low + weight_low * by)
        return gap, gap_low

    @function
    def add_pair(a, a_low, b, b_low):
        s, rest = two_sum(a, b)
        return s, a_low + b_low + rest

    @function
    def row_base(t, unit_number):
        """Row, its indices, and the classes of its piece."""
        pieces = t[PIECES]
        row, piece = unit_number, np.int64(0)
        if pieces > 1:
            row = unit_number // pieces
            piece = unit_number - row * pieces
        o, i = row, np.int64(0)
        if t[INNER] > 1:
            o = row // t[INNER]
            i = row - o * t[INNER]
        begin = t[BEGIN] + piece * t[PIECE]
        return row, piece, o, i, begin, min(t[END], begin + t[PIECE])

    @function
    def row_weight(t, o, i):
        """The weight of the row, its label, and whether it is absent."""
        u = one
        if t[U] != 0:
            u = element(t[U] + o * t[U_OUTER] + i * t[U_INNER], t[U_KIND])
        absent = u == zero
        y = np.int64(0)
        if t[OP] == INDEX:
            y = integer(t[Y] + o * t[Y_OUTER] + i * t[Y_INNER], t[Y_KIND])
            if t[HAS_IGNORE] != 0 and y == t[IGNORE]:
                absent = True
            if absent or y < 0 or y >= t[CLASSES]:
                y = np.int64(0)
        return u, y, absent

    @function
    def add(x, m, s, n):
        """One more element not above m."""
        if x == m:
            return s, n + one
        return s + exp_term(x - m), n

    @function
    def add4(a, b, c, d, m, s, n):
        """Four more; the terms of those equal to m are counted instead."""
        sa = zero if a == m else exp_term(a - m)
        sb = zero if b == m else exp_term(b - m)
        sc = zero if c == m else exp_term(c - m)
        sd = zero if d == m else exp_term(d - m)
        na = (one if a == m else zero) + (one if b == m else zero)
        nb = (one if c == m else zero) + (one if d == m else zero)
        return s + ((sa + sb) + (sc + sd)), n + (na + nb)

    @function
    def raise_to(top, m, s, n):
        """Let the maximum be ``top``."""
        if top > m:
            s = (s + n * unit) * exp(m - top)
            return top, s, zero
        return m, s, n

    @function
    def add_four(a, b, c, d, m, s, n):
        """Four more, whatever they are."""
        m, s, n = raise_to(larger(larger(a, b), larger(c, d)), m, s, n)
        s, n = add4(a, b, c, d, m, s, n)
        return m, s, n

    if half:

        @function
        def add_unit(p, m, s, n):
            """What is loaded at once."""
            a, b, c, d, a1, b1, c1, d1 = load_unit(p)
            m, s, n = add_four(a, b, c, d, m, s, n)
            return add_four(a1, b1, c1, d1, m, s, n)

    else:

        @function
        def add_unit(p, m, s, n):
            a, b, c, d = load_unit(p)
            return add_four(a, b, c, d, m, s, n)

    @function
    def scan_plain(p, stride, begin, end, lane, team):
        """Statistics of a lane's share of a row: single elements to a boundary, then units."""
        m, s, n = -infinity, zero, zero
        p += begin * stride
        count = max(end - begin, np.int64(0))
        head = count
        if stride == width:
            head = min(count, ((-p) & 15) // width)
        for k in range(lane, head, team):
            x = load(p + k * stride)
            m, s, n = raise_to(x, m, s, n)
            s, n = add(x, m, s, n)
        units = (count - head) // at_once
        by = team * at_once * width
        k = lane
        q = p + (head + lane * at_once) * width
        while k + (16 // at_once - 1) * team < units:
            a, b, c, d, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3 = load16(q, by)
            top = larger(larger(larger(a, b), larger(c, d)), larger(larger(a1, b1), larger(c1, d1)))
            top2 = larger(
                larger(larger(a2, b2), larger(c2, d2)), larger(larger(a3, b3), larger(c3, d3))
            )
            m, s, n = raise_to(larger(top, top2), m, s, n)
            s, n = add4(a, b, c, d, m, s, n)
            s, n = add4(a1, b1, c1, d1, m, s, n)
            s, n = add4(a2, b2, c2, d2, m, s, n)
            s, n = add4(a3, b3, c3, d3, m, s, n)
            k += 16 // at_once * team
            q += 16 // at_once * by
        while k < units:
            m, s, n = add_unit(q, m, s, n)
            k += team
            q += by
        for k in range(head + at_once * units + lane, count, team):
            x = load(p + k * stride)
            m, s, n = raise_to(x, m, s, n)
            s, n = add(x, m, s, n)
        return m, s, n

    @function
    def label_at(t, o, i, k):
        """The mass that a label distribution has in a class."""
        return element(t[Y] + o * t[Y_OUTER] + k * t[Y_CLASS] + i * t[Y_INNER], t[Y_KIND])

    @function
    def coefficient(t, f, k, q, share, allowed):
        """The class's coefficient in the loss: for index labels of its smoothing part."""
        c = one
        if t[OP] == DENSE:
            c = zero if f[KEEP] == zero else f[KEEP] * q
            if allowed:
                c = c + share
        elif not allowed:
            c = zero
        if t[W] != 0 and c != zero:
            w = element(t[W] + k * t[W_CLASS], t[W_KIND])
            c = zero if w == zero else c * w
        return c

    @function
    def allowed_at(t, o, i, k):
        if t[MASK] == 0:
            return True
        p = t[MASK] + o * t[MASK_OUTER] + k * t[MASK_CLASS] + i * t[MASK_INNER]
        return get(p, U8) != 0

    @function
    def team_total(v, team, threads):
        """The sum of an integer over the lanes of a team."""
        k = 1
        while k < min(team, WARP):
            v += xor(v, k)
            k <<= 1
        if team > WARP:
            box = cuda.shared.array(WARPS, int64)
            cuda.syncthreads()
            if threads % WARP == 0:
                box[threads // WARP] = v
            cuda.syncthreads()
            v = box[0]
            for j in range(1, WARPS):
                v += box[j]
        return v

    @function
    def groups_of(t, p, stride, begin, end):
        """Where groups of classes begin that can be loaded at once, and their number."""
        first = begin
        if stride == width:
            first -= ((p + begin * stride) & (group - 1)) // width
        return first, (max(end - first, np.int64(0)) + some - 1) // some

    @function
    def pick(j, a, b, c, d):
        """One of four."""
        return (a if j == 0 else b) if j < 2 else (c if j == 2 else d)

    @function
    def with_one(j, v, a, b, c, d):
        """Four, of which one is another."""
        return v if j == 0 else a, v if j == 1 else b, v if j == 2 else c, v if j == 3 else d

    @function
    def load_group(p, stride, k, begin, end, whole):
        """Four classes of a row, those that there are."""
        if whole:
            return load_some(p + k * stride)
        a, b, c, d = zero, zero, zero, zero
        for j in range(some):
            if k + j >= begin and k + j < end:
                a, b, c, d = with_one(j, load(p + (k + j) * stride), a, b, c, d)
        return a, b, c, d

    @function
    def load_labels(t, f, o, i, k, begin, end, whole, smooth):
        """Their label masses, if these count."""
        a, b, c, d = zero, zero, zero, zero
        if t[OP] != DENSE or f[KEEP] == zero or not smooth:
            return a, b, c, d
        q = t[Y] + o * t[Y_OUTER] + k * t[Y_CLASS] + i * t[Y_INNER]
        if whole and t[Y_KIND] == own and t[Y_CLASS] == width and q & (group - 1) == 0:
            return load_some(q)
        for j in range(some):
            if k + j >= begin and k + j < end:
                a, b, c, d = with_one(j, label_at(t, o, i, k + j), a, b, c, d)
        return a, b, c, d

    @function
    def scan(t, f, p, stride, o, i, begin, end, share, lane, team):
        """Statistics of a lane's share of a row, with masks and coefficients."""
        m, s, n = -infinity, zero, zero
        weight, weight_low, gap, gap_low, nonzero = zero, zero, zero, zero, zero
        smooth = t[OP] == DENSE or (t[OP] == INDEX and f[SMOOTH] != zero)
        first, groups = groups_of(t, p, stride, begin, end)
        for number in range(lane, groups, team):
            k = first + some * number
            whole = stride == width and k >= begin and k + some <= end
            a, b, c, d = load_group(p, stride, k, begin, end, whole)
            q0, q1, q2, q3 = load_labels(t, f, o, i, k, begin, end, whole, smooth)
            for j in range(some):
                if k + j < begin or k + j >= end:
                    continue
                allowed = allowed_at(t, o, i, k + j)
                x = pick(j, a, b, c, d) if allowed else -infinity
                if allowed:
                    if x > m:
                        if smooth:
                            gap, gap_low = lift(gap, gap_low, weight, weight_low, m, x)
                        m, s, n = raise_to(x, m, s, n)
                    s, n = add(x, m, s, n)
                if smooth:
                    q = pick(j, q0, q1, q2, q3)
                    by = coefficient(t, f, k + j, q, share, allowed)
                    if by != zero:
                        far = (m if m > -infinity else zero) - x
                        product, low = two_product(by, far)
                        weight, weight_low = add_pair(weight, weight_low, by, zero)
                        gap, gap_low = add_pair(gap, gap_low, product, low)
                        nonzero += one
        return m, s, n, weight, weight_low, gap, gap_low, nonzero

    @function
    def merge(m, s, n, weight, weight_low, gap, gap_low, nonzero,
              m2, s2, n2, weight2, weight2_low, gap2, gap2_low, nonzero2):  # fmt: skip
        """Statistics of two parts."""
        top, s, n = merge3(m, s, n, m2, s2, n2)
        gap, gap_low = lift(gap, gap_low, weight, weight_low, m, top)
        gap2, gap2_low = lift(gap2, gap2_low, weight2, weight2_low, m2, top)
        gap, gap_low = add_pair(gap, gap_low, gap2, gap2_low)
        weight, weight_low = add_pair(weight, weight_low, weight2, weight2_low)
        return top, s, n, weight, weight_low, gap, gap_low, nonzero + nonzero2

    @function
    def finite(v):
        """The low part of a pair; nothing where the high one is infinite."""
        return v if v - v == zero else zero

    @function
    def write(t, p, v):
        """A gradient entry, in the dtype of the logits or wide."""
        if width == wide:
            put(p, real(v))
        elif t[WIDE] != 0:
            put(p, v)
        else:
            put(p, narrow(v))

    @function
    def write_group(t, q, stride, k, begin, end, whole, a, b, c, d):
        """Write four classes of a row, those that there are."""
        if whole:
            put_some(q + k * stride, a, b, c, d)
            return
        for j in range(some):
            if k + j >= begin and k + j < end:
                write(t, q + (k + j) * stride, pick(j, a, b, c, d))

    def build(plain):
        """A kernel for all rows; the plain one knows neither masks nor coefficients of classes."""

        @kernel
        def rows(t, f):
            quiet()
            team = t[TEAM]
            threads = np.int64(cuda.threadIdx.x)
            thread = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + threads
            lane = threads % team
            first = thread // team
            # All lanes of a warp (of a block, if that is a team) go around together.
            base = first if team > WARP else (thread - threads % WARP) // team
            step = max(np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x) // team, np.int64(1))
            units = t[ROWS] * t[PIECES]
            op = t[OP]
            for start in range(base, units, step):
                number = start + first - base
                live = number < units
                row, piece, o, i, begin, end = row_base(t, number if live else start)
                p = t[X] + o * t[X_OUTER] + i * t[X_INNER]
                stride = t[X_CLASS]
                u, y, absent = row_weight(t, o, i)
                scan_end = begin if absent or not live else end
                label, label_allowed = zero, True
                if op == INDEX and live and not absent:
                    if not plain:
                        label_allowed = allowed_at(t, o, i, y)
                    if t[AT] == 0:
                        label = load(p + y * stride)
                    elif t[PHASE] == FINISH:
                        label = load_wide(t[AT] + row * wide)
                    elif lane == 0 and y >= begin and y < end:
                        put(t[AT] + row * wide, real(load(p + y * stride)))
                share, allowed = f[SMOOTH], t[CLASSES]
                if not plain:
                    if t[MASK] != 0:
                        allowed = np.int64(0)
                        for k in range(lane, t[CLASSES], team):
                            if allowed_at(t, o, i, k):
                                allowed += 1
                        allowed = team_total(allowed, team, threads)
                    share = f[SMOOTH] / real(allowed) if allowed > 0 else zero

                m, s, n = -infinity, zero, zero
                weight, weight_low, gap, gap_low, nonzero = zero, zero, zero, zero, zero
                place = t[STATS] + (piece * t[ROWS] + row) * (8 * wide)
                if t[PHASE] != FINISH:
                    if plain:
                        m, s, n = scan_plain(p, stride, begin, scan_end, lane, team)
                        k = 1
                        while k < min(team, WARP):
                            m, s, n = merge3(m, s, n, xor(m, k), xor(s, k), xor(n, k))
                            k <<= 1
                    else:
                        m, s, n, weight, weight_low, gap, gap_low, nonzero = scan(
                            t, f, p, stride, o, i, begin, scan_end, share, lane, team
                        )
                        k = 1
                        while k < min(team, WARP):
                            m, s, n, weight, weight_low, gap, gap_low, nonzero = merge(
                                m, s, n, weight, weight_low, gap, gap_low, nonzero,
                                xor(m, k), xor(s, k), xor(n, k), xor(weight, k),
                                xor(weight_low, k), xor(gap, k), xor(gap_low, k), xor(nonzero, k),
                            )  # fmt: skip
                            k <<= 1
                    if team > WARP:
                        box = cuda.shared.array((WARPS, 8), numba_real)
                        cuda.syncthreads()
                        if threads % WARP == 0:
                            j = threads // WARP
                            box[j, 0], box[j, 1], box[j, 2] = m, s, n
                            if not plain:
                                box[j, 3], box[j, 4] = weight, weight_low
                                box[j, 5], box[j, 6], box[j, 7] = gap, gap_low, nonzero
                        cuda.syncthreads()
                        m, s, n = box[0, 0], box[0, 1], box[0, 2]
                        if not plain:
                            weight, weight_low = box[0, 3], box[0, 4]
                            gap, gap_low, nonzero = box[0, 5], box[0, 6], box[0, 7]
                        for j in range(1, WARPS):
                            if plain:
                                m, s, n = merge3(m, s, n, box[j, 0], box[j, 1], box[j, 2])
                            else:
                                m, s, n, weight, weight_low, gap, gap_low, nonzero = merge(
                                    m, s, n, weight, weight_low, gap, gap_low, nonzero,
                                    box[j, 0], box[j, 1], box[j, 2], box[j, 3], box[j, 4],
                                    box[j, 5], box[j, 6], box[j, 7],
                                )  # fmt: skip
                    if t[STATS] != 0 and lane == 0 and live:
                        put(place, m)
                        put(place + wide, s)
                        put(place + 2 * wide, n)
                        put(place + 3 * wide, weight)
                        put(place + 4 * wide, weight_low)
                        put(place + 5 * wide, gap)
                        put(place + 6 * wide, gap_low)
                        put(place + 7 * wide, nonzero)
                    if t[PHASE] == SCAN:
                        continue
                else:
                    place = t[STATS] + row * (8 * wide)
                    m, s, n = load_wide(place), load_wide(place + wide), load_wide(place + 2 * wide)
                    weight, weight_low = load_wide(place + 3 * wide), load_wide(place + 4 * wide)
                    gap, gap_low = load_wide(place + 5 * wide), load_wide(place + 6 * wide)
                    nonzero = load_wide(place + 7 * wide)

                # All logits are read before a gradient in place is written over them.
                if t[GRAD] != 0:
                    if team > WARP:
                        cuda.syncthreads()
                    elif team > 1:
                        warp_sync()

                # Finish: every lane by itself.
                rest = s * unbias + (n - one if n > one else zero)
                r = log1p(rest)
                masked = allowed == 0
                broken = not masked and (m == infinity or m == -infinity)
                lse = m + r
                whole, whole_low = two_sum(one, rest)
                if op == LOGSUMEXP:
                    if lane == 0 and live:
                        put(t[LOSS] + o * t[LOSS_OUTER] + i * t[LOSS_INNER], lse)
                    continue

                factor, hard, hard_low, wy = one, zero, zero, one
                d = zero
                if op == INDEX:
                    factor = share
                    if not plain and t[W] != 0 and not absent:
                        wy = element(t[W] + y * t[W_CLASS], t[W_KIND])
                    hard, hard_low = times(f[KEEP], f[KEEP_LOW], wy, zero)
                    d = m - label if label_allowed else infinity
                smooth = nonzero > zero
                if op >= INDEX:  # a loss
                    absent = absent or (hard == zero and not smooth and f[Z] == zero)
                if t[LOSS] != 0 and lane == 0 and live:
                    loss = zero if hard == zero else hard * (d + r)
                    if smooth:
                        loss += factor * (weight * r + (gap + finite(gap_low)))
                    if f[Z] != zero:
                        loss += f[Z] * lse * lse
                    loss = infinity if masked else (nan if broken else loss)
                    loss = zero if absent else u * loss
                    put(t[LOSS] + o * t[LOSS_OUTER] + i * t[LOSS_INNER], loss)
                if t[GRAD] == 0 and t[LABELS] == 0:
                    continue

                # The gradient: a p - c, with the label's entry by itself.
                g, g_low, up = f[SCALE], f[SCALE_LOW], one
                if t[G] != 0:
                    up = element(t[G] + o * t[G_OUTER] + i * t[G_INNER], t[G_KIND])
                    g, g_low = times(g, g_low, up, zero)
                flat = absent or masked or g == zero
                gu, gu_low = times(g, g_low, u, zero)
                a, a_low = hard, hard_low
                if smooth:
                    extra, extra_low = times(factor, zero, weight, finite(weight_low))
                    a, a_low = add_pair(a, a_low, extra, extra_low)
                if f[Z] != zero:
                    a, a_low = add_pair(a, a_low, two * f[Z] * lse, zero)
                if op < INDEX:  # a normaliser
                    a, a_low, gu, gu_low = one, zero, one, zero
                    flat = masked
                if broken:
                    a, a_low = nan, zero
                entry = zero
                if op == INDEX:
                    e = exp(-d)
                    other = rest if d == zero else whole + (whole_low - e)
                    top, top_low = times(gu, gu_low, hard, hard_low)
                    top, top_low = times(top, top_low, other, zero)
                    entry = -over(top, finite(top_low), whole, whole_low)
                    if smooth or f[Z] != zero:
                        entry += gu * ((a - hard) * (e / whole) - share * wy)
                    if broken:
                        entry = nan
                top, top_low = times(gu, gu_low, a, finite(a_low))
                slope = over(top, top_low, whole, whole_low)
                nothing = -infinity if op == LOG_SOFTMAX else zero
                q = t[GRAD] + o * t[GRAD_OUTER] + i * t[GRAD_INNER]
                q_stride = t[GRAD_CLASS]
                out_end = end if live else begin

                if plain:
                    emit_plain(
                        t, op, p, stride, q, q_stride, begin, out_end, lane, team, m, r, slope,
                        entry, y, flat, nothing,
                    )  # fmt: skip
                    continue
                ratio = over(a, finite(a_low), whole, whole_low)
                by = zero
                if t[LABELS] != 0:
                    by = f[LABELS_SCALE]
                    by = zero if by == zero or u == zero or up == zero else by * u * up
                alike = (
                    (t[WIDE] == 0 or width == wide) and q_stride == width
                    and (t[GRAD] == 0 or (p - q) & (group - 1) == 0)
                )  # fmt: skip
                r_stride = t[LABELS_CLASS]
                labels = t[LABELS] + o * t[LABELS_OUTER] + i * t[LABELS_INNER]
                labels_alike = (
                    (t[WIDE] == 0 or width == wide) and r_stride == width
                    and (p - labels) & (group - 1) == 0
                )  # fmt: skip
                first_class, groups = groups_of(t, p, stride, begin, out_end)
                for number in range(lane, groups, team):
                    k = first_class + some * number
                    whole = stride == width and k >= begin and k + some <= out_end
                    x0, x1, x2, x3 = load_group(p, stride, k, begin, out_end, whole)
                    q0, q1, q2, q3 = load_labels(t, f, o, i, k, begin, out_end, whole, smooth)
                    v0, v1, v2, v3 = nothing, nothing, nothing, nothing
                    l0, l1, l2, l3 = zero, zero, zero, zero
                    for j in range(some):
                        if k + j < begin or k + j >= out_end:
                            continue
                        ok = allowed_at(t, o, i, k + j)
                        x = pick(j, x0, x1, x2, x3)
                        if t[LABELS] != 0 and ok and by != zero:
                            to_label = by
                            if t[W] != 0:
                                w = element(t[W] + (k + j) * t[W_CLASS], t[W_KIND])
                                to_label = zero if w == zero else by * w
                            if to_label != zero:
                                to_label = nan if broken else to_label * ((m - x) + r)
                            l0, l1, l2, l3 = with_one(j, to_label, l0, l1, l2, l3)
                        if t[GRAD] == 0 or not ok or flat:
                            continue
                        if op == LOG_SOFTMAX:
                            v = nan if broken else (x - m) - r
                        elif op == INDEX and k + j == y:
                            v = entry
                        else:
                            e = exp(x - m)
                            v = slope * e
                            if smooth:
                                # What cancels is exact to a rounding; the row's factor comes last.
                                mass = pick(j, q0, q1, q2, q3)
                                c = factor * coefficient(t, f, k + j, mass, share, True)
                                v = gu * fma(ratio, e, -c)
                        v0, v1, v2, v3 = with_one(j, v, v0, v1, v2, v3)
                    if t[GRAD] != 0:
                        write_group(t, q, q_stride, k, begin, out_end, whole and alike,
                                    v0, v1, v2, v3)  # fmt: skip
                    if t[LABELS] != 0:
                        write_group(t, labels, r_stride, k, begin, out_end, whole and labels_alike,
                                    l0, l1, l2, l3)  # fmt: skip

        return rows

    @function
    def entry_at(op, x, m, r, slope, flat, nothing):
        if flat:
            return nothing
        if op == LOG_SOFTMAX:
            # slope is NaN for a row without a softmax
            return (x - m) - r if slope == slope else slope
        return slope * exp(x - m)

    @function
    def four_at(op, a, b, c, d, m, r, slope, flat, nothing, entry, j):
        """Four entries; the one with number ``j``, if that is one of them, is the label's."""
        a = entry_at(op, a, m, r, slope, flat, nothing)
        b = entry_at(op, b, m, r, slope, flat, nothing)
        c = entry_at(op, c, m, r, slope, flat, nothing)
        d = entry_at(op, d, m, r, slope, flat, nothing)
        if j >= 0 and j < 4:
            a, b, c, d = with_one(j, entry, a, b, c, d)
        return a, b, c, d

    if half:

        @function
        def emit_unit(op, p, q, m, r, slope, flat, nothing, entry, j):
            """What is written at once."""
            a, b, c, d, a1, b1, c1, d1 = load_unit(p)
            a, b, c, d = four_at(op, a, b, c, d, m, r, slope, flat, nothing, entry, j)
            a1, b1, c1, d1 = four_at(op, a1, b1, c1, d1, m, r, slope, flat, nothing, entry, j - 4)
            put8(q, narrow(a), narrow(b), narrow(c), narrow(d),
                 narrow(a1), narrow(b1), narrow(c1), narrow(d1))  # fmt: skip

    else:

        @function
        def emit_unit(op, p, q, m, r, slope, flat, nothing, entry, j):
            a, b, c, d = load_unit(p)
            a, b, c, d = four_at(op, a, b, c, d, m, r, slope, flat, nothing, entry, j)
            put4(q, a, b, c, d)

    @function
    def emit_plain(
        t, op, p, stride, q, q_stride, begin, end, lane, team, m, r, slope, entry, y, flat, nothing
    ):
        """Write a lane's share of a row, in units where both arrays lie alike."""
        count = max(end - begin, np.int64(0))
        p += begin * stride
        q += begin * q_stride
        y = y - begin if op == INDEX and not flat else np.int64(-1)
        alike = t[WIDE] == 0 or width == wide
        alike = alike and stride == width and q_stride == width and (p - q) & 15 == 0
        head = min(count, ((-p) & 15) // width) if alike else count
        units = (count - head) // at_once
        for k in range(lane, head, team):
            v = entry_at(op, load(p + k * stride), m, r, slope, flat, nothing)
            write(t, q + k * q_stride, entry if k == y else v)
        for k in range(lane, units, team):
            first = head + k * at_once
            here, there = p + first * width, q + first * width
            emit_unit(op, here, there, m, r, slope, flat, nothing, entry, y - first)
        for k in range(head + at_once * units + lane, count, team):
            v = entry_at(op, load(p + k * stride), m, r, slope, flat, nothing)
            write(t, q + k * q_stride, entry if k == y else v)

    @kernel
    def merge_pieces(t):
        """Statistics of rows from those of their pieces, in order; over the first ones'."""
        quiet()
        step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
        first = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)
        for row in range(first, t[ROWS], step):
            place = t[STATS] + row * (8 * wide)
            m, s, n = load_wide(place), load_wide(place + wide), load_wide(place + 2 * wide)
            weight, weight_low = load_wide(place + 3 * wide), load_wide(place + 4 * wide)
            gap, gap_low = load_wide(place + 5 * wide), load_wide(place + 6 * wide)
            nonzero = load_wide(place + 7 * wide)
            for piece in range(1, t[PIECES]):
                q = place + piece * t[ROWS] * (8 * wide)
                m, s, n, weight, weight_low, gap, gap_low, nonzero = merge(
                    m, s, n, weight, weight_low, gap, gap_low, nonzero,
                    load_wide(q), load_wide(q + wide), load_wide(q + 2 * wide),
                    load_wide(q + 3 * wide), load_wide(q + 4 * wide), load_wide(q + 5 * wide),
                    load_wide(q + 6 * wide), load_wide(q + 7 * wide),
                )  # fmt: skip
            put(place, m)
            put(place + wide, s)
            put(place + 2 * wide, n)
            put(place + 3 * wide, weight)
            put(place + 4 * wide, weight_low)
            put(place + 5 * wide, gap)
            put(place + 6 * wide, gap_low)
            put(place + 7 * wide, nonzero)

    return SimpleNamespace(plain=build(True), general=build(False), merge=merge_pieces)


KERNELS = {kind: _make(kind) for kind in ("float16", "bfloat16", "float32", "float64")}
