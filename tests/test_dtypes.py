"""Dtypes: of results, of labels, of weights, of everything that may be given."""

import cases
import data
import numpy as np
import pytest
from conftest import UNLABELLED, of

import fastxent as fx
from fastxent._spec import DTYPES, REDUCTIONS, SPECS

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def test_result_dtypes(name, backend, dtype):
    x, y = cases.rows(dtype, 48, 10, name)
    wide = "float64" if dtype == "float64" else "float32"
    if not SPECS[name].is_loss:
        expected = wide if name == "logsumexp" else dtype
        got = cases.function(name)(x)
        assert got.dtype.name == expected
        assert got.flags.c_contiguous
        return
    for reduction in REDUCTIONS:
        value = cases.function(name)(x, y, reduction=reduction)
        value2, grad = cases.with_grad(name)(x, y, reduction=reduction)
        assert value.dtype.name == value2.dtype.name == wide
        assert grad.dtype.name == dtype
        if reduction != "none":
            assert isinstance(value, np.generic), "a NumPy scalar"
            assert isinstance(value2, np.generic)
        else:
            assert isinstance(value, np.ndarray)


@pytest.mark.parametrize("reduction", REDUCTIONS[1:])
def test_reduced_losses_are_rounded_once(loss, backend, reduction):
    """The sum runs in float64: two hundred thousand float32 losses lose nothing."""
    x = np.tile(np.array([[1.0, 0.3, -0.2]], np.float32), (200_001, 1))
    if not SPECS[loss].has_classes:
        x = x[:, 1:2].copy()
    y = np.zeros(len(x), int) if cases.indexed(loss) else np.zeros_like(x)
    if y.ndim == 2:
        y[:, 0] = 1
    one = cases.exact(loss, x[:1], y[:1]).value.hi.ravel()[0]
    got = cases.function(loss)(x, y, reduction=reduction)
    expected = one * len(x) if reduction == "sum" else one
    # Every row has the same loss, so its own error (4 ulp at most) stays, and no more.
    np.testing.assert_allclose(float(got), expected, rtol=5 * 2.0**-23)
    each = cases.function(loss)(x[:1], y[:1]).ravel()[0]
    assert abs(float(got) / (expected / one) - float(each)) <= 2 * np.spacing(abs(each))


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_integer_logits_are_float64(name, backend, dtype):
    steps = 2 if name == "binary_cross_entropy" else 11
    x = (np.arange(30).reshape(5, 6) * 7 % steps).astype(dtype)
    y = cases.labels_for(name, x.astype(float)) if SPECS[name].is_loss else None
    wide = x.astype(np.float64)
    if y is None:
        got, expected = [cases.function(name)(x)], [cases.function(name)(wide)]
    else:
        got, expected = cases.with_grad(name)(x, y), cases.with_grad(name)(wide, y)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("labels_dtype", INTEGERS)
def test_index_labels_of_any_integer_dtype(indexed_loss, backend, dtype, labels_dtype):
    index_loss = indexed_loss
    x, y = cases.rows(dtype, 48, 37)
    a = cases.with_grad(index_loss)(x, y.astype(labels_dtype), class_weight=data.class_weights(37))
    b = cases.with_grad(index_loss)(x, y, class_weight=data.class_weights(37))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_labels_above_the_exact_range_of_the_logits_dtype(index_loss, backend):
    """70 001 classes in half precision: a label cast to the logits dtype would be another one."""
    for dtype in ("float16", "bfloat16"):
        x = np.zeros((2, 70_001), data.dtype_of(dtype))
        x[0, 69_999] = 30
        y = np.array([69_999, 70_000], np.uint32)
        value, grad = cases.with_grad(index_loss)(x, y, grad_out=np.empty(x.shape, np.float32))
        assert value[0] < 1e-6
        assert value[1] == pytest.approx(np.log(70_001), rel=1e-6)
        assert grad[1].argmin() == 70_000


def test_index_labels_of_bool_are_refused(indexed_loss, backend):
    with pytest.raises(TypeError, match=r"labels.*bool"):
        cases.function(indexed_loss)(np.zeros((2, 2)), np.array([True, False]))


@pytest.mark.parametrize("labels_dtype", ["bool", *INTEGERS, *DTYPES])
@pytest.mark.parametrize("loss", of("dense", "binary"))
def test_real_labels_of_any_dtype(loss, backend, dtype, labels_dtype):
    """Converted, never changing the result dtype."""
    x, y = cases.rows(dtype, 48, 10, loss)
    times = 2 if SPECS[loss].has_classes else 1
    y = (y * times).astype(data.dtype_of(labels_dtype))
    exact = cases.exact(loss, x, y)
    value, grad = cases.with_grad(loss)(x, y)
    cases.assert_loss(value, loss, dtype, exact)
    cases.assert_grad(grad, loss, dtype, exact)


@pytest.mark.parametrize("out_dtype", DTYPES)
def test_out_dtypes(backend, dtype, out_dtype):
    """Exactly the dtype, or float32 for half inputs of the array-shaped normalisers."""
    x, _ = cases.rows(dtype, 48, 10)
    for name in UNLABELLED:
        out = np.empty(48 if name == "logsumexp" else x.shape, data.dtype_of(out_dtype))
        fine = {cases.value_dtype(name, dtype)}
        if name != "logsumexp" and dtype in ("float16", "bfloat16"):
            fine.add("float32")
        if out_dtype in fine:
            assert cases.function(name)(x, out=out) is out
        else:
            with pytest.raises((TypeError, ValueError), match=r"out.*float"):
                cases.function(name)(x, out=out)


@pytest.mark.parametrize("reduction", REDUCTIONS[1:])
def test_numpy_scalars_and_one_dimension(softmax_loss, backend, reduction):
    """One row without a batch axis: scalars in, NumPy scalars out."""
    loss = softmax_loss
    x = np.array([3.0, 1.0, -3.0])
    y = np.int64(2) if SPECS[loss].family == "index" else np.array([0, 0, 1.0])
    value = cases.function(loss)(x, y, reduction=reduction)
    assert value == pytest.approx(6.12910890882985, abs=1e-13)
    assert cases.function(loss)(x, y).shape == ()
    value, grad = cases.with_grad(loss)(x, y)
    assert grad.shape == (3,)
    assert value == pytest.approx(6.12910890882985, abs=1e-13)


def test_the_registry_names_the_dtypes():
    assert set(DTYPES) == {"float16", "bfloat16", "float32", "float64"}
    assert fx.softmax(np.zeros(3, data.dtype_of("bfloat16"))).dtype == data.dtype_of("bfloat16")
