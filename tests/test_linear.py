"""Linear cross entropy: every way of cutting the logits against the formula in float64."""

import os
import subprocess
import sys
import threading

import data
import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

import fastxent as fx
from fastxent import linear
from fastxent._spec import REDUCTIONS, SPECS

N, D, C = 61, 7, 103

#: What to set so that small problems are cut: (bytes, fewest rows, most rows).
TILES = {
    "one": (16_000_000, 384, 2048),  # all at once
    "rows": (20_000, 4, 2048),  # some rows with all their classes
    "classes": (20_000, 384, 2048),  # all rows with some classes
    "both": (9_000, 384, 20),
}


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread():
    """OpenBLAS on a busy machine: 70 ms instead of 1 ms for each of these small products."""
    with threadpool_limits(1, user_api="blas"):
        yield


def cut(patch, tiles):
    patch.setattr(linear, "_SHARE", 0.0)
    for name, value in zip(("_LEAST", "_FEW_ROWS", "_MANY_ROWS"), TILES[tiles]):
        patch.setattr(linear, name, value)


@pytest.fixture(params=TILES)
def tiles(request, monkeypatch):
    """Tiles of another form."""
    cut(monkeypatch, request.param)
    return request.param


@pytest.fixture(params=["one", "both"])
def two_tiles(request, monkeypatch):
    """All at once, and cut both ways."""
    cut(monkeypatch, request.param)
    return request.param


def problem(dtype="float64", seed=0, n=N, d=D, c=C):
    random = data.rng(seed)
    dtype = data.dtype_of(dtype)
    x, weight = (random.standard_normal(shape).astype(dtype) for shape in ((n, d), (c, d)))
    return x, weight, random.integers(0, c, n)


#: Name -> options of a call, given the numbers of rows and classes.
OPTIONS = {
    "plain": lambda n, c: {},
    "bias": lambda n, c: {"bias": np.linspace(-1, 1, c)},
    "weights": lambda n, c: {
        "sample_weight": data.sample_weights(n),
        "class_weight": data.class_weights(c),
    },
    "signed": lambda n, c: {"sample_weight": np.linspace(-1, 2, n), "ignore_index": 3},
    "smoothing": lambda n, c: {"label_smoothing": 0.2, "class_weight": data.class_weights(c)},
    "only smoothing": lambda n, c: {"label_smoothing": 1.0, "bias": np.linspace(0, 1, c)},
    "z_loss": lambda n, c: {"z_loss": 1e-2},
    "all": lambda n, c: {
        "bias": np.linspace(-1, 1, c),
        "sample_weight": data.sample_weights(n),
        "class_weight": data.class_weights(c),
        "ignore_index": 5,
        "label_smoothing": 0.1,
        "z_loss": 1e-3,
    },
}


def statement(
    x, weight, labels, *, bias=None, sample_weight=1.0, class_weight=None, ignore_index=None,
    label_smoothing=0.0, z_loss=0.0, reduction="none", upstream=1.0, dtype="float64",
):  # fmt: skip
    """Loss and gradients in float64 from all logits, and how far off a result may be."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    (n, d), c, e, t = x.shape, len(weight), label_smoothing, z_loss
    b = np.zeros(c) if bias is None else np.asarray(bias, np.float64)
    w = np.ones(c) if class_weight is None else class_weight
    u = np.broadcast_to(sample_weight, n) * (labels != ignore_index)
    z = x @ weight.T + b
    m = z.max(1, keepdims=True)
    lse = (m + np.log(np.exp(z - m).sum(1, keepdims=True))).ravel()
    p = np.exp(z - lse[:, None])
    q = w * ((1 - e) * np.eye(c)[labels] + e / c)
    terms = q * (lse[:, None] - z)
    losses = u * (terms.sum(1) + t * lse**2)
    count = {
        "mean": (u * w[labels]).sum(), "size_mean": n, "nonzero_mean": np.count_nonzero(u)
    }.get(reduction, 1)  # fmt: skip
    loss = losses if reduction == "none" else losses.sum() / count
    g = u * upstream / count
    a = q.sum(1) + 2 * t * lse
    grad = g[:, None] * (a[:, None] * p - q)

    budget = SPECS["linear_cross_entropy"].budgets["grad"]
    unit = budget.floor64 if dtype == "float64" else budget.floor32
    off = unit * d * (np.abs(x) @ np.abs(weight).T + np.abs(b)).max(1)  # of a logit
    loss_off = np.abs(u) * (2 * off * (np.abs(q).sum(1) + np.abs(t * lse)))
    loss_off += 8 * unit * np.abs(u) * (np.abs(terms).sum(1) + np.abs(t) * lse**2)
    slope = (np.abs(a) + 2 * abs(t)) * (2 * off + 8 * unit)
    grad_off = np.abs(g)[:, None] * (slope[:, None] * (p + 1e-9) + 8 * unit * np.abs(q))
    grad_off += np.abs(g * a * p.max(1))[:, None] * 2 * unit

    def product(a, b, a_off):
        return a @ b, a_off @ np.abs(b) + (a.shape[1] + 8) * unit * (np.abs(a) @ np.abs(b))

    if reduction != "none":
        loss_off = loss_off.sum() / abs(count) + 4 * unit * abs(loss)
    return {
        "loss": (loss, loss_off),
        "inputs": product(grad, weight, grad_off),
        "weight": product(grad.T, x, grad_off.T),
        "bias": product(grad.T, np.ones(n), grad_off.T),
    }


def assert_close(loss, grads, expected, narrow=None, sums=1):
    """Every result within its limit, rounded once more to half precision where it is that."""
    for name, got in {"loss": loss, **grads._asdict()}.items():
        if got is None:
            continue
        value, limit = expected[name]
        got = np.asarray(got)
        assert got.shape == value.shape, name
        if narrow is not None and name != "loss" and got.dtype.itemsize == 2:
            limit = limit + narrow * np.abs(value) + 1e-7
        excess = np.abs(got.astype(np.float64) - value) - limit
        assert (excess <= 0).all(), f"{name}: off by {excess.max():.3g} more than allowed"


# ---- values and gradients --------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient(backend, dtype, tiles, options):
    x, weight, y = problem(dtype)
    y[:4] = 3, 3, 5, 5
    options = OPTIONS[options](N, C)
    if "bias" in options:
        options["bias"] = options["bias"].astype(dtype)
    for reduction, upstream in (("none", np.linspace(-1, 2, N)), ("mean", 3.0)):
        options["reduction"] = reduction
        expected = statement(x, weight, y, upstream=upstream, dtype=dtype, **options)
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, upstream=upstream, **options)
        assert isinstance(grads, fx.LinearGradients)
        assert (grads.bias is None) == ("bias" not in options)
        for a in (loss, *(a for a in grads if a is not None)):
            assert a.dtype == dtype
        assert_close(loss, grads, expected)
        loss = fx.linear_cross_entropy(x, weight, y, **options)
        assert_close(loss, grads, expected)


def test_one_class_at_a_time(monkeypatch):
    monkeypatch.setitem(TILES, "narrow", (300, 384, 7))
    cut(monkeypatch, "narrow")
    x, weight, y = problem("float32")
    options = OPTIONS["all"](N, C)
    expected = statement(x, weight, y, dtype="float32", **options)
    assert_close(*fx.linear_cross_entropy_with_grad(x, weight, y, **options), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(backend, two_tiles, reduction):
    x, weight, y = problem()
    options = {**OPTIONS["all"](N, C), "reduction": reduction}
    expected = statement(x, weight, y, **options)
    loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, **options)
    assert np.shape(loss) == ((N,) if reduction == "none" else ())
    assert_close(loss, grads, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half(backend, dtype, two_tiles):
    x, weight, y = problem(dtype)
    bias = np.linspace(-1, 1, C).astype(x.dtype)
    for options in ({}, {"bias": bias}, {"ignore_index": int(y[0]), "bias": bias}):
        expected = statement(x, weight, y, dtype="float32", **options)
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, **options)
        assert loss.dtype == np.float32
        assert all(a.dtype == x.dtype for a in grads if a is not None)
        assert_close(loss, grads, expected, {"float16": 2**-11, "bfloat16": 2**-8}[dtype])


def test_dtypes_are_mixed(tiles):
    """Computed in the result type; each gradient in its array's, float64 for integers."""
    x, weight, y = problem()
    whole = np.rint(x * 3)
    expected = statement(whole, weight.astype(np.float32), y)
    for dtype in ("int8", "float32", "float64", ">f8", ">f4"):
        a, b = whole.astype(dtype), weight.astype(np.float32)
        loss, grads = fx.linear_cross_entropy_with_grad(a, b, y)
        wide = a.dtype == np.float64 or dtype == ">f8"
        assert loss.dtype == (np.float64 if wide else np.float32)
        assert grads.inputs.dtype == {"int8": "f8", ">f8": "f8", ">f4": "f4"}.get(dtype, dtype)
        assert grads.weight.dtype == np.float32
        np.testing.assert_allclose(loss, expected["loss"][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(grads.inputs, expected["inputs"][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(grads.weight, expected["weight"][0], rtol=1e-4, atol=1e-5)
    loss, grads = fx.linear_cross_entropy_with_grad(
        whole.astype(int), np.rint(weight).astype(np.int16), y, bias=np.arange(C) % 3
    )
    assert [a.dtype for a in (loss, *grads)] == [np.float64] * 4
    assert fx.linear_cross_entropy(x.astype("f4"), weight.astype("f2"), y).dtype == np.float32
    assert fx.linear_cross_entropy(x.astype("f4"), weight.astype("f4"), y).dtype == np.float32
    bias = np.zeros(C)
    assert fx.linear_cross_entropy(
        x.astype("f4"), weight.astype("f4"), y, bias=bias
    ).dtype == np.float64  # fmt: skip


@pytest.mark.parametrize("options", ["plain", "all"])
def test_finite_differences(backend, two_tiles, options):
    """The slope of the loss along random directions of all three arrays at once."""
    x, weight, y = problem(n=23, c=41)
    options = {"bias": np.linspace(-1, 1, 41), **OPTIONS[options](23, 41), "reduction": "mean"}
    bias = options.pop("bias")
    _, grads = fx.linear_cross_entropy_with_grad(x, weight, y, bias=bias, **options)
    h = 1e-5
    for seed in range(4):
        steps = [data.rng(seed).choice([-1.0, 1.0], a.shape) for a in (x, weight, bias)]

        def f(s, steps=steps):
            a, b, c = (v + s * d for v, d in zip((x, weight, bias), steps))
            return fx.linear_cross_entropy(a, b, y, bias=c, **options)

        slope = sum((g * d).sum() for g, d in zip(grads, steps))
        np.testing.assert_allclose(slope, (f(h) - f(-h)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_confident_rows_keep_their_digits(backend, two_tiles):
    """The label far above all others, in float32: 1 - p would be 0."""
    x = np.array([[1.0], [2.0]], np.float32)
    weight = np.full((C, 1), -20, np.float32)
    weight[7] = 0
    loss, grads = fx.linear_cross_entropy_with_grad(x, weight, [7, 7])
    exact = np.log1p(102 * np.exp(-20 * x.ravel().astype(float)))
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    others = 102 * np.exp([-20.0, -40.0])
    np.testing.assert_allclose(grads.weight[7, 0], -(others * [1, 2]).sum(), rtol=1e-6)


def test_shapes(tiles):
    x, weight, y = problem(n=60)
    plain, plain_grads = fx.linear_cross_entropy_with_grad(x, weight, y)
    for shape in ((3, 20), (2, 3, 10), (60, 1)):
        loss, grads = fx.linear_cross_entropy_with_grad(
            x.reshape(*shape, D), weight, y.reshape(shape)
        )
        np.testing.assert_array_equal(loss, plain.reshape(shape))
        np.testing.assert_array_equal(grads.inputs, plain_grads.inputs.reshape(*shape, D))
        np.testing.assert_array_equal(grads.weight, plain_grads.weight)
    one, grads = fx.linear_cross_entropy_with_grad(x[0], weight, y[0])
    assert one.shape == ()
    assert grads.inputs.shape == (D,)
    np.testing.assert_allclose(one, plain[0], rtol=1e-13)
    expected = statement(x, weight, y, sample_weight=np.repeat([1.0, 0, 2], 20))
    loss, grads = fx.linear_cross_entropy_with_grad(
        x.reshape(3, 20, D), weight, y.reshape(3, 20), sample_weight=[[1], [0], [2]]
    )
    assert_close(loss.ravel(), grads._replace(inputs=grads.inputs.reshape(60, D)), expected)


#: Name -> an array seen another way, with the same numbers.
VIEWS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "rows": lambda a: np.repeat(a, 3, axis=0)[::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(
        a.shape
    ),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_layouts(tiles, view):
    x, weight, y = problem("float32")
    expected = statement(x, weight, y, dtype="float32")
    assert_close(
        *fx.linear_cross_entropy_with_grad(VIEWS[view](x), VIEWS[view](weight), y), expected
    )
    # and of the arrays that receive the gradients
    if view in ("fortran", "strided", "rows", "reversed", "swapped"):
        out = [VIEWS[view](np.empty_like(a)) for a in (x, weight)]
        if view == "swapped":
            x, weight = VIEWS[view](x), VIEWS[view](weight)
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=(*out, None))
        assert grads.inputs is out[0]
        assert grads.weight is out[1]
        assert_close(loss, grads, expected)
    if view in ("strided", "reversed"):
        cube = VIEWS[view](np.empty((60, D), "f4")).reshape(60, 1, D).swapaxes(0, 1)
        loss, grads = fx.linear_cross_entropy_with_grad(
            x[None, :60], weight, y[None, :60], grad_out=(cube, None, None)
        )
        assert grads.inputs is cube
        np.testing.assert_allclose(cube[0], expected["inputs"][0][:60], rtol=1e-4, atol=1e-5)


def test_given_arrays(tiles):
    x, weight, y = problem("float32")
    bias = np.zeros(C, "f4")
    plain, fresh = fx.linear_cross_entropy_with_grad(x, weight, y, bias=bias)
    out = fx.LinearGradients(*(np.full_like(a, np.nan) for a in (x, weight, bias)))
    loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, bias=bias, grad_out=out)
    for a, b, c in zip(grads, out, fresh):
        assert a is b
        np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(loss, plain)
    _, grads = fx.linear_cross_entropy_with_grad(
        x, weight, y, bias=bias, grad_out=(None, out.weight, None)
    )
    assert grads.weight is out.weight


# ---- absent rows and special values ----------------------------------------------------------


def test_absent_rows_are_not_read(backend, two_tiles):
    """Ignored, of weight 0, or of a class of weight 0: NaN inside, exactly nothing outside."""
    x, weight, y = problem("float32")
    w = np.ones(C)
    w[9] = 0
    u = np.ones(N)
    u[:10] = 0
    y[10:20], y[20:25] = -1, 9
    y[:10] = 10**6  # not checked: of weight 0
    gone = np.arange(N) < 25
    options = {"sample_weight": u, "class_weight": w, "ignore_index": -1}
    clean = np.where(gone, 0, y)
    expected = statement(
        x, weight, clean, class_weight=w, sample_weight=np.where(gone, 0, 1), dtype="float32"
    )
    for rubbish in (np.nan, np.inf, -np.inf):
        x[gone] = rubbish
        with np.errstate(all="raise"):
            loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, **options)
            alone = fx.linear_cross_entropy(x, weight, y, **options)
        assert_close(loss, grads, expected)
        assert not loss[gone].any()
        assert not alone[gone].any()
        assert not grads.inputs[gone].any()
    # With smoothing or a z-loss a class of weight 0 does not make its rows absent.
    for option in ({"label_smoothing": 0.1}, {"z_loss": 0.1}):
        loss = fx.linear_cross_entropy(x, weight, y, **options, **option)
        assert np.isnan(loss[20:25]).all()
        assert not loss[:20].any()


def test_only_absent_rows(backend, two_tiles):
    x, weight, y = np.full((N, D), np.nan), np.full((C, D), np.nan), np.full(N, -7)
    for options in ({"ignore_index": -7}, {"sample_weight": 0}):
        for reduction in REDUCTIONS:
            with np.errstate(all="raise"):
                loss, grads = fx.linear_cross_entropy_with_grad(
                    x, weight, y, bias=np.zeros(C), reduction=reduction, **options
                )
            if reduction in ("mean", "nonzero_mean"):
                assert np.isnan(loss)
            else:
                assert not np.any(loss)
            assert not any(a.any() for a in grads)


def test_nan_stays_in_its_row(backend, two_tiles):
    x, weight, y = problem("float32")
    x[5, 2] = np.nan
    with np.errstate(all="raise"):
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y)
    assert np.isnan(loss).tolist() == (np.arange(N) == 5).tolist()
    assert np.isnan(grads.inputs).any(1).tolist() == (np.arange(N) == 5).tolist()
    assert np.isnan(grads.weight).all()  # its row belongs to every class


def test_upstream_zero(backend, two_tiles):
    """The gradient of such a row is exactly 0, also of a NaN row; its loss is as it is."""
    x, weight, y = problem("float32")
    upstream = np.ones(N)
    upstream[:9] = 0
    expected = statement(x, weight, y, upstream=upstream, dtype="float32")
    x[5] = np.nan
    with np.errstate(all="raise"):
        loss, grads = fx.linear_cross_entropy_with_grad(
            x, weight, y, bias=np.zeros(C, "f4"), upstream=upstream
        )
    assert np.isnan(loss[5])
    assert np.isfinite(np.delete(loss, 5)).all()
    loss[5] = expected["loss"][0][5]
    assert_close(loss, grads, expected)
    assert not grads.inputs[:9].any()
    broken = weight.copy()
    broken[3] = np.nan
    _, grads = fx.linear_cross_entropy_with_grad(x, broken, y, upstream=upstream)
    assert not grads.inputs[:9].any()
    assert np.isnan(grads.inputs[9:]).all()
    for zero in ({"reduction": "sum", "upstream": 0}, {"reduction": "mean", "upstream": 0.0}):
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, **zero)
        assert np.isnan(loss)
        assert not grads.inputs.any()
        assert not grads.weight.any()


def test_classes_switched_off_by_their_bias(backend, two_tiles):
    """-inf: probability 0 and no gradient; on the label the loss is +inf, the gradient finite."""
    x, weight, y = problem("float32")
    off = np.arange(C) % 5 == 1
    y = np.where(np.arange(N) < 8, 6, np.where(off[y], 0, y))
    bias = np.where(off, -np.inf, 0).astype("f4")
    with np.errstate(all="raise"):
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, bias=bias)
    assert (loss[:8] == np.inf).all()
    some = statement(
        x[8:], weight[~off], (np.cumsum(~off) - 1)[y[8:]], dtype="float32"
    )  # fmt: skip
    assert (np.abs(loss[8:] - some["loss"][0]) <= some["loss"][1]).all()
    assert all(np.isfinite(a).all() for a in grads)
    assert grads.bias[6] == -8
    assert not grads.bias[off & (np.arange(C) != 6)].any()
    # All of them: no softmax.
    loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, bias=np.full(C, -np.inf, "f4"))
    assert np.isnan(loss).all()
    assert np.isnan(grads.inputs).all()
    on = np.where(off, np.inf, 0).astype("f4")
    assert np.isnan(fx.linear_cross_entropy(x, weight, y, bias=on)).all()
    loss, grads = fx.linear_cross_entropy_with_grad(x[8:9], weight, y[8:9], bias=on)
    assert np.isnan(loss).all()
    assert all(np.isnan(a).all() for a in grads)  # of the label too


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing(backend, reduction):
    x, weight = np.empty((0, D), "f4"), np.ones((C, D), "f4")
    with np.errstate(all="raise"):
        loss, grads = fx.linear_cross_entropy_with_grad(x, weight, [], reduction=reduction)
    assert np.shape(loss) == ((0,) if reduction == "none" else ())
    if reduction != "none":
        assert np.isnan(loss) == ("mean" in reduction)
    assert grads.inputs.shape == (0, D)
    assert not grads.weight.any()
    # No features: the bias alone.
    bias = np.linspace(0, 1, C)
    loss, grads = fx.linear_cross_entropy_with_grad(
        np.empty((2, 0)), np.empty((C, 0)), [0, 1], bias=bias
    )
    np.testing.assert_allclose(loss, fx.logsumexp(bias) - bias[:2])
    assert grads.weight.shape == (C, 0)
    np.testing.assert_allclose(grads.bias.sum(), 0, atol=1e-12)


# ---- sparse inputs ---------------------------------------------------------------------------


def sparse_problem(dtype="float64"):
    x, weight, y = problem(dtype)
    return np.where(data.rng(3).random(x.shape) < 0.4, x, 0).astype(dtype), weight, y


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix], ids=lambda m: m.__name__)
@pytest.mark.parametrize("options", ["plain", "bias", "signed", "all"])
def test_csr(backend, two_tiles, make, options):
    x, weight, y = sparse_problem()
    options = OPTIONS[options](N, C)
    upstream = np.linspace(0, 2, N)  # of the first row 0
    expected = statement(x, weight, y, upstream=upstream, **options)
    loss, grads = fx.linear_cross_entropy_with_grad(
        make(x), weight, y, upstream=upstream, **options
    )
    assert grads.inputs is None
    assert_close(loss, grads, expected)
    assert_close(fx.linear_cross_entropy(make(x), weight, y, **options), grads, expected)


def test_csr_absent_rows_and_dtypes(tiles):
    x, weight, y = sparse_problem("float32")
    expected = statement(x, weight, y, sample_weight=np.arange(N) % 2, dtype="float32")
    a = sparse.csr_array(x)
    a.data[np.repeat(np.arange(N) % 2 == 0, np.diff(a.indptr))] = np.nan
    loss, grads = fx.linear_cross_entropy_with_grad(a, weight, y, sample_weight=np.arange(N) % 2)
    assert loss.dtype == np.float32
    assert_close(loss, grads, expected)
    # Upstream 0: the row's loss is NaN, its gradient 0.
    loss, grads = fx.linear_cross_entropy_with_grad(a, weight, y, upstream=np.arange(N) % 2.0)
    assert np.isnan(loss).sum() > 20
    assert np.isfinite(grads.weight).all()
    counts = sparse.csr_array(np.rint(3 * x).astype(np.int64))
    loss, grads = fx.linear_cross_entropy_with_grad(counts, weight, y)
    assert (loss.dtype, grads.weight.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(
        loss, fx.linear_cross_entropy(counts.toarray(), weight, y), rtol=1e-12
    )
    # The caller's matrix is left alone.
    assert np.isnan(a.data).any()


def test_scipy_is_not_imported():
    code = (
        "import sys, numpy as np, fastxent as fx;"
        "fx.linear_cross_entropy_with_grad(np.eye(3), np.eye(3), [0, 1, 2]);"
        "print(any(m.partition('.')[0] == 'scipy' for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# ---- threads and memory ----------------------------------------------------------------------


@pytest.mark.parametrize("tiles", ["one", "classes"])
def test_threads(backend, tiles, monkeypatch):
    """The same bits for any number of our threads, and for calls beside each other."""
    cut(monkeypatch, tiles)
    if tiles == "classes":
        monkeypatch.setattr(linear, "_LEAST", 1_000_000)
    x, weight, y = problem("float32", n=700, d=16, c=1300)
    options = {**OPTIONS["all"](700, 1300), "reduction": "mean"}
    options["bias"] = options["bias"].astype("f4")

    def call(threads):
        with fx.config(backend=backend, threads=threads):
            loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, **options)
        return loss.tobytes(), *(a.tobytes() for a in grads)

    first = call(1)
    assert all(call(threads) == first for threads in (2, 3, 7))
    results = []
    workers = [threading.Thread(target=lambda: results.append(call(2))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [first] * 4


def test_products_and_kernels_take_turns(monkeypatch):
    """BLAS is called from the calling thread, while none of our threads works."""
    cut(monkeypatch, "classes")
    monkeypatch.setattr(linear, "_LEAST", 1_000_000)
    matmul, run = np.matmul, linear._call._threads.run
    products, working = [], []

    def watched(*args, **kwargs):
        products.append((threading.current_thread(), bool(working)))
        return matmul(*args, **kwargs)

    def busy(*args):
        working.append(args)
        run(*args)
        working.pop()

    monkeypatch.setattr(np, "matmul", watched)
    monkeypatch.setattr(linear._call._threads, "run", busy)
    x, weight, y = problem("float32", n=700, d=16, c=1300)
    with fx.config(threads=3):
        fx.linear_cross_entropy_with_grad(x, weight, y, bias=np.zeros(1300, "f4"))
    assert len(products) > 10
    assert set(products) == {(threading.main_thread(), False)}


MEMORY = """
import gc
import numpy as np
import fastxent as fx

def status(field):
    with open("/proc/self/status") as f:
        return next(int(l.split()[1]) * 1024 for l in f if l.startswith(field))

random = np.random.default_rng(0)
x = random.standard_normal(({n}, {d}), dtype=np.float32).astype({dtype!r})
weight = random.standard_normal(({c}, {d}), dtype=np.float32).astype({dtype!r})
y = np.arange({n}) % {c}
out = fx.LinearGradients(np.zeros_like(x), np.zeros_like(weight), None)
for call in (
    lambda: fx.linear_cross_entropy(x, weight, y),
    lambda: fx.linear_cross_entropy(x, weight, y, ignore_index=0),
    lambda: fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=out),
    lambda: fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=out, ignore_index=0),
):
    if {dtype!r} == "float16" and "grad" in str(call.__code__.co_names):
        continue
    call()  # first use: pools, BLAS's own buffers
    gc.collect()
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = status("VmRSS")
    call()
    print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux counts it")
@pytest.mark.parametrize(
    ("n", "c", "d", "dtype"),
    [
        (300, 40_000, 64, "float32"),  # 48 MB of logits: 16 MB
        (4000, 2500, 64, "float32"),  # whole rows
        (5000, 25_000, 8, "float32"),  # 500 MB of logits: 25 MB
        (300, 40_000, 64, "float16"),
    ],
)
def test_memory(n, c, d, dtype):
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEMORY.format(n=n, c=c, d=d, dtype=dtype)],
        capture_output=True, text=True, check=True,
        # glibc: give arrays back when they are freed, or the second call finds them there
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"},
    )  # fmt: skip
    extra = [int(v) for v in done.stdout.split()]
    assert len(extra) == (4 if dtype == "float32" else 2)
    limit = min(max(0.05 * n * c * 4, 16e6), 64e6) + 2e6
    assert max(extra) <= limit, extra
    assert min(extra) > 1e6  # it does count


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c():
    """A long call ends between two tiles."""
    code = """
import os, signal, threading, time
import numpy as np
import fastxent as fx
x, weight = np.ones((2000, 64), np.float32), np.ones((400_000, 64), np.float32)
y = np.zeros(2000, int)
started = []
def interrupt():
    time.sleep(0.3)
    started.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    fx.linear_cross_entropy_with_grad(x, weight, y)
    print("done")
except KeyboardInterrupt:
    print(time.perf_counter() - started[0] < 5)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


@pytest.mark.slow
def test_a_million_classes():
    """40 GB of logits, which no machine of the tests has."""
    n, c, d = 10_000, 1_000_000, 16
    random = np.random.default_rng(0)
    x = random.standard_normal((n, d), dtype=np.float32)
    weight = random.standard_normal((c, d), dtype=np.float32) / 4
    y = random.integers(0, c, n)
    loss, grads = fx.linear_cross_entropy_with_grad(x, weight, y, reduction="mean")
    some = slice(0, 20)
    exact = statement(x[some], weight, y[some], upstream=1 / n, dtype="float32")
    each = fx.linear_cross_entropy(x[some], weight, y[some])
    assert (np.abs(each - exact["loss"][0]) <= exact["loss"][1]).all()
    value, limit = exact["inputs"]
    assert (np.abs(grads.inputs[some] - value) <= limit).all()
    assert abs(loss - np.log(c)) < 2
    np.testing.assert_allclose(grads.weight.sum(0, dtype=np.float64), 0, atol=1e-3)


# ---- errors ----------------------------------------------------------------------------------

WRONG = {
    "weight_rank": ({"weight": np.zeros(D)}, ValueError, r"weight.*\(C, D\).*\(7,\)"),
    "no_classes": ({"weight": np.zeros((0, D))}, ValueError, r"weight.*at least one.*\(0, 7\)"),
    "weight_text": ({"weight": [["a"]]}, TypeError, "weight.*float32.*U1"),
    "features": ({"inputs": np.zeros((N, 8))}, ValueError, r"inputs.*\(\.\.\., 7\).*\(61, 8\)"),
    "scalar": ({"inputs": 1.0}, ValueError, r"inputs.*\(\.\.\., 7\).*\(\)"),
    "complex": ({"inputs": np.zeros((N, D), complex)}, TypeError, "inputs.*complex128"),
    "csc": ({"inputs": sparse.csc_array((N, D))}, TypeError, r"inputs.*CSR.*tocsr.*csc_array"),
    "csr_objects": (
        {"inputs": sparse.csr_array((N, D), dtype=complex)}, TypeError, "inputs.*complex128"
    ),
    "bias": ({"bias": np.zeros(D)}, ValueError, r"bias.*\(103,\).*\(7,\)"),
    "bias_text": ({"bias": ["a"] * C}, TypeError, "bias.*float32.*U1"),
    "labels_shape": ({"labels": np.zeros(3, int)}, ValueError, r"labels.*\(61,\).*\(3,\)"),
    "labels_float": ({"labels": np.zeros(N)}, TypeError, "labels.*integers.*float64"),
    "labels_high": (
        {"labels": np.where(np.arange(N) == 8, 103, 0)},
        IndexError, r"labels.*\[0, 103\).*103.*\(8\)",
    ),
    "labels_low": (
        {"labels": np.where(np.arange(N) == 8, -1, 0), "ignore_index": -100},
        IndexError, r"labels.*ignore_index=-100.*-1.*\(8\)",
    ),
    "label_of_a_class_of_weight_0": (
        {"labels": np.full(N, 103), "class_weight": np.zeros(C)}, IndexError, "labels.*103"
    ),
    "sample_weight": ({"sample_weight": np.ones(D)}, ValueError, r"sample_weight.*\(61,\).*\(7,\)"),
    "class_weight": ({"class_weight": np.ones(D)}, ValueError, r"class_weight.*\(103,\).*\(7,\)"),
    "smoothing": ({"label_smoothing": 1.5}, ValueError, "label_smoothing.*1.5"),
    "z_loss": ({"z_loss": np.nan}, ValueError, "z_loss.*nan"),
    "ignore_index": ({"ignore_index": 1.5}, TypeError, "ignore_index.*1.5"),
    "reduction": ({"reduction": "max"}, ValueError, "reduction.*'mean'.*'max'"),
    "upstream": ({"upstream": 1.0}, ValueError, r"upstream.*\(61,\).*\(\)"),
    "grad_out": ({"grad_out": np.zeros((N, D))}, TypeError, "grad_out.*LinearGradients.*ndarray"),
    "grad_out_pair": ({"grad_out": (None, None)}, TypeError, "grad_out.*three|grad_out.*of 2"),
    "grad_out_shape": (
        {"grad_out": (None, np.zeros((D, C)), None)}, ValueError, r"grad_out.weight.*\(103, 7\)"
    ),
    "grad_out_dtype": (
        {"grad_out": (np.zeros((N, D), "f4"), None, None)}, TypeError, "grad_out.inputs.*float64"
    ),
    "grad_out_bias": (
        {"grad_out": (None, None, np.zeros(C))}, ValueError, "grad_out.bias needs a bias"
    ),
    "grad_out_sparse": (
        {"inputs": sparse.csr_array((N, D)), "grad_out": (np.zeros((N, D)), None, None)},
        ValueError, "grad_out.inputs needs dense inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    """The sentence names the argument, and nothing has been written."""
    wrong, kind, text = WRONG[case]
    x, weight, y = problem()
    out = np.full((N, D), 7.0), np.full((C, D), 7.0), None
    arguments = {"inputs": x, "weight": weight, "labels": y, **wrong}
    if "grad_out" not in wrong:
        arguments["grad_out"] = out if "inputs" not in wrong else (None, out[1], None)
    with pytest.raises(kind, match=text):
        fx.linear_cross_entropy_with_grad(**arguments)
    assert (out[0] == 7).all()
    assert (out[1] == 7).all()
    if "grad_out" not in wrong and "upstream" not in wrong:
        with pytest.raises(kind, match=text):
            fx.linear_cross_entropy(**{k: v for k, v in arguments.items() if k != "grad_out"})


def test_overlaps_are_refused():
    x, weight, y = problem()
    for out, text in (
        ((x, None, None), "grad_out.inputs must not overlap inputs"),
        ((None, weight, None), "grad_out.weight must not overlap weight"),
    ):
        with pytest.raises(ValueError, match=text):
            fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=out)
    both = np.zeros((N + C, D))
    with pytest.raises(ValueError, match=r"grad_out.weight must not overlap grad_out.inputs"):
        fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=(both[:N], both[N - 1 : -1], None))
    frozen = np.zeros((N, D))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"grad_out\.inputs must be writeable"):
        fx.linear_cross_entropy_with_grad(x, weight, y, grad_out=(frozen, None, None))
