"""``fastxent.compat`` against the peers' formulas, for shapes, values and options of any kind.

The recorded cases show that the formulas in ``peers.py`` are the peers'; here they have the last
word where nothing was recorded.
"""

import numpy as np
import peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TF_REDUCTIONS = tuple(dict.fromkeys(peers.REDUCTIONS.values()))
TORCH_REDUCTIONS = ("none", "sum", "mean")
EXAMPLES = settings(max_examples=60, deadline=None)

seeds = st.integers(0, 2**32 - 1)
widths = st.sampled_from(["float32", "float64"])
scales = st.sampled_from([0.0, 0.1, 3.0, 50.0])
sizes = st.integers(0, 4)
classes = st.integers(1, 6)
#: The axes behind the class axis; None: no batch.
places = st.one_of(st.none(), st.lists(st.integers(0, 3), max_size=2))
smoothings = st.sampled_from([0.0, 0.1, 1.0, -0.5])


def _agree(function, *args, **kwargs):
    """Ours and the formula's, to four roundings of terms of the formula's size."""
    got = np.asarray(peers.ours(function)(*args, **kwargs))
    exact, size = peers.formula(function, *args, **kwargs)
    epsilon = max(peers.EPSILON.get(a.dtype.name, 0) for a in args if isinstance(a, np.ndarray))
    limit = 2 * epsilon * size + peers.SMALLEST[got.dtype.name]
    assert peers.near(got, exact, limit), (function, args, kwargs, got, exact)


def _logits(rng, shape, dtype, scale):
    """Normal values, with some at minus infinity."""
    x = np.asarray(rng.normal(0, scale, shape))
    return np.where(rng.random(shape) < 0.1, -np.inf, x).astype(dtype)


def _weights(rng, shape, dtype):
    """Some are 0 and some negative."""
    return np.asarray(rng.integers(-1, 4, shape) / 2).astype(dtype)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@EXAMPLES
@given(seed=seeds, dtype=widths, scale=scales, shape=st.lists(sizes, min_size=1, max_size=4))
def test_normalizers(name, seed, dtype, scale, shape):
    x = _logits(np.random.default_rng(seed), shape, dtype, scale)
    for axis in range(-len(shape), len(shape)):
        _agree(f"torch.nn.functional.{name}", x, axis)
        _agree(f"tensorflow.nn.{name}", x, axis)


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, n=sizes, c=classes, rest=places, e=smoothings,
    weighted=st.booleans(), ignored=st.booleans(), reduction=st.sampled_from(TORCH_REDUCTIONS),
)  # fmt: skip
def test_torch_index(seed, dtype, scale, n, c, rest, e, weighted, ignored, reduction):
    rng = np.random.default_rng(seed)
    shape = (c,) if rest is None else (n, c, *rest)
    x = _logits(rng, shape, dtype, scale)
    y = np.asarray(rng.integers(0, c, () if rest is None else (n, *rest)))
    options = {"reduction": reduction, "weight": _weights(rng, c, dtype) if weighted else None}
    if ignored and y.size:
        options["ignore_index"] = int(y.flat[0])
    # The sum of the weights of the labels may be 0 where their losses' is not: see DIFFERENCES.
    if weighted and reduction == "mean":
        options["weight"] = np.abs(options["weight"])
    _agree("torch.nn.functional.cross_entropy", x, y, label_smoothing=e, **options)
    _agree("torch.nn.functional.nll_loss", -np.abs(x), y, **options)


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, n=sizes, c=classes, rest=places, e=smoothings,
    weighted=st.booleans(), reduction=st.sampled_from(TORCH_REDUCTIONS),
)  # fmt: skip
def test_torch_dense(seed, dtype, scale, n, c, rest, e, weighted, reduction):
    rng = np.random.default_rng(seed)
    shape = (c,) if rest is None else (n, c, *rest)
    x = _logits(rng, shape, dtype, scale)
    q = np.abs(_weights(rng, shape, dtype))
    w = np.abs(_weights(rng, c, dtype)) if weighted else None
    name = "torch.nn.functional.cross_entropy"
    _agree(name, x, q, w, reduction=reduction, label_smoothing=e)


def _part(rng, shape):
    """A shape that broadcasts to another one."""
    some = [n if rng.random() < 0.5 else 1 for n in shape]
    return tuple(some[rng.integers(0, len(shape) + 1) :])


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, shape=st.lists(sizes, max_size=3),
    weighted=st.booleans(), positive=st.booleans(), reduction=st.sampled_from(TORCH_REDUCTIONS),
)  # fmt: skip
def test_torch_binary(seed, dtype, scale, shape, weighted, positive, reduction):
    rng = np.random.default_rng(seed)
    x = _logits(rng, shape, dtype, scale)
    p, z = (np.asarray(rng.integers(0, 5, shape) / 4).astype(dtype) for _ in range(2))
    options = {"reduction": reduction}
    if weighted:
        options["weight"] = np.abs(_weights(rng, _part(rng, shape), dtype))
    _agree("torch.nn.functional.binary_cross_entropy", p, z, **options)
    if positive:
        options["pos_weight"] = np.abs(_weights(rng, _part(rng, shape), dtype))
    _agree("torch.nn.functional.binary_cross_entropy_with_logits", x, z, **options)


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, shape=st.lists(sizes, max_size=3), c=classes,
    axis=st.integers(0, 3),
)  # fmt: skip
def test_tensorflow_nn(seed, dtype, scale, shape, c, axis):
    rng = np.random.default_rng(seed)
    axis = min(axis, len(shape))
    x = _logits(rng, (*shape, c), dtype, scale)
    _agree("tensorflow.nn.sparse_softmax_cross_entropy_with_logits", rng.integers(0, c, shape), x)
    q = np.abs(_weights(rng, x.shape, dtype))
    a, b = (np.ascontiguousarray(np.moveaxis(v, -1, axis)) for v in (q, x))
    _agree("tensorflow.nn.softmax_cross_entropy_with_logits", a, b, axis)
    one = np.abs(_weights(rng, c, dtype))
    _agree("tensorflow.nn.softmax_cross_entropy_with_logits", one, x)
    _agree("tensorflow.nn.sigmoid_cross_entropy_with_logits", q, x)
    _agree("tensorflow.nn.sigmoid", x)
    pw = np.abs(_weights(rng, _part(rng, (2, *x.shape)), dtype))
    _agree("tensorflow.nn.weighted_cross_entropy_with_logits", q, x, pw)


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, shape=st.lists(sizes, max_size=3), c=classes,
    e=smoothings, scalar=st.booleans(), reduction=st.sampled_from(TF_REDUCTIONS),
)  # fmt: skip
def test_tensorflow_losses(seed, dtype, scale, shape, c, e, scalar, reduction):
    rng = np.random.default_rng(seed)

    def weights():
        some = () if scalar else [n if rng.random() < 0.7 else 1 for n in shape]
        return np.abs(_weights(rng, some, "float32"))

    losses, r = "tensorflow.losses.", {"reduction": reduction}
    x = _logits(rng, (*shape, c), dtype, scale)
    q = np.abs(_weights(rng, x.shape, dtype))
    y = rng.integers(0, c, shape)
    _agree(losses + "sparse_softmax_cross_entropy", y, x, weights(), **r)
    _agree(losses + "softmax_cross_entropy", q, x, weights(), e, **r)
    z, x = (
        np.asarray(rng.integers(0, 3, shape) / 2).astype(dtype),
        _logits(rng, shape, dtype, scale),
    )
    _agree(losses + "sigmoid_cross_entropy", z, x, weights(), e, **r)
    _agree(losses + "compute_weighted_loss", x, weights(), **r)
    p = np.asarray(rng.random(shape)).astype(dtype)
    _agree(losses + "log_loss", z, p, weights(), **r)


@EXAMPLES
@given(
    seed=seeds, dtype=widths, scale=scales, steps=st.integers(1, 4), b=st.integers(1, 4),
    c=classes, time=st.booleans(), batch=st.booleans(),
)  # fmt: skip
def test_sequences(seed, dtype, scale, steps, b, c, time, batch):
    rng = np.random.default_rng(seed)
    x = [rng.normal(0, scale, (b, c)).astype(dtype) for _ in range(steps)]
    y = [rng.integers(0, c, b) for _ in x]
    w = [np.abs(_weights(rng, b, dtype)) for _ in x]
    for name, options in (("sequence_loss_by_example", (time,)), ("sequence_loss", (time, batch))):
        function = f"tensorflow.legacy_seq2seq.{name}"
        got = peers.ours(function)(x, y, w, *options)
        exact, size = peers.formula(function, x, y, w, *options)
        assert got.dtype == dtype
        assert peers.near(got, exact, 2 * peers.EPSILON[dtype] * size)
