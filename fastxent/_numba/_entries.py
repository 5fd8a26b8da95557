"""Entries that stand by themselves: sigmoid, log_sigmoid and binary cross entropy.

With t = exp(-|x|) <= 1: log(1 + exp(|x|)) = |x| + log1p(t) and log(1 + exp(-|x|)) = log1p(t);
the sigmoids of |x| and -|x| are 1 / (1 + t) and t / (1 + t).  All terms have one sign, so
nothing cancels that is not opposite by nature, and t is the only exponential.
"""

import numpy as np

from ._cache import cached
from ._kernels import (
    F64,
    LANES,
    bind,
    close,
    curve_of_exp,
    entry,
    function,
    inline,
    log1p64,
    log_sum,
    lowest,
    nearest,
    reals,
    remainder,
    scale_of,
    tail_of_exp,
    unbias,
    write_reals,
)
from ._table import (
    BFLOAT,
    BY_INNER,
    BY_OUTER,
    DATA,
    GRAD,
    INNER,
    KIND,
    LOG_SIGMOID,
    LOSS,
    OP,
    PROBS,
    SCALE,
    SIGMOID,
    SINGLE,
    STREAM,
    SWAPPED,
    TABLE_BYTES,
    TOTAL,
    E,
    G,
    U,
    W,
    X,
    Y,
    field,
    has,
    native,
    number,
    view,
    width,
    zero_of,
)  # fmt: skip
from ._vectors import (
    apart,
    bits,
    cast,
    copy,
    fma,
    inverse,
    is_single,
    lanes_below,
    load,
    load_first,
    magnitude,
    pick,
    prefetch,
    prefetch_to_write,
    real,
    scaled,
    scratch,
    splat,
    store,
    total,
    where,
    wide,
)

SPAN = 512  # entries worked on at once: a dozen arrays of them stay in L1 or near
SPAN_BYTES = 8 * (SPAN + LANES)  # conversions write whole groups
AHEAD = 8192  # bytes from an entry to what is fetched meanwhile
AHEAD_TO_WRITE = 1024


@function
def gather(t, array, inner, first, n, buf, like):
    """The address of entries first to first + n, in whole groups; 0 beyond n."""
    apart()
    size = width(like)
    outer, step = view(t, array, BY_OUTER), view(t, array, BY_INNER)
    row, col = first // inner, first % inner
    if outer == inner * step:  # rows follow each other
        inner, row, col = first + n, np.int64(0), first
    done = np.int64(0)
    p, kind = view(t, array, DATA), view(t, array, KIND)
    while done < n:
        some = min(n - done, inner - col)
        to = buf + done * size
        # Conversions write whole groups, each over the rest of the one before.
        found = reals(p + row * outer + col * step, kind, step, some, to, like)
        if found != to:
            if some == n and n % LANES == 0:
                return found
            copy(to, found, some * size)
        done += some
        row += 1
        col = 0
    if n % LANES:
        k = n - n % LANES
        store(buf + k * size, where(lanes_below(n - k), load(buf + k * size, like), zero_of(like)))
    return buf


@function
def scatter(t, array, inner, first, n, buf, past, like):
    """Write entries first to first + n."""
    apart()
    size = width(like)
    outer, step = view(t, array, BY_OUTER), view(t, array, BY_INNER)
    row, col = first // inner, first % inner
    if outer == inner * step:
        inner, row, col = first + n, np.int64(0), first
    done = np.int64(0)
    p, kind = view(t, array, DATA), view(t, array, KIND)
    while done < n:
        some = min(n - done, inner - col)
        place = p + row * outer + col * step
        write_reals(place, kind, step, some, buf + done * size, past, like)
        done += some
        row += 1
        col = 0


@inline
def log1p_by(t, like):
    """log(1 + t) / t for floats 0 <= t <= 1, a minimax polynomial (relative error 4.7e-9)."""
    p = fma(t, pick(like, -0.0032440246083, 0.0), pick(like, 0.0198514598155, 0.0))
    p = fma(p, t, pick(like, -0.0569595295249, 0.0))
    p = fma(p, t, pick(like, 0.106036544123, 0.0))
    p = fma(p, t, pick(like, -0.153055923012, 0.0))
    p = fma(p, t, pick(like, 0.196759391696, 0.0))
    p = fma(p, t, pick(like, -0.249541336413, 0.0))
    p = fma(p, t, pick(like, 0.333299624158, 0.0))
    p = fma(p, t, pick(like, -0.499999024228, 0.0))
    return fma(p, t, pick(like, 0.999999995287, 0.0))


@inline
def log1p_small(t, like):
    """log(1 + t) for 0 <= t <= 1."""
    if is_single(like):
        return log1p_by(t, like) * t
    return cast(log1p64(cast(t, F64)), like)


@inline
def decay(x, like):
    """exp(-|x|), subnormal or 0 where it is; as p 2^n too, with n in units of the exponent."""
    far = -magnitude(x)
    least = pick(like, -300.0, -2000.0)
    far = where(far < least, least, far)
    magic = pick(like, 12582912.0, 6755399441055744.0)
    b = fma(far, pick(like, 1.44269504088896340736, 1.44269504088896340736), magic)
    # No multiple of a power of two above the last place is lost in this sum.
    biased = b + pick(like, 127.0 + 64, 1023.0 + 256)
    p = tail_of_exp(remainder(far, b - magic, True, like), like) + 1.0
    t = (p * scale_of(biased, like)) * pick(like, unbias(like), unbias(like))
    n = bits(b) - bits(splat(magic))
    return where(far < lowest(like, True), zero_of(like), t), p, n


@inline
def power(n, like):
    return real((n + (127 if is_single(like) else 1023)) << (23 if is_single(like) else 52))


@inline
def lift(v, n, like):
    """v 2^n, rounded once; in four steps, since 2^n itself may be out of range."""
    q = n >> 2
    s = power(q, like)
    return v * s * s * s * power(n - q * 3, like)


@inline
def cost(x, a, b, scale, both, slopes, like):
    """Losses a log(1 + exp(x)) + b log(1 + exp(-x)), and their derivatives times scale if wanted.

    Without both, a is 1 - b.  A term whose coefficient is 0 is absent.
    """
    zero, one = zero_of(like), pick(like, 1.0, 1.0)
    negative = x < 0
    large, small = where(negative, b, a), where(negative, a, b)
    size = magnitude(x)
    slope = splat(zero)
    if wide(x) and is_single(like):
        # So far a coefficient may make up for what underflows.
        far = where(size > 200, pick(like, -1000.0, 0.0), -size)
        n = nearest(far, like)
        r = remainder(far, n, True, like)
        p = fma(fma(curve_of_exp(r, one, like), r, one), r, one)
        t = scaled(p, n)
        q = log1p_by(t, like)
        if both:
            # A large coefficient meets the exponential before that underflows.
            losses = where(large == 0, zero, large * (size + q * t))
            losses = where(small == 0, losses, losses + scaled((small * p) * q, n))
        else:  # their sum is 1
            losses = q * t
            losses = where(large == 0, losses, fma(large, size, losses))
    else:
        t, p, k = decay(x, like)
        log = log1p_small(t, like)
        up = large * (size + log)
        down = small * log
        if both:
            down = where(size > 40, lift(small * p, k, like), down)
        losses = where(large == 0, zero, up) + where(small == 0, zero, down)
    if slopes:
        q = inverse(t + one)
        up = where(large == 0, zero, large * q)
        down = where(small == 0, zero, small * (t * q))
        slope = where(negative, down - up, up - down) * scale
    return losses, slope


@inline
def cost_of_probs(p, a, b, scale):
    """Losses -(a log(1 - p) + b log(p)) and their derivatives times scale; NaN outside [0, 1]."""
    v = where((p > 0) & (p <= 1), p, where(p == 0, 0.0, np.nan))  # -0.0 is 0
    rest = 1.0 - v  # not -(v - 1.0), which is -0 at 1
    log = where(v == 1, -np.inf, log_sum(rest, (1.0 - rest) - v))
    up = -a * log
    subnormal = v < 2.2250738585072014e-308
    log = log_sum(where(subnormal, v * 18014398509481984.0, v), 0.0)  # 2^54
    log = log - where(subnormal, 37.429947750237048, 0.0)
    down = -b * where(v == 0, -np.inf, log)
    losses = where(a == 0, 0.0, up) + where(b == 0, 0.0, down)
    up, down = where(a == 0, 0.0, a / rest), where(b == 0, 0.0, b / v)
    return losses, (up - down) * scale


@inline
def weigh(p, k, a, like):
    """Weights times a group, where 0 times anything is 0."""
    w = load(p + k * width(like), like)
    return where((a == 0) | (w == 0), zero_of(like), w * a)


@inline
def smooth(z, e):
    """1 - z' and z', z' = (1-e) z + e/2."""
    keep = 1.0 - e
    half = splat(0.5 * e)
    if keep == 0:
        return half, half
    return (1.0 - z) * keep + half, z * keep + half


@inline
def sum_of_losses(p, n, like):
    """The sum of losses; one in the loop that computes them would take all its registers."""
    result = splat(0.0)
    for k in range(0, n - n % LANES, LANES):
        result = result + cast(load(p + k * width(like), like), F64)
    k = n % LANES
    if k:
        result = result + cast(load_first(p + (n - k) * width(like), k, zero_of(like)), F64)
    return total(result)


@inline
def put_slopes(p, v, size):
    for j in range(size):
        prefetch_to_write(p + AHEAD_TO_WRITE + 64 * j)
    store(p, v)


@function
def span(t, first, n, like):
    """Some entries, at most SPAN; the sum of their losses."""
    apart()
    size = width(like)
    op, inner = field(t, OP), field(t, INNER)
    emit = has(t, GRAD)
    past = field(t, STREAM) != 0
    zero = zero_of(like)
    x = gather(t, X, inner, first, n, scratch(SPAN_BYTES), like)
    slopes, losses = scratch(SPAN_BYTES), scratch(SPAN_BYTES)
    # Written in place where nothing is to be converted: through a buffer it takes a copy more.
    straight = (
        emit
        and not past
        and n % LANES == 0
        and view(t, GRAD, KIND) == native(like)
        and view(t, GRAD, BY_INNER) == size
        and view(t, GRAD, BY_OUTER) == inner * size
    )
    if straight:
        slopes = view(t, GRAD, DATA) + first * size
    if op in (SIGMOID, LOG_SIGMOID):
        for k in range(0, n, LANES):
            v = load(x + k * size, like)
            for j in range(size):
                prefetch(x + k * size + AHEAD + 64 * j)
            s, _, _ = decay(v, like)
            if op == SIGMOID:
                q = inverse(s + pick(like, 1.0, 1.0))
                s = where(v < 0, s * q, q)
            else:
                s = where(v < 0, v, zero) - log1p_small(s, like)
            put_slopes(slopes + k * size, s, size)
        if not straight:
            scatter(t, GRAD, inner, first, n, slopes, past, like)
        return 0.0

    e, scale = number(t, E), cast(number(t, SCALE), like)
    kind = view(t, Y, KIND) & (SWAPPED - 1)
    # Labels that a float32 cannot hold: 1 - z' and z' are rounded from float64 each.
    narrow = is_single(like) and (kind <= BFLOAT or kind == SINGLE)
    z = zs = np.int64(0)
    if narrow:
        z = gather(t, Y, inner, first, n, scratch(SPAN_BYTES), like)
    else:
        zs = gather(t, Y, inner, first, n, scratch(SPAN_BYTES), F64)
    pw = us = gs = np.int64(0)
    if has(t, W):
        pw = gather(t, W, inner, first, n, scratch(SPAN_BYTES), like)
    if has(t, U):
        us = gather(t, U, inner, first, n, scratch(SPAN_BYTES), like)
    if has(t, G) and emit:
        gs = gather(t, G, inner, first, n, scratch(SPAN_BYTES), like)
    plain = narrow and e == 0
    both = not plain or pw != 0 or us != 0
    for k in range(0, n, LANES):
        v = load(x + k * size, like)
        for j in range(size):
            prefetch(x + k * size + AHEAD + 64 * j)
        if plain:
            for j in range(size):
                prefetch(z + k * size + AHEAD + 64 * j)
            b = load(z + k * size, like)
            a = pick(like, 1.0, 1.0) - b
        else:
            wide = load(zs + 8 * k, F64) if zs != 0 else cast(load(z + k * size, like), F64)
            wide_a, wide_b = smooth(wide, e)
            a, b = cast(wide_a, like), cast(wide_b, like)
        if pw != 0:
            b = weigh(pw, k, b, like)
        if us != 0:
            a, b = weigh(us, k, a, like), weigh(us, k, b, like)
        if op == PROBS:
            found = cost_of_probs(cast(v, F64), cast(a, F64), cast(b, F64), np.float64(scale))
            loss, slope = cast(found[0], like), cast(found[1], like)
        else:
            loss, slope = cost(v, a, b, scale, both, emit, like)
        store(losses + k * size, loss)
        if not emit:
            continue
        if gs != 0:
            slope = weigh(gs, k, slope, like)
            slope = where(load(gs + k * size, like) == 0, zero, slope)
        if scale == 0:
            slope = splat(zero)
        if both:  # absent comes before NaN
            slope = where((a == 0) & (b == 0), zero, slope)
        put_slopes(slopes + k * size, slope, size)
    if has(t, LOSS):
        scatter(t, LOSS, inner, first, n, losses, False, like)
    if emit and not straight:
        scatter(t, GRAD, inner, first, n, slopes, past, like)
    return sum_of_losses(losses, n, like) if has(t, TOTAL) else 0.0


@cached
@entry
def run_entries(task, e, z, scale, first, stop, block, room, offset, size, like):
    """Some entries."""
    t = scratch(TABLE_BYTES)
    bind(t, task, e, z, scale)
    result = 0.0
    for k in range(first, stop, SPAN):
        result += span(t, k, min(SPAN, stop - k), like)
    close(t, task, block, result)
