"""Losses that multiply matrices, on arrays of a GPU.

The products are made by the library whose arrays these are, a tile of logits at a time; what
is between the products are the kernels of the other losses. So there is nothing here that
knows a gradient's formula but that of a product.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .._check import RAW_BFLOAT16
from .._spec import FINISH, SCAN
from . import _launch
from ._arrays import Library, Matrix
from ._device import _class_weight, _count, _Plan, _weights

Array = np.ndarray[Any, Any]
Flat = Callable[..., Any]

#: Share of the logits' bytes that tiles may take, and its limits. (Not measured: no GPU yet.)
_SHARE, _LEAST, _MOST = 0.05, 64_000_000, 256_000_000

#: Rows from which on whole rows are worth it: with fewer, reading the weight again for each
#: few rows costs more than making the logits twice. And rows of a tile that is not whole.
_FEW_ROWS, _MANY_ROWS = 128, 2048


def _known(a: Any) -> Any:
    """bfloat16, which NumPy does not know by itself, as another half precision: for checks."""
    return a if a is None or a.dtype != RAW_BFLOAT16 else a.view(np.float16)


def _spans(size: int, step: int) -> Iterator[slice]:
    for k in range(0, size, step):
        yield slice(k, min(size, k + step))


# ---- a linear layer ------------------------------------------------------------------


class _Loss(NamedTuple):
    """What the loss of a row is made of."""

    y: Array
    u: Array | None
    g: Array | None  # upstream
    w: Array | None
    e: float
    t: float
    scale: float
    ignore: int | None
    losses: Array

    def part(self, rows: slice) -> "_Loss":
        """The same of some rows."""
        u, g = (a if a is None else a[rows] for a in (self.u, self.g))
        return self._replace(y=self.y[rows], u=u, g=g, losses=self.losses[rows])

    def run(self, stream: _launch.Stream, z: Array, **more: Any) -> None:
        """Launch the kernel on logits."""
        _launch.rows(
            stream, "index", z, y=self.y, u=self.u, g=self.g, w=self.w, e=self.e, t=self.t,
            scale=self.scale, ignore=self.ignore, **more,
        )  # fmt: skip


class _Grads(NamedTuple):
    """Where gradients go, as (rows, columns)."""

    inputs: Array
    weight: Array
    bias: Array | None


def linear(
    flat: Flat, result_type: Any, inputs: Any, weight: Any, labels: Any, bias: Any,
    sample_weight: Any, class_weight: Any, ignore_index: Any, label_smoothing: Any, z_loss: Any,
    reduction: Any, with_grad: bool, upstream: Any, grad_out: Any,
) -> Any:  # fmt: skip
    """Softmax cross entropy of a linear layer, whose logits are never held as a whole."""
    with Library("inputs", inputs) as library:
        plan = _Plan(library, "inputs", inputs)
        library.must_multiply()
        x, weights = library.matrix("inputs", inputs), library.matrix("weight", weight)
        b = library.array("bias", bias)
        *_, dtype = _check.linear(_known(x.view), _known(weights.view), _known(b))
        shape, num_classes = x.view.shape[:-1], len(weights.view)
        y = _check.index_labels(library.array("labels", labels), x.view, len(shape), "inputs")
        u = _weights(library, "sample_weight", sample_weight, shape, "losses")
        w = _class_weight(library, class_weight, num_classes)
        ignore = _check.ignore_index(ignore_index, y.dtype)
        e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
        t = _check.finite("z_loss", z_loss)
        reduction = _check.reduction(reduction)
        none = reduction == "none"
        g, slope = plan.upstream(upstream, shape if none else (), shape)
        arrays = (x.view, weights.view, b)
        given = _given(library, grad_out, arrays)
        _check.apart(
            {f"grad_out.{name}": a for name, a in zip(result_type._fields, given)},
            {"inputs": x.view, "weight": weights.view, "bias": b, "labels": y, "sample_weight": u,
             "class_weight": w, "upstream": g},
            None,
        )  # fmt: skip

        count = y.size
        line = library.line("labels", labels, y)
        u, g = (_line(library, flat, a) for a in (u, g))
        total, number = _count(plan, [(u, line)], line.reshape(shape), ignore, w, num_classes)
        denominator = _check.denominator_of(reduction, total, count, number)
        scale = slope / denominator if denominator else 0.0
        result, made = library.make(shape if none else (), dtype)
        losses = result.reshape(-1) if none else library.scratch((count,), dtype)[0]
        loss = _Loss(line, u, g, w, e, t, scale, _check.pattern_of(ignore), losses)
        if x.view.ndim != 2:
            x = library.matrix("inputs", x.made.reshape((count, x.view.shape[-1])))
        layer = _Layer(library, x, weights, b, dtype)

        grads, into, live = None, None, None
        if with_grad:
            places: list[tuple[Any, Any]] = [
                (None, None) if a is None
                else (seen, out) if out is not None
                else library.make(a.shape, _gradient_type(a))
                for a, seen, out in zip(arrays, given, grad_out or given)
            ]  # fmt: skip
            grads = result_type(*(own for _, own in places))
            (seen, _), (d_weight, _), (d_bias, _) = places
            rows = seen.ndim == 2 or seen.flags.c_contiguous
            d_x = (seen if rows else library.scratch(seen.shape, seen.dtype)[0]).reshape(
                x.view.shape
            )
            into = _Grads(d_x, d_weight, d_bias if d_bias is None else d_bias[None])
            live = _live(plan, loss)
        if into is not None and not (count and scale):
            for a in into:
                if a is not None:
                    _launch.move(plan.stream, a, None)
        if count:
            _run(layer, loss, into if scale else None, live)
        if into is not None and not rows:
            for out, found in flat([seen, d_x.reshape(seen.shape)]):
                _launch.move(plan.stream, out, found)
        if not none:
            _launch.total(plan.stream, losses, denominator, result)
        return (made, grads) if with_grad else made


def _given(library: Library, grad_out: Any, arrays: tuple[Any, ...]) -> list[Any]:
    """Arrays for gradients, as NumPy sees them."""
    names = ("inputs", "weight", "bias")
    if not isinstance(grad_out, tuple) or len(grad_out) != 3:
        _check.linear_outputs(grad_out, *arrays)  # raises, unless there are none
        return [None] * 3
    without = tuple(out if a is None else None for a, out in zip(arrays, grad_out))
    _check.linear_outputs(without, *map(_known, arrays))
    return [
        None if out is None
        else _check.output(f"grad_out.{name}", library.array(f"grad_out.{name}", out), a.shape,
                           _gradient_type(a))
        for name, out, a in zip(names, grad_out, arrays)
    ]  # fmt: skip


def _gradient_type(a: Array) -> Any:
    return a.dtype if a.dtype == RAW_BFLOAT16 else _check.gradient_types(a.dtype)[0]


def _line(library: Library, flat: Flat, a: Array | None) -> Array | None:
    """Weights along one axis: copied where they do not lie so."""
    if a is None or a.ndim == 1:
        return a
    line = library.scratch((a.size,), np.float64)[0]
    if a.size:
        for part, out in flat([a, line.reshape(a.shape)]):
            _launch.move(library.on, out, part)
    return line


def _live(plan: _Plan, loss: _Loss) -> Array | None:
    """1 for each row with a gradient, else 0; None where all have one."""
    w = loss.w
    if loss.t != 0:  # counts, whatever the weight of its class
        w = None
    elif w is not None and loss.e != 0:
        some = _count(plan, [(w, None)], None, None, None, 0)[1]
        w = None if some else w
    if loss.u is None and loss.g is None and loss.ignore is None and w is None:
        return None
    live = plan.library.scratch(loss.y.shape, np.float32)[0]
    _launch.live(plan.stream, live, loss.y, loss.u, loss.g, w, loss.ignore)
    return live


class _Layer(NamedTuple):
    """Where the logits come from."""

    library: Library
    x: Matrix  # (rows, D)
    weight: Matrix
    bias: Array | None
    dtype: np.dtype[Any]  # to compute in

    def plain(self, a: Matrix) -> bool:
        """Can it be multiplied as it is."""
        return a.view.dtype == self.dtype and self.library.multiplies(a.made)

    def part(self, a: Matrix, rows: slice, by: Array | None = None) -> Matrix:
        """Some rows in the dtype to compute in; 0 where ``by`` is."""
        if by is None and self.plain(a):
            return a[rows]
        view = a.view[rows]
        made = Matrix(*self.library.make(view.shape, self.dtype))
        _launch.move(self.library.on, made.view, view, by=None if by is None else by[rows])
        return made

    def logits(self, x: Matrix, weight: Matrix, classes: slice) -> Matrix:
        """Logits of rows and classes."""
        z = self.library.product(x, weight.T)
        if self.bias is not None:
            bias = np.broadcast_to(self.bias[classes], z.view.shape)
            _launch.move(self.library.on, z.view, bias, add=True)
        return z


def _run(layer: _Layer, loss: _Loss, grads: _Grads | None, live: Array | None) -> None:
    """The losses and gradients, in tiles that fit into the budget."""
    count, (classes, features) = len(loss.y), layer.weight.view.shape
    size = layer.dtype.itemsize
    budget = int(min(max(_SHARE * count * classes * size, _LEAST), _MOST)) // size
    rows = min(count, max(1, budget // classes))
    fits = layer.plain(layer.weight) or classes * features <= budget
    # Sums over several tiles of rows need a place that holds them.
    narrow = grads is not None and grads.weight.dtype != layer.dtype
    if rows >= min(count, _FEW_ROWS) and fits and (rows == count or not narrow):
        _whole(layer, loss, grads, live, rows, max(1, budget // max(1, features)))
        return
    rows = min(count, _MANY_ROWS, max(1, budget // max(1, 6 * features)))
    width = (budget - 3 * rows * features) // (rows + 3 * features)
    _tiles(layer, loss, grads, live, rows, min(classes, _launch.LONG, max(1, width)))


def _whole(
    layer: _Layer, loss: _Loss, grads: _Grads | None, live: Array | None, rows: int, width: int
) -> None:
    """Rows with all their classes at once."""
    library, stream = layer.library, layer.library.on
    classes = len(layer.weight.view)
    weight = layer.part(layer.weight, slice(0, classes))
    bias_sums = library.scratch((classes,), np.float64)[0]
    for part in _spans(len(loss.y), rows):
        x, own = layer.part(layer.x, part), loss.part(part)
        z = layer.logits(x, weight, slice(0, classes))
        own.run(stream, z.view, loss=own.losses, grad=None if grads is None else z.view)
        if grads is None:
            continue
        product = library.product(z, weight)
        by = None if live is None else live[part]
        _launch.move(stream, grads.inputs[part], product.view, by=by)
        if live is not None:
            x = layer.part(layer.x, part, live)
        for tile in _spans(classes, width):
            product = library.product(z[:, tile].T, x)
            _launch.move(stream, grads.weight[tile], product.view, add=part.start > 0)
        if grads.bias is not None:
            _launch.column_sums(stream, bias_sums, z.view, part.start > 0)
        del z  # or the next ones would stand beside them
    if grads is not None and grads.bias is not None:
        _launch.move(stream, grads.bias, bias_sums[None])


def _tiles(
    layer: _Layer, loss: _Loss, grads: _Grads | None, live: Array | None, rows: int, width: int
) -> None:
    """Some classes of some rows: first the statistics of all, and then the gradients.

    It is how one launch for each step treats a row too long for it, but that the pieces of the
    row come and go.
    """
    library, stream, dtype = layer.library, layer.library.on, layer.dtype
    count, (classes, features) = len(loss.y), layer.weight.view.shape
    tiles, parts = list(_spans(classes, width)), list(_spans(count, rows))
    at, stats = library.scratch((count,), dtype)[0], library.scratch((count, 8), dtype)[0]
    pieces = library.scratch((len(tiles) * rows, 8), dtype)[0]
    for part in parts:
        x, own, n = layer.part(layer.x, part), loss.part(part), part.stop - part.start
        for k, tile in enumerate(tiles):
            z = layer.logits(x, layer.part(layer.weight, tile), tile)
            own.run(
                stream, _launch.tile(z.view, tile.start, classes), phase=SCAN, begin=tile.start,
                end=tile.stop, stats=pieces[k * n : (k + 1) * n], at=at[part],
            )  # fmt: skip
            del z
        _launch.merge(stream, dtype.name, pieces[: len(tiles) * n], n)
        _launch.move(stream, stats[part], pieces[:n])
        of_labels = np.broadcast_to(at[part, None], (n, classes))
        own.run(stream, of_labels, phase=FINISH, stats=stats[part], at=at[part], loss=own.losses)
    if grads is None:
        return

    # Sums in a dtype that is not the one computed in have a place of their own.
    d_x, d_weight = grads.inputs, None
    if d_x.dtype != dtype:
        d_x = library.scratch(d_x.shape, dtype)[0]
    if grads.weight.dtype != dtype:
        d_weight = library.scratch((width, features), dtype)[0]
    bias_sums = library.scratch((classes,), np.float64)[0]
    for tile in tiles:
        weight = layer.part(layer.weight, tile)
        sums = grads.weight[tile] if d_weight is None else d_weight[: tile.stop - tile.start]
        for part in parts:
            x, own = layer.part(layer.x, part, live), loss.part(part)
            z = layer.logits(x, weight, tile)
            place = _launch.tile(z.view, tile.start, classes)
            own.run(
                stream, place, phase=FINISH, begin=tile.start, end=tile.stop, stats=stats[part],
                at=at[part], grad=place,
            )  # fmt: skip
            product = library.product(z, weight)
            by = None if live is None else live[part]
            _launch.move(stream, d_x[part], product.view, by=by, add=tile.start > 0)
            product = library.product(z.T, x)
            _launch.move(stream, sums, product.view, add=part.start > 0)
            if grads.bias is not None:
                _launch.column_sums(stream, bias_sums[tile], z.view, part.start > 0)
            del z
        if d_weight is not None:
            _launch.move(stream, grads.weight[tile], sums)
    if d_x is not grads.inputs:
        _launch.move(stream, grads.inputs, d_x)
    if grads.bias is not None:
        _launch.move(stream, grads.bias, bias_sums[None])


# ---- sampled classes -----------------------------------------------------------------


class _Sample(NamedTuple):
    """The arrays of a sampled loss, for the rows that count."""

    library: Library
    x: Matrix
    parts: list[Array]  # of the class vectors
    starts: list[int]  # the first class of each
    rows: Array | None  # which of the inputs; None for all
    labels: Array  # (rows, T), on the host
    sampled: Array  # on the host
    u: Array | None  # weights and upstream gradients, on the host
    g: Array | None
    scale: float
    shift: Array  # of the logits of labels and sampled classes
    hits: tuple[Array, Array] | None  # row and position of accidental ones, on the host
    softmax: bool
    dtype: np.dtype[Any]

    def inputs(self, rows: slice) -> Matrix:
        """Some of the rows that count, in the dtype to compute in."""
        library = self.library
        if self.rows is None and self.x.view.dtype == self.dtype:
            return self.x[rows]
        view = self.x.view[rows if self.rows is None else slice(None)]
        ids = None if self.rows is None else library.give(self.rows[rows])
        count = rows.stop - rows.start
        made = Matrix(*library.make((count, view.shape[1]), self.dtype))
        _launch.move(library.on, made.view, view, ids=ids)
        return made

    def vectors(self, ids: Array) -> Matrix:
        """Vectors of classes."""
        library = self.library
        made = Matrix(*library.make((len(ids), self.x.view.shape[1]), self.dtype))
        for k, (part, start) in enumerate(zip(self.parts, self.starts)):
            here = np.where((ids >= start) & (ids < start + len(part)), ids - start, -1)
            _launch.move(library.on, made.view, part, ids=library.give(here), add=k > 0)
        return made

    def loss(self, z: Array, rows: slice, losses: Array, with_grad: bool) -> None:
        """The losses of rows; the gradient takes the place of the logits."""
        library, num_true = self.library, self.labels.shape[1]
        u, g = (a if a is None else library.give(a[rows]) for a in (self.u, self.g))
        grad = z if with_grad else None
        if self.softmax and num_true == 1:
            y = np.broadcast_to(library.give(np.zeros(1, np.int64)), len(z))  # its column
            _launch.rows(
                library.on, "index", z, y=y, u=u, g=g, loss=losses, grad=grad, scale=self.scale
            )
            return
        targets = np.zeros(z.shape[1])
        targets[:num_true] = 1 / num_true
        q = np.broadcast_to(library.give(targets.astype(self.dtype)), z.shape)
        if self.softmax:
            _launch.rows(
                library.on, "dense", z, y=q, u=u, g=g, loss=losses, grad=grad, scale=self.scale
            )
            return
        each, keep = library.make(z.shape, self.dtype)
        u, g = (a if a is None else np.broadcast_to(a[:, None], z.shape) for a in (u, g))
        _launch.entries(
            library.on, "logits", z, z=q, u=u, g=g, loss=each, grad=grad, scale=self.scale
        )
        _launch.row_sums(library.on, each, losses)
        del keep


def sampled(
    find_hits: Callable[..., Any], named: dict[str, Any], result_type: Any, softmax: bool,
    inputs: Any, weight: Any, labels: Any, bias: Any, num_sampled: Any, sampler: Any,
    candidates: Any, remove_accidental_hits: Any, rng: Any, sample_weight: Any, reduction: Any,
    with_grad: bool, upstream: Any,
) -> Any:  # fmt: skip
    """NCE and sampled softmax. Classes are chosen on the host, which labels are copied to."""
    with Library("inputs", inputs) as library:
        plan = _Plan(library, "inputs", inputs)
        library.must_multiply()
        x = library.matrix("inputs", inputs)
        _, x_type, _ = _check.vectors("inputs", _known(x.view))
        several = isinstance(weight, list | tuple)
        parts = [library.array("weight", a) for a in (weight if several else [weight])]
        known = [_known(a) for a in parts]
        _, w_type, _ = _check.partitions(known if several else known[0], x.view.shape[1])
        *starts, num_classes = [0, *accumulate(map(len, parts))]
        b = library.array("bias", bias)
        _, b_type, _ = _check.per_class("bias", _known(b), num_classes)
        dtype = np.result_type(x_type, w_type, b_type)
        y = library.array("labels", labels)
        given, y = y.shape, _check.labels_of_rows(y, len(x.view))
        size, num_true = y.shape
        u = _weights(library, "sample_weight", sample_weight, (size,), "losses")
        none = _check.reduction(reduction) == "none"
        g, slope = plan.upstream(upstream, (size,) if none else (), (size,))
        y = library.fetch(y)
        u, g = (None if a is None else _wide(library.fetch(a)) for a in (u, g))

        # Rows of weight 0 are left out from here on.
        rows = None if u is None or u.all() else np.flatnonzero(u)
        of = slice(None) if rows is None else rows
        if u is not None:
            y = np.where((u == 0)[:, None], y.dtype.type(0), y)
        y, s, of_labels, of_sampled = _check.drawn(
            y, given, of, num_classes, sampler, named, num_sampled, candidates, rng
        )
        total, count = float(size), size
        if u is not None:
            total, count = float(u.sum(dtype=np.float64)), int(np.count_nonzero(u))
        denominator = _check.denominator_of(reduction, total, size, count)

        ids = np.concatenate([y.ravel(), s])
        shift = library.give(-np.log(np.concatenate([of_labels.ravel(), of_sampled])))
        if b is not None:
            _launch.move(library.on, shift[:, None], b[:, None], ids=library.give(ids), add=True)
        sample = _Sample(
            library, x, parts, starts, rows, y, s, None if u is None else u[of],
            None if g is None else g[of], slope / denominator if denominator else 0.0, shift,
            find_hits(y, s) if remove_accidental_hits else None, softmax, dtype,
        )  # fmt: skip

        result, made = library.make((size,) if none else (), dtype)
        losses = result
        if rows is not None or not none:
            losses = library.scratch((len(y),), dtype)[0]
        grads, into = None, None
        if with_grad:
            features = x.view.shape[1]
            d_x, made_x = library.make(x.view.shape, _gradient_type(x.view))
            d_rows, made_rows = library.make((ids.size, features), _gradient_type(parts[0]))
            d_bias, made_bias = (None, None)
            if b is not None:
                d_bias, made_bias = library.make((ids.size,), _gradient_type(b))
            into_x = d_x
            if rows is not None:
                into_x = library.scratch((len(y), features), d_x.dtype)[0]
            into = _Grads(into_x, d_rows, d_bias)
            out_ids, made_ids = library.make(ids.shape, np.dtype(np.int64))
            library.put(out_ids, ids)
            grads = result_type(made_x, made_ids, made_rows, made_bias)
        _blocks(sample, losses, into)
        if rows is not None:
            places = np.full(size, -1)
            places[rows] = np.arange(rows.size)
            places = library.give(places)
            if none:
                _launch.move(library.on, result[:, None], losses[:, None], ids=places)
            if into is not None:
                _launch.move(library.on, d_x, into.inputs, ids=places)
        if not none:
            _launch.total(library.on, losses, denominator, result)
        return (made, grads) if with_grad else made


def _wide(a: Array) -> Array:
    """Weights on the host in float64; of bfloat16 too."""
    if a.dtype == RAW_BFLOAT16:
        a = (a.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return a.astype(np.float64)


def _blocks(sample: _Sample, losses: Array, grads: _Grads | None) -> None:
    """A few rows at a time, whose logits exist only here."""
    library, stream, dtype = sample.library, sample.library.on, sample.dtype
    (size, num_true), n = sample.labels.shape, sample.sampled.size
    features = sample.x.view.shape[1]
    at_sampled = sample.vectors(sample.sampled)
    sums, logit_sums = library.scratch((n, features), dtype)[0], None
    logit_sums = library.scratch((n,), np.float64)[0]
    live = None
    if grads is not None:
        _launch.move(stream, sums, None)
        _launch.move(stream, logit_sums[None], None)
        if sample.scale == 0 or sample.g is not None:
            g = np.ones(size) if sample.g is None else sample.g
            live = library.give((g * sample.scale != 0).astype(np.float32))
    each = (2 * n + 3 * features + num_true * features) * dtype.itemsize
    for part in _spans(size, max(1, _LEAST // max(1, each))):
        x, rows = sample.inputs(part), part.stop - part.start
        flat = slice(part.start * num_true, part.stop * num_true)
        vectors = sample.vectors(sample.labels[part].ravel())
        of_labels = vectors.view.reshape(rows, num_true, features)
        z = Matrix(*library.make((rows, num_true + n), dtype))
        true, others = z.view[:, :num_true], z[:, num_true:]
        for k in range(num_true):
            _launch.dots(stream, true[:, k], x.view, of_labels[:, k])
        product = library.product(x, at_sampled.T)
        _launch.move(stream, others.view, product.view)
        shift = sample.shift[flat].reshape(rows, num_true)
        _launch.move(stream, true, shift, add=True)
        shift = np.broadcast_to(sample.shift[sample.labels.size :], others.view.shape)
        _launch.move(stream, others.view, shift, add=True)
        if sample.hits is not None:
            found = slice(*np.searchsorted(sample.hits[0], (part.start, part.stop)))
            hits = np.stack([sample.hits[0][found] - part.start, sample.hits[1][found]], 1)
            if len(hits):  # costs nothing, and its gradient is 0
                _launch.strike(stream, others.view, library.give(hits))
        sample.loss(z.view, part, losses[part], grads is not None)
        if grads is None:
            continue
        by = None if live is None else live[part]
        product = library.product(others, at_sampled)
        d_x, keep = library.make((rows, features), dtype)
        _launch.move(stream, d_x, product.view, by=by)
        d_rows = grads.weight[flat].reshape(rows, num_true, features)
        for k in range(num_true):
            _launch.move(stream, d_x, of_labels[:, k], by=true[:, k], add=True)
            _launch.move(stream, d_rows[:, k], x.view, by=true[:, k])
        _launch.move(stream, grads.inputs[part], d_x)
        if by is not None:
            silenced = Matrix(*library.make((rows, features), dtype))
            _launch.move(stream, silenced.view, x.view, by=by)
            x = silenced
        product = library.product(others.T, x)
        _launch.move(stream, sums, product.view, add=True)
        if n:
            _launch.column_sums(stream, logit_sums, others.view, True)
        if grads.bias is not None:
            _launch.move(stream, grads.bias[flat].reshape(rows, num_true), true)
        del keep
    if grads is not None:
        _launch.move(stream, grads.weight[sample.labels.size :], sums)
        if grads.bias is not None:
            _launch.move(stream, grads.bias[None, sample.labels.size :], logit_sums[None])


def scatter_add(target: list[Any], ids: Any, values: Any) -> None:
    """Add rows to the rows of arrays; all rows of one id in their order."""
    with Library("target", target[0]) as library:
        parts = [library.array("target", part) for part in target]
        stream = library.stream()
        shape = _check.targets(parts)
        for part in parts:
            if part.dtype.kind not in "fV":
                raise TypeError(
                    "target on a GPU must be float16, bfloat16, float32 or float64; got "
                    f"{part.dtype}"
                )
        *starts, num_classes = [0, *accumulate(map(len, parts))]
        found = library.array("ids", ids)
        at = _check.class_ids("ids", library.fetch(found), num_classes)
        rows = library.array("values", values)
        _check.rows("values", _known(rows), at, shape)
        order = np.argsort(at, kind="stable")
        at, first = np.unique(at[order], return_index=True)
        first = np.append(first, order.size)
        order = library.give(order)
        for part, start in zip(parts, starts):
            begin, end = np.searchsorted(at, (start, start + len(part)))
            if begin == end or not part.size:
                continue
            places = library.give(at[begin:end] - start)
            bounds = library.give(first[begin : end + 1])
            # Rows of more than one axis go a line at a time.
            for index in np.ndindex(shape[:-1]):
                into, of = (a[(slice(None), *index)] for a in (part, rows))
                if not shape:
                    into, of = into[:, None], of[:, None]
                _launch.scatter(stream, into, of, places, bounds, order)
