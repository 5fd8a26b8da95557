"""Losses of sequences: four averages, padding, lists over time; exact results behind them."""

import cases
import data
import layouts
import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

import fastxent as fx
from fastxent._spec import AVERAGES

B, T, V = 4, 6, 7

WEIGHTS = {
    "none": None,
    "padding": np.arange(T) < np.array([[6], [3], [0], [1]]),
    "fractions": data.sample_weights(B * T).reshape(B, T) * (np.arange(T) < [[6], [5], [6], [2]]),
    "of_steps": np.array([1, 1, 0.5, 0.25, 0, 3.0]),
    "of_examples": np.array([[1], [0], [2.0], [0.3]]),
    "zeros": np.zeros((B, T)),
}


def problem(dtype, seed=0):
    x = data.logits(B * T, V, dtype, seed)
    return x.reshape(B, T, V), data.index_labels(x, seed).reshape(B, T)


def upstream_for(average, seed=0):
    random = data.rng(seed)
    shape = {"timesteps": (B,), None: (B, T)}.get(average, ())
    return random.uniform(-1, 2, shape)


def exact(x, y, weights, average, upstream=1.0):
    """The loss and its gradient, and the largest error allowed in each.

    Each position's exact ``w l`` and ``w (p - onehot)``, times its share in the average.
    """
    dtype = x.dtype.name
    b, t, v = x.shape
    w = np.broadcast_to(np.asarray(1.0 if weights is None else weights, np.float64), (b, t))
    each = cases.exact(
        "sparse_softmax_cross_entropy", x.reshape(-1, v), y.ravel(), sample_weight=w.ravel()
    )
    limit = cases.value_limit("sparse_softmax_cross_entropy", dtype, each).reshape(b, t)
    with mp.workdps(60):
        rows = [mp.fsum(map(mpf, row)) for row in w.tolist()]
        total = mp.fsum(rows)
        share = {
            None: lambda i: mpf(1),
            "tokens": lambda i: 1 / total if total else mpf(0),
            "timesteps": lambda i: 1 / rows[i] if rows[i] else mpf(0),
            "examples": lambda i: 1 / rows[i] / b if rows[i] else mpf(0),
        }[average]
        shares = [share(i) for i in range(b)]
        losses = [mpf(h) + mpf(r) for h, r in zip(each.losses.hi.tolist(), each.losses.lo.tolist())]
        losses = [loss * shares[k // t] for k, loss in enumerate(losses)]
        limit = limit * np.array([[float(abs(s))] for s in shares])
        if average is None:
            value = oracle._exact(losses, (b, t))
        elif average == "timesteps":
            sums = [mp.fsum(losses[i * t : i * t + t]) for i in range(b)]
            value, limit = oracle._exact(sums, (b,)), limit.sum(1)
        else:
            value, limit = oracle._exact([mp.fsum(losses)], ()), limit.sum()
        g = np.asarray(upstream, np.float64)
        g = np.broadcast_to(g[:, None] if average == "timesteps" else g, (b, t)).ravel()
        factor = [mpf(float(u)) * shares[k // t] for k, u in enumerate(g)]
        pairs = [
            oracle._pair((mpf(h) + mpf(r)) * factor[k // v])
            for k, (h, r) in enumerate(zip(each.grad.hi.ravel(), each.grad.lo.ravel()))
        ]
        scale = each.scale * np.array([float(abs(f)) for f in factor])
    # The shares are rounded, and so is the result.
    limit = limit + (3 if dtype == "float64" else 1) * oracle.ulp(value.hi, oracle.computing(dtype))
    pairs = np.array(pairs).reshape(-1, v, 2)
    grad = oracle.Exact(pairs[..., 0], pairs[..., 1])
    return value, limit, each._replace(grad=grad, scale=scale)


@pytest.mark.parametrize("average", AVERAGES, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_value_and_gradient(backend, dtype, average, weights):
    x, y = problem(dtype)
    w, upstream = WEIGHTS[weights], upstream_for(average)
    value, limit, loss = exact(x, y, w, average, upstream)
    got = fx.sequence_loss(x, y, sample_weight=w, average=average)
    assert got.dtype == oracle.computing(dtype)
    oracle.assert_within(got, value, limit, f"{average} {weights}")
    got2, grad = fx.sequence_loss_with_grad(
        x, y, sample_weight=w, average=average, upstream=upstream
    )
    np.testing.assert_array_equal(got2, got)
    assert grad.shape == x.shape
    cases.assert_grad(grad.reshape(-1, V), "sequence_loss", dtype, loss)
    mine = x.copy()
    _, same = fx.sequence_loss_with_grad(
        mine, y, sample_weight=w, average=average, upstream=upstream, grad_out=mine
    )
    assert same is mine
    np.testing.assert_array_equal(mine.view(np.uint8), grad.view(np.uint8))


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_padding(backend, dtype, average):
    """Exactly nothing, whatever the logits and the labels of a padded position are."""
    x, y = problem(dtype)
    w = WEIGHTS["padding"]
    clean, clean_grad = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average)
    for rubbish, label in ((np.nan, -1), (np.inf, 10**9), (-np.inf, V)):
        bad, wrong = x.copy(), y.copy()
        bad[~w], wrong[~w] = rubbish, label
        with np.errstate(all="raise"):
            value = fx.sequence_loss(bad, wrong, sample_weight=w, average=average)
            value2, grad = fx.sequence_loss_with_grad(bad, wrong, sample_weight=w, average=average)
        cases.same(value, clean)
        cases.same(value2, clean)
        cases.same(grad, clean_grad)
        assert not grad[~w].astype(float).any()
        assert np.isfinite(grad.astype(float)).all()
        steps = [list(a.swapaxes(0, 1)) for a in (bad, wrong, w)]
        by_example = fx.sequence_loss_by_example(*steps)
        assert np.isfinite(by_example).all()
        assert by_example[2] == 0
        _, grads = fx.sequence_loss_by_example_with_grad(*steps)
        assert not np.stack(grads, 1)[~w].astype(float).any()
    if average == "timesteps":
        assert clean[2] == 0
        assert (clean[[0, 1, 3]] > 0).all()


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_nothing_but_padding(backend, dtype, average):
    x, y = np.full((B, T, V), np.nan).astype(data.dtype_of(dtype)), np.full((B, T), -1)
    with np.errstate(all="raise"):
        value, grad = fx.sequence_loss_with_grad(x, y, sample_weight=0, average=average)
    assert not np.any(value)
    assert value.dtype == oracle.computing(dtype)
    assert grad.dtype == x.dtype
    assert not grad.astype(float).any()


def test_nan_of_a_position_that_counts(backend):
    """It is in the averages that it belongs to, and in no other gradient."""
    x, y = problem("float32")
    w = WEIGHTS["padding"]
    x[1, 2] = np.nan
    value, grad = fx.sequence_loss_with_grad(x, y, sample_weight=w, average="timesteps")
    assert np.isnan(value).tolist() == [False, True, False, False]
    assert np.isnan(grad).any(axis=2).sum() == 1
    assert np.isnan(fx.sequence_loss(x, y, sample_weight=w))


def test_averages_are_numpys(backend):
    x, y = problem("float64")
    w = WEIGHTS["fractions"]
    f = fx.sparse_softmax_cross_entropy
    each = f(x, y, sample_weight=w)
    rows = each.sum(1) / w.sum(1)
    for average, expected in {
        None: each,
        "tokens": each.sum() / w.sum(),
        "timesteps": rows,
        "examples": rows.mean(),
    }.items():
        got = fx.sequence_loss(x, y, sample_weight=w, average=average)
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    w = w.copy()
    w[1] = 0
    rows[1] = 0
    got = fx.sequence_loss(x, y, sample_weight=w, average="examples")
    np.testing.assert_allclose(got, rows.mean(), rtol=1e-14)


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_finite_differences(backend, average):
    x, y = problem("float64")
    x = np.clip(x, -30, 30)
    w, upstream = WEIGHTS["fractions"], upstream_for(average)
    f = fx.sequence_loss
    _, grad = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average, upstream=upstream)
    h, options = 1e-5, {"sample_weight": w, "average": average}
    for seed in range(5):
        d = data.rng(seed).choice([-1.0, 1.0], x.shape)
        slope = (upstream * (f(x + h * d, y, **options) - f(x - h * d, y, **options))).sum()
        np.testing.assert_allclose((grad * d).sum(), slope / (2 * h), rtol=1e-6, atol=1e-7)


def test_a_nonzero_upstream_of_padding(backend):
    x, y = problem("float32")
    upstream = np.array([1, np.nan, 0, 2.0])
    w = np.array([[1.0], [0], [1], [1]])
    _, grad = fx.sequence_loss_with_grad(
        x, y, sample_weight=w, average="timesteps", upstream=upstream
    )
    assert not grad[[1, 2]].any()
    assert grad[[0, 3]].any()


@pytest.mark.parametrize("average", AVERAGES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (T,), (B, 1), (1, T), (B, T)], ids=str)
def test_weights_broadcast(backend, average, shape):
    x, y = problem("float32")
    w = np.round(data.rng(1).uniform(0, 3, shape))
    full = np.array(np.broadcast_to(w, (B, T)))
    a = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average)
    b = fx.sequence_loss_with_grad(x, y, sample_weight=full, average=average)
    for one, other in zip(a, b):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weight_dtype", ["bool", "int8", "uint64", "float16", "float32"])
def test_weights_of_any_dtype(backend, weight_dtype):
    x, y = problem("float32")
    w = (np.arange(B * T).reshape(B, T) % 3).astype(weight_dtype)
    for average in AVERAGES:
        a = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average)
        b = fx.sequence_loss_with_grad(x, y, sample_weight=w.astype(float), average=average)
        for one, other in zip(a, b):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(backend, layout, tmp_path):
    """Time before batch, Fortran order, gaps, bytes in another order: the same numbers."""
    x, axis = layouts.LAYOUTS[layout](data.logits(6, V, "float32").reshape(2, 3, V), tmp_path)
    x = np.moveaxis(x, axis, -1)
    if x.ndim != 3:
        return  # a layout of another rank
    y = np.asfortranarray(data.rng(1).integers(0, x.shape[2], x.shape[:2]).astype(np.int16))
    w = data.rng(2).integers(0, 2, x.shape[:2])
    plain = np.array(x, np.float32)
    for average in AVERAGES:
        got = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average)
        expected = fx.sequence_loss_with_grad(plain, y, sample_weight=w, average=average)
        for a, b in zip(got, expected):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("x_dtype", ["bool", "int16", "uint64"])
def test_integer_logits_are_float64(backend, x_dtype):
    x = (np.arange(24).reshape(2, 3, 4) * 7 % 5).astype(x_dtype)
    y = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    for average in AVERAGES:
        got = fx.sequence_loss_with_grad(x, y, average=average)
        expected = fx.sequence_loss_with_grad(x.astype(float), y, average=average)
        for a, b in zip(got, expected):
            assert a.dtype == np.float64
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_threads(backend, average):
    x = data.rng(1).standard_normal((61, 41, 301), dtype=np.float32)
    y = data.rng(2).integers(0, 301, (61, 41))
    w = data.rng(3).random((61, 41))
    results = []
    for threads in (1, 2, 7):
        with fx.config(backend=backend, threads=threads):
            value, grad = fx.sequence_loss_with_grad(x, y, sample_weight=w, average=average)
        results.append((np.asarray(value).tobytes(), grad.tobytes()))
    assert results[1:] == results[:1] * 2


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (0, 0, 2)], ids=str)
@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_nothing(backend, average, shape):
    x = np.empty(shape, np.float32)
    with np.errstate(all="raise"):
        value, grad = fx.sequence_loss_with_grad(x, np.empty(shape[:2], int), average=average)
    assert grad.shape == shape
    assert np.shape(value) == {"timesteps": shape[:1], None: shape[:2]}.get(average, ())
    assert not np.any(value)


# ---- errors --------------------------------------------------------------------------------

WRONG = {
    "rank": ({"logits": np.zeros((6, V))}, ValueError, r"logits.*\(batch, time.*\(6, 7\)"),
    "no_symbols": ({"logits": np.zeros((B, T, 0))}, ValueError, r"logits.*\(4, 6, 0\)"),
    "complex": ({"logits": np.zeros((B, T, V), complex)}, TypeError, "logits.*complex128"),
    "average": ({"average": "sum"}, ValueError, "average.*tokens.*examples.*timesteps.*None.*sum"),
    "labels_shape": ({"labels": np.zeros((T, B), int)}, ValueError, r"labels.*\(4, 6\).*\(6, 4\)"),
    "labels_float": ({"labels": np.zeros((B, T))}, TypeError, "labels.*integers.*float64"),
    "labels_high": (
        {"labels": np.where(np.arange(B * T).reshape(B, T) == 8, 7, 0)},
        IndexError,
        r"labels.*\[0, 7\).*7.*\(1, 2\)",
    ),
    "weights": ({"sample_weight": np.ones(B)}, ValueError, r"sample_weight.*\(4, 6\).*\(4,\)"),
    "weights_enlarge": (
        {"sample_weight": np.ones((2, B, T))},
        ValueError,
        r"sample_weight.*\(4, 6\).*\(2, 4, 6\)",
    ),
    "weights_text": ({"sample_weight": "a"}, TypeError, "sample_weight.*U1"),
    "upstream": ({"upstream": np.ones((B, T))}, ValueError, r"upstream.*\(\).*\(4, 6\)"),
    "upstream_of_timesteps": (
        {"upstream": np.ones((B, T)), "average": "timesteps"},
        ValueError,
        r"upstream.*\(4,\).*\(4, 6\)",
    ),
    "grad_out_shape": ({"grad_out": np.zeros((T, B, V))}, ValueError, r"grad_out.*\(4, 6, 7\)"),
    "grad_out_dtype": ({"grad_out": np.zeros((B, T, V), "f4")}, TypeError, "grad_out.*float32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(backend, case):
    """The argument is named, and nothing is written."""
    wrong, exception, sentence = WRONG[case]
    grad = np.full((B, T, V), 7.0)
    given = {"logits": np.zeros((B, T, V)), "labels": np.zeros((B, T), int), **wrong}
    with pytest.raises(exception, match=sentence):
        fx.sequence_loss_with_grad(**{"grad_out": grad, **given})
    assert (grad == 7).all()
    if not {"upstream", "grad_out"} & set(wrong):
        with pytest.raises(exception, match=sentence):
            fx.sequence_loss(**given)


def test_overlap(backend):
    memory = np.zeros((B + 1, T, V))
    with pytest.raises(ValueError, match="grad_out must not overlap logits"):
        fx.sequence_loss_with_grad(memory[1:], np.zeros((B, T), int), grad_out=memory[:-1])


# ---- lists over time -------------------------------------------------------------------------


def lists(x, y, w):
    """The arrays of each time step, as the source's function takes them."""
    return [list(np.swapaxes(a, 0, 1)) for a in (x, y, np.broadcast_to(w, y.shape))]


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("weights", [k for k in WEIGHTS if k != "none"])
def test_by_example_is_the_array_form(backend, dtype, weights, average):
    x, y = problem(dtype)
    w = WEIGHTS[weights]
    value, limit, loss = exact(x, y, w, "timesteps", upstream_for("timesteps"))
    steps = lists(x, y, w)
    got = fx.sequence_loss_by_example(*steps, average)
    got2, grad = fx.sequence_loss_by_example_with_grad(
        *steps, average, upstream=upstream_for("timesteps")
    )
    assert got.shape == (B,)
    assert got.dtype == got2.dtype == oracle.computing(dtype)
    assert [g.shape for g in grad] == [(B, V)] * T
    assert {g.dtype.name for g in grad} == {dtype}
    total = np.broadcast_to(w, (B, T)).sum(1, dtype=float)
    if average:
        oracle.assert_within(got, value, limit, weights)
        cases.assert_grad(np.stack(grad, 1).reshape(-1, V), "sequence_loss", dtype, loss)
        array = fx.sequence_loss(x, y, sample_weight=w, average="timesteps")
        np.testing.assert_allclose(got2, array, rtol=1e-14 if dtype == "float64" else 3e-7)
    else:
        each = fx.sequence_loss(x, y, sample_weight=w, average=None)
        np.testing.assert_allclose(got, each.sum(1, dtype=np.float64), rtol=3e-7)
        upstream = np.tile(upstream_for("timesteps")[:, None], T)
        _, array = fx.sequence_loss_with_grad(
            x, y, sample_weight=w, average=None, upstream=upstream
        )
        np.testing.assert_array_equal(np.stack(grad, 1), array)
    np.testing.assert_allclose(got2, got, rtol=1e-14 if dtype == "float64" else 3e-7)
    assert not got[total == 0].any()


@pytest.mark.parametrize("average", [True, False])
def test_the_sources_formula(backend, average):
    """``sum_t(w l) / (sum_t w + 1e-12)``: 1e-12 apart, relative to the sum of the weights."""
    x, y = problem("float64")
    w = WEIGHTS["fractions"].astype(float)
    each = fx.sparse_softmax_cross_entropy(x, y)
    source = (each * w).sum(1) / ((w.sum(1) + 1e-12) if average else 1)
    got = fx.sequence_loss_by_example(*lists(x, y, w), average)
    assert (np.abs(got - source) <= source * (1e-12 / w.sum(1) + 1e-14)).all()


def test_a_sum_of_weights_below_any_epsilon(backend):
    """The source adds 1e-12 to the sum, which is lost in float32 and wrong for tiny weights."""
    x, y = problem("float32")
    w = np.full((B, T), 1e-20)
    for got in (
        fx.sequence_loss_by_example(*lists(x, y, w)),
        fx.sequence_loss(x, y, sample_weight=w, average="timesteps"),
    ):
        plain = fx.sequence_loss(x, y, average="timesteps")
        np.testing.assert_allclose(got, plain, rtol=1e-6)


def test_a_custom_loss(backend):
    """Called positionally with the arrays of one step, as they were given; padding counts 0."""
    seen = []

    def squares(*arguments):
        seen.append(arguments)
        logits, targets = arguments
        with np.errstate(all="ignore"):
            return ((logits - 1) ** 2).sum(1) + targets

    x, y = problem("float32", seed=1)
    w = WEIGHTS["padding"].astype(np.float32)
    x[w == 0] = np.nan
    steps = lists(x, y, w)
    got = fx.sequence_loss_by_example(*steps, True, squares)
    assert len(seen) == T
    assert all(a is b and c is d for (a, c), b, d in zip(seen, steps[0], steps[1]))
    each = np.where(w > 0, ((x - 1.0) ** 2).sum(2) + y, 0)
    expected = each.sum(1) / np.maximum(w.sum(1), 1)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got[2] == 0
    by_name = fx.sequence_loss_by_example(
        *steps, softmax_loss_function=squares, average_across_timesteps=False
    )
    np.testing.assert_allclose(by_name, each.sum(1), rtol=1e-6)


def test_a_custom_loss_equal_to_ours(backend):
    x, y = problem("float64")
    steps = lists(x, y, WEIGHTS["fractions"])
    got = fx.sequence_loss_by_example(*steps, softmax_loss_function=fx.sparse_softmax_cross_entropy)
    np.testing.assert_allclose(got, fx.sequence_loss_by_example(*steps), rtol=1e-14)


def test_nested_lists(backend):
    x = [[[3.0, 1.0, -3.0], [0.0, 0.0, 0.0]], [[0.0, 5.0, 1.0], [9.0, 9.0, 9.0]]]
    got = fx.sequence_loss_by_example(x, [[0, 2], [1, 0]], [[1, 1], [1, 0]])
    expected = [(0.12910890882985 + 0.02474489013882) / 2, np.log(3)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    got, grad = fx.sequence_loss_by_example_with_grad(x, [[0, 2], [1, 0]], [[1, 1], [1, 0]])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(grad[1], [[0.003286631, -0.012220622, 0.008933991], [0] * 3], 1e-6)


@pytest.mark.parametrize(
    ("logits", "targets", "weights", "exception", "sentence"),
    [
        (2, 3, 3, ValueError, "one length.*'logits': 2.*'targets': 3.*'weights': 3"),
        (0, 0, 0, ValueError, "at least 1"),
        (3, 3, 2, ValueError, "'weights': 2"),
    ],
)
def test_lists_of_different_lengths(backend, logits, targets, weights, exception, sentence):
    x, y, w = lists(*problem("float32"), np.ones((B, T)))
    for f in (fx.sequence_loss_by_example, fx.sequence_loss_by_example_with_grad):
        with pytest.raises(exception, match=sentence):
            f(x[:logits], y[:targets], w[:weights])


def test_errors_of_a_step(backend):
    x, y, w = lists(*problem("float32"), np.ones((B, T)))
    for f in (fx.sequence_loss_by_example, fx.sequence_loss_by_example_with_grad):
        with pytest.raises(IndexError, match=r"labels.*\[0, 7\).*9"):
            f(x, [*y[:-1], np.full(B, 9)], w)
        with pytest.raises(ValueError, match=r"targets.*one shape.*\(3,\).*\(4,\)"):
            f(x, [*y[:-1], y[0][:3]], w)
        with pytest.raises(ValueError, match=r"labels.*\(3,\).*\(4,\)"):
            f([*x[:-1], x[0][:3]], y, w)
        with pytest.raises(TypeError, match=r"labels.*float"):
            f(x, [*y[:-1], y[0] * 1.0], w)
        with pytest.raises(ValueError, match=r"^weights must.*\(4,\).*\(2,\)"):
            f(x, y, [*w[:-1], np.ones(2)])
        with pytest.raises(TypeError, match=r"^weights must be real.*complex"):
            f(x, y, [*w[:-1], np.ones(4, complex)])
