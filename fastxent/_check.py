"""Every check of an argument, and every sentence about one.

A sentence names the argument, says what is allowed and what was given.  Nothing here
writes anything.
"""

import numbers
import operator
from functools import cache
from typing import Any

import numpy as np

from ._spec import AVERAGES, REDUCTIONS

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)

#: The bits of bfloat16 where no dtype of that name is at hand; kernels read them as such.
RAW_BFLOAT16 = np.dtype("V2")

#: Effort for an exact answer to "do these arrays share an element"; beyond it: they do.
_OVERLAP_WORK = 100_000


def is_half(dtype: DType) -> bool:
    return dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")


@cache
def _float_types(dtype: DType) -> tuple[DType, DType] | None:
    if dtype.kind in "biu":
        return _FLOAT64, _FLOAT64
    if is_half(dtype):
        return _FLOAT32, dtype.newbyteorder("=") if dtype.kind == "f" else dtype
    native = dtype.newbyteorder("=")
    return (native, native) if native in (_FLOAT32, _FLOAT64) else None


def logits(name: str, x: Any, raw: bool = False) -> tuple[Array, DType, DType]:
    """The array, the dtype of losses and the dtype of arrays of its shape."""
    if type(x) is not np.ndarray:
        x = np.asarray(x)
    types = _float_types(x.dtype)
    if raw and x.dtype == RAW_BFLOAT16:
        types = _FLOAT32, RAW_BFLOAT16
    if types is None:
        raise TypeError(
            f"{name} must be float16, bfloat16, float32, float64, integer or bool; got {x.dtype}"
        )
    return x, *types


def computes_in_double(dtype: Any) -> bool:
    """Tell in which precision logits of a dtype are computed."""
    if dtype == "bfloat16":  # a name that NumPy does not know by itself
        return False
    try:
        types = _float_types(np.dtype(dtype))
    except TypeError:
        types = None
    if types is None:
        raise TypeError(
            f"dtypes must be float16, bfloat16, float32, float64, integers or bool; got {dtype!r}"
        )
    return types[0] == _FLOAT64


def axis(name: str, x: Array, value: Any) -> int:
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, the classes; got a scalar")
    try:
        axis = operator.index(value)
    except TypeError:
        raise TypeError(f"axis must be an integer; got {value!r}") from None
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"axis must lie in [{-x.ndim}, {x.ndim}) for {name} of shape {x.shape}; got {axis}"
        )
    axis %= x.ndim
    if x.shape[axis] == 0:
        raise ValueError(f"{name} must have at least one class on axis {axis}; got shape {x.shape}")
    return axis


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def index_labels(y: Any, x: Array, axis: int, name: str = "logits") -> Array:
    if type(y) is not np.ndarray:
        y = np.asarray(y)
        if y.size == 0:  # an empty list has no dtype of its own
            y = y.astype(np.intp)
    shape = without(x.shape, axis)
    if y.dtype.kind not in "iu":
        hint = " of the logits' shape: for label distributions use softmax_cross_entropy"
        raise not_indices(y, hint if y.shape == x.shape else "")
    if y.shape != shape:
        raise ValueError(
            f"labels must have shape {shape}, that of {name} {x.shape} without axis {axis}; "
            f"got {y.shape}"
        )
    return y


def not_indices(y: Array, hint: str) -> TypeError:
    """What to say about labels of another dtype."""
    return TypeError(f"labels must be integers, one class index per row; got dtype {y.dtype}{hint}")


def dense_labels(q: Any, x: Array, name: str = "logits") -> Array:
    if type(q) is not np.ndarray:
        q = np.asarray(q)
    _real("labels", q)
    if q.shape != x.shape:
        raise ValueError(f"labels must have the shape of {name}, {x.shape}; got {q.shape}")
    return q


def label_error(
    y: Array,
    u: Array | None,
    ignore: int | None,
    num_classes: int,
    origin: tuple[int, ...] | None = None,
) -> IndexError:
    """What to say about the first label out of range; ``y`` may begin elsewhere than at 0."""
    bad = (y < 0) | (y >= num_classes)
    if u is not None:
        bad &= u != 0
    if ignore is not None:
        bad &= y != ignore
    position = np.unravel_index(np.argmax(bad), bad.shape)
    allowed = f"[0, {num_classes})" + (
        f" or equal ignore_index={ignore}" if ignore is not None else ""
    )
    starts = origin or [0] * len(position)
    place = ", ".join(str(int(k) + start) for k, start in zip(position, starts))
    return IndexError(f"labels must lie in {allowed}; got {int(y[position])} at position ({place})")


def _real(name: str, a: Array) -> None:
    if a.dtype.kind not in "biuf" and a.dtype.name != "bfloat16":
        raise TypeError(f"{name} must be real numbers; got dtype {a.dtype}")


def broadcast(name: str, a: Any, shape: tuple[int, ...], what: str) -> Array | None:
    """A weight or mask as a (read-only) view of the given shape, never enlarging it."""
    if a is None:
        return None
    if type(a) is not np.ndarray:
        a = np.asarray(a)
    if name == "where":
        if a.dtype != np.bool_:
            raise TypeError(f"where must be bool; got dtype {a.dtype}")
    else:
        _real(name, a)
    if a.shape == shape:
        return a
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to the shape of the {what}, {shape}; got {a.shape}"
        ) from None


def shape_of(name: str, output: str, a: Any) -> tuple[int, ...]:
    """The shape of the argument that an output is the gradient of."""
    if a is None:
        raise ValueError(f"{output} needs {name}; got {name}=None")
    return np.shape(a)


def class_weight(w: Any, num_classes: int) -> Array | None:
    if w is None:
        return None
    w = np.asarray(w)
    _real("class_weight", w)
    if w.shape != (num_classes,):
        raise ValueError(
            f"class_weight must have shape ({num_classes},), one weight per class; got {w.shape}"
        )
    return w


def number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, (float, int, numbers.Real)):
        raise TypeError(f"{name} must be a real number; got {value!r}")
    value = float(value)
    if not low <= value <= high:
        allowed = f"lie in [{low:g}, {high:g}]" if high < np.finfo(float).max else "be finite"
        raise ValueError(f"{name} must {allowed}; got {value:g}")
    return value


def finite(name: str, value: Any) -> float:
    limit = float(np.finfo(float).max)
    return number(name, value, -limit, limit)


def ignore_index(value: Any, dtype: DType) -> int | None:
    """The label to skip, or None where no label of this dtype can be it."""
    if value is None:
        return None
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"ignore_index must be an integer or None; got {value!r}") from None
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


def reduction(value: Any) -> str:
    if value not in REDUCTIONS:
        raise ValueError(
            f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {value!r}"
        )
    return str(value)


def average(value: Any) -> str | None:
    if value not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(map(repr, AVERAGES))}; got {value!r}")
    return None if value is None else str(value)


def sequence_shape(x: Array) -> tuple[int, int]:
    if x.ndim != 3:
        raise ValueError(f"logits must have shape (batch, time, symbols); got {x.shape}")
    return x.shape[0], x.shape[1]


def steps(logits: Any, targets: Any, weights: Any) -> list[tuple[Any, Any, Any]]:
    """The arrays of each time step."""
    lengths = {
        name: len(a)
        for name, a in {"logits": logits, "targets": targets, "weights": weights}.items()
    }
    if len(set(lengths.values())) > 1 or not lengths["logits"]:
        raise ValueError(
            "logits, targets and weights must be of one length, at least 1: a list over time of "
            f"arrays; got {lengths}"
        )
    shapes = sorted({np.shape(y) for y in targets})
    if len(shapes) > 1:
        raise ValueError(f"targets must have one shape at every time step; got {shapes}")
    return list(zip(logits, targets, weights))


def upstream(value: Any, shape: tuple[int, ...]) -> Array | None:
    if value is None:
        return None
    value = np.asarray(value)
    _real("upstream", value)
    if value.shape != shape:
        raise ValueError(
            f"upstream must have the shape of the returned loss, {shape}; got {value.shape}"
        )
    return value


def output(name: str, a: Any, shape: tuple[int, ...], *dtypes: DType) -> Array | None:
    """An array to write into: exact shape, one of the dtypes, writeable, no shared elements."""
    if a is None:
        return None
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array or None; got {type(a).__name__}")
    if a.dtype not in dtypes:
        allowed = " or ".join(dict.fromkeys(map(str, dtypes)))
        raise TypeError(f"{name} must have dtype {allowed}; got {a.dtype}")
    if a.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {a.shape}")
    if not a.flags.writeable:
        raise ValueError(f"{name} must be writeable; got a read-only array")
    if not a.flags.forc and a.size > 1:
        reach = a.itemsize
        for stride, size in sorted((abs(s), n) for s, n in zip(a.strides, a.shape) if n > 1):
            if stride < reach:
                raise ValueError(f"{name} must not overlap itself; got strides {a.strides}")
            reach = stride * size
    return a


def apart(
    outputs: dict[str, Array | None], inputs: dict[str, Array | None], same: tuple[str, str] | None
) -> None:
    """No output may share memory with another array; ``same`` may be one and the same."""
    seen: dict[str, Array | None] = dict(inputs)
    for name, a in outputs.items():
        if a is None:
            continue
        for other, b in seen.items():
            if b is None or not np.may_share_memory(a, b):
                continue
            if same == (name, other) and _is_same(a, b):
                continue
            try:
                shared = np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
            except np.exceptions.TooHardError:
                shared = True
            if shared:
                but = f" unless it is {other} itself" if same == (name, other) else ""
                raise ValueError(f"{name} must not overlap {other}{but}; got overlapping arrays")
        seen[name] = a


def _is_same(a: Array, b: Array) -> bool:
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.strides == b.strides
        and a.shape == b.shape
        and a.dtype == b.dtype
    )


def floating(name: str, x: Any, hint: str = "") -> Array:
    """An array of a float dtype, for functions that do not take integers."""
    x = np.asarray(x)
    types = _float_types(x.dtype)
    if types is None or x.dtype.kind in "biu":
        raise TypeError(
            f"{name} must be float16, bfloat16, float32 or float64; got {x.dtype}{hint}"
        )
    return x


def real(name: str, a: Any) -> Array:
    """An array of real numbers of any dtype."""
    a = np.asarray(a)
    _real(name, a)
    return a


def same_rank(name: str, a: Any, shape: tuple[int, ...]) -> Array:
    """A weight for `broadcast` that is a scalar or has every axis of the losses."""
    a = np.asarray(a)
    if a.ndim not in (0, len(shape)):
        raise ValueError(
            f"{name} must be a scalar or have as many axes as the losses, {len(shape)}, each of "
            f"length 1 or that of the losses, {shape}; got shape {a.shape}"
        )
    return a


def unit_interval(name: str, a: Array) -> None:
    """Every entry lies in [0, 1]; NaN does not."""
    if a.size and not (a.min() >= 0 and a.max() <= 1):
        worst = a.min() if not a.min() >= 0 else a.max()
        raise ValueError(f"{name} must lie in [0, 1]; got {worst}")


def is_sparse(x: Any) -> bool:
    """Tell SciPy's sparse matrices and arrays, without importing SciPy."""
    return hasattr(x, "tocsr")


def linear(inputs: Any, weight: Any, bias: Any) -> tuple[Any, Array, Array | None, DType]:
    """The arrays of a linear layer (or CSR inputs) and the dtype to compute in."""
    if is_sparse(inputs):
        if getattr(inputs, "format", None) != "csr" or len(inputs.shape) != 2:
            raise TypeError(
                "inputs must be an array or, if sparse, of SciPy's CSR format with two axes "
                f"(see its method tocsr); got {type(inputs).__name__} of shape {inputs.shape}"
            )
    else:
        inputs = np.asarray(inputs)
    named = {"inputs": inputs, "weight": np.asarray(weight)}
    if bias is not None:
        named["bias"] = np.asarray(bias)
    for name, a in named.items():
        if _float_types(a.dtype) is None:
            raise TypeError(
                f"{name} must be float16, bfloat16, float32, float64, integer or bool; "
                f"got {a.dtype}"
            )
    weight, bias = named["weight"], named.get("bias")
    if weight.ndim != 2 or weight.shape[0] == 0:
        raise ValueError(
            "weight must have shape (C, D), a row of features for each of at least one class; "
            f"got {weight.shape}"
        )
    if len(inputs.shape) == 0 or inputs.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"inputs must have shape (..., {weight.shape[1]}), the features of weight of shape "
            f"{weight.shape}; got {inputs.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have shape ({weight.shape[0]},), one number per class; got {bias.shape}"
        )
    dtype = np.result_type(*(_FLOAT32 if is_half(a.dtype) else a.dtype for a in named.values()))
    return inputs, weight, bias, _FLOAT32 if dtype == _FLOAT32 else _FLOAT64


def linear_outputs(
    given: Any, inputs: Any, weight: Array, bias: Array | None
) -> list[Array | None]:
    """Arrays for the gradients to inputs, weight and bias; None where one must be made."""
    if given is None:
        return [None, None, None]
    if not isinstance(given, tuple) or len(given) != 3:
        raise TypeError(
            "grad_out must be LinearGradients, or a tuple of arrays (or None) for inputs, weight "
            f"and bias; got {type(given).__name__}"
            + (f" of {len(given)}" if isinstance(given, tuple) else "")
        )
    arrays = {"inputs": inputs, "weight": weight, "bias": bias}
    for (name, a), out in zip(arrays.items(), given):
        if out is not None and (a is None or is_sparse(a)):
            what = "a bias" if a is None else "dense inputs"
            raise ValueError(f"grad_out.{name} needs {what}; got an array without")
    return [
        None if out is None else output(f"grad_out.{name}", out, a.shape, *gradient_types(a.dtype))
        for (name, a), out in zip(arrays.items(), given)
    ]


def gradient_types(dtype: DType) -> list[DType]:
    """Dtypes that the gradient to an array may have, the one that is made first."""
    own = _float_types(dtype)[1]  # type: ignore[index]
    return [own] if dtype.kind in "biu" else [own, dtype]  # may be byte-swapped
