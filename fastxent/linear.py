"""Cross entropy of a linear layer, whose logits are never held as a whole.

The logits of some rows and some classes (a tile) fit into a small buffer: a product by
BLAS, on BLAS's own threads, and then the kernels in place, on ours; never both at once.
Where a tile does not hold whole rows, the statistics of the tiles are merged, and the
gradient makes the logits of all tiles but the last a second time.
"""

from typing import Any, NamedTuple

import numpy as np

from . import _call, _check

__all__ = ["LinearGradients", "linear_cross_entropy", "linear_cross_entropy_with_grad"]

Array = np.ndarray[Any, Any]

#: Share of the logits' bytes that a call may take, and its limits.
_SHARE, _LEAST, _MOST = 0.05, 16_000_000, 64_000_000

#: Rows from which on whole rows are worth it: with fewer, reading the weight again for
#: each few rows costs more than making the logits twice.
_FEW_ROWS = 384

#: Rows of a tile that does not hold all classes: both its sides are long.
_MANY_ROWS = 2048

#: Elements between the rows of the buffer, beyond their own: the column of a label that is
#: not in the tile, and no two rows in the same lines of a cache.
_PAD = 16


class LinearGradients(NamedTuple):
    """Gradients of a linear cross entropy, each with the shape and dtype of its array.

    Parameters
    ----------
    inputs : ndarray or None
        Gradient to the inputs; None for sparse ones.
    weight : ndarray
        Gradient to the weight.
    bias : ndarray or None
        Gradient to the bias; None if there is none.

    See Also
    --------
    linear_cross_entropy_with_grad : The function that returns them.

    Examples
    --------
    >>> import numpy as np
    >>> import fastxent as fx
    >>> fx.LinearGradients(np.zeros((2, 3)), np.zeros((5, 3)), None).weight.shape
    (5, 3)
    """

    inputs: Any
    weight: Any
    bias: Any


def linear_cross_entropy(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "none",
) -> Any:
    r"""Softmax cross entropy of a linear layer, whose logits are never held as a whole.

    .. math::

        x_{nk} = \sum_i h_{ni} \, \mathrm{weight}_{ki} + \mathrm{bias}_k, \qquad
        L = u \left[ (1-e)\, w_y (\mathrm{lse} - x_y)
            + \tfrac{e}{C} \sum_k w_k (\mathrm{lse} - x_k) + t\, \mathrm{lse}^2 \right]

    Parameters
    ----------
    inputs : array_like or sparse matrix
        Features ``h`` of each row, shape ``(..., D)``: float16, bfloat16, float32, float64;
        integers and bools count as float64. Or a SciPy CSR matrix or array ``(N, D)``.
    weight : array_like
        The features' weights for each class, shape ``(C, D)``.
    labels : array_like of int
        The class ``y`` of each row, in ``[0, C)``: any integer dtype, shape of ``inputs``
        without its last axis.
    bias : array_like, optional
        Added to the logits of each class, shape ``(C,)``.
    sample_weight : array_like, optional
        Weight ``u`` of each row; broadcasts to the losses. A row of weight 0 is not read.
    class_weight : array_like, optional
        Weight ``w`` of each class, shape ``(C,)``.
    ignore_index : int, optional
        Rows with this label are not read: loss and gradient 0, not counted in a mean.
    label_smoothing : float, default: 0.0
        Share ``e`` in [0, 1] of the label mass that is spread over all ``C`` classes.
    z_loss : float, default: 0.0
        Factor ``t`` of the penalty ``t lse^2``.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        ``'mean'`` divides the sum by that of sample weight x class weight of the label
        over the rows that count; ``'size_mean'`` by the number of rows;
        ``'nonzero_mean'`` by the number of rows that are not ignored and have a
        non-zero sample weight.

    Returns
    -------
    loss : ndarray or scalar
        Shape of ``labels``, or a scalar when reduced (NaN for a mean over nothing): float32
        or float64, as it is computed.

    Raises
    ------
    IndexError
        "labels must lie in [0, C) ...; got ... at position ...".
    ValueError
        "inputs must have shape (..., D) ...", another shape, a reduction or a number that is
        not allowed. Nothing has been written then.
    TypeError
        A dtype that is not allowed, a sparse format other than CSR, arrays on a GPU of a
        library that does not multiply matrices.

    See Also
    --------
    linear_cross_entropy_with_grad : The gradients too.
    sparse_softmax_cross_entropy : From logits that exist.

    Notes
    -----
    All is computed in the NumPy result type of inputs, weight and bias, half precision
    counting as float32. The logits are made a tile at a time by NumPy's matrix product, on
    the threads of its BLAS; so a loss may differ by the rounding of a product when other rows
    are beside its own, but not with the number of threads that `config` sets.
    Arrays on a GPU are multiplied by their own library (CuPy, PyTorch), in larger tiles.
    Extra memory: 5 % of the logits' size, but at least 16 MB and at most 64 MB; a copy of
    inputs of more than two axes that are not contiguous.
    Error budget: that of the loss, and of the product 6e-8 (float64: 1.1e-16) x ``D`` x the
    largest ``sum_i |h_i weight_ki| + |bias_k|``.

    References
    ----------
    PyTorch: ``torch.nn.functional.linear_cross_entropy``. E. Wijmans et al., "Cut your losses
    in large-vocabulary language models", ICLR 2025.

    Examples
    --------
    Two rows of features, three classes:

    >>> import numpy as np
    >>> import fastxent as fx
    >>> h = np.array([[1.0, 2.0], [0.0, 1.0]])
    >>> weight = np.array([[1.0, 1.0], [-1.0, 1.0], [-3.0, 0.0]])
    >>> (h @ weight.T).tolist()
    [[3.0, 1.0, -3.0], [1.0, 1.0, 0.0]]
    >>> fx.linear_cross_entropy(h, weight, [0, 2]).round(8).tolist()
    [0.12910891, 1.8619948]
    """
    return _linear(
        inputs, weight, labels, bias, sample_weight, class_weight, ignore_index,
        label_smoothing, z_loss, reduction,
    )  # fmt: skip


def linear_cross_entropy_with_grad(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "none",
    upstream: Any = None,
    grad_out: Any = None,
) -> tuple[Any, LinearGradients]:
    r"""Softmax cross entropy of a linear layer, and its gradients.

    With the gradient :math:`G` to the logits, which is that of
    `sparse_softmax_cross_entropy_with_grad` and never held as a whole either:

    .. math::

        \frac{\partial L}{\partial h} = G \, \mathrm{weight}, \qquad
        \frac{\partial L}{\partial \mathrm{weight}} = G^T h, \qquad
        \frac{\partial L}{\partial \mathrm{bias}} = \sum_n G_n

    Parameters
    ----------
    inputs : array_like or sparse matrix
        Features ``h`` of each row, shape ``(..., D)``: float16, bfloat16, float32, float64;
        integers and bools count as float64. Or a SciPy CSR matrix or array ``(N, D)``.
    weight : array_like
        The features' weights for each class, shape ``(C, D)``.
    labels : array_like of int
        The class ``y`` of each row, in ``[0, C)``: any integer dtype, shape of ``inputs``
        without its last axis.
    bias : array_like, optional
        Added to the logits of each class, shape ``(C,)``.
    sample_weight : array_like, optional
        Weight ``u`` of each row; broadcasts to the losses. A row of weight 0 is not read.
    class_weight : array_like, optional
        Weight ``w`` of each class, shape ``(C,)``.
    ignore_index : int, optional
        Rows with this label are not read: loss and gradient 0, not counted in a mean.
    label_smoothing : float, default: 0.0
        Share ``e`` in [0, 1] of the label mass that is spread over all ``C`` classes.
    z_loss : float, default: 0.0
        Factor ``t`` of the penalty ``t lse^2``.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        ``'mean'`` divides the sum by that of sample weight x class weight of the label
        over the rows that count; ``'size_mean'`` by the number of rows;
        ``'nonzero_mean'`` by the number of rows that are not ignored and have a
        non-zero sample weight.
    upstream : array_like, optional
        Gradient with respect to the returned loss, same shape; 1 by default, so that
        ``reduction="none"`` gives the gradient of the sum.
    grad_out : LinearGradients or tuple of three, optional
        Arrays that receive the gradients to inputs, weight and bias: their shapes and dtypes.
        None in place of an array: a new one is made.

    Returns
    -------
    loss : ndarray or scalar
        As for `linear_cross_entropy`.
    grad : LinearGradients
        Named tuple of the gradients to ``inputs`` (None for sparse inputs), ``weight`` and
        ``bias`` (None without a bias), each with the shape and dtype of its array; float64
        for integers.

    Raises
    ------
    IndexError
        "labels must lie in [0, C) ...; got ... at position ...".
    ValueError
        "inputs must have shape (..., D) ...", another shape, a reduction or a number that is
        not allowed, an output that is
        read-only or overlaps an input. Nothing has been written then.
    TypeError
        A dtype that is not allowed, a sparse format other than CSR, arrays on a GPU of a
        library that does not multiply matrices.

    See Also
    --------
    linear_cross_entropy : The loss alone.

    Notes
    -----
    All is computed in the NumPy result type of inputs, weight and bias, half precision
    counting as float32. The logits are made a tile at a time by NumPy's matrix product, on
    the threads of its BLAS; so a loss may differ by the rounding of a product when other rows
    are beside its own, but not with the number of threads that `config` sets.
    Where all logits of at least a few hundred rows do not fit into the extra memory, most
    logits are made twice: four products instead of three.
    Arrays on a GPU are multiplied by their own library (CuPy, PyTorch), in larger tiles.
    Extra memory: 5 % of the logits' size, but at least 16 MB and at most 64 MB; if inputs or
    weight have another dtype than the one that is computed in, three arrays like inputs more.
    Error budget: that of the loss, and of the product 6e-8 (float64: 1.1e-16) x ``D`` x the
    largest ``sum_i |h_i weight_ki| + |bias_k|``.
    The sums that lead to the loss and to the gradient of the bias run in float64.

    References
    ----------
    PyTorch: ``torch.nn.functional.linear_cross_entropy``. E. Wijmans et al., "Cut your losses
    in large-vocabulary language models", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> import fastxent as fx
    >>> h, weight = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [-1.0, 1.0], [-3.0, 0.0]])
    >>> loss, grad = fx.linear_cross_entropy_with_grad(h, weight, [2], bias=np.zeros(3))
    >>> grad.bias.round(8).tolist()
    [0.87887824, 0.11894324, -0.99782148]
    >>> grad.inputs.round(8).tolist()
    [[3.75339944, 0.99782148]]
    >>> grad.weight.round(4).tolist()
    [[0.8789, 1.7578], [0.1189, 0.2379], [-0.9978, -1.9956]]
    """
    return _linear(
        inputs, weight, labels, bias, sample_weight, class_weight, ignore_index,
        label_smoothing, z_loss, reduction, True, upstream, grad_out,
    )  # fmt: skip


def _linear(
    inputs: Any,
    weight: Any,
    labels: Any,
    bias: Any,
    sample_weight: Any,
    class_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    reduction: Any,
    with_grad: bool = False,
    upstream: Any = None,
    grad_out: Any = None,
) -> Any:
    if gpu := _call.composed(inputs):
        return gpu.linear(
            _call._flat, LinearGradients, inputs, weight, labels, bias, sample_weight,
            class_weight, ignore_index, label_smoothing, z_loss, reduction, with_grad, upstream,
            grad_out,
        )  # fmt: skip
    inputs, weight, bias, dtype = _check.linear(inputs, weight, bias)
    x, sparse = inputs, _check.is_sparse(inputs)
    shape, num_classes = x.shape[:-1], weight.shape[0]
    y = _check.index_labels(labels, x, len(shape), "inputs")
    u = _check.broadcast("sample_weight", sample_weight, shape, "losses")
    w = _check.class_weight(class_weight, num_classes)
    ignore = _check.ignore_index(ignore_index, y.dtype)
    e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    t = _check.finite("z_loss", z_loss)
    reduction = _check.reduction(reduction)
    none = reduction == "none"
    g = _check.upstream(upstream, shape if none else ())
    given = _check.linear_outputs(grad_out, x, weight, bias)
    _check.apart(
        {f"grad_out.{name}": a for name, a in zip(LinearGradients._fields, given)},
        {"inputs": None if sparse else x, "weight": weight, "bias": bias, "labels": y,
         "sample_weight": u, "class_weight": w, "upstream": g},
        None,
    )  # fmt: skip
    denominator = _call.check_labels(y, u, w, ignore, num_classes, reduction)

    slope = 1.0
    if g is not None and not none:  # one number for all rows
        slope, g = float(g), None
    scale = slope / denominator if denominator else 0.0
    count = y.size
    x = x if sparse else x.reshape(count, x.shape[-1])
    loss = _Loss(y, u, g, w, e, t, scale, np.empty(count, dtype) if none else None).flat()
    rows = _present(loss, ignore)
    if rows is not None:
        loss = loss.part(rows)
    layer = _Layer(x, rows, weight, bias, dtype)
    grads = None
    if with_grad:
        arrays = (None if sparse else inputs, weight, bias)
        grads = LinearGradients(
            *(
                np.empty(a.shape, _check.gradient_types(a.dtype)[0])
                if out is None and a is not None
                else out
                for a, out in zip(arrays, given)
            )
        )
    with np.errstate(all="ignore"):
        sums = _run(layer, loss, grads)
    losses = loss.losses
    if losses is not None:
        if rows is not None:
            losses = np.zeros(count, dtype)
            losses[rows] = loss.losses
        losses = losses.reshape(shape)
    result = _call.reduced(losses, sums, denominator, dtype)
    return (result, grads) if with_grad else result


class _Loss(NamedTuple):
    """What the loss of a row is made of, for the rows that count."""

    y: Array
    u: Array | None
    g: Array | None  # upstream
    w: Array | None
    e: float
    t: float
    scale: float
    losses: Array | None

    def part(self, rows: Any) -> "_Loss":
        """The same of some rows."""
        u, g, losses = (a if a is None else a[rows] for a in (self.u, self.g, self.losses))
        return self._replace(y=self.y[rows], u=u, g=g, losses=losses)

    def flat(self) -> "_Loss":
        """The same with one axis."""
        u, g = (a if a is None else a.reshape(-1) for a in (self.u, self.g))
        return self._replace(y=self.y.reshape(-1), u=u, g=g)


def _present(loss: _Loss, ignore: int | None) -> Array | None:
    """The rows that count; None if all do."""
    y, w = loss.y, loss.w
    counts = np.ones(y.size, bool) if loss.u is None else loss.u != 0
    if ignore is not None:
        counts &= y != ignore
    if w is not None and loss.t == 0 and (loss.e == 0 or not w.any()):
        counts[counts] = w[y[counts]] != 0
    return None if counts.all() else np.flatnonzero(counts)


class _Layer(NamedTuple):
    """Where the logits come from."""

    x: Any  # (rows, D), dense or sparse
    rows: Array | None  # those of x that count; None for all
    weight: Array
    bias: Array | None
    dtype: np.dtype[Any]  # to compute in

    def features(self, part: slice) -> Any:
        """Inputs of some of the rows that count, as products take them."""
        x = self.x[part if self.rows is None else self.rows[part]]
        return x.astype(self.dtype, copy=False) if _check.is_sparse(x) else _plain(x, self.dtype)

    def logits(self, x: Any, begin: int, end: int, buffer: Array) -> Array:
        """Logits of some rows and classes, in the buffer."""
        z = buffer[: x.shape[0], : end - begin]
        weight = self.weight[begin:end]
        if _check.is_sparse(x):
            z[...] = x @ np.ascontiguousarray(weight.T, self.dtype)
        else:
            np.matmul(x, _plain(weight, self.dtype).T, out=z)
        if self.bias is not None:
            _call.add_outer(z, None, self.bias[begin:end].astype(self.dtype))
        return z


def _is_plain(a: Array, dtype: np.dtype[Any]) -> bool:
    """Does BLAS take a matrix as it is."""
    size = a.itemsize

    def rows(a: Array) -> bool:
        step = a.strides[0]
        return a.strides[1] == size and step % size == 0 and step >= size * max(1, a.shape[1])

    return a.dtype == dtype and a.flags.aligned and (rows(a) or rows(a.T))


def _plain(a: Array, dtype: np.dtype[Any]) -> Array:
    return a if _is_plain(a, dtype) else np.ascontiguousarray(a, dtype)


class _Sums:
    """The gradients, put together from tiles."""

    def __init__(self, grads: LinearGradients, layer: _Layer) -> None:
        self.layer, self.grads = layer, grads
        self.inputs = None  # the gradient as rows of D
        if grads.inputs is not None:
            self.inputs = grads.inputs.reshape(layer.x.shape)
        if layer.rows is not None and self.inputs is not None:
            self.inputs[...] = 0
        self.bias = None if layer.bias is None else np.zeros(len(layer.bias))
        # Rows that come in place, one after the other, need no array of their own.
        self.in_place = (
            self.inputs is not None
            and layer.rows is None
            and np.may_share_memory(self.inputs, grads.inputs)
            and _is_plain(self.inputs, layer.dtype)
        )

    def clear(self) -> None:
        """Nothing counts: all gradients are 0."""
        for a in self.grads:
            if a is not None:
                a[...] = 0

    def open(self, part: slice, x: Any, loss: _Loss) -> None:
        """Begin with some rows."""
        self.part, self.x = part, x
        self.flat = None if loss.g is None else loss.g == 0
        if self.flat is not None and self.flat.any():  # 0 x NaN is 0
            self.x = _without(x, self.flat)
        self.first = True
        if self.inputs is not None:
            self.sum = self.inputs[part] if self.in_place else np.empty(x.shape, x.dtype)

    def add(self, z: Array, begin: int, end: int) -> None:
        """Add what the gradient to the logits of some classes contributes."""
        layer = self.layer
        if self.inputs is not None:
            weight = _plain(layer.weight[begin:end], layer.dtype)
            if self.first:
                np.matmul(z, weight, out=self.sum)
            else:
                np.add(self.sum, np.matmul(z, weight), out=self.sum)
        self.first = False
        into = self.grads.weight[begin:end]
        if _check.is_sparse(self.x):
            product = (self.x.T @ z).T
        elif self.part.start == 0 and _is_plain(into, layer.dtype):
            product = np.matmul(z.T, self.x, out=into)
        else:
            product = np.matmul(z.T, self.x)
        if self.part.start != 0:
            into += product
        elif product is not into:
            into[...] = product
        if self.bias is not None:
            self.bias[begin:end] += _call.sum_columns(z)

    def close(self) -> None:
        """Finish these rows."""
        if self.inputs is not None:
            if self.flat is not None:
                self.sum[self.flat] = 0
            if not self.in_place:
                rows = self.part if self.layer.rows is None else self.layer.rows[self.part]
                self.inputs[rows] = self.sum

    def finish(self) -> None:
        """Write what is not in the given arrays yet."""
        if self.bias is not None:
            self.grads.bias[...] = self.bias.astype(self.layer.dtype)
        if self.inputs is not None and not np.may_share_memory(self.inputs, self.grads.inputs):
            self.grads.inputs[...] = self.inputs.reshape(self.grads.inputs.shape)


def _without(x: Any, rows: Array) -> Any:
    """A copy of inputs, 0 in some rows."""
    x = x.copy()
    if _check.is_sparse(x):
        x.data[np.repeat(rows, np.diff(x.indptr))] = 0
    else:
        x[rows] = 0
    return x


def _tile(count: int, layer: _Layer, loss: _Loss, sums: _Sums | None) -> tuple[int, int]:
    """Rows and classes of a tile: what it and all temporary arrays take fits into the budget."""
    size, (classes, features) = layer.dtype.itemsize, layer.weight.shape
    budget = int(min(max(_SHARE * count * classes * size, _LEAST), _MOST)) // size
    # Arrays of the tile's size; of its rows by the features; of its classes by the features.
    logits, by_row, by_class = 1, 0, 0
    if _check.is_sparse(layer.x):
        logits, by_class = 2, 1  # SciPy's product, and the weight transposed
    else:
        by_row += layer.rows is not None or not _is_plain(layer.x, layer.dtype)
        by_class += not _is_plain(layer.weight, layer.dtype)
    several = 0  # by_class, if the sums of several tiles are to be added up
    narrow = False
    if sums is not None:
        if sums.bias is not None:
            budget -= 8 * classes // size
        if sums.inputs is not None:  # a product, the sum where it has no place, and `_without`
            by_row += 1 + (not sums.in_place) + (loss.g is not None)
        place = sums.inputs is not None and _is_plain(sums.grads.weight, layer.dtype)
        by_class, several = by_class + (not place), int(place)
        narrow = sums.grads.weight.dtype != layer.dtype  # cannot hold the sums of several tiles

    def rows(by_class: int) -> int:
        room = budget - by_class * classes * features
        return room // (logits * (classes + _PAD) + by_row * features)

    if rows(by_class) >= count:
        return count, classes
    most = min(count, _MANY_ROWS, max(1, budget // max(1, 2 * by_row * features)))
    if not narrow and rows(by_class + several) >= min(_FEW_ROWS, most):
        return rows(by_class + several), classes
    if narrow:
        most = count
    if most < count:
        by_class += several
    room = max(budget - most * by_row * features, budget // 2)
    width = room // (logits * most + by_class * features) - _PAD
    return most, min(classes, max(1, width))


def _run(layer: _Layer, loss: _Loss, grads: LinearGradients | None) -> list[float]:
    """The losses, the sums of them that make up the total, and the gradients."""
    count, classes = len(loss.y), len(layer.weight)
    sums = None if grads is None else _Sums(grads, layer)
    if sums is not None and (count == 0 or loss.scale == 0):
        sums.clear()
        sums = None
    if count == 0:
        return []
    rows, width = _tile(count, layer, loss, sums)
    buffer = np.zeros((rows, width + _PAD), layer.dtype)
    total: list[float] = []
    for first in range(0, count, rows):
        part = slice(first, min(first + rows, count))
        x, own = layer.features(part), loss.part(part)
        if sums is not None:
            sums.open(part, x, own)
        tiles = _whole if width == classes else _pieces
        total += tiles(layer, own, x, buffer, sums)
        if sums is not None:
            sums.close()
    if sums is not None:
        sums.finish()
    return total


def _whole(layer: _Layer, loss: _Loss, x: Any, buffer: Array, sums: _Sums | None) -> list[float]:
    """Rows with all their classes at once."""
    classes = len(layer.weight)
    z = layer.logits(x, 0, classes, buffer)
    total = _call.index_rows(
        z, loss.y, loss.u, loss.g, loss.w, loss.e, loss.t, loss.scale, loss.losses,
        sums is not None,
    )  # fmt: skip
    if sums is not None:
        sums.add(z, 0, classes)
    return total


def _pieces(layer: _Layer, loss: _Loss, x: Any, buffer: Array, sums: _Sums | None) -> list[float]:
    """Some classes of all rows after some others."""
    classes, width = len(layer.weight), buffer.shape[1] - _PAD
    y = loss.y.astype(np.intp)
    at_label = np.empty(len(y), layer.dtype)
    stats: Any = None
    for begin, end in _spans(classes, width):
        z = layer.logits(x, begin, end, buffer)
        here = np.flatnonzero((begin <= y) & (y < end))
        at_label[here] = z[here, y[here] - begin]
        w = None if loss.w is None else loss.w[begin:end]
        stats = _call.scan_rows(z, w, loss.e, stats)
    total = _call.finish_rows(
        at_label, loss.y, loss.u, loss.w, loss.e, loss.t, loss.losses, stats, classes
    )
    if sums is None:
        return total
    slopes = _slopes(loss, stats, at_label.astype(np.float64), classes)
    for begin, end in reversed(_spans(classes, width)):
        if end < classes:  # the logits of the last ones are there
            layer.logits(x, begin, end, buffer)
        z = buffer[: len(y), : end - begin]
        _call.softmax_rows(buffer[: len(y), : end - begin + 1], slopes.all, stats)
        if loss.e:
            w = None if loss.w is None else loss.w[begin:end].astype(np.float64)
            _call.add_outer(z, slopes.smooth, w)
        here = np.flatnonzero((begin <= y) & (y < end))
        z[here, y[here] - begin] = slopes.label[here]
        sums.add(z, begin, end)
    return total


def _spans(classes: int, width: int) -> list[tuple[int, int]]:
    """Pieces of the classes; a shorter one comes first, for the last is kept."""
    ends = range(classes, 0, -width)
    return [(max(0, end - width), end) for end in reversed(ends)]


class _Slopes(NamedTuple):
    """The gradient of a row: ``all`` p_k + ``smooth`` w_k, but ``label`` at the label."""

    all: Array
    smooth: Array
    label: Array


def _slopes(loss: _Loss, stats: Array, at_label: Array, classes: int) -> _Slopes:
    m, rest, weight = stats[:, 0], stats[:, 1], stats[:, 2]
    lse = m + np.log1p(rest)
    wy = 1.0 if loss.w is None else loss.w[loss.y].astype(np.float64)
    hard, share = (1 - loss.e) * wy, loss.e / classes
    others = np.full(len(m), 2 * loss.t) * lse if loss.t else np.zeros(len(m))
    if loss.e:
        others += share * weight
    d = m - at_label
    near = np.exp(-d)
    not_label = np.where(d == 0, rest, 1 + rest - near) / (1 + rest)
    label = others * (near / (1 + rest)) - share * wy - hard * not_label
    g = np.full(len(m), loss.scale)
    if loss.g is not None:
        g = g * loss.g
    flat = g == 0
    if loss.u is not None:
        g = g * loss.u
    broken = ~np.isfinite(lse)
    parts = (hard + others, -share * np.ones(len(m)), label)
    return _Slopes(*(np.where(flat, 0.0, np.where(broken, np.nan, g * a)) for a in parts))
