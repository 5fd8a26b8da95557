"""Elementary functions and pairs of numbers, once per precision.

Nothing approximate and nothing wider: every operation is an IEEE one of the precision
itself, so that the arithmetic is the same on any GPU, and in the simulator. A pair holds a
number and what rounding it left.
"""

from types import SimpleNamespace

import numpy as np

from ._language import (
    BFLOAT,
    BOOL,
    DOUBLE,
    F32,
    F64,
    HALF,
    I8,
    I16,
    I32,
    I64,
    INT8,
    INT16,
    INT32,
    INT64,
    SINGLE,
    U8,
    U16,
    U32,
    U64,
    UINT8,
    UINT16,
    UINT32,
    fma,
    function,
    get,
    raised,
    scaled,
    widen_bfloat,
    widen_half,
    word,
)  # fmt: skip


def _make(real):
    single = real is np.float32
    zero, one, two, half = real(0), real(1), real(2), real(0.5)
    three, zeros, minus_infinity = real(3), zero, real(-np.inf)
    least = real(-300.0 if single else -2000.0)
    least_normal = real(np.finfo(real).tiny)
    lifting = real(2.0**24 if single else 2.0**54)
    lifted = real((24 if single else 54) * 0.69314718055994530942)

    # exp(x) = 2^n exp(r): adding this rounds x / ln 2 to an integer in the low bits.
    log2e = real(1.44269504088896340736)
    round32, round64 = 12582912.0, 6755399441055744.0
    bias = 64 if single else 256
    magic = real(round32 + 127 if single else round64 + 1023)
    magic_term = real(float(magic) + bias)
    unbias = real(2.0**-bias)
    lowest = real(-87.3 if single else -708.0)
    lowest_term = real(-130.0 if single else -880.0)
    minus_ln2 = real(-0.69314718055994530942 if single else -0.693147180369123816490)
    minus_ln2_low = real(1.904654323148236e-09 if single else -1.90821492927058770002e-10)

    if single:

        @function
        def remainder(x, n):
            """x - n ln 2; n times the error of float32's ln 2 is 0.02 units per unit of x."""
            return fma(n, minus_ln2, x)

        @function
        def remainder_far(x, n):
            """The same with an error that does not grow."""
            return fma(n, minus_ln2_low, fma(n, minus_ln2, x))

    else:

        @function
        def remainder(x, n):
            return fma(n, minus_ln2_low, fma(n, minus_ln2, x))

        remainder_far = remainder

    if single:
        coefficients = (
            0.00138144663088, 0.00836878030255, 0.0416683942321, 0.166665201088, 0.499999934123,
        )  # fmt: skip
        q0, q1, q2, q3, q4 = (real(c) for c in coefficients)

        @function
        def tail(r):
            """exp(r) - 1 for |r| <= ln(2)/2."""
            q = fma(r, q0, q1)
            q = fma(q, r, q2)
            q = fma(q, r, q3)
            q = fma(q, r, q4)
            return fma(q * r, r, r)

    else:
        coefficients = (
            2.499997286429089851e-8, 2.763037827860424467e-7, 2.755758731800244181e-6,
            0.00002480149276373791425, 0.0001984126950479256364, 0.001388888894392176027,
            0.008333333333495611326, 0.0416666666665291917, 0.1666666666666641025,
            0.5000000000000010721,
        )  # fmt: skip
        q0, q1, q2, q3, q4, q5, q6, q7, q8, q9 = (real(c) for c in coefficients)

        @function
        def tail(r):
            q = fma(r, q0, q1)
            q = fma(q, r, q2)
            q = fma(q, r, q3)
            q = fma(q, r, q4)
            q = fma(q, r, q5)
            q = fma(q, r, q6)
            q = fma(q, r, q7)
            q = fma(q, r, q8)
            q = fma(q, r, q9)
            return fma(q * r, r, r)

    @function
    def exp(x):
        """exp(x) for x <= 0, and 0 where it would be subnormal. NaN stays NaN."""
        b = fma(x, log2e, magic)
        r = remainder(x, b - magic)
        s = scaled(b)
        v = fma(s, tail(r), s)
        return zero if x < lowest else v

    @function
    def exp_term(x):
        """exp(x) times 2^BIAS for x <= 0: a term keeps its digits where exp(x) would lose them."""
        b = fma(x, log2e, magic_term)
        r = remainder(x, b - magic_term)
        s = scaled(b)
        v = fma(s, tail(r), s)
        return zero if x < lowest_term else v

    # log(u) = k ln 2 + log(1 + f), u = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2).
    shift = 23 if single else 52
    root = 0x3F3504F3 if single else 0x3FE6A09E667F3BCD
    offset = (0x3F800000 if single else 0x3FF0000000000000) - root
    low_bits = (1 << shift) - 1
    exponent_bias = 127 if single else 1023
    ln2 = real(0.693145751953125 if single else 0.693147180369123816490)
    ln2_low = real(1.42860682030941723212e-6 if single else 1.90821492927058770002e-10)
    c0, c1, c2, c3 = real(2 / 3), real(2 / 5), real(2 / 7), real(2 / 9)
    c4, c5, c6 = real(2 / 11), real(2 / 13), real(2 / 15)
    c7, c8, c9 = real(2 / 17), real(2 / 19), real(2 / 21)

    if single:

        @function
        def atanh_tail(w):
            p = fma(w, c3, c2)
            p = fma(p, w, c1)
            return fma(p, w, c0) * w

    else:

        @function
        def atanh_tail(w):
            p = fma(w, c9, c8)
            p = fma(p, w, c7)
            p = fma(p, w, c6)
            p = fma(p, w, c5)
            p = fma(p, w, c4)
            p = fma(p, w, c3)
            p = fma(p, w, c2)
            p = fma(p, w, c1)
            return fma(p, w, c0) * w

    @function
    def log_sum(u, c):
        """log(u + c) for normal u > 0 and a c that is rounding of it."""
        b = word(u) + offset
        k = real((b >> shift) - exponent_bias)
        f = raised((b & low_bits) + root, zeros) - one
        z = f / (f + two)
        h = f * half * f
        tail_ = atanh_tail(z * z)
        return k * ln2 + (f - (h - (z * (h + tail_) + (k * ln2_low + c / u))))

    rounder = real(round32 if single else round64)
    quarter = real(0.25)

    @function
    def exp_parts(x):
        """exp(x) = p 2^n for x <= 0, cut off where no finite number times it is left."""
        x = least if x < least else x
        b = fma(x, log2e, magic)
        n = b - magic
        return tail(remainder_far(x, n)) + one, n

    @function
    def lift(v, n):
        """v 2^n, rounded once; in four steps, since 2^n itself may be out of range."""
        q = (n * quarter + rounder) - rounder
        s = scaled(q + magic)
        return v * s * s * s * scaled(n - q * three + magic)

    @function
    def exp_small(x):
        """exp(x) for x <= 0, as exact where it is small, also where it is subnormal."""
        b = fma(x, log2e, magic_term)
        s = scaled(b)
        v = fma(s, tail(remainder_far(x, b - magic_term)), s)
        return zero if x < lowest_term else v * unbias

    @function
    def log(v):
        """log(v) for v >= 0."""
        small = v < least_normal
        result = log_sum(v * lifting if small else v, zero)
        result = result - lifted if small else result
        return minus_infinity if v == zero else result

    @function
    def log1p(s):
        """log(1 + s) for s >= 0."""
        u = s + one
        return log_sum(u, s - (u - one))

    @function
    def two_sum(a, b):
        """a + b, and what that rounds off."""
        s = a + b
        v = s - a
        return s, (a - (s - v)) + (b - v)

    @function
    def two_product(a, b):
        """a b, and what that rounds off."""
        p = a * b
        return p, fma(a, b, -p)

    @function
    def times(a, al, b, bl):
        """The product of two pairs."""
        p = a * b
        low = fma(a, b, -p) + (a * bl + al * b)
        # Infinite or overflowing: the low part would be NaN.
        return p, (low if low - low == zero else zero)

    @function
    def over(a, al, b, bl):
        """The quotient of two pairs, rounded once or nearly so."""
        q = a / b
        rest = (fma(-q, b, a) + (al - q * bl)) / b
        return q + rest if rest - rest == zero else q

    @function
    def element(p, kind):
        """The element at an address, whatever its kind."""
        if kind == SINGLE:
            return real(get(p, F32))
        if kind == DOUBLE:
            return real(get(p, F64))
        if kind == HALF:
            return real(widen_half(get(p, U16)))
        if kind == BFLOAT:
            return real(widen_bfloat(get(p, U16)))
        if kind == BOOL:
            return one if get(p, U8) != 0 else zero
        if kind == UINT8:
            return real(get(p, U8))
        if kind == INT8:
            return real(get(p, I8))
        if kind == INT16:
            return real(get(p, I16))
        if kind == UINT16:
            return real(get(p, U16))
        if kind == INT32:
            return real(get(p, I32))
        if kind == UINT32:
            return real(get(p, U32))
        if kind == INT64:
            return real(get(p, I64))
        return real(get(p, U64))

    return SimpleNamespace(**{k: v for k, v in locals().items() if not k.startswith("_")})


SINGLES = _make(np.float32)
DOUBLES = _make(np.float64)
