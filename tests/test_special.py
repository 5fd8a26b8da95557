"""The table of special values, row by row, on every backend and float dtype.

Each case is one row of four classes with the pattern of its answer written by hand
(``0`` exactly zero, ``f`` finite and not zero, ``n`` NaN, ``+`` and ``-`` the infinities),
and compared with the oracle too.  The row stands between two ordinary ones, whose bits it
may not touch.  NumPy is told to raise on every floating-point error, so a warning fails.
"""

from typing import NamedTuple

import cases
import data
import numpy as np
import oracle
import pytest
from conftest import of

import fastxent as fx
from fastxent._spec import REDUCTIONS

INF, NAN = np.inf, np.nan
PLAIN = (0.5, -1.0, 2.0, 1.0)
MINUS = (0.5, -INF, 2.0, 1.0)
PLUS = (0.5, INF, 2.0, 1.0)
NANS = (0.5, NAN, 2.0, 1.0)
NOTHING = (-INF,) * 4
NOT_1 = (True, False, True, True)
NEVER = (False,) * 4


class Case(NamedTuple):
    name: str
    x: tuple
    y: object  # a class, or a tuple of label mass
    loss: str
    grad: str
    w: tuple | None = None
    u: float | None = None
    e: float = 0.0
    t: float = 0.0
    where: tuple | None = None
    upstream: float = 1.0
    ignore: int | None = None
    to_labels: str | None = None

    def __str__(self):
        return self.name


W_NOT_1 = (1.0, 0.0, 2.0, 1.0)

INDEX = [
    Case("minus_inf", MINUS, 0, "f", "f0ff"),
    Case("minus_inf_z_loss", MINUS, 0, "f", "f0ff", t=0.1),
    Case("minus_inf_label", MINUS, 1, "+", "ffff"),
    Case("minus_inf_label_weighted", MINUS, 1, "+", "ffff", w=(1.0, 3.0, 2.0, 1.0), u=0.5),
    Case("minus_inf_label_weight_0", MINUS, 1, "0", "0000", w=W_NOT_1),
    Case("minus_inf_label_weight_0_z_loss", MINUS, 1, "f", "f0ff", w=W_NOT_1, t=0.1),
    Case("minus_inf_smoothing", MINUS, 0, "+", "ffff", e=0.1),
    Case("minus_inf_smoothing_weight_0", MINUS, 0, "f", "f0ff", e=0.1, w=W_NOT_1),
    Case("minus_inf_label_all_smoothing", MINUS, 1, "f", "f0ff", e=1.0, w=W_NOT_1),
    Case("three_minus_inf", (-INF, 3.0, -INF, -INF), 1, "0", "0000"),
    Case("plus_inf", PLUS, 0, "n", "nnnn"),
    Case("plus_inf_label", PLUS, 1, "n", "nnnn"),
    Case("two_plus_inf", (INF, INF, 0.0, 0.0), 0, "n", "nnnn"),
    Case("both_infinities", (INF, -INF, 0.0, 0.0), 1, "n", "nnnn"),
    Case("all_minus_inf", NOTHING, 2, "n", "nnnn"),
    Case("nan", NANS, 0, "n", "nnnn"),
    Case("nan_label", NANS, 1, "n", "nnnn"),
    Case("nan_first", (NAN, 1.0, 2.0, 3.0), 3, "n", "nnnn"),
    Case("nan_last", (3.0, 1.0, 2.0, NAN), 0, "n", "nnnn"),
    Case("nan_and_plus_inf", (NAN, INF, 2.0, 3.0), 3, "n", "nnnn"),
    Case("nan_and_minus_inf", (NAN, -INF, -INF, -INF), 1, "n", "nnnn"),
    Case("all_nan", (NAN,) * 4, 1, "n", "nnnn"),
    Case("nan_ignored", NANS, 2, "0", "0000", ignore=2),
    Case("nan_weight_0", NANS, 2, "0", "0000", u=0.0),
    Case("nan_negative_zero_weight", NANS, 2, "0", "0000", u=-0.0),
    Case("nan_class_weight_0", NANS, 1, "0", "0000", w=W_NOT_1),
    Case("nan_class_weight_0_smoothing", NANS, 1, "n", "nnnn", w=W_NOT_1, e=0.1),
    Case("plus_inf_class_weight_0", PLUS, 1, "0", "0000", w=W_NOT_1),
    Case("all_minus_inf_ignored", NOTHING, 2, "0", "0000", ignore=2),
    Case("nan_upstream_0", NANS, 0, "n", "0000", upstream=0.0),
    Case("plus_inf_upstream_0", PLUS, 0, "n", "0000", upstream=0.0),
    Case("minus_inf_label_upstream_0", MINUS, 1, "+", "0000", upstream=0.0),
    Case("nan_weight_0_upstream_0", NANS, 0, "0", "0000", u=0.0, upstream=0.0),
    Case("nan_sample_weight", PLAIN, 0, "n", "nnnn", u=NAN),
    Case("nan_sample_weight_ignored", PLAIN, 0, "0", "0000", u=NAN, ignore=0),
    Case("nan_weight_of_the_label", PLAIN, 1, "n", "nnnn", w=(1.0, NAN, 1.0, 1.0)),
    Case("nan_weight_of_another_class", PLAIN, 0, "f", "ffff", w=(1.0, NAN, 1.0, 1.0)),
    Case("inf_weight_of_another_class", PLAIN, 0, "f", "ffff", w=(1.0, INF, 1.0, 1.0)),
    Case("nan_upstream", PLAIN, 0, "f", "nnnn", upstream=NAN),
    Case("nan_upstream_weight_0", PLAIN, 0, "0", "0000", u=0.0, upstream=NAN),
    Case("nan_upstream_ignored", PLAIN, 0, "0", "0000", ignore=0, upstream=NAN),
    Case("nan_sample_weight_upstream_0", PLAIN, 0, "n", "0000", u=NAN, upstream=0.0),
    Case("label_ignored_out_of_range", PLAIN, -100, "0", "0000", ignore=-100),
    Case("label_weight_0_out_of_range", PLAIN, 77, "0", "0000", u=0.0),
    Case("masked_nan", NANS, 0, "f", "f0ff", where=NOT_1),
    Case("masked_plus_inf", PLUS, 0, "f", "f0ff", where=NOT_1),
    Case("masked_smoothing", PLAIN, 0, "f", "f0ff", where=NOT_1, e=0.2),
    Case(
        "masked_nan_smoothing_weights",
        NANS,
        0,
        "f",
        "f0ff",
        where=NOT_1,
        e=0.2,
        w=(1.0, 5.0, 2.0, 3.0),
    ),
    Case("masked_z_loss", PLUS, 0, "f", "f0ff", where=NOT_1, t=0.1),
    Case("masked_label", PLAIN, 1, "+", "f0ff", where=NOT_1),
    Case("masked_label_nan_logit", NANS, 1, "+", "f0ff", where=NOT_1),
    Case("masked_label_smoothing", PLAIN, 1, "+", "f0ff", where=NOT_1, e=0.2),
    Case("masked_label_weight_0", PLAIN, 1, "0", "0000", where=NOT_1, w=W_NOT_1),
    Case("masked_label_upstream_0", PLAIN, 1, "+", "0000", where=NOT_1, upstream=0.0),
    Case("masked_label_ignored", PLAIN, 1, "0", "0000", where=NOT_1, ignore=1),
    Case("masked_minus_inf_elsewhere", (0.5, 1.0, -INF, 1.0), 0, "f", "f00f", where=NOT_1),
    Case("one_allowed", PLAIN, 0, "0", "0000", where=(True, False, False, False)),
    Case("one_allowed_smoothing", PLAIN, 0, "0", "0000", where=(True, False, False, False), e=0.5),
    Case("fully_masked", PLAIN, 0, "+", "0000", where=NEVER),
    Case("fully_masked_nan", NANS, 0, "+", "0000", where=NEVER),
    Case("fully_masked_smoothing", PLAIN, 0, "+", "0000", where=NEVER, e=0.1),
    Case("fully_masked_z_loss", PLAIN, 0, "+", "0000", where=NEVER, t=0.1),
    Case("fully_masked_ignored", PLAIN, 0, "0", "0000", where=NEVER, ignore=0),
    Case("fully_masked_weight_0", PLAIN, 0, "0", "0000", where=NEVER, u=0.0),
    Case("fully_masked_class_weight_0", PLAIN, 1, "0", "0000", where=NEVER, w=W_NOT_1),
    Case("fully_masked_upstream_0", PLAIN, 0, "+", "0000", where=NEVER, upstream=0.0),
    Case("thousands", (1000.0, -1000.0, 0.0, 0.0), 0, "0", "0000"),
    Case("thousands_missed", (1000.0, -1000.0, 0.0, 0.0), 1, "f", "ff00"),
    Case("equal", (3.0,) * 4, 2, "f", "ffff"),
    Case("negative_zeros", (-0.0, 0.0, -0.0, 0.0), 2, "f", "ffff"),
]

ONE = (0.0, 1.0, 0.0, 0.0)
HALF = (0.5, 0.5, 0.0, 0.0)
REST = (0.5, 0.0, 0.25, 0.25)
NONE = (0.0,) * 4

DENSE = [
    Case("minus_inf", MINUS, REST, "f", "f0ff", to_labels="f+ff"),
    Case("minus_inf_with_mass", MINUS, HALF, "+", "ffff", to_labels="f+ff"),
    Case("minus_inf_one_hot", MINUS, ONE, "+", "ffff", to_labels="f+ff"),
    Case("minus_inf_mass_weight_0", MINUS, HALF, "f", "f0ff", w=W_NOT_1, to_labels="f0ff"),
    Case("minus_inf_smoothing", MINUS, REST, "+", "ffff", e=0.1, to_labels="f+ff"),
    Case("minus_inf_z_loss", MINUS, REST, "f", "f0ff", t=0.1, to_labels="f+ff"),
    Case("plus_inf", PLUS, REST, "n", "nnnn"),
    Case("plus_inf_with_mass", PLUS, HALF, "n", "nnnn"),
    Case("all_minus_inf", NOTHING, HALF, "n", "nnnn"),
    Case("nan", NANS, REST, "n", "nnnn", to_labels="nnnn"),
    Case("nan_with_mass", NANS, HALF, "n", "nnnn", to_labels="nnnn"),
    Case("nan_weight_0", NANS, HALF, "0", "0000", u=0.0, to_labels="0000"),
    Case("nan_upstream_0", NANS, HALF, "n", "0000", upstream=0.0, to_labels="0000"),
    Case("nan_labels_weight_0", PLAIN, (NAN, 1.0, NAN, 0.0), "0", "0000", u=0.0, to_labels="0000"),
    Case("no_labels", PLAIN, NONE, "0", "0000", to_labels="ffff"),
    Case("no_labels_nan", NANS, NONE, "0", "0000", to_labels="nnnn"),
    Case("no_labels_all_minus_inf", NOTHING, NONE, "0", "0000"),
    Case("no_labels_z_loss", PLAIN, NONE, "f", "ffff", t=0.1, to_labels="ffff"),
    Case("no_labels_smoothing", PLAIN, NONE, "f", "ffff", e=0.1, to_labels="ffff"),
    Case("all_weights_0", NANS, HALF, "0", "0000", w=NONE, e=0.1, to_labels="0000"),
    Case("nan_label", PLAIN, (NAN, 0.5, 0.5, 0.0), "n", "nnnn"),
    Case("nan_label_class_weight_0", PLAIN, (0.5, NAN, 0.5, 0.0), "f", "ffff", w=W_NOT_1),
    Case("nan_class_weight", PLAIN, HALF, "n", "nnnn", w=(1.0, NAN, 1.0, 1.0)),
    Case("nan_sample_weight", PLAIN, HALF, "n", "nnnn", u=NAN, to_labels="nnnn"),
    Case(
        "nan_sample_weight_upstream_0",
        PLAIN,
        HALF,
        "n",
        "0000",
        u=NAN,
        upstream=0.0,
        to_labels="0000",
    ),
    Case("sum_above_1", PLAIN, (2.0, 0.5, 0.0, 1.0), "f", "ffff", to_labels="ffff"),
    Case("masked_nan", NANS, REST, "f", "f0ff", where=NOT_1, to_labels="f0ff"),
    Case("masked_mass", PLAIN, HALF, "+", "f0ff", where=NOT_1, to_labels="f0ff"),
    Case("masked_mass_nan_logit", NANS, HALF, "+", "f0ff", where=NOT_1, to_labels="f0ff"),
    Case("masked_mass_smoothing", PLAIN, HALF, "+", "f0ff", where=NOT_1, e=0.1, to_labels="f0ff"),
    Case(
        "masked_mass_weight_0", PLAIN, HALF, "f", "f0ff", where=NOT_1, w=W_NOT_1, to_labels="f0ff"
    ),
    Case("masked_smoothing", PLAIN, REST, "f", "f0ff", where=NOT_1, e=0.2, to_labels="f0ff"),
    Case("fully_masked", PLAIN, HALF, "+", "0000", where=NEVER, to_labels="0000"),
    Case("fully_masked_no_labels", PLAIN, NONE, "0", "0000", where=NEVER, to_labels="0000"),
    Case("fully_masked_z_loss", PLAIN, NONE, "+", "0000", where=NEVER, t=0.1, to_labels="0000"),
    Case("fully_masked_weight_0", PLAIN, HALF, "0", "0000", where=NEVER, u=0.0, to_labels="0000"),
    Case("thousands", (1000.0, -1000.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), "0", "0000"),
    Case("thousands_missed", (1000.0, -1000.0, 0.0, 0.0), HALF, "f", "ff00"),
]


def pattern(values):
    v = np.asarray(values, dtype=np.float64).ravel()
    marks = np.select([np.isnan(v), v == np.inf, v == -np.inf, v == 0], ["n", "+", "-", "0"], "f")
    return "".join(marks)


@pytest.fixture(autouse=True)
def _every_floating_point_error_raises():
    with np.errstate(all="raise"):
        yield


def _arrays(case, dtype):
    """The case's row between two ordinary rows, and its options."""
    dense = isinstance(case.y, tuple)
    x = np.array([(1.0, 2.0, 0.5, -1.0), case.x, (0.25, 0.0, 3.0, 1.0)]).astype(
        data.dtype_of(dtype)
    )
    y = np.array(
        [(0.25, 0.5, 0.25, 0.0), case.y, (0.0, 0.0, 0.0, 1.0)] if dense else [1, case.y, 3]
    )
    options = {"label_smoothing": case.e, "z_loss": case.t}
    if case.u is not None:
        options["sample_weight"] = np.array([1.0, case.u, 2.0])
    if case.w is not None:
        options["class_weight"] = np.array(case.w)
    if case.where is not None:
        options["where"] = np.array([(True,) * 4, case.where, (True,) * 4])
    if case.ignore is not None and not dense:
        options["ignore_index"] = case.ignore
    return x, y, options, np.array([1.0, case.upstream, 1.0])


def _check(name, case, dtype):
    x, y, options, upstream = _arrays(case, dtype)
    f, g = cases.function(name), cases.with_grad(name)
    extra = {} if case.to_labels is None else {"labels_grad_out": np.full(x.shape, 7, x.dtype)}
    loss = f(x, y, **options)
    loss2, grad = g(x, y, upstream=upstream, **options, **extra)
    cases.same(loss2, loss)
    assert pattern(loss[1]) == case.loss
    assert pattern(grad[1]) == case.grad
    if extra:
        assert pattern(extra["labels_grad_out"][1]) == case.to_labels

    mine = x.copy()
    g(mine, y, upstream=upstream, grad_out=mine, **options)
    cases.same(mine, grad)

    exact = cases.exact(name, x, y, upstream=upstream, **options)
    assert pattern(exact.losses.hi[1]) == case.loss, "the oracle disagrees with the hand"
    cases.assert_loss(loss, name, dtype, exact)
    if not np.isnan(case.upstream):
        assert pattern(exact.grad.hi[1].astype(oracle.computing(dtype))) == case.grad
        cases.assert_grad(grad, name, dtype, exact)
    if extra:
        assert pattern(exact.labels_grad.hi[1]) == case.to_labels

    # The neighbours: the bits that they have when the row between them is an ordinary one.
    calm_x, calm_y = x.copy(), y.copy()
    calm_x[1], calm_y[1] = x[0], y[0]
    calm = {k: v for k, v in options.items() if k not in ("where", "sample_weight")}
    if case.u is not None:
        calm["sample_weight"] = np.array([1.0, 1.0, 2.0])
    if case.where is not None:
        calm["where"] = np.ones_like(options["where"])
    calm_loss, calm_grad = g(calm_x, calm_y, **calm)
    cases.same(loss[::2], calm_loss[::2])
    cases.same(grad[::2], calm_grad[::2])


@pytest.mark.parametrize("case", INDEX, ids=str)
def test_index(index_loss, case, backend, dtype):
    _check(index_loss, case, dtype)


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_dense(dense_loss, case, backend, dtype):
    _check(dense_loss, case, dtype)


# An infinite class weight meets the fractional labels of the neighbours: not this test's matter.
@pytest.mark.parametrize("case", [c for c in INDEX if not c.name.startswith("inf_weight")], ids=str)
def test_one_hot_of_each_index_case(case, backend):
    """Each index case again as one-hot labels: the same patterns."""
    if case.ignore is not None or not 0 <= case.y < 4:
        case = case._replace(y=0, u=0.0)
    _check(
        "softmax_cross_entropy", case._replace(y=tuple(np.eye(4)[case.y]), ignore=None), "float32"
    )


@pytest.mark.parametrize("case", INDEX, ids=str)
def test_along_another_axis(case, backend):
    """The same answers when the classes lie along axis 0."""
    x, y, options, upstream = _arrays(case, "float32")
    if "where" in options:
        options["where"] = options["where"].T
    loss, grad = fx.sparse_softmax_cross_entropy_with_grad(
        np.ascontiguousarray(x.T), y, axis=0, upstream=upstream, **options
    )
    assert pattern(loss[1]) == case.loss
    assert pattern(grad[:, 1]) == case.grad


@pytest.mark.parametrize("case", INDEX, ids=str)
def test_in_a_long_row(case, backend):
    """The four classes far apart in a row of 1000: vector bodies and tails meet the values too."""
    x4, y4, options, upstream = _arrays(case, "float32")
    spots = np.array([3, 500, 517, 999])
    keep = np.zeros((3, 1000), bool)
    keep[:, spots] = options.get("where", True)
    x = np.full((3, 1000), NAN, np.float32)
    x[:, spots] = x4
    y = np.where((y4 >= 0) & (y4 < 4), spots[y4 % 4], y4 if case.ignore == -100 else 5000)
    options["where"] = keep
    if "class_weight" in options:
        w = np.full(1000, NAN)
        w[spots] = options["class_weight"]
        options["class_weight"] = w
    if case.ignore is not None and case.ignore >= 0:
        options["ignore_index"] = int(spots[case.ignore])
    loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, y, upstream=upstream, **options)
    assert pattern(loss[1]) == case.loss
    assert pattern(grad[1, spots]) == case.grad
    assert not grad[:, np.delete(np.arange(1000), spots)].any()


@pytest.mark.parametrize("spot", [0, 1, 15, 16, 31, 63, 64, 98, 99])
@pytest.mark.parametrize("value", [NAN, INF], ids=["nan", "inf"])
@pytest.mark.parametrize("name", of("normalizer", "index", "dense"))
def test_a_special_value_is_found_anywhere(name, backend, dtype, spot, value):
    x = np.zeros((2, 100), data.dtype_of(dtype))
    x[0, spot] = value
    if cases.SPECS[name].is_loss:
        y = np.full(2, 50) if cases.SPECS[name].family == "index" else np.full((2, 100), 0.01)
        loss, grad = cases.with_grad(name)(x, y)
        assert np.isnan(grad[0].astype(float)).all()
        assert np.isfinite(grad[1].astype(float)).all()
    else:
        loss = cases.function(name)(x)
    if name == "logsumexp":
        assert pattern(loss[0]) == ("n" if np.isnan(value) else "+")
    else:
        assert set(pattern(loss[0])) == {"n"}
    assert np.isfinite(loss[1].astype(float)).all()


@pytest.mark.parametrize("spot", [0, 15, 39, 41, 64, 99])
@pytest.mark.parametrize("other", [INF, -INF], ids=["inf", "minus_inf"])
def test_nan_beside_infinities_in_a_wide_row(backend, dtype, spot, other):
    """NaN wins: logsumexp of a row with NaN is NaN, whatever else is infinite."""
    x = np.zeros((2, 100), data.dtype_of(dtype))
    x[0, 40] = other
    x[0, spot] = NAN
    assert pattern(fx.logsumexp(x)) == "nf"
    assert pattern(fx.logsumexp(np.ascontiguousarray(x.T), axis=0)) == "nf"


NORMALIZED = [
    # x, where, logsumexp, softmax, log_softmax
    ("minus_inf", MINUS, None, "f", "f0ff", "f-ff"),
    ("plus_inf", PLUS, None, "+", "nnnn", "nnnn"),
    ("all_minus_inf", NOTHING, None, "-", "nnnn", "nnnn"),
    ("nan", NANS, None, "n", "nnnn", "nnnn"),
    ("nan_and_plus_inf", (NAN, INF, 0.0, 0.0), None, "n", "nnnn", "nnnn"),
    ("nan_and_minus_inf", (NAN, -INF, -INF, -INF), None, "n", "nnnn", "nnnn"),
    ("masked_nan", NANS, NOT_1, "f", "f0ff", "f-ff"),
    ("masked_plus_inf", PLUS, NOT_1, "f", "f0ff", "f-ff"),
    ("fully_masked", PLAIN, NEVER, "-", "0000", "----"),
    ("fully_masked_nan", NANS, NEVER, "-", "0000", "----"),
    ("one_left", (-INF, 3.0, -INF, -INF), None, "f", "0f00", "-0--"),
    ("thousands", (1000.0, -1000.0, 0.0, 0.0), None, "f", "f000", "0fff"),
]


@pytest.mark.parametrize("case", NORMALIZED, ids=lambda c: c[0])
def test_normalizers(normalizer, case, backend, dtype):
    _, row, where, *wanted = case
    x = np.array([PLAIN, row, PLAIN]).astype(data.dtype_of(dtype))
    mask = None if where is None else np.array([(True,) * 4, where, (True,) * 4])
    got = cases.function(normalizer)(x, where=mask)
    assert pattern(got[1]) == wanted[("logsumexp", "softmax", "log_softmax").index(normalizer)]
    calm = cases.function(normalizer)(np.array([PLAIN] * 3).astype(x.dtype), where=None)
    cases.same(got[::2], calm[::2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_numbers(backend, dtype):
    """Logits at the ends of the range: no overflow where the answer has none."""
    big = np.finfo(dtype).max
    x = np.array([[big, -big, 0, 0], [big, big, 0, 0], [-big, -big, -big, -big]], dtype)
    loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, np.array([0, 1, 2]))
    np.testing.assert_allclose(loss, [0, np.log(2), np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(
        grad, [[0, 0, 0, 0], [0.5, -0.5, 0, 0], [0.25, 0.25, -0.75, 0.25]], rtol=1e-6
    )
    np.testing.assert_array_equal(fx.logsumexp(x), [big, big, -big])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_smallest_numbers(backend, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([[tiny, -tiny, 0, tiny]], dtype)
    np.testing.assert_allclose(fx.sparse_softmax_cross_entropy(x, [0]), np.log(4), rtol=1e-6)
    np.testing.assert_allclose(fx.softmax(x), 0.25, rtol=1e-6)


# ---- confident rows ------------------------------------------------------------------


def test_confident_row(softmax_loss, backend):
    """The example of the documentation: every framework gives 0 here."""
    loss = softmax_loss
    x = np.array([[0, -20, -25]], np.float32)
    y = np.array([0]) if cases.SPECS[loss].family == "index" else np.array([[1.0, 0, 0]])
    value, grad = cases.with_grad(loss)(x, y)
    # Its float32 neighbours are 2.0750415e-09 and 2.0750417e-09.
    assert value[0] == pytest.approx(2.0750416e-09, rel=1.2e-7)
    if "label_entry" in cases.SPECS[loss].budgets:
        assert -grad[0, 0] == pytest.approx(2.0750416e-09, rel=1.2e-7)


@pytest.mark.parametrize("gap", [1, 10, 17, 20, 40, 60, 80, 86])
def test_confident_rows_keep_their_accuracy(index_loss, backend, dtype, gap):
    for c in (2, 3, 17, 100):
        x = np.full((1, c), -gap, data.dtype_of(dtype))
        x[0, c // 2] = 0
        y = np.array([c // 2])
        exact = cases.exact(index_loss, x, y)
        out = np.empty(x.shape, oracle.computing(dtype))
        value, _ = cases.with_grad(index_loss)(x, y, grad_out=out)
        cases.assert_loss(value, index_loss, dtype, exact)
        cases.assert_grad(
            out, index_loss, dtype, exact, labels=y, plain=True, out_dtype=out.dtype.name
        )
        assert value[0] > 0


# ---- empty sums ------------------------------------------------------------------


def _nothing_counts(name):
    x = np.array([PLAIN, NANS])
    if cases.indexed(name):
        yield x, np.array([1, 1]), {"ignore_index": 1}
        yield x, np.array([1, 9]), {"sample_weight": np.zeros(2)}
    else:
        zeros = np.zeros(cases.losses_shape(name, x))
        yield x, np.array([HALF, ONE]), {"sample_weight": zeros}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_denominator_0(loss, backend, dtype, reduction):
    """NaN for a mean over nothing, with a gradient of zeros; 0 for a sum."""
    for x, y, options in _nothing_counts(loss):
        x = x.astype(data.dtype_of(dtype))
        value, grad = cases.with_grad(loss)(x, y, reduction=reduction, **options)
        none = "0" * int(np.prod(cases.losses_shape(loss, x)))
        expected = {"none": none, "sum": "0", "size_mean": "0"}.get(reduction, "n")
        assert pattern(value) == expected
        assert not grad.astype(float).any()
        assert grad.shape == x.shape
        assert pattern(cases.function(loss)(x, y, reduction=reduction, **options)) == expected


def test_denominator_0_by_cancellation(loss, backend):
    x = np.array([PLAIN, (1.0, 2.0, 3.0, 4.0)]) / 8
    y = np.array([1, 2]) if cases.indexed(loss) else np.array([HALF, ONE])
    out = {"labels_grad_out": np.full(x.shape, 7.0)} if y.ndim == 2 else {}
    u = np.array([1.0, -1.0]).reshape(2, *[1] * (len(cases.losses_shape(loss, x)) - 1))
    options = {"sample_weight": u, "reduction": "mean"}
    if "pos_weight" in cases.SPECS[loss].options:
        options |= {"pos_weight": 2.0, "pos_weight_grad_out": np.array(7.0)}
        out["pos_weight_grad_out"] = options.pop("pos_weight_grad_out")
    value, grad = cases.with_grad(loss)(x, y, **options, **out)
    assert np.isnan(value)
    assert not grad.any()
    assert not any(v.any() for v in out.values())


def test_denominator_0_by_class_weight(indexed_loss, backend):
    x = np.array([PLAIN, PLAIN])
    y = np.array([1, 1])
    f = cases.with_grad(indexed_loss)
    value, grad = f(x, y, class_weight=W_NOT_1, reduction="mean")
    assert np.isnan(value)
    assert not grad.any()
    value, grad = f(x, y, class_weight=W_NOT_1, reduction="nonzero_mean")
    assert value == 0, "a row of class weight 0 still counts as one"
    assert not grad.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (3, 0, 4)], ids=str)
def test_no_rows(loss, backend, dtype, shape, reduction):
    x = np.empty(shape, data.dtype_of(dtype))
    y = np.empty(shape[:-1] if cases.indexed(loss) else shape, np.int64)
    value, grad = cases.with_grad(loss)(x, y, reduction=reduction)
    assert grad.shape == shape
    assert grad.dtype == x.dtype
    if reduction == "none":
        assert value.shape == cases.losses_shape(loss, x)
    else:
        assert pattern(value) == ("0" if reduction == "sum" else "n")
    plain = cases.function(loss)(x, y, reduction=reduction)
    cases.same(plain, value)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4)], ids=str)
def test_no_rows_to_normalize(unlabelled, backend, dtype, shape):
    normalizer = unlabelled
    got = cases.function(normalizer)(np.empty(shape, data.dtype_of(dtype)))
    assert got.shape == (shape[:-1] if normalizer == "logsumexp" else shape)
    assert got.dtype.name == cases.value_dtype(normalizer, dtype)


# ---- ignored labels ------------------------------------------------------------------


@pytest.mark.parametrize("labels_dtype", ["int8", "uint8", "int64", "uint64"])
@pytest.mark.parametrize(
    "ignore", [-(2**63) - 1, -1, 255, 256, 2**63, 2**64 - 1, 2**64 + 1, 2**200]
)
def test_ignore_index_outside_the_label_dtype_never_matches(
    indexed_loss, backend, labels_dtype, ignore
):
    index_loss = indexed_loss
    info = np.iinfo(labels_dtype)
    if info.min <= ignore <= info.max:
        y = np.array([ignore, 1], dtype=labels_dtype)
        got = cases.function(index_loss)(np.array([NANS, PLAIN]), y, ignore_index=ignore)
        assert pattern(got) == "0f"
        return
    x = np.array([PLAIN, PLAIN])
    got = cases.function(index_loss)(x, np.array([0, 1], labels_dtype), ignore_index=ignore)
    np.testing.assert_array_equal(got, cases.function(index_loss)(x, np.array([0, 1])))
    # The same bits in the label's own dtype must not match either.
    wrapped = np.array([ignore % 2**64], np.uint64).view(np.int64).astype(labels_dtype)[0]
    if not 0 <= wrapped < 4:
        with pytest.raises(IndexError):
            cases.function(index_loss)(x, np.array([0, wrapped], labels_dtype), ignore_index=ignore)
