"""The generator of inputs: a test that meets only easy rows proves nothing."""

import data
import layouts
import numpy as np
import oracle
import pytest

from fastxent._spec import DTYPES

C, N = 10, 48


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_row_is_there(dtype):
    x = data.logits(N, C, dtype)
    assert x.dtype.name == dtype
    wide = x.astype(np.float64)
    assert np.isfinite(wide).all()
    ordered = np.sort(wide, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    assert wide.max() > 400
    assert wide.min() < -400
    kinds = np.arange(N) % len(data.KINDS)
    assert (ordered[kinds == data.KINDS.index("wide")][:, [0, -1]] == [-80, 80]).all()
    assert (gap[kinds == data.KINDS.index("confident")] > 10).all()
    assert (gap[kinds == data.KINDS.index("tie")] == 0).all()
    assert (np.ptp(wide[kinds == data.KINDS.index("equal")], axis=1) == 0).all()
    close = ordered[kinds == data.KINDS.index("close")]
    assert (close[:, -1] - close[:, 0] <= 4 * oracle.ulp(close[:, -1], dtype)).all()
    assert (np.ptp(close, axis=1) > 0).any()
    assert len(np.unique(wide)) > N * C / 3


def test_labels_hit_and_miss_the_maximum():
    x = data.logits(N, C, "float32")
    y = data.index_labels(x)
    assert (y == x.argmax(1)).any()
    assert (y == x.argmin(1)).any()
    assert ((y != x.argmax(1)) & (y != x.argmin(1))).any()
    assert {0, C - 1} <= set(y.tolist())
    result = oracle.cross_entropy(x, y)
    assert (result.gap > 10).any(), "no confident hit"
    assert (result.gap == 0).any()
    assert (result.value.hi < 1e-6).any()
    assert (result.value.hi > 100).any()


def test_dense_labels_have_every_form():
    x = data.logits(N, C, "float32")
    q = data.dense_labels(x)
    total = q.sum(1)
    assert (q >= 0).all()
    assert (q == 0).any()
    assert ((q == 1).any(1) & (total == 1)).any(), "no one-hot row"
    assert (np.isclose(total, 1) & ~(q == 1).any(1)).any()
    assert (total > 1.5).any()
    assert (oracle.cross_entropy(x, q).gap > 10).any(), "no confident hit"


def test_weights_and_masks_have_zeros_and_spread():
    u, w = data.sample_weights(N), data.class_weights(C)
    assert (u == 0).any()
    assert u.max() / u[u > 0].min() > 50
    assert (w == 0).sum() == 1
    x = data.logits(N, C, "float32")
    y = data.index_labels(x)
    keep = data.mask(x, y)
    assert keep[np.arange(N), y].all()
    assert 0.1 < 1 - keep.mean() < 0.5
    assert not keep[np.arange(N), x.argmax(1)].all(), "no row has its largest logit masked"


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts_hold_the_values(layout, tmp_path):
    x = data.logits(6, C, "float32").reshape(2, 3, C)
    array, axis = layouts.LAYOUTS[layout](x, tmp_path)
    got = layouts.rows(array, axis)
    assert got.shape[1] == C
    if layout == "broadcast":
        assert (np.ptp(got.reshape(2, 3, C), axis=1) == 0).all()
    elif layout == "stride_zero":
        assert (np.ptp(got, axis=1) == 0).all()
    elif layout == "one_row":
        np.testing.assert_array_equal(got, x[0, :1])
    else:
        np.testing.assert_array_equal(got, x.reshape(6, C))
    np.testing.assert_array_equal(layouts.unrows(got, array.shape, axis), array)


def test_layouts_are_different():
    x = data.logits(6, C, "float32").reshape(2, 3, C)
    seen = set()
    for name, make in layouts.LAYOUTS.items():
        if name == "memory_mapped":
            continue
        a, axis = make(x, None)
        f = a.flags
        seen.add((a.shape, a.strides, axis, a.dtype.byteorder, f.aligned, f.writeable))
    assert len(seen) == len(layouts.LAYOUTS) - 1
