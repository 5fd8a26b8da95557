"""Exact results: the formulas as they stand, one term at a time, with digits to spare.

Nothing here is clever on purpose.  A row's loss is a sum of coefficients times
``lse - x_k``, its gradient ``a p_k - c_k``, written exactly so, in mpmath, with 50
digits more than the largest cancellation can eat.  The special values follow the table
of the documentation, case by case.  Nothing is imported from the library but the error
budgets, which are data.

An exact number is kept as a pair of doubles ``hi + lo``, so that errors are measured
with plain NumPy.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from mpmath import mp, mpf

INF = mpf("inf")
NAN = mpf("nan")

#: dtype name -> (bits of the significand, smallest normal exponent)
FORMATS = {
    "float16": (11, -14),
    "bfloat16": (8, -126),
    "float32": (24, -126),
    "float64": (53, -1022),
}


class Exact(NamedTuple):
    """An array of exact numbers as the unevaluated sum of two double arrays."""

    hi: np.ndarray
    lo: np.ndarray

    def reshape(self, *shape):
        return Exact(self.hi.reshape(*shape), self.lo.reshape(*shape))


class Loss(NamedTuple):
    """What one call must return, and what the error budgets need to know about it."""

    value: Exact
    grad: Exact
    labels_grad: Exact | None
    losses: Exact  # the losses before the reduction
    magnitude: np.ndarray  # per row: the sum of the absolute values of the loss's terms
    gap: np.ndarray  # per row: from the largest to the next logit, if the largest has label mass
    scale: np.ndarray  # per row: |coefficient of p| x largest probability; per entry: its terms
    denominator: float
    labels_scale: np.ndarray | None = None  # per entry: the terms of the gradient to its label
    pos_weight_grad: Exact | None = None
    pos_weight_scale: np.ndarray | None = None  # the sum of the absolute values of its terms


class Norm(NamedTuple):
    logsumexp: Exact
    softmax: Exact
    log_softmax: Exact
    maximum: np.ndarray
    top: np.ndarray  # largest probability of each row


class _Row(NamedTuple):
    """One row: ``state`` is "plain", "nan", "+inf", "-inf" (all of it) or "masked" (all of it)."""

    state: str
    digits: int
    maximum: float
    lse: mpf
    minus_log_p: tuple  # lse - x_k, for every class
    p: tuple


def _pair(v):
    hi = float(v)
    if not math.isfinite(hi):
        return hi, 0.0
    return hi, float(v - hi)


def _exact(values, shape):
    pairs = [_pair(v) for v in values]
    hi = np.array([a for a, _ in pairs], dtype=np.float64).reshape(shape)
    lo = np.array([b for _, b in pairs], dtype=np.float64).reshape(shape)
    return Exact(hi, lo)


@functools.lru_cache(maxsize=200_000)
def _row(x, mask):
    allowed = [k for k in range(len(x)) if mask is None or mask[k]]
    values = [x[k] for k in allowed]
    if not allowed:
        zeros = (mpf(0),) * len(x)
        return _Row("masked", 50, -math.inf, -INF, (INF,) * len(x), zeros)
    nans = (NAN,) * len(x)
    if any(math.isnan(v) for v in values):
        return _Row("nan", 50, math.nan, NAN, nans, nans)
    if math.inf in values:
        return _Row("+inf", 50, math.inf, INF, nans, nans)
    finite = [v for v in values if v != -math.inf]
    if not finite:
        return _Row("-inf", 50, -math.inf, -INF, nans, nans)
    digits = 55 + int(min(max(finite) - min(finite), 800.0) / 2.3)
    maximum = max(finite)
    with mp.workdps(digits):
        e = {k: mp.exp(mpf(x[k]) - maximum) for k in allowed if x[k] != -math.inf}
        total = mp.fsum(e.values())
        lse = maximum + mp.log(total)
        minus_log_p = tuple(lse - mpf(x[k]) if k in e else INF for k in range(len(x)))
        p = tuple(e[k] / total if k in e else mpf(0) for k in range(len(x)))
    return _Row("plain", digits, maximum, lse, minus_log_p, p)


def _rows(x, where):
    x = np.asarray(x)
    masks = [None] * len(x) if where is None else [tuple(bool(b) for b in row) for row in where]
    return [
        _row(tuple(row), mask)
        for row, mask in zip(x.astype(np.float64).tolist(), masks, strict=True)
    ]


def normalize(x, where=None):
    """logsumexp, softmax and log_softmax of the rows of a 2-d array."""
    rows = _rows(x, where)
    n, c = np.shape(x)
    with mp.workdps(60):
        lse = _exact([r.lse for r in rows], (n,))
    p, log_p = [], []
    for r in rows:
        with mp.workdps(r.digits):
            p += [_pair(v) for v in r.p]
            log_p += [_pair(-v) for v in r.minus_log_p]
    p, log_p = (np.array(a, dtype=np.float64).reshape(n, c, 2) for a in (p, log_p))
    return Norm(
        lse,
        Exact(p[..., 0], p[..., 1]),
        Exact(log_p[..., 0], log_p[..., 1]),
        np.array([r.maximum for r in rows]),
        p[..., 0].max(axis=1, initial=0.0),
    )


def _times(coefficient, value):
    """A product in which a coefficient of 0 makes the term absent, whatever it multiplies."""
    return mpf(0) if coefficient == 0 else coefficient * value


def _mass(weight, q):
    """Weight times label: both are coefficients."""
    return mpf(0) if weight == 0 or q == 0 else weight * q


def _coefficients(c, labels_row, index, w, e, allowed):
    """The coefficient of each ``lse - x_k``: label mass, and the row's share of the smoothing."""
    out = [mpf(0)] * c
    if e != 1:
        if index:
            out[labels_row] += (1 - mpf(e)) * w[labels_row]
        else:
            for k in range(c):
                out[k] += _mass((1 - mpf(e)) * w[k], mpf(labels_row[k]))
    if e != 0:
        for k in allowed:
            out[k] += mpf(e) * w[k] / len(allowed)
    return out


def cross_entropy(
    x,
    labels,
    *,
    sample_weight=None,
    class_weight=None,
    ignore_index=None,
    label_smoothing=0.0,
    z_loss=0.0,
    where=None,
    reduction="none",
    upstream=None,
):
    """Softmax cross entropy of the rows of ``x`` (N, C) with labels (N,) or (N, C).

    Every other array has its full shape here: ``sample_weight`` (N,), ``where`` (N, C).
    """
    x = np.asarray(x)
    n, c = x.shape
    index = np.ndim(labels) == 1
    y = [int(v) for v in labels] if index else np.asarray(labels).astype(np.float64).tolist()
    u = [mpf(1)] * n if sample_weight is None else [mpf(float(v)) for v in sample_weight]
    w = [mpf(1)] * c if class_weight is None else [mpf(float(v)) for v in class_weight]
    e, t = float(label_smoothing), mpf(float(z_loss))
    rows = _rows(x, where)
    ignored = [index and ignore_index is not None and y[i] == ignore_index for i in range(n)]
    counts = [not ignored[i] and u[i] != 0 for i in range(n)]

    with mp.workdps(60):
        if reduction in ("none", "sum"):
            denominator = mpf(1)
        elif reduction == "size_mean":
            denominator = mpf(n)
        elif reduction == "nonzero_mean":
            denominator = mpf(sum(counts))
        elif index:
            denominator = mp.fsum(u[i] * w[y[i]] for i in range(n) if counts[i])
        else:
            denominator = mp.fsum(u)
    if upstream is None:
        up = [mpf(1)] * n
    elif np.ndim(upstream) == 0:
        up = [mpf(float(upstream))] * n
    else:
        up = [mpf(float(v)) for v in upstream]

    losses, grad, labels_grad, magnitude, gap, scale = [], [], [], [], [], []
    for i, r in enumerate(rows):
        with mp.workdps(r.digits):
            result = _one(
                r,
                x[i],
                y[i],
                index,
                c,
                None if where is None else where[i],
                u[i],
                w,
                e,
                t,
                counts[i],
                up[i],
                denominator,
            )
            losses.append(result[0])
            grad += [_pair(v) for v in result[1]]
            labels_grad += [_pair(v) for v in result[2]]
            magnitude.append(result[3])
            gap.append(result[4])
            scale.append(result[5])
    with mp.workdps(500):
        total = mp.fsum(losses) if all(mp.isfinite(v) for v in losses) else sum(losses, mpf(0))
        if reduction == "none":
            value = _exact(losses, (n,))
        else:
            value = _exact([total / denominator if denominator != 0 else NAN], ())
        each = _exact(losses, (n,))
    grad, labels_grad = (
        np.array(a, dtype=np.float64).reshape(n, c, 2) for a in (grad, labels_grad)
    )
    return Loss(
        value,
        Exact(grad[..., 0], grad[..., 1]),
        None if index else Exact(labels_grad[..., 0], labels_grad[..., 1]),
        each,
        np.array([float(v) for v in magnitude]),
        np.array(gap),
        np.array([float(v) for v in scale]),
        float(denominator),
    )


def _one(r, x, y, index, c, mask, u, w, e, t, counts, upstream, denominator):
    """One row: loss, gradient, gradient to the labels, magnitude, gap, scale of the gradient."""
    zeros = [mpf(0)] * c
    nothing = (mpf(0), zeros, zeros, mpf(0), 0.0, mpf(0))
    if not counts:
        return nothing
    allowed = [k for k in range(c) if mask is None or mask[k]]
    q = _coefficients(c, y, index, w, e, allowed)
    flat = upstream == 0 or denominator == 0
    g = mpf(0) if flat else u * upstream / denominator

    if flat or index or r.state == "masked":
        to_labels = zeros
    else:
        to_labels = list(zeros)
        for k in allowed:
            to_labels[k] = _times(g * w[k] * (1 - mpf(e)), r.minus_log_p[k])

    if t == 0 and all(v == 0 for v in q):
        return (mpf(0), zeros, to_labels, mpf(0), 0.0, mpf(0))
    if r.state == "masked":
        return (INF, zeros, to_labels, INF, 0.0, mpf(0))
    if r.state != "plain" or any(mp.isnan(v) for v in (*q, u, t)):
        nans = [NAN if k in allowed else mpf(0) for k in range(c)]
        return (NAN, zeros if flat else nans, to_labels, NAN, 0.0, mpf(0))

    terms = [_times(q[k], r.minus_log_p[k]) for k in range(c)]
    z = _times(t, r.lse * r.lse)
    loss = u * (sum(terms, mpf(0)) + z)
    magnitude = abs(u) * (sum((abs(v) for v in terms), mpf(0)) + abs(z))
    a = sum(q, mpf(0)) + _times(2 * t, r.lse)
    grad = (
        zeros if flat else [g * (a * r.p[k] - q[k]) if k in allowed else mpf(0) for k in range(c)]
    )

    descending = sorted((float(x[k]) for k in allowed), reverse=True)
    best = [k for k in allowed if float(x[k]) == descending[0]]
    gap = 0.0
    if any(q[k] != 0 for k in best):
        gap = descending[0] - descending[1] if len(descending) > 1 else math.inf
    return loss, grad, to_labels, magnitude, gap, abs(g * a) * max(r.p)


# ---- the label's entry, and entries by themselves ----------------------------------------


def _denominator(reduction, u, counts, n):
    if reduction in ("none", "sum"):
        return mpf(1)
    if reduction == "size_mean":
        return mpf(n)
    return mpf(sum(counts)) if reduction == "nonzero_mean" else mp.fsum(u)


def _numbers(a, shape):
    """The numbers of an optional array, broadcast; 1 where there is none."""
    a = 1.0 if a is None else np.asarray(a).astype(np.float64)
    return np.broadcast_to(a, shape).ravel().tolist()


def _reduced(reduction, losses, denominator, shape):
    if reduction == "none":
        return _exact(losses, shape)
    total = mp.fsum(losses) if all(mp.isfinite(v) for v in losses) else sum(losses, mpf(0))
    return _exact([total / denominator if denominator != 0 else NAN], ())


def picked(
    x,
    labels,
    *,
    sample_weight=None,
    class_weight=None,
    ignore_index=None,
    reduction="none",
    upstream=None,
):
    """Minus the label's entry of the rows of ``x`` (N, C); other arrays as in cross_entropy."""
    n, c = np.shape(x)
    x = np.asarray(x).astype(np.float64).tolist()
    y = [int(v) for v in labels]
    u = [mpf(v) for v in _numbers(sample_weight, (n,))]
    w = [mpf(v) for v in _numbers(class_weight, (c,))]
    up = [mpf(v) for v in _numbers(upstream, (n,))]
    counts = [u[i] != 0 and y[i] != ignore_index for i in range(n)]
    losses, grad = [mpf(0)] * n, np.zeros((n, c, 2))
    with mp.workdps(80):
        mass = [u[i] * w[y[i]] if counts[i] else mpf(0) for i in range(n)]
        denominator = _denominator(reduction, mass, counts, n)
        for i in range(n):
            if mass[i] == 0:
                continue
            entry = mpf(x[i][y[i]])
            losses[i] = -mass[i] * entry
            if up[i] != 0 and denominator != 0:
                slope = NAN if mp.isnan(entry) else -mass[i] * up[i] / denominator
                grad[i, y[i]] = _pair(slope)
        value = _reduced(reduction, losses, denominator, (n,))
        each = _exact(losses, (n,))
    return Loss(
        value,
        Exact(grad[..., 0], grad[..., 1]),
        None,
        each,
        np.abs(each.hi),
        np.zeros(n),
        np.zeros(n),
        float(denominator),
    )


class _Entry(NamedTuple):
    """One score: what label 0 and label 1 cost there, and the slope of each cost."""

    digits: int
    cost_0: mpf
    cost_1: mpf
    slope_0: mpf
    slope_1: mpf


@functools.lru_cache(maxsize=500_000)
def _entry(kind, x):
    if kind == "probs":
        if not 0 <= x <= 1:
            return _Entry(60, NAN, NAN, NAN, NAN)
        digits = 60 - int(math.log10(x) if x else 0)
        with mp.workdps(digits):
            q, p = 1 - mpf(x), mpf(x)
            costs = [-mp.log(v) if v else INF for v in (q, p)]
            return _Entry(digits, *costs, 1 / q if q else INF, -1 / p if p else -INF)
    if math.isnan(x):
        return _Entry(60, NAN, NAN, NAN, NAN)
    if math.isinf(x):
        up = x > 0
        return _Entry(60, INF if up else mpf(0), mpf(0) if up else INF, mpf(up), mpf(up) - 1)
    digits = 60 + int(min(abs(x), 800.0) / 2.3)
    with mp.workdps(digits):
        to, fro = mp.exp(mpf(x)), mp.exp(-mpf(x))
        return _Entry(digits, mp.log(1 + to), mp.log(1 + fro), 1 / (1 + fro), -1 / (1 + to))


def activation(name, x):
    """sigmoid or log_sigmoid of every entry."""
    values = []
    for v in np.asarray(x).astype(np.float64).ravel().tolist():
        entry = _entry("logits", v)
        with mp.workdps(entry.digits):
            values.append(_pair(entry.slope_0 if name == "sigmoid" else -entry.cost_1))
    pairs = np.array(values, dtype=np.float64).reshape(*np.shape(x), 2)
    return Exact(pairs[..., 0], pairs[..., 1])


def binary(
    kind,
    x,
    labels,
    *,
    sample_weight=None,
    pos_weight=None,
    label_smoothing=0.0,
    reduction="none",
    upstream=None,
):
    """Binary cross entropy of every entry of ``x``: "logits" or "probs".

    Weights and ``upstream`` broadcast to ``x``.
    """
    shape, n = np.shape(x), np.size(x)
    with mp.workdps(60):
        e = mpf(float(label_smoothing))
        u = [mpf(v) for v in _numbers(sample_weight, shape)]
        counts = [v != 0 for v in u]
        denominator = _denominator(reduction, u, counts, n)
    scores, z, pw, up = (_numbers(a, shape) for a in (x, labels, pos_weight, upstream))
    losses, magnitude, scale, labels_scale = [], [], [], []
    grad, labels_grad, to_weight = [], [], []
    for i in range(n):
        entry = _entry(kind, scores[i])
        with mp.workdps(entry.digits):
            off = _times(1 - e, 1 - mpf(z[i])) + e / 2  # 1 - z', also where e = 1 and z is NaN
            on = _times(1 - e, mpf(z[i])) + e / 2
            weighted = _mass(mpf(pw[i]), on)
            terms = _times(off, entry.cost_0), _times(weighted, entry.cost_1)
            slopes = _times(off, entry.slope_0), _times(weighted, entry.slope_1)
            # Nothing of an absent entry is read, not even NaN.
            loss = _times(u[i], sum(terms))
            flat = not counts[i] or up[i] == 0 or denominator == 0
            g = mpf(0) if flat else u[i] * mpf(up[i]) / denominator
            rise = _times(mpf(pw[i]), entry.cost_1), -entry.cost_0
            losses.append(loss)
            magnitude.append(float(abs(u[i]) * sum(map(abs, terms))) if counts[i] else 0.0)
            size = slopes if kind == "probs" else (off, weighted)
            scale.append(float(abs(g) * sum(map(abs, size))) if not flat else 0.0)
            absent = off == 0 and weighted == 0
            grad.append(_pair(mpf(0) if absent else _times(g, sum(slopes))))
            labels_grad.append(_pair(_times(g * (1 - e), sum(rise))))
            labels_scale.append(float(abs(g) * sum(map(abs, rise))) if not flat else 0.0)
            to_weight.append(_times(_mass(g, on), entry.cost_1))
    with mp.workdps(500):
        value = _reduced(reduction, losses, denominator, shape)
        each = _exact(losses, shape)
        to_weight = np.array(to_weight, dtype=object).reshape(shape)
        target = (1,) * (len(shape) - np.ndim(pos_weight)) + np.shape(pos_weight)
        summed = tuple(k for k in range(len(shape)) if target[k] == 1)
        weight_shape = np.shape(pos_weight)
        weight_grad = _exact(np.ravel(to_weight.sum(axis=summed)), weight_shape)
        weight_scale = np.asarray(np.abs(to_weight).sum(axis=summed), float).reshape(weight_shape)
    grad, labels_grad = (
        np.array(a, dtype=np.float64).reshape(*shape, 2) for a in (grad, labels_grad)
    )
    return Loss(
        value,
        Exact(grad[..., 0], grad[..., 1]),
        Exact(labels_grad[..., 0], labels_grad[..., 1]),
        each,
        np.nan_to_num(magnitude, posinf=np.inf).reshape(shape),
        np.zeros(shape),
        np.nan_to_num(scale, posinf=np.inf).reshape(shape),
        float(denominator),
        np.nan_to_num(labels_scale, posinf=np.inf).reshape(shape),
        weight_grad,
        weight_scale,
    )


# ---- errors and budgets ----------------------------------------------------------------


def ulp(x, dtype):
    """The distance between neighbouring numbers of ``dtype`` at ``|x|``, as a double."""
    bits, low = FORMATS[dtype]
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    exponent = np.where(np.asarray(x) == 0, low, exponent - 1)
    return np.ldexp(1.0, np.maximum(exponent, low) - bits + 1)


def error(got, exact):
    """The absolute error, 0 where both are the same infinity or both NaN, else NaN -> inf."""
    got = np.asarray(got).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        e = np.abs((got - exact.hi) - exact.lo)
        same = (got == exact.hi) | (np.isnan(got) & np.isnan(exact.hi))
        e = np.where(same & ~np.isfinite(exact.hi), 0.0, e)
        e = np.where(~np.isfinite(got) & ~same, np.inf, e)
        return np.where(np.isnan(e), np.inf, e)


def error_ulp(got, exact, dtype):
    """The error in units in the last place of the exact value."""
    return error(got, exact) / ulp(exact.hi, dtype)


def computing(dtype):
    """The dtype in which a result is computed: half inputs are widened to float32."""
    return dtype if dtype in ("float32", "float64") else "float32"


def allowed(budget, exact, dtype, *, gap=0.0, scale=0.0, magnitude=None, out_dtype=None):
    """The largest error that ``budget`` allows at each entry.

    ``scale`` is what ``budget.floor_of`` names; ``magnitude`` replaces the exact value
    where terms of both signs cancel (negative weights, which the budget leaves out).
    """
    size = np.abs(exact.hi) if magnitude is None else np.maximum(np.abs(exact.hi), magnitude)
    wide = computing(dtype)
    units = budget.ulp + (np.minimum(gap, 1e6) if budget.per_gap else 0.0)
    limit = units * ulp(size, wide)
    if budget.floor_of.startswith("ulp of"):
        limit = np.maximum(limit, budget.ulp * ulp(np.abs(scale), wide))
    elif budget.floor_of:
        floor = budget.floor64 if wide == "float64" else budget.floor32
        limit = np.maximum(limit, floor * np.abs(scale))
    narrow = dtype if out_dtype is None else out_dtype
    if narrow != wide:  # rounded once from float32
        limit = limit + 0.5 * ulp(size + limit, narrow)
    return limit


def assert_within(got, exact, limit, what):
    """Fail with the worst entry if any error exceeds its limit."""
    got = np.asarray(got)
    assert got.shape == exact.hi.shape, f"{what}: shape {got.shape}, exact {exact.hi.shape}"
    e = error(got, exact)
    limit = np.broadcast_to(limit, e.shape)
    bad = ~(e <= limit)
    if bad.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(bad, np.where(limit > 0, e / limit, np.inf), 0)
        at = np.unravel_index(int(np.argmax(ratio)), e.shape)
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {e.size} entries off; worst at {tuple(map(int, at))}: "
            f"got {got[at]!r}, exact {exact.hi[at]!r}, error {e[at]:.3g}, allowed {limit[at]:.3g}"
        )
