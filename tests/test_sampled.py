"""Sampled losses against an independent statement in float64, and what may go wrong with them."""

import sys
import threading

import data
import numpy as np
import pytest

import fastxent as fx
from fastxent import _call, samplers
from fastxent._spec import REDUCTIONS, SPECS

LOSSES = tuple(name for name, spec in SPECS.items() if spec.family == "sampled")
B, C, D, S = 13, 20, 5, 9

HALF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


@pytest.fixture(params=LOSSES)
def sampled_loss(request):
    return request.param


def with_grad(name):
    return getattr(fx, f"{name}_with_grad")


def problem(dtype="float64", num_true=1, seed=0, size=B):
    """Vectors, labels, biases and candidates with hits, and with ids that repeat."""
    random = np.random.default_rng(seed)
    dt = data.dtype_of(dtype)
    x, weight = random.normal(size=(size, D)).astype(dt), random.normal(size=(C, D)).astype(dt)
    bias = random.normal(size=C).astype(dt)
    labels = random.integers(0, C, (size, num_true))
    ids = np.concatenate([labels[:3, 0], random.integers(0, C, S - 5), labels[:2, 0]])
    candidates = samplers.Candidates(
        ids, random.uniform(0.05, 2, (size, num_true)), random.uniform(0.05, 2, S)
    )
    if num_true == 1:
        labels = labels[:, 0]
        candidates = candidates._replace(true_expected=candidates.true_expected[:, 0])
    return x, weight, labels, bias, candidates


def statement(name, x, weight, labels, bias, candidates, remove, factor=1.0):
    """The definition, row by row: losses, dense gradients, and the sizes behind their rounding."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    bias = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
    labels = labels.reshape(len(x), -1)
    expected = candidates.true_expected.reshape(labels.shape)
    factor = np.broadcast_to(factor, len(x))
    losses, size = np.zeros(len(x)), np.zeros(len(x))
    grads = [np.zeros_like(a) for a in (x, weight, bias)]
    sizes = [np.zeros_like(a) for a in (x, weight, bias)]
    for i, row in enumerate(x):
        terms = [(y, c, 1 / labels.shape[1]) for y, c in zip(labels[i], expected[i])]
        for k, c in zip(candidates.ids, candidates.sampled_expected):
            if not (remove and k in labels[i]):
                terms.append((k, c, 0.0))
        classes = [k for k, _, _ in terms]
        logits = np.array([row @ weight[k] + bias[k] - np.log(c) for k, c, _ in terms])
        z = np.array([z for _, _, z in terms])
        scale = [
            np.abs(row) @ np.abs(weight[k]) + abs(bias[k]) + abs(np.log(c)) for k, c, _ in terms
        ]
        if name == "nce_loss":
            softplus = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0)
            losses[i] = (softplus - z * logits).sum()
            slopes = 1 / (1 + np.exp(-logits)) - z
        else:
            lse = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
            losses[i] = z.sum() * lse - z @ logits
            slopes = np.exp(logits - lse) - z
        size[i] = sum(scale)
        for k, slope, width in zip(classes, factor[i] * slopes, scale):
            reach = abs(slope) + abs(factor[i]) * (1 + max(scale) if name != "nce_loss" else width)
            for out, sums, about in ((0, i, weight[k]), (1, k, row), (2, k, 1.0)):
                grads[out][sums] += slope * about
                sizes[out][sums] += reach * np.abs(about)
    return losses, size, grads, sizes


def dense(grad, shape):
    """Gradients of weight and bias as arrays over the classes, in float64."""
    d_weight = np.zeros(shape)
    np.add.at(d_weight, grad.ids, grad.weight.astype(np.float64))
    if grad.bias is None:
        return d_weight, None
    d_bias = np.zeros(shape[0])
    np.add.at(d_bias, grad.ids, grad.bias.astype(np.float64))
    return d_weight, d_bias


def assert_close(got, exact, size, budget, dtype, rounded=0.0):
    """Within the error budget; ``rounded`` for what a half precision dtype loses."""
    double = dtype == "float64"
    ulp = 2.0**-52 if double else 2.0**-23
    limit = budget.ulp * ulp * np.abs(exact) + (budget.floor64 if double else budget.floor32) * size
    error = np.abs(np.asarray(got).astype(np.float64) - exact)
    assert np.all(error <= limit + rounded), (error / (limit + rounded)).max()


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("num_true", [1, 3])
def test_value_and_gradient(sampled_loss, backend, dtype, num_true, remove):
    x, weight, y, b, candidates = problem(dtype, num_true)
    budget = SPECS[sampled_loss].budgets
    g = np.linspace(-1, 2, B)
    for bias in (b, None):
        options = {"bias": bias, "sampled": candidates, "remove_accidental_hits": remove}
        exact, size, grads, sizes = statement(
            sampled_loss, x, weight, y, bias, candidates, remove, factor=g
        )
        loss = getattr(fx, sampled_loss)(x, weight, y, **options)
        loss2, grad = with_grad(sampled_loss)(x, weight, y, **options, upstream=g)
        wide = "float64" if dtype == "float64" else "float32"
        assert loss.dtype == wide
        np.testing.assert_array_equal(loss2, loss)
        assert_close(loss, exact, size, budget["value"], dtype)
        half = HALF.get(dtype, 0.0)
        assert grad.inputs.dtype == x.dtype
        assert grad.weight.dtype == weight.dtype
        assert grad.ids.dtype == np.int64
        assert_close(grad.inputs, grads[0], sizes[0], budget["grad"], dtype, half * sizes[0])
        d_weight, d_bias = dense(grad, weight.shape)
        assert_close(d_weight, grads[1], sizes[1], budget["grad"], dtype, half * sizes[1])
        assert (d_bias is None) == (bias is None)
        if bias is not None:
            assert grad.bias.dtype == bias.dtype
            assert_close(d_bias, grads[2], sizes[2], budget["grad"], dtype, half * sizes[2])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_and_weights(sampled_loss, reduction):
    x, weight, y, bias, candidates = problem(num_true=2)
    u = data.sample_weights(B)
    assert (u == 0).any()
    options = {"bias": bias, "sampled": candidates, "reduction": reduction}
    upstream = np.linspace(-1, 2, B) if reduction == "none" else np.float64(-1.5)
    loss, grad = with_grad(sampled_loss)(
        x, weight, y, **options, sample_weight=u, upstream=upstream
    )
    remove = sampled_loss == "sampled_softmax_loss"
    over = {
        "none": 1, "sum": 1, "mean": u.sum(), "size_mean": B, "nonzero_mean": np.count_nonzero(u)
    }[reduction]  # fmt: skip
    factor = u * upstream / over
    each, _, grads, _ = statement(sampled_loss, x, weight, y, bias, candidates, remove, factor)
    exact = u * each if reduction == "none" else (u * each).sum() / over
    np.testing.assert_allclose(loss, exact, rtol=1e-13)
    assert isinstance(loss, np.ndarray if reduction == "none" else np.float64)
    d_weight, d_bias = dense(grad, weight.shape)
    for got, wanted in zip((grad.inputs, d_weight, d_bias), grads):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)
    assert np.all(grad.inputs[u == 0] == 0)
    value = getattr(fx, sampled_loss)(x, weight, y, **options, sample_weight=u)
    np.testing.assert_array_equal(value, loss)


def test_finite_differences(sampled_loss):
    """Slopes of the value itself, in every input."""
    x, weight, y, bias, candidates = problem(num_true=2, seed=4)
    options = {"sampled": candidates, "reduction": "sum"}
    f = getattr(fx, sampled_loss)
    _, grad = with_grad(sampled_loss)(x, weight, y, bias=bias, **options)
    wanted = (grad.inputs, *dense(grad, weight.shape))
    for k, of in enumerate((x, weight, bias)):
        slopes = np.zeros_like(of)
        for index in np.ndindex(of.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in (x, weight, bias)]
                moved[k][index] += step
                values.append(f(moved[0], moved[1], y, bias=moved[2], **options))
            slopes[index] = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(slopes, wanted[k], rtol=1e-6, atol=1e-7)


# ---- all classes ---------------------------------------------------------------------


@pytest.mark.parametrize("num_true", [1, 2])
def test_all_classes_give_the_full_softmax(backend, num_true):
    x, weight, _, bias, _ = problem()
    random = np.random.default_rng(8)
    y = np.array([random.permutation(C)[:num_true] for _ in range(B)])
    every = samplers.Candidates(random.permutation(C), np.ones((B, num_true)), np.ones(C))
    loss, grad = fx.sampled_softmax_loss_with_grad(x, weight, y, bias=bias, sampled=every)
    q = np.zeros((B, C))
    np.put_along_axis(q, y, 1 / num_true, 1)
    full, d_logits = fx.softmax_cross_entropy_with_grad(x @ weight.T + bias, q)
    np.testing.assert_allclose(loss, full, rtol=1e-13)
    np.testing.assert_allclose(grad.inputs, d_logits @ weight, rtol=1e-11, atol=1e-14)
    d_weight, d_bias = dense(grad, weight.shape)
    np.testing.assert_allclose(d_weight, d_logits.T @ x, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(d_bias, d_logits.sum(0), rtol=1e-11, atol=1e-14)
    without = fx.sampled_softmax_loss(
        x, weight, y, bias=bias, sampled=every, remove_accidental_hits=False
    )
    assert np.all(without > full), "hits count twice"


# ---- hits ----------------------------------------------------------------------------


def test_every_hit_is_left_out(sampled_loss, dtype):
    """Also where an id repeats, in every dtype; TensorFlow keeps all but the last."""
    x, weight, y, bias, candidates = problem(dtype, seed=2)
    y[:] = 4
    ids = np.array([4, 7, 4, 4, 11])
    candidates = candidates._replace(ids=ids, sampled_expected=np.array([0.5, 1, 2, 0.1, 1]))
    loss, grad = with_grad(sampled_loss)(
        x, weight, y, bias=bias, sampled=candidates, remove_accidental_hits=True
    )
    kept = candidates._replace(ids=ids[[1, 4]], sampled_expected=np.ones(2))
    same, other = with_grad(sampled_loss)(
        x, weight, y, bias=bias, sampled=kept, remove_accidental_hits=False
    )
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    assert np.isfinite(loss).all()
    np.testing.assert_allclose(
        grad.inputs.astype(float), other.inputs.astype(float), rtol=2e-2, atol=1e-2
    )
    hits = B + np.array([0, 2, 3])
    assert np.all(grad.weight[hits].astype(float) == 0)
    assert np.all(grad.bias[hits].astype(float) == 0)


def test_only_hits(sampled_loss):
    """Nothing but the labels is left."""
    x, weight, _, _, _ = problem()
    y, only = np.full(B, 3), samplers.Candidates([3, 3], np.ones(B), np.ones(2))
    loss, grad = with_grad(sampled_loss)(x, weight, y, sampled=only, remove_accidental_hits=True)
    none = samplers.Candidates([], np.ones(B), [])
    same, other = with_grad(sampled_loss)(x, weight, y, sampled=none)
    np.testing.assert_array_equal(loss, same)
    np.testing.assert_array_equal(grad.inputs, other.inputs)
    assert grad.weight.shape == (B + 2, D)
    if sampled_loss == "sampled_softmax_loss":
        assert np.all(loss == 0)
        assert np.all(grad.weight == 0)


# ---- weights in parts, layouts, dtypes -----------------------------------------------


def test_partitions_are_the_whole(sampled_loss):
    x, weight, y, bias, candidates = problem("float32", 2)
    for cuts in ([7], [1, 1, 12], [20], []):
        parts = np.split(weight, cuts)
        a = with_grad(sampled_loss)(x, weight, y, bias=bias, sampled=candidates)
        b = with_grad(sampled_loss)(x, parts, y, bias=bias, sampled=candidates)
        for one, other in zip((a[0], *a[1]), (b[0], *b[1])):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError, match=r"weight must have one dtype .* float32, float64"):
        fx.nce_loss(x, [weight[:7], weight[7:].astype(float)], y, sampled=candidates)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(sampled_loss, layout):
    x, weight, y, bias, candidates = problem("float32", 2)
    a = with_grad(sampled_loss)(x, weight, y, bias=bias, sampled=candidates)
    x, weight, y, bias = map(LAYOUTS[layout], (x, weight, y, bias))
    b = with_grad(sampled_loss)(x, weight, y, bias=bias, sampled=candidates)
    for one, other in zip((a[0], *a[1]), (b[0], *b[1])):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert other.dtype.isnative


@pytest.mark.parametrize(
    ("inputs", "weight", "bias", "wide"),
    [
        ("float32", "float64", None, "float64"),
        ("float16", "float32", "float16", "float32"),
        ("float16", "float16", None, "float32"),
        ("float32", "float32", "float64", "float64"),
        ("int32", "float32", None, "float64"),
        ("float32", "int8", "bool", "float64"),
    ],
)
def test_mixed_dtypes(sampled_loss, inputs, weight, bias, wide):
    x, w, y, b, candidates = problem()
    x, w, b = ((10 * a).astype(t or "float64") for a, t in zip((x, w, b), (inputs, weight, bias)))
    b = None if bias is None else b
    loss, grad = with_grad(sampled_loss)(x, w, y, bias=b, sampled=candidates)
    assert loss.dtype == wide
    for got, given in ((grad.inputs, x), (grad.weight, w), (grad.bias, b)):
        if given is not None:
            assert got.dtype == (given.dtype if given.dtype.kind == "f" else np.float64)
    remove = sampled_loss == "sampled_softmax_loss"
    exact, size, *_ = statement(sampled_loss, x, w, y, b, candidates, remove)
    assert_close(loss, exact, size, SPECS[sampled_loss].budgets["value"], wide)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64"])
def test_label_dtypes(sampled_loss, kind):
    x, weight, y, _, candidates = problem()
    f = getattr(fx, sampled_loss)
    np.testing.assert_array_equal(
        f(x, weight, y.astype(kind), sampled=candidates), f(x, weight, y, sampled=candidates)
    )


def test_lists(sampled_loss):
    loss, grad = with_grad(sampled_loss)(
        [[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], [1], sampled=([0], [1.0], [1.0])
    )
    assert loss.shape == (1,)
    assert grad.inputs.shape == (1, 2)
    column = getattr(fx, sampled_loss)(
        [[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], [[1]], sampled=([0], [1.0], [1.0])
    )
    np.testing.assert_array_equal(column, loss)


# ---- rows that do not count, special values ------------------------------------------


def test_absent_rows_are_not_read(sampled_loss):
    x, weight, y, bias, candidates = problem(num_true=2)
    u = np.where(np.arange(B) % 3 == 0, 0, 1.5)
    options = {"bias": bias, "sampled": candidates, "sample_weight": u, "reduction": "mean"}
    clean, clean_grad = with_grad(sampled_loss)(x, weight, y, **options)
    x[u == 0], y[u == 0] = np.nan, -1
    with np.errstate(all="raise"):
        loss, grad = with_grad(sampled_loss)(x, weight, y, **options)
    assert loss == clean
    for got, wanted in zip(grad, clean_grad):
        np.testing.assert_array_equal(got, wanted)
    assert np.all(grad.inputs[u == 0] == 0)
    each = getattr(fx, sampled_loss)(x, weight, y, **(options | {"reduction": "none"}))
    assert np.all(each[u == 0] == 0)
    with pytest.raises(IndexError, match=r"labels must lie in \[0, 20\); got -1 at position"):
        getattr(fx, sampled_loss)(x, weight, y, sampled=candidates)


def test_no_row_counts(sampled_loss):
    x, weight, y, bias, candidates = problem()
    for options in ({"sample_weight": 0}, {"sample_weight": np.zeros(B)}):
        loss, grad = with_grad(sampled_loss)(
            x, weight, y, bias=bias, sampled=candidates, reduction="mean", **options
        )
        assert np.isnan(loss)
        assert np.all(grad.inputs == 0)
        assert np.all(grad.weight == 0)
        assert grad.ids.tolist() == candidates.ids.tolist()
    empty = candidates._replace(true_expected=[])
    loss, grad = with_grad(sampled_loss)(x[:0], weight, [], sampled=empty)
    assert loss.shape == (0,)
    assert grad.inputs.shape == (0, D)
    assert getattr(fx, sampled_loss)(x[:0], weight, [], sampled=empty, reduction="sum") == 0


def test_nan_stays_in_its_row(sampled_loss):
    x, weight, y, _, candidates = problem()
    clean, clean_grad = with_grad(sampled_loss)(x, weight, y, sampled=candidates)
    x[4, 2] = np.nan
    g = np.ones(B)
    g[4] = 0
    with np.errstate(all="raise"):
        loss, grad = with_grad(sampled_loss)(x, weight, y, sampled=candidates)
        _, quiet = with_grad(sampled_loss)(x, weight, y, sampled=candidates, upstream=g)
    others = np.arange(B) != 4
    assert np.isnan(loss[4])
    np.testing.assert_allclose(loss[others], clean[others], rtol=1e-14)
    assert np.isnan(grad.inputs[4]).all()
    np.testing.assert_allclose(grad.inputs[others], clean_grad.inputs[others], rtol=1e-13)
    # Upstream 0: the row has no gradient at all, though its loss is NaN.
    assert np.all(quiet.inputs[4] == 0)
    assert np.isfinite(quiet.weight).all()
    assert np.all(quiet.weight[4] == 0)


def test_nothing_given_is_written(sampled_loss):
    x, weight, y, bias, candidates = problem("float32", 2)
    before = [a.copy() for a in (x, weight, y, bias, *candidates)]
    with_grad(sampled_loss)(x, weight, y, bias=bias, sampled=candidates)
    for a, b in zip((x, weight, y, bias, *candidates), before):
        np.testing.assert_array_equal(a, b)


# ---- sampling ------------------------------------------------------------------------


def test_samplers(sampled_loss):
    x, weight, y, bias, _ = problem()
    f = getattr(fx, sampled_loss)
    for word, sampler in (
        ("log_uniform", samplers.LogUniform(C)),
        ("uniform", samplers.Uniform(C)),
        (samplers.Unigram(np.arange(1, C + 1)), samplers.Unigram(np.arange(1, C + 1))),
    ):
        got = f(x, weight, y, num_sampled=6, sampler=word, rng=3)
        found = sampler.sample(6, y, rng=3)
        np.testing.assert_array_equal(got, f(x, weight, y, sampled=found))
        np.testing.assert_array_equal(got, f(x, weight, y, sampled=found, num_sampled=6))
    a, b = (f(x, weight, y, num_sampled=6, rng=seed) for seed in (3, 4))
    assert not np.array_equal(a, b)


def test_learned_unigram_learns_from_rows_that_count(sampled_loss):
    x, weight, y, _, _ = problem()
    sampler = samplers.LearnedUnigram(C)
    u = np.ones(B)
    u[5] = 0
    y[5] = -7
    getattr(fx, sampled_loss)(x, weight, y, num_sampled=4, sampler=sampler, sample_weight=u)
    counts = np.bincount(y[u > 0], minlength=C) + 1
    np.testing.assert_allclose(sampler.probability(np.arange(C)), counts / counts.sum())


# ---- threads -------------------------------------------------------------------------


def large(size=3001, features=64, classes=500, sampled=100):
    random = np.random.default_rng(5)
    x = random.normal(size=(size, features)).astype(np.float32)
    weight = random.normal(size=(classes, features)).astype(np.float32)
    y = random.integers(0, classes, size)
    return x, weight, y, samplers.LogUniform(classes).sample(sampled, y, rng=1)


def test_many_rows(sampled_loss):
    """Several blocks, also with a last one of few rows; the same bits on any number of threads."""
    x, weight, y, candidates = large()
    results = []
    for threads in (1, 2, 3):
        with fx.config(threads=threads):
            results.append(with_grad(sampled_loss)(x, weight, y, sampled=candidates))
    for loss, grad in results[1:]:
        for a, b in zip((loss, *grad[:3]), (results[0][0], *results[0][1][:3])):
            np.testing.assert_array_equal(a, b)
    loss, grad = results[0]
    wide = (a.astype(np.float64) for a in (x, weight))
    exact, more = with_grad(sampled_loss)(*wide, y, sampled=candidates)
    np.testing.assert_allclose(loss, exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(grad.inputs, more.inputs, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(grad.weight, more.weight, rtol=1e-3, atol=1e-2)
    few, _ = with_grad(sampled_loss)(
        x[:50], weight, y[:50],
        sampled=candidates._replace(true_expected=candidates.true_expected[:50]),
    )  # fmt: skip
    np.testing.assert_allclose(few, loss[:50], rtol=1e-5)


def test_many_sampled_classes(sampled_loss):
    """Products too thin to be cut."""
    x, weight, y, _ = large(200, 70, 900)
    candidates = samplers.Uniform(900).sample(800, y, rng=1)
    loss, grad = with_grad(sampled_loss)(x, weight, y, sampled=candidates, reduction="sum")
    wide = (a.astype(np.float64) for a in (x, weight))
    exact, more = with_grad(sampled_loss)(*wide, y, sampled=candidates, reduction="sum")
    np.testing.assert_allclose(loss, exact, rtol=1e-5)
    np.testing.assert_allclose(grad.inputs, more.inputs, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(grad.weight, more.weight, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("num_true", [1, 3])
@pytest.mark.parametrize("features", [1, 7, 16, 31, 64, 130])
def test_every_width_of_products(sampled_loss, backend, num_true, features):
    """Whole tiles of the small products, and what is left of them at each edge."""
    random = np.random.default_rng(features)
    for rows, sampled in ((1, 1), (3, 5), (8, 16), (9, 17), (65, 33), (300, 100)):
        x = random.normal(size=(rows, features)).astype(np.float32)
        weight = (random.normal(size=(150, features)) / features**0.5).astype(np.float32)
        y = random.integers(0, 150, (rows, num_true))
        candidates = samplers.Uniform(150).sample(sampled, y, rng=1)
        options = {"sampled": candidates, "bias": np.linspace(-1, 1, 150), "reduction": "sum"}
        wide = (a.astype(np.float64) for a in (x, weight))
        with fx.config(backend="numpy"):
            exact, more = with_grad(sampled_loss)(*wide, y, **options)
        options["bias"] = options["bias"].astype(np.float32)
        loss, grad = with_grad(sampled_loss)(x, weight, y, **options)
        np.testing.assert_allclose(loss, exact, rtol=3e-6)
        for got, wanted in zip((grad.inputs, grad.weight, grad.bias), (more[0], *more[2:])):
            size = max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-6 * size)
        np.testing.assert_array_equal(grad.ids, more.ids)


def test_blocks_run_under_the_callers_settings(sampled_loss, monkeypatch):
    x, weight, y, candidates = large()
    words, choose = [], _call._backends.choose

    def spy(word):
        words.append((word, threading.current_thread().name))
        return choose(word)

    monkeypatch.setattr(_call._backends, "choose", spy)
    with fx.config(backend="numpy", threads=2):
        with_grad(sampled_loss)(x, weight, y, sampled=candidates)
    assert {word for word, _ in words} == {"numpy"}
    assert len(words) > 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs the peak of a process")
def test_logits_are_never_held_whole(sampled_loss):
    import tracemalloc

    x, weight, y, candidates = large(20_000, 32, 500, 256)
    with fx.config(threads=2):
        getattr(fx, sampled_loss)(x[:100], weight, y[:100], num_sampled=9)
        tracemalloc.start()
        try:
            getattr(fx, sampled_loss)(x, weight, y, sampled=candidates, reduction="mean")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000 * 256 * 4 / 3, "a third of the logits"


# ---- errors --------------------------------------------------------------------------

GOOD = samplers.Candidates([1, 2], np.ones(3), np.ones(2))
ERRORS = {
    "inputs 1-D": (ValueError, r"inputs must have shape \(rows, features\)", {"inputs": [1.0]}),
    "inputs str": (TypeError, "inputs must be float16", {"inputs": [["a"]]}),
    "weight": (ValueError, r"weight must have shape \(classes, 2\).* got \(4, 3\)",
               {"weight": np.ones((4, 3))}),
    "weight parts": (ValueError, r"weight must .* got \[\(4, 2\), \(1, 3\)\]",
                     {"weight": [np.ones((4, 2)), np.ones((1, 3))]}),
    "no classes": (ValueError, "weight must have at least one class",
                   {"weight": np.ones((0, 2)), "bias": None}),
    "bias": (ValueError, r"bias must have shape \(4,\)", {"bias": np.ones(3)}),
    "labels float": (TypeError, "labels must be integers", {"labels": [0.0, 1.0, 2.0]}),
    "labels shape": (ValueError, r"labels must have shape \(3,\) or", {"labels": [0, 1]}),
    "labels empty": (ValueError, "labels must have shape", {"labels": np.zeros((3, 0), int)}),
    "labels 4": (IndexError, r"labels must lie in \[0, 4\); got 4 at position \(1\)",
                 {"labels": [0, 4, 1]}),
    "labels (B, 2)": (IndexError, r"got -1 at position \(2, 1\)",
                      {"labels": [[0, 1], [1, 1], [0, -1]]}),
    "nothing sampled": (ValueError, "num_sampled must be given where sampled is not",
                        {"sampled": None}),
    "num_sampled": (ValueError, "num_sampled must be 2, the number of sampled ids, or None; got 3",
                    {"num_sampled": 3}),
    "num_sampled 0": (ValueError, "num_sampled must be at least 1",
                      {"sampled": None, "num_sampled": 0}),
    "too many": (ValueError, "num_sampled must be at most 4",
                 {"sampled": None, "num_sampled": 5}),
    "sampler": (ValueError, "sampler must be 'log_uniform', 'uniform' or",
                {"sampled": None, "num_sampled": 2, "sampler": "zipf"}),
    "sampler of 5": (ValueError, "sampler must draw from 4 classes.*num_classes=5",
                     {"sampled": None, "num_sampled": 2, "sampler": samplers.Uniform(5)}),
    "rng": (TypeError, "rng must be", {"sampled": None, "num_sampled": 2, "rng": "0"}),
    "sampled": (TypeError, "sampled must be", {"sampled": np.array([1, 2])}),
    "sampled ids": (IndexError, r"sampled ids must lie in \[0, 4\); got 9",
                    {"sampled": GOOD._replace(ids=[1, 9])}),
    "sampled ids 2-D": (ValueError, "sampled ids must have shape",
                        {"sampled": GOOD._replace(ids=[[1, 2]])}),
    "true_expected": (ValueError, r"sampled true_expected must have shape \(3,\); got \(2,\)",
                      {"sampled": GOOD._replace(true_expected=np.ones(2))}),
    "true_expected 0": (ValueError, r"true_expected must be finite .* got 0 at position \(1, 0\)",
                        {"sampled": GOOD._replace(true_expected=[1, 0, 1])}),
    "sampled_expected": (ValueError, r"sampled sampled_expected must have shape \(2,\)",
                         {"sampled": GOOD._replace(sampled_expected=np.ones((2, 2)))}),
    "sampled_expected nan": (ValueError, "sampled_expected must be finite",
                             {"sampled": GOOD._replace(sampled_expected=[1, np.nan])}),
    "sample_weight": (ValueError, "sample_weight must broadcast", {"sample_weight": np.ones(2)}),
    "reduction": (ValueError, "reduction must be one of", {"reduction": "avg"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(sampled_loss, name):
    error, sentence, changed = ERRORS[name]
    arguments = {
        "inputs": np.ones((3, 2)), "weight": np.ones((4, 2)), "labels": [0, 1, 2],
        "bias": np.ones(4), "sampled": GOOD, **changed,
    }  # fmt: skip
    data = [arguments.pop(k) for k in ("inputs", "weight", "labels")]
    for f in (getattr(fx, sampled_loss), with_grad(sampled_loss)):
        with pytest.raises(error, match=sentence):
            f(*data, **arguments)


def test_upstream_of_another_shape(sampled_loss):
    x, weight, y, _, candidates = problem()
    for reduction, upstream in (("none", 1.0), ("sum", np.ones(B))):
        with pytest.raises(ValueError, match="upstream must have the shape"):
            with_grad(sampled_loss)(
                x, weight, y, sampled=candidates, reduction=reduction, upstream=upstream
            )


# ---- adding rows ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64"])
def test_scatter_add(kind):
    random = np.random.default_rng(0)
    ids = random.integers(0, 7, 40)
    values = random.integers(-3, 4, (40, 2, 3)).astype(kind)
    target = random.integers(-3, 4, (7, 2, 3)).astype(kind)
    wanted = target.copy()
    np.add.at(wanted, ids, values)
    parts = np.split(target.copy(), [2, 2, 5])
    assert fx.scatter_add(target, ids, values) is None
    np.testing.assert_array_equal(target, wanted)
    fx.scatter_add(parts, ids, values)
    np.testing.assert_array_equal(np.concatenate(parts), wanted)
    fx.scatter_add(target[::2], [0, 0, 3], np.ones((3, 2, 3)))
    assert target[6].sum() == wanted[6].sum() + 6
    fx.scatter_add(target, [], np.ones((0, 2, 3)))
    bias = np.zeros(3)
    fx.scatter_add(bias, [1, 1, 0], [1.0, 2.0, 4.0])
    assert bias.tolist() == [4, 3, 0]


def test_scatter_add_adds_up_before_it_rounds():
    target = np.full((1, 1), 2048, np.float16)
    fx.scatter_add(target, [0, 0, 0, 0], np.full((4, 1), 0.5, np.float16))
    assert target == 2050


@pytest.mark.parametrize(
    ("error", "sentence", "target", "ids", "values"),
    [
        (TypeError, "target must be a NumPy array", [[1.0]], [0], [[1.0]]),
        (ValueError, "target must be a NumPy array or a list of them; got none", [], [], []),
        (IndexError, r"ids must lie in \[0, 2\); got 2 at", np.ones((2, 1)), [0, 2], [[1], [1]]),
        (ValueError, r"values must have shape \(1, 1\)", np.ones((2, 1)), [0], [1.0]),
        (ValueError, "target must be writeable", np.broadcast_to(1.0, (2, 1)), [0], [[1.0]]),
        (TypeError, "ids must be integers", np.ones((2, 1)), [0.0], [[1.0]]),
        (TypeError, "values must be real", np.ones((2, 1)), [0], [["a"]]),
        (ValueError, "target must have rows of one shape", [np.ones((2, 1)), np.ones((2, 2))],
         [0], [[1.0]]),
    ],
)  # fmt: skip
def test_scatter_add_errors(error, sentence, target, ids, values):
    before = [np.array(part) for part in target]
    with pytest.raises(error, match=sentence):
        fx.scatter_add(target, ids, values)
    for a, b in zip(target, before):
        np.testing.assert_array_equal(a, b)
