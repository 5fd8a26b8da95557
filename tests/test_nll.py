"""nll_loss reads one entry of each row: what that means for special values, beside softmax.

Values, gradients, options, layouts, errors and threads are tested with the other losses.
"""

from typing import NamedTuple

import cases
import data
import numpy as np
import oracle
import pytest
from test_special import pattern
from test_values import SETS, ids

import fastxent as fx
from fastxent._spec import SPECS

INF, NAN = np.inf, np.nan


class Case(NamedTuple):
    """Row (NAN, ``entry``, INF, NAN), label 1: loss and gradient in that entry."""

    entry: float
    loss: str
    grad: str
    u: float = 1.0
    w: float = 1.0
    upstream: float = 1.0
    label: int = 1
    ignore: int | None = None


CASES = [
    Case(-0.5, "f", "f"),
    Case(0.5, "f", "f"),
    Case(0, "0", "f"),
    Case(-INF, "+", "f"),
    Case(INF, "-", "f"),
    Case(NAN, "n", "n"),
    Case(NAN, "0", "0", u=0.0),
    Case(NAN, "0", "0", u=-0.0),
    Case(NAN, "0", "0", w=0.0),
    Case(NAN, "0", "0", ignore=1),
    Case(NAN, "n", "0", upstream=0.0),
    Case(NAN, "0", "0", u=0.0, upstream=NAN),
    Case(NAN, "0", "0", u=NAN, ignore=1),
    Case(-INF, "0", "0", u=0.0),
    Case(-INF, "0", "0", w=0.0),
    Case(-INF, "+", "0", upstream=0.0),
    Case(-0.5, "n", "n", u=NAN),
    Case(-0.5, "n", "n", w=NAN),
    Case(-0.5, "n", "0", u=NAN, upstream=0.0),
    Case(-0.5, "f", "n", upstream=NAN),
    Case(-0.5, "0", "0", label=-100, ignore=-100),
    Case(-0.5, "0", "0", label=77, u=0.0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "_".join(map(str, c)))
@pytest.mark.parametrize("axis", [-1, 0])
def test_special_values(backend, dtype, case, axis):
    """Nothing but the label's entry is read; NaN stays in that entry of the gradient."""
    x = np.array([(-1, -2, NAN, INF), (NAN, case.entry, INF, NAN), (-3, NAN, -1, -INF)])
    x = x.astype(data.dtype_of(dtype))
    y, u, upstream = np.array([1, case.label, 2]), np.array([1, case.u, 2]), np.ones(3)
    w, upstream[1] = np.array([1.0, case.w, 1.0, 1.0]), case.upstream
    y[0] = 0 if np.isnan(case.w) or case.w == 0 or case.ignore == 1 else 1
    options = {"sample_weight": u, "class_weight": w, "ignore_index": case.ignore, "axis": axis}
    placed = x if axis == -1 else np.ascontiguousarray(x.T)
    with np.errstate(all="raise"):
        loss = fx.nll_loss(placed, y, **options)
        loss2, grad = fx.nll_loss_with_grad(placed, y, upstream=upstream, **options)
        mine = placed.copy()
        fx.nll_loss_with_grad(mine, y, upstream=upstream, grad_out=mine, **options)
        total = fx.nll_loss(placed, y, reduction="sum", **options)
    cases.same(loss2, loss)
    cases.same(mine, grad)
    grad = grad if axis == -1 else grad.T
    assert pattern(loss) == f"f{case.loss}f"
    assert pattern(total) == ("f" if case.loss == "0" else case.loss)
    assert pattern(grad[1]) == f"0{case.grad}00"
    assert pattern(grad[0]) == ("f000" if y[0] == 0 else "0f00")
    assert pattern(grad[2]) == "00f0"


@pytest.mark.parametrize("shape", SETS, ids=ids)
def test_after_log_softmax_it_is_cross_entropy(backend, dtype, shape):
    """Within the budgets of both; half log-probabilities are rounded between the two."""
    x, y = cases.rows(dtype, *shape)
    exact = cases.exact("sparse_softmax_cross_entropy", x, y)
    log_p = fx.log_softmax(x, out=np.empty(x.shape, oracle.computing(dtype)))
    budget = SPECS["nll_loss"].budgets["value"]
    limit = cases.value_limit("sparse_softmax_cross_entropy", dtype, exact)
    limit = limit + oracle.allowed(budget, exact.losses, oracle.computing(dtype))
    for reduction in ("none", "mean"):
        got = fx.nll_loss(log_p, y, reduction=reduction)
        direct = fx.sparse_softmax_cross_entropy(x, y, reduction=reduction)
        each = limit if reduction == "none" else 2 * limit.mean()
        assert (np.abs(got.astype(np.float64) - direct) <= each).all()
    oracle.assert_within(fx.nll_loss(log_p, y), exact.value, limit, "nll of log_softmax")


def test_integer_scores_are_float64(backend):
    loss, grad = fx.nll_loss_with_grad(np.array([[1, -2], [3, -4]], np.int8), [1, 0])
    assert loss.dtype == grad.dtype == np.float64
    np.testing.assert_array_equal(loss, [2, -3])
    np.testing.assert_array_equal(grad, [[0, -1], [-1, 0]])


def test_exact_in_float64(backend, dtype):
    """Weights multiply in float64, and the result is rounded once."""
    x = np.full((1, 3), -3.0).astype(data.dtype_of(dtype))
    third = 1 / 3
    loss, grad = fx.nll_loss_with_grad(
        x, [1], sample_weight=[third], class_weight=[0, 3.0, 0], upstream=[0.75]
    )
    assert loss == 3
    assert grad[0, 1] == x.dtype.type(-0.75)
