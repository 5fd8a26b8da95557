"""``torch.nn.functional``: the losses as functions of (input, target)."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import _check, linear, losses, normalizers
from ..._common import Array, cast, float_dtypes, indices, normalized, softmax_loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "linear_cross_entropy",
    "log_softmax",
    "nll_loss",
    "softmax",
]

_SWAPPED = "; the arguments look swapped: the order is (input, target)"

#: What this library calls the peer's arguments.
_NAMES = {
    "logits": "input",
    "log_probs": "input",
    "probs": "input",
    "labels": "target",
    "class_weight": "weight",
    "sample_weight": "weight",
}
#: And those of a linear layer.
_LINEAR_NAMES = _NAMES | {"inputs": "input", "weight": "linear_weight", "bias": "linear_bias"}


class _Named:
    """Lets an error name the peer's arguments."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.ours = re.compile(r"\b(" + "|".join(names) + r")\b")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind in (IndexError, TypeError, ValueError):
            raise kind(self.ours.sub(lambda m: self.names[m[0]], str(error))) from None


_named = _Named(_NAMES)
_named_linear = _Named(_LINEAR_NAMES)


def _reduction(size_average: Any, reduce: Any, reduction: Any, level: int = 3) -> str:
    """Return 'none', 'sum' or 'mean', from the deprecated arguments if they are given."""
    if size_average is not None or reduce is not None:
        mean = size_average is None or size_average
        reduction = ("mean" if mean else "sum") if reduce is None or reduce else "none"
        text = f"size_average and reduce are deprecated; use reduction={reduction!r} instead"
        warnings.warn(text, UserWarning, stacklevel=level)
    elif reduction == "elementwise_mean":
        reduction = "mean"
        text = "reduction='elementwise_mean' is deprecated; use reduction='mean' instead"
        warnings.warn(text, UserWarning, stacklevel=level)
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction must be one of 'none', 'sum', 'mean'; got {reduction!r}")
    return str(reduction)


def _normalized(function: Callable[..., Any], input: Any, dim: Any, level: int, dtype: Any) -> Any:
    x = np.asarray(input)
    if dtype is not None:
        x = x.astype(dtype, copy=False)
    x = _check.floating("input", x)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
        text = f"the choice of dim={dim} is deprecated; give dim"
        warnings.warn(text, UserWarning, stacklevel=level)
    return normalized(function, x, dim) if x.ndim else normalized(function, x[None], dim)[0]


def softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Probabilities from scores, as ``torch.nn.functional.softmax``.

    Parameters
    ----------
    input : array_like
        Scores: float16, bfloat16, float32 or float64.
    dim : int, optional
        The axis of the classes. None is deprecated: the first axis of an array with 0, 1
        or 3 axes, else the second.
    _stacklevel : int, default: 3
        Where the warning about that points to.
    dtype : dtype, optional
        The scores are converted to it first; then they may be integers too.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of the (converted) scores.

    Raises
    ------
    ValueError
        ``dim`` is out of range (it is an IndexError too, as in PyTorch).
    TypeError
        "input must be float16, bfloat16, float32 or float64; got ...".

    See Also
    --------
    fastxent.softmax : Masks, any dtype, and an array to write into.

    Notes
    -----
    No deliberate differences.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> F.softmax([3.0, 1.0, -3.0], dim=0).round(8).tolist()
    [0.87887824, 0.11894324, 0.00217852]
    """
    return _normalized(normalizers.softmax, input, dim, _stacklevel, dtype)


def log_softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Log-probabilities from scores, as ``torch.nn.functional.log_softmax``.

    Parameters
    ----------
    input : array_like
        Scores: float16, bfloat16, float32 or float64.
    dim : int, optional
        The axis of the classes. None is deprecated: the first axis of an array with 0, 1
        or 3 axes, else the second.
    _stacklevel : int, default: 3
        Where the warning about that points to.
    dtype : dtype, optional
        The scores are converted to it first; then they may be integers too.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of the (converted) scores.

    Raises
    ------
    ValueError
        ``dim`` is out of range (it is an IndexError too, as in PyTorch).
    TypeError
        "input must be float16, bfloat16, float32 or float64; got ...".

    See Also
    --------
    fastxent.log_softmax : Masks, any dtype, and an array to write into.

    Notes
    -----
    Difference: an almost certain class keeps its digits, where PyTorch returns 0 in float32.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> (-F.log_softmax([3.0, 1.0, -3.0], dim=0)).round(8).tolist()
    [0.12910891, 2.12910891, 6.12910891]
    """
    return _normalized(normalizers.log_softmax, input, dim, _stacklevel, dtype)


def _class_axis(x: Array) -> int:
    if x.ndim == 0:
        raise ValueError("input must have at least one axis, the classes; got a scalar")
    return min(1, x.ndim - 1)


def _index_loss(
    function: Callable[..., Any], x: Array, target: Any, weight: Any, **options: Any
) -> Any:
    """Return a loss of one class index per row."""
    axis, y = _class_axis(x), indices(target)
    if x.ndim == 1 and y.shape == (1,):
        y = y.reshape(())
    with _named:
        loss = softmax_loss(function, x, y, axis, class_weight=weight, **options)
    return cast(loss, x.dtype)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood from log-probabilities, as ``torch.nn.functional.nll_loss``.

    Parameters
    ----------
    input : array_like
        Log-probabilities ``(C,)``, ``(N, C)`` or ``(N, C, d1, ..., dk)``: float16, bfloat16,
        float32 or float64.
    target : array_like of int
        The class of each row, in ``[0, C)``: shape of ``input`` without the class axis.
    weight : array_like, optional
        Weight of each class, shape ``(C,)``.
    size_average : bool, optional
        Deprecated, with ``reduce``; they override ``reduction``.
    ignore_index : int, default: -100
        Rows with this target have the loss 0 and do not count in a mean.
    reduce : bool, optional
        Deprecated, with ``size_average``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        ``'mean'`` divides the sum by that of the weights of the targets over the rows that
        count. NaN where these are 0.

    Returns
    -------
    ndarray or scalar
        Dtype of ``input``; shape of ``target``, or a scalar when reduced.

    Raises
    ------
    IndexError
        "target must lie in [0, C) ...; got ... at position ...".
    ValueError
        A shape or reduction that is not allowed.
    TypeError
        A dtype that is not allowed: integers as ``input``, floats as ``target``.

    See Also
    --------
    fastxent.nll_loss_with_grad : The gradient too.

    Notes
    -----
    Differences: targets may have any integer dtype and weights any real one; a class of weight 0
    costs 0 also where the log-probability is infinite or NaN; the mean of weights that cancel
    (their sum is 0) is NaN, never infinite; sums of half precision run in float64.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html

    Examples
    --------
    >>> import numpy as np
    >>> from fastxent.compat.torch.nn import functional as F
    >>> print(f"{F.nll_loss(np.log([[0.2, 0.8], [0.5, 0.5]]), [1, 0]):.12f}")
    0.458145365937
    """
    reduction = _reduction(size_average, reduce, reduction)
    x = _check.floating("input", input, _SWAPPED)
    return _index_loss(
        losses.nll_loss, x, target, weight, ignore_index=ignore_index, reduction=reduction
    )


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Softmax cross entropy, as ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : array_like
        Logits ``(C,)``, ``(N, C)`` or ``(N, C, d1, ..., dk)``: float16, bfloat16, float32 or
        float64.
    target : array_like
        Floats of the shape of ``input``: a distribution over the classes for each row.
        Integers of that shape without the class axis: the class of each row, in ``[0, C)``.
    weight : array_like, optional
        Weight of each class, shape ``(C,)``.
    size_average : bool, optional
        Deprecated, with ``reduce``; they override ``reduction``.
    ignore_index : int, default: -100
        Rows with this class have the loss 0 and do not count in a mean. Not with distributions.
    reduce : bool, optional
        Deprecated, with ``size_average``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        ``'mean'`` divides the sum by that of the weights of the targets over the rows that
        count; for distributions by the number of rows. NaN where these are 0.
    label_smoothing : float, default: 0.0
        Share of the target's mass that is spread over all classes; one below 0 counts as 0.

    Returns
    -------
    ndarray or scalar
        Shape of ``input`` without the class axis, or a scalar when reduced. Dtype of ``input``;
        for distributions the wider one of ``input``, ``target`` and ``weight``.

    Raises
    ------
    IndexError
        "target must lie in [0, C) ...; got ... at position ...".
    ValueError
        A shape, reduction or number that is not allowed.
    TypeError
        A dtype that is not allowed: integers as ``input`` or as distributions, floats as classes.

    See Also
    --------
    fastxent.sparse_softmax_cross_entropy_with_grad : The gradient too, of index labels.
    fastxent.softmax_cross_entropy_with_grad : The gradient too, of distributions.

    Notes
    -----
    Differences: classes may have any integer dtype and weights any real one; a term whose weight,
    probability or smoothing is 0 is absent, so ``0 x inf`` costs 0 where PyTorch returns NaN; a
    confident row keeps its digits, where PyTorch returns 0 in float32; the mean of weights that
    cancel (their sum is 0) is NaN, never infinite; sums of half precision run in float64, so that
    they neither overflow nor lose digits.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> print(f"{F.cross_entropy([[0.0, 5.0, 1.0]], [1]):.12f}")
    0.024744890139
    >>> print(f"{F.cross_entropy([[0.0, 5.0, 1.0]], [[0.0, 0.8, 0.2]]):.12f}")
    0.824744890139
    """
    reduction = _reduction(size_average, reduce, reduction)
    x, y = _check.floating("input", input, _SWAPPED), indices(target)
    smoothing = max(label_smoothing, 0.0)
    if y.shape != x.shape:
        return _index_loss(
            losses.sparse_softmax_cross_entropy, x, y, weight, ignore_index=ignore_index,
            reduction=reduction, label_smoothing=smoothing,
        )  # fmt: skip
    y = _check.floating("target of the input's shape, a distribution,", y)
    if ignore_index >= 0:
        raise ValueError(f"ignore_index must be negative for distributions; got {ignore_index}")
    with _named:
        loss = softmax_loss(
            losses.softmax_cross_entropy, x, y, _class_axis(x), class_weight=weight,
            reduction=reduction, label_smoothing=smoothing,
        )  # fmt: skip
    dtypes = float_dtypes(x, target, weight)
    wide = np.float64 if any(d.itemsize == 8 for d in dtypes) else np.float32
    return cast(loss, dtypes.pop() if len(dtypes) == 1 else wide)


def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:
    """Cross entropy of a linear layer, as ``torch.nn.functional.linear_cross_entropy``.

    Parameters
    ----------
    input : array_like
        Features ``(F,)`` or ``(N, F)``: float16, bfloat16, float32 or float64.
    linear_weight : array_like
        Their weights, shape ``(C, F)`` or ``(C, d1, ..., dk, F)``.
    target : array_like
        Floats of the shape of the logits, ``(C,)`` or ``(N, C, d1, ..., dk)``: a distribution over
        the classes for each row. Integers of that shape without the class axis: classes in
        ``[0, C)``.
    linear_bias : array_like, optional
        Added to the logits, shape of ``linear_weight`` without its last axis.
    weight : array_like, optional
        Weight of each class, shape ``(C,)``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        As for `cross_entropy`.
    ignore_index : int, optional
        Rows with this class, by default -100, have the loss 0 and do not count in a mean. Not
        with distributions.
    label_smoothing : float, default: 0.0
        Share of the target's mass that is spread over all classes; one below 0 counts as 0.
    options : LinearCrossEntropyOptions, optional
        How PyTorch cuts the rows; not looked at.

    Returns
    -------
    ndarray or scalar
        Shape of the logits without the class axis, or a scalar when reduced. Dtype of ``input``;
        for distributions as for `cross_entropy`.

    Raises
    ------
    IndexError
        "target must lie in [0, C) ...; got ... at position ...".
    ValueError
        A shape, reduction or number that is not allowed.
    TypeError
        A dtype that is not allowed: integers as ``input``, floats as classes.

    See Also
    --------
    fastxent.linear_cross_entropy : The function beneath, with gradients.

    Notes
    -----
    Differences: for classes and a weight of two axes the logits are never held as a whole, whatever
    ``options``; half precision is computed in float32, logits included; and those of
    `cross_entropy`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear_cross_entropy.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> print(f"{F.linear_cross_entropy([[1.0, 2.0]], [[1, 1], [-1, 1], [-3, 0]], [0]):.8f}")
    0.12910891
    """
    reduction = _reduction(None, None, reduction)
    x, y = _check.floating("input", input, _SWAPPED), indices(target)
    w = np.asarray(linear_weight)
    if x.ndim not in (1, 2) or w.ndim < 2 or (x.ndim == 1 and w.ndim > 2):
        raise ValueError(
            "input and linear_weight must have shapes (F,) and (C, F), or (N, F) and "
            f"(C, d1, ..., dk, F); got {x.shape} and {w.shape}"
        )
    smoothing, classes = max(label_smoothing, 0.0), w.shape[0]
    if w.ndim == 2 and classes and y.shape != (*x.shape[:-1], classes):
        if x.ndim == 1 and y.shape == (1,):
            y = y.reshape(())
        with _named_linear:
            loss = linear.linear_cross_entropy(
                x, w, y, bias=linear_bias, class_weight=weight, reduction=reduction,
                ignore_index=-100 if ignore_index is None else ignore_index,
                label_smoothing=smoothing,
            )  # fmt: skip
        return cast(loss, x.dtype)
    if ignore_index is not None and y.dtype.kind not in "iu":
        raise ValueError(f"ignore_index must be None for distributions; got {ignore_index}")
    with _named_linear:
        _, flat, bias, dtype = _check.linear(
            x, w.reshape(-1, w.shape[-1]), None if linear_bias is None else np.ravel(linear_bias)
        )
    logits = x.astype(dtype) @ flat.astype(dtype).T
    if bias is not None:
        logits += bias
    loss = cross_entropy(
        logits.reshape(*x.shape[:-1], *w.shape[:-1]), target, weight, reduction=reduction,
        ignore_index=-100 if ignore_index is None else ignore_index, label_smoothing=smoothing,
    )  # fmt: skip
    return cast(loss, x.dtype)


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Cross entropy from probabilities, as ``torch.nn.functional.binary_cross_entropy``.

    Each logarithm is at least -100.

    Parameters
    ----------
    input : array_like
        Probabilities of any shape: float16, bfloat16, float32 or float64.
    target : array_like
        Labels in [0, 1], shape of ``input``.
    weight : array_like, optional
        Weight of each loss; broadcasts to ``input``.
    size_average, reduce : bool, optional
        Deprecated; they override ``reduction``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        ``'mean'`` divides the sum by the number of losses, whatever the weights; NaN if there
        is none.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of ``input``, or a scalar when reduced.

    Raises
    ------
    ValueError
        A shape or reduction that is not allowed, a probability or label outside [0, 1].
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    fastxent.binary_cross_entropy_with_grad : The gradient too.

    Notes
    -----
    Differences: ``target`` and ``weight`` may have any real dtype; sums of half precision run in
    float64.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> F.binary_cross_entropy([0.5, 0.0], [1.0, 1.0], reduction="none").round(8).tolist()
    [0.69314718, 100.0]
    """
    reduction = _reduction(size_average, reduce, reduction)
    p, z = _check.floating("input", input, _SWAPPED), np.asarray(target)
    _check.unit_interval("input", p)
    _check.unit_interval("target", z)
    # Only these have a logarithm below -100: of the one, or of the other.
    low, high = p < np.exp(-100), p == 1
    clipped = np.any(low | high)
    inside = np.where(low | high, p.dtype.type(0.5), p) if clipped else p
    with _named:
        each = np.asarray(losses.binary_cross_entropy(inside, z, sample_weight=weight))
    if clipped:
        w, z = np.broadcast_to(1 if weight is None else weight, p.shape), z.astype(each.dtype)
        each[low] = 100 * z[low] * w[low]
        each[high] = 100 * (1 - z[high]) * w[high]
    if reduction == "none":
        return cast(each, p.dtype)
    total = each.sum(dtype=np.float64)
    mean = total / each.size if each.size else np.nan
    return cast(total if reduction == "sum" else mean, p.dtype)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Sigmoid cross entropy, as ``torch.nn.functional.binary_cross_entropy_with_logits``.

    Parameters
    ----------
    input : array_like
        Logits of any shape: float16, bfloat16, float32 or float64.
    target : array_like
        Labels, shape of ``input``.
    weight : array_like, optional
        Weight of each loss; broadcasts to ``input``.
    size_average, reduce : bool, optional
        Deprecated; they override ``reduction``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        ``'mean'`` divides the sum by the number of losses, whatever the weights; NaN if there
        is none.
    pos_weight : array_like, optional
        Weight of the positive label; broadcasts to ``input``.

    Returns
    -------
    ndarray or scalar
        Shape of ``input``, or a scalar when reduced. Dtype of ``target`` if that is an array of
        floats, else of ``input``.

    Raises
    ------
    ValueError
        A shape or reduction that is not allowed.
    TypeError
        A dtype that is not allowed.

    See Also
    --------
    fastxent.sigmoid_cross_entropy_with_grad : The gradient too.

    Notes
    -----
    Differences: ``target`` may have any real dtype; infinite logits have the true limits, 0 or
    infinity, where PyTorch returns NaN for most; small losses keep their digits, where PyTorch
    returns 0 for the float32 logit -20; sums of half precision run in float64.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html

    Examples
    --------
    >>> from fastxent.compat.torch.nn import functional as F
    >>> F.binary_cross_entropy_with_logits([0.2, 0.2], [0.0, 1.0], reduction="none").round(8)
    array([0.79813887, 0.59813887])
    """
    reduction = _reduction(size_average, reduce, reduction)
    x = _check.floating("input", input, _SWAPPED)
    with _named:
        loss = losses.sigmoid_cross_entropy(
            x, target, sample_weight=weight, pos_weight=pos_weight,
            reduction="size_mean" if reduction == "mean" else reduction,
        )  # fmt: skip
    return cast(loss, *(float_dtypes(target) or [x.dtype]))
