"""The path of a call on arrays of a GPU: check, launch, hand back arrays of the same kind.

The sentences are those of `_check`, which looks at shapes, dtypes and addresses only. One
number is waited for: what the pass over labels (or over sample weights that a mean divides
by) found. All else is in the caller's stream when a call returns.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _check
from .._check import RAW_BFLOAT16
from . import _launch
from ._arrays import Library
from ._jobs import read_labels

Array = np.ndarray[Any, Any]
Fold = Callable[..., Any]


def _real(check: Callable[..., Any], a: Any, *args: Any) -> Any:
    """Check an argument that may be bfloat16, which has no name here."""
    if a is None or a.dtype != RAW_BFLOAT16:
        return check(a, *args)
    return check(a.view(np.float16), *args).view(RAW_BFLOAT16)


def _weights(library: Library, name: str, a: Any, shape: tuple[int, ...], what: str) -> Any:
    a = library.weight(name, a) if name != "where" else library.array(name, a)
    return _real(lambda v: _check.broadcast(name, v, shape, what), a)


class _Plan:
    """What all calls share: the logits, their folds, outputs, and how to make them."""

    def __init__(self, library: Library, name: str, logits: Any) -> None:
        self.library = library
        x = library.array(name, logits)
        self.x, self.value_type, self.array_type = _check.logits(name, x, raw=True)
        if self.x.dtype.kind in "biu":
            raise TypeError(
                f"{name} on a GPU must be float16, bfloat16, float32 or float64; got {x.dtype}"
            )
        self.stream = library.stream()

    def output(self, name: str, a: Any, shape: tuple[int, ...], *dtypes: Any) -> Any:
        """An output that was given, as NumPy sees it."""
        return _check.output(name, self.library.array(name, a), shape, *dtypes)

    @property
    def dtypes(self) -> list[Any]:
        if self.x.dtype.itemsize == 2:
            return [self.array_type, self.value_type]
        return [self.array_type]

    def made(self, given: Any, seen: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
        """The output given, or a new one: as NumPy sees it, and as the caller does."""
        return (seen, given) if given is not None else self.library.make(shape, dtype)

    def upstream(self, value: Any, shape: tuple[int, ...], rows: tuple[int, ...]) -> Any:
        """Upstream gradients per loss, or the one number for all of them."""
        if value is None:
            return None, 1.0
        if shape == () and not _check.is_on_gpu(value) and np.ndim(value) == 0:
            return None, float(np.asarray(_check.upstream(value, ())))
        g = self.library.weight("upstream", value)
        g = _real(lambda v: _shaped("upstream", v, shape), g)
        return (np.broadcast_to(g, rows), 1.0) if shape == () else (g, 1.0)


def _shaped(name: str, a: Array, shape: tuple[int, ...]) -> Array:
    _check.real(name, a)
    if a.shape != shape:
        raise ValueError(f"{name} must have the shape of the returned loss, {shape}; got {a.shape}")
    return a


def _class_weight(library: Library, w: Any, num_classes: int) -> Any:
    if w is None:
        return None
    return _real(lambda v: _check.class_weight(v, num_classes), library.array("class_weight", w))


def _count(
    plan: _Plan, folds: list[Any], y: Any, ignore: int | None, w: Any, num_classes: int
) -> tuple[float, int]:
    """Check the labels of all folds (or sum sample weights alone); waits for the answer."""
    pattern = _check.pattern_of(ignore)
    weight, count = 0.0, 0
    for u, labels in folds:
        shape = (labels if labels is not None else u).shape
        size = math.prod(shape)
        found, read = plan.library.found(_launch.label_blocks(size))
        _launch.labels(plan.stream, labels, u, w, pattern, num_classes, shape, found)
        more, number, bad = read_labels(read(plan.stream.stream), size)
        if bad is not None:
            inner = shape[1] if len(shape) == 2 else 1
            one = labels[(*(bad // inner, bad % inner)[: len(shape)], ...)]  # a view: not read
            place = _index_of(y, _launch.address(one) - _launch.address(y))
            value = int(plan.library.fetch(one))
            raise _check.label_out_of_range(value, place, ignore, num_classes)
        weight, count = weight + more, count + number
    return weight, count


def _index_of(a: Array, offset: int) -> tuple[int, ...]:
    """The index of the element that lies so many bytes from the first."""
    index = [0] * a.ndim
    for k in sorted(range(a.ndim), key=lambda k: -abs(a.strides[k])):
        if a.shape[k] > 1 and a.strides[k]:
            index[k] = min(max(offset // a.strides[k], 0), a.shape[k] - 1)
            offset -= index[k] * a.strides[k]
    return tuple(index)


def normalize(
    fold: Fold, kind: str, x: Any, axis: Any, where: Any, out: Any, keepdims: bool
) -> Any:
    """logsumexp, softmax or log_softmax along an axis."""
    with Library("x", x) as library:
        plan = _Plan(library, "x", x)
        seen = plan.x
        axis = _check.axis("x", seen, axis)
        mask = _weights(library, "where", where, seen.shape, "array x")
        per_row = kind == "logsumexp"
        shape = _check.without(seen.shape, axis) if per_row else seen.shape
        if per_row and keepdims:
            shape = (*shape[:axis], 1, *shape[axis:])
        dtypes = [plan.value_type] if per_row else plan.dtypes
        given = plan.output("out", out, shape, *dtypes)
        _check.apart({"out": given}, {"x": seen, "where": mask}, None if per_row else ("out", "x"))
        result, made = plan.made(out, given, shape, dtypes[0])
        if seen.size:
            rows = result.squeeze(axis) if per_row and keepdims else result
            for part in fold(axis, [seen, mask, None if per_row else rows], [rows] * per_row):
                fx, fmask, array = part.classed
                _launch.rows(
                    plan.stream, kind, fx, mask=fmask, grad=array,
                    loss=part.plain[0] if per_row else None,
                )  # fmt: skip
        return made


def loss(
    fold: Fold, index: bool, logits: Any, labels: Any, axis: Any, sample_weight: Any,
    class_weight: Any, ignore_index: Any, label_smoothing: Any, z_loss: Any, where: Any,
    reduction: Any, out: Any, with_grad: bool, upstream: Any, grad_out: Any, labels_grad_out: Any,
) -> Any:  # fmt: skip
    """Softmax cross entropy with index labels or with label distributions."""
    with Library("logits", logits) as library:
        plan = _Plan(library, "logits", logits)
        x = plan.x
        axis = _check.axis("logits", x, axis)
        num_classes = x.shape[axis]
        shape = _check.without(x.shape, axis)
        y = library.array("labels", labels)
        y = _check.index_labels(y, x, axis) if index else _real(
            lambda v: _check.dense_labels(v, x), y
        )  # fmt: skip
        u = _weights(library, "sample_weight", sample_weight, shape, "losses")
        w = _class_weight(library, class_weight, num_classes)
        ignore = _check.ignore_index(ignore_index, y.dtype) if index else None
        e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
        t = _check.finite("z_loss", z_loss)
        mask = _weights(library, "where", where, x.shape, "logits")
        reduction = _check.reduction(reduction)
        none = reduction == "none"
        result_shape = shape if none else ()
        given = plan.output("out", out, result_shape, plan.value_type)
        g, slope = plan.upstream(upstream, result_shape, shape)
        grad = plan.output("grad_out", grad_out, x.shape, *plan.dtypes)
        labels_grad = plan.output("labels_grad_out", labels_grad_out, x.shape, *plan.dtypes)
        if labels_grad is not None and grad is not None and labels_grad.dtype != grad.dtype:
            raise TypeError(
                f"labels_grad_out must have the dtype of grad_out on a GPU, {grad.dtype}; got "
                f"{labels_grad.dtype}"
            )
        _check.apart(
            {"grad_out": grad, "out": given, "labels_grad_out": labels_grad},
            {"logits": x, "labels": y, "sample_weight": u, "class_weight": w, "where": mask,
             "upstream": g},
            ("grad_out", "logits"),
        )  # fmt: skip

        return _rows_loss(
            plan, fold, index, axis, y, u, w, ignore, e, t, mask, reduction, (out, given),
            with_grad, g, slope, (grad_out, grad), labels_grad,
        )  # fmt: skip


def _rows_loss(
    plan: _Plan, fold: Fold, index: bool, axis: int, y: Any, u: Any, w: Any, ignore: int | None,
    e: float, t: float, mask: Any, reduction: str, given: tuple[Any, Any], with_grad: bool, g: Any,
    slope: float, grads: tuple[Any, Any], labels_grad: Any, nothing: float = math.nan,
) -> Any:  # fmt: skip
    """Softmax cross entropy of checked arrays; ``nothing`` is a mean's value over none.

    Outputs come as the caller gave them and as NumPy sees them.
    """
    x = plan.x
    num_classes = x.shape[axis]
    shape = _check.without(x.shape, axis)
    none = reduction == "none"
    # The labels alone, before anything is written.
    classed = [x, mask, None if index else y]
    folds = fold(axis, classed, [u, g, y if index else None]) if x.size else []
    size = math.prod(shape)
    weight, count = float(size), size
    if index or (u is not None and reduction in ("mean", "nonzero_mean")):
        weight, count = _count(
            plan, [(f.plain[0], f.plain[2]) for f in folds], y, ignore, w, num_classes
        )
    denominator = _check.denominator_of(reduction, weight, size, count)
    scale = slope / denominator if denominator else 0.0

    shape_out = shape if none else ()
    result, made = plan.made(*given, shape_out, plan.value_type)
    grad, made_grad = None, None
    if with_grad:
        grad, made_grad = plan.made(*grads, x.shape, plan.array_type)
    losses = result if none else plan.library.scratch(shape, plan.value_type)[0]
    pattern = _check.pattern_of(ignore)
    if x.size:
        parts = fold(axis, [*classed, grad, labels_grad], [u, g, y if index else None, losses])
        for part in parts:
            fx, fmask, fq, fgrad, flabels = part.classed
            fu, fg, fy, flosses = part.plain
            _launch.rows(
                plan.stream, "index" if index else "dense", fx, y=fy if index else fq,
                mask=fmask, u=fu, g=fg, w=w, e=e, t=t, loss=flosses, grad=fgrad,
                labels_grad=flabels, labels_scale=scale, scale=scale, ignore=pattern,
            )  # fmt: skip
    if not none:
        _launch.total(plan.stream, losses, denominator, result, nothing)
    return (made, made_grad) if with_grad else made


def sequence(
    fold: Fold, logits: Any, labels: Any, sample_weight: Any, average: Any, with_grad: bool,
    upstream: Any, grad_out: Any,
) -> Any:  # fmt: skip
    """Averages of the losses over batch and time."""
    with Library("logits", logits) as library:
        plan = _Plan(library, "logits", logits)
        x = plan.x
        shape = _check.sequence_shape(x)
        axis = _check.axis("logits", x, -1)
        average = _check.average(average)
        reduction = {"tokens": "mean", "examples": "sum"}.get(average or "", "none")
        y = _check.index_labels(library.array("labels", labels), x, axis)
        u = _weights(library, "sample_weight", sample_weight, shape, "losses")
        result_shape = {"timesteps": shape[:1], None: shape}.get(average, ())
        g, slope = plan.upstream(upstream, result_shape, shape)
        if average == "timesteps" and g is not None:
            g = np.broadcast_to(g[:, None], shape)
        grad = plan.output("grad_out", grad_out, x.shape, *plan.dtypes)
        _check.apart(
            {"grad_out": grad},
            {"logits": x, "labels": y, "sample_weight": u, "upstream": g},
            ("grad_out", "logits"),
        )
        if average in ("examples", "timesteps"):
            shares, _ = library.scratch(shape, np.float64)
            divisor = float(max(shape[0], 1)) if average == "examples" else 1.0
            _launch.shares(plan.stream, u, divisor, shares)
            u = shares
        given: tuple[Any, Any] = (None, None)
        if average == "timesteps":
            given = (library.scratch(shape, plan.value_type)[0],) * 2
        result = _rows_loss(
            plan, fold, True, axis, y, u, None, None, 0.0, 0.0, None, reduction, given, with_grad,
            g, slope, (grad_out, grad), None, 0.0,
        )  # fmt: skip
        if average != "timesteps":
            return result
        sums, made = library.make(shape[:1], plan.value_type)
        _launch.row_sums(plan.stream, given[1], sums)
        return (made, result[1]) if with_grad else made


def by_example(
    fold: Fold, logits: Any, targets: Any, weights: Any, average: bool, function: Any,
    with_grad: bool = False, upstream: Any = None,
) -> Any:  # fmt: skip
    """Weighted losses of each example, from lists over time of (batch, symbols)."""
    with Library("logits", logits[0]) as library:
        plans = [_Plan(library, "logits", x) for x in logits]
        stream, steps = plans[0].stream, len(plans)
        labels = [library.array("targets", y) for y in targets]
        _check.steps(logits, labels, weights)
        for plan in plans:
            if plan.x.ndim != 2:
                raise ValueError(
                    "logits on a GPU must have shape (batch, symbols) at every time step; got "
                    f"{plan.x.shape}"
                )
        shape = (len(plans[0].x),)
        y = [_check.index_labels(a, p.x, 1) for a, p in zip(labels, plans)]
        us = [_weights(library, "weights", w, shape, "losses") for w in weights]
        g, _ = plans[0].upstream(upstream, shape, shape)
        if average:
            together, _ = library.scratch((*shape, steps), np.float64)
            for k, u in enumerate(us):
                _launch.move(stream, together[:, k, None], u[:, None])
            shares, _ = library.scratch(together.shape, np.float64)
            _launch.shares(stream, together, 1.0, shares)
            us = [shares[:, k] for k in range(steps)]
        grads, losses = [], []
        for k, plan in enumerate(plans):
            if function is None:
                loss, kept = library.scratch(shape, plan.value_type)
                result = _rows_loss(
                    plan, fold, True, 1, y[k], us[k], None, None, 0.0, 0.0, None, "none",
                    (kept, loss), with_grad, g, 1.0, (None, None), None,
                )  # fmt: skip
                grads.append(result[1] if with_grad else None)
            else:
                loss = library.array("softmax_loss_function", function(logits[k], targets[k]))
                if loss.shape != shape:
                    raise ValueError(
                        f"softmax_loss_function must return losses of shape {shape}; got "
                        f"{loss.shape}"
                    )
            losses.append(loss)
        kind = np.result_type(*losses)
        columns, _ = library.scratch((*shape, steps), np.float64)
        for k, (loss, u) in enumerate(zip(losses, us)):
            by = None if function is None else u  # or it is in the loss already
            _launch.move(stream, columns[:, k, None], loss[:, None], by=by)
        sums, made = library.make(shape, kind)
        total, _ = library.scratch(shape, np.float64)
        _launch.row_sums(stream, columns, total)
        _launch.move(stream, sums[None], total[None])
        return (made, grads) if with_grad else made


def picked(
    fold: Fold, log_probs: Any, labels: Any, axis: Any, sample_weight: Any, class_weight: Any,
    ignore_index: Any, reduction: Any, out: Any, with_grad: bool, upstream: Any, grad_out: Any,
) -> Any:  # fmt: skip
    """Minus the entry of each row that its label picks."""
    with Library("log_probs", log_probs) as library:
        plan = _Plan(library, "log_probs", log_probs)
        x = plan.x
        axis = _check.axis("log_probs", x, axis)
        num_classes = x.shape[axis]
        shape = _check.without(x.shape, axis)
        y = _check.index_labels(library.array("labels", labels), x, axis, "log_probs")
        u = _weights(library, "sample_weight", sample_weight, shape, "losses")
        w = _class_weight(library, class_weight, num_classes)
        ignore = _check.ignore_index(ignore_index, y.dtype)
        reduction = _check.reduction(reduction)
        none = reduction == "none"
        result_shape = shape if none else ()
        given = plan.output("out", out, result_shape, plan.value_type)
        g, slope = plan.upstream(upstream, result_shape, shape)
        grad = plan.output("grad_out", grad_out, x.shape, *plan.dtypes)
        _check.apart(
            {"grad_out": grad, "out": given},
            {"log_probs": x, "labels": y, "sample_weight": u, "class_weight": w, "upstream": g},
            ("grad_out", "log_probs"),
        )
        folds = fold(axis, [x], [u, y]) if x.size else []
        weight, count = _count(plan, [tuple(f.plain) for f in folds], y, ignore, w, num_classes)
        denominator = _check.denominator_of(reduction, weight, math.prod(shape), count)
        scale = slope / denominator if denominator else 0.0
        result, made = plan.made(out, given, result_shape, plan.value_type)
        grads = None
        if with_grad:
            grad, grads = plan.made(grad_out, grad, x.shape, plan.array_type)
        losses = result if none else library.scratch(shape, plan.value_type)[0]
        pattern = _check.pattern_of(ignore)
        for part in fold(axis, [x, grad], [u, g, y, losses]) if x.size else []:
            fx, fgrad = part.classed
            fu, fg, fy, flosses = part.plain
            _launch.pick(
                plan.stream, fx, fy, u=fu, g=fg, w=w, ignore=pattern, loss=flosses, grad=fgrad,
                scale=scale,
            )  # fmt: skip
        if not none:
            _launch.total(plan.stream, losses, denominator, result)
        return (made, grads) if with_grad else made


def activate(flat: Fold, kind: str, x: Any, out: Any) -> Any:
    """The functions sigmoid or log_sigmoid of every entry."""
    with Library("x", x) as library:
        plan = _Plan(library, "x", x)
        given = plan.output("out", out, plan.x.shape, *plan.dtypes)
        _check.apart({"out": given}, {"x": plan.x}, ("out", "x"))
        result, made = plan.made(out, given, plan.x.shape, plan.array_type)
        if plan.x.size:
            for fx, fout in flat([plan.x, result]):
                _launch.entries(plan.stream, kind, fx, grad=fout)
        return made


def entries(
    flat: Fold, kind: str, logits: Any, labels: Any, sample_weight: Any, pos_weight: Any,
    label_smoothing: Any, reduction: Any, out: Any, with_grad: bool, upstream: Any, grad_out: Any,
    labels_grad_out: Any, pos_weight_grad_out: Any,
) -> Any:  # fmt: skip
    """Binary cross entropy of every entry, from ``kind``: "logits" or "probs"."""
    with Library(kind, logits) as library:
        plan = _Plan(library, kind, logits)
        x = plan.x
        z = _real(lambda v: _check.dense_labels(v, x, kind), library.array("labels", labels))
        u = _weights(library, "sample_weight", sample_weight, x.shape, "losses")
        pw = library.weight("pos_weight", pos_weight)
        # (an array of this shape, for the sentence of `_check.shape_of`)
        pos_weight_shape = pw
        pw = _real(lambda v: _check.broadcast("pos_weight", v, x.shape, "logits"), pw)
        e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
        reduction = _check.reduction(reduction)
        none = reduction == "none"
        result_shape = x.shape if none else ()
        given = plan.output("out", out, result_shape, plan.value_type)
        g, slope = plan.upstream(upstream, result_shape, x.shape)
        grad = plan.output("grad_out", grad_out, x.shape, *plan.dtypes)
        labels_grad = plan.output("labels_grad_out", labels_grad_out, x.shape, *plan.dtypes)
        weight_grad = None
        if pos_weight_grad_out is not None:
            shape = _check.shape_of("pos_weight", "pos_weight_grad_out", pos_weight_shape)
            weight_grad = plan.output(
                "pos_weight_grad_out", pos_weight_grad_out, shape, *plan.dtypes
            )
        if labels_grad is not None and grad is not None and labels_grad.dtype != grad.dtype:
            raise TypeError(
                f"labels_grad_out must have the dtype of grad_out on a GPU, {grad.dtype}; got "
                f"{labels_grad.dtype}"
            )
        _check.apart(
            {"grad_out": grad, "out": given, "labels_grad_out": labels_grad,
             "pos_weight_grad_out": weight_grad},
            {kind: x, "labels": z, "sample_weight": u, "pos_weight": pw, "upstream": g},
            ("grad_out", kind),
        )  # fmt: skip
        weight, count = float(x.size), x.size
        if u is not None and reduction in ("mean", "nonzero_mean") and x.size:
            once = u[tuple(slice(None) if s else slice(1) for s in u.strides)]
            weight, count = _count(plan, [(f[0], None) for f in flat([once])], None, None, None, 0)
            weight, count = weight * (x.size // once.size), count * (x.size // once.size)
        denominator = _check.denominator_of(reduction, weight, x.size, count)
        scale = slope / denominator if denominator else 0.0
        result, made = plan.made(out, given, result_shape, plan.value_type)
        grads = None
        if with_grad:
            grad, grads = plan.made(grad_out, grad, x.shape, plan.array_type)
        losses = result if none else None
        if weight_grad is not None:  # before a gradient in place
            _launch.pos_weight_slopes(plan.stream, x, z, u, g, e, scale, weight_grad)
        parts = []
        if x.size:
            parts = list(flat([x, z, u, g, pw, losses, grad, labels_grad]))
        each = _launch.entry_blocks(parts[0][0]) if parts else 0
        sums = None
        if not none:
            sums, _ = library.scratch((max(1, each * len(parts)), 2), plan.value_type)
        for k, (fx, fz, fu, fg, fpw, flosses, fgrad, flabels) in enumerate(parts):
            _launch.entries(
                plan.stream, kind, fx, z=fz, u=fu, g=fg, pw=fpw, e=e, loss=flosses, grad=fgrad,
                labels_grad=flabels, labels_scale=scale, scale=scale,
                sums=None if sums is None else sums[k * each : (k + 1) * each],
            )  # fmt: skip
        if sums is not None:
            done = sums[: each * len(parts)]
            _launch.close(plan.stream, done, denominator, result, pairs=True)
        return (made, grads) if with_grad else made
