"""One call of the library beside its exact answer, for rows of scores."""

import functools

import data
import numpy as np
import oracle

import fastxent as fx
from fastxent._spec import SPECS


@functools.cache
def rows(dtype, n, c, name="sparse_softmax_cross_entropy", seed=0):
    """Scores and labels of one test set, read-only and shared."""
    x = scores_for(name, dtype, n, c, seed)
    y = labels_for(name, x, seed)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def scores_for(name, dtype, n, c, seed=0):
    if name == "binary_cross_entropy":
        return data.probabilities(n, c, dtype, seed)
    return data.logits(n, c, dtype, seed)


def labels_for(name, x, seed=0):
    """Labels of any loss; index labels for a function that takes none."""
    make = {"dense": data.dense_labels, "binary": data.binary_labels}
    return make.get(SPECS[name].family, data.index_labels)(x, seed)


def scores_argument(name):
    """What the first argument of a loss is called."""
    return {"nll_loss": "log_probs", "binary_cross_entropy": "probs"}.get(name, "logits")


def indexed(name):
    """Do its labels pick a class each."""
    return SPECS[name].family in ("index", "picked", "linear")


def only(name, **options):
    """Those of the options that the function has."""
    own = SPECS[name].options + ("axis",) * SPECS[name].has_classes
    return {option: value for option, value in options.items() if option in own}


def losses_shape(name, x, axis=-1):
    """The shape of the unreduced losses of scores."""
    return tuple(np.delete(x.shape, axis)) if SPECS[name].has_classes else x.shape


def ramp(name, x, low=-1.0, high=2.0):
    """Numbers of both signs in the shape of the losses, to be an upstream gradient."""
    shape = losses_shape(name, x)
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def weights_for(name, x, seed=0):
    """Sample weights in the shape of the losses."""
    shape = losses_shape(name, x)
    return data.sample_weights(int(np.prod(shape)), seed).reshape(shape)


def function(name):
    return getattr(fx, name)


def with_grad(name):
    return getattr(fx, f"{name}_with_grad")


def value_dtype(name, dtype):
    """The dtype of a function's value for logits of ``dtype``."""
    wide = SPECS[name].is_loss or name == "logsumexp"
    return oracle.computing(dtype) if wide else dtype


def same(a, b):
    """Equal entry by entry, NaN to NaN.  (NumPy does not know bfloat16's NaN.)"""
    a, b = (np.asarray(v) for v in (a, b))
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64))


_EXACT = {}


def _key(v):
    if isinstance(v, np.ndarray):
        return v.shape, v.dtype.str, v.dtype.name, v.tobytes()
    return v


def exact(name, x, labels, **options):
    """The oracle's answer, remembered: every backend asks the same questions."""
    family = SPECS[name].family
    kind = (scores_argument(name),) if family == "binary" else ()
    ask = {"picked": oracle.picked, "binary": oracle.binary}.get(family, oracle.cross_entropy)
    key = (ask, kind, _key(x), _key(labels), *((k, _key(v)) for k, v in sorted(options.items())))
    if key not in _EXACT:
        _EXACT[key] = ask(*kind, x, labels, **options)
    return _EXACT[key]


_NORMS = {}


def exact_normalizer(name, x, where=None):
    """The exact value, and what the function's budget is measured by: scale and gap."""
    if SPECS[name].family == "activation":
        key = name, _key(x)
        if key not in _NORMS:
            _NORMS[key] = oracle.activation(name, x)
        return _NORMS[key], {}
    key = _key(x), _key(where)
    if key not in _NORMS:
        _NORMS[key] = oracle.normalize(x, where)
    norm = _NORMS[key]
    value = getattr(norm, name)
    if name == "softmax":
        return value, {"scale": norm.top[:, None]}
    if name == "log_softmax":
        return value, {"gap": gaps(x, where)}
    with np.errstate(invalid="ignore"):
        scale = np.maximum(np.abs(norm.maximum), np.abs(norm.logsumexp.hi))
    return value, {"scale": np.where(np.isfinite(scale), scale, 0)}


def gaps(x, where):
    """-log_softmax is the loss of each class: the gap counts where that class is the largest."""
    wide = x.astype(np.float64)
    if where is not None:
        wide = np.where(where, wide, -np.inf)
    ordered = np.sort(np.pad(wide, ((0, 0), (1, 0)), constant_values=-np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        gap = ordered[:, -1] - ordered[:, -2]
    return np.where(wide == ordered[:, -1:], np.nan_to_num(gap)[:, None], 0.0)


def value_limit(name, dtype, exact_loss):
    """The largest allowed error of each unreduced loss."""
    return oracle.allowed(
        SPECS[name].budgets["value"],
        exact_loss.losses,
        dtype,
        gap=exact_loss.gap,
        magnitude=np.where(np.isfinite(exact_loss.magnitude), exact_loss.magnitude, 0),
    )


def reduced_limit(name, dtype, exact_loss):
    """The errors of the losses added up, and one rounding of the result."""
    total = value_limit(name, dtype, exact_loss).sum() / abs(exact_loss.denominator or 1)
    return total + oracle.ulp(exact_loss.value.hi, oracle.computing(dtype))


def grad_limit(name, dtype, exact_loss, *, labels=None, plain=False, out_dtype=None):
    """The largest allowed error of each gradient entry.

    ``labels`` (with ``plain``: neither smoothing nor z-loss) picks the entries that have
    the stricter budget of the label's own entry.
    """
    budgets = SPECS[name].budgets
    narrow = dtype if out_dtype is None else out_dtype
    scale = exact_loss.scale
    scale = scale if scale.shape == exact_loss.grad.hi.shape else scale[:, None]
    limit = oracle.allowed(budgets["grad"], exact_loss.grad, dtype, scale=scale, out_dtype=narrow)
    if "label_entry" in budgets and plain:
        entry = oracle.allowed(
            budgets["label_entry"],
            exact_loss.grad,
            dtype,
            gap=exact_loss.gap[:, None],
            out_dtype=narrow,
        )
        hot = np.arange(limit.shape[1]) == np.asarray(labels)[:, None]
        limit = np.where(hot, entry, limit)
    return limit


def assert_loss(got, name, dtype, exact_loss, what=""):
    """Value of any reduction within its budget, and of the right type."""
    limit = value_limit if np.ndim(exact_loss.value.hi) else reduced_limit
    assert np.asarray(got).dtype == np.dtype(oracle.computing(dtype))
    oracle.assert_within(got, exact_loss.value, limit(name, dtype, exact_loss), f"{name} {what}")


def assert_grad(got, name, dtype, exact_loss, *, labels=None, plain=False, out_dtype=None, what=""):
    assert got.dtype.name == (out_dtype or dtype)
    limit = grad_limit(name, dtype, exact_loss, labels=labels, plain=plain, out_dtype=out_dtype)
    oracle.assert_within(got, exact_loss.grad, limit, f"gradient of {name} {what}")
