"""Largest error against the exact result, over the inputs of ``build_tools/error_table.py``.

The unit is that of the error table: ulp of the exact entry in the dtype returned, or,
for entries of softmax and of gradients, epsilon times the largest probability of the row.
The label's own entry of a gradient is counted in ulp by itself.

What that table does not have is held against the formula by hand in a wider type, in
epsilons of the result's largest entry.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from . import contenders
from .contenders import numpy_dtype, require
from .frozen import BACKENDS, DTYPES, FUNCTIONS, IN_ERROR_TABLE, of

TABLE = Path(__file__).parents[2] / "build_tools" / "error_table.py"

#: Function -> what the error table calls its value; its gradient is "... gradient".
OUTPUTS = {
    "logsumexp": "logsumexp",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sparse_softmax_cross_entropy": "sparse CE",
    "softmax_cross_entropy": "dense CE",
}
LABEL_ENTRY = "... entry of the label"

SHAPES = ((1000, 10), (40, 1000), (2, 30522))


@functools.cache
def error_table():
    """The module; it needs mpmath, which old environments may lack."""
    spec = importlib.util.spec_from_file_location("error_table", TABLE)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    return module


def exact(table, dtype):
    """float64 from 64-bit significands, for mpmath would take minutes; the rest from float64."""
    if dtype != "float64":
        return table.exact_double
    if np.finfo(np.longdouble).nmant < 63:
        raise NotImplementedError("no floating type here is wider than float64")
    return lambda x, y, q: table.exact_double(x.astype(np.longdouble), y, q)


def ours(function, grad, case):
    import fastxent as fx

    name = function + ("_with_grad" if grad else "")
    if not hasattr(fx, name):
        raise NotImplementedError(f"this commit has no {name}")
    labels = {"normalizer": (), "index": (case.y,), "dense": (case.q,)}[FUNCTIONS[function]]
    result = getattr(fx, name)(case.x, *labels)
    return result[1] if grad else result


class _Accuracy:
    version = "1"
    timeout = 300
    param_names = ("function", "contender", "dtype")

    def setup(self, function, contender, dtype):
        require(contender)
        try:
            numpy_dtype(dtype)
        except ImportError as error:
            raise NotImplementedError(str(error)) from None
        table = error_table()
        oracle = exact(table, dtype)
        self.results = []
        for family in table.FAMILIES:
            for shape in SHAPES:
                case = table.make_case(family, shape, dtype, oracle)
                got = self.got(table, function, contender, case)
                self.results.append((case, got))

    grad = False

    def got(self, table, function, contender, case):
        """The contender's value or gradient."""
        peer = IN_ERROR_TABLE[contender]
        if peer is None:
            return ours(function, self.grad, case)
        try:
            with np.errstate(all="ignore"):
                found = table.PEERS[peer][1](case.x, case.y, case.q)
        except (TypeError, NotImplementedError) as error:  # not every peer takes every dtype
            raise NotImplementedError(str(error)) from None
        return found[OUTPUTS[function] + " gradient" * self.grad]

    def worst(self, function, contender, dtype):
        name = OUTPUTS[function] + " gradient" * self.grad
        return max(self.error(name, case, got) for case, got in self.results)

    def error(self, name, case, got):
        table = error_table()
        ulp, coarse = table.errors(name, got, got.dtype.name, case)
        return round(float((coarse if table.OUTPUTS[name] else ulp).max(initial=0)), 3)


class Normalizer(_Accuracy):
    params = (of("normalizer"), tuple(IN_ERROR_TABLE), DTYPES)
    track_ulp = _Accuracy.worst


class Loss(_Accuracy):
    params = (of("index", "dense"), tuple(IN_ERROR_TABLE), DTYPES)
    track_ulp = _Accuracy.worst


class LossWithGrad(_Accuracy):
    params = (of("index", "dense"), tuple(IN_ERROR_TABLE), DTYPES)
    grad = True
    track_ulp_gradient = _Accuracy.worst

    def track_ulp_label_entry(self, function, contender, dtype):
        if FUNCTIONS[function] != "index":
            return np.nan
        return max(
            self.error(LABEL_ENTRY, case, got[np.arange(len(got)), case.y])
            for case, got in self.results
        )


#: Not in the error table.
OTHERS = tuple(name for name in FUNCTIONS if name not in OUTPUTS)
BY_HAND = "NumPy by hand"


def arrays(result):
    """Values and gradients, one after the other; without the ids of classes."""
    if isinstance(result, tuple):
        return [a for part in result for a in arrays(part)]
    return [] if result is None or np.asarray(result).dtype.kind in "iu" else [np.asarray(result)]


def epsilon(dtype):
    return 2.0 ** -{"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype.name]


class _Other:
    """The mean loss, or the function; then gradients."""

    version = "1"
    timeout = 300
    unit = "epsilon of the largest entry"
    param_names = ("function", "contender", "dtype")
    params = (OTHERS, (*BACKENDS, BY_HAND), DTYPES)
    grad = False

    def setup(self, function, contender, dtype):
        require(contender)
        wide = np.longdouble if dtype == "float64" else np.float64
        if np.finfo(wide).nmant < 60 and dtype == "float64":
            raise NotImplementedError("no floating type here is wider than float64")
        self.cases = []
        for shape in SHAPES:
            try:
                job = contenders.make_job(function, shape, -1, dtype, self.grad)
            except ImportError as error:
                raise NotImplementedError(str(error)) from None
            if contender == BY_HAND:
                call = contenders.PEERS[BY_HAND][1](job)
            else:
                call = contenders.ours(job)
            floats = {
                name: a.astype(wide)
                for name, a in job._asdict().items()
                if isinstance(a, np.ndarray) and a.dtype.kind not in "iu"
            }
            exact = contenders.PEERS[BY_HAND][1](job._replace(dtype="float64", **floats))
            if call is None or exact is None:
                raise NotImplementedError(f"{contender} does not offer {function} of {dtype}")
            self.cases.append((call, exact))
            contenders.warm(call)

    def worst(self, *parameters):
        errors = [0.0]
        for call, exact in self.cases:
            for got, wanted in zip(arrays(call()), arrays(exact()), strict=True):
                size = epsilon(got.dtype) * np.abs(wanted).max(initial=0)
                error = np.abs(got.astype(wanted.dtype) - wanted).max(initial=0)
                errors.append(float(error / size) if size else float(error))
        return round(max(errors), 3)

    worst.unit = unit


class Other(_Other):
    track_ulp = _Other.worst


class OtherWithGrad(_Other):
    params = (tuple(n for n in OTHERS if n not in of("activation")), *_Other.params[1:])
    grad = True
    track_ulp_gradient = _Other.worst
