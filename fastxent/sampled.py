"""Losses over a few sampled classes in place of all, and their gradients."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from . import _call, _check, _choices, samplers

__all__ = [
    "SampledGradients",
    "nce_loss",
    "nce_loss_with_grad",
    "sampled_softmax_loss",
    "sampled_softmax_loss_with_grad",
    "scatter_add",
]

Array = np.ndarray[Any, Any]

SAMPLERS = {"log_uniform": samplers.LogUniform, "uniform": samplers.Uniform}

_LOGITS = 1 << 17  # logits held at a time: half a megabyte or one
_ROWS = 256  # rows that are worth a piece of the sums over rows
_PIECES = 16  # of those sums, at most
_WHOLE = 16  # widths of what is multiplied are multiples of it
_BITS = (1 << 16) - 1  # of an id, by which most labels are told to be no hit
_NARROW = 200  # columns below which the softmax is of turned logits


class SampledGradients(NamedTuple):
    """Gradients of a sampled loss; those of weight and bias in rows, to be added at ``ids``.

    Parameters
    ----------
    inputs : ndarray
        Shape and dtype of ``inputs``.
    ids : ndarray of int64
        Classes of the rows: the labels of the rows that count, then the sampled classes. A class
        may come several times; `scatter_add` adds all its rows up.
    weight : ndarray
        A row for each of ``ids``, in the dtype of ``weight``.
    bias : ndarray or None
        An entry for each of ``ids``, in the dtype of ``bias``; None without a bias.

    See Also
    --------
    scatter_add : Add the rows to an array.

    Examples
    --------
    >>> import fastxent as fx
    >>> chosen = [0], [1.0], [1.0]
    >>> _, grad = fx.nce_loss_with_grad([[0.0]], [[1.0], [2.0]], [1], sampled=chosen)
    >>> grad.ids.tolist(), grad.inputs.tolist()
    ([1, 0], [[-0.5]])
    """

    inputs: Any
    ids: Any
    weight: Any
    bias: Any


def nce_loss(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    num_sampled: int | None = None,
    sampler: Any = "log_uniform",
    sampled: Any = None,
    remove_accidental_hits: bool = False,
    rng: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
) -> Any:
    r"""Noise-contrastive estimation: labels against sampled classes, one by one.

    Trains where there are too many classes for a softmax: each label and each sampled class is
    told from noise by itself. `sampled_softmax_loss` chooses one among them instead.

    .. math::

        L = u \Bigl[ \sum_{t=1}^T \bigl( (1 - \tfrac1T) \log(1 + e^{x_t})
            + \tfrac1T \log(1 + e^{-x_t}) \bigr) + \sum_{s=1}^S \log(1 + e^{x_s}) \Bigr]

    with the logits of a label and of a sampled class, whose expected count is :math:`c`,

    .. math:: x = h \cdot W_k + b_k - \log c_k

    Parameters
    ----------
    inputs : array_like
        Vectors ``h`` to be classified, shape ``(B, D)``: float16, bfloat16, float32, float64,
        integer or bool.
    weight : array_like or list of array_like
        Vectors ``W`` of the classes, shape ``(C, D)``, or a list of partitions: arrays whose
        concatenation along the first axis has that shape. They are never concatenated.
    labels : array_like of int
        The classes of each row, in ``[0, C)``: shape ``(B,)``, or ``(B, T)`` for T of them.
    bias : array_like, optional
        Shape ``(C,)``; 0 by default.
    num_sampled : int, optional
        How many classes to draw; may be left out where ``sampled`` is given.
    sampler : {'log_uniform', 'uniform'} or sampler of `samplers`, default: 'log_uniform'
        What draws distinct classes, once for all rows.
    sampled : Candidates, optional
        What the ``sample`` of a sampler returned, or such a tuple ``(ids, true_expected,
        sampled_expected)``, with ``true_expected`` in the shape of ``labels``. Nothing is drawn
        then. Ids may repeat.
    remove_accidental_hits : bool, default: False
        Leave out of each row the sampled classes that are among its labels.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from. The same seed gives the same classes.
    sample_weight : array_like, optional
        Weight ``u`` of each row, broadcasts to ``(B,)``. A row of weight 0 is not read, nor is
        its label checked.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        The losses; their sum; or that divided by the sum of the weights, by the number of rows,
        or by the number of rows whose weight is not 0.

    Returns
    -------
    loss : ndarray or scalar
        Shape ``(B,)``, or a scalar where it is reduced. The NumPy result type of ``inputs``,
        ``weight`` and ``bias``, where half precision counts as float32 and integers as float64.

    Raises
    ------
    IndexError
        "labels must lie in [0, C); got ... at position ...".
    ValueError
        "num_sampled must ...", "sampled ... must ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed, arrays on a GPU of a library that does not multiply matrices.

    See Also
    --------
    nce_loss_with_grad : The gradients too.
    sampled_softmax_loss : A choice of one among label and sampled classes.

    Notes
    -----
    Expected counts that are all alike only shift the biases. Each entry is within the error
    budget of `sigmoid_cross_entropy` for its logit, which has the rounding of a product.
    Arrays on a GPU are multiplied by their own library (CuPy, PyTorch). ``labels``,
    ``sample_weight`` and ``upstream`` are copied to the host, where classes are drawn.

    References
    ----------
    M. Gutmann, A. Hyvarinen: Noise-contrastive estimation (AISTATS 2010). TensorFlow:
    ``tf.nn.nce_loss``.

    Examples
    --------
    One row and two classes beside its own, each expected once:

    >>> import fastxent as fx
    >>> h, W = [[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]]
    >>> fx.nce_loss(h, W, [1], sampled=([0, 2], [1.0], [1.0, 1.0])).round(6).tolist()
    [1.641603]

    Drawn from a vocabulary in the order of its frequencies:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> h, W = rng.normal(size=(4, 3)), rng.normal(size=(1000, 3))
    >>> fx.nce_loss(h, W, [0, 7, 3, 500], num_sampled=5, rng=rng).shape
    (4,)
    """
    return _loss(
        False, inputs, weight, labels, bias, num_sampled, sampler, sampled,
        remove_accidental_hits, rng, sample_weight, reduction,
    )  # fmt: skip


def nce_loss_with_grad(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    num_sampled: int | None = None,
    sampler: Any = "log_uniform",
    sampled: Any = None,
    remove_accidental_hits: bool = False,
    rng: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    upstream: Any = None,
) -> tuple[Any, SampledGradients]:
    r"""Noise-contrastive estimation, and its gradients.

    .. math::

        \frac{\partial L}{\partial x_t} = g\, \bigl( \sigma(x_t) - \tfrac1T \bigr), \qquad
        \frac{\partial L}{\partial x_s} = g\, \sigma(x_s)

    with the logits of `nce_loss`, and from there to vectors and biases; ``g`` is the
    weight of the row x upstream gradient x 1 or the reciprocal of the denominator.

    Parameters
    ----------
    inputs : array_like
        Vectors ``h`` to be classified, shape ``(B, D)``: float16, bfloat16, float32, float64,
        integer or bool.
    weight : array_like or list of array_like
        Vectors ``W`` of the classes, shape ``(C, D)``, or a list of partitions: arrays whose
        concatenation along the first axis has that shape. They are never concatenated.
    labels : array_like of int
        The classes of each row, in ``[0, C)``: shape ``(B,)``, or ``(B, T)`` for T of them.
    bias : array_like, optional
        Shape ``(C,)``; 0 by default.
    num_sampled : int, optional
        How many classes to draw; may be left out where ``sampled`` is given.
    sampler : {'log_uniform', 'uniform'} or sampler of `samplers`, default: 'log_uniform'
        What draws distinct classes, once for all rows.
    sampled : Candidates, optional
        What the ``sample`` of a sampler returned, or such a tuple ``(ids, true_expected,
        sampled_expected)``, with ``true_expected`` in the shape of ``labels``. Nothing is drawn
        then. Ids may repeat.
    remove_accidental_hits : bool, default: False
        Leave out of each row the sampled classes that are among its labels.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from. The same seed gives the same classes.
    sample_weight : array_like, optional
        Weight ``u`` of each row, broadcasts to ``(B,)``. A row of weight 0 is not read, nor is
        its label checked.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        The losses; their sum; or that divided by the sum of the weights, by the number of rows,
        or by the number of rows whose weight is not 0.
    upstream : array_like, optional
        Gradient with respect to the returned loss, same shape; 1 by default.

    Returns
    -------
    loss : ndarray or scalar
        Shape ``(B,)``, or a scalar where it is reduced. The NumPy result type of ``inputs``,
        ``weight`` and ``bias``, where half precision counts as float32 and integers as float64.
    grad : SampledGradients
        ``inputs``, ``ids``, ``weight`` and ``bias``; the last two in rows, for `scatter_add`.

    Raises
    ------
    IndexError
        "labels must lie in [0, C); got ... at position ...".
    ValueError
        "num_sampled must ...", "sampled ... must ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed, arrays on a GPU of a library that does not multiply matrices.

    See Also
    --------
    nce_loss : The loss alone.
    scatter_add : Add the rows of the gradients to an array.

    References
    ----------
    M. Gutmann, A. Hyvarinen: Noise-contrastive estimation (AISTATS 2010). TensorFlow:
    ``tf.nn.nce_loss``.

    Examples
    --------
    A step of gradient descent:

    >>> import numpy as np
    >>> import fastxent as fx
    >>> h, W = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]])
    >>> chosen = [0, 2], [1.0], [1.0, 1.0]
    >>> loss, grad = fx.nce_loss_with_grad(h, W, [1], sampled=chosen)
    >>> grad.ids.tolist()
    [1, 0, 2]
    >>> h -= 0.1 * grad.inputs
    >>> fx.scatter_add(W, grad.ids, -0.1 * grad.weight)
    >>> bool(fx.nce_loss(h, W, [1], sampled=chosen) < loss)
    True
    """
    return _loss(
        False, inputs, weight, labels, bias, num_sampled, sampler, sampled,
        remove_accidental_hits, rng, sample_weight, reduction, True, upstream,
    )  # fmt: skip


def sampled_softmax_loss(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    num_sampled: int | None = None,
    sampler: Any = "log_uniform",
    sampled: Any = None,
    remove_accidental_hits: bool = True,
    rng: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
) -> Any:
    r"""Softmax cross entropy over the labels and a few sampled classes.

    Trains where there are too many classes for a softmax; measure with the full one. With all
    classes as candidates, each expected once, and the hits removed, it is the full softmax loss.

    .. math::

        L = u \Bigl[ \mathrm{lse}(x_{t=1}, \dots, x_{t=T}, x_{s=1}, \dots, x_{s=S})
            - \tfrac1T \sum_{t=1}^T x_t \Bigr]

    with the logits of a label and of a sampled class, whose expected count is :math:`c`,

    .. math:: x = h \cdot W_k + b_k - \log c_k

    Parameters
    ----------
    inputs : array_like
        Vectors ``h`` to be classified, shape ``(B, D)``: float16, bfloat16, float32, float64,
        integer or bool.
    weight : array_like or list of array_like
        Vectors ``W`` of the classes, shape ``(C, D)``, or a list of partitions: arrays whose
        concatenation along the first axis has that shape. They are never concatenated.
    labels : array_like of int
        The classes of each row, in ``[0, C)``: shape ``(B,)``, or ``(B, T)`` for T of them.
    bias : array_like, optional
        Shape ``(C,)``; 0 by default.
    num_sampled : int, optional
        How many classes to draw; may be left out where ``sampled`` is given.
    sampler : {'log_uniform', 'uniform'} or sampler of `samplers`, default: 'log_uniform'
        What draws distinct classes, once for all rows.
    sampled : Candidates, optional
        What the ``sample`` of a sampler returned, or such a tuple ``(ids, true_expected,
        sampled_expected)``, with ``true_expected`` in the shape of ``labels``. Nothing is drawn
        then. Ids may repeat.
    remove_accidental_hits : bool, default: True
        Leave out of each row the sampled classes that are among its labels.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from. The same seed gives the same classes.
    sample_weight : array_like, optional
        Weight ``u`` of each row, broadcasts to ``(B,)``. A row of weight 0 is not read, nor is
        its label checked.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        The losses; their sum; or that divided by the sum of the weights, by the number of rows,
        or by the number of rows whose weight is not 0.

    Returns
    -------
    loss : ndarray or scalar
        Shape ``(B,)``, or a scalar where it is reduced. The NumPy result type of ``inputs``,
        ``weight`` and ``bias``, where half precision counts as float32 and integers as float64.

    Raises
    ------
    IndexError
        "labels must lie in [0, C); got ... at position ...".
    ValueError
        "num_sampled must ...", "sampled ... must ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed, arrays on a GPU of a library that does not multiply matrices.

    See Also
    --------
    sampled_softmax_loss_with_grad : The gradients too.
    nce_loss : Each class by itself.

    Notes
    -----
    Expected counts that are all alike change nothing. Each row is within the error budget of
    `softmax_cross_entropy` for its logits, which have the rounding of a product.
    Arrays on a GPU are multiplied by their own library (CuPy, PyTorch). ``labels``,
    ``sample_weight`` and ``upstream`` are copied to the host, where classes are drawn.

    References
    ----------
    S. Jean, K. Cho, R. Memisevic, Y. Bengio: On using very large target vocabulary (ACL 2015).
    TensorFlow: ``tf.nn.sampled_softmax_loss``.

    Examples
    --------
    All classes as candidates, each expected once, give the full softmax loss:

    >>> import fastxent as fx
    >>> h, W = [[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]]
    >>> every = ([0, 1, 2], [1.0], [1.0, 1.0, 1.0])
    >>> fx.sampled_softmax_loss(h, W, [1], sampled=every).round(6).tolist()
    [0.335098]
    >>> fx.sparse_softmax_cross_entropy([[1.0, 2.0, -1.5]], [1]).round(6).tolist()
    [0.335098]
    """
    return _loss(
        True, inputs, weight, labels, bias, num_sampled, sampler, sampled,
        remove_accidental_hits, rng, sample_weight, reduction,
    )  # fmt: skip


def sampled_softmax_loss_with_grad(
    inputs: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    num_sampled: int | None = None,
    sampler: Any = "log_uniform",
    sampled: Any = None,
    remove_accidental_hits: bool = True,
    rng: Any = None,
    sample_weight: Any = None,
    reduction: str = "none",
    upstream: Any = None,
) -> tuple[Any, SampledGradients]:
    r"""Softmax cross entropy over labels and sampled classes, and its gradients.

    .. math::

        \frac{\partial L}{\partial x_t} = g\, \bigl( p_t - \tfrac1T \bigr), \qquad
        \frac{\partial L}{\partial x_s} = g\, p_s

    with the logits of `sampled_softmax_loss`, and from there to vectors and biases; ``g`` is the
    weight of the row x upstream gradient x 1 or the reciprocal of the denominator.

    Parameters
    ----------
    inputs : array_like
        Vectors ``h`` to be classified, shape ``(B, D)``: float16, bfloat16, float32, float64,
        integer or bool.
    weight : array_like or list of array_like
        Vectors ``W`` of the classes, shape ``(C, D)``, or a list of partitions: arrays whose
        concatenation along the first axis has that shape. They are never concatenated.
    labels : array_like of int
        The classes of each row, in ``[0, C)``: shape ``(B,)``, or ``(B, T)`` for T of them.
    bias : array_like, optional
        Shape ``(C,)``; 0 by default.
    num_sampled : int, optional
        How many classes to draw; may be left out where ``sampled`` is given.
    sampler : {'log_uniform', 'uniform'} or sampler of `samplers`, default: 'log_uniform'
        What draws distinct classes, once for all rows.
    sampled : Candidates, optional
        What the ``sample`` of a sampler returned, or such a tuple ``(ids, true_expected,
        sampled_expected)``, with ``true_expected`` in the shape of ``labels``. Nothing is drawn
        then. Ids may repeat.
    remove_accidental_hits : bool, default: True
        Leave out of each row the sampled classes that are among its labels.
    rng : None, int or numpy.random.Generator, optional
        Where the randomness comes from. The same seed gives the same classes.
    sample_weight : array_like, optional
        Weight ``u`` of each row, broadcasts to ``(B,)``. A row of weight 0 is not read, nor is
        its label checked.
    reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
        The losses; their sum; or that divided by the sum of the weights, by the number of rows,
        or by the number of rows whose weight is not 0.
    upstream : array_like, optional
        Gradient with respect to the returned loss, same shape; 1 by default.

    Returns
    -------
    loss : ndarray or scalar
        Shape ``(B,)``, or a scalar where it is reduced. The NumPy result type of ``inputs``,
        ``weight`` and ``bias``, where half precision counts as float32 and integers as float64.
    grad : SampledGradients
        ``inputs``, ``ids``, ``weight`` and ``bias``; the last two in rows, for `scatter_add`.

    Raises
    ------
    IndexError
        "labels must lie in [0, C); got ... at position ...".
    ValueError
        "num_sampled must ...", "sampled ... must ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed, arrays on a GPU of a library that does not multiply matrices.

    See Also
    --------
    sampled_softmax_loss : The loss alone.
    scatter_add : Add the rows of the gradients to an array.

    References
    ----------
    S. Jean, K. Cho, R. Memisevic, Y. Bengio: On using very large target vocabulary (ACL 2015).
    TensorFlow: ``tf.nn.sampled_softmax_loss``.

    Examples
    --------
    A step of gradient descent:

    >>> import numpy as np
    >>> import fastxent as fx
    >>> h, W = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]])
    >>> chosen = [0, 2], [1.0], [1.0, 1.0]
    >>> loss, grad = fx.sampled_softmax_loss_with_grad(h, W, [1], sampled=chosen)
    >>> grad.ids.tolist()
    [1, 0, 2]
    >>> h -= 0.1 * grad.inputs
    >>> fx.scatter_add(W, grad.ids, -0.1 * grad.weight)
    >>> bool(fx.sampled_softmax_loss(h, W, [1], sampled=chosen) < loss)
    True
    """
    return _loss(
        True, inputs, weight, labels, bias, num_sampled, sampler, sampled,
        remove_accidental_hits, rng, sample_weight, reduction, True, upstream,
    )  # fmt: skip


def scatter_add(target: Any, ids: Any, values: Any) -> None:
    """Add rows to the rows of an array, in place; rows of one id add up.

    Parameters
    ----------
    target : ndarray or list of ndarray
        Shape ``(C, ...)``, or a list of partitions of it along the first axis. Written.
    ids : array_like of int
        Where each row goes, in ``[0, C)``: shape ``(n,)``. May repeat.
    values : array_like
        Rows, shape ``(n, ...)``, converted to the dtype of ``target``.

    Raises
    ------
    IndexError
        "ids must lie in [0, C); got ... at position ...". Nothing is written then.
    ValueError
        "values must have shape ...", "target must be writeable ...".
    TypeError
        "target must be a NumPy array ...".

    See Also
    --------
    nce_loss_with_grad : Makes such rows.
    sampled_softmax_loss_with_grad : Makes such rows.

    Notes
    -----
    ``target[ids] += values`` would keep one of the rows of an id. Rows of one id are added up
    first, in the order in which they come, in float64 for an array of float64 and else in float32.
    Arrays on a GPU: ``ids`` are copied to the host, which sorts them.

    Examples
    --------
    >>> import numpy as np
    >>> import fastxent as fx
    >>> target = np.zeros((3, 2))
    >>> fx.scatter_add(target, [2, 0, 2], [[1, 1], [2, 2], [3, 3]])
    >>> target.tolist()
    [[2.0, 2.0], [0.0, 0.0], [4.0, 4.0]]
    """
    parts = target if isinstance(target, list | tuple) else [target]
    if parts and (gpu := _call.composed(parts[0])):
        gpu.scatter_add(parts, ids, values)
        return
    shape = _check.targets(parts)
    starts = _starts(parts)
    at = _check.class_ids("ids", ids, starts[-1])
    rows = _check.rows("values", values, at, shape)
    order = np.argsort(at, kind="stable")
    at, first = np.unique(at[order], return_index=True)
    if at.size < order.size:
        dtype = np.float64 if parts[0].dtype == np.float64 else np.float32
        rows = np.add.reduceat(rows[order].astype(dtype), first, axis=0)
    else:
        rows = rows[order]
    for part, start, end in zip(parts, starts, starts[1:]):
        here = slice(*np.searchsorted(at, (start, end)))
        part[at[here] - start] += rows[here].astype(part.dtype)


# ---- the composition -----------------------------------------------------------------


def _starts(parts: Any) -> list[int]:
    """Where each partition begins, and the last ends."""
    return [0, *accumulate(map(len, parts))]


def _gather(parts: list[Array], ids: Array, out: Array) -> Array:
    """Rows of an array in partitions, copied to ``out``."""
    if len(parts) == 1 and parts[0].dtype == out.dtype:
        return parts[0].take(ids, axis=0, out=out, mode="clip")  # "raise" would need a buffer
    starts = _starts(parts)
    for part, start, end in zip(parts, starts, starts[1:]):
        here = np.flatnonzero((ids >= start) & (ids < end))
        out[here] = part.take(ids[here] - start, axis=0)
    return out


def accidental_hits(labels: Array, sampled: Array) -> tuple[Array, Array]:
    """Return (row, position in ``sampled``) of every sampled class that is a label of the row."""
    # Few labels share the last bits of their ids with a sampled class: 6 in place of 40
    # microseconds for 1024 labels and 64 classes.
    some = np.zeros(_BITS + 1, np.bool_)
    some[sampled & _BITS] = True
    flat = labels.ravel()
    hits = np.flatnonzero(some[flat & _BITS])
    order = np.argsort(sampled, kind="stable")
    ordered = sampled[order]
    first = np.searchsorted(ordered, flat[hits], "left")
    times = np.searchsorted(ordered, flat[hits], "right") - first
    nth = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    rows = np.repeat(hits // labels.shape[1], times)
    return rows, order[np.repeat(first, times) + nth]


def _loss(
    softmax: bool,
    inputs: Any,
    weight: Any,
    labels: Any,
    bias: Any,
    num_sampled: Any,
    sampler: Any,
    sampled: Any,
    remove_accidental_hits: Any,
    rng: Any,
    sample_weight: Any,
    reduction: Any,
    with_grad: bool = False,
    upstream: Any = None,
) -> Any:
    if gpu := _call.composed(inputs):
        return gpu.sampled(
            accidental_hits, SAMPLERS, SampledGradients, softmax, inputs, weight, labels, bias,
            num_sampled, sampler, sampled, remove_accidental_hits, rng, sample_weight, reduction,
            with_grad, upstream,
        )  # fmt: skip
    x, x_type, x_grad_type = _check.vectors("inputs", inputs)
    parts, w_type, w_grad_type = _check.partitions(weight, x.shape[1])
    num_classes = _starts(parts)[-1]
    b, b_type, b_grad_type = _check.per_class("bias", bias, num_classes)
    dtype = np.result_type(x_type, w_type, b_type)
    y = _check.labels_of_rows(labels, len(x))
    size, num_true = y.shape
    u = _check.broadcast("sample_weight", sample_weight, (size,), "losses")
    none = _check.reduction(reduction) == "none"
    g = _check.upstream(upstream, (size,) if none else ())

    # Rows of weight 0 are left out from here on.
    rows: Any = slice(None)
    if u is not None and not u.all():
        rows = np.flatnonzero(u)
        y = np.where((u == 0)[:, None], y.dtype.type(0), y)
    y, s, true_expected, sampled_expected = _check.drawn(
        y, np.shape(labels), rows, num_classes, sampler, SAMPLERS, num_sampled, sampled, rng
    )
    _call.awaken(y.size * s.size * x.shape[1])  # by the time that all is gathered, they are

    total, count = _call.weights(u, size)
    denominator = _check.denominator_of(reduction, total, size, count)
    scale = 1.0 / denominator if denominator else 0.0
    factor = None  # of each row's gradient, beside the one for all of them
    if with_grad and not (u is None and g is None):
        us, gs = (np.ones(size) if a is None else a.astype(np.float64) for a in (u, g))
        factor = _call.factor_of(scale, us, gs)[rows]
        scale = 1.0

    x = np.ascontiguousarray(x[rows], dtype)
    ids = np.concatenate([y.ravel(), s])
    shift = -np.log(np.concatenate([true_expected.ravel(), sampled_expected]))
    if b is not None:
        shift += b[ids]
    shift = shift.astype(dtype)
    hits = accidental_hits(y, s) if remove_accidental_hits else None
    loss = _choose if softmax else _tell
    each = none or u is not None
    losses, *grads = _blocks(
        loss, x, y, s, parts, shift, hits, factor, scale, with_grad, each, b is not None
    )
    if u is not None:
        losses *= u[rows]
    if none:
        value: Any = np.zeros(size, dtype)
        with np.errstate(over="ignore"):
            value[rows] = losses
    else:
        with np.errstate(over="ignore"):  # a loss beyond the dtype is inf, rounded once
            value = dtype.type(losses.sum() / denominator if denominator else np.nan)
    if not with_grad:
        return value
    d_x, d_rows, d_logits = grads
    d_inputs = d_x
    if len(d_x) < size:
        d_inputs = np.zeros((size, d_x.shape[1]), dtype)
        d_inputs[rows] = d_x
    return value, SampledGradients(
        d_inputs.astype(x_grad_type, copy=False),
        ids,
        d_rows.astype(w_grad_type, copy=False),
        None if b is None else d_logits.astype(b_grad_type),
    )


def _wide(a: Array) -> Array:
    """The same columns, and so many of zeros that whole vectors of them can be read."""
    rows, columns = a.shape
    if columns % _WHOLE == 0:
        return a
    wide = np.zeros((rows, -(-columns // _WHOLE) * _WHOLE), a.dtype)
    wide[:, :columns] = a
    return wide


def _blocks(
    loss: Callable[..., Any],
    x: Array,
    labels: Array,
    sampled: Array,
    parts: list[Array],
    shift: Array,
    hits: tuple[Array, Array] | None,
    factor: Array | None,
    scale: float,
    with_grad: bool,
    each: bool,
    biased: bool,
) -> tuple[Any, ...]:
    """Losses of the rows or their sum; with gradients those of inputs, class vectors and logits.

    A block of rows goes through all steps while it is in the cache; logits exist only there.
    """
    (size, num_true), (_, features), dtype = labels.shape, x.shape, x.dtype
    count, columns = sampled.size, num_true + sampled.size
    at_sampled = _gather(parts, sampled, np.empty((count, features), dtype))
    turned, at_sampled = _wide(np.ascontiguousarray(at_sampled.T)), _wide(at_sampled)
    shift, shared = shift[: labels.size].reshape(labels.shape), shift[labels.size :]
    step = max(_ROWS, _LOGITS // columns // _ROWS * _ROWS)
    narrow = loss is _choose and columns < _NARROW
    losses = np.empty(size if each else -(-size // step))
    if with_grad:
        d_x = np.empty(x.shape, dtype)
        d_rows = np.empty((labels.size + count, features), dtype)
        d_logits = np.empty(labels.size + count) if biased else None
        # Where many classes are sampled, the sums take no more room than the gradients.
        room = (4 * (size + labels.size) + 4 * count) // max(1, count)
        pieces = max(1, min(_PIECES, -(-min(step, size) // _ROWS), room))
        sums = np.zeros((pieces, *at_sampled.shape), dtype)
        logit_sums = np.zeros((pieces, count)) if biased else None

    for start in range(0, size, step):
        here = slice(start, min(size, start + step))
        xs, ids = x[here], labels[here]
        if len(parts) == 1 and parts[0].dtype == dtype and parts[0].flags.c_contiguous:
            vectors = parts[0]
        else:
            vectors = _gather(parts, ids.ravel(), np.empty((ids.size, features), dtype))
            ids = np.arange(ids.size).reshape(ids.shape)
        if narrow:  # an odd number of vectors apart, or columns would share places in the cache
            logits = np.empty((columns, len(xs) + 16), dtype)[:, : len(xs)].T
        else:
            logits = np.empty((len(xs), columns), dtype)
        wide = _wide(xs)
        _call.sampled_logits(wide, vectors, ids, turned, shift[here], shared, logits)
        if hits is not None:
            found = slice(*np.searchsorted(hits[0], (here.start, here.stop)))
            # Costs nothing, and its gradient is 0.
            logits[hits[0][found] - here.start, num_true + hits[1][found]] = -np.inf
        by = None if factor is None else factor[here]
        value = loss(logits, num_true, with_grad, by, scale, each)
        losses[here if each else start // step] = value
        if not with_grad:
            continue
        # The gradient has taken the place of the logits.
        silent = None if by is None or by.all() else by == 0
        if silent is not None:  # 0, whatever the vector is
            wide = np.where(silent[:, None], dtype.type(0), wide)
        flat = slice(here.start * num_true, here.stop * num_true)
        _call.sampled_gradients(
            wide, vectors, ids, at_sampled, logits, d_x[here], d_rows[flat], sums, logit_sums
        )
        if silent is not None:
            d_x[here][silent] = 0
        if d_logits is not None:
            d_logits[flat].reshape(-1, num_true)[...] = logits[:, :num_true]
    if not with_grad:
        return (losses,)
    with np.errstate(all="ignore"):
        np.add.reduce(sums[:, :, :features], axis=0, out=d_rows[labels.size :])
        if d_logits is not None and logit_sums is not None:
            np.add.reduce(logit_sums, axis=0, out=d_logits[labels.size :])
    return losses, d_x, d_rows, d_logits


def _targets(logits: Array, num_true: int) -> Array:
    """1 / num_true for each label of a row, 0 for the sampled classes."""
    one = np.zeros(logits.shape[1], logits.dtype)
    one[:num_true] = 1 / num_true
    # The same row for all, in 1 microsecond where broadcast_to takes 10.
    return np.ndarray(logits.shape, one.dtype, one, 0, (0, one.itemsize))


def _tell(
    logits: Array, num_true: int, with_grad: bool, factor: Array | None, scale: float, each: bool
) -> Any:
    """NCE: the loss of each row, or their sum; the gradient takes the place of the logits."""
    upstream = None if factor is None else np.broadcast_to(factor[:, None], logits.shape)
    losses = np.empty_like(logits) if each else None
    targets = _targets(logits, num_true)
    total = _call.entry_rows(logits, targets, upstream, scale, losses, with_grad)
    if losses is None:
        return total
    return np.einsum("ij->i", losses, dtype=np.float64)  # two thirds of the time of sum()


def _choose(
    logits: Array, num_true: int, with_grad: bool, factor: Array | None, scale: float, each: bool
) -> Any:
    """Sampled softmax: the same."""
    if num_true == 1:
        losses = np.empty(len(logits), logits.dtype) if each else None
        zeros = np.zeros(len(logits), np.intp)  # the label's column
        sums = _call.index_rows(
            logits, zeros, None, factor, None, 0.0, 0.0, scale, losses, with_grad, _choices.AWAKE
        )
        return sum(sums) if losses is None else losses
    by = factor if scale == 1.0 else np.full(len(logits), scale)
    result = _call.loss(
        False, logits, _targets(logits, num_true), -1, None, None, None, 0.0, 0.0, None, "none",
        None, with_grad, by, logits if with_grad else None,
    )  # fmt: skip
    losses = result[0] if with_grad else result
    return losses if each else losses.sum(dtype=np.float64)
