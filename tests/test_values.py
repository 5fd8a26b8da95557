"""Every value within its error budget of the exact result, and no worse than the obvious code."""

import cases
import numpy as np
import oracle
import pytest

#: (rows, classes): vector tails, one class, and a few long rows
SETS = ((48, 1), (48, 2), (48, 10), (48, 37), (8, 1000), (8, 4999))


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
def test_loss(loss, backend, dtype, shape):
    x, y = cases.rows(dtype, *shape, cases.SPECS[loss].family)
    cases.assert_loss(cases.function(loss)(x, y), loss, dtype, cases.exact(x, y))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_half_input_through_a_float32_out(name, backend):
    """Half results wait for their rounding where the caller gives a float32 array."""
    for dtype in ("float16", "bfloat16"):
        x, _ = cases.rows(dtype, 48, 10)
        exact, size = cases.exact_normalizer(name, x)
        out = np.empty(x.shape, np.float32)
        assert cases.function(name)(x, out=out) is out
        limit = oracle.allowed(
            cases.SPECS[name].budgets["value"], exact, dtype, **size, out_dtype="float32"
        )
        oracle.assert_within(out, exact, limit, name)


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
    if cases.SPECS[name].family == "index":
        return -np.take_along_axis(log_p, y[:, None], 1)[:, 0]
    return -(y.astype(x.dtype) * log_p).sum(1)


def obvious_grad(name, x, y):
    _, e, s = _plain(x)
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


def test_worst_error_beside_the_obvious_value(name, backend, dtype):
    wide = oracle.computing(dtype)
    for shape in SETS[1:5]:
        family = cases.SPECS[name].family
        x, y = cases.rows(dtype, *shape, family)
        if family == "normalizer":
            exact, size = cases.exact_normalizer(name, x)
            got = np.empty(exact.hi.shape, wide)
            cases.function(name)(x, out=got)
        else:
            exact, size = cases.exact(x, y).value, {}
            got = cases.function(name)(x, y)
        measure = (exact, wide, cases.SPECS[name].budgets["value"], size)
        theirs = worst(obvious(name, x.astype(wide), y), *measure)
        assert worst(got, *measure) <= theirs + 1, shape


def test_worst_error_beside_the_obvious_gradient(loss, backend, dtype):
    wide = oracle.computing(dtype)
    for shape in SETS[1:5]:
        x, y = cases.rows(dtype, *shape, cases.SPECS[loss].family)
        exact = cases.exact(x, y)
        got = np.empty(x.shape, wide)
        cases.with_grad(loss)(x, y, grad_out=got)
        size = {"scale": exact.scale[:, None]}
        measure = (exact.grad, wide, cases.SPECS[loss].budgets["grad"], size)
        theirs = worst(obvious_grad(loss, x.astype(wide), y), *measure)
        assert worst(got, *measure) <= theirs + 1, shape
