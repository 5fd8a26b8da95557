"""The kernels in plain NumPy: the readable reference.

Everything is computed one precision up (float64 for float32 and half inputs, long double
for float64), a few thousand elements at a time.  ``x`` is
``(outer, C)`` or ``(outer, C, inner)``; what belongs to a row is ``(outer,)`` or
``(outer, inner)``; ``u`` is the sample weight, ``g`` the upstream gradient, ``scale`` the
reduction's factor.  Each kernel returns a job; ``job(first, stop, block)`` computes the
rows ``first <= row < stop`` and puts the sum of their losses into ``total[block]``; a
``room`` for intermediate results may be given, which this backend does not use.  In
``elements`` there are no rows: every entry stands by itself.  Logits of a dtype of kind
``V`` are bfloat16, by that name or raw, as 2-byte void.

A row's statistics, the columns of ``stats``, are all that its loss needs and can be
merged from pieces of the row: the maximum ``m``; ``rest = sum exp(x_k - m)`` over all
classes but one maximum; ``weight = sum c_k``, ``gap = sum c_k (m - x_k)`` and the number
of non-zero ``c_k``, where ``c`` are the coefficients of the classes in the loss (the
class weights of smoothed index labels, the weighted and smoothed dense labels).
With ``d = m - x`` and ``r = log1p(rest)``, ``lse - x_k = d_k + r``: both are >= 0 and
nothing cancels, however confident the row.  ``stats`` given in phase ``ALL`` are written
too; those of absent rows mean nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .._spec import FINISH, SCAN

#: Elements worked on at once; a dozen temporaries of this size stay below 1 MB, and two
#: dozen of half of it, which entries with all options take.
_ELEMENTS = 1 << 12

Array = np.ndarray[Any, Any]
Job = Callable[..., None]


class _Task(NamedTuple):
    kind: str
    x: Any
    mask: Any
    stats: Any
    phase: int
    begin: int
    end: int
    y: Any = None
    u: Any = None
    g: Any = None
    w: Any = None
    e: float = 0.0
    t: float = 0.0
    loss: Any = None
    total: Any = None
    grad: Any = None
    scale: float = 1.0
    ignore: int | None = None


def normalize(x, mask, kind, out, stats, phase, begin, end, stream) -> Job:
    """logsumexp (``out`` per row), softmax or log_softmax (``out`` like ``x``)."""
    outputs = {"loss" if kind == "logsumexp" else "grad": out}
    return _job(_Task(kind, x, mask, stats, phase, begin, end, **outputs))


def rows_index(
    x, y, mask, u, g, w, e, t, loss, total, grad, stats, scale, ignore, phase, begin, end, stream
) -> Job:
    """Softmax cross entropy with index labels ``y``."""
    return _job(
        _Task(
            "index", x, mask, stats, phase, begin, end, y, u, g, w, e, t, loss, total, grad, scale,
            ignore,
        )
    )  # fmt: skip


def rows_dense(
    x, q, mask, u, g, w, e, t, loss, total, grad, stats, scale, phase, begin, end, stream
) -> Job:
    """Softmax cross entropy with label distributions ``q``."""
    return _job(
        _Task(
            "dense", x, mask, stats, phase, begin, end, q, u, g, w, e, t, loss, total, grad, scale
        )
    )


def elements(x, z, u, g, pw, e, kind, loss, total, grad, scale, stream) -> Job:
    """Each entry by itself; all arrays are seen as (outer, n).

    ``kind`` is "sigmoid" or "log_sigmoid" of ``x`` into ``grad``; "logits", sigmoid cross
    entropy of logits ``x`` and labels ``z``; or "probs", cross entropy of probabilities
    ``x``. ``job(first, stop, block)`` counts entries, not rows.
    """

    def job(first: int, stop: int, block: int = 0, room: Array | None = None) -> None:
        sums = []
        for part in _spans(x.shape[1], first, stop):
            xs, zs, us, gs, pws = (None if a is None else a[part] for a in (x, z, u, g, pw))
            with np.errstate(all="ignore"):
                values, slopes = _entries(kind, xs, zs, us, gs, pws, e, scale)
                if grad is not None:
                    half = grad.dtype.itemsize == 2
                    grad[part] = slopes.astype(np.float32) if half else slopes
                if loss is not None:
                    loss[part] = values
                if total is not None:
                    sums.append(float(values.sum()))
        if total is not None:
            total[block] = sum(sums)

    return job


def _spans(n: int, first: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Entries first..stop of rows of n, as rectangles of a few thousand."""
    while first < stop:
        row, col = divmod(first, n)
        size = min(stop - first, _ELEMENTS // 2)
        rows = 1 if col else max(1, size // n)
        cols = min(n - col, size)
        yield slice(row, row + rows), slice(col, col + cols)
        first += rows * cols


def _entries(kind, x, z, u, g, pw, e, scale) -> tuple[Array, Array]:
    """Losses and gradients (or the function's values, twice) of some entries."""
    narrow = x.dtype.itemsize <= 4 and x.dtype.kind not in "biu"
    work = np.float64 if narrow else np.longdouble
    x = x.astype(work)
    if kind == "probs":
        x = np.where((x >= 0) & (x <= 1), np.abs(x), np.nan)  # 1 / -0.0 has the wrong sign
        cost_0, cost_1, slope_0, slope_1 = -np.log1p(-x), -np.log(x), 1 / (1 - x), 1 / x
    else:
        t = np.exp(-np.abs(x))
        cost_0, cost_1 = (np.maximum(v, 0) + np.log1p(t) for v in (x, -x))
        large, small = 1 / (1 + t), t / (1 + t)
        slope_0, slope_1 = np.where(x >= 0, (large, small), (small, large))
        if kind != "logits":
            value = slope_0 if kind == "sigmoid" else -cost_1
            return value, value
    z = z.astype(work)
    e = work(e)
    not_z = _product(1 - e, 1 - z) + e / 2
    z = _product(1 - e, z) + e / 2
    if pw is not None:
        pw = pw.astype(work)
        z = np.where((z == 0) | (pw == 0), 0.0, pw * z)
    u = np.ones(1, work) if u is None else u.astype(work)
    g = work(scale) if g is None else scale * g.astype(work)
    values = _product(u, _product(not_z, cost_0) + _product(z, cost_1))
    slopes = _product(not_z, slope_0) - _product(z, slope_1)
    flat = (u == 0) | (g == 0) | ((not_z == 0) & (z == 0))
    return values, np.where(flat, 0.0, g * u * slopes)


def _product(coefficient: Any, value: Any) -> Any:
    """A term; absent where its coefficient is 0."""
    return np.where(coefficient == 0, 0.0, coefficient * value)


#: Multiplications of one small product.  OpenBLAS keeps products up to this size on the calling
#: thread.  Larger ones wake its own threads, which took 4 ms in place of 0.1 where another
#: process had a core (2-core Granite Rapids); here our threads share out blocks of rows.
_SMALL = 1 << 18
_FEW = 8  # rows of a small product, at least: thinner ones are slow, and left to BLAS's threads
_TOGETHER = 8  # small products that are summed together


def sampled_logits(x, w, ids, turned, shift, shared, logits) -> Job:
    """Logits of labels and of sampled classes, whose vectors are the columns of ``turned``.

    Row ``i`` of ``x`` with the class vectors ``w[ids[i]]``, plus ``shift[i]``, and with those
    that all rows share, plus ``shared``: ``(rows, labels + sampled classes)``.  ``x`` and
    ``turned`` may be wider than what counts, and are 0 there.
    """
    (_, labels), features = ids.shape, w.shape[1]
    count = logits.shape[1] - labels

    def job(first: int, stop: int, block: int = 0, room: Array | None = None) -> None:
        rows = slice(first, stop)
        xs, true, others = x[rows], logits[rows, :labels], logits[rows, labels:]
        with np.errstate(all="ignore"):
            np.vecdot(xs[:, None, :features], w.take(ids[rows], axis=0), out=true)
            true += shift[rows]
            _small_products(xs[:, :features], turned[:, :count], others)
            others += shared

    return job


def sampled_gradients(x, w, ids, sampled, slopes, d_x, d_rows, sums, slope_sums) -> Job:
    """Gradients of vectors from the ``slopes``, those of the logits.

    ``d_rows`` are the gradients of the labels' class vectors, one after the other; those of
    the sampled classes are added up in ``sums[block]``, and their slopes in
    ``slope_sums[block]``.  ``x`` and ``sampled`` may be wider than what counts.
    """
    (_, labels), features = ids.shape, w.shape[1]

    def job(first: int, stop: int, block: int = 0, room: Array | None = None) -> None:
        rows = slice(first, stop)
        xs, true, others = x[rows, :features], slopes[rows, :labels], slopes[rows, labels:]
        with np.errstate(all="ignore"):
            into = d_rows[first * labels : stop * labels].reshape(*true.shape, features)
            np.multiply(true[:, :, None], xs[:, None], out=into)
            _small_products(others, sampled[:, :features], d_x[rows])
            for slope, own in zip(true.T, ids[rows].T):
                d_x[rows] += slope[:, None] * w.take(own, axis=0)
            _add_transposed_product(others, xs, sums[block, :, :features])
            if slope_sums is not None:
                slope_sums[block] += others.sum(axis=0, dtype=np.float64)

    return job


def _stack(a: Array, rows: int) -> Array:
    """All rows but the last few, as (n, rows, columns)."""
    n = len(a) // rows
    return a[: n * rows].reshape(n, rows, a.shape[1])


def _small_products(a: Array, b: Array, out: Array) -> None:
    """``out = a @ b``, a few rows of ``a`` at a time."""
    rows = _SMALL // max(1, b.size)
    done = 0
    if _FEW <= rows < len(a):
        np.matmul(_stack(a, rows), b, out=_stack(out, rows))
        done = len(a) // rows * rows
    if done < len(a):
        np.matmul(a[done:], b, out=out[done:])


def _add_transposed_product(a: Array, b: Array, out: Array) -> None:
    """``out += a.T @ b``, sums over a few rows at a time, added up in order."""
    rows = _SMALL // max(1, out.size)
    done = 0
    if _FEW <= rows < len(a):
        left, right = _stack(a, rows).transpose(0, 2, 1), _stack(b, rows)
        several = np.empty((min(_TOGETHER, len(left)), *out.shape), out.dtype)
        for k in range(0, len(left), _TOGETHER):
            some = several[: len(left) - k]
            np.matmul(left[k : k + _TOGETHER], right[k : k + _TOGETHER], out=some)
            out += np.add.reduce(some, axis=0)
        done = len(a) // rows * rows
    if done < len(a):
        out += a[done:].T @ b[done:]


def labels(y, u, w, ignore, num_classes: int) -> tuple[bool, float, int]:
    """Are all labels that count in range; the sum of their weights; their number."""
    counts = np.full(y.shape, True) if u is None else u != 0
    if ignore is not None:
        counts &= _signed(y) != ignore
    y = _signed(y)[counts]
    if ((y < 0) | (y >= num_classes)).any():
        return False, 0.0, 0
    weights = np.ones(y.shape) if u is None else u[counts].astype(np.float64)
    if w is not None:
        weights = weights * w[y].astype(np.float64)
    return True, float(weights.sum()), y.size


def _signed(y: Array) -> Array:
    # uint64 labels beyond 2^63 wrap to negative ones: out of range, whatever the classes.
    with np.errstate(all="ignore"):
        return y.astype(np.int64)


def merge(parts: Array) -> Array:
    """Statistics of rows, (..., 5), from those of their pieces, (pieces, ..., 5)."""
    top, rest, weight, gap, nonzero = np.moveaxis(parts, -1, 0)
    with np.errstate(all="ignore"):
        m = top.max(axis=0)
        empty = top == -np.inf
        # The first piece with the maximum leaves it out; the others count in full.
        holder = np.arange(len(parts)).reshape(-1, *[1] * m.ndim) == top.argmax(axis=0)
        below = top < m
        sums = (rest + ~(empty | holder)) * np.where(below, np.exp(top - m), 1.0)
        gap = gap + np.where(below & ~empty, weight * (m - top), 0.0)
        sums = [part.sum(axis=0) for part in (sums, weight, gap, nonzero)]
        return np.stack([m, *sums], axis=-1)


def _job(task: _Task) -> Job:
    def job(first: int, stop: int, block: int = 0, room: Array | None = None) -> None:
        with np.errstate(all="ignore"):
            sums = [_rows(task, rows) for rows in _blocks(task, first, stop)]
        if task.total is not None:
            task.total[block] = sum(sums)

    return job


def _blocks(task: _Task, first: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Cut rows first..stop into (outer,) or (outer, inner) indices of a few rows each."""
    step = max(1, _ELEMENTS // max(1, task.end - task.begin))
    if task.x.ndim == 2:
        for row in range(first, stop, step):
            yield (slice(row, min(row + step, stop)),)
        return
    inner = task.x.shape[2]
    while first < stop:
        o, i = divmod(first, inner)
        n = min(step, stop - first, inner - i)
        yield o, slice(i, i + n)
        first += n


def _classes(task: _Task) -> Iterator[slice]:
    for begin in range(task.begin, task.end, _ELEMENTS):
        yield slice(begin, min(begin + _ELEMENTS, task.end))


def widen(x: Array) -> Array:
    """Logits in a dtype that NumPy computes with: bfloat16 is the upper half of float32."""
    if x.dtype.kind != "V":
        return x
    return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _part(array: Array | None, rows: tuple[Any, ...], classes: slice) -> Any:
    """Some classes of some rows, as a view of shape (rows, classes)."""
    if array is None:
        return None
    return array[rows[0], classes] if len(rows) == 1 else array[rows[0], classes, rows[1]].T


def _work(task: _Task) -> Any:
    """The precision to compute in: one up, since ``a p - c`` cancels in a gradient."""
    narrow = task.x.dtype.itemsize <= 4 and task.x.dtype.kind not in "biu"
    return np.float64 if narrow else np.longdouble


def _logits(task: _Task, rows: tuple[Any, ...], classes: slice) -> Array:
    x = widen(_part(task.x, rows, classes)).astype(_work(task))
    mask = _part(task.mask, rows, classes)
    return x if mask is None else np.where(mask, x, -np.inf)


def _coefficients(task: _Task, rows: tuple[Any, ...], classes: slice, share: Array) -> Array:
    """The classes' coefficients in the loss: for index labels of its smoothing part."""
    mask = _part(task.mask, rows, classes)
    w = np.ones(1, _work(task)) if task.w is None else task.w[classes].astype(_work(task))
    if task.kind == "index":
        c = np.broadcast_to(w, (len(share), classes.stop - classes.start))
        return c if mask is None else np.where(mask, c, 0.0)
    q = _part(task.y, rows, classes).astype(_work(task))
    q = np.where(task.e == 1, 0.0, (1 - q.dtype.type(task.e)) * q)
    if task.e:
        q = q + (share[:, None] if mask is None else np.where(mask, share[:, None], 0.0))
    return np.where((q == 0) | (w == 0), 0.0, w * q)


def _scan(task: _Task, rows: tuple[Any, ...], share: Array) -> Array:
    stats = np.zeros((len(share), 5), _work(task))
    stats[:, 0] = -np.inf
    smooth = task.kind == "dense" or (task.kind == "index" and task.e != 0)
    for classes in _classes(task):
        x = _logits(task, rows, classes)
        m = np.fmax.reduce(x, axis=1, initial=-np.inf)
        d = np.where(m > -np.inf, m, 0.0)[:, None] - x
        top = (x == m[:, None]) & (m > -np.inf)[:, None]
        piece = np.zeros_like(stats)
        piece[:, 0] = m
        piece[:, 1] = np.where(top, 0.0, np.exp(-d)).sum(1) + np.maximum(top.sum(1) - 1, 0)
        if smooth:
            c = _coefficients(task, rows, classes, share)
            piece[:, 2] = c.sum(1)
            piece[:, 3] = np.where(c == 0, 0.0, c * d).sum(1)
            piece[:, 4] = (c != 0).sum(1)
        stats = merge(np.stack([stats, piece]))
    return stats


def _rows(task: _Task, rows: tuple[Any, ...]) -> float:
    """Scan, finish and emit a few rows; the sum of their losses."""
    whole = slice(0, task.x.shape[1])
    size = _part(task.x, rows, slice(0, 1)).shape[0]
    work = _work(task)
    u = np.ones(size, work) if task.u is None else task.u[rows].astype(work)
    absent = u == 0
    y = np.zeros(size, np.int64)
    if task.kind == "index":
        y = _signed(task.y[rows])
        if task.ignore is not None:
            absent |= y == task.ignore
        y = np.where(absent, 0, y)
    allowed = np.full(size, task.x.shape[1])
    if task.mask is not None:
        allowed = np.array([np.count_nonzero(row) for row in _part(task.mask, rows, whole)])
    share = np.where(allowed > 0, work(task.e) / np.maximum(allowed, 1), 0.0)

    if task.phase == FINISH:
        stats = task.stats[rows]
    else:
        stats = _scan(task, rows, share)
        if task.stats is not None:
            task.stats[rows] = stats
        if task.phase == SCAN:
            return 0.0
    m, rest, weight, gap, nonzero = stats.T
    r = np.log1p(rest)
    lse = m + r
    masked = allowed == 0
    broken = ~masked & np.isinf(m)  # an infinite maximum: no softmax
    base = np.where(m > -np.inf, m, 0.0)[:, None]

    if task.kind == "logsumexp":
        task.loss[rows] = lse
        return 0.0
    if task.kind in ("softmax", "log_softmax"):
        if task.grad is None:
            return 0.0
        nothing = 0.0 if task.kind == "softmax" else -np.inf
        for classes in _classes(task):
            x = _logits(task, rows, classes)
            if task.kind == "softmax":
                out = np.exp(x - base) / (1 + rest)[:, None]
            else:
                out = (x - base) - r[:, None]
            out[broken] = np.nan
            _write(task, rows, classes, out, masked, nothing)
        return 0.0

    # The loss: coefficient times (d + r), term by term.
    hard, d, wy = np.zeros(size, work), np.zeros(size, work), np.ones(size, work)
    label_allowed = np.ones(size, bool)
    if task.kind == "index":
        wy = wy if task.w is None else task.w[y].astype(work)
        hard = (1 - work(task.e)) * wy
        if task.mask is not None:
            label_allowed = np.array([m_[k] for m_, k in zip(_part(task.mask, rows, whole), y)])
            label_allowed = label_allowed.astype(bool)
        label = widen(_part(task.x, rows, whole)[np.arange(size), y]).astype(work)
        d = np.where(label_allowed, m - label, np.inf)
        factor = share
    else:
        factor = np.ones(size)
    smooth = nonzero > 0
    absent |= (hard == 0) & ~smooth & (task.t == 0)
    loss = np.where(hard == 0, 0.0, hard * (d + r))
    loss = loss + np.where(smooth, factor * (weight * r + gap), 0.0)
    if task.t:
        loss = loss + task.t * lse**2
    loss = np.where(masked, np.inf, np.where(broken, np.nan, loss))
    loss = np.where(absent, 0.0, u * loss)
    if task.loss is not None:
        task.loss[rows] = loss
    if task.grad is not None:
        # The gradient: a p - k c, with the label's entry by itself.
        g = np.full(size, work(task.scale))
        if task.g is not None:
            g = g * task.g[rows].astype(work)
        zero = absent | masked | (g == 0)
        g = g * u
        a = hard + factor * weight + (2 * task.t * lse if task.t else 0.0)
        a = np.where(broken, np.nan, a)
        p = np.exp(-d) / (1 + rest)
        other = np.where(d == 0, rest, 1 + rest - np.exp(-d)) / (1 + rest)
        entry = g * ((a - hard) * p - share * wy - hard * other)
        for classes in _classes(task):
            out = (a / (1 + rest))[:, None] * np.exp(_logits(task, rows, classes) - base)
            if task.kind == "dense" or task.e:
                c = _coefficients(task, rows, classes, share)
                out = out - factor[:, None] * c
            out = g[:, None] * out
            if task.kind == "index":
                here = np.flatnonzero((classes.start <= y) & (y < classes.stop) & label_allowed)
                out[here, y[here] - classes.start] = entry[here]
            _write(task, rows, classes, out, zero, 0.0)
    return float(loss.sum())


def _write(task, rows, classes, out, zero, nothing) -> None:
    mask = _part(task.mask, rows, classes)
    out = np.where(zero[:, None] if mask is None else zero[:, None] | ~mask, nothing, out)
    # Half results come from the float32 one, so that all backends round alike.
    half = task.grad.dtype.itemsize == 2
    _part(task.grad, rows, classes)[...] = out.astype(np.float32) if half else out
