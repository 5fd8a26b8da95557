"""``tensorflow.contrib.legacy_seq2seq`` (TensorFlow 1): losses of lists over time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import _check, sequence
from .._common import cast, indices

__all__ = ["sequence_loss", "sequence_loss_by_example"]

_SWAPPED = "; the arguments look swapped: the order is (logits, targets, weights)"


def _by_example(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool,
    softmax_loss_function: Callable[..., Any] | None,
) -> tuple[Any, Any]:
    """Return the losses of the examples, and the dtype that TensorFlow returns them in."""
    logits = [_check.floating("logits", x, _SWAPPED) for x in logits]
    if softmax_loss_function is None:
        targets = [indices(y).reshape(-1) for y in targets]
        loss = sequence.sequence_loss_by_example(logits, targets, weights, average_across_timesteps)
        return loss, logits[0].dtype

    def own(x: Any, y: Any) -> Any:
        return softmax_loss_function(labels=y, logits=x)

    loss = sequence.sequence_loss_by_example(
        logits, targets, weights, average_across_timesteps, own
    )
    return loss, loss.dtype


def sequence_loss_by_example(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: Any = None,
) -> Any:
    """Weighted softmax cross entropy of each example, from lists over time.

    As ``tf.contrib.legacy_seq2seq.sequence_loss_by_example`` of TensorFlow 1.

    Parameters
    ----------
    logits : sequence of array_like
        For each time step the logits, shape ``(B, V)``.
    targets : sequence of array_like of int
        For each time step the symbols, ``B`` in any shape.
    weights : sequence of array_like
        For each time step the weights, shape ``(B,)``; 0 for padding.
    average_across_timesteps : bool, default: True
        Divide by the sum of the example's weights.
    softmax_loss_function : callable, optional
        ``f(labels=, logits=)``, called with the arrays of one time step, returns losses of
        shape ``(B,)`` in place of softmax cross entropy.
    name : str, optional
        Ignored.

    Returns
    -------
    ndarray
        The loss of each example, shape ``(B,)``: dtype of ``logits``, or what the given
        function returns.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits, targets and weights must be of one length ...", a shape that does not fit.
    TypeError
        "logits must be float16, ...; the arguments look swapped", another dtype that is not
        allowed.

    See Also
    --------
    fastxent.sequence_loss_by_example_with_grad : The gradient too.

    Notes
    -----
    Differences: TensorFlow adds 1e-12 to the sum of the weights; here an example whose weights sum
    to 0 has the loss 0, in float16 too, where TensorFlow returns NaN. Padding is not read: its
    logits may be NaN and its targets out of range.

    References
    ----------
    https://github.com/tensorflow/tensorflow/blob/r1.15/tensorflow/contrib/legacy_seq2seq/python/ops/seq2seq.py

    Examples
    --------
    Two time steps of two examples; the second example ends after one step:

    >>> from fastxent.compat import tensorflow as tf
    >>> x = [[[3.0, 1.0, -3.0], [0.0, 0.0, 0.0]], [[0.0, 5.0, 1.0], [9.0, 9.0, 9.0]]]
    >>> y, w = [[0, 2], [1, 0]], [[1, 1], [1, 0]]
    >>> tf.legacy_seq2seq.sequence_loss_by_example(x, y, w).round(6).tolist()
    [0.076927, 1.098612]
    """
    return cast(
        *_by_example(logits, targets, weights, average_across_timesteps, softmax_loss_function)
    )


def sequence_loss(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: Any = None,
) -> Any:
    """Weighted softmax cross entropy of all examples, from lists over time.

    As ``tf.contrib.legacy_seq2seq.sequence_loss`` of TensorFlow 1: the sum or the mean of
    `sequence_loss_by_example`.

    Parameters
    ----------
    logits : sequence of array_like
        For each time step the logits, shape ``(B, V)``.
    targets : sequence of array_like of int
        For each time step the symbols, ``B`` in any shape.
    weights : sequence of array_like
        For each time step the weights, shape ``(B,)``; 0 for padding.
    average_across_timesteps : bool, default: True
        Divide the loss of each example by the sum of its weights.
    average_across_batch : bool, default: True
        Divide the sum by ``B``, padded examples included.
    softmax_loss_function : callable, optional
        ``f(labels=, logits=)``, called with the arrays of one time step, returns losses of
        shape ``(B,)`` in place of softmax cross entropy.
    name : str, optional
        Ignored.

    Returns
    -------
    scalar
        Dtype of ``logits``, or of what the given function returns.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits, targets and weights must be of one length ...", a shape that does not fit.
    TypeError
        "logits must be float16, ...; the arguments look swapped", another dtype that is not
        allowed.

    See Also
    --------
    fastxent.sequence_loss_with_grad : Arrays over batch and time, and the gradient too.

    Notes
    -----
    Differences: those of `sequence_loss_by_example`; sums of half precision run in float64.

    References
    ----------
    https://github.com/tensorflow/tensorflow/blob/r1.15/tensorflow/contrib/legacy_seq2seq/python/ops/seq2seq.py

    Examples
    --------
    >>> from fastxent.compat import tensorflow as tf
    >>> x = [[[3.0, 1.0, -3.0], [0.0, 0.0, 0.0]], [[0.0, 5.0, 1.0], [9.0, 9.0, 9.0]]]
    >>> y, w = [[0, 2], [1, 0]], [[1, 1], [1, 0]]
    >>> print(f"{tf.legacy_seq2seq.sequence_loss(x, y, w):.6f}")
    0.587770
    """
    loss, dtype = _by_example(
        logits, targets, weights, average_across_timesteps, softmax_loss_function
    )
    total = loss.sum(dtype=np.float64)
    if average_across_batch:
        size = len(np.asarray(targets[0]))
        total = total / size if size else np.nan
    return cast(total, dtype)
