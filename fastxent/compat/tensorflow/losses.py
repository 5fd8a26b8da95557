"""``tensorflow.compat.v1.losses``: weighted and reduced losses, called with labels first."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import _check
from ... import losses as _losses
from .._common import Array, cast, softmax_loss
from .nn import _SWAPPED, _indices

__all__ = [
    "Reduction",
    "compute_weighted_loss",
    "log_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


class Reduction:
    """What becomes of the weighted losses, as ``tf.compat.v1.losses.Reduction``.

    Attributes
    ----------
    NONE
        The weighted losses.
    SUM
        Their sum.
    MEAN
        The sum over that of the weights, each counted for every loss it weighs.
    SUM_OVER_BATCH_SIZE
        The sum over the number of losses.
    SUM_BY_NONZERO_WEIGHTS, SUM_OVER_NONZERO_WEIGHTS
        The sum over the number of losses whose weight is not 0.

    See Also
    --------
    compute_weighted_loss : What the words mean.

    Notes
    -----
    A denominator of 0 gives 0, as in TensorFlow. No deliberate differences.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/Reduction

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> R = tf.losses.Reduction
    >>> for r in (R.SUM, R.MEAN, R.SUM_OVER_BATCH_SIZE, R.SUM_BY_NONZERO_WEIGHTS):
    ...     print(tf.losses.compute_weighted_loss([4.0, 2.0, 8.0], [1.5, 0.0, 0.5], reduction=r))
    10.0
    5.0
    3.3333333333333335
    5.0
    """

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """Return every reduction."""
        return (
            cls.NONE, cls.SUM, cls.MEAN, cls.SUM_OVER_BATCH_SIZE, cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )  # fmt: skip

    @classmethod
    def validate(cls, key: Any) -> None:
        """Raise ValueError unless ``key`` is a reduction."""
        if key not in cls.all():
            raise ValueError(f"reduction must be one of {cls.all()}; got {key!r}")


def _weights(weights: Any, shape: tuple[int, ...]) -> Any:
    """Weights seen in the shape of the losses."""
    return _check.broadcast("weights", _check.same_rank("weights", weights, shape), shape, "losses")


def _reduced(loss: Callable[..., Any], w: Array, reduction: str, dtype: Any) -> Any:
    """``loss(sample_weight=, reduction=)``, which can sum, reduced as TensorFlow does."""
    if reduction == Reduction.NONE:
        return cast(loss(sample_weight=w, reduction="none"), dtype)
    total = loss(sample_weight=w, reduction="sum")
    if reduction != Reduction.SUM:
        count = (
            w.sum(dtype=np.float64) if reduction == Reduction.MEAN
            else w.size if reduction == Reduction.SUM_OVER_BATCH_SIZE
            else np.count_nonzero(w)
        )  # fmt: skip
        total = float(total) / count if count else 0.0
    return cast(total, dtype)


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: Any = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Weighted and reduced losses, as ``tf.compat.v1.losses.compute_weighted_loss``.

    Parameters
    ----------
    losses : array_like
        Losses of any shape.
    weights : array_like, default: 1.0
        A scalar, or as many axes as ``losses``, each of length 1 or that of ``losses``.
    scope, loss_collection : str, optional
        Ignored.
    reduction : str, default: Reduction.SUM_BY_NONZERO_WEIGHTS
        One of `Reduction`.

    Returns
    -------
    ndarray or scalar
        Dtype of ``losses``; their shape, or a scalar when reduced. 0 for a mean over nothing.

    Raises
    ------
    ValueError
        A shape or reduction that is not allowed.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    Reduction : The words.

    Notes
    -----
    Differences: computed in float64, where TensorFlow uses float32 even for float64 losses; a loss
    of weight 0 counts as 0, also where it is infinite or NaN.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/compute_weighted_loss

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> float(tf.losses.compute_weighted_loss([4.0, 2.0, 8.0], [1.5, 0.0, 0.5]))
    5.0
    """
    Reduction.validate(reduction)
    each = _check.real("losses", losses)

    def weighted(sample_weight: Array, reduction: str) -> Any:
        with np.errstate(all="ignore"):
            product = np.where(sample_weight == 0, 0.0, each.astype(np.float64) * sample_weight)
            return product if reduction == "none" else product.sum()

    return _reduced(weighted, _weights(weights, each.shape), reduction, each.dtype)


def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: Any = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Softmax cross entropy with one class index per row, weighted and reduced.

    As ``tf.compat.v1.losses.sparse_softmax_cross_entropy``.

    Parameters
    ----------
    labels : array_like of int
        The class of each row, in ``[0, C)``: shape of ``logits`` without the last axis, perhaps
        with a last axis of length 1 more.
    logits : array_like
        Logits ``(..., C)``: float16, bfloat16, float32 or float64.
    weights : array_like, default: 1.0
        A scalar, or as many axes as the losses, each of length 1 or that of the losses;
        perhaps with a last axis of length 1 more.
    scope, loss_collection : str, optional
        Ignored.
    reduction : str, default: Reduction.SUM_BY_NONZERO_WEIGHTS
        One of `Reduction`.

    Returns
    -------
    ndarray or scalar
        Dtype of ``logits``; shape of ``labels``, or a scalar when reduced. 0 for a mean over
        nothing.

    Raises
    ------
    IndexError
        "labels must lie in [0, C) ...; got ... at position ...".
    ValueError
        A shape or reduction that is not allowed.
    TypeError
        "labels must be integers ...", "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.sparse_softmax_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: labels may have any integer dtype; a row of weight 0 costs 0, also where its loss
    is infinite or NaN or its label out of range; float64 logits are computed in float64, where
    TensorFlow weighs and sums in float32.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/sparse_softmax_cross_entropy

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.losses.sparse_softmax_cross_entropy(
    ...     labels=[2, 1, 0, 2], logits=[[3.0, 1, -3], [0, 5, 1], [1, 1, 1], [2, 0, 2]],
    ...     weights=[2, 0, 0.5, -1],
    ... )
    >>> print(f"{loss:.12f}")
    4.016300095438
    """
    Reduction.validate(reduction)
    x, y, w = _check.floating("logits", logits, _SWAPPED), _indices(labels), np.asarray(weights)
    if x.ndim == y.ndim + 2 and x.shape[-1] == 1:
        x = x[..., 0]
    elif x.ndim == y.ndim and y.shape[-1:] == (1,):
        y = y[..., 0]
    if w.ndim == y.ndim + 1 and w.shape[-1] == 1:
        w = w[..., 0]
    w = _weights(w, y.shape)
    return _reduced(
        lambda **options: _losses.sparse_softmax_cross_entropy(x, y, **options),
        w, reduction, x.dtype,
    )  # fmt: skip


def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: Any = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Softmax cross entropy with a distribution per row, weighted and reduced.

    As ``tf.compat.v1.losses.softmax_cross_entropy``.

    Parameters
    ----------
    onehot_labels : array_like
        A distribution over the classes for each row, shape of ``logits``.
    logits : array_like
        Logits ``(..., C)``: float16, bfloat16, float32 or float64.
    weights : array_like, default: 1.0
        A scalar, or as many axes as the losses, each of length 1 or that of the losses.
    label_smoothing : float, default: 0
        Share of the labels' mass that is spread over all classes; one below 0 counts as 0.
    scope, loss_collection : str, optional
        Ignored.
    reduction : str, default: Reduction.SUM_BY_NONZERO_WEIGHTS
        One of `Reduction`.

    Returns
    -------
    ndarray or scalar
        Dtype of ``logits``; their shape without the last axis, or a scalar when reduced. 0 for
        a mean over nothing.

    Raises
    ------
    ValueError
        A shape, reduction or number that is not allowed.
    TypeError
        "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.softmax_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: a label of 0 on a logit of ``-inf`` costs 0, where TensorFlow returns NaN; a row of
    weight 0 costs 0, also where its loss is infinite or NaN; float64 logits are computed in
    float64, where TensorFlow weighs and sums in float32; smoothing above 1 is refused.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/softmax_cross_entropy

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.losses.softmax_cross_entropy(
    ...     [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]], weights=[0.3, 0.7],
    ...     label_smoothing=0.2,
    ... )
    >>> print(f"{loss:.5f}")
    0.57618
    """
    Reduction.validate(reduction)
    x, q = _check.floating("logits", logits, _SWAPPED), np.asarray(onehot_labels)
    _check.dense_labels(q, x)
    e = max(label_smoothing, 0.0)
    return _reduced(
        lambda reduction, **options: softmax_loss(
            _losses.softmax_cross_entropy, x, q, x.ndim - 1, reduction, label_smoothing=e, **options
        ),
        _weights(weights, x.shape[:-1]), reduction, x.dtype,
    )  # fmt: skip


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: Any = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Sigmoid cross entropy, weighted and reduced.

    As ``tf.compat.v1.losses.sigmoid_cross_entropy``.

    Parameters
    ----------
    multi_class_labels : array_like
        Labels, shape of ``logits``.
    logits : array_like
        Logits of any shape: float16, bfloat16, float32 or float64.
    weights : array_like, default: 1.0
        A scalar, or as many axes as ``logits``, each of length 1 or that of ``logits``.
    label_smoothing : float, default: 0
        Share by which the labels move towards 1/2; one below 0 counts as 0.
    scope, loss_collection : str, optional
        Ignored.
    reduction : str, default: Reduction.SUM_BY_NONZERO_WEIGHTS
        One of `Reduction`; it counts elements, not rows.

    Returns
    -------
    ndarray or scalar
        Dtype of ``logits``; their shape, or a scalar when reduced. 0 for a mean over nothing.

    Raises
    ------
    ValueError
        A shape, reduction or number that is not allowed.
    TypeError
        "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.sigmoid_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: infinite logits have the true limits, 0 or infinity, where TensorFlow returns NaN
    for most; a loss of weight 0 counts as 0, also where it is infinite or NaN; float64 logits are
    computed in float64, where TensorFlow weighs and sums in float32; smoothing above 1 is refused.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/sigmoid_cross_entropy

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.losses.sigmoid_cross_entropy([[0, 1]], [[0.2, 0.2]])
    >>> print(f"{loss:.12f}")
    0.698138869382
    """
    Reduction.validate(reduction)
    x, z = _check.floating("logits", logits, _SWAPPED), np.asarray(multi_class_labels)
    e = max(label_smoothing, 0.0)
    return _reduced(
        lambda **options: _losses.sigmoid_cross_entropy(x, z, label_smoothing=e, **options),
        _weights(weights, x.shape), reduction, x.dtype,
    )  # fmt: skip


def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: Any = None,
    loss_collection: Any = "losses",
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross entropy from probabilities, as ``tf.compat.v1.losses.log_loss``.

    ``-z log(p + epsilon) - (1 - z) log(1 - p + epsilon)``, weighted and reduced.

    Parameters
    ----------
    labels : array_like
        Labels ``z``, shape of ``predictions``.
    predictions : array_like
        Probabilities ``p`` of any shape.
    weights : array_like, default: 1.0
        A scalar, or as many axes as ``predictions``, each of length 1 or that of
        ``predictions``.
    epsilon : float, default: 1e-7
        Added to what the logarithms are taken of.
    scope, loss_collection : str, optional
        Ignored.
    reduction : str, default: Reduction.SUM_BY_NONZERO_WEIGHTS
        One of `Reduction`.

    Returns
    -------
    ndarray or scalar
        Shape of ``predictions``, or a scalar when reduced: float64 for float64
        ``predictions``, else float32. 0 for a mean over nothing.

    Raises
    ------
    ValueError
        A shape or reduction that is not allowed.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    fastxent.binary_cross_entropy_with_grad : The gradient too; probabilities come first.

    Notes
    -----
    Differences: computed in float64, and float64 for float64 ``predictions``, where TensorFlow
    computes and returns float32; a term whose label or weight is 0 is absent, so ``0 x inf`` costs
    0 where TensorFlow returns NaN.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/compat/v1/losses/log_loss

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> tf.losses.log_loss([1.0, 1.0], [0.5, 0.0], reduction="none").round(6).tolist()
    [0.693147, 16.118096]
    """
    Reduction.validate(reduction)
    given = _check.real("predictions", predictions)
    p, z = given.astype(np.float64), _check.dense_labels(labels, given).astype(np.float64)
    with np.errstate(all="ignore"):
        yes = np.where(z == 0, 0.0, z * np.log(p + epsilon))
        no = np.where(z == 1, 0.0, (1 - z) * np.log(1 - p + epsilon))
    value = compute_weighted_loss(-(yes + no), weights, reduction=reduction)
    return cast(value, np.float64 if given.dtype == np.float64 else np.float32)
