"""Losses that multiply matrices, on arrays of a GPU: beside the statements of the host's tests.

In Numba's simulator (``test_cuda.py`` starts it) NumPy is the library that multiplies.
"""

import data
import numpy as np
import on_gpu
import pytest
import test_linear as linear
import test_sampled as sampled

import fastxent as fx
from fastxent._spec import REDUCTIONS, SPECS

pytestmark = pytest.mark.gpu

N, D, C = 8, 2, 17

#: What to set so that small problems are cut: (bytes, fewest rows, most rows).
TILES = {
    "one": (64_000_000, 128, 2048),
    "rows": (300, 1, 2048),  # some rows with all their classes
    "classes": (440, 128, 2048),  # all rows with some classes
    "both": (440, 128, 5),
}


@pytest.fixture(params=[name for name in on_gpu.libraries() if name != "numba"] or ["none"])
def library(request):
    if request.param == "none":
        pytest.skip("there is no GPU")
    return request.param


def cut(patch, tiles):
    from fastxent._cuda import _compose

    size, few, many = TILES[tiles]
    wanted = {"SHARE": 0.0, "LEAST": size, "MOST": size, "FEW_ROWS": few, "MANY_ROWS": many}
    for name, value in wanted.items():
        patch.setattr(_compose, f"_{name}", value)


@pytest.fixture(params=TILES)
def tiles(request, monkeypatch, library):
    cut(monkeypatch, request.param)
    return request.param


@pytest.fixture(params=["one", "both"])
def two_tiles(request, monkeypatch, library):
    """All at once, and cut both ways."""
    cut(monkeypatch, request.param)
    return request.param


def given(library, options):
    """Options on the GPU; candidates stay on the host."""
    return {k: v if k == "sampled" else on_gpu.give(library, v) for k, v in options.items()}


def problem(library, dtype):
    if dtype not in on_gpu.kinds(library):
        pytest.skip(f"{library} has no {dtype}")
    return linear.problem(dtype, n=N, d=D, c=C)


# ---- a linear layer ------------------------------------------------------------------


@pytest.mark.parametrize("options", linear.OPTIONS)
def test_linear(library, monkeypatch, options):
    """Every option, cut in some way; and in every way."""
    for tiles in TILES if options in ("plain", "all") else ("both",):
        cut(monkeypatch, tiles)
        check_linear(library, options)


def check_linear(library, options):
    x, weight, y = problem(library, "float32")
    y[:3] = 3, 5, 5
    options = linear.OPTIONS[options](N, C)
    if "bias" in options:
        options["bias"] = options["bias"].astype("f4")
    for reduction, upstream in (("none", np.linspace(-1, 2, N)), ("mean", 3.0)):
        options["reduction"] = reduction
        expected = linear.statement(x, weight, y, upstream=upstream, dtype="float32", **options)
        loss, grads = on_gpu.call(
            library, fx.linear_cross_entropy_with_grad, x, weight, y, upstream=upstream, **options
        )
        assert isinstance(grads, fx.LinearGradients)
        assert (grads.bias is None) == ("bias" not in options)
        assert {a.dtype for a in (loss, *grads) if a is not None} == {np.dtype("f4")}
        linear.assert_close(loss, grads, expected)
    again = on_gpu.call(library, fx.linear_cross_entropy, x, weight, y, **options)
    np.testing.assert_array_equal(again, loss)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_linear_in_every_dtype(library, two_tiles, dtype):
    x, weight, y = problem(library, dtype)
    options = {"bias": np.linspace(-1, 1, C).astype(x.dtype), "ignore_index": int(y[0])}
    wide = "float64" if dtype == "float64" else "float32"
    expected = linear.statement(x, weight, y, dtype=wide, **options)
    loss, grads = on_gpu.call(library, fx.linear_cross_entropy_with_grad, x, weight, y, **options)
    assert loss.dtype == wide
    assert all(a.dtype == x.dtype for a in grads)
    linear.assert_close(loss, grads, expected, sampled.HALF.get(dtype))


def test_linear_of_several_dtypes(library, two_tiles):
    """Computed in the widest; each gradient in its array's dtype."""
    x, weight, y = problem(library, "float32")
    for kinds in (("f4", "f8", "f4"), ("f2", "f4", "f4"), ("f4", "f2", "f8"), ("f4", "i2", "f4")):
        arrays = [a.astype(k) for a, k in zip((x, np.rint(3 * weight), np.arange(C) % 3), kinds)]
        host, host_grads = fx.linear_cross_entropy_with_grad(*arrays[:2], y, bias=arrays[2])
        loss, grads = on_gpu.call(
            library, fx.linear_cross_entropy_with_grad, *arrays[:2], y, bias=arrays[2]
        )
        assert [a.dtype for a in (loss, *grads)] == [a.dtype for a in (host, *host_grads)]
        narrow = "f2" in kinds
        for a, b in zip((loss, *grads), (host, *host_grads)):
            np.testing.assert_allclose(a, b, rtol=2e-3 if narrow else 1e-5, atol=2e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_linear_reductions(library, reduction):
    x, weight, y = problem(library, "float64")
    options = {**linear.OPTIONS["all"](N, C), "reduction": reduction}
    expected = linear.statement(x, weight, y, **options)
    loss, grads = on_gpu.call(library, fx.linear_cross_entropy_with_grad, x, weight, y, **options)
    assert np.shape(loss) == ((N,) if reduction == "none" else ())
    linear.assert_close(loss, grads, expected)


def test_what_does_not_count_is_not_read(library, tiles):
    """NaN in rows that are ignored, or of weight or upstream gradient 0."""
    x, weight, y = problem(library, "float64")
    y[:4] = 7, 1, 2, 4
    x[:3] = np.nan
    x[3] = np.nan
    u, g = np.ones(N), np.ones(N)
    y[1], u[1], g[2] = 99, 0.0, 0.0
    w = np.ones(C)
    w[4] = 0
    options = {
        "sample_weight": u, "class_weight": w, "ignore_index": 7, "upstream": g,
        "bias": np.zeros(C),
    }  # fmt: skip
    host, host_grads = fx.linear_cross_entropy_with_grad(x, weight, y, **options)
    loss, grads = on_gpu.call(library, fx.linear_cross_entropy_with_grad, x, weight, y, **options)
    np.testing.assert_array_equal(np.isnan(loss), np.arange(N) == 2)
    np.testing.assert_allclose(loss, host, rtol=1e-12)
    for a, b in zip(grads, host_grads):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(grads.inputs[:4], 0)
    # no class counts, or no row: all gradients are 0
    for options in (
        {"class_weight": np.zeros(C), "label_smoothing": 0.5, "sample_weight": u},
        {"ignore_index": 2, "reduction": "mean"},
    ):
        labels = np.full(N, 2)
        loss, grads = on_gpu.call(
            library, fx.linear_cross_entropy_with_grad, x, weight, labels, **options
        )
        assert np.isnan(loss).all() if "reduction" in options else not loss.any()
        assert not any(a.any() for a in grads[:2])


def test_linear_shapes_and_given_arrays(library, two_tiles):
    x, weight, y = problem(library, "float32")
    bias = np.linspace(0, 1, C, dtype="f4")
    f = fx.linear_cross_entropy_with_grad
    plain, plain_grads = on_gpu.call(library, f, x[:8], weight, y[:8], bias=bias)
    for shape in ((2, 4), (2, 2, 2)):
        cube, labels = x[:8].reshape(*shape, D), y[:8].reshape(shape)
        loss, grads = on_gpu.call(library, f, cube, weight, labels, bias=bias)
        np.testing.assert_array_equal(loss, plain.reshape(shape))
        np.testing.assert_array_equal(grads.inputs, plain_grads.inputs.reshape(*shape, D))
    one, grads = on_gpu.call(library, f, x[0], weight, y[:1].reshape(()), bias=bias)
    assert one.shape == ()
    assert grads.inputs.shape == (D,)
    np.testing.assert_allclose(one, plain[0], rtol=1e-6)
    out = fx.LinearGradients(*(on_gpu.give(library, np.full_like(a, 7)) for a in (x, weight, bias)))
    gx, gw, gy, gb = (on_gpu.give(library, a) for a in (x, weight, y, bias))
    _, grads = f(gx, gw, gy, bias=gb, grad_out=out)
    fresh = on_gpu.call(library, f, x, weight, y, bias=bias)[1]
    for a, b, c in zip(grads, out, fresh):
        assert a is b
        np.testing.assert_array_equal(on_gpu.take(a), c)
    _, grads = f(gx, gw, gy, bias=gb, grad_out=(None, out.weight, None))
    assert grads.weight is out.weight
    np.testing.assert_array_equal(on_gpu.take(grads.inputs), fresh.inputs)
    u = np.array([[1.0], [0.0]])
    cube, labels = x[:8].reshape(2, 4, D), y[:8].reshape(2, 4)
    loss, grads = on_gpu.call(library, f, cube, weight, labels, sample_weight=u)
    host, host_grads = f(cube, weight, labels, sample_weight=u)
    np.testing.assert_allclose(loss, host, rtol=1e-6)
    np.testing.assert_allclose(grads.inputs, host_grads.inputs, rtol=1e-5, atol=1e-7)


def test_strided_arrays(library, two_tiles):
    """Transposed, every other column, and gradients into such arrays."""
    if library == "numba":
        pytest.skip("no views by slices")
    x, weight, y = problem(library, "float32")
    f = fx.linear_cross_entropy_with_grad
    fresh = on_gpu.call(library, f, x, weight, y)
    gx = on_gpu.give(library, np.repeat(x, 2, axis=1))[:, ::2]
    gw = on_gpu.give(library, np.ascontiguousarray(weight.T)).T
    gy = on_gpu.give(library, np.repeat(y, 2))[::2]
    out = on_gpu.give(library, np.zeros((N, 2 * D), "f4"))[:, ::2]
    loss, grads = f(gx, gw, gy, grad_out=(out, None, None))
    np.testing.assert_allclose(on_gpu.take(loss), fresh[0], rtol=1e-6)
    np.testing.assert_allclose(on_gpu.take(out), fresh[1].inputs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(on_gpu.take(grads.weight), fresh[1].weight, rtol=1e-5, atol=1e-7)
    cube = on_gpu.give(library, np.zeros((2, 4, 2 * D), "f4"))[:, :, ::2]
    labels = on_gpu.give(library, y[:8].reshape(2, 4))
    _, grads = f(on_gpu.give(library, x[:8].reshape(2, 4, D)), gw, labels,
                 grad_out=(cube, None, None))  # fmt: skip
    assert grads.inputs is cube
    wanted = fresh[1].inputs[:8].reshape(2, 4, D)
    np.testing.assert_allclose(on_gpu.take(cube), wanted, rtol=1e-5, atol=1e-7)


def test_no_tile_is_larger_than_allowed(library, monkeypatch):
    if library != "simulated":
        pytest.skip("made for the simulator")
    x, weight, y = linear.problem("float32", n=12, d=2, c=100)
    largest = 0

    class Counted(on_gpu.Simulated):
        def __init__(self, a):
            nonlocal largest
            super().__init__(a)
            largest = max(largest, a.size)

    arrays = [on_gpu.give(library, a) for a in (x, weight, y)]
    monkeypatch.setattr(on_gpu, "Simulated", Counted)
    for tiles in ("rows", "classes"):
        monkeypatch.setitem(TILES, tiles, (4 * 600, *TILES[tiles][1:]))
        cut(monkeypatch, tiles)
        largest = 0
        fx.linear_cross_entropy_with_grad(*arrays)
        assert 300 <= largest <= 600  # of 1200 logits


# ---- sampled classes -----------------------------------------------------------------


@pytest.mark.parametrize(("remove", "cut_rows"), [(False, False), (True, True)])
@pytest.mark.parametrize("num_true", [1, 3])
@pytest.mark.parametrize("name", sampled.LOSSES)
def test_sampled(library, monkeypatch, name, num_true, remove, cut_rows):
    if cut_rows:
        monkeypatch.setitem(TILES, "few", (500, 1, 1))
        cut(monkeypatch, "few")
    budget = SPECS[name].budgets
    g = np.linspace(-1, 2, sampled.B)
    x, weight, y, b, candidates = sampled.problem("float32", num_true)
    for bias in (b, None):
        options = {"bias": bias, "sampled": candidates, "remove_accidental_hits": remove}
        exact, size, grads, sizes = sampled.statement(
            name, x, weight, y, bias, candidates, remove, factor=g
        )
        gx, gw, gy = (on_gpu.give(library, a) for a in (x, weight, y))
        own = given(library, options)
        loss = on_gpu.take(getattr(fx, name)(gx, gw, gy, **own))
        loss2, grad = sampled.with_grad(name)(gx, gw, gy, upstream=on_gpu.give(library, g), **own)
        assert type(grad.ids) is type(gx)
        loss2, grad = on_gpu.take((loss2, grad))
        np.testing.assert_array_equal(loss2, loss)
        sampled.assert_close(loss, exact, size, budget["value"], "float32")
        assert grad.ids.dtype == np.int64
        sampled.assert_close(grad.inputs, grads[0], sizes[0], budget["grad"], "float32")
        d_weight, d_bias = sampled.dense(grad, weight.shape)
        sampled.assert_close(d_weight, grads[1], sizes[1], budget["grad"], "float32")
        assert (d_bias is None) == (bias is None)
        if bias is not None:
            sampled.assert_close(d_bias, grads[2], sizes[2], budget["grad"], "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", sampled.LOSSES)
def test_sampled_is_as_on_the_host(library, name, dtype):
    """Weights of 0, bad labels under them, NaN beside an upstream gradient of 0, partitions."""
    if dtype not in on_gpu.kinds(library):
        pytest.skip(f"{library} has no {dtype}")
    x, weight, y, bias, candidates = sampled.problem(dtype, 2)
    u, g = data.sample_weights(sampled.B), np.linspace(-1, 2, sampled.B)
    y[0], x[1], g[1] = 99, np.nan, 0.0
    assert u[0] == 0
    assert u[1] != 0
    f = sampled.with_grad(name)
    tolerance = {"float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for parts, more in (
        ([weight], {"sample_weight": u, "upstream": g}),
        (np.split(weight, [7, 7, 12]), {"upstream": g}),
        ([weight], {"sample_weight": u, "reduction": "mean", "upstream": -1.5}),
        ([weight], {"sample_weight": 0.0, "reduction": "mean"}),
    ):
        more |= {"bias": bias, "sampled": candidates}
        labels = np.where(y == 99, 0, y) if "sample_weight" not in more else y
        xs = np.nan_to_num(x) if "reduction" in more else x
        host, host_grad = f(xs, parts if len(parts) > 1 else weight, labels, **more)
        weights = [on_gpu.give(library, a) for a in parts]
        loss, grad = on_gpu.take(
            f(
                on_gpu.give(library, xs), weights if len(parts) > 1 else weights[0],
                on_gpu.give(library, labels), **given(library, more),
            )
        )  # fmt: skip
        np.testing.assert_array_equal(grad.ids, host_grad.ids)
        for a, b in zip((loss, *grad), (host, *host_grad)):
            assert a.dtype == np.asarray(b).dtype
            assert a.shape == np.shape(b)
            np.testing.assert_allclose(
                a.astype(float), np.asarray(b).astype(float), rtol=tolerance, atol=tolerance
            )
        assert np.isnan(host).all() == np.isnan(loss.astype(float)).all()


@pytest.mark.parametrize("name", sampled.LOSSES)
def test_classes_are_drawn_as_on_the_host(library, name):
    x, weight, y, _, _ = sampled.problem("float32")
    f = sampled.with_grad(name)
    host, host_grad = f(x, weight, y, num_sampled=5, rng=3)
    loss, grad = on_gpu.call(library, f, x, weight, y, num_sampled=5, rng=3)
    np.testing.assert_array_equal(grad.ids, host_grad.ids)
    np.testing.assert_allclose(loss, host, rtol=2e-6)
    none = fx.samplers.Candidates([], np.ones(sampled.B), [])
    host = getattr(fx, name)(x, weight, y, sampled=none)
    arrays = [on_gpu.give(library, a) for a in (x, weight, y)]
    loss, grad = on_gpu.take(f(*arrays, sampled=none))
    np.testing.assert_allclose(loss, host, rtol=2e-6, atol=1e-7)
    assert grad.weight.shape == (sampled.B, sampled.D)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_scatter_add(library, dtype):
    if dtype not in on_gpu.kinds(library):
        pytest.skip(f"{library} has no {dtype}")
    random = data.rng(1)
    dt = data.dtype_of(dtype)
    ids = random.integers(0, C, 40)
    for shape, cuts in (((C, 5), []), ((C,), []), ((C, 2, 3), []), ((C, 4), [3, 3, 20])):
        target = random.standard_normal(shape).astype(dt)
        values = random.standard_normal((40, *shape[1:])).astype(dt)
        parts = [on_gpu.give(library, a) for a in np.split(target, cuts)]
        fx.scatter_add(
            parts if cuts else parts[0], on_gpu.give(library, ids), on_gpu.give(library, values)
        )
        got = np.concatenate([on_gpu.take(a) for a in parts])
        fx.scatter_add(target, ids, values)
        tolerance = 1e-14 if dtype == "float64" else 2e-6
        tolerance = 2 * sampled.HALF.get(dtype, tolerance)
        np.testing.assert_allclose(got.astype(float), target.astype(float), rtol=tolerance,
                                   atol=tolerance)  # fmt: skip


def test_numpy_arrays_by_the_backend(library):
    """Copied over and back a tile at a time; products by NumPy."""
    x, weight, y = problem(library, "float32")
    calls = (
        lambda: fx.linear_cross_entropy_with_grad(x, weight, y, bias=weight[:, 0], z_loss=0.1),
        lambda: fx.nce_loss_with_grad(x, weight, y, num_sampled=3, rng=0),
        lambda: fx.sampled_softmax_loss_with_grad(x, weight, y[:, None] % 5, num_sampled=3, rng=0),
    )
    for call in calls:
        host, host_grads = call()
        with fx.config(backend="cuda"):
            loss, grads = call()
        for a, b in zip((loss, *grads), (host, *host_grads)):
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# ---- errors --------------------------------------------------------------------------


def test_the_library_must_multiply():
    if "simulated" in on_gpu.libraries():
        array = on_gpu.Bare
    elif "numba" in on_gpu.libraries():
        array = lambda a: on_gpu.give("numba", a)  # noqa: E731
    else:
        pytest.skip("there is no GPU")
    x, y = array(np.zeros((2, 3), "f4")), array(np.array([0, 1]))
    wanted = "^inputs must be an array of a library that makes and multiplies matrices on the GPU"
    for f in (fx.linear_cross_entropy, fx.nce_loss, fx.sampled_softmax_loss):
        with pytest.raises(TypeError, match=wanted):
            f(x, x, y)


def test_host_and_gpu_do_not_mix(library):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    gx, gy = on_gpu.give(library, x), on_gpu.give(library, y)
    more = {"sampled": ([0], np.ones(2), [1.0])}
    for f, options in (
        (fx.linear_cross_entropy, {}), (fx.nce_loss, more), (fx.sampled_softmax_loss, more),
    ):  # fmt: skip
        for name, arguments in (
            ("weight", (gx, x, gy)), ("labels", (gx, gx, y)), ("labels", (gx, gx, [0, 1])),
        ):  # fmt: skip
            with pytest.raises(TypeError, match=f"^{name} must be on the GPU, like inputs; got "):
                f(*arguments, **options)
        for name, arguments in (("weight", (x, gx, y)), ("labels", (x, x, gy))):
            with pytest.raises(TypeError, match=f"^{name} must be in the host's memory here"):
                f(*arguments, **options)
        with pytest.raises(TypeError, match=r"^bias must be on the GPU"):
            f(gx, gx, gy, bias=np.zeros(2), **options)
        with pytest.raises(TypeError, match=r"^inputs on a GPU must be float16"):
            f(gy, gx, gy, **options)
    with pytest.raises(TypeError, match=r"^grad_out.weight must be on the GPU"):
        fx.linear_cross_entropy_with_grad(gx, gx, gy, grad_out=(None, x, None))
    with pytest.raises(TypeError, match=r"^values must be on the GPU, like target"):
        fx.scatter_add(gx, gy, x)
    with pytest.raises(TypeError, match=r"^ids must be in the host's memory here"):
        fx.scatter_add(x, gy, x)
    with pytest.raises(TypeError, match=r"^sampled ids must be in the host's memory here"):
        fx.nce_loss(gx, gx, gy, sampled=(gy, np.ones(2), np.ones(2)))
    with pytest.raises(TypeError, match=r"^target on a GPU must be float16"):
        fx.scatter_add(gy, gy, gy)


def test_sentences_are_the_hosts(library):
    x, weight, y = np.zeros((2, 3), "f4"), np.zeros((4, 3), "f4"), np.array([0, 1])
    cand = {"sampled": ([0], np.ones(2), [1.0])}
    none = (None, None, None)
    cases = [
        *((f, a, o | m) for f, m in (
            (fx.linear_cross_entropy, {}), (fx.nce_loss, cand), (fx.sampled_softmax_loss, cand),
        ) for a, o in (
            ((x, weight[:, :2], y), {}), ((x, weight[:0], y), {}), ((x, weight, y[:1]), {}),
            ((x, weight, np.array([0, 4])), {}), ((x, weight, np.array([0.0, 1.0])), {}),
            ((x, weight, y), {"bias": np.zeros(3)}), ((x, weight, y), {"reduction": "avg"}),
            ((x, weight, y), {"sample_weight": np.zeros(3)}),
        )),
        (fx.linear_cross_entropy, (x, weight, y), {"label_smoothing": 2.0}),
        (fx.linear_cross_entropy, (x, weight, y), {"class_weight": np.zeros(3)}),
        *((fx.linear_cross_entropy_with_grad, (x, weight, y), options) for options in (
            {"upstream": np.zeros(3)}, {"grad_out": none[:2]}, {"grad_out": (*none[:2], x)},
            {"grad_out": (weight, *none[:2])}, {"grad_out": (x.astype(float), *none[:2])},
        )),
        (fx.nce_loss, (x, weight, y), {}),
        (fx.nce_loss, (x, weight, y), {"num_sampled": 9}),
        (fx.nce_loss, (x, weight, y), {"sampled": ([9], np.ones(2), [1.0])}),
        (fx.nce_loss, (x, weight, y), {"sampled": ([1], np.zeros(2), [1.0])}),
        (fx.nce_loss, (x[0], weight, y), cand),
        (fx.scatter_add, (x, np.array([0, 2]), x), {}),
        (fx.scatter_add, (x, y, weight), {}),
    ]  # fmt: skip
    for f, arguments, options in cases:
        with pytest.raises((TypeError, ValueError, IndexError)) as host:
            f(*arguments, **options)
        own = [on_gpu.give(library, a) for a in arguments]
        more = given(library, options)
        if "grad_out" in options:
            more["grad_out"] = tuple(on_gpu.give(library, a) for a in options["grad_out"])
        with pytest.raises(type(host.value)) as gpu:
            f(*own, **more)
        assert str(gpu.value) == str(host.value)


def test_nothing_is_written_on_an_error(library):
    x, weight, y = problem(library, "float32")
    y[2] = C
    out = tuple(on_gpu.give(library, np.full_like(a, 7)) for a in (x, weight))
    arrays = [on_gpu.give(library, a) for a in (x, weight, y)]
    with pytest.raises(IndexError, match=rf"got {C} at position \(2\)"):
        fx.linear_cross_entropy_with_grad(*arrays, grad_out=(*out, None))
    assert all((on_gpu.take(a) == 7).all() for a in out)
    with pytest.raises(ValueError, match=r"grad_out.inputs must not overlap inputs"):
        fx.linear_cross_entropy_with_grad(*arrays, grad_out=(arrays[0], None, None))
