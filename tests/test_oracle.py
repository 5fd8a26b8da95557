"""The oracle against itself: independent ways to the same number."""

import data
import numpy as np
import oracle
import pytest
from mpmath import mp


def test_known_numbers():
    x = np.array([[3.0, 1.0, -3.0]] * 3)
    got = oracle.cross_entropy(x, np.array([0, 1, 2])).value.hi
    np.testing.assert_allclose(
        got, [0.12910890882985, 2.12910890882985, 6.12910890882985], atol=1e-14
    )
    x = np.array([[0.0, 5.0, 1.0]])
    got = oracle.cross_entropy(x, np.array([[0.0, 0.8, 0.2]])).value.hi
    np.testing.assert_allclose(got, [0.82474489013882], atol=1e-14)


def test_one_hot_is_the_index_label():
    x = data.logits(24, 7, "float64")
    y = data.index_labels(x)
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "class_weight": data.class_weights(7)}
    a = oracle.cross_entropy(x, y, **options)
    b = oracle.cross_entropy(x, np.eye(7)[y], **options)
    np.testing.assert_array_equal(a.value.hi, b.value.hi)
    np.testing.assert_array_equal(a.grad.hi, b.grad.hi)
    np.testing.assert_array_equal(a.grad.lo, b.grad.lo)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "size_mean", "nonzero_mean"])
@pytest.mark.parametrize("dense", [False, True], ids=["index", "dense"])
def test_gradient_is_the_slope(reduction, dense):
    """Differences of the value, in high precision, along each logit and each label."""
    x = data.logits(8, 4, "float64", seed=3)
    x[np.abs(x) > 50] /= 40
    y = data.dense_labels(x) if dense else data.index_labels(x)
    options = {
        "sample_weight": np.array([1, 0, 2, 0.5, 1, 1, 3, 1]),
        "class_weight": np.array([1, 0.5, 2, 0]),
        "label_smoothing": 0.2,
        "z_loss": 0.05,
        "reduction": reduction,
    }
    upstream = np.linspace(-1, 2, 8) if reduction == "none" else 1.7
    exact = oracle.cross_entropy(x, y, upstream=upstream, **options)
    h = 2.0**-20

    def slope(move_x, move_y):
        ends = []
        for side in (1, -1):
            v = oracle.cross_entropy(x + side * move_x, y + side * move_y, **options).value
            ends.append(np.sum(upstream * v.hi))
        return (ends[0] - ends[1]) / (2 * h)

    for i in range(8):
        for k in range(4):
            step = np.zeros_like(x)
            step[i, k] = h
            assert slope(step, 0) == pytest.approx(exact.grad.hi[i, k], rel=1e-6, abs=1e-7)
            if dense:
                assert slope(0, step) == pytest.approx(
                    exact.labels_grad.hi[i, k], rel=1e-6, abs=1e-7
                )


@pytest.mark.parametrize("dtype", oracle.FORMATS)
def test_ulp_is_the_spacing(dtype):
    dt = data.dtype_of(dtype)
    for v in (1.0, 1.5, 1.9921875, 2.0, 3.0, 0.1, 60000.0, 2.0**-14):
        v = np.asarray(v, dt)
        step = np.float64(np.nextafter(v, dt.type(np.inf))) - np.float64(v)
        assert oracle.ulp(np.float64(v), dtype) == step
        assert oracle.ulp(-np.float64(v), dtype) == step
    assert oracle.ulp(0.0, dtype) == np.float64(np.nextafter(dt.type(0), dt.type(1)))


def test_errors_are_measured_beyond_double():
    with mp.workdps(50):
        exact = oracle._exact([mp.mpf(1) / 3], (1,))
    assert 0 < oracle.error(np.array([1 / 3]), exact)[0] < 2e-17
    assert oracle.error_ulp(np.array([np.nextafter(1 / 3, 1)]), exact, "float64")[
        0
    ] == pytest.approx(2 / 3, rel=0.01)


@pytest.mark.parametrize(
    ("got", "exact", "expected"),
    [
        (np.inf, np.inf, 0),
        (np.nan, np.nan, 0),
        (-np.inf, np.inf, np.inf),
        (np.nan, 1.0, np.inf),
        (1.0, np.nan, np.inf),
        (np.inf, 1.0, np.inf),
        (1.0, 1.0, 0),
    ],
)
def test_special_errors(got, exact, expected):
    exact = oracle.Exact(np.array([exact]), np.zeros(1))
    assert oracle.error(np.array([got]), exact)[0] == expected
