"""The same bits for any thread count, any chunking, any neighbours; rows cut in pieces."""

import functools
import math
import os
import subprocess
import sys

import cases
import data
import numpy as np
import pytest
from conftest import of

import fastxent as fx
from fastxent import _choices
from fastxent._spec import REDUCTIONS, SPECS

THREADS = (1, 2, 7)


def _everything(name, x, y, reduction="none", axis=-1):
    along = cases.only(name, axis=axis)
    if not SPECS[name].is_loss:
        return (cases.function(name)(x, **along),)
    options = cases.only(name, label_smoothing=0.1, z_loss=0.01, pos_weight=3.0)
    return cases.with_grad(name)(x, y, reduction=reduction, **along, **options)


def _same(a, b):
    for one, other in zip(a, b, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def _threads(name, x, y, **options):
    results = []
    for n in THREADS:
        with fx.config(threads=n):
            results.append(_everything(name, x, y, **options))
    for r in results[1:]:
        _same(r, results[0])


def _big(name, dtype, rows, classes):
    random = data.rng(2)
    x = 4 * random.standard_normal((rows, classes), dtype=np.float32)
    x = (1 / (1 + np.exp(x)) if name == "binary_cross_entropy" else x).astype(data.dtype_of(dtype))
    if SPECS[name].family in ("dense", "binary"):
        return x, random.random((rows, classes), dtype=np.float32)
    return x, random.integers(0, classes, rows)


SHAPES = [(9001, 101), (90_011, 10), (37, 30_000)]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shapes_are_large_enough_for_the_pool(shape):
    """Threads of the system are counted: those of compiled kernels have no Python in them."""
    code = (
        "import os, numpy as np, fastxent as fx; fx.set_config(threads=3);"
        f"x = np.zeros({shape}, np.float32); tasks = lambda: len(os.listdir('/proc/self/task'));"
        "before = tasks(); fx.logsumexp(x); print(tasks() - before)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert int(done.stdout) > 0, done.stderr


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_threads(name, backend, dtype, shape):
    """Work enough for the pool; row counts that no thread count divides."""
    x, y = _big(name, dtype, *shape)
    _threads(name, x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_threads_and_reductions(loss, backend, dtype, reduction):
    """In float64 nothing rounds the sum's own bits away."""
    x, y = _big(loss, dtype, 90_011, 10)
    _threads(loss, x, y, reduction=reduction)


def test_threads_along_an_inner_axis(row_name, backend):
    name = row_name
    x, y = _big(name, "float32", 4 * 13_003, 21)
    x = np.ascontiguousarray(x.reshape(4, 13_003, 21).transpose(0, 2, 1))
    if y.ndim == 2:
        y = np.ascontiguousarray(y.reshape(4, 13_003, 21).transpose(0, 2, 1))
    else:
        y = y.reshape(4, 13_003)
    _threads(name, x, y, axis=1)


def test_chunks_of_rows(name, backend, dtype):
    """Rows given together or in pieces of any size: the same bits."""
    x, y = _big(name, dtype, 1000, 37)
    whole = _everything(name, x, y)
    for cut in (1, 13, 63, 64, 65, 999):
        parts = [
            _everything(name, x[i : i + cut], y[i : i + cut])
            for i in range(0, 1000 if cut > 1 else 40, cut)
        ]
        for k, together in enumerate(whole):
            pieces = np.concatenate([p[k] for p in parts])
            assert pieces.tobytes() == together[: len(pieces)].tobytes()


def test_neighbours(name, backend, dtype):
    """A row's bits do not depend on the rows around it, special ones included."""
    x, y = _big(name, dtype, 64, 37)
    alone = _everything(name, x[10:11], y[10:11])
    for value in (np.nan, np.inf, -np.inf, 60.0, 0.0):
        others = np.full_like(x, value)
        others[10] = x[10]
        got = _everything(name, others, y)
        for a, b in zip(got, alone, strict=True):
            assert a[10].tobytes() == b[0].tobytes()


@pytest.mark.parametrize("classes", [1009, 5003])
def test_plain_rows_alone(index_loss, backend, dtype, classes):
    """Where a gradient keeps its exponentials and the next row is read early: the same bits."""
    x, y = _big(index_loss, dtype, 9, classes)
    x[3, 5], x[4] = -np.inf, np.nan
    x[1] *= 60  # exponentials that are 0, or nearly
    f = cases.with_grad(index_loss)
    together = f(x, y)
    mine = x.copy()
    _same(f(mine, y, grad_out=mine), together)
    for k in range(len(x)):
        for a, b in zip(f(x[k : k + 1], y[k : k + 1]), together, strict=True):
            assert a[0].tobytes() == b[k].tobytes()


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_outputs_larger_than_the_cache(name, compiled, dtype, axis, monkeypatch):
    """Written past the cache or not, at any alignment: the same bits, nothing beside them."""
    if name == "logsumexp" or (axis == 0 and not SPECS[name].has_classes):
        return  # its output is small; an entry has no axis
    along = cases.only(name, axis=axis)
    x, y = _big(name, dtype, 2**24 // data.dtype_of(dtype).itemsize // 1009 + 7, 1009)
    monkeypatch.setattr(_choices, "STREAM_BYTES", x.nbytes)
    if axis == 0:
        x, y = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
    f = cases.with_grad(name) if SPECS[name].is_loss else None

    def into(array):
        if f is None:
            return cases.function(name)(array[0], **along, out=array[1])
        return f(array[0], y, **along, grad_out=array[1])[1]

    fresh = into((x, None))
    mine = x.copy()
    assert into((mine, mine)).tobytes() == fresh.tobytes()
    around = np.full((x.shape[0] + 2, x.shape[1] + 3), 7, x.dtype)
    view = around[1:-1, 1:-2]
    assert into((x, view)) is view
    assert view.tobytes() == fresh.tobytes()
    view[...] = 7
    assert (around == 7).all()


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float32", (3, 21, 50_001)), ("float64", (1, 5, 2**18 + 2**16))], ids=str
)
def test_gradients_past_the_cache_along_an_inner_axis(
    row_name, compiled, dtype, shape, monkeypatch
):
    """They are written in groups of tiles, whole lines only: at any alignment the same bits."""
    name = row_name
    if name == "logsumexp":
        return  # its output is small
    random = data.rng(5)
    x = random.standard_normal(shape, dtype=dtype)
    monkeypatch.setattr(_choices, "STREAM_BYTES", x.nbytes)
    if SPECS[name].family == "dense":
        y = random.random(x.shape, dtype=np.float32)
    else:
        y = random.integers(0, shape[1], (len(x), shape[2]))

    def into(scores, out):
        if SPECS[name].is_loss:
            return cases.with_grad(name)(scores, y, axis=1, grad_out=out)[1]
        return cases.function(name)(scores, axis=1, out=out)

    mine = x.copy()  # in place nothing goes past the cache
    expected = into(mine, mine)
    around = np.full(x.size + 70, 7, x.dtype)
    for offset in (0, 1, 13):
        view = around[offset : offset + x.size].reshape(x.shape)
        assert into(x, view).tobytes() == expected.tobytes()
        assert (around[:offset] == 7).all()
        assert (around[offset + x.size :] == 7).all()
        around[...] = 7


def test_repeated_calls(name, backend):
    x, y = _big(name, "float32", 3001, 101)
    first = _everything(name, x, y)
    for _ in range(5):
        _same(_everything(name, x, y), first)


# ---- rows longer than 2^20 are cut in pieces -----------------------------------------

LONG = 2**20 + 2**18 + 12_345


@functools.cache
def _long(dtype, rows):
    """Long rows, their labels, logsumexp and softmax; the sums are exact sums of doubles."""
    x = 3 * data.rng(3).standard_normal((rows, LONG), dtype=np.float32)
    x = x.astype(data.dtype_of(dtype))
    wide = x.astype(np.float64)
    m = wide.max(1)
    p = np.exp(wide - m[:, None])
    s = np.array([math.fsum(row) for row in p])
    p /= s[:, None]
    x.flags.writeable = p.flags.writeable = False
    return x, np.full(rows, LONG - 7), m + np.log(s), p


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", of("normalizer", "index", "dense"))
def test_long_rows(name, backend, dtype, rows):
    x, y, lse, p = _long(dtype, rows)
    at = np.arange(rows)
    mass = [(y, 1.0)]
    if SPECS[name].family == "dense":
        mass = [(y, 0.75), (5, 0.25)]
        y = np.zeros(x.shape, np.float32)
        for k, m in mass:
            y[at, k] = m
    _threads(name, x, y)

    rtol = 4e-15 if dtype == "float64" else 4e-7
    wide = np.float64 if dtype == "float64" else np.float32
    if name == "logsumexp":
        np.testing.assert_allclose(fx.logsumexp(x), lse, rtol=rtol)
        return
    out = np.empty(x.shape, wide)
    if name == "softmax":
        exact, got = p, fx.softmax(x, out=out)
    elif name == "log_softmax":
        exact, got = x - lse[:, None], fx.log_softmax(x, out=out)
    else:
        value, got = cases.with_grad(name)(x, y, grad_out=out)
        expected = sum(m * (lse - x[at, k].astype(np.float64)) for k, m in mass)
        np.testing.assert_allclose(value, expected, rtol=rtol)
        exact = p.copy()
        for k, m in mass:
            exact[at, k] -= m
    np.testing.assert_allclose(got, exact, rtol=40 * rtol, atol=0)


def test_a_long_confident_row(index_loss, backend):
    """The label's maximum in one piece, the rest in others: the accuracy survives the merge."""
    for spot in (0, LONG - 1, 2**19):
        x = np.full((1, LONG), -40, np.float32)
        x[0, spot] = 0
        value, grad = cases.with_grad(index_loss)(x, np.array([spot]))
        expected = math.log1p((LONG - 1) * math.exp(-40))
        assert float(value[0]) == pytest.approx(expected, rel=2e-6)
        assert float(-grad[0, spot]) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_special_values_in_long_rows(index_loss, backend, value):
    x = np.zeros((1, LONG), np.float32)
    for spot in (3, 2**18, LONG - 1):
        x[:] = 0
        x[0, spot] = value
        loss, grad = cases.with_grad(index_loss)(x, np.array([100]))
        if value == -np.inf:
            assert float(loss[0]) == pytest.approx(math.log(LONG - 1), rel=1e-6)
            assert grad[0, spot] == 0
        else:
            assert np.isnan(loss[0])
            assert np.isnan(grad).all()
    x[:] = -np.inf
    assert fx.logsumexp(x)[0] == -np.inf
    x[0, 2**18 + 5] = 3
    assert fx.logsumexp(x)[0] == 3
