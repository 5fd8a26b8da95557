"""The losses: signature, documentation, and the call.

What several of them say about a parameter is written once, in ``_TEXTS``.
"""

import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from . import _call

__all__ = [
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
