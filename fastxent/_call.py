"""The one path of a call: check, fold, run, reduce.

The axes of every array are folded to ``(outer, C[, inner])`` without a copy and handed to
the backend's kernels, which compute rows block by block on the pool.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import _backends, _check, _choices, _config, _numpy, _threads
from ._choices import BLOCK, LONG, TILE
from ._numpy import merge, widen
from ._spec import ALL, FINISH, SCAN, STATS

Array = np.ndarray[Any, Any]

_LABELS = 1 << 14  # labels per block of the pass over them
_MANY = 1 << 20  # labels from which that is worth a second thread: 0.3 ms
_PIECE = 1 << 18
_CHUNK = 1 << 26  # elements of an evaluation done with before the next
_PAGE = 1 << 12  # bytes
_SAMPLED_ROWS = 64  # of a sampled loss, handed out together
_NUMPY_ROWS = 512  # the same where NumPy computes them

#: Elements of a label gradient computed at once, and parts of a sum held at once.
_SCRATCH = 1 << 14
_BOX = 1 << 13
_TOGETHER = 8


class _Fold(NamedTuple):
    """Arrays seen as rows: with classes (outer, C[, inner]), without (outer[, inner])."""

    classed: list[Any]  # arrays or None
    plain: list[Any]

    @property
    def rows(self) -> int:
        outer, _, *inner = self.classed[0].shape
        return int(outer * math.prod(inner))


def _fold(axis: int, classed: list[Any], plain: list[Any]) -> list[_Fold]:
    """Fold the row axes of all arrays at once into at most two; walk those that do not fold.

    ``classed`` have the first one's shape, ``plain`` that shape without ``axis``.
    """
    x = classed[0]
    if x.ndim == 2:
        if axis == 0:
            classed = [a if a is None else a.T for a in classed]
        return [_Fold(classed, plain)]
    if x.ndim == 1:
        return [_Fold([a if a is None else a[None] for a in classed],
                      [a if a is None else a[None] for a in plain])]  # fmt: skip
    # Largest strides first: Fortran order and transposed axes fold as well as C order.
    axes = [k for k in range(x.ndim) if k != axis]
    axes.sort(key=lambda k: (x.shape[k] > 1, -abs(x.strides[k])))
    order = [k - (k > axis) for k in axes]
    classed = [a if a is None else a.transpose(*axes, axis) for a in classed]
    plain = [a if a is None else a.transpose(order) for a in plain]
    x = classed[0]
    sizes: list[int] = []
    for k in range(x.ndim - 1):
        arrays = [a for a in (*classed, *plain) if a is not None]
        if sizes and all(a.strides[k - 1] == a.strides[k] * a.shape[k] for a in arrays):
            sizes[-1] *= x.shape[k]
        elif x.shape[k] > 1 or (k == x.ndim - 2 and not sizes):
            sizes.append(x.shape[k])
    classed = [a if a is None else a.reshape(*sizes, a.shape[-1]) for a in classed]
    plain = [a if a is None else a.reshape(sizes) for a in plain]
    folds = []
    for index in np.ndindex(*sizes[:-2]):
        parts = [a if a is None else a[index] for a in classed]
        if len(sizes) > 1:
            parts = [a if a is None else a.swapaxes(1, 2) for a in parts]
        folds.append(_Fold(parts, [a if a is None else a[index] for a in plain]))
    return folds


#: Binds a kernel: (fold, total, emit the gradient?, stats, phase, first class, end) -> job.
_Bind = Callable[..., Callable[..., None]]


def _run(
    folds: list[_Fold],
    bind: _Bind,
    threads: int,
    emit: bool,
    parallel: int | None = None,
    products: bool = False,
) -> list[float]:
    """Run a kernel over all rows; the sums of the losses of the blocks, in order."""
    x = folds[0].classed[0]
    rows, num_classes = folds[0].rows, x.shape[1]
    contiguous = x.strides[1] == x.itemsize
    if parallel is None:
        parallel = _choices.PARALLEL
    if rows * num_classes * len(folds) < parallel:
        threads = 1
    if num_classes > LONG:
        return [s for fold in folds for s in _run_long(fold, bind, threads, emit, contiguous)]

    step = _choices.rows_per_block(rows, num_classes, len(folds), contiguous, parallel)
    blocks = -(-rows // step)
    total = np.zeros(blocks * len(folds))
    jobs = [
        bind(fold, total[k * blocks : (k + 1) * blocks], emit, None, ALL, 0, num_classes)
        for k, fold in enumerate(folds)
    ]
    if blocks == 1 and len(jobs) == 1:
        jobs[0](0, rows, 0, _threads.room() if emit else None)
        return total.tolist()
    _run_blocks(jobs, rows, step, threads, emit, products)
    return total.tolist()


def _run_blocks(
    jobs: list[Any],
    rows: int,
    step: int,
    threads: int,
    emit: bool = False,
    products: bool = False,
) -> None:
    """Run every job over all rows, in blocks: on the backend's own threads, or else on ours.

    Between products of matrices not on threads that wait for more work by spinning: the
    processor that they keep busy is one that BLAS wants next.
    """
    job = jobs[0]
    if threads > 1 and hasattr(job, "sweep") and not (products and getattr(job, "spins", False)):
        jobs = job.sweep(jobs, rows, step, threads, _threads.room() if emit else None)

    def work(k: int) -> None:
        block, job = divmod(k, len(jobs))
        room = _threads.room() if emit else None
        jobs[job](block * step, min(rows, (block + 1) * step), block, room)

    _threads.run(work, -(-rows // step) * len(jobs), threads)


def _run_long(
    fold: _Fold, bind: _Bind, threads: int, emit: bool, contiguous: bool
) -> Iterator[float]:
    """Long rows: statistics of the pieces, merged in order; then losses; then gradients."""
    num_classes = fold.classed[0].shape[1]
    step = 1 if contiguous else TILE
    pieces = _pieces(0, num_classes)
    stats = _scan(fold, bind, pieces, step, threads)
    total = np.zeros(-(-fold.rows // step))
    # Losses first: a gradient in place overwrites the logits they read.
    _run_blocks([bind(fold, total, False, stats, FINISH, 0, num_classes)], fold.rows, step, threads)
    if emit:
        jobs = [bind(fold, None, True, stats, FINISH, *p) for p in pieces]
        _run_blocks(jobs, fold.rows, step, threads)
    yield from total.tolist()


def _pieces(begin: int, end: int) -> list[tuple[int, int]]:
    return [(k, min(k + _PIECE, end)) for k in range(begin, end, _PIECE)]


def _scan(
    fold: _Fold,
    bind: _Bind,
    pieces: list[tuple[int, int]],
    step: int,
    threads: int,
    products: bool = False,
) -> Array:
    """Statistics of all rows from some of their classes."""
    x = fold.classed[0]
    parts = np.empty((len(pieces), x.shape[0], *x.shape[2:], len(STATS)))
    jobs = [bind(fold, None, False, part, SCAN, *p) for part, p in zip(parts, pieces)]
    _run_blocks(jobs, fold.rows, step, threads, products=products)
    return merge(parts)


class Partial(NamedTuple):
    """What an evaluation adds up to; the results of parts of a data set can be added."""

    loss: float = 0.0  # the sum over the rows that count
    counted: int = 0  # the rows that count
    hits: int = 0  # those whose label has the largest logit, alone or tied
    rows: int = 0

    def __add__(self, other: "Partial") -> "Partial":  # type: ignore[override]
        """The result of both parts together."""
        return Partial(
            self.loss + other.loss,
            self.counted + other.counted,
            self.hits + other.hits,
            self.rows + other.rows,
        )


def evaluate(
    x: Array,
    y: Array,
    axis: int,
    ignore: int | None,
    e: float,
    origin: tuple[int, ...],
    tick: Callable[[int], None],
) -> Partial:
    """Losses, hits and numbers of a block of checked logits and labels.

    ``origin`` is where the block begins, for the sentence about a bad label; ``tick``
    is told of elements as they are done with.
    """
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    threads = settings.threads or _threads.default_threads()
    num_classes = x.shape[axis]
    pattern = _check.pattern_of(ignore)

    def bind(
        fold: _Fold, total: Any, emit: bool, stats: Any, phase: int, begin: int, end: int
    ) -> Callable[..., None]:
        *_, labels, kept = fold.plain
        if phase == ALL:
            stats = kept
        elif phase == FINISH:
            kept[...] = stats
        return chosen.kernels.rows_index(
            fold.classed[0], labels, None, None, None, None, e, 0.0, None, total, None, stats,
            1.0, pattern, phase, begin, end, False,
        )  # fmt: skip

    result = Partial()
    for fold in _fold(axis, [x], [None, None, None, y]):
        count = 0
        for good, _, found in _label_pass(chosen, fold, None, pattern, num_classes, threads):
            if not good:
                raise _check.label_error(y, None, ignore, num_classes, origin)
            count += found
        stats = np.empty((*fold.plain[3].shape, len(STATS)))
        fold = _Fold(fold.classed, [*fold.plain, stats])
        if fold.rows * num_classes > _CHUNK:
            loss = _run_chunks(fold, bind, threads, tick)
        else:
            _touch(fold.classed[0], threads)
            loss = sum(_run([fold], bind, threads, emit=False))
            tick(fold.rows * num_classes)
        result += Partial(loss, count, _hits(fold, ignore, threads), fold.rows)
    return result


def _run_chunks(fold: _Fold, bind: _Bind, threads: int, tick: Callable[[int], None]) -> float:
    """Rows too long to be read one after the other: all of them, some classes at a time."""
    x, rows = fold.classed[0], fold.rows
    num_classes = x.shape[1]
    width = max(1, _CHUNK // rows)
    step = 1 if x.strides[1] == x.itemsize else max(TILE, BLOCK // width // TILE * TILE)
    stats = None
    for begin in range(0, num_classes, width):
        end = min(begin + width, num_classes)
        _touch(x[:, begin:end], threads)
        part = _scan(fold, bind, _pieces(begin, end), step, threads)
        stats = part if stats is None else merge(np.stack([stats, part]))
        tick((end - begin) * rows)
    total = np.zeros(-(-rows // _LABELS))
    _run_blocks([bind(fold, total, False, stats, FINISH, 0, num_classes)], rows, _LABELS, threads)
    return float(sum(total.tolist()))


def _touch(x: Array, threads: int) -> None:
    """Have a mapped file's pages read in their order, before tiles of rows hop over them.

    Where the classes lie further apart than the rows, a tile has a page for each class:
    on a disk that would be one long wait, which no Ctrl-C ends.
    """
    rows = 0 if x.ndim == 2 else 2
    if abs(x.strides[rows]) >= abs(x.strides[1]):
        return
    every = max(1, _PAGE // max(1, abs(x.strides[rows])))
    x = np.moveaxis(x, 1, 0)  # classes first
    x = x[:, ::every] if rows == 0 else x[:, :, ::every]
    step = max(1, TILE * len(x) // max(1, x.size))

    def work(k: int) -> None:
        x[k * step : (k + 1) * step].copy()

    _threads.run(work, -(-len(x) // step), threads)


def _hits(fold: _Fold, ignore: int | None, threads: int) -> int:
    """How many rows count, hold no NaN and have their label at the maximum."""
    x, labels, stats = fold.classed[0], *fold.plain[3:]
    inner = x.shape[2] if x.ndim == 3 else 1
    hits = [0] * _part_count(_LABELS, inner, x.shape[0])

    def work(k: int) -> None:
        rows = _part(k, _LABELS, inner)
        y, found = labels[rows], stats[rows]
        counts = np.full(y.shape, True) if ignore is None else y != ignore
        index = np.expand_dims(np.where(counts, y, 0).astype(np.intp), 1)
        every_class = (rows[0], slice(None), *rows[1:])
        at_label = np.take_along_axis(x[every_class], index, axis=1).squeeze(1)
        hit = counts & (widen(at_label) == found[..., 0]) & ~np.isnan(found[..., 1])
        hits[k] = int(np.count_nonzero(hit))

    _threads.run(work, len(hits), threads)
    return sum(hits)


def _streams(a: Array | None, x: Array) -> bool:
    """Tell whether an array of the logits' shape should be written past the cache."""
    return a is not None and a.nbytes >= _choices.STREAM_BYTES and not np.may_share_memory(a, x)


def normalize(kind: str, x: Any, axis: Any, where: Any, out: Any, keepdims: bool = False) -> Any:
    """logsumexp, softmax or log_softmax along an axis."""
    if type(x) is not np.ndarray and (gpu := _backends.gpu_calls(x)):
        return gpu.normalize(_fold, kind, x, axis, where, out, keepdims)
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    if chosen.front is not None and where is None:
        plain = chosen.front.normalize(settings.threads, kind, x, axis, out, keepdims)
        if plain is not None:
            return plain
    threads = settings.threads or _threads.default_threads()
    x, value_type, array_type = _check.logits("x", x)
    axis = _check.axis("x", x, axis)
    mask = _check.broadcast("where", where, x.shape, "array x")
    per_row = kind == "logsumexp"
    if per_row:
        shape = _check.without(x.shape, axis)
        if keepdims:
            shape = (*shape[:axis], 1, *shape[axis:])
        dtypes = [value_type]
    else:
        shape, dtypes = x.shape, _array_dtypes(x, value_type, array_type)
    given = _check.output("out", out, shape, *dtypes)
    if given is not None:
        _check.apart({"out": given}, {"x": x, "where": mask}, None if per_row else ("out", "x"))
    result = np.empty(shape, dtypes[0]) if given is None else given
    if x.size:
        rows = [result.squeeze(axis) if keepdims else result] if per_row else []
        stream = not per_row and _streams(result, x)

        def bind(
            fold: _Fold, total: Any, emit: bool, stats: Any, phase: int, begin: int, end: int
        ) -> Callable[..., None]:
            fx, fmask, array = fold.classed
            if per_row:
                array = None if phase == SCAN else fold.plain[0]
            elif not emit:
                array = None
            return chosen.kernels.normalize(
                fx, fmask, kind, array, stats, phase, begin, end, stream
            )

        folds = _fold(axis, [x, mask, None if per_row else result], rows)
        _run(folds, bind, threads, emit=not per_row)
    return result[()] if given is None else given


def _array_dtypes(x: Array, value_type: Any, array_type: Any) -> list[np.dtype[Any]]:
    """Dtypes that an array of the logits' shape may have, the one we would make first."""
    dtypes = [array_type]
    if x.dtype.kind not in "biu":
        dtypes.append(x.dtype)  # may be byte-swapped
    if _check.is_half(x.dtype):
        dtypes.append(value_type)
    return dtypes


def loss(
    index: bool,
    logits: Any,
    labels: Any,
    axis: Any,
    sample_weight: Any,
    class_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    where: Any,
    reduction: Any,
    out: Any,
    with_grad: bool = False,
    upstream: Any = None,
    grad_out: Any = None,
    labels_grad_out: Any = None,
) -> Any:
    """Softmax cross entropy with index labels or with label distributions."""
    if type(logits) is not np.ndarray and (gpu := _backends.gpu_calls(logits)):
        return gpu.loss(
            _fold, index, logits, labels, axis, sample_weight, class_weight, ignore_index,
            label_smoothing, z_loss, where, reduction, out, with_grad, upstream, grad_out,
            labels_grad_out,
        )  # fmt: skip
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    if (
        chosen.front is not None
        and sample_weight is class_weight is ignore_index is where is upstream is None
        and labels_grad_out is None
    ):
        plain = chosen.front.loss(
            settings.threads, index, logits, labels, axis, label_smoothing, z_loss, reduction, out,
            with_grad, grad_out,
        )  # fmt: skip
        if plain is not None:
            return plain
    threads = settings.threads or _threads.default_threads()

    x, value_type, array_type = _check.logits("logits", logits)
    axis = _check.axis("logits", x, axis)
    num_classes = x.shape[axis]
    shape = _check.without(x.shape, axis)
    y = _check.index_labels(labels, x, axis) if index else _check.dense_labels(labels, x)
    u = _check.broadcast("sample_weight", sample_weight, shape, "losses")
    w = _check.class_weight(class_weight, num_classes)
    ignore = _check.ignore_index(ignore_index, y.dtype) if index else None
    e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    t = _check.finite("z_loss", z_loss)
    mask = _check.broadcast("where", where, x.shape, "logits")
    reduction = _check.reduction(reduction)
    none = reduction == "none"
    given = _check.output("out", out, shape if none else (), value_type)
    g = _check.upstream(upstream, shape if none else ())
    dtypes = _array_dtypes(x, value_type, array_type)
    grad = _check.output("grad_out", grad_out, x.shape, *dtypes)
    labels_grad = _check.output("labels_grad_out", labels_grad_out, x.shape, *dtypes)
    if given is not None or grad is not None or labels_grad is not None:
        _check.apart(
            {"grad_out": grad, "out": given, "labels_grad_out": labels_grad},
            {"logits": x, "labels": y, "sample_weight": u, "class_weight": w, "where": mask,
             "upstream": g},
            ("grad_out", "logits"),
        )  # fmt: skip

    slope = 1.0
    if g is not None and not none:  # one number for all rows
        slope, g = float(g), None
    losses = None
    if none:
        losses = np.empty(shape, value_type) if given is None else given
    if with_grad and grad is None:
        grad = np.empty(x.shape, array_type)
    folds = []
    if x.size:
        classed = [x, mask, grad, labels_grad, None if index else y]
        folds = _fold(axis, classed, [u, g, losses, y if index else None])

    # The labels alone: their range, and what the means divide by.  Nothing is written before.
    size = math.prod(shape)
    if index:
        pattern = _check.pattern_of(ignore)
        weight, count = _count(chosen, folds, y, u, w, ignore, num_classes, threads)
    else:
        weight, count = (float(size), size) if none else weights(u, size)
    denominator = _check.denominator_of(reduction, weight, size, count)
    scale = slope / denominator if denominator else 0.0
    if labels_grad is not None:
        for fold in folds:
            _labels_gradient(chosen, fold, w, (1.0 - e) * scale, threads)
    sums: list[float] = []
    if folds:
        kernel = chosen.kernels.rows_index if index else chosen.kernels.rows_dense
        labels_only = (pattern,) if index else ()
        stream = _streams(grad, x)

        def bind(
            fold: _Fold, total: Any, emit: bool, stats: Any, phase: int, begin: int, end: int
        ) -> Callable[..., None]:
            fx, fmask, fgrad, _, fq = fold.classed
            fu, fg, flosses, fy = fold.plain
            return kernel(
                fx, fy if index else fq, fmask, fu, None if g is None else fg, w, e, t,
                None if total is None else flosses, total, fgrad if emit else None, stats,
                scale, *labels_only, phase, begin, end, stream,
            )  # fmt: skip

        sums = _run(folds, bind, threads, emit=with_grad)

    result = _result(losses, sums, denominator, value_type, given)
    return (result, grad) if with_grad else result


def weights(u: Array | None, size: int) -> tuple[float, int]:
    """The sum of the sample weights over all losses, and how many are not 0."""
    if u is None:
        return float(size), size
    # A broadcast axis repeats its weights: one of each is enough to read.
    once = u[tuple(slice(None) if stride else slice(1) for stride in u.strides)]
    times = size // once.size if once.size else 0
    return float(once.sum(dtype=np.float64)) * times, int(np.count_nonzero(once)) * times


def _result(
    losses: Array | None,
    sums: list[float],
    denominator: float,
    value_type: Any,
    given: Array | None,
) -> Any:
    """The losses, or their sum by the denominator, in the array that was given for it."""
    if losses is not None:
        return losses[()] if given is None else given
    with np.errstate(over="ignore"):  # a loss beyond the dtype is inf, rounded once
        result = value_type.type(sum(sums) / denominator if denominator else np.nan)
    if given is None:
        return result
    given[()] = result
    return given


def _count(
    chosen: _backends.Chosen,
    folds: list[_Fold],
    y: Array,
    u: Array | None,
    w: Array | None,
    ignore: int | None,
    num_classes: int,
    threads: int,
) -> tuple[float, int]:
    """Check all labels; the sum of the weights of those that count, and their number."""
    weight, count = 0.0, 0
    for fold in folds:
        for found in _label_pass(chosen, fold, w, _check.pattern_of(ignore), num_classes, threads):
            if not found[0]:
                raise _check.label_error(y, u, ignore, num_classes)
            weight, count = weight + found[1], count + found[2]
    return weight, count


def _label_pass(
    chosen: _backends.Chosen,
    fold: _Fold,
    w: Array | None,
    ignore: int | None,
    num_classes: int,
    threads: int,
) -> list[tuple[bool, float, int]]:
    """For each block of labels: are they good, the sum of their weights, how many count."""
    u, y = fold.plain[0], fold.plain[3]
    inner = y.shape[1] if y.ndim == 2 else 1
    # Handing out blocks takes longer than looking at a few of them.
    step = max(1, y.size) if y.size < _choices.PARALLEL else _LABELS
    found: list[Any] = [None] * _part_count(step, inner, y.shape[0])

    def work(k: int) -> None:
        rows = _part(k, step, inner)
        found[k] = chosen.kernels.labels(
            y[rows], None if u is None else u[rows], w, ignore, num_classes
        )

    _threads.run(work, len(found), threads if y.size >= _MANY else 1)
    return found


def _labels_gradient(
    chosen: _backends.Chosen, fold: _Fold, w: Array | None, scale: float, threads: int
) -> None:
    """Fill dL/dq_k = g (1-e) w_k (lse - x_k), a few rows and classes at a time."""
    x, mask, _, out, _ = fold.classed
    u, g = fold.plain[:2]
    num_classes, inner = x.shape[1], x.shape[2] if x.ndim == 3 else 1
    work_type = np.float64 if x.dtype.kind in "biu" or x.dtype.itemsize == 8 else np.float32
    width = min(num_classes, _SCRATCH)
    step = max(1, _SCRATCH // num_classes)

    def work(k: int) -> None:
        rows = _part(k, step, inner)
        everything = (rows[0], slice(None), *rows[1:])
        xs, out_rows = x[everything], out[everything]
        outer = math.prod(xs.shape) // num_classes
        stats = np.empty((xs.shape[0], *xs.shape[2:], len(STATS)))
        masks = None if mask is None else mask[everything]
        bind = chosen.kernels.normalize
        bind(xs, masks, "log_softmax", None, stats, SCAN, 0, num_classes, False)(0, outer)
        factor = np.full((xs.shape[0], 1, *xs.shape[2:]), -scale)
        with np.errstate(all="ignore"):
            us, gs = (1.0 if a is None else np.expand_dims(_wide(a, rows), 1) for a in (u, g))
            factor = factor_of(factor, us, gs)
        for begin in range(0, num_classes, width):
            classes = slice(begin, min(begin + width, num_classes))
            part = np.empty(xs[:, classes].shape, work_type)
            allowed = None if masks is None else masks[:, classes]
            bind(xs[:, classes], allowed, "log_softmax", part, stats, FINISH, 0, part.shape[1],
                 False)(0, outer)  # fmt: skip
            zero = factor == 0
            by = factor
            if w is not None:
                weights = w[classes].astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))
                by = factor * weights
                zero = by == 0
            if allowed is not None:
                zero = zero | ~allowed
            with np.errstate(all="ignore"):
                out_rows[:, classes] = np.where(zero, 0.0, part * by)

    _threads.run(work, _part_count(step, inner, x.shape[0]), threads)


def _part(k: int, step: int, inner: int) -> tuple[Any, ...]:
    """The k-th few rows, as an index of (outer[, inner]) that keeps the axes."""
    if inner == 1:
        return (slice(k * step, (k + 1) * step),)
    o, i = divmod(k, -(-inner // step))
    return slice(o, o + 1), slice(i * step, (i + 1) * step)


def _part_count(step: int, inner: int, outer: int) -> int:
    return -(-outer // step) if inner == 1 else outer * -(-inner // step)


def picked(
    log_probs: Any,
    labels: Any,
    axis: Any,
    sample_weight: Any,
    class_weight: Any,
    ignore_index: Any,
    reduction: Any,
    out: Any,
    with_grad: bool = False,
    upstream: Any = None,
    grad_out: Any = None,
) -> Any:
    """Minus the entry of each row that its label picks: a gather, and a scatter back."""
    if type(log_probs) is not np.ndarray and (gpu := _backends.gpu_calls(log_probs)):
        return gpu.picked(
            _fold, log_probs, labels, axis, sample_weight, class_weight, ignore_index, reduction,
            out, with_grad, upstream, grad_out,
        )  # fmt: skip
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    threads = settings.threads or _threads.default_threads()

    x, value_type, array_type = _check.logits("log_probs", log_probs)
    axis = _check.axis("log_probs", x, axis)
    num_classes = x.shape[axis]
    shape = _check.without(x.shape, axis)
    y = _check.index_labels(labels, x, axis, "log_probs")
    u = _check.broadcast("sample_weight", sample_weight, shape, "losses")
    w = _check.class_weight(class_weight, num_classes)
    ignore = _check.ignore_index(ignore_index, y.dtype)
    reduction = _check.reduction(reduction)
    none = reduction == "none"
    given = _check.output("out", out, shape if none else (), value_type)
    g = _check.upstream(upstream, shape if none else ())
    dtypes = _array_dtypes(x, value_type, array_type)
    grad = _check.output("grad_out", grad_out, x.shape, *dtypes)
    _check.apart(
        {"grad_out": grad, "out": given},
        {"log_probs": x, "labels": y, "sample_weight": u, "class_weight": w, "upstream": g},
        ("grad_out", "log_probs"),
    )

    slope = 1.0
    if g is not None and not none:  # one number for all rows
        slope, g = float(g), None
    losses = None
    if none:
        losses = np.empty(shape, value_type) if given is None else given
    if with_grad and grad is None:
        grad = np.empty(x.shape, array_type)
    folds = _fold(axis, [x, grad], [u, g, losses, y]) if x.size else []
    weight, count = _count(chosen, folds, y, u, w, ignore, num_classes, threads)
    denominator = _check.denominator_of(reduction, weight, math.prod(shape), count)
    scale = slope / denominator if denominator else 0.0

    sums: list[float] = []
    for fold in folds:
        inner = fold.classed[0].shape[2] if fold.classed[0].ndim == 3 else 1
        found = [0.0] * _part_count(_LABELS, inner, fold.classed[0].shape[0])

        def work(k: int, fold: _Fold = fold, inner: int = inner, found: Any = found) -> None:
            rows = _part(k, _LABELS, inner)
            with np.errstate(all="ignore"):
                found[k] = _pick(fold, rows, w, ignore, scale, None if g is None else fold.plain[1])

        _threads.run(work, len(found), threads if x.size >= _choices.PARALLEL else 1)
        sums += found
    result = _result(losses, sums, denominator, value_type, given)
    return (result, grad) if with_grad else result


def _pick(
    fold: _Fold, rows: tuple[Any, ...], w: Array | None, ignore: int | None, scale: float, g: Any
) -> float:
    """Losses, their sum, and gradients of a few rows."""
    plain: list[Any] = [a if a is None else a[rows] for a in fold.plain]
    everything = (rows[0], slice(None), *rows[1:])
    classed: list[Any] = [a if a is None else a[everything] for a in fold.classed]
    (u, _, losses, y), (x, grad) = plain, classed
    us = np.ones(y.shape) if u is None else u.astype(np.float64)
    absent = us == 0
    if ignore is not None:
        absent |= y == ignore
    y = np.where(absent, 0, y).astype(np.intp)
    us = np.where(absent, 0.0, us if w is None else us * w[y].astype(np.float64))
    at = np.expand_dims(y, 1)
    entry = np.take_along_axis(x, at, 1).squeeze(1).astype(np.float64)
    values = -_product(us, entry)
    if losses is not None:
        losses[...] = values
    if grad is not None:
        slope = -factor_of(scale, us, 1.0 if g is None else _wide(g, rows))
        slope = np.where(np.isnan(entry), _product(slope, entry), slope)
        half = grad.dtype.itemsize == 2
        grad[...] = 0
        np.put_along_axis(
            grad, at, np.expand_dims(slope.astype(np.float32) if half else slope, 1), 1
        )
    return float(values.sum())


def composed(x: Any) -> Any:
    """The losses that multiply matrices, for an array on a GPU; None for one of the host's."""
    return None if type(x) is np.ndarray else _backends.gpu_compositions(x)


# ---- index losses of rows whose logits come a tile at a time: `linear` ---------------------


def _here() -> tuple[_backends.Chosen, int]:
    """The backend and the number of threads of a call."""
    settings = _config.current()
    return _backends.choose(settings.backend), settings.threads or _threads.default_threads()


def check_labels(
    y: Array, u: Array | None, w: Array | None, ignore: int | None, num_classes: int, reduction: str
) -> float:
    """Check all labels; what the reduction divides by."""
    chosen, threads = _here()
    fold = _Fold([], [None if u is None else u.reshape(-1), None, None, y.reshape(-1)])
    weight, count = _count(chosen, [fold], y, u, w, ignore, num_classes, threads)
    return _check.denominator_of(reduction, weight, y.size, count)


def reduced(losses: Array | None, sums: list[float], denominator: float, dtype: Any) -> Any:
    """The losses, or their sum by the denominator."""
    return _result(losses, sums, denominator, dtype, None)


def index_rows(
    x: Array, y: Array, u: Any, g: Any, w: Any, e: float, t: float, scale: float, losses: Any,
    emit: bool, parallel: int | None = None,
) -> list[float]:  # fmt: skip
    """Losses of whole rows into ``losses``, their sums; with ``emit`` the gradient over ``x``."""
    chosen, threads = _here()

    def bind(
        fold: _Fold, total: Any, emit: bool, stats: Any, phase: int, begin: int, end: int
    ) -> Callable[..., None]:
        return chosen.kernels.rows_index(
            x, y, None, u, g, w, e, t, None if total is None else losses, total,
            x if emit else None, stats, scale, None, phase, begin, end, False,
        )  # fmt: skip

    return _run([_Fold([x], [u, g, losses, y])], bind, threads, emit, parallel, products=True)


def scan_rows(x: Array, w: Any, e: float, stats: Array | None) -> Array:
    """Statistics of rows of which ``x`` has some classes, merged with those of the others."""
    chosen, threads = _here()
    rows, width = x.shape
    nobody = np.broadcast_to(np.intp(0), rows)  # labels, which a scan does not read

    def bind(
        fold: _Fold, total: Any, emit: bool, part: Any, phase: int, begin: int, end: int
    ) -> Callable[..., None]:
        return chosen.kernels.rows_index(
            x, nobody, None, None, None, w, e, 0.0, None, None, None, part, 1.0, None, phase,
            begin, end, False,
        )  # fmt: skip

    step = max(1, BLOCK // width)
    found = _scan(_Fold([x], []), bind, _pieces(0, width), step, threads, products=True)
    return found if stats is None else merge(np.stack([stats, found]))


def finish_rows(
    at_label: Array, y: Array, u: Any, w: Any, e: float, t: float, losses: Any, stats: Array,
    num_classes: int,
) -> list[float]:  # fmt: skip
    """Losses from the statistics and the label's logit, which is all that is read then."""
    chosen, threads = _here()
    x = np.broadcast_to(at_label[:, None], (len(y), num_classes))
    total = np.zeros(-(-len(y) // _LABELS))
    job = chosen.kernels.rows_index(
        x, y, None, u, None, w, e, t, losses, total, None, stats, 1.0, None, FINISH, 0,
        num_classes, False,
    )  # fmt: skip
    _run_blocks([job], len(y), _LABELS, threads, products=True)
    return total.tolist()


def softmax_rows(x: Array, factor: Array, stats: Array) -> None:
    """Overwrite logits by ``factor`` x probability.

    The last column of ``x`` is none of the classes: it is where the kernel finds the label.
    """
    chosen, threads = _here()
    rows, width = x.shape[0], x.shape[1] - 1
    elsewhere = np.broadcast_to(np.intp(width), rows)
    job = chosen.kernels.rows_index(
        x, elsewhere, None, None, factor, None, 0.0, 0.0, None, None, x, stats, 1.0, None, FINISH,
        0, width, False,
    )  # fmt: skip
    _run_blocks([job], rows, max(1, BLOCK // width), threads, products=True)


def add_outer(x: Array, a: Array | None, b: Array | None) -> None:
    """Add ``a[i] b[k]`` to every ``x[i, k]``; without one of them, 1 in its place."""
    _, threads = _here()
    step = max(1, _SCRATCH // x.shape[1])

    def work(k: int) -> None:
        rows = slice(k * step, (k + 1) * step)
        part = b if a is None else a[rows, None] if b is None else a[rows, None] * b
        with np.errstate(all="ignore"):
            x[rows] += part

    _threads.run(work, -(-len(x) // step), threads if x.size >= _choices.PARALLEL else 1)


def sum_columns(x: Array) -> Array:
    """The sum of each column in float64."""
    _, threads = _here()
    sums = np.empty(x.shape[1])
    step = max(16, BLOCK // max(1, len(x)))

    def work(k: int) -> None:
        columns = slice(k * step, (k + 1) * step)
        with np.errstate(all="ignore"):
            x[:, columns].sum(axis=0, dtype=np.float64, out=sums[columns])

    _threads.run(work, -(-x.shape[1] // step), threads if x.size >= _choices.PARALLEL else 1)
    return sums


# ---- pieces of the sampled losses: `sampled` ------------------------------------------


def entry_rows(x: Array, z: Array, g: Any, scale: float, losses: Array | None, emit: bool) -> float:
    """Sigmoid cross entropies of rows: into ``losses``, or else their sum.

    With ``emit`` the gradient takes the place of ``x``.
    """
    chosen, threads = _here()
    step = _choices.block(x.size, _choices.AWAKE)
    total = np.zeros(-(-x.size // step)) if losses is None else None
    job = chosen.kernels.elements(
        x, z, None, g, None, 0.0, "logits", losses, total, x if emit else None, scale, False
    )
    _run_blocks([job], x.size, step, threads, products=True)
    return 0.0 if total is None else sum(total.tolist())


def awaken(multiplications: int) -> None:
    """Wake the threads that so many multiplications will be shared by, if the kernels can."""
    chosen, threads = _here()
    if threads > 1 and multiplications >= _choices.PRODUCTS:
        wake = getattr(chosen.kernels, "awaken", None)
        if wake is not None:
            wake(threads)


def sampled_logits(
    x: Array, w: Array, ids: Array, turned: Array, shift: Array, shared: Array, logits: Array
) -> None:
    """Logits of the rows' own classes and of the sampled ones (see `_numpy.sampled_logits`)."""
    chosen, threads = _here()
    own = hasattr(chosen.kernels, "sampled_logits")
    kernel = (chosen.kernels if own else _numpy).sampled_logits
    job = kernel(x, w, ids, turned, shift, shared, logits)
    if logits.size * w.shape[1] < _choices.PRODUCTS:
        threads = 1
    _run_blocks([job], len(x), _SAMPLED_ROWS if own else _NUMPY_ROWS, threads)


def sampled_gradients(
    x: Array, w: Array, ids: Array, sampled: Array, slopes: Array, d_x: Array, d_rows: Array,
    sums: Array, slope_sums: Array | None,
) -> None:  # fmt: skip
    """Gradients of vectors; of those that all rows share, the sums over a block of the rows.

    The rows are cut in as many blocks as there is room for in ``sums``.
    """
    chosen, threads = _here()
    kernel = getattr(chosen.kernels, "sampled_gradients", _numpy.sampled_gradients)
    job = kernel(x, w, ids, sampled, slopes, d_x, d_rows, sums, slope_sums)
    if slopes.size * w.shape[1] < _choices.PRODUCTS:
        threads = 1
    step = -(-len(x) // len(sums))
    _run_blocks([job], len(x), -(-step // _SAMPLED_ROWS) * _SAMPLED_ROWS, threads)


# ---- entries by themselves: no classes, no rows -----------------------------------------


def _flat(arrays: list[Any]) -> Iterator[list[Any]]:
    """See arrays of one shape (or None) as (outer, n), all folded alike and without a copy."""
    x = arrays[0]
    axes = [k for k in range(x.ndim) if x.shape[k] > 1]
    axes.sort(key=lambda k: -abs(x.strides[k]))
    present = [a for a in arrays if a is not None]
    sizes: list[int] = []
    for previous, k in zip([None, *axes], axes):
        if previous is not None and all(
            a.strides[previous] == a.strides[k] * a.shape[k] for a in present
        ):
            sizes[-1] *= x.shape[k]
        else:
            sizes.append(x.shape[k])
    sizes = [1] * (2 - len(sizes)) + sizes
    order = [k for k in range(x.ndim) if x.shape[k] == 1] + axes
    folded = [a if a is None else a.transpose(order).reshape(sizes) for a in arrays]
    for index in np.ndindex(*sizes[:-2]):
        yield [a if a is None else a[index] for a in folded]


def _run_entries(
    arrays: list[Any], bind: Callable[..., Callable[..., None]], threads: int, sums: bool
) -> list[float]:
    """Run the kernel over all entries; the sums of the losses of the blocks, in order."""
    size = arrays[0].size
    if size < _choices.PARALLEL:
        threads = 1
    folds = list(_flat(arrays))
    each = size // len(folds)
    step = _choices.block(size, _choices.PARALLEL)
    blocks = -(-each // step)
    total = np.zeros(blocks * len(folds))
    jobs = [
        bind(*fold, total[k * blocks : (k + 1) * blocks] if sums else None)
        for k, fold in enumerate(folds)
    ]

    _run_blocks(jobs, each, step, threads)
    return total.tolist()


def activate(kind: str, x: Any, out: Any) -> Any:
    """The functions sigmoid or log_sigmoid of every entry."""
    if type(x) is not np.ndarray and (gpu := _backends.gpu_calls(x)):
        return gpu.activate(_flat, kind, x, out)
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    threads = settings.threads or _threads.default_threads()
    x, value_type, array_type = _check.logits("x", x)
    dtypes = _array_dtypes(x, value_type, array_type)
    given = _check.output("out", out, x.shape, *dtypes)
    _check.apart({"out": given}, {"x": x}, ("out", "x"))
    result = np.empty(x.shape, array_type) if given is None else given
    if x.size:
        stream = _streams(result, x)

        def bind(fx: Array, fout: Array, total: Any) -> Callable[..., None]:
            return chosen.kernels.elements(
                fx, None, None, None, None, 0.0, kind, None, None, fout, 1.0, stream
            )

        _run_entries([x, result], bind, threads, sums=False)
    return result[()] if given is None else given


def entries(
    kind: str,
    logits: Any,
    labels: Any,
    sample_weight: Any,
    pos_weight: Any,
    label_smoothing: Any,
    reduction: Any,
    out: Any,
    with_grad: bool = False,
    upstream: Any = None,
    grad_out: Any = None,
    labels_grad_out: Any = None,
    pos_weight_grad_out: Any = None,
) -> Any:
    """Binary cross entropy of every entry, from ``kind``: "logits" or "probs"."""
    if type(logits) is not np.ndarray and (gpu := _backends.gpu_calls(logits)):
        return gpu.entries(
            _flat, kind, logits, labels, sample_weight, pos_weight, label_smoothing, reduction,
            out, with_grad, upstream, grad_out, labels_grad_out, pos_weight_grad_out,
        )  # fmt: skip
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    threads = settings.threads or _threads.default_threads()

    x, value_type, array_type = _check.logits(kind, logits)
    z = _check.dense_labels(labels, x, kind)
    u = _check.broadcast("sample_weight", sample_weight, x.shape, "losses")
    pw = _check.broadcast("pos_weight", pos_weight, x.shape, "logits")
    e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    reduction = _check.reduction(reduction)
    none = reduction == "none"
    given = _check.output("out", out, x.shape if none else (), value_type)
    g = _check.upstream(upstream, x.shape if none else ())
    dtypes = _array_dtypes(x, value_type, array_type)
    grad = _check.output("grad_out", grad_out, x.shape, *dtypes)
    labels_grad = _check.output("labels_grad_out", labels_grad_out, x.shape, *dtypes)
    weight_grad = None
    if pos_weight_grad_out is not None:
        shape = _check.shape_of("pos_weight", "pos_weight_grad_out", pos_weight)
        weight_grad = _check.output("pos_weight_grad_out", pos_weight_grad_out, shape, *dtypes)
    outputs = {
        "grad_out": grad, "out": given, "labels_grad_out": labels_grad,
        "pos_weight_grad_out": weight_grad,
    }  # fmt: skip
    if any(a is not None for a in outputs.values()):
        inputs = {kind: x, "labels": z, "sample_weight": u, "pos_weight": pw, "upstream": g}
        _check.apart(outputs, inputs, ("grad_out", kind))

    slope = 1.0
    if g is not None and not none:  # one number for all rows
        slope, g = float(g), None
    losses = None
    if none:
        losses = np.empty(x.shape, value_type) if given is None else given
    if with_grad and grad is None:
        grad = np.empty(x.shape, array_type)
    weight, count = (float(x.size), x.size) if none else weights(u, x.size)
    denominator = _check.denominator_of(reduction, weight, x.size, count)
    scale = slope / denominator if denominator else 0.0
    if labels_grad is not None:
        _entry_labels_gradient(kind, x, u, g, pw, (1.0 - e) * scale, labels_grad, threads)
    if weight_grad is not None:
        _weight_gradient(x, z, u, g, e, scale, weight_grad, threads)
    sums: list[float] = []
    if x.size:
        stream = _streams(grad, x)

        def bind(fx, fz, fu, fg, fpw, floss, fgrad, total) -> Callable[..., None]:  # type: ignore[no-untyped-def]
            return chosen.kernels.elements(
                fx, fz, fu, fg, fpw, e, kind, floss, total, fgrad, scale, stream
            )

        sums = _run_entries([x, z, u, g, pw, losses, grad], bind, threads, sums=not none)
    result = _result(losses, sums, denominator, value_type, given)
    return (result, grad) if with_grad else result


def _softplus(x: Array) -> tuple[Array, Array]:
    """max(x, 0) and log1p(exp(-|x|)), whose sum is log(1 + exp(x))."""
    return np.maximum(x, 0.0), np.log1p(np.exp(-np.abs(x)))


def _product(coefficient: Any, value: Any) -> Any:
    """A term; absent where its coefficient is 0."""
    return np.where(coefficient == 0, 0.0, coefficient * value)


def factor_of(scale: Any, u: Any, g: Any) -> Any:
    """Return scale x weight x upstream gradient: 0 where one of them is, whatever the others."""
    return np.where((scale == 0) | (u == 0) | (g == 0), 0.0, scale * u * g)


def _boxes(shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Cut an array of this shape into boxes of at most ``_BOX`` entries."""
    axis, size = len(shape), 1
    while axis and size * shape[axis - 1] <= _BOX:
        axis -= 1
        size *= shape[axis]
    if axis == 0:
        return [(slice(None),) * len(shape)]
    step = _BOX // size
    return [
        (*(slice(i, i + 1) for i in index), slice(k, k + step))
        for index in np.ndindex(*shape[: axis - 1])
        for k in range(0, shape[axis - 1], step)
    ]


def _wide(a: Array | None, box: Any) -> Any:
    """Part of an optional array in float64; 1 where there is none."""
    return 1.0 if a is None else a[box].astype(np.float64)


def _entry_labels_gradient(
    kind: str, x: Any, u: Any, g: Any, pw: Any, scale: float, out: Array, threads: int
) -> None:
    """Fill dL/dz = g (1-e) [pos_weight log(1 + exp(-x)) - log(1 + exp(x))].

    In float64, and in the form in which only what is opposite by nature cancels.
    """
    boxes = _boxes(x.shape)

    def work(k: int) -> None:
        box = boxes[k]
        with np.errstate(all="ignore"):
            xs = x[box].astype(np.float64)
            if kind == "probs":
                xs = np.where((xs >= 0) & (xs <= 1), xs, np.nan)
                middle = (xs > 0.25) & (xs < 0.75)
                near = np.log1p((1 - 2 * xs) / xs)
                slope = np.where(middle, near, np.log1p(-xs) - np.log(xs))
            else:
                weights = _wide(pw, box)
                slope = -np.where(xs < 0, _product(weights, xs), xs)
                slope = slope - _product(1 - weights, _softplus(xs)[1])
            out[box] = _product(factor_of(scale, _wide(u, box), _wide(g, box)), slope)

    _threads.run(work, len(boxes), threads)


def _weight_gradient(
    x: Any, z: Any, u: Any, g: Any, e: float, scale: float, out: Array, threads: int
) -> None:
    """Fill dL/dpos_weight = sum of g z' log(1 + exp(-x)) over the axes it is broadcast along."""
    shape = (1,) * (x.ndim - out.ndim) + out.shape
    summed = tuple(k for k in range(x.ndim) if shape[k] == 1)
    sums = np.zeros(shape)
    boxes = _boxes(x.shape)
    parts: list[Any] = [None] * _TOGETHER

    def work(k: int) -> None:
        box = boxes[start + k]
        with np.errstate(all="ignore"):
            zs = _product(1.0 - e, z[box].astype(np.float64)) + e / 2
            by = _product(zs != 0, factor_of(scale, _wide(u, box), _wide(g, box)))
            cost = np.add(*_softplus(-x[box].astype(np.float64)))
            parts[k] = _product(by, _product(zs, cost)).sum(axis=summed, keepdims=True)

    for start in range(0, len(boxes), _TOGETHER):
        few = boxes[start : start + _TOGETHER]
        _threads.run(work, len(few), threads)
        for box, part in zip(few, parts):
            into = tuple(slice(None) if k in summed else b for k, b in enumerate(box))
            sums[into] += part
    with np.errstate(over="ignore"):
        out[...] = sums.reshape(out.shape)
