"""What both peers' signatures need around a call: dtypes, axes and classes that are not there."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from .. import _check

Array = np.ndarray[Any, Any]

_UNTYPED = (list, tuple, int, float)


def cast(value: Any, dtype: Any) -> Any:
    """Return a loss in the dtype that the peer returns; beyond its range it is infinite."""
    value, dtype = np.asarray(value), np.dtype(dtype)
    if value.dtype == dtype:
        return value[()]
    with np.errstate(over="ignore", invalid="ignore"):
        return value.astype(dtype.newbyteorder("=") if dtype.kind == "f" else dtype)[()]


def float_dtypes(*arrays: Any) -> set[Any]:
    """Return the float dtypes of what has one; lists and Python's numbers have none."""
    typed = (np.asarray(a).dtype for a in arrays if a is not None and not isinstance(a, _UNTYPED))
    return {dtype for dtype in typed if dtype.kind not in "biu"}


def indices(labels: Any) -> Array:
    """Return class indices as an array; an empty list has no dtype of its own."""
    y = np.asarray(labels)
    return y if y.size or isinstance(labels, np.ndarray) else y.astype(np.intp)


def normalized(function: Callable[..., Any], x: Array, axis: Any) -> Array:
    """Return softmax or log_softmax along an axis that may be empty."""
    axis = normalize_axis_index(axis, x.ndim)
    return np.empty_like(x) if x.size == 0 else function(x, axis)


def softmax_loss(
    function: Callable[..., Any], x: Array, y: Array, axis: int, reduction: str, **options: Any
) -> Any:
    """Return a loss over a class axis that may be empty: nothing to choose from costs nothing."""
    if x.shape[axis] == 0 and (y.shape == x.shape or y.size == 0):
        losses = np.zeros(_check.without(x.shape, axis), x.dtype)
        return {"none": losses, "mean": x.dtype.type(np.nan)}.get(reduction, x.dtype.type(0))
    return function(x, y, axis=axis, reduction=reduction, **options)
