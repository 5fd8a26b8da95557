"""Gradients: the exact ones, the slope of our own values, and every way to ask for them."""

import cases
import data
import numpy as np
import oracle
import pytest
from test_values import SETS, ids


@pytest.mark.parametrize("shape", SETS, ids=ids)
def test_gradient(row_loss, backend, dtype, shape):
    loss = row_loss
    x, y = cases.rows(dtype, *shape, loss)
    exact = cases.exact(loss, x, y)
    value, grad = cases.with_grad(loss)(x, y)
    cases.assert_loss(value, loss, dtype, exact)
    cases.assert_grad(grad, loss, dtype, exact, labels=y, plain=y.ndim == 1)


def test_value_does_not_depend_on_the_gradient(loss, backend, dtype):
    x, y = cases.rows(dtype, 48, 37, loss)
    value, _ = cases.with_grad(loss)(x, y)
    np.testing.assert_array_equal(value, cases.function(loss)(x, y))


def test_finite_differences(loss, backend):
    """The slope of our own float64 values along random directions, all options on."""
    x, _ = cases.rows("float64", 48, 10, loss)
    x = np.clip(x, *((0.05, 0.95) if loss == "binary_cross_entropy" else (-30, 30)))
    y = cases.labels_for(loss, x)
    options = cases.only(
        loss,
        sample_weight=cases.weights_for(loss, x),
        class_weight=data.class_weights(10),
        pos_weight=data.pos_weights(10),
        label_smoothing=0.1,
        z_loss=0.01,
        where=data.mask(x, y),
    )
    f = cases.function(loss)
    upstream = cases.ramp(loss, x)
    _, grad = cases.with_grad(loss)(x, y, upstream=upstream, **options)
    random = data.rng(5)
    h = 1e-5
    for _ in range(10):
        direction = random.choice([-1.0, 1.0], x.shape)
        up, down = f(x + h * direction, y, **options), f(x - h * direction, y, **options)
        slope = upstream * (up - down) / (2 * h)
        along = grad * direction
        along = along if along.shape == slope.shape else along.sum(1)
        np.testing.assert_allclose(along, slope, rtol=1e-6, atol=1e-7)


def test_upstream(loss, backend, dtype):
    x, y = cases.rows(dtype, 48, 10, loss)
    upstream = cases.ramp(loss, x, -2, 3)
    upstream[7] = 0
    exact = cases.exact(loss, x, y, upstream=upstream)
    value, grad = cases.with_grad(loss)(x, y, upstream=upstream)
    np.testing.assert_array_equal(value, cases.function(loss)(x, y))
    cases.assert_grad(grad, loss, dtype, exact, labels=y, plain=y.ndim == 1)
    assert not grad[7].any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_upstream_of_a_reduced_loss(loss, backend, reduction):
    x, y = cases.rows("float32", 48, 10, loss)
    for upstream in (-0.3, np.float32(1.5), 2):
        exact = cases.exact(loss, x, y, upstream=float(upstream), reduction=reduction)
        value, grad = cases.with_grad(loss)(x, y, upstream=upstream, reduction=reduction)
        assert value == cases.function(loss)(x, y, reduction=reduction)
        cases.assert_grad(grad, loss, "float32", exact, labels=y, plain=y.ndim == 1)


@pytest.mark.parametrize("upstream_dtype", ["float16", "float32", "int64"])
def test_upstream_of_any_dtype(loss, backend, upstream_dtype):
    x, y = cases.rows("float64", 48, 10, loss)
    upstream = cases.ramp(loss, x, -2, 3).astype(upstream_dtype)
    _, a = cases.with_grad(loss)(x, y, upstream=upstream)
    _, b = cases.with_grad(loss)(x, y, upstream=upstream.astype(np.float64))
    np.testing.assert_array_equal(a, b)


def test_in_place(loss, backend, dtype):
    """The gradient over the logits themselves: the same bits as in an array of its own."""
    x, y = cases.rows(dtype, 48, 37, loss)
    value, grad = cases.with_grad(loss)(x, y)
    mine = x.copy()
    value2, grad2 = cases.with_grad(loss)(mine, y, grad_out=mine)
    assert grad2 is mine
    np.testing.assert_array_equal(value2, value)
    np.testing.assert_array_equal(mine.view(np.uint8), grad.view(np.uint8))


def test_in_place_with_every_option(loss, backend):
    x, y = cases.rows("float32", 48, 37, loss)
    options = cases.only(
        loss,
        sample_weight=cases.weights_for(loss, x),
        class_weight=data.class_weights(37),
        pos_weight=data.pos_weights(37),
        label_smoothing=0.1,
        z_loss=0.01,
        where=data.mask(x, y),
        reduction="mean",
    )

    def more():
        shapes = {"labels_grad_out": x.shape} if y.ndim == 2 else {}
        shapes |= {"pos_weight_grad_out": (37,)} if "pos_weight" in options else {}
        return {name: np.full(shape, 7, np.float32) for name, shape in shapes.items()}

    extra, extra2 = more(), more()
    _, grad = cases.with_grad(loss)(x, y, **options, **extra)
    mine = x.copy()
    cases.with_grad(loss)(mine, y, grad_out=mine, **options, **extra2)
    np.testing.assert_array_equal(mine, grad)
    for k in extra:
        np.testing.assert_array_equal(extra2[k], extra[k])


def test_grad_out(loss, backend, dtype):
    x, y = cases.rows(dtype, 48, 10, loss)
    _, grad = cases.with_grad(loss)(x, y)
    out = np.full_like(x, 7)
    _, got = cases.with_grad(loss)(x, y, grad_out=out)
    assert got is out
    np.testing.assert_array_equal(out.view(np.uint8), grad.view(np.uint8))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_gradient_of_half_logits(loss, backend, dtype):
    x, y = cases.rows(dtype, 48, 10, loss)
    out = np.empty(x.shape, np.float32)
    _, got = cases.with_grad(loss)(x, y, grad_out=out)
    assert got is out
    exact = cases.exact(loss, x, y)
    cases.assert_grad(out, loss, dtype, exact, labels=y, plain=y.ndim == 1, out_dtype="float32")
    _, narrow = cases.with_grad(loss)(x, y)
    np.testing.assert_array_equal(narrow, out.astype(x.dtype))


@pytest.mark.parametrize("num_classes", [10, 1000, 5000])
def test_labels_of_any_size(backend, num_classes):
    """Labels times a power of two: the gradient times it too, to the bit, however small it is."""
    x = data.rng(1).standard_normal((8, num_classes)).astype(np.float32)
    q = data.rng(2).random(x.shape, np.float32)
    _, grad = cases.with_grad("softmax_cross_entropy")(x, q)
    for power in np.exp2(np.float32([-40, -74, -96, 40])):
        _, got = cases.with_grad("softmax_cross_entropy")(x, q * power)
        np.testing.assert_array_equal(got, grad * power)


@pytest.mark.parametrize("num_classes", [1000, 5000])
def test_confident_rows_of_dense_labels(backend, num_classes):
    """At the label a p - q cancels: what is lost in rounding a to float32 counts."""
    x = data.rng(1).standard_normal((64, num_classes)).astype(np.float32)
    rows = np.arange(len(x))
    top = x.argmax(1)
    x[rows, top] += np.linspace(8, 20, len(x), dtype=np.float32)
    q = np.zeros_like(x)
    q[rows, top] = np.linspace(0.6, 1.4, len(x), dtype=np.float32)
    rest = np.exp(np.float64(x) - x.max(1, keepdims=True))
    rest[rows, top] = 0
    rest = rest.sum(1)
    exact = -q[rows, top] * rest / (1 + rest)
    _, grad = cases.with_grad("softmax_cross_entropy")(x, q)
    np.testing.assert_allclose(grad[rows, top], exact, rtol=3e-7)


LABELS_GRAD_OPTIONS = {
    "plain": {},
    "upstream": {"upstream": np.linspace(-1, 2, 16)},
    "weighted": {"sample_weight": data.sample_weights(16), "class_weight": data.class_weights(10)},
    "smooth": {"label_smoothing": 0.3, "z_loss": 0.1},
    "mean": {"sample_weight": data.sample_weights(16), "reduction": "mean"},
    "masked": {"where": data.rng(1).random((16, 10)) < 0.6},
}


@pytest.mark.parametrize("options", LABELS_GRAD_OPTIONS, ids=str)
def test_gradient_to_dense_labels(dense_loss, backend, dtype, options):
    """Also where the label, or all labels of a row, are 0: the derivative does not vanish there."""
    options = LABELS_GRAD_OPTIONS[options]
    x, y = (a[:16] for a in cases.rows(dtype, 48, 10, dense_loss))
    y = y.copy()
    y[0] = 0
    if "where" in options:
        y = np.where(options["where"], y, 0)
    exact = cases.exact(dense_loss, x, y, **options)
    out = np.full(x.shape, 7, x.dtype)
    _, grad = cases.with_grad(dense_loss)(x, y, labels_grad_out=out, **options)
    # The budget of log_softmax and one more rounding, that of the product.
    budget = cases.SPECS["log_softmax"].budgets["value"]
    limit = oracle.allowed(
        budget._replace(ulp=budget.ulp + 1),
        exact.labels_grad,
        dtype,
        gap=cases.gaps(x, options.get("where")),
    )
    oracle.assert_within(out, exact.labels_grad, limit, "gradient to the labels")
    cases.assert_grad(grad, dense_loss, dtype, exact)
    if "where" not in options and "sample_weight" not in options and "upstream" not in options:
        assert out[0].all()
