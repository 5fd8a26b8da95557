"""Write tests/peers.npz: what torch and TensorFlow return for the calls that ``compat`` offers.

    python build_tools/record_peers.py

Needs torch and TensorFlow on the CPU; the tests need only the file.  A case is a call (a function's
name, its arguments) and the peer's answer: an array, or the type and the first words of an error.
The signatures of the peers' functions and their versions are in the file too.

``contrib.legacy_seq2seq`` left TensorFlow with version 2.  Its cases come from its formula, written
below with TensorFlow's operations.

The file holds ``bytes``, the elements of all distinct arrays one after the other, and ``cases``, a
JSON text: ``arrays`` has the dtype, shape and offset of each array, and an argument or an answer
``{"array": k}`` is the k-th of them.
"""

import inspect
import itertools
import json
import os
import platform
import sys
import warnings
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import ml_dtypes
import numpy as np
import tensorflow as tf
import torch

TARGET = Path(__file__).parents[1] / "tests" / "peers.npz"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}

F = "torch.nn.functional."
M = "torch.nn."
N = "tensorflow.nn."
L = "tensorflow.losses."
S = "tensorflow.legacy_seq2seq."

v1 = tf.compat.v1.losses


# ---- the formula of a peer that is no more ---------------------------------------------


def _by_example(logits, targets, weights, average_across_timesteps=True):
    if not len(logits) == len(targets) == len(weights):
        raise ValueError("Lengths of logits, weights, and targets must be the same")
    losses = [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.reshape(y, [-1]), logits=x) * w
        for x, y, w in zip(logits, targets, weights)
    ]
    total = tf.add_n(losses)
    return total / (tf.add_n(weights) + 1e-12) if average_across_timesteps else total


def _sequence(logits, targets, weights, average_across_timesteps=True, average_across_batch=True):
    total = tf.reduce_sum(_by_example(logits, targets, weights, average_across_timesteps))
    return total / tf.cast(tf.shape(targets[0])[0], total.dtype) if average_across_batch else total


PEERS = {
    **{
        F + n: getattr(torch.nn.functional, n)
        for n in (
            "softmax",
            "log_softmax",
            "nll_loss",
            "cross_entropy",
            "binary_cross_entropy",
            "binary_cross_entropy_with_logits",
            "linear_cross_entropy",
        )
    },
    **{
        M + n: getattr(torch.nn, n)
        for n in (
            "Softmax",
            "LogSoftmax",
            "NLLLoss",
            "CrossEntropyLoss",
            "BCELoss",
            "BCEWithLogitsLoss",
        )
    },
    **{
        N + n: getattr(tf.nn, n)
        for n in (
            "softmax",
            "log_softmax",
            "sigmoid",
            "sparse_softmax_cross_entropy_with_logits",
            "softmax_cross_entropy_with_logits",
            "sigmoid_cross_entropy_with_logits",
            "weighted_cross_entropy_with_logits",
            "nce_loss",
            "sampled_softmax_loss",
            "compute_accidental_hits",
        )
    },
    **{
        N + n: getattr(tf.random, n)
        for n in (
            "log_uniform_candidate_sampler",
            "uniform_candidate_sampler",
            "learned_unigram_candidate_sampler",
            "fixed_unigram_candidate_sampler",
        )
    },
    **{
        L + n: getattr(v1, n)
        for n in (
            "sparse_softmax_cross_entropy",
            "softmax_cross_entropy",
            "sigmoid_cross_entropy",
            "log_loss",
            "compute_weighted_loss",
        )
    },
    S + "sequence_loss_by_example": _by_example,
    S + "sequence_loss": _sequence,
}


# ---- calling a peer, and keeping what it says ------------------------------------------


def _to_torch(value):
    if isinstance(value, np.ndarray):
        if value.dtype == BFLOAT16:
            return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(value.copy())
    if isinstance(value, np.dtype):
        return getattr(torch, value.name)
    return value


def _from_torch(value):
    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(BFLOAT16)
    return value.numpy()


def _to_tf(value):
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [tf.constant(v) for v in value]
    return tf.constant(value) if isinstance(value, np.ndarray) else value


def _told(value):
    """Of a sampler what does not depend on chance; hits as the rows of one array."""
    if hasattr(value, "true_expected_count"):
        return value.true_expected_count
    if isinstance(value, tuple):
        return tf.stack([tf.cast(part, tf.float64) for part in value])
    return value


class Recorder:
    """Cases, and the distinct arrays in them."""

    def __init__(self):
        self.cases = {}
        self.arrays = {}

    def _keep(self, value):
        if isinstance(value, np.ndarray):
            key = value.dtype.name, value.shape, np.ascontiguousarray(value).tobytes()
            return {"array": self.arrays.setdefault(key, len(self.arrays))}
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if isinstance(value, list | tuple):
            return [self._keep(v) for v in value]
        return value

    def __call__(self, function, name, /, *args, init=None, **kwargs):
        """Call a peer; ``init`` are the arguments of a class."""
        peer, to = PEERS[function], _to_torch if function.startswith("torch") else _to_tf
        args = [np.asarray(a) if isinstance(a, np.generic) else a for a in args]
        case = {"args": [self._keep(a) for a in args]}
        if kwargs:
            case["kwargs"] = {k: self._keep(v) for k, v in kwargs.items()}
        if init is not None:
            case["init"] = {k: self._keep(v) for k, v in init.items()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if init is not None:
                    peer = peer(**{k: to(v) for k, v in init.items()})
                value = peer(*map(to, args), **{k: to(v) for k, v in kwargs.items()})
                value = _told(value)
                value = _from_torch(value) if isinstance(value, torch.Tensor) else value.numpy()
                case["value"] = self._keep(np.asarray(value))
            except Exception as error:
                text = " ".join(str(error).split())
                case["error"] = [type(error).__name__, text[:80]]
        if caught:
            case["warns"] = sorted({w.category.__name__ for w in caught})
        key = f"{function}/{name}"
        assert key not in self.cases, key
        self.cases[key] = case

    def write(self, path):
        """Write everything, the versions too."""
        offset, arrays, pieces = 0, [], []
        for dtype, shape, data in self.arrays:
            arrays.append([dtype, list(shape), offset])
            pieces.append(data)
            offset += len(data)
        text = {
            "versions": {
                "torch": torch.__version__,
                "tensorflow": tf.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            "signatures": {name: _signature(peer) for name, peer in PEERS.items()},
            "reductions": {k: getattr(v1.Reduction, k) for k in vars(v1.Reduction) if k.isupper()},
            "arrays": arrays,
            "cases": self.cases,
        }
        np.savez_compressed(
            path,
            cases=np.frombuffer(json.dumps(text, separators=(",", ":")).encode(), np.uint8),
            bytes=np.frombuffer(b"".join(pieces), np.uint8),
        )


def _signature(peer):
    """Name, kind and default of each parameter; the default as text, None if there is none."""
    parameters = inspect.signature(peer).parameters.values()
    return [
        [p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
        for p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


# fmt: off
# ---- inputs ----------------------------------------------------------------------------

#: The class axis is 1, or 0 without a batch.
SHAPES = {"C": (5,), "NC": (4, 5), "NCd": (3, 5, 2), "NCdd": (2, 5, 2, 3)}
REDUCTIONS = ("none", "sum", "mean")


def _values(shape, dtype, scale=3.0):
    rng = np.random.default_rng([7, len(shape), *shape])
    return np.asarray(rng.normal(0, scale, shape)).astype(DTYPES[dtype])


def _probabilities(shape, dtype, seed=0):
    rng = np.random.default_rng([11, seed, len(shape), *shape])
    return np.asarray(rng.uniform(0.05, 0.95, shape)).astype(DTYPES[dtype])


def _without(shape, axis):
    return shape[:axis] + shape[axis + 1 :]


def _index(shape, c, dtype=np.int64):
    rng = np.random.default_rng([13, len(shape), *shape])
    return np.asarray(rng.integers(0, c, shape)).astype(dtype)


def _dense(shape, axis, dtype):
    q = np.random.default_rng([17, *shape]).gamma(1.0, 1.0, shape)
    return np.asarray(q / q.sum(axis, keepdims=True)).astype(DTYPES[dtype])


def _weight(n, dtype):
    return np.array([0.5, 2.0, 1.25, 0.75, 3.0, 0.0, 1.5])[:n].astype(DTYPES[dtype])


# ---- torch -----------------------------------------------------------------------------


def torch_normalizers(record):
    for f, (dtype, (kind, shape)) in itertools.product(
        ("softmax", "log_softmax"), itertools.product(DTYPES, SHAPES.items())
    ):
        x = _values(shape, dtype)
        for dim in (None, *range(-len(shape), len(shape))):
            record(F + f, f"{dtype}-{kind}-dim={dim}", x, dim)
    for f, cls in (("softmax", "Softmax"), ("log_softmax", "LogSoftmax")):
        x = _values((4, 5), "float32")
        for dim in (None, 0, 1, -1, 2, -3):
            record(M + cls, f"dim={dim}", x, init={"dim": dim})
        record(F + f, "dim out of range", x, 2)
        record(F + f, "0-d", np.float32(2).reshape(()), 0)
        record(F + f, "0-d-dim=None", np.float32(2).reshape(()))
        record(F + f, "no classes", np.zeros((2, 0), np.float32), 1)
        record(F + f, "no rows", np.zeros((0, 3), np.float32), 1)
        record(F + f, "integers", np.array([[1, 2, 3]]), 1)
        record(F + f, "bools", np.array([[True, False]]), 1)
        record(F + f, "integers-dtype", np.array([[1, 2, 3]]), 1, dtype=DTYPES["float32"])
        for a, b in itertools.product(DTYPES, DTYPES):
            record(F + f, f"{a}-dtype={b}", _values((4, 5), a), dim=1, dtype=DTYPES[b])
        record(F + f, "integer dtype", x, dim=1, dtype=np.dtype(np.int64))
        record(F + f, "positional", x, 1, 3, DTYPES["float64"])
        _special_rows(record, F + f, lambda x: (x, -1))


def _special_rows(record, function, arguments):
    inf, nan = np.inf, np.nan
    rows = {"one -inf": [0, -inf, 1], "all -inf": [-inf] * 3, "+inf": [0, inf, 1],
        "two +inf": [0, inf, inf], "nan": [0, nan, 1], "nan and inf": [inf, nan, 1],
        "large": [1000, -1000, 999], "confident": [0, -20, -25], "equal": [2, 2, 2]}
    for dtype in ("float32", "float64", "float16"):
        for name, row in rows.items():
            x = np.array([row, [1.0, 2.0, 3.0]]).astype(DTYPES[dtype])
            record(function, f"{name}-{dtype}", *arguments(x))


def torch_index(record):
    """nll_loss and cross_entropy with class indices."""
    for dtype, (kind, shape), weighted, ignored, reduction in itertools.product(
        DTYPES, SHAPES.items(), (False, True), (False, True), REDUCTIONS
    ):
        x, axis = _values(shape, dtype), min(1, len(shape) - 1)
        y = _index(_without(shape, axis), 5)
        options = {"reduction": reduction}
        name = f"{dtype}-{kind}-{reduction}"
        if weighted:
            options["weight"] = _weight(5, dtype)
            name += "-weight"
        if ignored:
            options["ignore_index"] = int(y.flat[0])
            name += "-ignore"
        logp = np.asarray(-np.abs(x.astype(np.float64)) - 0.1).astype(x.dtype)
        record(F + "nll_loss", name, logp, y, **options)
        for e in (0.0, 0.1, 1.0) if kind in ("C", "NC") else (0.0, 0.1):
            more = {"label_smoothing": e} if e else {}
            record(F + "cross_entropy", f"index-{name}" + (f"-e={e}" if e else ""), x, y, **options,
                **more)

    x, y = _values((4, 5), "float32"), _index((4,), 5)
    w = _weight(5, "float32")
    for f in ("nll_loss", "cross_entropy"):
        full = F + f

        def rec(name, *args, full=full, **kwargs):
            record(full, name, *args, **kwargs)

        logits = x if f == "cross_entropy" else -np.abs(x)
        for reduction in REDUCTIONS:
            r = {"reduction": reduction}
            rec(f"all ignored-{reduction}", logits, np.full(4, -100), **r)
            rec(f"all ignored-weight-{reduction}", logits, np.full(4, -100), w, **r)
            rec(f"some -100-{reduction}", logits, np.array([1, -100, 2, -100]), **r)
            rec(
                f"ignore 255-{reduction}", logits, np.array([1, 255, 2, 255]), ignore_index=255, **r
            )
            rec(f"no rows-{reduction}", logits[:0], y[:0], **r)
            rec(f"no rows-weight-{reduction}", logits[:0], y[:0], w, **r)
            rec(f"no places-{reduction}", np.zeros((2, 3, 0), np.float32),
                np.zeros((2, 0), np.int64), **r)
            rec(f"weights 0-{reduction}", logits, y, np.zeros(5, np.float32), **r)
            rec(f"weight 0 for some-{reduction}", logits, y, np.array([0, 1, 0, 2, 1], np.float32),
                **r)
            rec(f"negative weights-{reduction}", logits, y, -w, **r)
            rec(f"one row-weight-{reduction}", logits[:1], y[:1], w, **r)
            rec(f"unbatched ignored-{reduction}", logits[0], np.array(-100), **r)
            rec(f"unbatched, one label-{reduction}", logits[0], y[:1], **r)
            rec(f"uint8 labels-{reduction}", logits, y.astype(np.uint8), **r)
            rec(f"no classes-{reduction}", np.zeros((2, 0), np.float32), np.zeros(2, np.int64), **r)
            rec(f"no classes, no rows-{reduction}", np.zeros((0, 0), np.float32),
                np.zeros(0, np.int64), **r)
            rec(f"infinite loss of weight 0-{reduction}",
                np.array([[0, -np.inf, 1], [1, 2, 3]], np.float32), np.array([1, 0]),
                np.array([1, 0, 1], np.float32), **r)
            rec(f"ignored nan row-{reduction}", np.array([[np.nan] * 3, [1, 2, 3]], np.float32),
                np.array([-100, 0]), **r)
            rec(f"weights cancel-{reduction}", logits[:2], np.array([0, 1]),
                np.array([1, -1, 1, 1, 1], np.float32), **r)
        for dtype in ("int8", "int16", "int32", "uint8", "uint16", "bool", "float32", "float64"):
            rec(f"labels {dtype}", logits, y.astype(dtype))
        rec("labels uint8, K-dim", np.asarray(_values((3, 5, 2), "float32")),
            _index((3, 2), 5, np.uint8))
        for dtype in ("float64", "float16", "int64"):
            rec(f"weight {dtype}", logits, y, w.astype(dtype))
            rec(f"input float64, weight {dtype}", logits.astype(np.float64), y, w.astype(dtype))
        rec("weight of 4", logits, y, w[:4])
        rec("weight (1, 5)", logits, y, w[None])
        rec("weight 0-d", logits, y, w[0].reshape(()))
        rec("label C", logits, np.array([0, 5, 1, 1]))
        rec("label -1", logits, np.array([0, -1, 1, 1]))
        rec("label -100 with another ignore_index", logits, np.array([0, -100, 1, 1]),
            ignore_index=2)
        rec("labels (N, 1)", logits, y[:, None])
        rec("labels (N + 1)", logits, np.append(y, 0))
        rec("labels (1,)", logits, y[:1])
        rec("labels 0-d for (N, C)", logits, y[0].reshape(()))
        rec("labels of another K-dim shape", _values((3, 5, 2), "float32"), _index((3, 3), 5))
        rec("input 0-d", np.float32(1).reshape(()), np.array(0))
        rec("integer input", np.array([[1, 2, 3]]), np.array([0]))
        rec("swapped", y, logits)
        rec("bad reduction", logits, y, reduction="average")
        rec("reduction None", logits, y, reduction=None)
        rec("elementwise_mean", logits, y, reduction="elementwise_mean")
        for a, b in itertools.product((None, True, False), repeat=2):
            if (a, b) != (None, None):
                rec(f"size_average={a}, reduce={b}", logits, y, size_average=a, reduce=b,
                    reduction="sum")
        args = [w, None, 1, None, "sum"]
        rec("positional", logits, y, *args)
        rec("positional, size_average", logits, y, w, False)
    x3 = np.array([[3, 1, -3], [0, 5, 1], [1, 1, 1], [2, 0, 2]], np.float64)
    y3, w3 = np.array([2, 1, 0, 2]), np.array([1.0, 2, 3])
    for e, reduction in itertools.product((0.0, 0.1, 0.5, -0.5, 1.0, 1.5), REDUCTIONS):
        record(F + "cross_entropy", f"index, weights 1 2 3, e={e}-{reduction}", x3, y3, w3,
            label_smoothing=e, reduction=reduction)
    record(
        F + "cross_entropy", "index, positional to the end", x3, y3, w3, None, 1, None, "sum", 0.1
    )
    for dtype, e, reduction in itertools.product(
        ("float16", "bfloat16"), (0.0, 0.1), REDUCTIONS[1:]
    ):
        zeros = np.zeros((3000, 10), DTYPES[dtype])
        record(F + "cross_entropy", f"3000 rows of zeros-{dtype}-e={e}-{reduction}", zeros,
            np.zeros(3000, np.int64), reduction=reduction, label_smoothing=e)
    for dtype in ("float16", "bfloat16", "float32"):
        record(F + "cross_entropy", f"50000 classes-{dtype}-e=0.1",
            np.zeros((1, 50000), DTYPES[dtype]), np.zeros(1, np.int64), label_smoothing=0.1)
        record(F + "cross_entropy", f"50000 classes-{dtype}", np.zeros((1, 50000), DTYPES[dtype]),
            np.full(1, 49999))
    for label in (0, 1):
        for e in (0.0, 0.1):
            _special_rows(
                lambda f, name, *a, e=e, label=label: record(
                    f, f"label {label}, e={e}, {name}", *a, label_smoothing=e, reduction="none"
                ),
                F + "cross_entropy",
                lambda x, label=label: (x, np.array([label, 0])),
            )
    for (name, init), reduction in itertools.product(
        {"plain": {}, "weight": {"weight": w}, "ignore": {"ignore_index": 1}}.items(), REDUCTIONS
    ):
        init = {**init, "reduction": reduction}
        record(M + "NLLLoss", f"{name}-{reduction}", -np.abs(x), y, init=init)
        record(M + "CrossEntropyLoss", f"{name}-{reduction}", x, y, init=init)
        record(M + "CrossEntropyLoss", f"{name}-{reduction}-e=0.1", x, y,
            init={**init, "label_smoothing": 0.1})
    for cls in ("NLLLoss", "CrossEntropyLoss"):
        record(M + cls, "defaults", -np.abs(x), y, init={})
        record(M + cls, "size_average=False", -np.abs(x), y, init={"size_average": False})
        record(M + cls, "reduce=False", -np.abs(x), y, init={"reduce": False})
        record(M + cls, "bad reduction", -np.abs(x), y, init={"reduction": "average"})
    record(M + "CrossEntropyLoss", "probabilities", x, _dense((4, 5), 1, "float32"), init={})


def torch_dense(record):
    """cross_entropy with probabilities."""
    f = F + "cross_entropy"
    for dtype, (kind, shape), weighted, e, reduction in itertools.product(
        DTYPES, SHAPES.items(), (False, True), (0.0, 0.1, 1.0), REDUCTIONS
    ):
        axis = min(1, len(shape) - 1)
        options = {"reduction": reduction}
        name = f"dense-{dtype}-{kind}-{reduction}"
        if weighted:
            options["weight"] = _weight(5, dtype)
            name += "-weight"
        if e:
            options["label_smoothing"] = e
            name += f"-e={e}"
        record(f, name, _values(shape, dtype), _dense(shape, axis, dtype), **options)
    x, q = _values((4, 5), "float32"), _dense((4, 5), 1, "float32")
    w = _weight(5, "float32")
    for reduction in REDUCTIONS:
        r = {"reduction": reduction}
        record(f, f"dense-unnormalised-{reduction}", x, 3 * q - 0.25, **r)
        record(f, f"dense-one-hot-{reduction}", x, np.eye(5, dtype=np.float32)[:4], w, **r)
        record(f, f"dense-no rows-{reduction}", x[:0], q[:0], **r)
        record(f, f"dense-no places-{reduction}", np.zeros((2, 3, 0), np.float32),
            np.zeros((2, 3, 0), np.float32), **r)
        record(f, f"dense-no classes-{reduction}", np.zeros((2, 0), np.float32),
            np.zeros((2, 0), np.float32), **r)
        record(f, f"dense-weights 0-{reduction}", x, q, 0 * w, **r)
        record(f, f"dense-e=-0.5-{reduction}", x, q, label_smoothing=-0.5, **r)
        record(f, f"dense-e=1.5-{reduction}", x, q, label_smoothing=1.5, **r)
    for a, b in itertools.product(DTYPES, DTYPES):
        record(f, f"dense-input {a}, target {b}", _values((4, 5), a), _dense((4, 5), 1, b))
    record(f, "dense-ignore_index=1", x, q, ignore_index=1)
    record(f, "dense-ignore_index=-7", x, q, ignore_index=-7)
    record(f, "dense-integer target", x, np.ones((4, 5), np.int64))
    record(f, "dense-bool target", x, np.eye(5, dtype=bool)[:4])
    record(f, "dense-integer input", np.ones((4, 5), np.int64), q)
    record(f, "dense-weight float64", x, q, w.astype(np.float64))
    record(f, "dense-weight of 4", x, q, w[:4])
    record(f, "dense-target (1, C)", x, q[:1])
    record(f, "dense-target (C,)", x, q[0])
    record(f, "dense-0-d", np.float32(1).reshape(()), np.float32(1).reshape(()))
    for name, target in (
        ("0", [1, 0, 0]),
        ("1", [0, 1, 0]),
        ("0 and 2", [0.5, 0, 0.5]),
        ("none", [0, 0, 0]),
    ):
        for e in (0.0, 0.1):
            _special_rows(
                lambda f, n, *a, e=e, name=name: record(
                    f, f"dense-mass on {name}, e={e}, {n}", *a, label_smoothing=e, reduction="none"
                ),
                f,
                lambda x, target=target: (x, np.array([target, [0.2, 0.3, 0.5]]).astype(x.dtype)),
            )
    # The numbers of the source document, and its mistake.
    for a, b, name in (
        ([[0, 5, 1]], [[0, 0.8, 0.2]], "dense-document"),
        ([[0, 5, 1]], [1], "index-document"),
        ([[0, 0.8, 0.2]], [1], "index-document, swapped"),
    ):
        record(f, name, np.array(a, np.float64), np.array(b))


def torch_linear(record):
    def layer(n, c, f, dtype, dims=()):
        return _values((n, f), dtype, 1.0), _values((c, *dims, f), dtype, 1.0)

    full = F + "linear_cross_entropy"
    for dtype, reduction, e, dense in itertools.product(
        DTYPES, REDUCTIONS, (0.0, 0.1, 1.0), (False, True)
    ):
        x, w = layer(6, 5, 3, dtype)
        y = _dense((6, 5), 1, dtype) if dense else _index((6,), 5)
        name = f"{dtype}-{reduction}-e={e}" + "-dense" * dense
        options = {"reduction": reduction, "label_smoothing": e}
        record(full, name, x, w, y, **options)
        bias, weight = _weight(5, dtype), _weight(5, dtype)
        record(full, f"bias-{name}", x, w, y, linear_bias=bias, **options)
        record(full, f"weight-{name}", x, w, y, weight=weight, **options)
        if not dense:
            record(full, f"ignore-{name}", x, w, y, ignore_index=int(y[0]), **options)
            record(full, f"all ignored-{name}", x, w, np.full(6, -100), **options)
        for dims in ((2,), (2, 3)):
            x, w = layer(4, 5, 3, dtype, dims)
            y = _dense((4, 5, *dims), 1, dtype) if dense else _index((4, *dims), 5)
            record(full, f"{len(dims)} more axes-{name}", x, w, y, **options)
            bias = _values((5, *dims), dtype, 1.0)
            record(full, f"{len(dims)} more axes-bias-{name}", x, w, y, linear_bias=bias, **options)
        x, w = layer(6, 5, 3, dtype)
        y = _dense((5,), 0, dtype) if dense else np.asarray(3)
        record(full, f"one row-{name}", x[0], w, y, **options)
    x, w = layer(6, 5, 3, "float32")
    y = _index((6,), 5)
    record(full, "options=None", x, w, y, options=None)
    record(full, "defaults", x, w, y)
    record(full, "no rows", x[:0], w, y[:0])
    record(full, "label C", x, w, np.full(6, 5))
    record(full, "label -1", x, w, np.full(6, -1))
    record(full, "three axes", x[None], w, y[None])
    record(full, "one axis of weights", x, w[0], y)
    record(full, "features", x[:, :2], w, y)
    record(full, "ignore_index with a distribution", x, w, _dense((6, 5), 1, "float32"),
        ignore_index=2)
    record(full, "negative smoothing", x, w, y, label_smoothing=-0.5)
    nan = np.where(y[:, None] == y[0], np.float32(np.nan), x)
    record(full, "nan row", nan, w, y, reduction="none")
    record(full, "ignored nan row", nan, w, y, ignore_index=int(y[0]), reduction="sum")
    record(full, "reduction='max'", x, w, y, reduction="max")


def torch_binary(record):
    for dtype, shape, weight, reduction in itertools.product(
        DTYPES, ((5,), (4, 5), (2, 3, 5), ()), (None, "full", "last", "one"), REDUCTIONS
    ):
        w = {None: None, "full": _probabilities(shape, dtype, 2), "last": _weight(5, dtype),
            "one": _weight(1, dtype)}[weight]
        options = {"reduction": reduction} | ({} if w is None else {"weight": w})
        name = f"{dtype}-{len(shape)}d-{reduction}" + (f"-weight {weight}" if weight else "")
        p, z = _probabilities(shape, dtype), _probabilities(shape, dtype, 1)
        record(F + "binary_cross_entropy", name, p, z, **options)
        x = _values(shape, dtype)
        for pos in (None, "last", "full"):
            pw = {None: None, "last": _weight(5, dtype), "full": _probabilities(shape, dtype, 3)}[
                pos
            ]
            more = {} if pw is None else {"pos_weight": pw}
            record(F + "binary_cross_entropy_with_logits", name + (f"-pos {pos}" if pos else ""), x,
                z, **options, **more)

    z = np.array([0, 0.25, 0.5, 1, 1], np.float32)
    for dtype in DTYPES:
        t = DTYPES[dtype]
        p = np.array([0, 1e-30, 0.5, 1, 0]).astype(t)
        for reduction in REDUCTIONS:
            record(F + "binary_cross_entropy", f"certain-{dtype}-{reduction}", p, z.astype(t),
                reduction=reduction)
            record(F + "binary_cross_entropy", f"wrong-{dtype}-{reduction}", 1 - z.astype(t),
                z.astype(t), reduction=reduction)
    p, z = np.array([[0, 1, 1e-200], [1, 0, 1]]), np.array([[0.25, 0.5, 1], [0.25, 1, 1]])
    for reduction in REDUCTIONS:
        for name, w in (("last", [2, 3, 0.5]), ("full", [[1, 2, 3], [0.5, 3, 0]])):
            record(F + "binary_cross_entropy", f"clipped-weight {name}-{reduction}", p, z,
                np.array(w), reduction=reduction)
    record(F + "binary_cross_entropy", "tiny-float64", np.array([1e-200, 1e-300, 1e-40]),
        np.ones(3), reduction="none")
    for f, x in (
        ("binary_cross_entropy", _probabilities((4, 5), "float32")),
        ("binary_cross_entropy_with_logits", _values((4, 5), "float32")),
    ):
        f = F + f
        z, w = _probabilities((4, 5), "float32", 1), _weight(5, "float32")
        for reduction in REDUCTIONS:
            r = {"reduction": reduction}
            record(f, f"no elements-{reduction}", x[:0], z[:0], **r)
            record(f, f"no elements-weight-{reduction}", x[:0], z[:0], w, **r)
            record(f, f"weights 0-{reduction}", x, z, 0 * w, **r)
            record(f, f"weight (4, 1)-{reduction}", x, z, _weight(4, "float32")[:, None], **r)
            record(f, f"negative weight-{reduction}", x, z, -w, **r)
            record(
                f, f"weight enlarges-{reduction}", x[:1], z[:1], np.ones((4, 5), np.float32), **r
            )
            record(
                f, f"weight rank enlarges-{reduction}", x[0], z[0], np.ones((4, 5), np.float32), **r
            )
        for a, b in itertools.product(DTYPES, DTYPES):
            for reduction in ("none", "mean"):
                record(f, f"input {a}, target {b}-{reduction}", x.astype(DTYPES[a]),
                    z.astype(DTYPES[b]), reduction=reduction)
        for dtype in DTYPES:
            record(f, f"weight {dtype}", x, z, w.astype(DTYPES[dtype]))
        record(f, "weight int64", x, z, w.astype(np.int64))
        record(f, "integer target", x, (z > 0.5).astype(np.int64))
        record(f, "bool target", x, z > 0.5)
        record(f, "integer input", (x > 0.5).astype(np.int64), z)
        record(f, "target (5,)", x, z[0])
        record(f, "target (4, 1)", x, z[:, :1])
        record(f, "input (4, 1), target (4,)", x[:, :1], z[:, 0])
        record(f, "weight of 4", x, z, w[:4])
        record(f, "target 2", x, z * 0 + 2)
        record(f, "target -1", x, z * 0 - 1)
        record(f, "bad reduction", x, z, reduction="average")
        record(f, "elementwise_mean", x, z, reduction="elementwise_mean")
        for a, b in itertools.product((None, True, False), repeat=2):
            if (a, b) != (None, None):
                record(f, f"size_average={a}, reduce={b}", x, z, size_average=a, reduce=b,
                    reduction="sum")
        record(f, "positional", x, z, w, None, None, "sum")
    for bad in (-0.1, 1.1, np.nan, np.inf):
        record(
            F + "binary_cross_entropy", f"input {bad}", np.array([bad, 0.5]), np.array([0.5, 0.5])
        )
        record(
            F + "binary_cross_entropy", f"target {bad}", np.array([0.5, 0.5]), np.array([bad, 0.5])
        )
    f = F + "binary_cross_entropy_with_logits"
    x, z = _values((4, 5), "float32"), _probabilities((4, 5), "float32", 1)
    for dtype in DTYPES:
        record(f, f"pos_weight {dtype}", x, z, pos_weight=_weight(5, dtype))
        for target in DTYPES:
            record(f, f"pos_weight {dtype}, target {target}", x, z.astype(DTYPES[target]),
                pos_weight=_weight(5, dtype))
    record(f, "pos_weight 0-d", x, z, pos_weight=np.array(2, np.float32))
    record(f, "pos_weight (4, 1)", x, z, pos_weight=_weight(4, "float32")[:, None])
    record(f, "pos_weight 0", x, z, pos_weight=np.zeros(5, np.float32))
    record(f, "pos_weight of 4", x, z, pos_weight=_weight(4, "float32"))
    record(f, "pos_weight enlarges", x[:1], z[:1], pos_weight=np.ones((4, 5), np.float32))
    record(f, "positional to the end", x, z, _weight(5, "float32"), None, None, "mean",
        _weight(5, "float32"))
    _elements(
        record,
        f,
        lambda x, z, pw: ((x, z),
            {"reduction": "none", **({} if pw is None else {"pos_weight": pw})}),
    )
    for reduction in REDUCTIONS:
        init = {"reduction": reduction}
        p, w = _probabilities((4, 5), "float32"), _weight(5, "float32")
        record(M + "BCELoss", reduction, p, z, init=init)
        record(M + "BCELoss", f"{reduction}-weight", p, z, init={**init, "weight": w})
        record(M + "BCEWithLogitsLoss", reduction, x, z, init=init)
        record(M + "BCEWithLogitsLoss", f"{reduction}-weight", x, z, init={**init, "weight": w})
        record(
            M + "BCEWithLogitsLoss", f"{reduction}-pos_weight", x, z, init={**init, "pos_weight": w}
        )
        record(M + "BCEWithLogitsLoss", f"{reduction}-both", x, z,
            init={**init, "weight": w, "pos_weight": w})
    for cls in ("BCELoss", "BCEWithLogitsLoss"):
        record(M + cls, "defaults", p, z, init={})
        record(M + cls, "reduce=False", p, z, init={"reduce": False})
        record(M + cls, "size_average=False", p, z, init={"size_average": False})


def _elements(record, f, arguments):
    """The sigmoid's special values, with and without a weight of the positives."""
    inf, nan = np.inf, np.nan
    for dtype, z, pw in itertools.product(
        ("float32", "float64", "float16"), (0.0, 0.5, 1.0, 2.0), (None, 2.0)
    ):
        x = np.array([0, -0.0, 1, -1, 10, -10, 20, -20, 100, -100, 1000, -1000])
        for name, values in (
            ("finite", x),
            ("infinite", np.array([inf, -inf])),
            ("nan", np.array([nan, 1])),
        ):
            x = values.astype(DTYPES[dtype])
            args, kwargs = arguments(
                x, np.full_like(x, z), None if pw is None else np.full(1, pw, x.dtype)
            )
            record(f, f"{name}-{dtype}-z={z}" + (f"-pw={pw}" if pw else ""), *args, **kwargs)


# ---- TensorFlow ------------------------------------------------------------------------


def tf_normalizers(record):
    for f, dtype, shape in itertools.product(
        ("softmax", "log_softmax"), DTYPES, ((5,), (4, 5), (3, 5, 2), (2, 5, 2, 3))
    ):
        for axis in (None, *range(-len(shape), len(shape))):
            record(N + f, f"{dtype}-{len(shape)}d-axis={axis}", _values(shape, dtype), axis)
    x = _values((4, 5), "float32")
    for f in ("softmax", "log_softmax"):
        record(N + f, "axis out of range", x, 2)
        record(N + f, "axis tuple", x, (0, 1))
        record(N + f, "scalar", np.float32(2).reshape(()))
        record(N + f, "no classes", np.zeros((2, 0), np.float32))
        record(N + f, "no rows", np.zeros((0, 3), np.float32))
        record(N + f, "no rows, axis 0", np.zeros((0, 3), np.float32), 0)
        record(N + f, "integers", np.array([[1, 2, 3]]))
        record(N + f, "bools", np.array([[True, False]]))
        record(N + f, "names", logits=x, axis=0, name="a")
        record(N + f, "50000 classes", np.zeros((1, 50000), np.float16))
        _special_rows(record, N + f, lambda x: (x,))
    for dtype in DTYPES:
        values = np.array(
            [0, -0.0, 1, -1, 10, -10, 20, -20, 100, -100, 1000, -1000, np.inf, -np.inf, np.nan]
        )
        record(N + "sigmoid", dtype, values.astype(DTYPES[dtype]))
        record(N + "sigmoid", f"3d-{dtype}", _values((2, 3, 5), dtype), name="s")
    record(N + "sigmoid", "0-d", np.float32(0.5).reshape(()))
    record(N + "sigmoid", "empty", np.zeros((0, 3), np.float32))
    record(N + "sigmoid", "integers", np.array([1, 2]))


def tf_sparse(record):
    f = N + "sparse_softmax_cross_entropy_with_logits"
    for dtype, shape, labels in itertools.product(
        DTYPES, ((5,), (4, 5), (3, 2, 5), (2, 2, 3, 5)), ("int32", "int64")
    ):
        record(f, f"{dtype}-{len(shape)}d-{labels}", _index(shape[:-1], 5, labels),
            _values(shape, dtype))
    x, y = _values((4, 5), "float32"), _index((4,), 5)
    record(f, "names", labels=y, logits=x, name="n")
    for dtype in (
        "int8",
        "uint8",
        "int16",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "float32",
        "float64",
    ):
        record(f, f"labels {dtype}", y.astype(dtype), x)
    record(f, "swapped", x, y)
    record(f, "integer logits", y, x.astype(np.int64))
    record(f, "label C", np.array([0, 5, 1, 1]), x)
    record(f, "label -1", np.array([0, -1, 1, 1]), x)
    record(f, "labels (N, 1)", y[:, None], x)
    record(f, "labels (N + 1)", np.append(y, 0), x)
    record(f, "labels 0-d", np.array(1), x)
    record(f, "scalar logits", np.array(1), np.float32(1).reshape(()))
    record(f, "no rows", y[:0], x[:0])
    record(f, "no classes", y[:2], np.zeros((2, 0), np.float32))
    record(f, "no classes, no rows", y[:0], np.zeros((0, 0), np.float32))
    record(f, "labels None", None, x)
    record(f, "logits None", y, None)
    record(f, "50000 classes", np.zeros(1, np.int64), np.zeros((1, 50000), np.float16))
    for label in (0, 1, 2):
        _special_rows(lambda f, name, *a, label=label: record(f, f"label {label}, {name}", *a), f,
            lambda x, label=label: (np.array([label, 0]), x))
    x3 = np.array([[3, 1, -3], [0, 5, 1], [1, 1, 1], [2, 0, 2]], np.float64)
    record(f, "document", np.array([2, 1, 0, 2]), x3)


def tf_dense(record):
    f = N + "softmax_cross_entropy_with_logits"
    for dtype, shape in itertools.product(DTYPES, ((5,), (4, 5), (3, 5, 2), (2, 5, 2, 3))):
        x = _values(shape, dtype)
        for axis in range(-len(shape), len(shape)):
            record(f, f"{dtype}-{len(shape)}d-axis={axis}", _dense(shape, axis, dtype), x, axis)
        record(f, f"{dtype}-{len(shape)}d", _dense(shape, -1, dtype), x)
    x, q = _values((4, 5), "float32"), _dense((4, 5), 1, "float32")
    record(f, "names", labels=q, logits=x, axis=1, name="n")
    record(f, "unnormalised", 3 * q - 0.25, x)
    for dtype in ("int32", "int64", "uint8", "bool", "float64", "float16"):
        record(f, f"labels {dtype}", np.eye(5, dtype=dtype)[:4], x)
        record(
            f, f"logits float16, labels {dtype}", np.eye(5, dtype=dtype)[:4], x.astype(np.float16)
        )
    record(f, "integer logits", q, x.astype(np.int64))
    record(f, "swapped", x, np.eye(5, dtype=np.int64)[:4])
    record(f, "labels (1, C)", q[:1], x)
    record(f, "labels (C,)", q[0], x)
    record(f, "labels (N, 1)", q[:, :1], x)
    record(f, "labels (1, 1)", q[:1, :1], x)
    record(f, "logits (1, C)", q, x[:1])
    record(f, "logits (N, 1)", q, x[:, :1])
    record(f, "labels (N, C + 1)", np.concatenate([q, q[:, :1]], 1), x)
    record(f, "labels (N + 1, C)", np.concatenate([q, q[:1]]), x)
    x3, q3 = _values((3, 2, 5), "float32"), _dense((3, 2, 5), -1, "float32")
    record(f, "labels (6, C) for (3, 2, C)", q3.reshape(6, 5), x3)
    record(f, "labels (2, 3, C) for (3, 2, C)", q3.reshape(2, 3, 5), x3)
    record(f, "labels (1, 1, C) for (3, 2, C)", q3[:1, :1], x3)
    record(f, "labels (1, 2, C) for (3, 2, C)", q3[:1], x3)
    record(f, "labels (3, 1, C) for (3, 2, C)", q3[:, :1], x3)
    record(f, "labels (2, C) for (3, 2, C)", q3[0], x3)
    record(f, "labels (1, C), axis 0", _dense((4, 5), 0, "float32")[:, :1], x, 0)
    record(f, "scalars", np.float32(1).reshape(()), np.float32(1).reshape(()))
    record(f, "axis out of range", q, x, 2)
    record(f, "no rows", q[:0], x[:0])
    record(f, "no classes", np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32))
    record(f, "no classes, no rows", np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    record(f, "labels None", None, x)
    record(f, "logits None", q, None)
    record(f, "50000 classes", np.ones((1, 50000), np.float32) / 50000,
        np.zeros((1, 50000), np.float16))
    for name, target in (
        ("0", [1, 0, 0]),
        ("1", [0, 1, 0]),
        ("0 and 2", [0.5, 0, 0.5]),
        ("none", [0, 0, 0]),
    ):
        _special_rows(lambda f, n, *a, name=name: record(f, f"mass on {name}, {n}", *a), f,
            lambda x, target=target: (np.array([target, [0.2, 0.3, 0.5]]).astype(x.dtype), x))
    record(f, "document", np.array([[0, 0.8, 0.2]]), np.array([[0, 5, 1.0]]))
    record(f, "document, two classes", np.array([[0, 1], [1, 0], [1, 0.0]]),
        np.array([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]]))


def tf_sigmoid(record):
    plain, weighted = (N + "sigmoid_cross_entropy_with_logits",
        N + "weighted_cross_entropy_with_logits")
    for dtype, shape in itertools.product(DTYPES, ((), (5,), (4, 5), (2, 3, 5))):
        x, z = _values(shape, dtype), _probabilities(shape, dtype, 1)
        record(plain, f"{dtype}-{len(shape)}d", z, x)
        for pos, pw in (
            ("float", 2.5),
            ("0-d", _weight(1, dtype)[0].reshape(())),
            ("last", _weight(5, dtype)),
            ("full", _probabilities(shape, dtype, 3)),
            ("0", 0.0),
            ("rows", _weight(3, dtype).reshape((3, *[1] * len(shape)))),
        ):
            record(weighted, f"{dtype}-{len(shape)}d-{pos}", z, x, pw)
    x, z = _values((4, 5), "float32"), _probabilities((4, 5), "float32", 1)
    for f, more in ((plain, ()), (weighted, (2.0,))):
        record(f, "names", **dict(zip(("labels", "logits", "pos_weight"), (z, x, *more))), name="n")
        for dtype in ("int32", "int64", "bool", "float64", "float16"):
            record(f, f"labels {dtype}", (z > 0.5).astype(dtype), x, *more)
        record(f, "integer logits", z, x.astype(np.int64), *more)
        record(
            f, "integer logits and labels", (z > 0.5).astype(np.int64), x.astype(np.int64), *more
        )
        record(f, "labels (5,)", z[0], x, *more)
        record(f, "labels (1, 5)", z[:1], x, *more)
        record(f, "labels (4, 1)", z[:, :1], x, *more)
        record(f, "labels 2", 2 + 0 * z, x, *more)
        record(f, "empty", z[:0], x[:0], *more)
        record(f, "labels None", None, x, *more)
        record(f, "logits None", z, None, *more)
    for dtype in ("float64", "float16", "int64"):
        record(weighted, f"pos_weight {dtype}", z, x, np.full(5, 2, dtype))
    record(weighted, "pos_weight of 4", z, x, np.ones(4, np.float32))
    record(weighted, "pos_weight int", z, x, 2)
    record(weighted, "pos_weight None", z, x, None)
    _elements(lambda f, name, *a, **k: record(plain if len(a) == 2 else weighted, name, *a, **k),
        "", lambda x, z, pw: ((z, x) if pw is None else (z, x, pw), {}))
    record(plain, "document", np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0.0]]),
        np.array([[0.2] * 5, [0.3, 0.3, 0.2, 0.1, 0.1]]))


TF_REDUCTIONS = {"NONE": "none", "SUM": "weighted_sum", "MEAN": "weighted_mean",
    "SUM_OVER_BATCH_SIZE": "weighted_sum_over_batch_size",
    "SUM_BY_NONZERO_WEIGHTS": "weighted_sum_by_nonzero_weights"}


def _tf_weights(shape):
    """Weights for losses of a shape, by name."""
    full = np.resize(np.array([2, 0, 0.5, -1], np.float32), shape)
    kinds = {"1": 1.0, "2": 2.0, "0": 0.0, "int": 3, "0-d": np.float32(1.5).reshape(()),
        "full": full, "zeros": 0 * full, "cancel": np.resize(np.array([1, -1], np.float32), shape),
        "int array": full.astype(np.int64), "bool": full > 0, "float64": full.astype(np.float64),
        "float16": full.astype(np.float16), "(1, ...)": full[:1], "(5,)": np.ones(5, np.float32),
        "(1,)": np.full(1, 2, np.float32), "(N,)": full.reshape(len(full), -1)[:, 0],
        "(N, 1)": full.reshape(len(full), -1)[:, :1], "None": None, "list": full.tolist()}
    if len(shape) > 1:
        kinds["(..., 1)"] = full[..., :1]
    return kinds


#: The kinds of weights for losses of each number of axes; float32 losses with two have all.
_TF_WEIGHTS = {1: ("2", "full", "zeros", "(N, 1)", "0-d"),
    2: ("2", "full", "zeros", "cancel", "(..., 1)", "(N,)"),
    3: ("full", "(1, ...)", "(..., 1)", "(N,)")}


def tf_losses(record):
    reductions = TF_REDUCTIONS.items()
    for dtype, shape in itertools.product(DTYPES, ((4,), (4, 5), (2, 3, 5))):
        x, z = _values((*shape, 5), dtype), _probabilities(shape, dtype)
        arguments = {"sparse_softmax_cross_entropy": (_index(shape, 5), x),
            "softmax_cross_entropy": (_dense((*shape, 5), -1, dtype), x),
            "sigmoid_cross_entropy": (z, _values(shape, dtype)),
            "log_loss": (z, _probabilities(shape, dtype, 1)),
            "compute_weighted_loss": (np.abs(_values(shape, dtype)),)}
        for f, args in arguments.items():
            record(L + f, f"{dtype}-{len(shape)}d-defaults", *args)
            for kind, w in _tf_weights(shape).items():
                if kind not in _TF_WEIGHTS[len(shape)] and (dtype, len(shape)) != ("float32", 2):
                    continue
                if dtype in ("float16", "bfloat16") and kind not in ("2", "full", "zeros"):
                    continue
                for name, reduction in reductions:
                    record(
                        L + f, f"{dtype}-{len(shape)}d-{kind}-{name}", *args, w, reduction=reduction
                    )
    x, y = _values((4, 5), "float32"), _index((4,), 5)
    q, z = _dense((4, 5), 1, "float32"), _probabilities((4, 5), "float32", 1)
    w = np.array([2, 0, 0.5, -1], np.float32)
    losses = {"sparse_softmax_cross_entropy": (y, x), "softmax_cross_entropy": (q, x),
        "sigmoid_cross_entropy": (z, x), "log_loss": (z, _probabilities((4, 5), "float32")),
        "compute_weighted_loss": (np.abs(x),)}
    names = {"sparse_softmax_cross_entropy": ("labels", "logits"),
        "softmax_cross_entropy": ("onehot_labels", "logits"),
        "sigmoid_cross_entropy": ("multi_class_labels", "logits"),
        "log_loss": ("labels", "predictions"), "compute_weighted_loss": ("losses",)}
    for f, args in losses.items():
        for name, reduction in reductions:
            record(L + f, f"no rows-{name}", *[a[:0] for a in args], reduction=reduction)
        for reduction in ("mean", "sum", "SUM", None):
            record(L + f, f"reduction {reduction}", *args, reduction=reduction)
        record(L + f, "names", **dict(zip(names[f], args)), weights=2.0, scope="s",
            loss_collection=None)
        for k, name in enumerate(names[f]):
            record(L + f, f"{name} None", *args[:k], None, *args[k + 1 :])
    f = L + "sparse_softmax_cross_entropy"
    for name, reduction in reductions:
        r = {"reduction": reduction}
        record(f, f"labels (N, 1)-{name}", y[:, None], x, w, **r)
        record(f, f"labels and weights (N, 1)-{name}", y[:, None], x, w[:, None], **r)
        record(f, f"weights (N, 1)-{name}", y, x, w[:, None], **r)
        record(f, f"infinite loss of weight 0-{name}", np.array([0, 1]),
            np.array([[0, 1, 2], [0, -np.inf, 1]], np.float32), np.array([1, 0], np.float32), **r)
        record(f, f"label -1 of weight 0-{name}", np.array([0, -1, 1, 1]), x,
            np.array([1, 0, 1, 1], np.float32), **r)
        record(f, f"worked-{name}", np.array([2, 1, 0, 2]),
            np.array([[3, 1, -3], [0, 5, 1], [1, 1, 1], [2, 0, 2]], np.float64),
            np.array([2, 0, 0.5, -1]), **r)
    record(f, "logits (N, C, 1)", y, x[:, :, None])
    record(f, "labels (N, 2)", np.stack([y, y], 1), x)
    record(f, "weights (N, 2)", y, x, np.ones((4, 2), np.float32))
    record(f, "weights (N, 1, 1)", y, x, np.ones((4, 1, 1), np.float32))
    record(f, "swapped", x, y)
    record(f, "integer logits", y, x.astype(np.int64))
    record(f, "unbatched", np.array(1), x[0])
    record(f, "unbatched, labels (1,)", y[:1], x[0])
    record(f, "positional", y, x, w, "s", "losses", "weighted_sum")
    for kind in ("int8", "int32", "float32"):
        record(f, f"labels {kind}", y.astype(kind), x)
    for f, args in (("softmax_cross_entropy", (q, x)), ("sigmoid_cross_entropy", (z, x))):
        for e, (name, reduction) in itertools.product((0.1, 0.2, 1, -0.5, 1.5), reductions):
            record(L + f, f"e={e}-{name}", *args, 1.0, e, reduction=reduction)
        record(L + f, "positional", *args, 2.0, 0.1, "s", "losses", "weighted_sum")
        for dtype in DTYPES:
            record(L + f, f"e=0.1-{dtype}", *[a.astype(DTYPES[dtype]) for a in args],
                label_smoothing=0.1)
        for dtype in ("int32", "int64", "float64", "bool"):
            record(L + f, f"labels {dtype}", (args[0] > 0.4).astype(dtype), x)
        record(L + f, "integer logits", args[0], x.astype(np.int64))
        record(L + f, "swapped", x, (args[0] > 0.4).astype(np.int64))
        record(L + f, "labels (1, C)", args[0][:1], x)
        record(L + f, "labels (C,)", args[0][0], x)
        record(L + f, "labels (N, 1)", args[0][:, :1], x)
        record(L + f, "unbatched", args[0][0], x[0])
    f = L + "softmax_cross_entropy"
    example = np.array([[0, 1, 0], [0, 0, 1.0]]), np.array([[0.05, 0.95, 0], [0.1, 0.8, 0.1]])
    record(f, "its documentation", *example, np.array([0.3, 0.7]), 0.2)
    record(f, "labels 0 on -inf", np.array([[1, 0, 0.0]]), np.array([[0, -np.inf, 1]]))
    f = L + "log_loss"
    p = np.array([0, 1, 0, 1, 0.5, 1e-30], np.float32)
    z = np.array([0, 1, 1, 0, 0.5, 1], np.float32)
    for dtype in DTYPES:
        for epsilon in (1e-7, 1e-3, 0.0):
            record(f, f"certain-{dtype}-epsilon={epsilon}", z.astype(DTYPES[dtype]),
                p.astype(DTYPES[dtype]), epsilon=epsilon, reduction="none")
    record(f, "positional", z, p, 2.0, 1e-3, "s", "losses", "weighted_sum")
    record(f, "predictions 2", z, p * 2, reduction="none")
    record(f, "integer predictions", z, np.array([0, 1, 0, 1, 1, 0]), reduction="none")
    record(f, "labels (1, C)", z[None], p)
    record(f, "0-d", np.float32(1).reshape(()), np.float32(0.25).reshape(()))
    f = L + "compute_weighted_loss"
    for name, reduction in reductions:
        r = {"reduction": reduction}
        record(
            f, f"infinite loss of weight 0-{name}", np.array([np.inf, 1.0]), np.array([0, 1.0]), **r
        )
        record(f, f"nan loss-{name}", np.array([np.nan, 1.0]), np.array([1, 1.0]), **r)
        record(f, f"integer losses-{name}", np.array([1, 2, 4]), **r)
        record(f, f"more than float32 holds-{name}", np.array([1e10 + 1, 1.0]), **r)
        record(f, f"0-d-{name}", np.float32(3).reshape(()), 2.0, **r)
    record(f, "positional", np.abs(x), 2.0, "s", "losses", "weighted_sum")
    record(f, "weights of another rank", np.abs(_values((2, 4), "float32")), np.ones(2, np.float32))


def tf_sequences(record):
    for f, dtype, steps, weights, time in itertools.product(
        ("sequence_loss_by_example", "sequence_loss"),
        DTYPES,
        (1, 3),
        ("ones", "padded", "empty row", "zeros"),
        (True, False),
    ):
        x = [_values((4, 5), dtype) + np.asarray(t, DTYPES[dtype]) * 0.5 for t in range(steps)]
        x = [np.roll(a, t, 1).astype(DTYPES[dtype]) for t, a in enumerate(x)]
        y = [np.roll(_index((4,), 5), t) for t in range(steps)]
        w = np.ones((steps, 4)) * np.array([1, 0.5, 2, 1])
        if weights == "padded":
            w[1:, 1:] = 0
        elif weights == "empty row":
            w[:, 2] = 0
        elif weights == "zeros":
            w[:] = 0
        w = [a.astype(DTYPES[dtype]) for a in w]
        name = f"{dtype}-{steps} steps-{weights}-time={time}"
        if f == "sequence_loss":
            for batch in (True, False):
                record(S + f, f"{name}-batch={batch}", x, y, w, time, batch)
        else:
            record(S + f, name, x, y, w, time)
    x = [_values((4, 5), "float32")] * 2
    y, w = [_index((4,), 5)] * 2, [np.ones(4, np.float32)] * 2
    for f in ("sequence_loss_by_example", "sequence_loss"):
        record(S + f, "defaults", x, y, w)
        record(S + f, "targets (B, 1)", x, [a[:, None] for a in y], w)
        record(S + f, "unequal lengths", x, y, w[:1])
        record(S + f, "unequal targets", x, y[:1], w)
        record(S + f, "label C", x, [y[0], y[1] + 5], w)
        record(S + f, "swapped", y, x, w)
        record(S + f, "float targets", x, [a.astype(np.float32) for a in y], w)
        record(S + f, "padded nan", [x[0], x[1] * np.float32(np.nan)], y, [w[0], 0 * w[1]])
    # A user's own function is called, so its cases are in the tests.


def _sampled_problem(dtype, num_true, seed=0):
    """Class vectors, biases, labels, inputs, and candidates of which some are labels."""
    rng = np.random.default_rng(seed)
    w, b, x = (rng.normal(size=n).astype(DTYPES[dtype]) for n in ((9, 4), 9, (5, 4)))
    y = rng.integers(0, 9, (5, num_true))
    ids = rng.permutation(9)[:6].astype(np.int64)
    counts = [rng.uniform(0.1, 2, n).astype(DTYPES[dtype]) for n in ((5, num_true), 6)]
    return w, b, y, x, [ids, *counts]


def tf_sampled(record):
    for f in ("nce_loss", "sampled_softmax_loss"):
        for dtype, num_true, hits in itertools.product(DTYPES, (1, 2), (False, True)):
            w, b, y, x, sampled = _sampled_problem(dtype, num_true)
            record(N + f, f"{dtype}-{num_true} true-hits={hits}", w, b, y, x, 6, 9, num_true,
                sampled, hits)
        w, b, y, x, sampled = _sampled_problem("float32", 1)
        more = {"num_true": 1, "sampled_values": sampled}
        record(N + f, "defaults", w, b, y, x, 6, 9, 1, sampled)
        record(N + f, "names", weights=w, biases=b, labels=y, inputs=x, num_sampled=6,
            num_classes=9, **more, remove_accidental_hits=True, name="n")
        if f == "sampled_softmax_loss":
            record(N + f, "seed", w, b, y, x, 6, 9, 1, sampled, True, 3, "n")
        record(N + f, "partitions", [w[:5], w[5:]], b, y, x, 6, 9, **more)
        record(N + f, "labels int32", w, b, y.astype(np.int32), x, 6, 9, **more)
        record(N + f, "repeated labels", w, b, np.repeat(y, 2, 1), x, 6, 9, 2,
            [sampled[0], np.repeat(sampled[1], 2, 1), sampled[2]], True)
        record(N + f, "repeated ids", w, b, y, x, 6, 9, 1,
            [np.array([*y[:3, 0], *y[:3, 0]]), *sampled[1:]], True)
        record(N + f, "another num_sampled", w, b, y, x, 4, 9, **more,
            remove_accidental_hits=False)
        record(N + f, "counts float64", w, b, y, x, 6, 9, 1,
            [sampled[0], *[a.astype(np.float64) for a in sampled[1:]]])
        record(N + f, "weights float64", w.astype(np.float64), b, y, x, 6, 9, **more)
        record(N + f, "inputs int", w, b, y, x.astype(np.int64), 6, 9, **more)
        record(N + f, "biases None", w, None, y, x, 6, 9, **more)
        record(N + f, "labels 1-D", w, b, y[:, 0], x, 6, 9)
        record(N + f, "labels of 2, num_true 1", w, b, np.repeat(y, 2, 1), x, 6, 9)
        record(N + f, "label 9", w, b, y + 9, x, 6, 9, **more)
        record(N + f, "too many", w, b, y, x, 10, 9)
        record(N + f, "no rows", w, b, y[:0], x[:0], 6, 9, 1,
            [sampled[0], sampled[1][:0], sampled[2]])


def tf_samplers(record):
    y = np.array([[0, 3], [4, 4], [8, 1]])
    unigrams = [3.0, 1.0, 0.0, 2.0, 0.5, 7.0, 1.0, 1.0, 4.0]
    for f, more in (("log_uniform", {}), ("uniform", {}), ("learned_unigram", {}),
            ("fixed_unigram", {"unigrams": unigrams})):
        f = N + f + "_candidate_sampler"
        record(f, "5 of 9", y, 2, 5, False, 9, **more)
        record(f, "names", true_classes=y, num_true=2, num_sampled=3, unique=False, range_max=9,
            seed=3, name="n", **more)
        record(f, "true_classes int32", y.astype(np.int32), 2, 4, False, 9, **more)
        record(f, "1 of 1, distinct", y[:1, :1] * 0, 1, 1, True, 1,
            **({"unigrams": [2.0]} if more else {}))
        record(f, "no rows", y[:0], 2, 2, False, 9, **more)
        record(f, "label 9", y + 1, 2, 5, False, 9, **more)
        record(f, "label -1", y - 1, 2, 5, False, 9, **more)
        record(f, "num_true 1", y, 1, 5, False, 9, **more)
        record(f, "1-D", y[0], 2, 5, False, 9, **more)
        record(f, "too many", y, 2, 10, True, 9, **more)
        record(f, "num_sampled 0", y, 2, 0, False, 9, **more)
        record(f, "float labels", y.astype(np.float32), 2, 5, False, 9, **more)
    f = N + "fixed_unigram_candidate_sampler"
    for k, options in enumerate((
        {"distortion": 0.75}, {"distortion": 0.0}, {"num_reserved_ids": 2, "range_max": 11},
        {"num_shards": 2, "shard": 1, "range_max": 4}, {"num_shards": 2, "range_max": 5},
        {"num_shards": 2, "num_reserved_ids": 3, "range_max": 6},
        {"num_shards": 2, "shard": 1, "num_reserved_ids": 3, "range_max": 6},
        {"num_reserved_ids": 1}, {"range_max": 8}, {"unigrams": ()},
    )):
        options = {"range_max": 9, "unigrams": unigrams, **options}
        labels = np.minimum(y, 3)
        record(f, f"options {k}", labels, 2, 5, False, **options)
    record(f, "file missing", y, 2, 5, False, 9, vocab_file="no-such-file")
    f = N + "compute_accidental_hits"
    record(f, "some", y, np.array([4, 7, 3, 8]), 2)
    record(f, "names", true_classes=y, sampled_candidates=np.array([4, 0]), num_true=2, seed=1,
        name="n")
    record(f, "none", y, np.array([7, 2]), 2)
    record(f, "repeated ids", y, np.array([4, 7, 4]), 2)
    record(f, "num_true 1", y, np.array([4]), 1)


PARTS = (torch_normalizers, torch_index, torch_dense, torch_linear, torch_binary, tf_normalizers,
    tf_sparse, tf_dense, tf_sigmoid, tf_losses, tf_sequences, tf_sampled,
    tf_samplers)


def main():
    """Record every case and write the file."""
    torch.set_num_threads(1)
    record = Recorder()
    for part in PARTS:
        before = len(record.cases)
        part(record)
        print(f"{part.__name__:20} {len(record.cases) - before:5}", file=sys.stderr)
    record.write(TARGET)
    failed = sum("error" in c for c in record.cases.values())
    print(f"{len(record.cases)} cases, {failed} of them errors, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
