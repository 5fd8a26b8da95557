"""Entries by themselves: sigmoid, log_sigmoid, and cross entropy with one label per entry.

What they share with the other functions is tested beside those; here is what only they
have: the whole range of scores, ``pos_weight``, the limits at the infinities.
"""

from typing import NamedTuple

import cases
import data
import numpy as np
import oracle
import pytest
from test_special import pattern

import fastxent as fx
from fastxent._spec import REDUCTIONS, SPECS, Budget

INF, NAN = np.inf, np.nan

#: Float dtype -> its range of scores; at the ends sigmoid is subnormal, then 0.
ENDS = {"float16": 100, "bfloat16": 110, "float32": 110, "float64": 760}

POS_WEIGHTS = (None, 0.0, 1e-6, 0.3, 1.0, 3.0, 1e4, 1e30)


def scores(name, dtype):
    """The whole range, a finer grid in [-100, 100], and both sides of 0, of 1 and of the ends."""
    dt = data.dtype_of(dtype)
    if name == "binary_cross_entropy":
        tiny = 2.0 ** -np.arange(1, {"float16": 14, "float64": 500}.get(dtype, 100), 7)
        p = np.concatenate([np.linspace(0.002, 0.998, 400), tiny, 1 - tiny, [0.5, 0.25, 0.75]])
        p = p.astype(dt)
        return p[(p > 0) & (p < 1)]
    end = ENDS[dtype]
    near = [0.0, -0.0, 2.0**-14, 1e-3, 0.5, 1.0, 17.0, 36.7, 87.3, 88.7, 89.0, 100.0]
    x = np.concatenate([np.linspace(-100, 100, 401), np.linspace(-end, end, 401), near, near])
    x[-len(near) :] *= -1
    return x.astype(dt)


def labels(x):
    return np.resize([0.0, 1.0, 0.3, 1.0, 0.0, 0.999], x.shape)


# ---- values and gradients ----------------------------------------------------------------


def test_activation(activation, backend, dtype):
    x = scores(activation, dtype)
    exact = oracle.activation(activation, x)
    budget = SPECS[activation].budgets["value"]
    wide = oracle.computing(dtype)
    smallest = np.abs(exact.hi[exact.hi != 0]).min()
    assert smallest < np.finfo(wide).smallest_normal, "no subnormals"
    for out_dtype in {dtype, wide}:
        out = np.empty(x.shape, data.dtype_of(out_dtype))
        assert cases.function(activation)(x, out=out) is out
        limit = oracle.allowed(budget, exact, dtype, out_dtype=out_dtype)
        oracle.assert_within(out, exact, limit, activation)
    cases.same(cases.function(activation)(x).astype(wide), out.astype(x.dtype).astype(wide))


@pytest.mark.parametrize("pos_weight", POS_WEIGHTS, ids=str)
def test_loss_and_gradients(binary_loss, backend, dtype, pos_weight):
    """Loss and gradients to logits, labels and ``pos_weight`` over the whole range."""
    x = scores(binary_loss, dtype)
    z = labels(x)
    given = cases.only(binary_loss, pos_weight=pos_weight)
    if not given and pos_weight is not None:
        return
    wide = oracle.computing(dtype)
    given = {} if pos_weight is None else given
    exact = cases.exact(binary_loss, x, z, **given)
    outs = {k: np.full(x.shape, 7, wide) for k in ("grad_out", "labels_grad_out")}
    if given:
        outs["pos_weight_grad_out"] = np.full((), 7, wide)
    value, grad = cases.with_grad(binary_loss)(x, z, **given, **outs)
    assert grad is outs["grad_out"]
    cases.assert_loss(value, binary_loss, dtype, exact)
    cases.assert_grad(grad, binary_loss, dtype, exact, out_dtype=wide)
    _assert_labels_gradient(outs["labels_grad_out"], dtype, exact)
    if given:
        _assert_weight_gradient(outs["pos_weight_grad_out"], dtype, exact)
    cases.same(cases.function(binary_loss)(x, z, **given), value)


#: The gradients to labels and ``pos_weight`` are computed in float64, whatever the dtype.
_TO_LABELS = Budget(4, floor32=1e-7, floor64=4e-16, floor_of="its terms")


def _assert_labels_gradient(got, dtype, exact):
    limit = oracle.allowed(
        _TO_LABELS, exact.labels_grad, dtype, scale=exact.labels_scale, out_dtype=got.dtype.name
    )
    oracle.assert_within(got, exact.labels_grad, limit, "gradient to the labels")


def _assert_weight_gradient(got, dtype, exact):
    limit = oracle.allowed(
        _TO_LABELS,
        exact.pos_weight_grad,
        dtype,
        scale=exact.pos_weight_scale,
        out_dtype=got.dtype.name,
    )
    oracle.assert_within(got, exact.pos_weight_grad, limit, "gradient to pos_weight")


OPTIONS = {
    "plain": {},
    "upstream": {"upstream": np.linspace(-1, 2, 16 * 6).reshape(16, 6)},
    "weighted": {"sample_weight": data.sample_weights(16)[:, None]},
    "smooth": {"label_smoothing": 0.3},
    "all_smoothing": {"label_smoothing": 1.0},
    "mean": {"sample_weight": data.sample_weights(6), "reduction": "mean", "upstream": 3.0},
    "size_mean": {"label_smoothing": 0.1, "reduction": "size_mean"},
}

WEIGHT_SHAPES = ((), (6,), (1, 6), (16, 1), (16, 6), (1,), (1, 1))


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_to_labels_and_pos_weight(binary_loss, backend, dtype, options):
    """Also where the label or the weight is 0: the derivative does not vanish there."""
    given = {k: v for k, v in OPTIONS[options].items() if k == "upstream"}
    given |= cases.only(binary_loss, **OPTIONS[options])
    x, y = (a[:16] for a in cases.rows(dtype, 16, 6, binary_loss))
    weighted = "pos_weight" in SPECS[binary_loss].options
    for shape in WEIGHT_SHAPES if weighted else ((),):
        more, out = {}, {"labels_grad_out": np.full(x.shape, 7, x.dtype)}
        if weighted:
            more["pos_weight"] = np.resize(data.pos_weights(6), shape)
            out["pos_weight_grad_out"] = np.full(shape, 7, oracle.computing(dtype))
        exact = cases.exact(binary_loss, x, y, **given, **more)
        _, grad = cases.with_grad(binary_loss)(x, y, **given, **more, **out)
        cases.assert_grad(grad, binary_loss, dtype, exact)
        _assert_labels_gradient(out["labels_grad_out"], dtype, exact)
        if weighted:
            assert exact.pos_weight_grad.hi.any()
            _assert_weight_gradient(out["pos_weight_grad_out"], dtype, exact)


def test_finite_differences_of_labels_and_pos_weight(backend):
    """The slope of our own float64 values."""
    x = data.rng(1).uniform(-20, 20, (12, 5))
    z, w = data.rng(2).random((2, 12, 5))
    upstream = data.rng(3).uniform(-1, 2, x.shape)
    options = {"label_smoothing": 0.2, "sample_weight": data.sample_weights(12)[:, None]}
    to_labels, to_weight = np.empty_like(x), np.empty(5)
    f = fx.sigmoid_cross_entropy
    fx.sigmoid_cross_entropy_with_grad(
        x, z, pos_weight=w[0], upstream=upstream, labels_grad_out=to_labels,
        pos_weight_grad_out=to_weight, **options,
    )  # fmt: skip
    h = 1e-4
    slope = (
        upstream
        * (f(x, z + h, pos_weight=w[0], **options) - f(x, z - h, pos_weight=w[0], **options))
        / (2 * h)
    )
    np.testing.assert_allclose(to_labels, slope, rtol=1e-8, atol=1e-8)
    slope = (
        upstream
        * (f(x, z, pos_weight=w[0] + h, **options) - f(x, z, pos_weight=w[0] - h, **options))
        / (2 * h)
    )
    np.testing.assert_allclose(to_weight, slope.sum(0), rtol=1e-8, atol=1e-8)


def test_a_large_pos_weight_gradient(backend):
    """More entries than are summed at once, in every direction; any thread count, the same bits."""
    random = data.rng(4)
    x = random.standard_normal((3, 70, 600)).astype(np.float32)
    z = random.random(x.shape)
    p = np.logaddexp(0, -x.astype(np.float64))
    for shape in ((), (600,), (70, 1), (3, 1, 600), (3, 70, 600), (1, 1, 1)):
        results = []
        for threads in (1, 3):
            out = np.empty(shape, np.float32)
            with fx.config(backend=backend, threads=threads):
                fx.sigmoid_cross_entropy_with_grad(
                    x, z, pos_weight=np.ones(shape), pos_weight_grad_out=out
                )
            results.append(out)
        target = (1,) * (3 - len(shape)) + shape
        summed = tuple(k for k in range(3) if target[k] == 1)
        exact = (z * p).sum(axis=summed).reshape(shape)
        np.testing.assert_allclose(results[0], exact, rtol=2e-7)
        assert results[0].tobytes() == results[1].tobytes()


# ---- beside the obvious formulas in the same dtype ---------------------------------------


def obvious(name, x, z, pos_weight=1.0):
    """Value and gradient, as one would write them."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            return one / (one + np.exp(-x)), None
        softplus = np.log1p(np.exp(-np.abs(x)))
        if name == "log_sigmoid":
            return -(np.maximum(-x, zero) + softplus), None
        if name == "binary_cross_entropy":
            value = -(z * np.log(x) + (one - z) * np.log1p(-x))
            return value, (one - z) / (one - x) - z / x
        w = x.dtype.type(pos_weight)
        p = one / (one + np.exp(-x))
        value = (one - z) * x + (one + (w - one) * z) * (softplus + np.maximum(-x, zero))
        return value, (one - z) * p - w * z * (one - p)


@pytest.mark.parametrize("pos_weight", [1.0, 0.3, 1e4])
@pytest.mark.parametrize("name", [n for n, s in SPECS.items() if not s.has_classes])
def test_worst_error_beside_the_obvious_formula(name, backend, dtype, pos_weight):
    wide = oracle.computing(dtype)
    x = scores(name, dtype)
    if not SPECS[name].is_loss:
        out = np.empty(x.shape, wide)
        exact = oracle.activation(name, x)
        results = [(cases.function(name)(x, out=out), exact, "value", {})]
        z = None
    else:
        z = labels(x).astype(wide)
        given = cases.only(name, pos_weight=pos_weight)
        exact = cases.exact(name, x, z, **given)
        out = np.empty(x.shape, wide)
        value, grad = cases.with_grad(name)(x, z, grad_out=out, **given)
        scale = {"scale": exact.scale}
        results = [(value, exact.value, "value", {}), (grad, exact.grad, "grad", scale)]
    theirs = obvious(name, x.astype(wide), z, pos_weight)
    for (ours, exact, output, size), other in zip(results, theirs):
        budget = SPECS[name].budgets[output]
        unit = oracle.allowed(budget, exact, wide, **size) / budget.ulp
        worst = [(oracle.error(v, exact) / unit).max() for v in (ours, other)]
        assert worst[0] <= worst[1] + 1, output


#: Every tail of a vector and of a few vectors, and the edges of blocks of any likely size.
COUNTS = (*range(1, 70), *(2**k + j for k in range(7, 15) for j in (-1, 0, 1)))


@pytest.mark.parametrize("name", [n for n, s in SPECS.items() if not s.has_classes])
def test_every_number_of_entries(name, backend, dtype):
    """No entry is lost or counted twice, whatever the length and however aligned."""
    random = data.rng(7)
    narrow = data.dtype_of(dtype)
    rtol = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    for n in COUNTS:
        x = 2 * random.standard_normal(n)
        x = (random.uniform(0.02, 0.98, n) if name == "binary_cross_entropy" else x).astype(narrow)
        x = x[n % 3 :]
        z = labels(x)
        wide = x.astype(np.longdouble if dtype == "float64" else np.float64)
        expected = obvious(name, wide, z)
        if not SPECS[name].is_loss:
            results = [cases.function(name)(x)]
        else:
            results = [*cases.with_grad(name)(x, z)]
            total = cases.function(name)(x, z, reduction="sum")
            np.testing.assert_allclose(float(total), float(expected[0].sum()), rtol=rtol)
        for got, exact in zip(results, expected):
            got, exact = got.astype(np.float64), exact.astype(np.float64)
            np.testing.assert_allclose(got, exact, rtol=rtol, atol=rtol / 8, err_msg=f"n = {n}")


# ---- numbers that are known ------------------------------------------------------------


def test_an_entry_that_is_almost_certainly_right(backend):
    """The usual form in float32, ``max(x, 0) - x z + log1p(exp(-abs(x)))``, gives it as well."""
    value, grad = fx.sigmoid_cross_entropy_with_grad(np.float32([-20, 20]), [0, 1])
    # Its float32 neighbours are 2.0611535e-09 and 2.0611537e-09.
    assert value == pytest.approx(2.0611536e-09, rel=1.2e-7)
    assert grad * [1, -1] == pytest.approx(2.0611536e-09, rel=1.2e-7)
    for w in (1e-30, 0.5, 3.0, 1e20):
        value = fx.sigmoid_cross_entropy(np.float32([20, -20]), [1, 0], pos_weight=[w, w])
        assert value == pytest.approx([w * 2.0611536e-09, 2.0611536e-09], rel=2.4e-7)


def test_a_large_sample_weight(backend, dtype):
    """It meets what the cost was before it underflowed."""
    x = scores("sigmoid_cross_entropy", dtype)
    z = np.where(x > 0, 1.0, 0.0)
    for u in (1e10, 1e30):
        exact = cases.exact("sigmoid_cross_entropy", x, z, sample_weight=u)
        value = fx.sigmoid_cross_entropy(x, z, sample_weight=u)
        cases.assert_loss(value, "sigmoid_cross_entropy", dtype, exact)


def test_exactly_0(backend, dtype):
    """The gradient at 0 is that of the function, not of one side of a maximum in its code."""
    x = np.array([0.0, -0.0, 0.0, -0.0]).astype(data.dtype_of(dtype))
    value, grad = fx.sigmoid_cross_entropy_with_grad(x, [0, 0, 1, 1])
    np.testing.assert_array_equal(grad.astype(float), [0.5, 0.5, -0.5, -0.5])
    np.testing.assert_allclose(value, np.log(2), rtol=1.2e-7)
    _, grad = fx.sigmoid_cross_entropy_with_grad(x, [1] * 4, pos_weight=3)
    np.testing.assert_array_equal(grad.astype(float), -1.5)
    np.testing.assert_array_equal(fx.sigmoid(x).astype(float), 0.5)
    np.testing.assert_allclose(fx.log_sigmoid(x).astype(float), -np.log(2), rtol=4e-3)


def test_pos_weight_1_is_none(backend, dtype):
    x, z = cases.rows(dtype, 48, 10, "sigmoid_cross_entropy")
    exact = cases.exact("sigmoid_cross_entropy", x, z)
    value, grad = fx.sigmoid_cross_entropy_with_grad(x, z, pos_weight=1)
    cases.assert_loss(value, "sigmoid_cross_entropy", dtype, exact)
    cases.assert_grad(grad, "sigmoid_cross_entropy", dtype, exact)


def test_binary_is_sigmoid_cross_entropy_of_the_log_odds(backend):
    x = np.linspace(-8, 8, 101)
    z = labels(x)
    value = fx.binary_cross_entropy(fx.sigmoid(x), z)
    np.testing.assert_allclose(value, fx.sigmoid_cross_entropy(x, z), rtol=1e-12)


def test_pos_weight_broadcasts(backend):
    """A scalar, a row, a column: the same bits as the array written out."""
    x = data.logits(12, 7, "float32").reshape(3, 4, 7)
    z = data.binary_labels(x)
    random = data.rng(1)
    f = fx.sigmoid_cross_entropy_with_grad
    for shape in ((), (1,), (7,), (4, 1), (4, 7), (3, 1, 1), (1, 4, 7), (3, 4, 7)):
        weight = random.random(shape)
        for reduction in REDUCTIONS:
            a = f(x, z, pos_weight=weight, reduction=reduction)
            full = np.array(np.broadcast_to(weight, x.shape))
            for one, other in zip(a, f(x, z, pos_weight=full, reduction=reduction)):
                np.testing.assert_array_equal(one, other)


def test_pos_weight_never_enters_a_mean(backend):
    x, z = cases.rows("float64", 48, 10, "sigmoid_cross_entropy")
    w = data.pos_weights(10)
    each = fx.sigmoid_cross_entropy(x, z, pos_weight=w)
    for reduction in ("mean", "size_mean", "nonzero_mean"):
        got = fx.sigmoid_cross_entropy(x, z, pos_weight=w, reduction=reduction)
        np.testing.assert_allclose(got, each.mean(), rtol=1e-14)


# ---- special values, row by row ----------------------------------------------------------


class Case(NamedTuple):
    """``pattern`` of loss, gradient, and gradients to the label and to ``pos_weight``."""

    x: float
    z: float
    loss: str
    grad: str
    to_label: str
    to_weight: str = ""
    u: float | None = None
    w: float | None = None
    e: float = 0.0
    upstream: float = 1.0

    def __str__(self):
        more = [f"{k}={v}" for k, v in self._asdict().items() if k in ("u", "w", "e", "upstream")]
        defaults = {f"{k}={v}" for k, v in self._field_defaults.items()}
        return "_".join([f"{self.x:g}", f"{self.z:g}", *(m for m in more if m not in defaults)])


LOGITS = [
    # The limits.
    Case(INF, 0, "+", "f", "-", "0"),
    Case(INF, 1, "0", "0", "-", "0"),
    Case(-INF, 0, "0", "0", "+", "0"),
    Case(-INF, 1, "+", "f", "+", "+"),
    Case(INF, 0.5, "+", "f", "-", "0"),
    Case(-INF, 0.5, "+", "f", "+", "+"),
    Case(INF, 1, "+", "f", "-", "0", e=0.1),
    Case(-INF, 0, "+", "f", "+", "+", e=0.1),
    Case(INF, 2, "-", "f", "-", "0"),
    Case(1000, 0, "f", "f", "f", "0"),
    Case(1000, 1, "0", "0", "f", "0"),
    Case(-1000, 0, "0", "0", "f", "0"),
    Case(-1000, 1, "f", "f", "f", "f"),
    Case(0, 0, "f", "f", "0", "0"),
    Case(-0.0, 1, "f", "f", "0", "f"),
    Case(0, 0.5, "f", "0", "0", "f"),
    Case(0.5, 2, "f", "f", "f", "f"),
    Case(0.5, -1, "f", "f", "f", "f"),
    # NaN.
    Case(NAN, 0, "n", "n", "n", "0"),
    Case(NAN, 1, "n", "n", "n", "n"),
    Case(NAN, 0.5, "n", "n", "n", "n"),
    Case(0.5, NAN, "n", "n", "f", "n"),
    Case(0.5, NAN, "n", "n", "f", "n", e=0.1),
    Case(INF, NAN, "n", "n", "-", "n"),
    # Coefficients of 0.
    Case(0.5, NAN, "f", "f", "0", "f", e=1.0),
    Case(0.5, 7, "f", "f", "0", "f", e=1.0),
    Case(0.5, INF, "f", "f", "0", "f", e=1.0),
    Case(NAN, 1, "0", "0", "n", "n", w=0.0),
    Case(NAN, 1, "0", "0", "n", "n", w=-0.0),
    Case(NAN, 0, "n", "n", "n", "0", w=0.0),
    Case(NAN, 0.5, "n", "n", "n", "n", w=0.0),
    Case(INF, 1, "0", "0", "-", "0", w=0.0),
    Case(-INF, 1, "0", "0", "0", "+", w=0.0),
    Case(-INF, 0, "0", "0", "0", "0", w=0.0),
    Case(INF, 0, "+", "f", "-", "0", w=0.0),
    Case(0.5, 1, "0", "0", "f", "f", w=0.0),
    Case(-0.5, 1, "0", "0", "f", "f", w=0.0),
    Case(0.5, 0, "f", "f", "n", "0", w=NAN),
    Case(0.5, 1, "n", "n", "n", "f", w=NAN),
    Case(0.5, 0, "f", "f", "+", "0", w=INF),
    Case(0.5, 1, "+", "-", "+", "f", w=INF),
    Case(-0.5, 1, "+", "-", "+", "f", w=INF),
    Case(-INF, 1, "+", "f", "+", "+", w=3.0),
    # Absent entries.
    Case(NAN, 0, "0", "0", "0", "0", u=0.0),
    Case(NAN, 1, "0", "0", "0", "0", u=-0.0),
    Case(NAN, NAN, "0", "0", "0", "0", u=0.0, w=NAN),
    Case(INF, 0, "0", "0", "0", "0", u=0.0),
    Case(-INF, 1, "0", "0", "0", "0", u=0.0),
    Case(0.5, NAN, "0", "0", "0", "0", u=0.0),
    Case(0.5, 1, "0", "0", "0", "0", u=0.0, w=INF),
    Case(NAN, 0, "0", "0", "0", "0", u=0.0, upstream=0.0),
    Case(0.5, 0, "0", "0", "0", "0", u=0.0, upstream=NAN),
    Case(0.5, 1, "0", "0", "f", "f", w=0.0, upstream=1.0),
    Case(0.5, 1, "0", "0", "n", "n", w=0.0, upstream=NAN),
    Case(0.5, 0, "n", "n", "n", "0", u=NAN),
    Case(0.5, 1, "n", "n", "n", "n", u=NAN),
    Case(INF, 1, "n", "n", "n", "n", u=NAN),
    Case(0.5, 0, "-", "-", "+", "0", u=-INF),
    # Upstream.
    Case(NAN, 0, "n", "0", "0", "0", upstream=0.0),
    Case(NAN, 1, "n", "0", "0", "0", upstream=-0.0),
    Case(INF, 0, "+", "0", "0", "0", upstream=0.0),
    Case(-INF, 1, "+", "0", "0", "0", upstream=0.0),
    Case(0.5, NAN, "n", "0", "0", "0", upstream=0.0),
    Case(0.5, 1, "n", "0", "0", "0", u=NAN, upstream=0.0),
    Case(0.5, 1, "+", "0", "0", "0", w=INF, upstream=0.0),
    Case(0.5, 0.5, "f", "n", "n", "n", upstream=NAN),
]

PROBS = [
    Case(0, 0, "0", "f", "+"),
    Case(0, 1, "+", "-", "+"),
    Case(1, 1, "0", "f", "-"),
    Case(1, 0, "+", "+", "-"),
    Case(-0.0, 0, "0", "f", "+"),
    Case(-0.0, 1, "+", "-", "+"),
    Case(0, 0.5, "+", "-", "+"),
    Case(1, 0.5, "+", "+", "-"),
    Case(0.5, 0, "f", "f", "0"),
    Case(0.5, 0.5, "f", "0", "0"),
    Case(0.25, 2, "f", "f", "f"),
    Case(1.5, 0, "n", "n", "n"),
    Case(1.5, 1, "n", "n", "n"),
    Case(-0.25, 0, "n", "n", "n"),
    Case(-0.25, 1, "n", "n", "n"),
    Case(INF, 1, "n", "n", "n"),
    Case(-INF, 0, "n", "n", "n"),
    Case(NAN, 0, "n", "n", "n"),
    Case(NAN, 1, "n", "n", "n"),
    Case(0.25, NAN, "n", "n", "f"),
    Case(0, NAN, "n", "n", "+"),
    Case(0.25, 1, "n", "n", "n", u=NAN),
    Case(NAN, 0, "0", "0", "0", u=0.0),
    Case(1.5, 1, "0", "0", "0", u=0.0),
    Case(0, 1, "0", "0", "0", u=0.0),
    Case(0.25, NAN, "0", "0", "0", u=-0.0),
    Case(0.25, 1, "0", "0", "0", u=0.0, upstream=NAN),
    Case(0, 1, "+", "0", "0", upstream=0.0),
    Case(1, 0, "+", "0", "0", upstream=0.0),
    Case(NAN, 1, "n", "0", "0", upstream=0.0),
    Case(1.5, 1, "n", "0", "0", upstream=0.0),
]

#: Places of the case among ordinary entries: a vector's body, its tail, the ends.
PLACES = {"alone": (1, 0), "between": (3, 1), "body": (37, 5), "tail": (37, 36)}


def _check_case(name, case, dtype, place):
    n, at = PLACES[place]
    weighted = "pos_weight" in SPECS[name].options
    x = np.resize([0.25, 0.75, 0.625], n).astype(data.dtype_of(dtype))
    z = np.resize([0.0, 1.0, 0.25], n)
    u, w, upstream = np.resize([1.0, 2.0], n), np.resize([1.0, 3.0], n), np.ones(n)
    calm = x.copy(), z.copy(), u.copy(), w.copy()
    x[at], z[at], upstream[at] = case.x, case.z, case.upstream
    u[at] = 1.0 if case.u is None else case.u
    w[at] = 1.0 if case.w is None else case.w

    def call(x, z, u, w, **more):
        options = {"label_smoothing": case.e, "pos_weight": w, "sample_weight": u}
        # Plain calls may take another path than weighted ones.
        if case.u is None and place == "tail":
            options.pop("sample_weight")
        if case.w is None and place == "tail":
            options.pop("pos_weight")
        options = cases.only(name, **options)
        outs = {"labels_grad_out": np.full(n, 7, x.dtype)}
        if "pos_weight" in options:
            outs["pos_weight_grad_out"] = np.full(n, 7, x.dtype)
        loss = cases.function(name)(x, z, **options)
        loss2, grad = cases.with_grad(name)(x, z, **options, **outs, **more)
        cases.same(loss2, loss)
        return options, (loss, grad, *outs.values())

    options, got = call(x, z, u, w, upstream=upstream)
    expected = (case.loss, case.grad, case.to_label, case.to_weight)[: len(got)]
    assert tuple(pattern(a[at]) for a in got) == expected
    mine = x.copy()
    cases.with_grad(name)(mine, z, upstream=upstream, grad_out=mine, **options)
    cases.same(mine, got[1])
    total = cases.function(name)(x, z, **options, reduction="sum")
    assert pattern(total) == ("f" if case.loss == "0" and n > 1 else case.loss)

    exact = cases.exact(name, x, z, upstream=upstream, **options)
    assert pattern(exact.losses.hi[at].astype(oracle.computing(dtype))) == case.loss
    cases.assert_loss(got[0], name, dtype, exact)
    cases.assert_grad(got[1], name, dtype, exact)
    for ours, theirs, mark in zip(
        got[2:], (exact.labels_grad, exact.pos_weight_grad), expected[2:]
    ):
        assert pattern(theirs.hi[at].astype(oracle.computing(dtype))) == mark
        oracle.assert_within(ours[at], oracle.Exact(*(v[at] for v in theirs)), 1e-2, "others")

    # The neighbours have the bits that they have when the entry is an ordinary one.
    _, still = call(*calm)
    for a, b in zip(got, still):
        cases.same(np.delete(a, at), np.delete(b, at))
    assert not weighted or case.to_weight


@pytest.fixture
def _strict():
    """NumPy raises on every floating-point error, so a warning fails."""
    with np.errstate(all="raise"):
        yield


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("case", LOGITS, ids=str)
def test_special_logits(case, backend, dtype):
    for place in PLACES:
        _check_case("sigmoid_cross_entropy", case, dtype, place)


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("case", PROBS, ids=str)
def test_special_probabilities(case, backend, dtype):
    for place in PLACES:
        _check_case("binary_cross_entropy", case, dtype, place)


def test_absent_entries_of_a_nan_mean(binary_loss, backend, dtype):
    """A NaN weight makes the mean NaN, and every gradient but those of absent entries."""
    x = np.array([0.5, 0.25, 0.75]).astype(data.dtype_of(dtype))
    value, grad = cases.with_grad(binary_loss)(
        x, [0, 1, 1], sample_weight=[0, NAN, 1], reduction="mean"
    )
    assert pattern(value) == "n"
    assert pattern(grad) == "0nn"


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("n", [1, 3, 70])
def test_special_scores(activation, backend, dtype, n):
    table = [
        (INF, 1, 0),
        (-INF, 0, -INF),
        (NAN, NAN, NAN),
        (1000, 1, 0),
        (-1000, 0, -1000),
        (0, 0.5, -0.6931471805599453),
    ]
    for score, p, log_p in table:
        for at in {0, n // 2, n - 1}:
            x = np.full(n, 0.5).astype(data.dtype_of(dtype))
            calm = cases.function(activation)(x)
            x[at] = score
            got = cases.function(activation)(x)
            expected = p if activation == "sigmoid" else log_p
            np.testing.assert_allclose(float(got[at]), expected, rtol=4e-3)
            cases.same(np.delete(got, at), np.delete(calm, at))


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ends_of_the_range(backend, dtype):
    """No overflow where the answer has none; what underflows is 0, without a warning."""
    big, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    x = np.array([big, -big, tiny, -tiny, big, -big], dtype)
    value, grad = fx.sigmoid_cross_entropy_with_grad(x, [0, 1, 0, 1, 1, 0])
    np.testing.assert_allclose(value, [big, big, np.log(2), np.log(2), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(grad, [1, -1, 0.5, -0.5, 0, 0])
    np.testing.assert_array_equal(fx.sigmoid(x), [1, 0, 0.5, 0.5, 1, 0])
    # Beyond the dtype: inf, rounded once.
    assert fx.sigmoid_cross_entropy(x[:1], [0], sample_weight=2) == INF
    assert fx.sigmoid_cross_entropy(x[:1], [0], sample_weight=2, reduction="sum") == INF
    assert fx.sigmoid_cross_entropy(x[1:2], [1], pos_weight=4) == INF
    value, grad = fx.binary_cross_entropy_with_grad(np.array([tiny], dtype), [1])
    np.testing.assert_allclose(value, -np.log(tiny.astype(np.longdouble)), rtol=1e-6)
    assert grad == -INF


def test_no_label_is_too_close_to_1(backend):
    """Labels keep their own digits beside float32 logits: 1 - z is taken before rounding."""
    x = np.float32([30, 5, 30])
    z = np.array([1 - 1e-10, 1 - 2.0**-40, 1e-12])
    exact = cases.exact("sigmoid_cross_entropy", x, z)
    value, grad = fx.sigmoid_cross_entropy_with_grad(x, z)
    cases.assert_loss(value, "sigmoid_cross_entropy", "float32", exact)
    cases.assert_grad(grad, "sigmoid_cross_entropy", "float32", exact)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_number(binary_loss, backend, reduction):
    """Scalars in, NumPy scalars out; and an array without axes to write into."""
    f, g = cases.function(binary_loss), cases.with_grad(binary_loss)
    value = f(0.25, 1, reduction=reduction)
    assert isinstance(value, np.float64)
    value2, grad = g(0.25, 1, reduction=reduction)
    assert value2 == value
    assert grad.shape == ()
    out, grad_out = np.array(7.0), np.array(7.0)
    value3, grad3 = g(0.25, True, reduction=reduction, out=out, grad_out=grad_out)
    assert value3 is out
    assert grad3 is grad_out
    assert out == value
    assert grad_out == grad


def test_one_score(activation, backend):
    got = cases.function(activation)(0.25)
    assert isinstance(got, np.float64)
    out = np.array(7.0)
    assert cases.function(activation)(np.array(0.25), out=out) is out
    assert out == got
    assert cases.function(activation)(np.float32(0.25)).dtype == np.float32


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)], ids=str)
def test_no_entries(binary_loss, backend, shape):
    x = np.empty(shape, np.float32)
    outs = {"labels_grad_out": np.empty(shape, np.float32)}
    if "pos_weight" in SPECS[binary_loss].options:
        outs |= {"pos_weight": np.ones(()), "pos_weight_grad_out": np.full((), 7, np.float32)}
    value, grad = cases.with_grad(binary_loss)(x, x, reduction="mean", **outs)
    assert np.isnan(value)
    assert grad.shape == shape
    assert outs.get("pos_weight_grad_out", 0) == 0


# ---- arrays that do not fold ---------------------------------------------------------------


def test_threads_over_arrays_that_do_not_fold(binary_loss, backend):
    """Three axes with gaps between, enough for the pool: the same bits for any thread count."""
    random = data.rng(5)
    base = random.random((21, 301, 121), dtype=np.float32)
    x, z = base[:, :300, :120], random.random((21, 300, 120), dtype=np.float32)
    u = random.random((300, 1))
    for reduction in ("none", "mean"):
        results = []
        for threads in (1, 2, 7):
            grad = np.full((21, 301, 121), 7, np.float32)
            with fx.config(backend=backend, threads=threads):
                value, got = cases.with_grad(binary_loss)(
                    x, z, sample_weight=u, reduction=reduction, grad_out=grad[:, :300, :120]
                )
            assert (grad[:, 300] == 7).all()
            assert (grad[:, :, 120] == 7).all()
            results.append((np.asarray(value).tobytes(), got.tobytes()))
        assert results[1:] == results[:1] * 2
        full = np.array(np.broadcast_to(u, x.shape))
        f = cases.with_grad(binary_loss)
        plain, plain_grad = f(x.copy(), z, sample_weight=full, reduction=reduction)
        np.testing.assert_allclose(value, plain, rtol=1e-6)
        np.testing.assert_array_equal(got, plain_grad)
        if reduction == "mean":
            each = cases.function(binary_loss)(x, z, sample_weight=u)
            np.testing.assert_allclose(value, each.sum(dtype=np.float64) / full.sum(), rtol=1e-6)


@pytest.mark.parametrize("option", ["labels", "sample_weight", "pos_weight", "upstream", "out"])
def test_every_array_in_every_order(backend, option):
    """Logits in one order of axes, another array in another: the values stay at their places."""
    random = data.rng(6)
    x, other = random.random((2, 4, 5, 6))
    f = fx.sigmoid_cross_entropy_with_grad
    given = {"labels": random.random(x.shape)}
    given[option] = np.empty_like(x) if option == "out" else other
    expected = f(x, **given)
    for order in ((2, 1, 0), (1, 0, 2), (2, 0, 1)):
        back = np.argsort(order)
        turned = np.empty(x.transpose(order).shape).transpose(back)
        turned[...] = given[option]
        got = f(x, **{**given, option: turned})
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a, b)
        grad_out = np.empty(x.transpose(order).shape).transpose(back)
        np.testing.assert_array_equal(f(x, **given, grad_out=grad_out)[1], expected[1])
        labels_grad_out = np.empty(x.transpose(order).shape).transpose(back)
        f(x, **given, labels_grad_out=labels_grad_out)
        contiguous = np.empty_like(x)
        f(x, **given, labels_grad_out=contiguous)
        np.testing.assert_array_equal(labels_grad_out, contiguous)
