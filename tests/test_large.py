"""More than 2^31 elements: indices are 64 bits wide everywhere.  Needs about 10 GB."""

import math

import numpy as np
import pytest

import fastxent as fx
from fastxent._backends import words

pytestmark = pytest.mark.slow

BEST = words()[0]
MANY = 2**31 + 2**20


@pytest.mark.parametrize("dtype", ["float16"])
@pytest.mark.parametrize("classes", [1024, 65_536])
def test_many_rows_in_place(dtype, classes):
    rows = MANY // classes + 1
    x = np.zeros((rows, classes), dtype)
    assert x.size > 2**31
    x[-1, -1] = 3
    y = np.zeros(rows, np.int32)
    y[-1] = classes - 1
    with fx.config(backend=BEST):
        loss, _ = fx.sparse_softmax_cross_entropy_with_grad(x, y, grad_out=x)
    assert (loss[:-1] == loss[0]).all()
    assert loss[0] == pytest.approx(math.log(classes), rel=1e-6)
    last = math.log(classes - 1 + math.exp(3)) - 3
    assert loss[-1] == pytest.approx(last, rel=1e-6)
    p = 1 / classes
    for i in (0, 2**31 // classes - 1, 2**31 // classes, rows - 2):
        assert x[i, 0] == pytest.approx(p - 1, rel=1e-3)
        assert x[i, 1] == x[i, -1] == pytest.approx(p, rel=1e-3)
    assert x[-1, -1] == pytest.approx(math.exp(-last) - 1, rel=1e-3)


def test_many_rows_of_an_inner_axis():
    rows = MANY // 8 + 1
    x = np.zeros((8, rows), np.float16)
    x[5, -1] = 2
    y = np.full(rows, 5, np.int8)
    with fx.config(backend=BEST):
        loss, _ = fx.sparse_softmax_cross_entropy_with_grad(x, y, axis=0, grad_out=x)
    assert loss[0] == pytest.approx(math.log(8), rel=1e-6)
    assert (loss[:-1] == loss[0]).all()
    assert loss[-1] == pytest.approx(math.log(7 + math.exp(2)) - 2, rel=1e-6)
    assert (x[0, :-1] == np.float16(1 / 8)).all()
    assert (x[5, :-1] == np.float16(-7 / 8)).all()
    assert x[5, -1] == np.float16(math.exp(2) / (7 + math.exp(2)) - 1)


def test_one_row():
    x = np.zeros((1, MANY), np.float16)
    x[0, -1] = 9
    with fx.config(backend=BEST):
        assert fx.logsumexp(x)[0] == pytest.approx(math.log(MANY - 1 + math.exp(9)), rel=1e-6)
        loss, _ = fx.sparse_softmax_cross_entropy_with_grad(x, np.array([MANY - 1]), grad_out=x)
    assert loss[0] == pytest.approx(math.log(MANY - 1 + math.exp(9)) - 9, rel=1e-6)
    assert x[0, -1] == -1
    assert (x[0, :-1] <= np.float16(6e-8)).all()


def test_many_rows_of_float32():
    rows = MANY // 1000 + 1
    x = np.zeros((rows, 1000), np.float32)
    x[-1, 7] = 1
    with fx.config(backend=BEST):
        lse = fx.logsumexp(x)
        fx.softmax(x, out=x)
    assert (lse[:-1] == lse[0]).all()
    assert lse[-1] == pytest.approx(math.log(999 + math.e), rel=1e-6)
    assert (x[-2] == x[0]).all()
    assert x[-1, 7] == pytest.approx(math.e / (999 + math.e), rel=1e-6)


def test_many_entries():
    x = np.zeros(MANY, np.float16)
    x[[0, 2**31 - 1, 2**31, -1]] = 3
    z = np.broadcast_to(np.float32(1), MANY)
    with fx.config(backend=BEST):
        mean, _ = fx.sigmoid_cross_entropy_with_grad(x, z, reduction="mean", grad_out=x)
        assert mean == pytest.approx(math.log(2), rel=1e-6)
        x[[0, 2**31 - 1, 2**31, -1]] = -3
        x[[1, -2]] = 0
        total = fx.sigmoid_cross_entropy(x, z, reduction="sum")
        assert total == pytest.approx(MANY * math.log(2), rel=1e-6)
        fx.sigmoid(x, out=x)
    assert (x[[0, 2**31 - 1, 2**31, -1]] == np.float16(1 / (1 + math.exp(3)))).all()
    assert (x[[1, -2]] == 0.5).all()


def test_more_rows_than_32_bits_count():
    """Without their memory: a view of one row."""
    rows = 2**31 + 5
    x = np.broadcast_to(np.float32([0, 0, 1]), (rows, 3))
    y = np.broadcast_to(np.int8(2), rows)
    with fx.config(backend=BEST):
        got = fx.sparse_softmax_cross_entropy(x, y, reduction="mean")
    assert got == pytest.approx(math.log(2 + math.e) - 1, rel=1e-6)
