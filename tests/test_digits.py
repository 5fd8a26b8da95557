"""Real data: softmax regression of handwritten digits reaches the known optimum."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import fastxent as fx

PENALTY = 1.0  # scikit-learn's C


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread():
    """OpenBLAS on a busy machine: 70 ms instead of 1 ms for each of these small products."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def digits():
    data, target = load_digits(return_X_y=True)
    return data / 16, target


def objective(coef, intercept, data, target):
    """scikit-learn's: sum of the losses + |coef|^2 / 2C, in float64."""
    logits = data @ coef.T + intercept
    m = logits.max(1, keepdims=True)
    lse = np.log(np.exp(logits - m).sum(1)) + m[:, 0]
    losses = lse - logits[np.arange(len(target)), target]
    return losses.sum() + 0.5 / PENALTY * (coef**2).sum()


@pytest.fixture(scope="module")
def optimum(digits):
    model = LogisticRegression(C=PENALTY, tol=1e-10, max_iter=10_000).fit(*digits)
    return objective(model.coef_, model.intercept_, *digits)


@pytest.mark.parametrize("dense", [False, True], ids=["index", "dense"])
def test_softmax_regression(backend, digits, optimum, dense):
    data, target = digits
    classes, features = 10, data.shape[1]
    labels = np.eye(classes)[target] if dense else target
    f = fx.softmax_cross_entropy_with_grad if dense else fx.sparse_softmax_cross_entropy_with_grad
    logits = np.empty((len(data), classes))

    def loss_and_slope(theta):
        coef, intercept = theta[: classes * features].reshape(classes, features), theta[-classes:]
        np.matmul(data, coef.T, out=logits)
        logits[...] += intercept
        loss, grad = f(logits, labels, reduction="sum", grad_out=logits)
        loss += 0.5 / PENALTY * (coef**2).sum()
        slope = np.concatenate([(grad.T @ data + coef / PENALTY).ravel(), grad.sum(0)])
        return loss, slope

    start = np.zeros(classes * (features + 1))
    result = optimize.minimize(
        loss_and_slope,
        start,
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 1000, "maxcor": 30, "ftol": 1e-12, "gtol": 1e-4},
    )
    theta = result.x
    coef, intercept = theta[: classes * features].reshape(classes, features), theta[-classes:]
    reached = objective(coef, intercept, data, target)
    assert reached == pytest.approx(optimum, rel=1e-6)
    assert result.fun == pytest.approx(reached, rel=1e-12)
    assert 0 < reached < 0.5 * objective(0 * coef, 0 * intercept, data, target)
