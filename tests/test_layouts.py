"""Every axis and every memory layout gives the rows' own answer."""

import cases
import data
import layouts
import numpy as np
import oracle
import pytest

import fastxent as fx
from fastxent._spec import SPECS

C = 19


def _array(name, dtype, layout, tmp_path):
    x = cases.scores_for(name, dtype, 6, C, seed=4).reshape(2, 3, C)
    return layouts.LAYOUTS[layout](x, tmp_path)


def _labels(name, rows, shape, axis):
    """Labels in the logits' outer shape, themselves a strided view."""
    y = cases.labels_for(name, rows, seed=4)
    axis %= len(shape)
    outer = (*shape[:axis], *shape[axis + 1 :])
    if y.ndim == 2:
        placed = layouts.unrows(y, shape, axis)
        return y, np.asfortranarray(placed)
    big = np.zeros((*outer, 2), np.int32) if outer else np.zeros(2, np.int32)
    big[..., 0] = y.reshape(outer)
    return y, big[..., 0]


def test_normalizer(unlabelled, backend, dtype, layout, tmp_path):
    normalizer = unlabelled
    x, axis = _array(normalizer, dtype, layout, tmp_path)
    rows = layouts.rows(x, axis)
    before = rows.tobytes()
    got = cases.function(normalizer)(x, **cases.only(normalizer, axis=axis))
    exact, size = cases.exact_normalizer(normalizer, rows)
    wanted = cases.value_dtype(normalizer, dtype)
    assert got.dtype == data.dtype_of(wanted)
    limit = oracle.allowed(
        SPECS[normalizer].budgets["value"], exact, dtype, **size, out_dtype=wanted
    )
    if normalizer == "logsumexp":
        assert got.shape == tuple(np.delete(x.shape, axis))
        got = np.reshape(got, -1)
    else:
        assert got.shape == x.shape
        got = layouts.rows(got, axis)
    oracle.assert_within(got, exact, limit, f"{normalizer} {layout}")
    assert layouts.rows(x, axis).tobytes() == before


def test_loss(loss, backend, dtype, layout, tmp_path):
    x, axis = _array(loss, dtype, layout, tmp_path)
    rows = layouts.rows(x, axis)
    before = rows.tobytes()
    y, labels = _labels(loss, rows, x.shape, axis)
    exact = cases.exact(loss, rows, y)
    along = cases.only(loss, axis=axis)
    value, grad = cases.with_grad(loss)(x, labels, **along)
    assert value.shape == cases.losses_shape(loss, x, axis)
    in_rows = np.reshape(value, -1) if along else layouts.rows(value, axis)
    cases.assert_loss(in_rows, loss, dtype, exact, layout)
    assert grad.shape == x.shape
    assert grad.dtype == data.dtype_of(dtype), "native byte order"
    cases.assert_grad(
        layouts.rows(grad, axis), loss, dtype, exact, labels=y, plain=y.ndim == 1, what=layout
    )
    np.testing.assert_array_equal(cases.function(loss)(x, labels, **along), value)
    assert layouts.rows(x, axis).tobytes() == before


@pytest.mark.parametrize("layout", layouts.WRITABLE)
def test_gradient_in_place(loss, backend, layout, tmp_path):
    for dtype in ("float32", "float16"):
        x, axis = _array(loss, dtype, layout, tmp_path)
        rows = layouts.rows(x, axis)
        y, labels = _labels(loss, rows, x.shape, axis)
        along = cases.only(loss, axis=axis)
        _, grad = cases.with_grad(loss)(x, labels, **along)
        _, same = cases.with_grad(loss)(x, labels, **along, grad_out=x)
        assert same is x
        np.testing.assert_array_equal(np.asarray(x, data.dtype_of(dtype)), grad)


@pytest.mark.parametrize("layout", layouts.WRITABLE)
def test_outputs_in_every_layout(name, backend, layout, tmp_path):
    """``out`` and ``grad_out`` may have any strides too; nothing beside them is written."""
    x = cases.scores_for(name, "float32", 6, C, seed=4).reshape(2, 3, C)
    target, axis = layouts.LAYOUTS[layout](np.full_like(x, 7), tmp_path)
    if target.dtype.byteorder == ">":
        return  # outputs need the exact dtype
    base = target if target.base is None else target.base
    rows = layouts.rows(x, -1)[: target.size // C]
    placed = np.ascontiguousarray(layouts.unrows(rows, target.shape, axis))
    around = base.size - target.size if base.dtype == target.dtype else None
    sevens = np.count_nonzero(base == 7) if around is not None else None
    assert sevens in (None, target.size)
    along = cases.only(name, axis=axis)
    if SPECS[name].is_loss:
        _, labels = _labels(name, rows, target.shape, axis)
        fresh = cases.with_grad(name)(placed, labels, **along)[1]
        got = cases.with_grad(name)(placed, labels, **along, grad_out=target)[1]
    elif name == "logsumexp":
        return  # its output has no class axis
    else:
        fresh = cases.function(name)(placed, **along)
        got = cases.function(name)(placed, **along, out=target)
    assert got is target
    np.testing.assert_array_equal(target, fresh)
    if around is not None:
        assert np.count_nonzero(base) <= target.size


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 3, 4, 5), (2, 1, 3, 1, 2)], ids=str)
def test_every_axis(row_name, backend, shape):
    name, random = row_name, data.rng(8)
    x = random.standard_normal(shape)
    for axis in range(-len(shape), len(shape)):
        rows = layouts.rows(x, axis)
        if not SPECS[name].is_loss:
            got = cases.function(name)(x, axis=axis)
            expected = cases.function(name)(rows)
            if name == "logsumexp":
                np.testing.assert_allclose(got.ravel(), expected, rtol=1e-14, atol=1e-14)
            else:
                np.testing.assert_allclose(
                    layouts.rows(got, axis), expected, rtol=1e-14, atol=1e-15
                )
            continue
        y, labels = _labels(name, rows, shape, axis)
        smooth = cases.only(name, label_smoothing=0.1)
        value, grad = cases.with_grad(name)(x, labels, axis=axis, **smooth)
        expected, expected_grad = cases.with_grad(name)(rows, y, **smooth)
        np.testing.assert_allclose(np.ravel(value), expected, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(layouts.rows(grad, axis), expected_grad, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_options_along_an_inner_axis(row_loss, backend, dtype, reduction):
    """Weights, masks and upstream gradients when the classes lie in the middle."""
    loss = row_loss
    rows = data.logits(24, C, dtype, seed=6)
    y = cases.labels_for(loss, rows, seed=6)
    keep = data.mask(rows, y)
    u = data.sample_weights(24)
    upstream = np.linspace(-1, 2, 24) if reduction == "none" else 1.5
    options = cases.only(
        loss,
        class_weight=data.class_weights(C),
        label_smoothing=0.1,
        z_loss=0.01,
        reduction=reduction,
    )
    masked = cases.only(loss, where=keep)
    exact = cases.exact(loss, rows, y, sample_weight=u, upstream=upstream, **masked, **options)
    x = np.ascontiguousarray(rows.reshape(4, 6, C).transpose(0, 2, 1))
    labels = (
        y.reshape(4, 6)
        if y.ndim == 1
        else np.ascontiguousarray(y.reshape(4, 6, C).transpose(0, 2, 1))
    )
    value, grad = cases.with_grad(loss)(
        x,
        labels,
        axis=1,
        sample_weight=u.reshape(4, 6),
        upstream=upstream.reshape(4, 6) if reduction == "none" else upstream,
        **cases.only(loss, where=keep.reshape(4, 6, C).transpose(0, 2, 1)),
        **options,
    )
    value = value.ravel() if reduction == "none" else value
    cases.assert_loss(value, loss, dtype, exact)
    cases.assert_grad(layouts.rows(grad, 1), loss, dtype, exact)


@pytest.mark.parametrize("labels_layout", layouts.LAYOUTS)
def test_dense_labels_in_every_layout(dense_loss, backend, labels_layout, tmp_path):
    q = np.abs(data.logits(6, C, "float64", seed=4)).reshape(2, 3, C)
    q, axis = layouts.LAYOUTS[labels_layout](q, tmp_path)
    x = data.logits(6, C, "float64", seed=9)[: q.size // C]
    placed = np.ascontiguousarray(layouts.unrows(x, q.shape, axis))
    f = cases.with_grad(dense_loss)
    got, grad = f(placed, q, axis=axis)
    plain = np.array(q, dtype=np.float64, order="C")
    expected, expected_grad = f(placed, plain, axis=axis)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-13, atol=1e-13)


def test_index_labels_in_every_form(indexed_loss, backend):
    """Strided, reversed, byte-swapped, read-only, unaligned, broadcast labels; lists too."""
    x = data.logits(6, C, "float32")
    f = cases.function(indexed_loss)
    y = np.array([3, 1, 4, 1, 5, 9], np.int32)
    expected = f(x, y)
    raw = np.empty(25, np.uint8)[1:].view(np.int32)
    raw[:] = y
    frozen = y.copy()
    frozen.flags.writeable = False
    for form in (
        np.repeat(y, 2)[::2],
        y[::-1].copy()[::-1],
        y.astype(">i4"),
        raw,
        frozen,
        y.tolist(),
    ):
        np.testing.assert_array_equal(f(x, form), expected)
    np.testing.assert_array_equal(
        f(x, np.broadcast_to(np.int64(2), 6)),
        f(x, np.full(6, 2)),
    )


def test_nested_lists_are_logits(name, backend):
    x = [[1.0, 0.25, 0.5], [0.125, 1.0, 0.0]]
    y = [0, 2] if cases.indexed(name) else [[1, 0, 0], [0, 0, 1]]
    args = (y,) if SPECS[name].is_loss else ()
    got = cases.function(name)(x, *args)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, cases.function(name)(np.array(x), *args))


#: On both sides of whole vectors, of whole tiles, and of where rows are no longer in tiles.
FEW_CLASSES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 21, 31, 32, 33, 63, 64, 65, 70)
ROW_COUNTS = (1, 5, 16, 63, 64, 67, 131)


@pytest.mark.parametrize("axis", [-1, 0])
def test_few_classes(row_name, compiled, dtype, axis):
    """Any number of classes and rows: as the reference, which knows neither tiles nor vectors."""
    random = data.rng(11)
    rtol = {"float64": 2e-14, "float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype, 2e-6)
    for classes in FEW_CLASSES:
        for rows in ROW_COUNTS:
            x = (3 * random.standard_normal((rows, classes))).astype(data.dtype_of(dtype))
            y = cases.labels_for(row_name, x, seed=classes)
            given = x
            if axis == 0:
                given = np.ascontiguousarray(x.T)
                y = np.ascontiguousarray(y.T) if y.ndim == 2 else y
            with fx.config(backend="numpy"):
                expected = _results(row_name, given, y, axis)
            for got, wanted in zip(_results(row_name, given, y, axis), expected, strict=True):
                assert got.dtype == wanted.dtype
                scale = max(1.0, np.abs(wanted.astype(np.float64)).max())
                np.testing.assert_allclose(
                    got.astype(np.float64), wanted.astype(np.float64), rtol, rtol * scale / 8,
                    err_msg=f"{rows} x {classes}",
                )  # fmt: skip


def _results(name, x, y, axis):
    if SPECS[name].is_loss:
        return cases.with_grad(name)(x, y, axis=axis)
    return (cases.function(name)(x, axis=axis),)
