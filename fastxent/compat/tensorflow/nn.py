"""``tensorflow.nn``: the losses as functions of (labels, logits), not reduced."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ... import _check, normalizers, sampled, samplers
from ... import losses as _losses
from .._common import Array, cast, indices, normalized, softmax_loss

__all__ = [
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler",
    "log_softmax",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "sampled_softmax_loss",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
    "uniform_candidate_sampler",
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


class _Candidates(NamedTuple):
    """What TensorFlow's samplers return."""

    sampled_candidates: Array
    true_expected_count: Array
    sampled_expected_count: Array


def _candidates(
    sampler: Any, true_classes: Any, num_true: int, num_sampled: int, unique: bool, seed: Any
) -> _Candidates:
    labels = _check.class_ids("true_classes", true_classes, sampler.num_classes)
    _check.label_columns("true_classes", labels, num_true)
    n = _check.count("num_sampled", num_sampled)
    ids, tries = sampler._ids_and_tries(n, unique, _check.rng(seed))
    counts = []
    for p in (sampler.probability(labels), sampler.probability(ids)):
        with np.errstate(divide="ignore"):
            # The peer's shortcut, taken also for distinct classes where none was rejected.
            count = n * p if tries == n else -np.expm1(tries * np.log1p(-p))
        counts.append(count.astype(np.float32))
    sampler._learn(labels)
    return _Candidates(ids, *counts)


def log_uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int,
    seed: Any = None, name: Any = None,
) -> _Candidates:  # fmt: skip
    """Draw classes that are ordered by falling frequency.

    As ``tf.random.log_uniform_candidate_sampler``.

    Parameters
    ----------
    true_classes : array_like of int
        The labels, in ``[0, range_max)``: shape ``(B, num_true)``.
    num_true : int
        Labels per row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Draw distinct classes.
    range_max : int
        The number of classes.
    seed : int, optional
        Each call with the same seed draws the same classes.
    name : str, optional
        Ignored.

    Returns
    -------
    sampled_candidates : ndarray of int64
        Shape ``(num_sampled,)``.
    true_expected_count : ndarray of float32
        Shape ``(B, num_true)``.
    sampled_expected_count : ndarray of float32
        Shape ``(num_sampled,)``.

    Raises
    ------
    IndexError
        "true_classes must lie in [0, range_max); got ...".
    ValueError
        A shape that is not allowed; more distinct classes than there are.
    TypeError
        "true_classes must be integers ...".

    See Also
    --------
    fastxent.samplers.LogUniform : The sampler.

    Notes
    -----
    Differences: the generator is NumPy's, so other classes are drawn; a seed gives the same classes
    in each call, where TensorFlow goes on in its stream.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/random/log_uniform_candidate_sampler

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> found = tf.nn.log_uniform_candidate_sampler([[0], [9]], 1, 3, False, 10)
    >>> found.true_expected_count.round(4).tolist()
    [[0.8672000169754028], [0.11919999867677689]]
    """
    sampler = samplers.LogUniform(range_max)
    return _candidates(sampler, true_classes, num_true, num_sampled, unique, seed)


def uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int,
    seed: Any = None, name: Any = None,
) -> _Candidates:  # fmt: skip
    """Draw classes that are all alike, as ``tf.random.uniform_candidate_sampler``.

    Parameters
    ----------
    true_classes : array_like of int
        The labels, in ``[0, range_max)``: shape ``(B, num_true)``.
    num_true : int
        Labels per row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Draw distinct classes.
    range_max : int
        The number of classes.
    seed : int, optional
        Each call with the same seed draws the same classes.
    name : str, optional
        Ignored.

    Returns
    -------
    sampled_candidates : ndarray of int64
        Shape ``(num_sampled,)``.
    true_expected_count : ndarray of float32
        Shape ``(B, num_true)``.
    sampled_expected_count : ndarray of float32
        Shape ``(num_sampled,)``.

    Raises
    ------
    IndexError
        "true_classes must lie in [0, range_max); got ...".
    ValueError
        A shape that is not allowed; more distinct classes than there are.
    TypeError
        "true_classes must be integers ...".

    See Also
    --------
    fastxent.samplers.Uniform : The sampler.

    Notes
    -----
    Differences: the generator is NumPy's, so other classes are drawn; a seed gives the same classes
    in each call, where TensorFlow goes on in its stream.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/random/uniform_candidate_sampler

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> found = tf.nn.uniform_candidate_sampler([[0], [9]], 1, 5, False, 10)
    >>> found.true_expected_count.tolist()
    [[0.5], [0.5]]
    """
    sampler = samplers.Uniform(range_max)
    return _candidates(sampler, true_classes, num_true, num_sampled, unique, seed)


@lru_cache(maxsize=128)
def _learner(range_max: int, *attributes: Any) -> samplers.LearnedUnigram:
    """The one sampler of calls with equal attributes."""
    return samplers.LearnedUnigram(range_max)


def learned_unigram_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int,
    seed: Any = None, name: Any = None,
) -> _Candidates:  # fmt: skip
    """Draw classes by how often each was a label in earlier calls.

    As ``tf.random.learned_unigram_candidate_sampler``: each class starts at 1, and calls with
    equal arguments beside ``true_classes`` share what they have learned.

    Parameters
    ----------
    true_classes : array_like of int
        The labels, in ``[0, range_max)``: shape ``(B, num_true)``.
    num_true : int
        Labels per row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Draw distinct classes.
    range_max : int
        The number of classes.
    seed : int, optional
        Each call with the same seed draws the same classes.
    name : str, optional
        Ignored.

    Returns
    -------
    sampled_candidates : ndarray of int64
        Shape ``(num_sampled,)``.
    true_expected_count : ndarray of float32
        Shape ``(B, num_true)``.
    sampled_expected_count : ndarray of float32
        Shape ``(num_sampled,)``.

    Raises
    ------
    IndexError
        "true_classes must lie in [0, range_max); got ...".
    ValueError
        A shape that is not allowed; more distinct classes than there are.
    TypeError
        "true_classes must be integers ...".

    See Also
    --------
    fastxent.samplers.LearnedUnigram : The sampler, with a state of your own.

    Notes
    -----
    Differences: the generator is NumPy's, so other classes are drawn; a seed gives the same classes
    in each call, where TensorFlow goes on in its stream.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/random/learned_unigram_candidate_sampler

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> for _ in range(3):
    ...     found = tf.nn.learned_unigram_candidate_sampler([[0], [0]], 1, 4, False, 4)
    ...     print(found.true_expected_count.ravel().tolist())
    [1.0, 1.0]
    [2.0, 2.0]
    [2.5, 2.5]
    """
    sampler = _learner(range_max, num_true, num_sampled, unique, seed)
    return _candidates(sampler, true_classes, num_true, num_sampled, unique, seed)


def fixed_unigram_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int,
    vocab_file: Any = "", distortion: float = 1.0, num_reserved_ids: int = 0, num_shards: int = 1,
    shard: int = 0, unigrams: Any = (), seed: Any = None, name: Any = None,
) -> _Candidates:  # fmt: skip
    """Draw classes by given counts, as ``tf.random.fixed_unigram_candidate_sampler``.

    Parameters
    ----------
    true_classes : array_like of int
        The labels, in ``[0, range_max)``: shape ``(B, num_true)``.
    num_true : int
        Labels per row.
    num_sampled : int
        How many classes to draw.
    unique : bool
        Draw distinct classes.
    range_max : int
        The number of classes.
    vocab_file : str, optional
        A file with a line per class, whose last field behind a comma is the count.
    distortion : float, default: 1.0
        The power to which the counts are taken.
    num_reserved_ids : int, default: 0
        Classes before those of the counts, which are never drawn.
    num_shards : int, default: 1
        Use each ``num_shards``-th class only ...
    shard : int, default: 0
        ... from this one on.
    unigrams : sequence of float, optional
        The counts, instead of a file.
    seed : int, optional
        Each call with the same seed draws the same classes.
    name : str, optional
        Ignored.

    Returns
    -------
    sampled_candidates : ndarray of int64
        Shape ``(num_sampled,)``.
    true_expected_count : ndarray of float32
        Shape ``(B, num_true)``.
    sampled_expected_count : ndarray of float32
        Shape ``(num_sampled,)``.

    Raises
    ------
    IndexError
        "true_classes must lie in [0, range_max); got ...".
    ValueError
        A shape that is not allowed; more distinct classes than there are; both or none of
        ``vocab_file`` and ``unigrams``; counts that are not ``range_max``.
    TypeError
        "true_classes must be integers ...".

    See Also
    --------
    fastxent.samplers.Unigram : The sampler.

    Notes
    -----
    Differences: the generator is NumPy's, so other classes are drawn; a seed gives the same classes
    in each call, where TensorFlow goes on in its stream.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/random/fixed_unigram_candidate_sampler

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> found = tf.nn.fixed_unigram_candidate_sampler(
    ...     [[0], [2]], 1, 4, False, 3, distortion=0.5, unigrams=[4.0, 0.0, 1.0]
    ... )
    >>> found.true_expected_count.round(4).tolist()
    [[2.6666998863220215], [1.333299994468689]]
    """
    counts = _check.vocabulary(vocab_file, unigrams)
    shards = _check.count("num_shards", num_shards)
    reserved = len(range(shard, _check.count("num_reserved_ids", num_reserved_ids, 0), shards))
    # The peer numbers the counts from those reserved ids on that it has kept.
    counts = [c for k, c in enumerate(counts, reserved) if k % shards == shard]
    _check.enough_counts(reserved + len(counts), range_max)
    sampler = samplers.Unigram(counts, distortion=distortion, num_reserved_ids=reserved)
    return _candidates(sampler, true_classes, num_true, num_sampled, unique, seed)


def compute_accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: int, seed: Any = None, name: Any = None
) -> tuple[Array, Array, Array]:
    """Find the sampled classes that are labels of a row, as ``tf.nn.compute_accidental_hits``.

    Parameters
    ----------
    true_classes : array_like of int
        The labels, shape ``(B, num_true)``.
    sampled_candidates : array_like of int
        The sampled classes, shape ``(S,)``.
    num_true : int
        Labels per row.
    seed : int, optional
        Ignored.
    name : str, optional
        Ignored.

    Returns
    -------
    indices : ndarray of int32
        The row of each hit.
    ids : ndarray of int64
        Its position in ``sampled_candidates``.
    weights : ndarray of float32
        The largest negative float32 for each, to be added to the logit.

    Raises
    ------
    ValueError
        A shape that is not allowed.
    TypeError
        "true_classes must be integers ...".

    See Also
    --------
    fastxent.sampled_softmax_loss : Leaves hits out by itself.

    Notes
    -----
    Difference: of a class that was sampled several times every position is a hit, where TensorFlow
    reports the last.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/compute_accidental_hits

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> rows, positions, _ = tf.nn.compute_accidental_hits([[3], [5], [7]], [7, 3, 1], 1)
    >>> rows.tolist(), positions.tolist()
    ([0, 2], [1, 0])
    """
    limit = np.iinfo(np.int64).max
    labels = _check.class_ids("true_classes", true_classes, limit)
    _check.label_columns("true_classes", labels, num_true)
    ids = _check.class_ids("sampled_candidates", sampled_candidates, limit)
    _check.label_columns("sampled_candidates", ids, None)
    rows, positions = sampled.accidental_hits(labels, ids)
    return rows.astype(np.int32), positions, np.full(rows.shape, -np.finfo(np.float32).max)


def _sampled_loss(
    function: Any, weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: Any,
    num_classes: Any, num_true: Any, sampled_values: Any, remove_accidental_hits: Any, seed: Any,
) -> Array:  # fmt: skip
    x = _check.floating("inputs", inputs)
    y = indices(labels)
    _check.label_columns("labels", y, num_true)
    if biases is None:
        raise ValueError("biases must be an array, one entry per class; got None")
    if sampled_values is None:
        sampled_values = log_uniform_candidate_sampler(
            y, num_true, num_sampled, True, num_classes, seed
        )
    loss = function(
        x, weights, y, bias=biases, sampled=tuple(sampled_values),
        remove_accidental_hits=remove_accidental_hits,
    )  # fmt: skip
    return cast(loss, x.dtype)


def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: Any,
    num_classes: Any,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    name: Any = "nce_loss",
) -> Array:
    """Noise-contrastive estimation, as ``tf.nn.nce_loss``.

    Parameters
    ----------
    weights : array_like or list of array_like
        Class vectors, shape ``(num_classes, D)``, or partitions of them in order.
    biases : array_like
        Shape ``(num_classes,)``.
    labels : array_like of int
        Shape ``(B, num_true)``.
    inputs : array_like
        Shape ``(B, D)``: float16, bfloat16, float32 or float64.
    num_sampled : int
        How many classes to draw; not looked at where ``sampled_values`` are given.
    num_classes : int
        The number of classes, for the sampler.
    num_true : int, default: 1
        Labels per row.
    sampled_values : tuple of array_like, optional
        What a candidate sampler returned; by default distinct classes by
        `log_uniform_candidate_sampler`.
    remove_accidental_hits : bool, default: False
        Leave out of each row the sampled classes that are among its labels.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray
        Shape ``(B,)``, dtype of ``inputs``.

    Raises
    ------
    IndexError
        "labels must lie in [0, num_classes); got ...".
    ValueError
        A shape that is not allowed; "biases must be an array ...".
    TypeError
        "inputs must be float16, ...".

    See Also
    --------
    fastxent.nce_loss : With weights, reductions and gradients.

    Notes
    -----
    Differences: other classes are drawn, as the generator is NumPy's; expected counts and class
    vectors may have any real dtype, whatever that of ``inputs``; of a class that was sampled
    several times every hit is left out, where TensorFlow leaves out the last; hits in float16 do
    not make NaN.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/nce_loss

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> chosen = [0, 2], [[1.0]], [1.0, 1.0]
    >>> W, h = [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]], [[1.0, 2.0]]
    >>> loss = tf.nn.nce_loss(W, [0.0] * 3, [[1]], h, 2, 3, sampled_values=chosen)
    >>> loss.round(6).tolist()
    [1.641603]
    """
    return _sampled_loss(
        sampled.nce_loss, weights, biases, labels, inputs, num_sampled, num_classes,
        num_true, sampled_values, remove_accidental_hits, None,
    )  # fmt: skip


def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: Any,
    num_classes: Any,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    seed: Any = None,
    name: Any = "sampled_softmax_loss",
) -> Array:
    """Softmax cross entropy over sampled classes, as ``tf.nn.sampled_softmax_loss``.

    Parameters
    ----------
    weights : array_like or list of array_like
        Class vectors, shape ``(num_classes, D)``, or partitions of them in order.
    biases : array_like
        Shape ``(num_classes,)``.
    labels : array_like of int
        Shape ``(B, num_true)``.
    inputs : array_like
        Shape ``(B, D)``: float16, bfloat16, float32 or float64.
    num_sampled : int
        How many classes to draw; not looked at where ``sampled_values`` are given.
    num_classes : int
        The number of classes, for the sampler.
    num_true : int, default: 1
        Labels per row.
    sampled_values : tuple of array_like, optional
        What a candidate sampler returned; by default distinct classes by
        `log_uniform_candidate_sampler`.
    remove_accidental_hits : bool, default: True
        Leave out of each row the sampled classes that are among its labels.
    seed : int, optional
        Of the sampler.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray
        Shape ``(B,)``, dtype of ``inputs``.

    Raises
    ------
    IndexError
        "labels must lie in [0, num_classes); got ...".
    ValueError
        A shape that is not allowed; "biases must be an array ...".
    TypeError
        "inputs must be float16, ...".

    See Also
    --------
    fastxent.sampled_softmax_loss : With weights, reductions and gradients.

    Notes
    -----
    Differences: other classes are drawn, as the generator is NumPy's; expected counts and class
    vectors may have any real dtype, whatever that of ``inputs``; of a class that was sampled
    several times every hit is left out, where TensorFlow leaves out the last; hits in float16 do
    not make NaN.

    References
    ----------
    https://www.tensorflow.org/api_docs/python/tf/nn/sampled_softmax_loss

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> chosen = [0, 2], [[1.0]], [1.0, 1.0]
    >>> W, h = [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]], [[1.0, 2.0]]
    >>> loss = tf.nn.sampled_softmax_loss(W, [0.0] * 3, [[1]], h, 2, 3, sampled_values=chosen)
    >>> loss.round(6).tolist()
    [0.335098]
    """
    return _sampled_loss(
        sampled.sampled_softmax_loss, weights, biases, labels, inputs, num_sampled, num_classes,
        num_true, sampled_values, remove_accidental_hits, seed,
    )  # fmt: skip
