"""``tensorflow.nn``: the losses as functions of (labels, logits), not reduced."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ... import _check, normalizers
from ... import losses as _losses
from .._common import Array, cast, indices, normalized, softmax_loss

__all__ = [
    "log_softmax",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]

_SWAPPED = "; the arguments look swapped: the order is (labels, logits)"


def softmax(logits: Any, axis: Any = None, name: Any = None) -> Array:
    """Probabilities from scores, as ``tf.nn.softmax``.

    Parameters
    ----------
    logits : array_like
        Scores with at least one axis: float16, bfloat16, float32 or float64.
    axis : int, optional
        The axis of the classes, by default the last.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray
        Shape and dtype of ``logits``.

    Raises
    ------
    ValueError
        ``axis`` is out of range.
    TypeError
        "logits must be float16, bfloat16, float32 or float64; got ...".

    See Also
    --------
    fastxent.softmax : Masks, any dtype, and an array to write into.

    Notes
    -----
    Difference: a NaN or an infinity makes its whole row NaN, where TensorFlow's float32 kernel
    returns 0 for the other classes.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/softmax

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> tf.nn.softmax([3.0, 1.0, -3.0]).round(8).tolist()
    [0.87887824, 0.11894324, 0.00217852]
    """
    x = _check.floating("logits", logits)
    return normalized(normalizers.softmax, x, -1 if axis is None else axis)


def log_softmax(logits: Any, axis: Any = None, name: Any = None) -> Array:
    """Log-probabilities from scores, as ``tf.nn.log_softmax``.

    Parameters
    ----------
    logits : array_like
        Scores with at least one axis: float16, bfloat16, float32 or float64.
    axis : int, optional
        The axis of the classes, by default the last.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray
        Shape and dtype of ``logits``.

    Raises
    ------
    ValueError
        ``axis`` is out of range.
    TypeError
        "logits must be float16, bfloat16, float32 or float64; got ...".

    See Also
    --------
    fastxent.log_softmax : Masks, any dtype, and an array to write into.

    Notes
    -----
    Difference: an almost certain class keeps its digits, where TensorFlow returns 0 in float32.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/log_softmax

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> (-tf.nn.log_softmax([3.0, 1.0, -3.0])).round(8).tolist()
    [0.12910891, 2.12910891, 6.12910891]
    """
    x = _check.floating("logits", logits)
    return normalized(normalizers.log_softmax, x, -1 if axis is None else axis)


def sigmoid(x: Any, name: Any = None) -> Any:
    """Probabilities from the logits of yes, as ``tf.nn.sigmoid``.

    Parameters
    ----------
    x : array_like
        Logits of any shape: float16, bfloat16, float32 or float64.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of ``x``.

    Raises
    ------
    TypeError
        "x must be float16, bfloat16, float32 or float64; got ...".

    See Also
    --------
    fastxent.sigmoid : Any dtype, and an array to write into.

    Notes
    -----
    No deliberate differences.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/math/sigmoid

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> tf.nn.sigmoid([0.0, 0.2]).round(8).tolist()
    [0.5, 0.549834]
    """
    return normalizers.sigmoid(_check.floating("x", x))


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: Any = None) -> Any:
    """Softmax cross entropy with one class index per row.

    As ``tf.nn.sparse_softmax_cross_entropy_with_logits``.

    Parameters
    ----------
    labels : array_like of int
        The class of each row, in ``[0, C)``: shape of ``logits`` without the last axis.
    logits : array_like
        Logits ``(..., C)``: float16, bfloat16, float32 or float64.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray or scalar
        Shape of ``labels``, dtype of ``logits``.

    Raises
    ------
    IndexError
        "labels must lie in [0, C) ...; got ... at position ...".
    ValueError
        A shape that is not allowed.
    TypeError
        "labels must be integers ...", "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.sparse_softmax_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: labels may have any integer dtype; a confident row keeps its digits, where
    TensorFlow returns 0 in float32.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/sparse_softmax_cross_entropy_with_logits

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
    ...     labels=[0, 1, 2], logits=[[3.0, 1.0, -3.0]] * 3
    ... )
    >>> loss.round(8).tolist()
    [0.12910891, 2.12910891, 6.12910891]
    """
    x, y = _check.floating("logits", logits, _SWAPPED), _indices(labels)
    return cast(_losses.sparse_softmax_cross_entropy(x, y), x.dtype)


def _indices(labels: Any) -> Array:
    y = indices(labels)
    if y.dtype.kind not in "iu":
        raise _check.not_indices(y, _SWAPPED)
    return y


def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: Any = None
) -> Any:
    """Softmax cross entropy with a distribution over the classes per row.

    As ``tf.nn.softmax_cross_entropy_with_logits``.

    Parameters
    ----------
    labels : array_like
        A distribution over the classes for each row: shape of ``logits``, or one row for all.
        Need not sum to 1.
    logits : array_like
        Logits of any shape with a class axis: float16, bfloat16, float32 or float64.
    axis : int, default: -1
        The axis of the classes.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray or scalar
        Shape of ``logits`` without ``axis``, and their dtype.

    Raises
    ------
    ValueError
        A shape or axis that is not allowed.
    TypeError
        "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.softmax_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: a label of 0 on a logit of ``-inf`` costs 0, where TensorFlow returns NaN; any
    negative ``axis`` works, where TensorFlow takes -1 only; labels of another shape are refused
    unless they are one row, where TensorFlow also takes as many rows in another arrangement, and
    repeats a single class; labels are not rounded to the dtype of the logits; a confident row keeps
    its digits, where TensorFlow returns 0 in float32.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/softmax_cross_entropy_with_logits

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.nn.softmax_cross_entropy_with_logits(
    ...     labels=[[0.0, 0.8, 0.2]], logits=[[0.0, 5.0, 1.0]]
    ... )
    >>> loss.round(8).tolist()
    [0.82474489]
    """
    x, q = _check.floating("logits", logits, _SWAPPED), np.asarray(labels)
    axis = normalize_axis_index(axis, x.ndim)
    one = tuple(n if k == axis else 1 for k, n in enumerate(x.shape))
    if q.shape != x.shape and (q.shape == one or (axis == x.ndim - 1 and q.shape == one[axis:])):
        q = np.broadcast_to(q, x.shape)
    return cast(softmax_loss(_losses.softmax_cross_entropy, x, q, axis, "none"), x.dtype)


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: Any = None
) -> Any:
    """Sigmoid cross entropy, as ``tf.nn.sigmoid_cross_entropy_with_logits``.

    Parameters
    ----------
    labels : array_like
        Labels, shape of ``logits``.
    logits : array_like
        Logits of any shape: float16, bfloat16, float32 or float64.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of ``logits``.

    Raises
    ------
    ValueError
        A shape that is not allowed.
    TypeError
        "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.sigmoid_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: labels may have any real dtype; infinite logits have the true limits, 0 or
    infinity, where TensorFlow returns NaN for most.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/sigmoid_cross_entropy_with_logits

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=[0.0, 1.0], logits=[0.2, 0.2])
    >>> loss.round(8).tolist()
    [0.79813887, 0.59813887]
    """
    x = _check.floating("logits", logits, _SWAPPED)
    return cast(_losses.sigmoid_cross_entropy(x, labels), x.dtype)


def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any, name: Any = None
) -> Any:
    """Sigmoid cross entropy with a weight of the positive label.

    As ``tf.nn.weighted_cross_entropy_with_logits``.

    Parameters
    ----------
    labels : array_like
        Labels, shape of ``logits``.
    logits : array_like
        Logits of any shape: float16, bfloat16, float32 or float64.
    pos_weight : array_like
        Weight of the positive label. It and ``logits`` broadcast together.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray or scalar
        The shape of ``logits`` and ``pos_weight`` broadcast together; dtype of ``logits``.

    Raises
    ------
    ValueError
        A shape that is not allowed.
    TypeError
        "logits must be float16, ...; the arguments look swapped".

    See Also
    --------
    fastxent.sigmoid_cross_entropy_with_grad : The gradient too; logits come first.

    Notes
    -----
    Differences: labels and weight may have any real dtype; infinite logits have the true limits, 0
    or infinity, where TensorFlow returns NaN for most; small losses keep their digits, where
    TensorFlow returns 0 for the float32 logit -20. (TensorFlow's gradient at the logit 0 is wrong;
    that of `fastxent.sigmoid_cross_entropy_with_grad` is right.)

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/weighted_cross_entropy_with_logits

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> loss = tf.nn.weighted_cross_entropy_with_logits([0.0, 1.0], [0.2, 0.2], pos_weight=2.0)
    >>> loss.round(8).tolist()
    [0.79813887, 1.19627774]
    """
    x, z, w = (
        _check.floating("logits", logits, _SWAPPED),
        np.asarray(labels),
        np.asarray(pos_weight),
    )
    if z.shape == x.shape:
        x, z = (np.broadcast_to(a, np.broadcast_shapes(x.shape, w.shape)) for a in (x, z))
    return cast(_losses.sigmoid_cross_entropy(x, z, pos_weight=w), x.dtype)
