"""The recorded calls of torch and TensorFlow, and what each of their formulas says in float64.

`CASES` come from ``peers.npz``, written by ``build_tools/record_peers.py``.  Each function in
`FORMULAS` takes a peer's arguments and returns two float64 arrays: the value of the peer's formula,
where a term with the coefficient 0 is absent, and the sum of the sizes of the terms that arithmetic
in the peer's dtype adds up, which its rounding is proportional to.
"""

import fnmatch
import functools
import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

#: What may be lost to subnormal numbers: some peers flush them to 0.
SMALLEST = {
    "float16": 2.0**-24, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022,
}  # fmt: skip


def near(got, expected, limit):
    """Equal, NaN to NaN, or finite and within the limit."""
    got, expected = (np.asarray(a).astype(np.float64) for a in (got, expected))
    if got.shape != expected.shape:
        return False
    with np.errstate(invalid="ignore"):
        close = np.abs(got - expected) <= limit
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    return bool(np.all(same | close & np.isfinite(got) & np.isfinite(expected)))


# ---- the recorded cases ----------------------------------------------------------------


class Case(NamedTuple):
    """One call: of a function, or of an object made with ``init``; its value or its error."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    init: dict[str, Any] | None
    value: Any
    error: list[str] | None
    warns: list[str]


def _load():
    with np.load(Path(__file__).parent / "peers.npz") as file:
        text, data = json.loads(file["cases"].tobytes()), file["bytes"].tobytes()
    arrays = []
    for name, shape, offset in text["arrays"]:
        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        count = int(np.prod(shape, dtype=int))
        arrays.append(np.frombuffer(data, dtype, count, offset).reshape(shape))

    def restored(value):
        if isinstance(value, dict):
            name = value.get("dtype")
            if name is None:
                return arrays[value["array"]]
            return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        return [restored(v) for v in value] if isinstance(value, list) else value

    cases = {}
    for key, c in text["cases"].items():
        init = c.get("init")
        cases[key] = Case(
            key.split("/")[0],
            restored(c["args"]),
            {k: restored(v) for k, v in c.get("kwargs", {}).items()},
            None if init is None else {k: restored(v) for k, v in init.items()},
            restored(c["value"]) if "value" in c else None,
            c.get("error"),
            c.get("warns", []),
        )
    return cases, text["signatures"], text["reductions"], text["versions"]


CASES, SIGNATURES, REDUCTIONS, VERSIONS = _load()


def ours(function):
    """Our function of a peer's name."""
    module, _, name = function.rpartition(".")
    return getattr(importlib.import_module(f"fastxent.compat.{module}"), name)


def call(case):
    """What we say to a case."""
    function = ours(case.function)
    if case.init is not None:
        function = function(**case.init)
    return told(function(*case.args, **case.kwargs))


def told(value):
    """Of a sampler what does not depend on chance; hits as the rows of one array."""
    if hasattr(value, "true_expected_count"):
        return value.true_expected_count
    return np.stack([a.astype(np.float64) for a in value]) if isinstance(value, tuple) else value


# ---- where we differ on purpose -------------------------------------------------------


class Difference(NamedTuple):
    """Why some cases differ from the peer; we then follow the formula, or raise ``error``."""

    reason: str
    cases: tuple[str, ...]  # patterns; every case of each must differ
    error: type[Exception] | None = None


F, N, L, S = "torch.nn.functional.", "tensorflow.nn.", "tensorflow.losses.", "tensorflow.legacy_"

DIFFERENCES = (
    Difference(
        "0 x inf and 0 x NaN are absent; the peer's is NaN",
        (
            F + "nll_loss/infinite loss of weight 0-*",
            F + "cross_entropy/infinite loss of weight 0-*",
            F + "cross_entropy/dense-mass on 0, e=0.0, one -inf-*",
            F + "cross_entropy/dense-mass on 0 and 2, e=0.0, one -inf-*",
            F + "cross_entropy/dense-mass on none, e=0.0, *inf-*",
            F + "cross_entropy/dense-mass on none, e=0.0, nan-*",
            N + "softmax_cross_entropy_with_logits/mass on 0, one -inf-*",
            N + "softmax_cross_entropy_with_logits/mass on 0 and 2, one -inf-*",
            N + "softmax_cross_entropy_with_logits/mass on none, *inf-*",
            N + "softmax_cross_entropy_with_logits/mass on none, nan-*",
            L + "*/infinite loss of weight 0-*",
            L + "softmax_cross_entropy/labels 0 on -inf",
            L + "log_loss/certain-float16-epsilon=0.0",
            L + "log_loss/certain-bfloat16-epsilon=0.0",
            L + "log_loss/certain-float32-epsilon=0.0",
            L + "log_loss/predictions 2",
        ),
    ),
    Difference(
        "infinite logits have the true limits; the peer's are NaN",
        (
            F + "binary_cross_entropy_with_logits/infinite-*-z=0.*",
            F + "binary_cross_entropy_with_logits/infinite-*-z=1.0*",
            N + "sigmoid_cross_entropy_with_logits/infinite-*",
            N + "weighted_cross_entropy_with_logits/infinite-*-z=0.*",
            N + "weighted_cross_entropy_with_logits/infinite-*-z=1.0*",
        ),
    ),
    Difference(
        "a NaN or infinity makes its row NaN; the peer's float32 kernel does so for a part of it",
        (
            N + "softmax/nan*-float32", N + "softmax/nan*-float16", N + "softmax/*+inf-float32",
            N + "softmax/*+inf-float16",
        ),
    ),
    Difference(
        "the sum of weights that cancel is 0, and a mean over 0 NaN; the peer's is infinite",
        (F + "*/weights cancel-mean",),
    ),
    Difference(
        "sums of half precision run in float64; the peer's overflow or lose digits",
        (
            F + "cross_entropy/3000 rows of zeros-bfloat16-e=0.0-*",
            F + "cross_entropy/3000 rows of zeros-float16-e=0.1-*",
            F + "cross_entropy/50000 classes-float16-e=0.1",
        ),
    ),
    Difference(
        "float64 stays float64; the peer returns float32",
        (
            L + "log_loss/float64-?d-[!(]*", L + "log_loss/float64-?d-(..., 1)-*",
            L + "log_loss/float64-3d-(1, ...)-*", L + "log_loss/certain-float64-*",
        ),
    ),
    Difference(
        "labels of any integer dtype; the peer takes int64 and perhaps one more",
        (
            F + "nll_loss/labels int*", F + "nll_loss/labels uint16",
            F + "nll_loss/labels uint8, K-dim", F + "cross_entropy/labels int*",
            F + "cross_entropy/labels uint16", F + "cross_entropy/labels uint8, K-dim",
            N + "sparse_softmax_cross_entropy_with_logits/labels int*",
            N + "sparse_softmax_cross_entropy_with_logits/labels uint*",
            L + "sparse_softmax_cross_entropy/labels int8",
        ),
    ),
    Difference(
        "labels and weights of any real dtype; the peer wants that of the logits",
        (
            F + "nll_loss/weight float*", F + "nll_loss/weight int64",
            F + "nll_loss/input float64, weight float16",
            F + "nll_loss/input float64, weight int64",
            F + "cross_entropy/weight float*", F + "cross_entropy/weight int64",
            F + "cross_entropy/input float64, weight float16",
            F + "cross_entropy/input float64, weight int64",
            *(
                F + f"binary_cross_entropy/input {a}, target {b}-*"
                for a in EPSILON for b in EPSILON if a != b
            ),
            F + "binary_cross_entropy/integer target", F + "binary_cross_entropy/bool target",
            F + "binary_cross_entropy_with_logits/integer target",
            F + "binary_cross_entropy_with_logits/bool target",
            N + "sigmoid_cross_entropy_with_logits/labels int*",
            N + "sigmoid_cross_entropy_with_logits/labels bool",
            N + "sigmoid_cross_entropy_with_logits/labels float*",
            N + "weighted_cross_entropy_with_logits/labels int*",
            N + "weighted_cross_entropy_with_logits/labels bool",
            N + "weighted_cross_entropy_with_logits/labels float*",
            N + "weighted_cross_entropy_with_logits/pos_weight float*",
            N + "weighted_cross_entropy_with_logits/pos_weight int64",
        ),
    ),
    Difference(
        "candidates of any dtype; the peer wants int64, and counts in the dtype of the inputs",
        (N + "*_candidate_sampler/true_classes int32", N + "*/counts float64"),
    ),
    Difference(
        "hits in half precision are left out; the peer's loss is NaN",
        (N + "nce_loss/*float16-? true-hits=True",
         N + "sampled_softmax_loss/*float16-? true-hits=True"),
    ),
    Difference(
        "every position of an id that comes several times is a hit; the peer's is the last",
        (N + "nce_loss/repeated ids", N + "sampled_softmax_loss/repeated ids",
         N + "compute_accidental_hits/repeated ids"),
    ),
    Difference(
        "any negative axis; the peer takes -1 only",
        (N + "softmax_cross_entropy_with_logits/*d-axis=-[234]",),
    ),
    Difference(
        "no rows of no classes have no losses; the peer fails inside",
        (N + "softmax_cross_entropy_with_logits/no classes, no rows",),
    ),
    Difference(
        "labels of another shape are refused; the peer rearranges them or repeats a single class",
        (
            N + "softmax_cross_entropy_with_logits/l*s (N, 1)",
            N + "softmax_cross_entropy_with_logits/labels (1, 1)",
            N + "softmax_cross_entropy_with_logits/labels (6, C) for (3, 2, C)",
            N + "softmax_cross_entropy_with_logits/labels (2, 3, C) for (3, 2, C)",
        ),
        ValueError,
    ),
    Difference(
        "smoothing above 1 is refused; the peer has it",
        (L + "softmax_cross_entropy/e=1.5-*", L + "sigmoid_cross_entropy/e=1.5-*"),
        ValueError,
    ),
    Difference(
        "a row of weight 0 is not read, nor its label; the peer's loss is an error or NaN",
        (L + "sparse_softmax_cross_entropy/label -1 of weight 0-*", S + "*/padded nan"),
    ),
    Difference(
        "an example whose weights sum to 0 has the loss 0; the peer's is NaN in float16",
        (
            S + "*/float16-* steps-empty row-time=True*",
            S + "*/float16-* steps-zeros-time=True*",
        ),
    ),
    Difference(
        "no classes to choose from is a ValueError; the peer's is an IndexError",
        (
            F + "nll_loss/no classes-*", F + "cross_entropy/no classes-*",
            F + "cross_entropy/dense-0-d",
        ),
        ValueError,
    ),
)  # fmt: skip


def _differing():
    found = {}
    for difference in DIFFERENCES:
        for pattern in difference.cases:
            keys = fnmatch.filter(CASES, pattern)
            assert keys, f"no case is called {pattern}"
            for key in keys:
                assert key not in found, f"{key} differs for two reasons"
                found[key] = difference
    return found


#: case -> why it differs
DIFFERING = _differing()

#: Peers whose arithmetic is coarser than their dtype, as a fraction of the sizes of the terms.
COARSER = {
    # tf.losses weigh and sum in float32 whatever the dtype.
    **{f: EPSILON["float32"] for f in SIGNATURES if f.startswith(L)},
    # 1e-12 is added to the sum of the weights: a fraction of that sum, which is 0.5 at least.
    **{f: 2e-12 for f in SIGNATURES if f.startswith(S)},
}


# ---- the peers' formulas ---------------------------------------------------------------


def _wide(a):
    return np.asarray(a).astype(np.float64)


def _sum(c, t, size, axis):
    """The sum of c t, without the terms of coefficient 0; and the sizes of its terms."""
    terms = np.where(c == 0, 0.0, c * t)
    sizes = np.nan_to_num(np.abs(c) * (np.abs(t) + size), nan=0.0, posinf=0.0)
    return terms.sum(axis), sizes.sum(axis)


def _finite_top(x, axis):
    """The largest finite size of the entries along an axis: what x - max(x) is rounded by."""
    size = np.where(np.isfinite(x), np.abs(x), 0.0)
    return size.max(axis, keepdims=True, initial=0.0)


def _log_softmax(x, axis):
    x = _wide(x)
    if 0 in x.shape:
        return x, x
    top = x.max(axis, keepdims=True)
    first = np.indices(x.shape)[axis] == np.expand_dims(x.argmax(axis), axis)
    others = np.where(first, np.where(np.isnan(x), x, 0.0), np.exp(x - top))
    value = (x - top) - np.log1p(others.sum(axis, keepdims=True))
    value = np.where(top == np.inf, np.nan, value)
    return value, _finite_top(x, axis)


def log_softmax(x, axis=-1):
    value, size = _log_softmax(x, axis)
    return value, np.abs(value) + size


def softmax(x, axis=-1):
    value, size = _log_softmax(x, axis)
    return np.exp(value), np.exp(value) * (1 + size + np.nan_to_num(np.abs(value), posinf=0))


def _torch_normalizer(function):
    def formula(input, dim=None, _stacklevel=3, dtype=None):
        x = np.asarray(input)
        if dtype is not None:
            x = x.astype(dtype)
        if x.ndim == 0:
            return (np.exp(0 * _wide(x)) if function is softmax else 0 * _wide(x)), 1.0
        return function(x, dim if dim is not None else 0 if x.ndim in (1, 3) else 1)

    return formula


def _tf_normalizer(function):
    return lambda logits, axis=None, name=None: function(logits, -1 if axis is None else axis)


def sigmoid(x, name=None):
    value = np.exp(-np.logaddexp(0, -_wide(x)))
    return value, value + value * np.nan_to_num(np.abs(_wide(x)), nan=0, posinf=0)


def _index(x, y, axis, w=None, ignore=None, e=0.0, logits=True):
    """Losses, their sizes, and the weight of each label: 0 where it is ignored."""
    x, y = _wide(x), np.asarray(y).astype(np.int64)
    c = x.shape[axis]
    w = np.ones(c) if w is None else _wide(w)
    logp, size = _log_softmax(x, axis) if logits else (x, np.zeros(1))
    hot = np.expand_dims(y, axis) == np.arange(c).reshape([-1] + [1] * (x.ndim - axis - 1))
    wide = w.reshape([-1] + [1] * (x.ndim - axis - 1))
    good = np.ones(y.shape, bool) if ignore is None else y != ignore
    counts = good if c == 0 else good * w[np.where(good, y, 0)]
    coefficient = np.where(np.expand_dims(good, axis), wide * ((1 - e) * hot + e / max(c, 1)), 0.0)
    return *_sum(coefficient, -logp, size, axis), counts


def _dense(x, q, axis, w=None, e=0.0):
    x, q = _wide(x), _wide(q)
    c = x.shape[axis]
    wide = 1.0 if w is None else _wide(w).reshape([-1] + [1] * (x.ndim - axis - 1))
    logp, size = _log_softmax(x, axis)
    return _sum(np.broadcast_to(wide * ((1 - e) * q + e / max(c, 1)), x.shape), -logp, size, axis)


def _divided(a, count, empty):
    return a / count if count else np.float64(empty)


def _torch_reduced(value, size, reduction, count, size_average=None, reduce=None):
    if size_average is not None or reduce is not None:
        mean = size_average is None or size_average
        reduction = ("mean" if mean else "sum") if reduce is None or reduce else "none"
    if reduction == "none":
        return value, size
    if reduction == "sum":
        return value.sum(), size.sum()
    return _divided(value.sum(), count, np.nan), _divided(size.sum(), np.abs(count), 0)


def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
    reduction="mean", label_smoothing=0.0,
):  # fmt: skip
    x, y, e = np.asarray(input), np.asarray(target), max(label_smoothing, 0.0)
    axis = min(1, x.ndim - 1)
    if y.shape == x.shape:
        value, size = _dense(x, y, axis, weight, e)
        count = x.size / x.shape[axis] if x.shape[axis] else 0
    else:
        y = y.reshape(()) if x.ndim == 1 else y
        value, size, counts = _index(x, y, axis, weight, ignore_index, e)
        count = counts.sum()
    return _torch_reduced(value, size, reduction, count, size_average, reduce)


def linear_cross_entropy(
    input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean",
    ignore_index=None, label_smoothing=0.0, options=None,
):  # fmt: skip
    x, w = _wide(input), _wide(linear_weight)
    flat = w.reshape(-1, w.shape[-1])
    b = np.zeros(len(flat)) if linear_bias is None else _wide(linear_bias).ravel()
    logits = (x @ flat.T + b).reshape(*x.shape[:-1], *w.shape[:-1])
    value, size = cross_entropy(
        logits, target, weight, None, -100 if ignore_index is None else ignore_index, None,
        reduction, label_smoothing,
    )  # fmt: skip
    # A logit is the sum of terms, which the peer adds up in its dtype.
    terms = np.nan_to_num(np.abs(x) @ np.abs(flat).T + np.abs(b)).max(initial=0.0)
    logit = np.nan_to_num(np.abs(logits)).max(initial=0.0)
    return value, size * (1 + x.shape[-1] * terms / np.maximum(logit, 1e-9))


def nll_loss(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
    reduction="mean",
):  # fmt: skip
    x, y = np.asarray(input), np.asarray(target)
    y = y.reshape(()) if x.ndim == 1 else y
    axis = min(1, x.ndim - 1)
    value, size, counts = _index(x, y, axis, weight, ignore_index, logits=False)
    return _torch_reduced(value, size, reduction, counts.sum(), size_average, reduce)


def _logistic(x, z, pw=1.0, u=1.0):
    """(1 - z) log(1 + exp(x)) + pw z log(1 + exp(-x)), times u."""
    x, z, pw, u = (_wide(a) for a in (x, z, pw, u))
    size = np.where(np.isfinite(x), np.abs(x), 0.0)
    no, no_size = _sum(u * (1 - z) * np.ones_like(x), np.logaddexp(0, x), size, ())
    yes, yes_size = _sum(u * pw * z * np.ones_like(x), np.logaddexp(0, -x), size, ())
    return no + yes, no_size + yes_size


def binary_cross_entropy_with_logits(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None
):
    value, size = _logistic(
        input, target, 1.0 if pos_weight is None else pos_weight, 1.0 if weight is None else weight
    )
    return _torch_reduced(value, size, reduction, value.size, size_average, reduce)


def binary_cross_entropy(
    input, target, weight=None, size_average=None, reduce=None, reduction="mean"
):
    p, z, u = _wide(input), _wide(target), 1.0 if weight is None else _wide(weight)
    yes = u * z * np.maximum(np.log(p), -100)
    no = u * (1 - z) * np.maximum(np.log1p(-p), -100)
    value = np.asarray(-(yes + no))
    size = np.asarray(np.abs(yes) + np.abs(no))
    return _torch_reduced(value, size, reduction, value.size, size_average, reduce)


def sparse_softmax_cross_entropy_with_logits(labels, logits, name=None):
    return _index(logits, labels, np.ndim(logits) - 1)[:2]


def softmax_cross_entropy_with_logits(labels, logits, axis=-1, name=None):
    x, q = np.asarray(logits), np.asarray(labels)
    return _dense(x, np.broadcast_to(q, x.shape), axis % x.ndim)


def sigmoid_cross_entropy_with_logits(labels=None, logits=None, name=None):
    return _logistic(logits, labels)


def weighted_cross_entropy_with_logits(labels, logits, pos_weight, name=None):
    pw = _wide(pos_weight)
    shape = np.broadcast_shapes(np.shape(logits), pw.shape)
    return _logistic(*(np.broadcast_to(_wide(a), shape) for a in (logits, labels)), pw)


def compute_weighted_loss(
    losses, weights=1.0, scope=None, loss_collection=None,
    reduction="weighted_sum_by_nonzero_weights", sizes=None,
):  # fmt: skip
    losses = _wide(losses)
    w = np.broadcast_to(_wide(weights), losses.shape)
    value, size = _sum(w, losses, np.abs(losses) if sizes is None else sizes, ())
    if reduction == "none":
        return value, size
    count = {
        "weighted_sum": 1.0, "weighted_mean": w.sum(),
        "weighted_sum_over_batch_size": w.size,
        "weighted_sum_by_nonzero_weights": np.count_nonzero(w),
    }[reduction]  # fmt: skip
    value, size = value.sum(), size.sum()
    return _divided(value, count, 0), _divided(size, abs(count), 0)


def _tf_loss(value, size, weights, reduction):
    return compute_weighted_loss(value, weights, reduction=reduction, sizes=size)


NONZERO = "weighted_sum_by_nonzero_weights"


def tf_sparse_softmax_cross_entropy(
    labels, logits, weights=1.0, scope=None, loss_collection=None, reduction=NONZERO
):
    x, y, w = np.asarray(logits), np.asarray(labels), np.asarray(weights)
    if x.ndim == y.ndim + 2:
        x = x[..., 0]
    if x.ndim == y.ndim:
        y = y[..., 0]
    if w.ndim == y.ndim + 1:
        w = w[..., 0]
    return _tf_loss(*_index(x, y, x.ndim - 1)[:2], w, reduction)


def tf_softmax_cross_entropy(
    onehot_labels, logits, weights=1.0, label_smoothing=0, scope=None, loss_collection=None,
    reduction=NONZERO,
):  # fmt: skip
    e = max(label_smoothing, 0)
    value, size = _dense(logits, onehot_labels, np.ndim(logits) - 1, None, e)
    return _tf_loss(value, size, weights, reduction)


def tf_sigmoid_cross_entropy(
    multi_class_labels, logits, weights=1.0, label_smoothing=0, scope=None, loss_collection=None,
    reduction=NONZERO,
):  # fmt: skip
    e = max(label_smoothing, 0)
    return _tf_loss(
        *_logistic(logits, _wide(multi_class_labels) * (1 - e) + e / 2), weights, reduction
    )


def log_loss(
    labels, predictions, weights=1.0, epsilon=1e-7, scope=None, loss_collection=None,
    reduction=NONZERO,
):  # fmt: skip
    p, z = _wide(predictions), _wide(labels)
    yes = _sum(z, -np.log(p + epsilon), 1.0, ())
    no = _sum(1 - z, -np.log(1 - p + epsilon), 1.0, ())
    return _tf_loss(yes[0] + no[0], yes[1] + no[1], weights, reduction)


def sequence_loss_by_example(logits, targets, weights, average_across_timesteps=True):
    rows = [_index(x, y.reshape(-1), 1)[:2] for x, y in zip(logits, targets, strict=True)]
    w = np.stack([_wide(a) for a in weights])
    value, size = _sum(w, *(np.stack(a) for a in zip(*rows, strict=True)), 0)
    if average_across_timesteps:
        total = np.where(w.sum(0) == 0, 1, w.sum(0))
        value, size = np.where(w.sum(0) == 0, 0, value / total), size / total
    return value, size


def sequence_loss(
    logits, targets, weights, average_across_timesteps=True, average_across_batch=True
):
    value, size = sequence_loss_by_example(logits, targets, weights, average_across_timesteps)
    count = len(targets[0]) if average_across_batch else 1
    return value.sum() / count, size.sum() / count


def _candidates(function):
    """A sampled loss: over the labels' columns, then those of the candidates."""

    def formula(
        weights, biases, labels, inputs, num_sampled, num_classes, num_true=1,
        sampled_values=None, remove_accidental_hits=function == "softmax", seed=None, name=None,
    ):  # fmt: skip
        parts = weights if isinstance(weights, list) else [weights]
        w, b, x = np.concatenate([_wide(p) for p in parts]), _wide(biases), _wide(inputs)
        y, (ids, *expected) = np.asarray(labels), sampled_values
        classes = np.concatenate([y, np.broadcast_to(ids, (len(y), len(ids)))], axis=1)
        true, sampled = (np.log(_wide(a)) for a in expected)
        shift = np.concatenate([true, np.broadcast_to(sampled, (len(y), len(ids)))], axis=1)
        logits = np.einsum("bd,bkd->bk", x, w[classes]) + b[classes] - shift
        size = np.einsum("bd,bkd->bk", np.abs(x), np.abs(w[classes])) + np.abs(b[classes])
        z = np.concatenate([np.full(y.shape, 1 / num_true), np.zeros((len(y), len(ids)))], axis=1)
        if remove_accidental_hits:
            hit = np.concatenate([y < 0, (y[:, :, None] == ids).any(1)], axis=1)
            logits = np.where(hit, -np.inf, logits)
        value, own = _dense(logits, z, 1) if function == "softmax" else _logistic(logits, z)
        if function != "softmax":
            value, own = value.sum(1), own.sum(1)
        return value, own + (size + np.abs(shift)).sum(1)

    return formula


def _sampler(weights):
    """The counts of the labels among ids that may repeat."""

    def formula(
        true_classes, num_true, num_sampled, unique, range_max, seed=None, name=None, **options
    ):
        w = weights(range_max, **options)
        value = num_sampled * w[np.asarray(true_classes)] / w.sum()
        return value, value

    return formula


def _fixed_weights(
    n, vocab_file="", distortion=1.0, num_reserved_ids=0, num_shards=1, shard=0, unigrams=()
):
    reserved = [0.0 for k in range(num_reserved_ids) if k % num_shards == shard]
    kept = [c for k, c in enumerate(unigrams, len(reserved)) if k % num_shards == shard]
    return np.array(reserved + [c**distortion for c in kept])


def compute_accidental_hits(true_classes, sampled_candidates, num_true, seed=None, name=None):
    hits = [
        (row, place, -np.finfo(np.float32).max)
        for row, labels in enumerate(true_classes)
        for label in labels
        for place, k in enumerate(sampled_candidates)
        if k == label
    ]
    value = np.array(hits, np.float64).reshape(-1, 3).T
    return value, np.abs(value)


FORMULAS = {
    "tensorflow.nn.nce_loss": _candidates("sigmoid"),
    "tensorflow.nn.sampled_softmax_loss": _candidates("softmax"),
    "tensorflow.nn.log_uniform_candidate_sampler": _sampler(
        lambda n: np.log((np.arange(n) + 2) / (np.arange(n) + 1))
    ),
    "tensorflow.nn.uniform_candidate_sampler": _sampler(np.ones),
    "tensorflow.nn.learned_unigram_candidate_sampler": _sampler(np.ones),
    "tensorflow.nn.fixed_unigram_candidate_sampler": _sampler(_fixed_weights),
    "tensorflow.nn.compute_accidental_hits": compute_accidental_hits,
    "torch.nn.functional.softmax": _torch_normalizer(softmax),
    "torch.nn.functional.log_softmax": _torch_normalizer(log_softmax),
    "torch.nn.functional.nll_loss": nll_loss,
    "torch.nn.functional.cross_entropy": cross_entropy,
    "torch.nn.functional.linear_cross_entropy": linear_cross_entropy,
    "torch.nn.functional.binary_cross_entropy": binary_cross_entropy,
    "torch.nn.functional.binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "torch.nn.Softmax": _torch_normalizer(softmax),
    "torch.nn.LogSoftmax": _torch_normalizer(log_softmax),
    "torch.nn.NLLLoss": nll_loss,
    "torch.nn.CrossEntropyLoss": cross_entropy,
    "torch.nn.BCELoss": binary_cross_entropy,
    "torch.nn.BCEWithLogitsLoss": binary_cross_entropy_with_logits,
    "tensorflow.nn.softmax": _tf_normalizer(softmax),
    "tensorflow.nn.log_softmax": _tf_normalizer(log_softmax),
    "tensorflow.nn.sigmoid": sigmoid,
    "tensorflow.nn.sparse_softmax_cross_entropy_with_logits": (
        sparse_softmax_cross_entropy_with_logits
    ),
    "tensorflow.nn.softmax_cross_entropy_with_logits": softmax_cross_entropy_with_logits,
    "tensorflow.nn.sigmoid_cross_entropy_with_logits": sigmoid_cross_entropy_with_logits,
    "tensorflow.nn.weighted_cross_entropy_with_logits": weighted_cross_entropy_with_logits,
    "tensorflow.losses.sparse_softmax_cross_entropy": tf_sparse_softmax_cross_entropy,
    "tensorflow.losses.softmax_cross_entropy": tf_softmax_cross_entropy,
    "tensorflow.losses.sigmoid_cross_entropy": tf_sigmoid_cross_entropy,
    "tensorflow.losses.log_loss": log_loss,
    "tensorflow.losses.compute_weighted_loss": compute_weighted_loss,
    "tensorflow.legacy_seq2seq.sequence_loss_by_example": sequence_loss_by_example,
    "tensorflow.legacy_seq2seq.sequence_loss": sequence_loss,
}


def formula(function, *args, **kwargs):
    """The value of a peer's formula, and the sizes of its terms."""
    with np.errstate(all="ignore"):
        value, size = FORMULAS[function](*args, **kwargs)
    return np.asarray(value), np.asarray(size)


@functools.cache
def expected(key):
    """The value of the peer's formula for a case, and the sizes of its terms."""
    case = CASES[key]
    return formula(case.function, *case.args, **case.kwargs, **(case.init or {}))
