"""Entries that stand by themselves: sigmoid, log_sigmoid and binary cross entropy.

With t = exp(-|x|) <= 1: log(1 + exp(|x|)) = |x| + log1p(t) and log(1 + exp(-|x|)) = log1p(t);
the sigmoids of |x| and -|x| are 1 / (1 + t) and t / (1 + t). All terms have one sign, so
nothing cancels that is not opposite by nature, and t is the only exponential.
"""

import numpy as np
from numba import cuda, float32, float64

from ._language import (
    BFLOAT,
    DOUBLE,
    F32,
    F64,
    HALF,
    SINGLE,
    U16,
    WARP,
    function,
    get,
    get4,
    kernel,
    narrow_bfloat,
    narrow_half,
    put,
    put4,
    quiet,
    widen_bfloat,
    widen_half,
    xor,
)  # fmt: skip
from ._math import DOUBLES, SINGLES

SIGMOID, LOG_SIGMOID, LOGITS, PROBS = range(4)

#: The integers of a call. An array has an address (0: absent), strides in bytes and a kind.
(
    OP, COUNT, INNER, WIDE,
    X, X_OUTER, X_INNER,
    GRAD, GRAD_OUTER, GRAD_INNER,
    Z, Z_OUTER, Z_INNER, Z_KIND,
    U, U_OUTER, U_INNER, U_KIND,
    G, G_OUTER, G_INNER, G_KIND,
    PW, PW_OUTER, PW_INNER, PW_KIND,
    LOSS, LOSS_OUTER, LOSS_INNER,
    LABELS, LABELS_OUTER, LABELS_INNER,
    SUMS,
) = range(33)  # fmt: skip
INTEGERS = 33

#: Its reals: 1 - e and e/2, the scale, and that of the gradient to the labels.
KEEP, HALF_E, SCALE, LABELS_SCALE = range(4)
REALS = 4

BLOCK = 2 * WARP if WARP < 32 else 256
WARPS = BLOCK // WARP

#: Blocks of a launch, at most: the partial sums depend on the shape only.
GRID = 4 if WARP < 32 else 1024


def _make(kind, wide_labels):
    """The kernel for entries of a kind; labels that float32 cannot hold take a few doubles."""
    math = DOUBLES if kind == "float64" else SINGLES
    real, zero, one, two = math.real, math.zero, math.one, math.two
    exp_small, exp_parts, lift, log_of, log1p = (
        math.exp_small, math.exp_parts, math.lift, math.log, math.log1p,
    )  # fmt: skip
    element, log_sum, two_sum = math.element, math.log_sum, math.two_sum
    double = DOUBLES.element
    width = 8 if kind == "float64" else 4 if kind == "float32" else 2
    wide = 8 if kind == "float64" else 4
    group = min(16, 4 * width)
    own = {"float64": DOUBLE, "float32": SINGLE, "float16": HALF, "bfloat16": BFLOAT}[kind]
    numba_real = float64 if kind == "float64" else float32
    infinity, nan = real(np.inf), real(np.nan)
    quarter, three_quarters, far = real(0.25), real(0.75), real(40)

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

    @function
    def write(t, p, v):
        if width == wide:
            put(p, real(v))
        elif t[WIDE] != 0:
            put(p, v)
        else:
            put(p, narrow(v))

    @function
    def weigh(w, a):
        """A weight times a number, where 0 times anything is 0."""
        return zero if a == zero or w == zero else w * a

    @function
    def activation(op, x):
        t = exp_small(x if x < zero else -x)
        if op == SIGMOID:
            q = one / (one + t)
            return t * q if x < zero else q
        return (x if x < zero else zero) - log1p(t)

    @function
    def cost(x, a, b):
        """The loss a log(1 + exp(x)) + b log(1 + exp(-x)) and its derivative."""
        negative = x < zero
        large = b if negative else a
        small = a if negative else b
        size = -x if negative else x
        t = exp_small(-size)
        log = log1p(t)
        up = large * (size + log)
        down = small * log
        if size > far:  # a large coefficient meets the exponential before that underflows
            p, n = exp_parts(-size)
            down = lift(small * p, n)
        loss = (zero if large == zero else up) + (zero if small == zero else down)
        q = one / (t + one)
        up = zero if large == zero else large * q
        down = zero if small == zero else small * (t * q)
        return loss, down - up if negative else up - down

    @function
    def cost_of_probs(p, a, b):
        """The loss -(a log(1 - p) + b log(p)) and its derivative; NaN outside [0, 1]."""
        v = p if p > zero and p <= one else (zero if p == zero else nan)  # -0.0 is 0
        rest = one - v
        up = -a * (-infinity if v == one else log_sum(rest, (one - rest) - v))
        down = -b * log_of(v)
        loss = (zero if a == zero else up) + (zero if b == zero else down)
        slope = (zero if a == zero else a / rest) - (zero if b == zero else b / v)
        return loss, slope

    @function
    def label_slope(op, x, pw):
        """The derivative of the loss with respect to the (smoothed) label."""
        if op == PROBS:
            v = x if x > zero and x <= one else (zero if x == zero else nan)
            if v > quarter and v < three_quarters:
                s = (one - two * v) / v
                u = one + s
                return log_sum(u, s - (u - one))
            rest = one - v
            log_rest = -infinity if v == one else log_sum(rest, (one - rest) - v)
            return log_rest - log_of(v)
        t = exp_small(x if x < zero else -x)
        linear = weigh(pw, x) if x < zero else x
        return -linear - weigh(one - pw, log1p(t))

    @function
    def entry(t, f, x, z, o, i):
        """Loss and gradient of one entry; writes what else is asked for."""
        op = t[OP]
        if wide_labels:
            zd = double(t[Z] + o * t[Z_OUTER] + i * t[Z_INNER], t[Z_KIND])
            keep, half = np.float64(f[KEEP]), np.float64(f[HALF_E])
            a, b = real((1.0 - zd) * keep + half), real(zd * keep + half)
        elif f[KEEP] == one:
            a, b = one - z, z
        else:
            a, b = (one - z) * f[KEEP] + f[HALF_E], z * f[KEEP] + f[HALF_E]
        if f[KEEP] == zero:  # whatever the labels
            a, b = f[HALF_E], f[HALF_E]
        pw, u, g = one, one, one
        if t[PW] != 0:
            pw = element(t[PW] + o * t[PW_OUTER] + i * t[PW_INNER], t[PW_KIND])
            b = weigh(pw, b)
        if t[U] != 0:
            u = element(t[U] + o * t[U_OUTER] + i * t[U_INNER], t[U_KIND])
            a, b = weigh(u, a), weigh(u, b)
        if t[G] != 0:
            g = element(t[G] + o * t[G_OUTER] + i * t[G_INNER], t[G_KIND])
        if op == PROBS:
            loss, slope = cost_of_probs(x, a, b)
        else:
            loss, slope = cost(x, a, b)
        flat = g == zero or f[SCALE] == zero or (a == zero and b == zero)
        slope = zero if flat else (slope * f[SCALE]) * g
        if t[LABELS] != 0:
            by = weigh(g, weigh(u, f[LABELS_SCALE]))
            by = zero if by == zero else by * label_slope(op, x, pw)
            write(t, t[LABELS] + o * t[LABELS_OUTER] + i * t[LABELS_INNER], by)
        return loss, slope

    @function
    def label(t, o, i):
        if wide_labels:
            return zero
        return element(t[Z] + o * t[Z_OUTER] + i * t[Z_INNER], t[Z_KIND])

    @kernel
    def entries(t, f):
        quiet()
        thread = np.int64(cuda.threadIdx.x)
        first = np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + thread
        step = np.int64(cuda.gridDim.x) * np.int64(cuda.blockDim.x)
        op, inner = t[OP], t[INNER]
        per_row = (inner + 3) >> 2
        fours = per_row * (t[COUNT] // inner)
        total, total_low = zero, zero
        alike = (
            t[X_INNER] == width and (t[X] | t[X_OUTER]) & (group - 1) == 0
            and (t[GRAD] == 0 or (
                t[GRAD_INNER] == width and (t[GRAD] | t[GRAD_OUTER]) & (group - 1) == 0
                and (width == wide or t[WIDE] == 0)
            ))
        )  # fmt: skip
        labels_alike = (
            not wide_labels and t[Z_KIND] == own and t[Z_INNER] == width
            and (t[Z] | t[Z_OUTER]) & (group - 1) == 0
        )  # fmt: skip
        losses_alike = t[LOSS_INNER] == wide and (t[LOSS] | t[LOSS_OUTER]) & 15 == 0
        for number in range(first, fours, step):
            o, i = np.int64(0), number * 4
            if per_row < fours:
                o = number // per_row
                i = (number - o * per_row) * 4
            p = t[X] + o * t[X_OUTER] + i * t[X_INNER]
            q = t[GRAD] + o * t[GRAD_OUTER] + i * t[GRAD_INNER]
            if alike and i + 4 <= inner:
                a, b, c, d = load4(p)
                if op < LOGITS:
                    a, b = activation(op, a), activation(op, b)
                    c, d = activation(op, c), activation(op, d)
                else:
                    if labels_alike:
                        za, zb, zc, zd = load4(t[Z] + o * t[Z_OUTER] + i * t[Z_INNER])
                    else:
                        za, zb = label(t, o, i), label(t, o, i + 1)
                        zc, zd = label(t, o, i + 2), label(t, o, i + 3)
                    la, a = entry(t, f, a, za, o, i)
                    lb, b = entry(t, f, b, zb, o, i + 1)
                    lc, c = entry(t, f, c, zc, o, i + 2)
                    ld, d = entry(t, f, d, zd, o, i + 3)
                    r = t[LOSS] + o * t[LOSS_OUTER] + i * t[LOSS_INNER]
                    if t[LOSS] != 0 and losses_alike:
                        put4(r, la, lb, lc, ld)
                    elif t[LOSS] != 0:
                        put(r, la)
                        put(r + t[LOSS_INNER], lb)
                        put(r + 2 * t[LOSS_INNER], lc)
                        put(r + 3 * t[LOSS_INNER], ld)
                    if t[SUMS] != 0:
                        total, low = two_sum(total, (la + lb) + (lc + ld))
                        total_low += low
                if t[GRAD] != 0:
                    put4(q, narrow(a), narrow(b), narrow(c), narrow(d))
                continue
            for j in range(i, min(i + 4, inner)):
                x = load(p)
                if op < LOGITS:
                    v = activation(op, x)
                else:
                    loss, v = entry(t, f, x, label(t, o, j), o, j)
                    if t[LOSS] != 0:
                        put(t[LOSS] + o * t[LOSS_OUTER] + j * t[LOSS_INNER], loss)
                    if t[SUMS] != 0:
                        total, low = two_sum(total, loss)
                        total_low += low
                if t[GRAD] != 0:
                    write(t, q, v)
                p += t[X_INNER]
                q += t[GRAD_INNER]
        if t[SUMS] == 0:
            return
        # The block's sum, as a pair, in a fixed order.
        total_low = total_low if total_low - total_low == zero else zero
        k = 1
        while k < WARP:
            total, low = two_sum(total, xor(total, k))
            total_low += xor(total_low, k)
            total_low += low if low - low == zero else zero
            k <<= 1
        box = cuda.shared.array((WARPS, 2), numba_real)
        if thread % WARP == 0:
            box[thread // WARP, 0] = total
            box[thread // WARP, 1] = total_low
        cuda.syncthreads()
        if thread == 0:
            for j in range(1, WARPS):
                total, low = two_sum(total, box[j, 0])
                total_low += box[j, 1] + (low if low - low == zero else zero)
            place = t[SUMS] + np.int64(cuda.blockIdx.x) * (2 * wide)
            put(place, total)
            put(place + wide, total_low)

    return entries


KERNELS = {
    (kind, wide): _make(kind, wide)
    for kind in ("float16", "bfloat16", "float32", "float64")
    for wide in (False, True)
    if not (wide and kind == "float64")
}
