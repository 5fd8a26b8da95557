"""The losses: signature, documentation, and the call.

What several of them say about a parameter is written once, in ``_TEXTS``.
"""

import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from . import _call

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "nll_loss",
    "nll_loss_with_grad",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_grad",
    "sparse_softmax_cross_entropy",
    "sparse_softmax_cross_entropy_with_grad",
]

_TEXTS = {
    "logits": """
        logits : array_like
            Unnormalised log-probabilities ``x``, of any shape with a class axis: float16,
            bfloat16, float32, float64; integers and bools count as float64.""",
    "index_labels": """
        labels : array_like of int
            The class ``y`` of each row, in ``[0, C)``: any integer dtype, shape of ``logits``
            without ``axis``.""",
    "dense_labels": """
        labels : array_like
            A distribution ``q`` over the classes for each row: real or bool, shape of
            ``logits``. Need not sum to 1.""",
    "weights": """
        axis : int, default: -1
            The axis of the classes.
        sample_weight : array_like, optional
            Weight ``u`` of each row; broadcasts to the losses. A row of weight 0 is not read.
        class_weight : array_like, optional
            Weight ``w`` of each class, shape ``(C,)``.""",
    "ignore_index": """
        ignore_index : int, optional
            Rows with this label are not read: loss and gradient 0, not counted in a mean.""",
    "options": """
        label_smoothing : float, default: 0.0
            Share ``e`` in [0, 1] of the label mass that is spread over all ``C`` classes.
        z_loss : float, default: 0.0
            Factor ``t`` of the penalty ``t lse^2``.
        where : array_like of bool, optional
            Broadcasts to ``logits``; False entries take no part in the normaliser, nor in
            the smoothing. Label mass on one makes the loss ``+inf``.""",
    "index_reduction": """
        reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
            ``'mean'`` divides the sum by that of sample weight x class weight of the label
            over the rows that count; ``'size_mean'`` by the number of rows;
            ``'nonzero_mean'`` by the number of rows that are not ignored and have a
            non-zero sample weight.""",
    "dense_reduction": """
        reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
            ``'mean'`` divides the sum by that of the sample weights; ``'size_mean'`` by the
            number of rows; ``'nonzero_mean'`` by the number of rows with a non-zero sample
            weight.""",
    "out": """
        out : ndarray, optional
            Receives the loss: exact shape and dtype.""",
    "upstream": """
        upstream : array_like, optional
            Gradient with respect to the returned loss, same shape; 1 by default, so that
            ``reduction="none"`` gives the gradient of the sum.
        grad_out : ndarray, optional
            Receives the gradient: shape and dtype of ``logits``, or float32 for half
            precision. May be ``logits`` itself.""",
    "labels_grad_out": """
        labels_grad_out : ndarray, optional
            Receives the gradient with respect to ``labels`` too: shape of ``labels``, dtype
            of ``logits``.""",
    "loss": """
        loss : ndarray or scalar
            Shape of ``logits`` without ``axis``, or a scalar when reduced (NaN for a mean
            over nothing). float32 for half precision, else the dtype of ``logits``.""",
    "grad": """
        grad : ndarray
            Gradient of the loss with respect to ``logits``: their shape and dtype.""",
    "raises": """
        IndexError
            "labels must lie in [0, C) ...; got ... at position ...".
        ValueError
            A shape, axis, reduction or number that is not allowed, an output that is
            read-only or overlaps an input. Nothing has been written then.
        TypeError
            A dtype that is not allowed.""",
    "raises_dense": """
        ValueError
            A shape, axis, reduction or number that is not allowed, an output that is
            read-only or overlaps an input. Nothing has been written then.
        TypeError
            A dtype that is not allowed.""",
    "binary_logits": """
        logits : array_like
            Log-odds ``x``, of any shape, each entry a problem of its own: float16, bfloat16,
            float32, float64; integers and bools count as float64.""",
    "binary_labels": """
        labels : array_like
            Probability ``z`` of each entry, usually 0 or 1: real or bool, the same shape.""",
    "binary_weight": """
        sample_weight : array_like, optional
            Weight ``u`` of each entry; broadcasts to ``logits``, never enlarges them. An entry of
            weight 0 has loss and gradient 0, also where it is NaN.""",
    "probs": """
        probs : array_like
            Probabilities ``p`` in [0, 1], of any shape: float16, bfloat16, float32, float64;
            integers and bools count as float64. Others give NaN.""",
    "probs_weight": """
        sample_weight : array_like, optional
            Weight ``u`` of each entry; broadcasts to ``probs``, never enlarges them. An entry of
            weight 0 has loss and gradient 0, also where it is NaN.""",
    "pos_weight": """
        pos_weight : array_like, optional
            Weight of the term of label 1; broadcasts to ``logits``, never enlarges them.
        label_smoothing : float, default: 0.0
            Share ``e`` in [0, 1] by which labels move towards 1/2.""",
    "binary_reduction": """
        reduction : {'none', 'sum', 'mean', 'size_mean', 'nonzero_mean'}, default: 'none'
            ``'mean'`` divides the sum by that of the sample weights; ``'size_mean'`` by the
            number of entries; ``'nonzero_mean'`` by the number of entries with a non-zero
            sample weight. ``pos_weight`` never enters.""",
    "binary_loss": """
        loss : ndarray or scalar
            Shape of the scores, or a scalar when reduced (NaN for a mean over nothing).
            float32 for half precision, else their dtype.""",
    "probs_upstream": """
        upstream : array_like, optional
            Gradient with respect to the returned loss, same shape; 1 by default, so that
            ``reduction="none"`` gives the gradient of the sum.
        grad_out : ndarray, optional
            Receives the gradient: shape and dtype of ``probs``, or float32 for half precision.
            May be ``probs`` itself.""",
    "probs_labels_grad_out": """
        labels_grad_out : ndarray, optional
            Receives the gradient with respect to ``labels`` too: shape of ``labels``, dtype
            of ``probs``.""",
    "pos_weight_grad_out": """
        pos_weight_grad_out : ndarray, optional
            Receives the gradient with respect to ``pos_weight`` too: its shape, dtype of
            ``logits``.""",
    "log_probs": """
        log_probs : array_like
            Log-probabilities ``x``, of any shape with a class axis: float16, bfloat16,
            float32, float64; integers and bools count as float64.""",
    "picked_labels": """
        labels : array_like of int
            The class ``y`` of each row, in ``[0, C)``: any integer dtype, shape of
            ``log_probs`` without ``axis``.""",
    "picked_upstream": """
        upstream : array_like, optional
            Gradient with respect to the returned loss, same shape; 1 by default, so that
            ``reduction="none"`` gives the gradient of the sum.
        grad_out : ndarray, optional
            Receives the gradient: shape and dtype of ``log_probs``, or float32 for half
            precision. May be ``log_probs`` itself.""",
    "picked_loss": """
        loss : ndarray or scalar
            Shape of ``log_probs`` without ``axis``, or a scalar when reduced (NaN for a mean
            over nothing). float32 for half precision, else their dtype.""",
    "notes": """
        A term whose coefficient is 0 is absent: ``0 x inf`` and ``0 x NaN`` contribute 0. Sums
        run in float64. Extra memory: at most 1 MB per thread beyond the outputs.
        Error budget of a loss: 4 units in the last place plus, where the largest logit carries
        the label, its gap to the next one; of a gradient entry: 4 units, or 1e-7 (float64:
        2e-16) times the coefficient of ``p`` times the largest probability.""",
    "references": """
        TensorFlow: ``tf.nn.sparse_softmax_cross_entropy_with_logits``,
        ``tf.nn.softmax_cross_entropy_with_logits``; PyTorch:
        ``torch.nn.functional.cross_entropy``. Z-loss: A. Chowdhery et al., "PaLM: Scaling
        language modeling with pathways", JMLR 24 (2023), section 5.""",
}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _document(function: _Function) -> _Function:
    """Put the shared texts into a docstring: a line ``<name>`` stands for one of them."""
    lines = []
    for line in (function.__doc__ or "").splitlines():
        key = line.strip()[1:-1]
        if line.strip().startswith("<") and key in _TEXTS:
            lines.append(textwrap.indent(textwrap.dedent(_TEXTS[key]).strip(), "    "))
        else:
            lines.append(line)
    function.__doc__ = "\n".join(lines)
    return function


@_document
def sparse_softmax_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Any = None,
    reduction: str = "none",
    out: Any = None,
) -> Any:
    r"""Softmax cross entropy with one class index per row.

    .. math::

        L = u \left[ (1-e)\, w_y (\mathrm{lse} - x_y)
            + \tfrac{e}{C} \sum_k w_k (\mathrm{lse} - x_k) + t\, \mathrm{lse}^2 \right],
        \qquad \mathrm{lse} = \log \sum_k e^{x_k}

    Parameters
    ----------
    <logits>
    <index_labels>
    <weights>
    <ignore_index>
    <options>
    <index_reduction>
    <out>

    Returns
    -------
    <loss>

    Raises
    ------
    <raises>

    See Also
    --------
    sparse_softmax_cross_entropy_with_grad : The gradient too, in the same pass.
    softmax_cross_entropy : A distribution over the classes instead of one class.

    Notes
    -----
    <notes>

    References
    ----------
    <references>

    Examples
    --------
    The loss of each label that the logits ``[3, 1, -3]`` may have:

    >>> import fastxent as fx
    >>> fx.sparse_softmax_cross_entropy([[3.0, 1.0, -3.0]] * 3, [0, 1, 2]).round(8).tolist()
    [0.12910891, 2.12910891, 6.12910891]

    A confident row keeps its digits in float32:

    >>> import numpy as np
    >>> x = np.array([0, -20, -25], np.float32)
    >>> print(f"{fx.sparse_softmax_cross_entropy(x, 0):.6g}")
    2.07504e-09
    """
    return _call.loss(
        True, logits, labels, axis, sample_weight, class_weight, ignore_index, label_smoothing,
        z_loss, where, reduction, out,
    )  # fmt: skip


@_document
def sparse_softmax_cross_entropy_with_grad(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Any = None,
    reduction: str = "none",
    out: Any = None,
    upstream: Any = None,
    grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Softmax cross entropy with one class index per row, and its gradient.

    .. math::

        \frac{\partial L}{\partial x_k} = g \left[ \left( (1-e)\, w_y + \tfrac{e}{C} W
            + 2 t\, \mathrm{lse} \right) p_k - (1-e)\, w_y \delta_{ky} - \tfrac{e}{C} w_k
            \right], \qquad p = \mathrm{softmax}(x), \quad W = \sum_k w_k

    where ``g`` is sample weight x upstream gradient x the reduction's factor.

    Parameters
    ----------
    <logits>
    <index_labels>
    <weights>
    <ignore_index>
    <options>
    <index_reduction>
    <out>
    <upstream>

    Returns
    -------
    <loss>
    <grad>

    Raises
    ------
    <raises>

    See Also
    --------
    sparse_softmax_cross_entropy : The loss alone.

    Notes
    -----
    The label's own entry is computed from the sum of the other probabilities, so it keeps
    its digits in a confident row.
    <notes>

    References
    ----------
    <references>

    Examples
    --------
    >>> import fastxent as fx
    >>> loss, grad = fx.sparse_softmax_cross_entropy_with_grad([[3.0, 1.0, -3.0]], [2])
    >>> loss.round(8).tolist(), grad.round(8).tolist()
    ([6.12910891], [[0.87887824, 0.11894324, -0.99782148]])
    """
    return _call.loss(
        True, logits, labels, axis, sample_weight, class_weight, ignore_index, label_smoothing,
        z_loss, where, reduction, out, True, upstream, grad_out,
    )  # fmt: skip


@_document
def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Any = None,
    reduction: str = "none",
    out: Any = None,
) -> Any:
    r"""Softmax cross entropy with a distribution over the classes per row.

    .. math::

        L = u \left[ \sum_k q'_k (\mathrm{lse} - x_k) + t\, \mathrm{lse}^2 \right], \qquad
        q'_k = w_k \left( (1-e)\, q_k + \tfrac{e}{C} \right)

    Parameters
    ----------
    <logits>
    <dense_labels>
    <weights>
    <options>
    <dense_reduction>
    <out>

    Returns
    -------
    <loss>

    Raises
    ------
    <raises_dense>

    See Also
    --------
    softmax_cross_entropy_with_grad : The gradient too, in the same pass.
    sparse_softmax_cross_entropy : One class index per row: less to read, and exact.

    Notes
    -----
    <notes>

    References
    ----------
    <references>

    Examples
    --------
    >>> import fastxent as fx
    >>> print(f"{fx.softmax_cross_entropy([0.0, 5.0, 1.0], [0.0, 0.8, 0.2]):.12f}")
    0.824744890139
    """
    return _call.loss(
        False, logits, labels, axis, sample_weight, class_weight, None, label_smoothing,
        z_loss, where, reduction, out,
    )  # fmt: skip


@_document
def softmax_cross_entropy_with_grad(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Any = None,
    reduction: str = "none",
    out: Any = None,
    upstream: Any = None,
    grad_out: Any = None,
    labels_grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Softmax cross entropy with a distribution over the classes per row, and its gradient.

    .. math::

        \frac{\partial L}{\partial x_k} = g \left[ \left( \sum_j q'_j + 2 t\, \mathrm{lse}
            \right) p_k - q'_k \right], \qquad
        \frac{\partial L}{\partial q_k} = g\, w_k (1-e) (\mathrm{lse} - x_k)

    where ``g`` is sample weight x upstream gradient x the reduction's factor. True also
    for labels that do not sum to 1.

    Parameters
    ----------
    <logits>
    <dense_labels>
    <weights>
    <options>
    <dense_reduction>
    <out>
    <upstream>
    <labels_grad_out>

    Returns
    -------
    <loss>
    <grad>

    Raises
    ------
    <raises_dense>

    See Also
    --------
    softmax_cross_entropy : The loss alone.

    Notes
    -----
    <notes>

    References
    ----------
    <references>

    Examples
    --------
    >>> import fastxent as fx
    >>> loss, grad = fx.softmax_cross_entropy_with_grad([[0.0, 5.0, 1.0]], [[0.0, 0.8, 0.2]])
    >>> loss.round(8).tolist(), grad.round(8).tolist()
    ([0.82474489], [[0.00657326, 0.17555875, -0.18213202]])
    """
    return _call.loss(
        False, logits, labels, axis, sample_weight, class_weight, None, label_smoothing,
        z_loss, where, reduction, out, True, upstream, grad_out, labels_grad_out,
    )  # fmt: skip


@_document
def sigmoid_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    pos_weight: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    out: Any = None,
) -> Any:
    r"""Binary cross entropy of each entry, from log-odds.

    .. math::

        L = u \left[ (1 - z') \log(1 + e^x) + w_+ z' \log(1 + e^{-x}) \right], \qquad
        z' = (1-e)\, z + \tfrac{e}{2}

    with ``pos_weight`` :math:`w_+`.

    Parameters
    ----------
    <binary_logits>
    <binary_labels>
    <binary_weight>
    <pos_weight>
    <binary_reduction>
    <out>

    Returns
    -------
    <binary_loss>

    Raises
    ------
    <raises_dense>

    See Also
    --------
    sigmoid_cross_entropy_with_grad : The gradient too, in the same pass.
    binary_cross_entropy : The same from probabilities.
    softmax_cross_entropy : Classes that exclude each other.

    Notes
    -----
    Both logarithms are ``max(+-x, 0) + log1p(exp(-|x|))``: terms of one sign, so no digit is
    lost anywhere. A term whose coefficient is 0 is absent; at ``+-inf`` the limits hold. Sums
    run in float64.
    Error budget of a loss: 4 units in the last place; of a gradient entry: 4 units, or 1e-7
    (float64: 2e-16) times ``|g| (|1-z'| + |pos_weight z'|)``.

    References
    ----------
    TensorFlow: ``tf.nn.sigmoid_cross_entropy_with_logits``,
    ``tf.nn.weighted_cross_entropy_with_logits``; PyTorch:
    ``torch.nn.functional.binary_cross_entropy_with_logits``.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.sigmoid_cross_entropy([0.2, 0.2], [0, 1]).round(8).tolist()
    [0.79813887, 0.59813887]

    An entry that is almost certainly right keeps its digits in float32:

    >>> import numpy as np
    >>> print(f"{fx.sigmoid_cross_entropy(np.float32(-20), 0):.6g}")
    2.06115e-09
    """
    return _call.entries(
        "logits", logits, labels, sample_weight, pos_weight, label_smoothing, reduction, out
    )


@_document
def sigmoid_cross_entropy_with_grad(
    logits: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    pos_weight: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    out: Any = None,
    upstream: Any = None,
    grad_out: Any = None,
    labels_grad_out: Any = None,
    pos_weight_grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Binary cross entropy of each entry, from log-odds, and its gradient.

    .. math::

        \frac{\partial L}{\partial x} = g \left[ (1 - z')\, p - w_+ z' (1 - p) \right],
            \qquad p = \mathrm{sigmoid}(x)

        \frac{\partial L}{\partial z} = g\, (1-e) \left[ w_+ \log(1 + e^{-x})
            - \log(1 + e^x) \right], \qquad
        \frac{\partial L}{\partial w_+} = \sum g\, z' \log(1 + e^{-x})

    where ``g`` is sample weight x upstream gradient x the reduction's factor.

    Parameters
    ----------
    <binary_logits>
    <binary_labels>
    <binary_weight>
    <pos_weight>
    <binary_reduction>
    <out>
    <upstream>
    <labels_grad_out>
    <pos_weight_grad_out>

    Returns
    -------
    <binary_loss>
    <grad>

    Raises
    ------
    <raises_dense>

    See Also
    --------
    sigmoid_cross_entropy : The loss alone.

    Notes
    -----
    Accuracy: as for `sigmoid_cross_entropy`. The gradient with respect to ``pos_weight`` is
    summed in float64: 8 bytes per entry of it.

    References
    ----------
    TensorFlow: ``tf.nn.sigmoid_cross_entropy_with_logits``; PyTorch:
    ``torch.nn.functional.binary_cross_entropy_with_logits``.

    Examples
    --------
    >>> import fastxent as fx
    >>> loss, grad = fx.sigmoid_cross_entropy_with_grad([0.2, 0.2], [0, 1])
    >>> grad.round(8).tolist()
    [0.549834, -0.450166]
    """
    return _call.entries(
        "logits", logits, labels, sample_weight, pos_weight, label_smoothing, reduction, out,
        True, upstream, grad_out, labels_grad_out, pos_weight_grad_out,
    )  # fmt: skip


@_document
def binary_cross_entropy(
    probs: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "none",
    out: Any = None,
) -> Any:
    r"""Binary cross entropy of each entry, from probabilities.

    .. math:: L = -u \left[ z \log p + (1 - z) \log(1 - p) \right]

    Parameters
    ----------
    <probs>
    <binary_labels>
    <probs_weight>
    <binary_reduction>
    <out>

    Returns
    -------
    <binary_loss>

    Raises
    ------
    <raises_dense>

    See Also
    --------
    sigmoid_cross_entropy : The same from log-odds: more accurate where p is close to 0 or 1.

    Notes
    -----
    Nothing is clipped: probability 0 with label 1 gives ``+inf``. A term whose coefficient
    is 0 is absent. Error budget: 4 units in the last place.

    References
    ----------
    PyTorch: ``torch.nn.functional.binary_cross_entropy`` (which clips the logarithms at
    -100); TensorFlow: ``tf.compat.v1.losses.log_loss`` (which adds 1e-7).

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.binary_cross_entropy([0.9, 0.9, 0.0], [1, 0, 0]).round(8).tolist()
    [0.10536052, 2.30258509, 0.0]
    """
    return _call.entries("probs", probs, labels, sample_weight, None, 0.0, reduction, out)


@_document
def binary_cross_entropy_with_grad(
    probs: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "none",
    out: Any = None,
    upstream: Any = None,
    grad_out: Any = None,
    labels_grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Binary cross entropy of each entry, from probabilities, and its gradient.

    .. math::

        \frac{\partial L}{\partial p} = g \left[ \frac{1 - z}{1 - p} - \frac{z}{p} \right],
            \qquad
        \frac{\partial L}{\partial z} = g \log \frac{1 - p}{p}

    where ``g`` is sample weight x upstream gradient x the reduction's factor.

    Parameters
    ----------
    <probs>
    <binary_labels>
    <probs_weight>
    <binary_reduction>
    <out>
    <probs_upstream>
    <probs_labels_grad_out>

    Returns
    -------
    <binary_loss>
    grad : ndarray
        Gradient of the loss with respect to ``probs``: their shape and dtype.

    Raises
    ------
    <raises_dense>

    See Also
    --------
    binary_cross_entropy : The loss alone.

    Notes
    -----
    Error budget of a gradient entry: 4 units in the last place, or 1e-7 (float64: 2e-16)
    times ``|g| (|1-z| / (1-p) + |z| / p)``.

    References
    ----------
    PyTorch: ``torch.nn.functional.binary_cross_entropy``.

    Examples
    --------
    >>> import fastxent as fx
    >>> loss, grad = fx.binary_cross_entropy_with_grad([0.5, 0.8], [1, 0])
    >>> grad.round(8).tolist()
    [-2.0, 5.0]
    """
    return _call.entries(
        "probs", probs, labels, sample_weight, None, 0.0, reduction, out, True, upstream,
        grad_out, labels_grad_out,
    )  # fmt: skip


@_document
def nll_loss(
    log_probs: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "none",
    out: Any = None,
) -> Any:
    r"""Negative log-likelihood: minus the log-probability of each row's class.

    .. math:: L = -u\, w_y\, x_y

    Parameters
    ----------
    <log_probs>
    <picked_labels>
    <weights>
    <ignore_index>
    <index_reduction>
    <out>

    Returns
    -------
    <picked_loss>

    Raises
    ------
    <raises>

    See Also
    --------
    sparse_softmax_cross_entropy : The same from logits, in one pass: ``nll_loss`` of
        `log_softmax`.
    nll_loss_with_grad : The gradient too.

    Notes
    -----
    Only the entry of the label is read. Error budget: 4 units in the last place.

    References
    ----------
    PyTorch: ``torch.nn.functional.nll_loss``.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.nll_loss(fx.log_softmax([[3.0, 1.0, -3.0]]), [2]).round(8).tolist()
    [6.12910891]
    """
    return _call.picked(
        log_probs, labels, axis, sample_weight, class_weight, ignore_index, reduction, out
    )


@_document
def nll_loss_with_grad(
    log_probs: Any,
    labels: Any,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    class_weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "none",
    out: Any = None,
    upstream: Any = None,
    grad_out: Any = None,
) -> tuple[Any, Any]:
    r"""Negative log-likelihood of each row's class, and its gradient.

    .. math:: \frac{\partial L}{\partial x_k} = -g\, w_y\, \delta_{ky}

    where ``g`` is sample weight x upstream gradient x the reduction's factor.

    Parameters
    ----------
    <log_probs>
    <picked_labels>
    <weights>
    <ignore_index>
    <index_reduction>
    <out>
    <picked_upstream>

    Returns
    -------
    <picked_loss>
    grad : ndarray
        Gradient of the loss with respect to ``log_probs``: their shape and dtype; 0 but in
        the entry of the label, where it is NaN if the log-probability is.

    Raises
    ------
    <raises>

    See Also
    --------
    nll_loss : The loss alone.

    References
    ----------
    PyTorch: ``torch.nn.functional.nll_loss``.

    Examples
    --------
    >>> import fastxent as fx
    >>> loss, grad = fx.nll_loss_with_grad([[-0.5, -1.0], [-0.1, -3.0]], [0, 1], reduction="mean")
    >>> float(loss), grad.tolist()
    (1.75, [[-0.5, 0.0], [0.0, -0.5]])
    """
    return _call.picked(
        log_probs, labels, axis, sample_weight, class_weight, ignore_index, reduction, out, True,
        upstream, grad_out,
    )  # fmt: skip
