"""Arrays on a GPU: right answers, of the same kind, where they lie; errors.

With Numba's simulator (``test_cuda.py`` starts it) the arrays are of a library made up in
``on_gpu.py``, whose memory is the host's: there every load and store is checked to lie in an
array of the call.
"""

import importlib.util
import json
import pathlib
import types

import cases
import data
import numpy as np
import on_gpu
import oracle
import pytest
from conftest import NORMALIZERS, UNLABELLED
from test_special import DENSE, INDEX, pattern

import fastxent as fx
from fastxent._spec import AVERAGES, REDUCTIONS, SPECS

pytestmark = pytest.mark.gpu


@pytest.fixture(params=on_gpu.libraries() or ["none"])
def library(request):
    if request.param == "none":
        pytest.skip("there is no GPU")
    return request.param


def rows(library, dtype, n, c, name, seed=0):
    if dtype not in on_gpu.kinds(library):
        pytest.skip(f"{library} has no {dtype}")
    return cases.rows(dtype, n, c, name, seed)


def every_option(name, x, y):
    return cases.only(
        name,
        sample_weight=cases.weights_for(name, x),
        class_weight=data.class_weights(x.shape[1]),
        pos_weight=data.pos_weights(x.shape[1]),
        label_smoothing=0.1,
        z_loss=0.01,
        where=data.mask(x, y),
    )


#: A lane, a few, a warp, a block, pieces of a row; sizes of the simulator's small warps.
SHAPES = ((2, 1), (8, 10), (3, 37), (1, 300))
LONG = (1, 700)


def shapes(dtype):
    return (*SHAPES, LONG) if dtype == "float32" else SHAPES


@pytest.mark.parametrize("name", UNLABELLED)
def test_values_without_labels(library, name, dtype):
    for shape in shapes(dtype):
        x, _ = rows(library, dtype, *shape, name)
        exact, size = cases.exact_normalizer(name, x)
        got = on_gpu.call(library, cases.function(name), x)
        wanted = cases.value_dtype(name, dtype)
        assert got.dtype.name == wanted
        limit = oracle.allowed(SPECS[name].budgets["value"], exact, dtype, **size, out_dtype=wanted)
        oracle.assert_within(got, exact, limit, name)


def test_gradients(library, loss, dtype):
    for shape in shapes(dtype):
        x, y = rows(library, dtype, *shape, loss)
        exact = cases.exact(loss, x, y)
        value, grad = on_gpu.call(library, cases.with_grad(loss), x, y)
        cases.assert_loss(value, loss, dtype, exact)
        cases.assert_grad(grad, loss, dtype, exact, labels=y, plain=y.ndim == 1)
    again = on_gpu.call(library, cases.function(loss), x, y)
    np.testing.assert_array_equal(again, value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(8, 10), (2, 300), (2, 700)], ids=str)  # the first row is absent
def test_every_option(library, loss, dtype, shape):
    x, y = rows(library, dtype, *shape, loss)
    options = every_option(loss, x, y)
    upstream = cases.ramp(loss, x, -1, 2)
    exact = cases.exact(loss, x, y, upstream=upstream, **options)
    value, grad = on_gpu.call(library, cases.with_grad(loss), x, y, upstream=upstream, **options)
    cases.assert_loss(value, loss, dtype, exact)
    cases.assert_grad(grad, loss, dtype, exact)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(library, loss, reduction):
    x, y = rows(library, "float32", 16, 10, loss)
    u = cases.weights_for(loss, x)
    options = {"sample_weight": u, "reduction": reduction}
    exact = cases.exact(loss, x, y, **options)
    value, grad = on_gpu.call(library, cases.with_grad(loss), x, y, **options)
    assert value.shape == np.shape(exact.value.hi)
    cases.assert_loss(value, loss, "float32", exact)
    cases.assert_grad(grad, loss, "float32", exact)


@pytest.mark.parametrize("axis", [0, 1])
def test_other_axes_and_strides(library, row_loss, axis):
    """Classes first or between, and a view into a larger array, beside the host's answer."""
    random = data.rng(3)
    x = random.standard_normal((3, 5, 4)).astype(np.float32)
    c = x.shape[axis]
    y = random.integers(0, c, np.delete(x.shape, axis))
    if not cases.indexed(row_loss):
        y = np.moveaxis(np.eye(c, dtype=np.float32)[y], -1, axis) * np.float32(0.7)
    value, grad = on_gpu.call(library, cases.with_grad(row_loss), x, y, axis=axis)
    value2, grad2 = cases.with_grad(row_loss)(x, y, axis=axis)
    np.testing.assert_allclose(value, value2, rtol=1e-6)
    np.testing.assert_allclose(grad, grad2, rtol=1e-6, atol=1e-7)
    if library == "simulated":
        wide = np.zeros((3, 5, 8), np.float32)
        wide[:, :, 1::2] = x
        given = on_gpu.Simulated(wide[:, :, 1::2])
        got = cases.with_grad(row_loss)(given, on_gpu.give(library, y), axis=axis)
        np.testing.assert_array_equal(on_gpu.take(got)[0], value)
        np.testing.assert_array_equal(on_gpu.take(got)[1], grad)


def test_any_alignment(library):
    """Rows that begin anywhere between two boundaries of 16 bytes."""
    if library not in ("simulated", "torch", "cupy"):
        pytest.skip("no views by slices")
    for dtype in on_gpu.kinds(library):
        for start in range(1, 4):
            wide, _ = cases.rows(dtype, 2, 25, "sparse_softmax_cross_entropy")
            x, y = wide[:, start:], np.array([0, 20])
            if library == "simulated":
                given = on_gpu.Simulated(wide.copy()[:, start:])
            else:
                given = on_gpu.give(library, wide)[:, start:]
            labels = on_gpu.give(library, y)
            value, grad = fx.sparse_softmax_cross_entropy_with_grad(given, labels)
            name = "sparse_softmax_cross_entropy"
            exact = cases.exact(name, np.ascontiguousarray(x), y)
            cases.assert_loss(on_gpu.take(value), name, dtype, exact)
            cases.assert_grad(on_gpu.take(grad), name, dtype, exact, labels=y, plain=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_any_alignment_with_every_option(library, dtype):
    """Logits, label masses and gradients that lie alike, and that do not."""
    if library not in ("simulated", "torch", "cupy"):
        pytest.skip("no views by slices")
    name, c = "softmax_cross_entropy", 21
    wide, _ = cases.rows(dtype, 2, 25, name)
    masses = data.dense_labels(wide[:, :25]).astype(dtype)
    w, f = data.class_weights(c), cases.with_grad(name)
    for starts in ((0, 0, 0, 0), (1, 1, 1, 1), (3, 2, 3, 1), (2, 2, 1, 2)):
        x, q = (a[:, s : s + c] for a, s in zip((wide, masses), starts))
        options = {"class_weight": w, "label_smoothing": 0.1, "where": data.mask(x, q)}
        exact = cases.exact(name, x.copy(), q.copy(), **options)
        gx, gq, out, labels_out = (
            on_gpu.give(library, a)[:, s : s + c]
            for a, s in zip((wide, masses, np.zeros_like(wide), np.zeros_like(wide)), starts)
        )
        given = {k: on_gpu.give(library, v) for k, v in options.items()}
        value, grad = f(gx, gq, grad_out=out, labels_grad_out=labels_out, **given)
        assert grad is out
        cases.assert_loss(on_gpu.take(value), name, dtype, exact)
        cases.assert_grad(on_gpu.take(grad), name, dtype, exact)
        host = np.zeros((2, c), dtype)
        f(x, q, labels_grad_out=host, **options)
        close = {"float16": 1e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
        np.testing.assert_allclose(on_gpu.take(labels_out), host, rtol=close)


def test_any_alignment_of_entries(library, dtype):
    """Logits, labels, losses and gradients that begin somewhere between two boundaries."""
    if library not in ("simulated", "torch", "cupy") or dtype not in on_gpu.kinds(library):
        pytest.skip("no views by slices, or no such dtype")
    name, n = "sigmoid_cross_entropy", 20
    wide, _ = cases.rows(dtype, 2, 24, name)
    labels = data.binary_labels(wide, dtype=wide.dtype)
    for starts in ((0, 0, 0, 0), (0, 1, 2, 0), (4, 4, 4, 4), (1, 1, 1, 3), (0, 4, 1, 1)):
        x, z = (a[:, s : s + n] for a, s in zip((wide, labels), starts))
        exact = cases.exact(name, x.copy(), z.copy())
        room = np.zeros(wide.shape, cases.value_dtype(name, dtype))
        gx, gz, out, grad_out = (
            on_gpu.give(library, a)[:, s : s + n]
            for a, s in zip((wide, labels, room, np.zeros_like(wide)), starts)
        )
        cases.with_grad(name)(gx, gz, out=out, grad_out=grad_out)
        cases.assert_loss(on_gpu.take(out), name, dtype, exact)
        cases.assert_grad(on_gpu.take(grad_out), name, dtype, exact)


def test_results_are_of_the_same_kind_and_outputs_are_used(library, loss):
    x, y = rows(library, "float32", 8, 10, loss)
    gx, gy = on_gpu.give(library, x), on_gpu.give(library, y)
    value, grad = cases.with_grad(loss)(gx, gy)
    assert type(value) is type(gx) is type(grad)
    out = on_gpu.give(library, np.zeros_like(on_gpu.take(value)))
    value2, grad2 = cases.with_grad(loss)(gx, gy, out=out, grad_out=gx)  # in place
    assert value2 is out
    assert grad2 is gx
    np.testing.assert_array_equal(on_gpu.take(out), on_gpu.take(value))
    np.testing.assert_array_equal(on_gpu.take(gx), on_gpu.take(grad))


@pytest.mark.parametrize("c", [10, 700])
def test_in_place_with_every_option(library, loss, c):
    x, y = rows(library, "float32", 2, c, loss)
    options = every_option(loss, x, y)
    value, grad = on_gpu.call(library, cases.with_grad(loss), x, y, **options)
    gx, gy = on_gpu.give(library, x), on_gpu.give(library, y)
    given = {k: on_gpu.give(library, v) for k, v in options.items()}
    value2, _ = cases.with_grad(loss)(gx, gy, grad_out=gx, **given)
    np.testing.assert_array_equal(on_gpu.take(value2), value)
    np.testing.assert_array_equal(on_gpu.take(gx), grad)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_gradient_to_the_labels(library, name):
    x, y = rows(library, "float32", 8, 10, name)
    options = every_option(name, x, y)
    out = np.full(x.shape, 7, np.float32)
    upstream = cases.ramp(name, x, -1, 2)
    cases.with_grad(name)(x, y, labels_grad_out=out, upstream=upstream, **options)
    gpu = on_gpu.give(library, np.full(x.shape, 9, np.float32))
    given = {k: on_gpu.give(library, v) for k, v in {**options, "upstream": upstream}.items()}
    cases.with_grad(name)(
        on_gpu.give(library, x), on_gpu.give(library, y), labels_grad_out=gpu, **given
    )
    got = on_gpu.take(gpu)
    np.testing.assert_allclose(got, out, rtol=2e-6)
    np.testing.assert_array_equal(got == 0, out == 0)


@pytest.mark.parametrize(
    "shape", [(), (5,), (4, 1), (3, 1, 1), (3, 1, 5), (3, 4, 5), (1, 4, 1)], ids=str
)
def test_gradient_to_pos_weight(library, shape):
    random = data.rng(6)
    x = (3 * random.standard_normal((3, 4, 5))).astype(np.float32)
    z = random.random(x.shape).astype(np.float32)
    options = {
        "pos_weight": random.random(shape) if shape else np.array(0.5),
        "sample_weight": random.integers(0, 3, (4, 1)).astype(np.float64),
        "label_smoothing": 0.2,
        "reduction": "mean",
        "upstream": 2.0,
    }
    f = fx.sigmoid_cross_entropy_with_grad
    out = np.full(shape, 7, np.float32)
    _, grad = f(x, z, pos_weight_grad_out=out, **options)
    gpu = on_gpu.give(library, np.full(shape, 9, np.float32))
    gx = on_gpu.give(library, x)
    given = {k: on_gpu.give(library, v) for k, v in options.items()}
    f(gx, on_gpu.give(library, z), pos_weight_grad_out=gpu, grad_out=gx, **given)
    np.testing.assert_allclose(on_gpu.take(gpu), out, rtol=1e-6)
    np.testing.assert_allclose(on_gpu.take(gx), grad, rtol=2e-6, atol=1e-9)
    nothing = np.zeros((0, *x.shape[1:]), np.float32)
    if shape == (5,):
        f(
            on_gpu.give(library, nothing), on_gpu.give(library, nothing),
            pos_weight=given["pos_weight"], pos_weight_grad_out=gpu,
        )  # fmt: skip
        assert not on_gpu.take(gpu).any()


@pytest.mark.parametrize("family", [INDEX, DENSE], ids=["index", "dense"])
def test_special_values(library, family):
    """The table of special values, all at once: each row stands between others."""
    name = "sparse_softmax_cross_entropy" if family is INDEX else "softmax_cross_entropy"
    groups = {}
    for case in family:
        key = case.e, case.t, case.w, case.ignore
        groups.setdefault(key, []).append(case)
    for (e, t, w, ignore), group in groups.items():
        x = np.array([case.x for case in group], np.float32)
        y = np.array([case.y for case in group], np.int64 if family is INDEX else np.float32)
        where = np.array([case.where or (True,) * 4 for case in group])
        u = np.array([1.0 if case.u is None else case.u for case in group])
        upstream = np.array([case.upstream for case in group])
        options = {
            "class_weight": None if w is None else np.array(w),
            "sample_weight": u,
            "where": where,
            "label_smoothing": e,
            "z_loss": t,
            "upstream": upstream,
        }
        if family is INDEX:
            options["ignore_index"] = ignore
        value, grad = on_gpu.call(library, cases.with_grad(name), x, y, **options)
        for k, case in enumerate(group):
            assert pattern(value[k]) == case.loss, case
            assert pattern(grad[k]) == case.grad, case


def test_a_bad_label_is_told_before_anything_is_written(library, indexed_loss):
    x = np.zeros((2, 3, 5), np.float32)
    y = np.array([[0, 1, 4], [2, 7, -1]])
    with pytest.raises(IndexError) as host:
        cases.function(indexed_loss)(x, y)
    out = on_gpu.give(library, np.full((2, 3), 7, np.float32))
    grad = on_gpu.give(library, np.full(x.shape, 7, np.float32))
    with pytest.raises(IndexError) as gpu:
        cases.with_grad(indexed_loss)(
            on_gpu.give(library, x), on_gpu.give(library, y), out=out, grad_out=grad
        )
    assert str(gpu.value) == str(host.value)
    assert (on_gpu.take(out) == 7).all()
    assert (on_gpu.take(grad) == 7).all()


@pytest.mark.parametrize("integer", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
                                     "uint64"])  # fmt: skip
def test_labels_of_any_integer_dtype(library, indexed_loss, integer):
    if library == "torch" and integer in ("uint16", "uint32", "uint64"):
        pytest.skip("torch hardly knows it")
    x, y = rows(library, "float32", 8, 10, indexed_loss)
    value = on_gpu.call(library, cases.function(indexed_loss), x, y.astype(integer))
    np.testing.assert_array_equal(value, on_gpu.call(library, cases.function(indexed_loss), x, y))


def test_host_and_gpu_do_not_mix(library):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    gx, gy = on_gpu.give(library, x), on_gpu.give(library, y)
    f = fx.sparse_softmax_cross_entropy
    with pytest.raises(TypeError, match="labels must be on the GPU, like logits; got ndarray"):
        f(gx, y)
    with pytest.raises(TypeError, match="labels must be in the host's memory here"):
        f(x, gy)
    with pytest.raises(TypeError, match="class_weight must be in the host's memory here"):
        f(x, y, class_weight=on_gpu.give(library, np.ones(3)))
    with pytest.raises(TypeError, match="out must be on the GPU"):
        f(gx, gy, out=np.zeros(2, np.float32))


def test_sentences_are_the_hosts(library):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    for options, wrong_y in (
        ({"axis": 5}, y),
        ({}, np.zeros(3, np.int64)),
        ({}, np.zeros(2, np.float32)),
        ({"reduction": "avg"}, y),
        ({"label_smoothing": 2.0}, y),
        ({"sample_weight": np.ones(3)}, y),
        ({"class_weight": np.ones(4)}, y),
        ({"out": np.zeros(3, np.float32)}, y),
        ({"out": np.zeros(2)}, y),
    ):
        with pytest.raises((TypeError, ValueError)) as host:
            fx.sparse_softmax_cross_entropy(x, wrong_y, **options)
        with pytest.raises(type(host.value)) as gpu:
            on_gpu.call(library, fx.sparse_softmax_cross_entropy, x, wrong_y, **options)
        assert str(gpu.value) == str(host.value)
    with pytest.raises(TypeError, match="logits on a GPU must be float16"):
        on_gpu.call(library, fx.sparse_softmax_cross_entropy, np.zeros((2, 3), np.int32), y)


def test_outputs_that_overlap_are_refused(library):
    if library != "simulated":
        pytest.skip("made for the simulator")
    x, y = np.zeros((4, 3), np.float32), on_gpu.give(library, np.array([0, 1]))
    with pytest.raises(ValueError, match="grad_out must not overlap logits"):
        fx.sparse_softmax_cross_entropy_with_grad(
            on_gpu.Simulated(x[:2]), y, grad_out=on_gpu.Simulated(x[1:3])
        )
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="grad_out must be writeable"):
        fx.sparse_softmax_cross_entropy_with_grad(
            on_gpu.Simulated(x[:2]), y, grad_out=on_gpu.Simulated(frozen)
        )


def test_one_number_for_all_rows(library):
    x, y = rows(library, "float32", 8, 10, "sparse_softmax_cross_entropy")
    f = fx.sparse_softmax_cross_entropy_with_grad
    options = {"sample_weight": 0.5, "reduction": "mean", "upstream": 3.0}
    value, grad = on_gpu.call(library, f, x, y, **options)
    value2, grad2 = f(x, y, **options)
    np.testing.assert_allclose(value, value2, rtol=1e-6)
    np.testing.assert_allclose(grad, grad2, rtol=1e-6, atol=1e-8)
    options["upstream"] = np.array(3.0)
    value3, grad3 = on_gpu.call(library, f, x, y, **options)
    np.testing.assert_array_equal(value3, value)
    np.testing.assert_allclose(grad3, grad, rtol=1e-6)


def test_nothing_to_do(library):
    x, y = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    value, grad = on_gpu.call(library, fx.sparse_softmax_cross_entropy_with_grad, x, y)
    assert value.shape == (0,)
    assert grad.shape == (0, 3)
    mean = on_gpu.call(library, fx.sparse_softmax_cross_entropy, x, y, reduction="mean")
    assert np.isnan(mean)


@pytest.mark.slow
def test_more_than_2_31_elements(library):
    """The last row lies behind them; so do the last class's logits. Takes 9 GB of the GPU."""
    if library not in ("torch", "cupy"):
        pytest.skip("no place for so many")
    package = pytest.importorskip(library)
    c = 1 << 16
    n = (1 << 15) + 3
    on = {"device": "cuda"} if library == "torch" else {}
    x = package.zeros((n, c), dtype=package.float16, **on)
    x[n - 1, c - 1] = 9.0
    y = package.zeros((n,), dtype=package.int64, **on)
    value, grad = fx.sparse_softmax_cross_entropy_with_grad(x, y, grad_out=x)
    assert grad is x
    exact = np.log(c - 1 + np.exp(9.0))
    np.testing.assert_allclose(on_gpu.take(value[-2:]), [np.log(c), exact], rtol=1e-6)
    got = on_gpu.take(x[-1])
    np.testing.assert_allclose(got[-1], np.exp(9.0 - exact), rtol=1e-3)
    np.testing.assert_allclose(got[0], -1.0, rtol=1e-3)
    y[n - 2] = c
    with pytest.raises(IndexError, match=rf"position \({n - 2}\)"):
        fx.sparse_softmax_cross_entropy(x, y)


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_sequences(library, average):
    """As on the host, with padded steps and an example of them only; and without weights."""
    random = data.rng(4)
    x = random.standard_normal((3, 4, 5)).astype(np.float32)
    y = random.integers(0, 5, (3, 4))
    w = np.array([[1, 1, 0.5, 0], [0, 0, 0, 0], [2, 0, 0, 0]])
    y[0, 3] = 99  # padding is not looked at
    upstream = {"timesteps": np.array([1.0, 2, -1]), None: random.random((3, 4))}.get(average, 2.0)
    f = fx.sequence_loss_with_grad
    for options in ({"sample_weight": w}, {"sample_weight": w, "upstream": upstream}, {}):
        labels = y if options else y % 5
        value, grad = on_gpu.call(library, f, x, labels, average=average, **options)
        value2, grad2 = f(x, labels, average=average, **options)
        assert value.dtype == value2.dtype
        np.testing.assert_allclose(value, value2, rtol=1e-6)
        np.testing.assert_allclose(grad, grad2, rtol=1e-6, atol=1e-8)
    nothing = on_gpu.call(library, fx.sequence_loss, x, y, sample_weight=w * 0, average=average)
    assert not nothing.any()
    with pytest.raises(ValueError, match="logits must have shape"):
        on_gpu.call(library, fx.sequence_loss, x[0], y[0])


@pytest.mark.parametrize("average", [True, False])
def test_sequences_by_example(library, average):
    random = data.rng(4)
    x = random.standard_normal((3, 4, 5)).astype(np.float32)
    y = random.integers(0, 5, (3, 4))
    w = np.array([[1, 1, 0.5, 0], [0, 2, 1, 0], [2, 0, 0, 0]])
    y[0, 3] = 99  # padding is not looked at
    steps = [[on_gpu.give(library, step) for step in a.copy()] for a in (x, y, w)]
    f, g = fx.sequence_loss_by_example, fx.sequence_loss_by_example_with_grad
    upstream = np.array([1.0, 0, -2, 3])
    value2, grad2 = g(x, y, w, average, upstream=upstream)
    value, grad = g(*steps, average, upstream=on_gpu.give(library, upstream))
    value = on_gpu.take(value)
    assert value.dtype == value2.dtype
    np.testing.assert_allclose(value, value2, rtol=1e-6)
    for a, b in zip(grad, grad2, strict=True):
        np.testing.assert_allclose(on_gpu.take(a), b, rtol=1e-6, atol=1e-8)
    steps[1][0] = on_gpu.give(library, y[0] % 5)  # a function of the caller's knows no weights
    own = on_gpu.take(f(*steps, average, fx.nll_loss))
    np.testing.assert_allclose(own, f(x, y % 5, w, average, fx.nll_loss), rtol=1e-6, atol=1e-8)
    with pytest.raises(TypeError, match=r"^weights must be on the GPU, like logits; got ndarray"):
        f(*steps[:2], w, average)
    with pytest.raises(ValueError, match=r"^logits, targets and weights must be of one length"):
        f(*steps[:2], steps[2][:1], average)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_masked_normalizers(library, name):
    x, _ = rows(library, "float32", 8, 10, name)
    where = data.mask(x)
    where[3] = False
    got = on_gpu.call(library, cases.function(name), x, where=where)
    wanted = cases.function(name)(x, where=where)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


def test_the_check_of_a_gpu(library, tmp_path, capsys):
    """The script for machines with a GPU, on few and small workloads."""
    path = pathlib.Path(__file__).parent.parent / "build_tools" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    class Few(script.Arrays):
        name = "simulated"

        def __init__(self):
            device = types.SimpleNamespace(name="none", compute_capability=(0, 0))
            self.cuda = types.SimpleNamespace(get_current_device=lambda: device)

        def give(self, a, dtype=None):
            return on_gpu.Simulated(a.astype(data.dtype_of(dtype)) if dtype else a.copy())

        def take(self, a):
            a = on_gpu.take(a)
            return a.astype(np.float32) if a.dtype.itemsize == 2 else a

        def like(self, a):
            return on_gpu.Simulated(np.empty_like(a.a))

        def has(self, dtype):
            return True

        def timed(self, call, seconds):
            call()
            return 1.0

    if library != "simulated":
        pytest.skip("run the script itself")
    few = {"C = 10": (4, 10), "class axis 1": (1, 3, 4), "sigmoid": (16,)}
    arrays = Few()
    script.copy_speed = lambda arrays, seconds: 1e9
    assert script.check(arrays, tmp_path, 0.0, few, shapes=((3, 10),)) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["wrong"] == []
    assert len(found["records"]) == 3 * len(few) * len(script.DTYPES)
    assert all(r["ms"] == 1.0 and r["of_copy"] > 0 for r in found["records"])
    assert "of copy" in capsys.readouterr().out
    # A wrong answer is seen.
    script.reference = lambda x, y: (np.zeros(len(x)), np.zeros(x.shape))
    assert list(script.wrong_answers(arrays, (3, 10)))
