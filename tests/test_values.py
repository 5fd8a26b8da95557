"""Every value within its error budget of the exact result, and no worse than the obvious code."""

import cases
import data
import numpy as np
import oracle
import pytest
from conftest import UNLABELLED

import fastxent as fx

#: (rows, classes): vector tails, one class, and a few long rows
SETS = ((48, 1), (48, 2), (48, 10), (48, 37), (8, 1000), (2, 4999))


def ids(s):
    return f"{s[0]}x{s[1]}"


@pytest.mark.parametrize("shape", SETS, ids=ids)
def test_normalizer(normalizer, backend, dtype, shape):
    x, _ = cases.rows(dtype, *shape)
    exact, size = cases.exact_normalizer(normalizer, x)
    got = cases.function(normalizer)(x)
    wanted = cases.value_dtype(normalizer, dtype)
    assert got.dtype.name == wanted
    budget = cases.SPECS[normalizer].budgets["value"]
    limit = oracle.allowed(budget, exact, dtype, **size, out_dtype=wanted)
    oracle.assert_within(got, exact, limit, normalizer)


@pytest.mark.parametrize("shape", SETS, ids=ids)
def test_loss(row_loss, backend, dtype, shape):
    x, y = cases.rows(dtype, *shape, row_loss)
    exact = cases.exact(row_loss, x, y)
    cases.assert_loss(cases.function(row_loss)(x, y), row_loss, dtype, exact)


@pytest.mark.parametrize("name", [n for n in UNLABELLED if n != "logsumexp"])
def test_half_input_through_a_float32_out(name, backend):
    """Half results wait for their rounding where the caller gives a float32 array."""
    for dtype in ("float16", "bfloat16"):
        x, _ = cases.rows(dtype, 48, 10, name)
        exact, size = cases.exact_normalizer(name, x)
        out = np.empty(x.shape, np.float32)
        assert cases.function(name)(x, out=out) is out
        limit = oracle.allowed(
            cases.SPECS[name].budgets["value"], exact, dtype, **size, out_dtype="float32"
        )
        oracle.assert_within(out, exact, limit, name)


#: Every tail of a vector and of a few vectors, and the edges of blocks of any likely size.
COUNTS = (*range(1, 70), *(2**k + j for k in range(7, 13) for j in (-1, 0, 1)))


@pytest.mark.parametrize("where_classes_lie", ["last", "first"])
def test_every_number_of_classes(row_name, backend, dtype, where_classes_lie):
    """Against the obvious formula one precision up: no class is lost or counted twice."""
    name, random = row_name, data.rng(7)
    axis = -1 if where_classes_lie == "last" else 0
    narrow = data.dtype_of(dtype)
    rtol = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    for c in COUNTS:
        x = (2 * random.standard_normal((3, c))).astype(narrow)
        y = np.array([0, c // 2, c - 1])
        if cases.SPECS[name].family == "dense":
            y = np.eye(c)[y] * 0.5 + 0.5 / c
        wide = x.astype(np.longdouble if dtype == "float64" else np.float64)
        placed = x if axis == -1 else np.ascontiguousarray(x.T)
        if not cases.SPECS[name].is_loss:
            results = [(cases.function(name)(placed, axis=axis), obvious(name, wide, y))]
        else:
            labels = np.ascontiguousarray(y.T) if axis == 0 and y.ndim == 2 else y
            value, grad = cases.with_grad(name)(placed, labels, axis=axis)
            results = [
                (value, obvious(name, wide, y)),
                (grad, obvious_grad(name, wide, y)),
            ]
        for got, exact in results:
            got = got.T if got.ndim == 2 and axis == 0 else got
            got, exact = got.astype(np.float64), exact.astype(np.float64)
            np.testing.assert_allclose(got, exact, rtol=rtol, atol=rtol / 8, err_msg=f"C = {c}")


# ---- beside the obvious formula in the same dtype ----------------------------------------


def _plain(x):
    m = x.max(1, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(1, keepdims=True)
    return m, e, s


def obvious(name, x, y):
    m, e, s = _plain(x)
    if name == "logsumexp":
        return (m + np.log(s))[:, 0]
    if name == "softmax":
        return e / s
    log_p = x - m - np.log(s)
    if name == "log_softmax":
        return log_p
    if cases.SPECS[name].family == "picked":
        return -np.take_along_axis(x, y[:, None], 1)[:, 0]
    if cases.SPECS[name].family == "index":
        return -np.take_along_axis(log_p, y[:, None], 1)[:, 0]
    return -(y.astype(x.dtype) * log_p).sum(1)


def obvious_grad(name, x, y):
    _, e, s = _plain(x)
    if cases.SPECS[name].family == "picked":
        return -np.eye(x.shape[1], dtype=x.dtype)[y]
    if cases.SPECS[name].family == "index":
        return e / s - np.eye(x.shape[1], dtype=x.dtype)[y]
    y = y.astype(x.dtype)
    return e / s * y.sum(1, keepdims=True) - y


def worst(got, exact, wide, budget, size):
    """The worst error in units in the last place, as the budget counts them.

    Where the budget has a floor, an entry far below its row's largest is measured by the
    floor: nobody adds up the digits of a probability of 1e-40.
    """
    unit = oracle.allowed(budget._replace(per_gap=False), exact, wide, **size) / budget.ulp
    return (oracle.error(got, exact) / unit).max()


def test_worst_error_beside_the_obvious_value(row_name, backend, dtype):
    name, wide = row_name, oracle.computing(dtype)
    for shape in SETS[1:5]:
        x, y = cases.rows(dtype, *shape, name)
        if not cases.SPECS[name].is_loss:
            exact, size = cases.exact_normalizer(name, x)
            got = np.empty(exact.hi.shape, wide)
            cases.function(name)(x, out=got)
        else:
            exact, size = cases.exact(name, x, y).value, {}
            got = cases.function(name)(x, y)
        measure = (exact, wide, cases.SPECS[name].budgets["value"], size)
        theirs = worst(obvious(name, x.astype(wide), y), *measure)
        assert worst(got, *measure) <= theirs + 1, shape


def test_worst_error_beside_the_obvious_gradient(softmax_loss, backend, dtype):
    loss = softmax_loss
    wide = oracle.computing(dtype)
    for shape in SETS[1:5]:
        x, y = cases.rows(dtype, *shape, loss)
        exact = cases.exact(loss, x, y)
        got = np.empty(x.shape, wide)
        cases.with_grad(loss)(x, y, grad_out=got)
        size = {"scale": exact.scale[:, None]}
        measure = (exact.grad, wide, cases.SPECS[loss].budgets["grad"], size)
        theirs = worst(obvious_grad(loss, x.astype(wide), y), *measure)
        assert worst(got, *measure) <= theirs + 1, shape


@pytest.mark.parametrize("classes", [3, 10, 21, 32])
def test_many_short_rows(backend, classes):
    """Worst errors in float32, over more rows than arithmetic of many digits can bear.

    A logarithm that neglects what rounding 1 + s leaves errs by 5 units in one row of thousands.
    """
    for spread in (0.1, 1.0):
        x = data.rng(classes).standard_normal((30_000, classes), np.float32) * np.float32(spread)
        wide = x.astype(np.float64)
        m, y = wide.max(1), wide.argmax(1)
        wide[np.arange(len(x)), y] = -np.inf
        loss = np.log1p(np.exp(wide - m[:, None]).sum(1))
        gap = m - wide.max(1)
        unit = np.spacing(np.maximum(abs(m), abs(m + loss)).astype(np.float32))
        assert np.all(abs(fx.logsumexp(x) - (m + loss)) <= 4 * unit)
        units = (4 + gap) * np.spacing(loss.astype(np.float32))
        assert np.all(abs(fx.sparse_softmax_cross_entropy(x, y) - loss) <= units)
