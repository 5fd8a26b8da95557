"""Losses of sequences: averages over time, with padding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _backends, _call, _check

__all__ = [
    "sequence_loss",
    "sequence_loss_by_example",
    "sequence_loss_by_example_with_grad",
    "sequence_loss_with_grad",
]


def _shares(weights: Any, axis: int) -> Any:
    """Weights divided by their sum along an axis; 0 where that is 0."""
    total = weights.sum(axis=axis, keepdims=True, dtype=np.float64)
    return np.where(total == 0, 0.0, weights / np.where(total == 0, 1.0, total))


def sequence_loss(
    logits: Any, labels: Any, *, sample_weight: Any = None, average: str | None = "tokens"
) -> Any:
    r"""Softmax cross entropy of sequences, averaged over what counts.

    With the loss :math:`l_{bt} = \mathrm{lse}(x_{bt}) - x_{bt y}` of each position and its
    weight :math:`w_{bt}`:

    .. math::

        \text{tokens: } \frac{\sum_{bt} w_{bt} l_{bt}}{\sum_{bt} w_{bt}}, \qquad
        \text{timesteps: } L_b = \frac{\sum_t w_{bt} l_{bt}}{\sum_t w_{bt}}, \qquad
        \text{examples: } \frac{1}{B} \sum_b L_b

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities ``x``, shape ``(B, T, V)``: batch, time, vocabulary.
    labels : array_like of int
        The symbol of each position, in ``[0, V)``, shape ``(B, T)``.
    sample_weight : array_like, optional
        Weight of each position, broadcasts to ``(B, T)``; 0 for padding, which is not read:
        its label may be anything and its logits NaN.
    average : {'tokens', 'examples', 'timesteps', None}, default: 'tokens'
        What to divide by, as above. None keeps ``w l`` of every position.

    Returns
    -------
    loss : ndarray or scalar
        A scalar for ``'tokens'`` and ``'examples'``, shape ``(B,)`` for ``'timesteps'``,
        ``(B, T)`` for None. float32 for half precision, else the dtype of ``logits``. Weights
        that sum to 0 give 0: a fully padded example counts as 0.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits must have shape (batch, time, symbols) ...", "average must be one of ...", a
        shape that does not fit.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    sequence_loss_with_grad : The gradient too, in the same pass.
    sequence_loss_by_example : Lists over time, as in TensorFlow's legacy function.
    sparse_softmax_cross_entropy : Every option of the loss of one position.

    Notes
    -----
    Extra memory: 8 bytes per position, beyond 1 MB per thread. Error budget: that of
    `sparse_softmax_cross_entropy`.

    References
    ----------
    TensorFlow: ``tfa.seq2seq.sequence_loss``.

    Examples
    --------
    Two sequences; the second ends after one step:

    >>> import fastxent as fx
    >>> x = [[[3.0, 1.0, -3.0], [0.0, 5.0, 1.0]], [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]]
    >>> y, w = [[0, 1], [2, -1]], [[1, 1], [1, 0]]
    >>> fx.sequence_loss(x, y, sample_weight=w, average="timesteps").round(6).tolist()
    [0.076927, 1.098612]
    >>> round(float(fx.sequence_loss(x, y, sample_weight=w)), 6)
    0.417489
    """
    return _sequence_loss(logits, labels, sample_weight, average)


def sequence_loss_with_grad(
    logits: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    average: str | None = "tokens",
    upstream: Any = None,
    grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Softmax cross entropy of sequences, averaged over what counts, and its gradient.

    .. math::

        \frac{\partial L}{\partial x_{btk}} = g_{bt}\, (p_{btk} - \delta_{k y_{bt}})

    where ``g`` is the weight of the position in the average x upstream gradient.

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities ``x``, shape ``(B, T, V)``: batch, time, vocabulary.
    labels : array_like of int
        The symbol of each position, in ``[0, V)``, shape ``(B, T)``.
    sample_weight : array_like, optional
        Weight of each position, broadcasts to ``(B, T)``; 0 for padding, whose gradient is
        exactly 0.
    average : {'tokens', 'examples', 'timesteps', None}, default: 'tokens'
        As for `sequence_loss`.
    upstream : array_like, optional
        Gradient with respect to the returned loss, same shape; 1 by default.
    grad_out : ndarray, optional
        Receives the gradient: shape and dtype of ``logits``, or float32 for half
        precision. May be ``logits`` itself.

    Returns
    -------
    loss : ndarray or scalar
        As for `sequence_loss`.
    grad : ndarray
        Gradient of the loss with respect to ``logits``: their shape and dtype.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits must have shape (batch, time, symbols) ...", "average must be one of ...", a
        shape that does not fit, an output that is read-only or overlaps an input.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    sequence_loss : The loss alone.

    Notes
    -----
    Extra memory and error budget: as for `sequence_loss`.

    References
    ----------
    TensorFlow: ``tfa.seq2seq.sequence_loss``.

    Examples
    --------
    >>> import fastxent as fx
    >>> x = [[[3.0, 1.0, -3.0], [9.0, 9.0, 9.0]]]
    >>> loss, grad = fx.sequence_loss_with_grad(x, [[2, -1]], sample_weight=[[1, 0]])
    >>> grad.round(6).tolist()
    [[[0.878878, 0.118943, -0.997821], [0.0, 0.0, 0.0]]]
    """
    return _sequence_loss(logits, labels, sample_weight, average, True, upstream, grad_out)


def _sequence_loss(
    logits: Any,
    labels: Any,
    sample_weight: Any,
    average: Any,
    with_grad: bool = False,
    upstream: Any = None,
    grad_out: Any = None,
) -> Any:
    if type(logits) is not np.ndarray and (gpu := _backends.gpu_calls(logits)):
        return gpu.sequence(
            _call._fold, logits, labels, sample_weight, average, with_grad, upstream, grad_out
        )
    x, _, _ = _check.logits("logits", logits)
    shape = _check.sequence_shape(x)
    average = _check.average(average)
    w = _check.broadcast("sample_weight", sample_weight, shape, "losses")
    reduction = {"tokens": "mean", "examples": "sum"}.get(average, "none")
    by_example = average in ("examples", "timesteps")
    if by_example:
        w = np.ones(shape) if w is None else w.astype(np.float64)
        w = _shares(w, 1) / (max(shape[0], 1) if average == "examples" else 1)
    if average == "timesteps":
        upstream = _check.upstream(upstream, shape[:1])
        upstream = None if upstream is None else np.broadcast_to(upstream[:, None], shape)
    result = _call.loss(
        True, x, labels, -1, w, None, None, 0.0, 0.0, None, reduction, None, with_grad, upstream,
        grad_out,
    )  # fmt: skip
    loss, grad = result if with_grad else (result, None)
    if average == "timesteps":
        loss = loss.sum(axis=1, dtype=np.float64).astype(loss.dtype)
    elif average == "tokens" and _call.weights(w, shape[0] * shape[1])[0] == 0:
        loss = loss.dtype.type(0.0)
    return (loss, grad) if with_grad else loss


def sequence_loss_by_example(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    softmax_loss_function: Callable[[Any, Any], Any] | None = None,
) -> Any:
    r"""Weighted softmax cross entropy of each example, from lists over time.

    .. math::

        L_b = \frac{\sum_t w_{tb}\, l_{tb}}{\sum_t w_{tb}}, \qquad
        l_{tb} = \mathrm{lse}(x_{tb}) - x_{tb y}

    Parameters
    ----------
    logits : sequence of array_like
        For each time step the unnormalised log-probabilities, shape ``(B, V)``.
    targets : sequence of array_like of int
        For each time step the symbols, shape ``(B,)``.
    weights : sequence of array_like
        For each time step the weights, shape ``(B,)``; 0 for padding, which is not read.
    average_across_timesteps : bool, default: True
        Divide by the sum of the example's weights.
    softmax_loss_function : callable, optional
        ``f(logits, targets)``, called with the arrays of one time step, returns losses of
        shape ``(B,)`` in place of softmax cross entropy.

    Returns
    -------
    ndarray
        The loss of each example, shape ``(B,)``: float32 for half precision, else the dtype of
        the losses. An example whose weights sum to 0 has the average 0.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits, targets and weights must be of one length ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    sequence_loss : One array over batch and time.
    sequence_loss_by_example_with_grad : The gradients too.

    Notes
    -----
    TensorFlow divides by the sum of the weights + 1e-12, which only guards against 0; here
    the division by 0 is avoided instead.

    References
    ----------
    TensorFlow: ``tf.contrib.legacy_seq2seq.sequence_loss_by_example``.

    Examples
    --------
    Two time steps of two examples; the second example ends after one step:

    >>> import fastxent as fx
    >>> x = [[[3.0, 1.0, -3.0], [0.0, 0.0, 0.0]], [[0.0, 5.0, 1.0], [9.0, 9.0, 9.0]]]
    >>> y, w = [[0, 2], [1, 0]], [[1, 1], [1, 0]]
    >>> fx.sequence_loss_by_example(x, y, w).round(6).tolist()
    [0.076927, 1.098612]
    """
    if gpu := _of_gpu(logits):
        return gpu.by_example(
            _call._fold, logits, targets, weights, average_across_timesteps, softmax_loss_function
        )
    steps = _check.steps(logits, targets, weights)
    losses = []
    for x, y, w in steps:
        if softmax_loss_function is None:
            w = _check.broadcast("weights", w, np.shape(y), "losses")
            losses.append(_step_loss(x, y, w))
        else:
            loss = np.asarray(softmax_loss_function(x, y))
            w = _check.broadcast("weights", w, loss.shape, "losses")
            with np.errstate(invalid="ignore"):
                losses.append(np.where(w == 0, loss.dtype.type(0), w * loss))
    result = np.sum(losses, axis=0, dtype=np.float64)
    if average_across_timesteps:
        total = np.sum([np.broadcast_to(w, result.shape) for _, _, w in steps], 0, np.float64)
        result = np.where(total == 0, 0.0, result / np.where(total == 0, 1.0, total))
    return result.astype(np.result_type(*losses))


def sequence_loss_by_example_with_grad(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    *,
    upstream: Any = None,
) -> tuple[Any, list[Any]]:
    r"""Weighted softmax cross entropy of each example, from lists over time, and gradients.

    .. math::

        \frac{\partial L_b}{\partial x_{tbk}} = g_b \frac{w_{tb}}{\sum_s w_{sb}}
            (p_{tbk} - \delta_{k y_{tb}})

    Parameters
    ----------
    logits : sequence of array_like
        For each time step the unnormalised log-probabilities, shape ``(B, V)``.
    targets : sequence of array_like of int
        For each time step the symbols, shape ``(B,)``.
    weights : sequence of array_like
        For each time step the weights, shape ``(B,)``; 0 for padding, whose gradient is
        exactly 0.
    average_across_timesteps : bool, default: True
        Divide by the sum of the example's weights.
    upstream : array_like, optional
        Gradient ``g`` with respect to the returned losses, shape ``(B,)``; 1 by default.

    Returns
    -------
    loss : ndarray
        As for `sequence_loss_by_example`.
    grad : list of ndarray
        For each time step the gradient with respect to its logits: their shape and dtype.

    Raises
    ------
    IndexError
        "labels must lie in [0, V) ...; got ... at position ...".
    ValueError
        "logits, targets and weights must be of one length ...", a shape that does not fit.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    sequence_loss_by_example : The loss alone, also with a loss function of your own.

    References
    ----------
    TensorFlow: ``tf.contrib.legacy_seq2seq.sequence_loss_by_example``.

    Examples
    --------
    >>> import fastxent as fx
    >>> x, y, w = [[[3.0, 1.0, -3.0]], [[0.0, 5.0, 1.0]]], [[2], [1]], [[1], [0]]
    >>> loss, grad = fx.sequence_loss_by_example_with_grad(x, y, w)
    >>> [step.round(6).tolist() for step in grad]
    [[[0.878878, 0.118943, -0.997821]], [[0.0, 0.0, 0.0]]]
    """
    if gpu := _of_gpu(logits):
        return gpu.by_example(
            _call._fold, logits, targets, weights, average_across_timesteps, None, True, upstream
        )
    steps = _check.steps(logits, targets, weights)
    shares: Any = [_check.broadcast("weights", w, np.shape(y), "losses") for _, y, w in steps]
    if average_across_timesteps:
        shares = _shares(np.stack(shares), 0)
    pairs = [_step_loss(x, y, share, True, upstream) for (x, y, _), share in zip(steps, shares)]
    losses = [loss for loss, _ in pairs]
    loss = np.sum(losses, axis=0, dtype=np.float64).astype(np.result_type(*losses))
    return loss, [grad for _, grad in pairs]


def _of_gpu(logits: Sequence[Any]) -> Any:
    """The path of a call whose first time step is on a GPU, or None."""
    if len(logits) == 0 or type(logits[0]) is np.ndarray:
        return None
    return _backends.gpu_calls(logits[0])


def _step_loss(x: Any, y: Any, w: Any, with_grad: bool = False, upstream: Any = None) -> Any:
    return _call.loss(
        True, x, y, -1, w, None, None, 0.0, 0.0, None, "none", None, with_grad, upstream
    )
