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


def is_on_gpu(x: Any) -> bool:
    """Tell whether an object is an array on a GPU."""
    try:
        if hasattr(x, "__cuda_array_interface__"):
            return True
    except RuntimeError:  # a tensor of PyTorch's that requires a gradient
        return True
    device = getattr(x, "__dlpack_device__", None)
    return device is not None and int(device()[0]) in (2, 13)  # CUDA's memory, managed memory


def _asarray(name: str, a: Any) -> Array:
    """An array of the host's; what lies on a GPU is not fetched behind the caller's back."""
    if is_on_gpu(a):
        raise TypeError(
            f"{name} must be in the host's memory here, as NumPy arrays are; got a "
            f"{type(a).__name__} on a GPU"
        )
    return np.asarray(a)


def logits(name: str, x: Any, raw: bool = False) -> tuple[Array, DType, DType]:
    """The array, the dtype of losses and the dtype of arrays of its shape."""
    if type(x) is not np.ndarray:
        x = _asarray(name, x)
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
        y = _asarray("labels", y)
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
        q = _asarray("labels", q)
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
    starts = origin or [0] * len(position)
    place = tuple(int(k) + start for k, start in zip(position, starts))
    return label_out_of_range(int(y[position]), place, ignore, num_classes)


def label_out_of_range(
    value: int, place: tuple[int, ...], ignore: int | None, num_classes: int
) -> IndexError:
    """What to say about a label that is no class."""
    allowed = f"[0, {num_classes})" + (
        f" or equal ignore_index={ignore}" if ignore is not None else ""
    )
    position = ", ".join(map(str, place))
    return IndexError(f"labels must lie in {allowed}; got {value} at position ({position})")


def _real(name: str, a: Array) -> None:
    if a.dtype.kind not in "biuf" and a.dtype.name != "bfloat16":
        raise TypeError(f"{name} must be real numbers; got dtype {a.dtype}")


def broadcast(name: str, a: Any, shape: tuple[int, ...], what: str) -> Array | None:
    """A weight or mask as a (read-only) view of the given shape, never enlarging it."""
    if a is None:
        return None
    if type(a) is not np.ndarray:
        a = _asarray(name, a)
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
    w = _asarray("class_weight", w)
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
        limit = np.finfo(float).max
        least = f" and at least {low:g}" if low > -limit else ""
        allowed = f"lie in [{low:g}, {high:g}]" if high < limit else f"be finite{least}"
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
    value = _asarray("upstream", value)
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
    x = _asarray(name, x)
    types = _float_types(x.dtype)
    if types is None or x.dtype.kind in "biu":
        raise TypeError(
            f"{name} must be float16, bfloat16, float32 or float64; got {x.dtype}{hint}"
        )
    return x


def real(name: str, a: Any) -> Array:
    """An array of real numbers of any dtype."""
    a = _asarray(name, a)
    _real(name, a)
    return a


def same_rank(name: str, a: Any, shape: tuple[int, ...]) -> Array:
    """A weight for `broadcast` that is a scalar or has every axis of the losses."""
    a = _asarray(name, a)
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


def count(name: str, value: Any, low: int = 1) -> int:
    """A number of things."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if value < low:
        raise ValueError(f"{name} must be at least {low}; got {value}")
    return int(value)


def counts(a: Any) -> Array:
    """How often each class occurs, in float64."""
    a = real("counts", a)
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"counts must have shape (classes,), at least one; got {a.shape}")
    a = a.astype(np.float64)
    bad = ~((a >= 0) & (a < np.inf))
    if bad.any():
        k = int(np.argmax(bad))
        raise ValueError(f"counts must be finite and not negative; got {a[k]:g} at position ({k})")
    if not a.any():
        raise ValueError("counts must have one that is not 0; got only zeros")
    return a


def class_ids(name: str, ids: Any, num_classes: int) -> Array:
    """Classes in range, as int64."""
    ids = _asarray(name, ids)
    if ids.size == 0 and ids.dtype == _FLOAT64:  # an empty list has no dtype of its own
        ids = ids.astype(np.int64)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, class ids; got dtype {ids.dtype}")
    # Negative ones are large without a sign.
    if ids.size and ids.view(f"{ids.dtype.byteorder}u{ids.itemsize}").max() >= num_classes:
        bad = (ids < 0) | (ids >= num_classes)
        place = np.unravel_index(np.argmax(bad), bad.shape)
        raise IndexError(
            f"{name} must lie in [0, {num_classes}); got {int(ids[place])} at position "
            f"({', '.join(map(str, map(int, place)))})"
        )
    return ids.astype(np.int64, copy=False)


def enough_classes(num_sampled: int, possible: int) -> None:
    if num_sampled > possible:
        raise ValueError(
            f"num_sampled must be at most {possible}, the number of classes that can be drawn, "
            f"where ids are distinct; got {num_sampled}"
        )


def rng(value: Any) -> "np.random.Generator":
    """A source of randomness from None, a seed or a generator."""
    if isinstance(value, np.random.Generator):
        return value
    if value is not None:
        try:
            value = operator.index(value)
        except TypeError:
            raise TypeError(
                "rng must be None, an integer or a numpy.random.Generator; got "
                f"{type(value).__name__}"
            ) from None
        if value < 0:
            raise ValueError(f"rng must not be negative where it is a seed; got {value}")
    return np.random.default_rng(value)


def vectors(name: str, x: Any) -> tuple[Array, DType, DType]:
    """Rows of features; the dtype that they are computed in and that of their gradient."""
    x, value_type, array_type = logits(name, x)
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (rows, features); got {x.shape}")
    return x, value_type, array_type


def partitions(weight: Any, features: int) -> tuple[list[Array], DType, DType]:
    """Class vectors as a list of arrays; the dtype of computing and that of their gradient."""
    split = isinstance(weight, list | tuple) and any(np.ndim(part) != 1 for part in weight)
    parts = [logits("weight", part) for part in (weight if split else [weight])]
    arrays = [part for part, _, _ in parts]
    shapes = [a.shape for a in arrays]
    if any(len(shape) != 2 or shape[1] != features for shape in shapes):
        raise ValueError(
            f"weight must have shape (classes, {features}), or be a list of such arrays, to go "
            f"with inputs of {features} features; got {shapes if split else shapes[0]}"
        )
    if any(a.dtype != arrays[0].dtype for a in arrays):
        dtypes = ", ".join(sorted({str(a.dtype) for a in arrays}))
        raise TypeError(f"weight must have one dtype in all partitions; got {dtypes}")
    if not sum(map(len, arrays)):
        raise ValueError(f"weight must have at least one class; got shape {shapes[0]}")
    return arrays, parts[0][1], parts[0][2]


def per_class(name: str, b: Any, num_classes: int) -> tuple[Array | None, Any, Any]:
    """An optional array over the classes; the dtype of computing and that of its gradient."""
    if b is None:
        return None, np.bool_, None  # the narrowest
    b, value_type, array_type = logits(name, b)
    if b.shape != (num_classes,):
        raise ValueError(
            f"{name} must have shape ({num_classes},), one entry per class; got {b.shape}"
        )
    return b, value_type, array_type


def labels_of_rows(y: Any, rows: int) -> Array:
    """One or several classes per row, as (rows, classes)."""
    y = _asarray("labels", y)
    if y.size == 0 and y.dtype == _FLOAT64:  # an empty list has no dtype of its own
        y = y.astype(np.intp)
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, class ids; got dtype {y.dtype}")
    if y.ndim not in (1, 2) or len(y) != rows or 0 in y.shape[1:]:
        raise ValueError(
            f"labels must have shape ({rows},) or ({rows}, labels per row), to go with inputs of "
            f"{rows} rows; got {y.shape}"
        )
    return y if y.ndim == 2 else y[:, None]


def sampler(value: Any, named: dict[str, Any], num_classes: int) -> Any:
    """An object that samples from that many classes."""
    if isinstance(value, str) and value in named:
        return named[value](num_classes)
    if not hasattr(value, "sample") or not hasattr(value, "num_classes"):
        raise ValueError(
            f"sampler must be {', '.join(map(repr, named))} or an object of fastxent.samplers; "
            f"got {value!r}"
        )
    if value.num_classes != num_classes:
        raise ValueError(
            f"sampler must draw from {num_classes} classes, those of weight; got {value!r}"
        )
    return value


def number_sampled(value: Any) -> int:
    if value is None:
        raise ValueError("num_sampled must be given where sampled is not; got None")
    return count("num_sampled", value)


def candidates(
    value: Any, num_sampled: Any, shape: tuple[int, ...], num_classes: int
) -> tuple[Array, Array, Array]:
    """Sampled classes and expected counts, given by the caller for labels of a shape."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise TypeError(
            "sampled must be (ids, true_expected, sampled_expected), as a sampler's sample "
            f"returns it; got {type(value).__name__}"
        )
    ids = class_ids("sampled ids", value[0], num_classes)
    if ids.ndim != 1:
        raise ValueError(f"sampled ids must have shape (num_sampled,); got {ids.shape}")
    if num_sampled is not None and count("num_sampled", num_sampled, 0) != ids.size:
        raise ValueError(
            f"num_sampled must be {ids.size}, the number of sampled ids, or None; got {num_sampled}"
        )
    expected = []
    for name, a, wanted in (
        ("true_expected", value[1], shape),
        ("sampled_expected", value[2], ids.shape),
    ):
        a = real(f"sampled {name}", a)
        if wanted not in (a.shape, (*a.shape, 1), a.shape[:1] if a.shape[1:] == (1,) else None):
            raise ValueError(f"sampled {name} must have shape {wanted}; got {a.shape}")
        expected.append(a.astype(np.float64, copy=False))
    return ids, expected[0], expected[1]


def positive(name: str, a: Array) -> None:
    """Expected counts: a class that is never drawn has no logit."""
    if a.size and not (a.min() > 0 and a.max() < np.inf):  # also of a NaN
        place = np.unravel_index(np.argmin((a > 0) & (a < np.inf)), a.shape)
        raise ValueError(
            f"{name} must be finite and greater than 0, how often the sampler is expected to draw "
            f"a class; got {a[place]:g} at position ({', '.join(map(str, map(int, place)))})"
        )


def targets(parts: Any) -> tuple[int, ...]:
    """Arrays to be added to; the shape of their rows."""
    for part in parts:
        if not isinstance(part, np.ndarray):
            raise TypeError(
                f"target must be a NumPy array or a list of them; got {type(part).__name__}"
            )
        if part.ndim == 0 or part.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"target must have rows of one shape; got {[np.shape(part) for part in parts]}"
            )
        if not part.flags.writeable:
            raise ValueError("target must be writeable; got a read-only array")
    if not parts:
        raise ValueError("target must be a NumPy array or a list of them; got none")
    return tuple(parts[0].shape[1:])


def rows(name: str, a: Any, ids: Array, shape: tuple[int, ...]) -> Array:
    """A row of a shape for each id."""
    a = real(name, a)
    if ids.ndim != 1 or a.shape != (ids.size, *shape):
        raise ValueError(
            f"{name} must have shape {(ids.size, *shape)}, a row for each of ids {ids.shape}; got "
            f"{a.shape}"
        )
    return a


def label_columns(name: str, y: Array, columns: Any) -> None:
    """Labels with so many columns; classes in a row where that is None."""
    good = y.ndim == 1 if columns is None else y.ndim == 2 and y.shape[1] == columns
    if not good:
        wanted = "(num_sampled,)" if columns is None else f"(rows, {columns})"
        raise ValueError(f"{name} must have shape {wanted}; got {y.shape}")


def vocabulary(file: Any, unigrams: Any) -> list[float]:
    """Counts of classes: given, or the last field of each line of a file."""
    if bool(file) == bool(len(unigrams)):
        given = "both" if file else "neither"
        raise ValueError(f"vocab_file or unigrams must be given, and not both; got {given}")
    if not file:
        return [number("unigrams", c, 0.0, float(np.finfo(float).max)) for c in unigrams]
    found = []
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            if line == "\n":
                continue
            try:
                found.append(float(line.rpartition(",")[2]))
            except ValueError:
                raise ValueError(
                    f"vocab_file must have a count at the end of each line; got {line.rstrip()!r}"
                ) from None
    return found


def enough_counts(known: int, range_max: int) -> None:
    if known != range_max:
        raise ValueError(
            f"range_max must be the number of counts and reserved ids, {known}; got {range_max}"
        )


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
        inputs = _asarray("inputs", inputs)
    named = {"inputs": inputs, "weight": _asarray("weight", weight)}
    if bias is not None:
        named["bias"] = _asarray("bias", bias)
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


def denominator_of(reduction: str, weight: float, size: int, count: int) -> float:
    """What a sum of losses is divided by: 1 where it is no mean."""
    means = {"mean": weight, "size_mean": float(size), "nonzero_mean": float(count)}
    return means.get(reduction, 1.0)


def pattern_of(ignore: int | None) -> int | None:
    """Kernels compare labels as signed 64-bit patterns; so must the one to ignore be."""
    return ignore if ignore is None or ignore < 1 << 63 else ignore - (1 << 64)


def drawn(
    y: Array, given: tuple[int, ...], rows: Any, num_classes: int, value: Any,
    named: dict[str, Any], num_sampled: Any, sampled: Any, rng: Any,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Labels of the rows that count; the sampled classes, and the expected counts of both.

    ``given`` is the shape in which the caller gave the labels, ``value`` the sampler.
    """
    y_rows = class_ids("labels", y.reshape(given), num_classes).reshape(y.shape)[rows]
    if sampled is None:
        chosen = sampler(value, named, num_classes)
        n = number_sampled(num_sampled)
        ids, true, expected = chosen.sample(n, y_rows, unique=True, rng=rng)
    else:
        ids, true, expected = candidates(sampled, num_sampled, given, num_classes)
        true = true.reshape(y.shape)[rows]
    positive("true_expected", true)
    positive("sampled_expected", expected)
    return y_rows, ids, true, expected
