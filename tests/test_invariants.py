"""The invariants that the registry names, on every backend; shapes and values by hypothesis."""

import cases
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastxent as fx
from fastxent._spec import REDUCTIONS, SPECS

#: invariant -> the test below that proves it; the last test compares this with the registry
PROVEN = {}


def invariant(label):
    def mark(function):
        PROVEN[label] = function.__name__
        return function

    return mark


quick = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    # The backend fixture sets a context for the whole test, which is what is wanted here.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def problems(draw, limit=40.0):
    """Logits in steps of 2^-10, so that shifts by whole numbers are exact, and labels."""
    n = draw(st.integers(1, 5))
    c = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, limit]))
    x = np.round(np.clip(random.standard_normal((n, c)) * scale, -limit, limit) * 1024) / 1024
    return x, random.integers(0, c, n), random


def _labels(name, y, c, random, exact_sum=False):
    if cases.indexed(name):
        return y
    q = random.random((len(y), c))
    return q / q.sum(1, keepdims=True) if exact_sum else q


def _names(label):
    return [n for n, s in SPECS.items() if label in s.invariants]


@invariant("shift")
@pytest.mark.parametrize("name", _names("shift"))
def test_shift(name, backend):
    """A constant added to a row moves logsumexp by it and changes nothing else."""

    @quick
    @given(problems(), st.sampled_from([-1e6, -10000.0, -64.0, 1.0, 4096.0, 1e6]))
    def check(problem, shift):
        x, y, random = problem
        if SPECS[name].family == "sequence":
            a = cases.with_grad(name)(x[:, None], y[:, None], average="timesteps")
            b = cases.with_grad(name)((x + shift)[:, None], y[:, None], average="timesteps")
        elif SPECS[name].is_loss:
            labels = _labels(name, y, x.shape[1], random)
            a = cases.with_grad(name)(x, labels, label_smoothing=0.1)
            b = cases.with_grad(name)(x + shift, labels, label_smoothing=0.1)
        else:
            a = (cases.function(name)(x),)
            b = (cases.function(name)(x + shift) - (shift if name == "logsumexp" else 0),)
        atol = 4 * np.spacing(abs(shift) + 40) if name in ("logsumexp", "log_softmax") else 0
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-13, atol=max(atol, 1e-15))

    check()


@invariant("permutation")
@pytest.mark.parametrize("name", _names("permutation"))
def test_permutation(name, backend):
    """Classes may be renumbered."""

    @quick
    @given(problems())
    def check(problem):
        x, y, random = problem
        order = random.permutation(x.shape[1])
        w = random.random(x.shape[1])
        if SPECS[name].family == "normalizer":
            a = cases.function(name)(x)
            b = cases.function(name)(x[:, order])
            a = a if name == "logsumexp" else a[:, order]
            np.testing.assert_allclose(b, a, rtol=1e-14, atol=1e-14)
            return
        labels = _labels(name, y, x.shape[1], random)
        moved = np.argsort(order)[y] if labels.ndim == 1 else labels[:, order]
        options = {"label_smoothing": 0.2, "z_loss": 0.01}
        f = cases.with_grad(name)
        a = f(x, labels, class_weight=w, **options)
        b = f(x[:, order], moved, class_weight=w[order], **options)
        np.testing.assert_allclose(b[0], a[0], rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(b[1], a[1][:, order], rtol=1e-13, atol=1e-14)

    check()


@invariant("candidates")
@pytest.mark.parametrize("name", _names("candidates"))
def test_order_of_candidates(name, backend):
    """Sampled classes may come in any order."""
    random = np.random.default_rng(0)
    x, weight, y = random.normal(size=(6, 3)), random.normal(size=(9, 3)), random.integers(0, 9, 6)
    ids, expected = random.permutation(9)[:5], random.random(5) + 0.1
    order = random.permutation(5)
    a = cases.with_grad(name)(x, weight, y, sampled=(ids, np.ones(6), expected))
    b = cases.with_grad(name)(x, weight, y, sampled=(ids[order], np.ones(6), expected[order]))
    moved = np.concatenate([np.arange(6), 6 + order])
    np.testing.assert_allclose(b[0], a[0], rtol=1e-13)
    np.testing.assert_allclose(b[1].inputs, a[1].inputs, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(b[1].ids, a[1].ids[moved])
    np.testing.assert_allclose(b[1].weight, a[1].weight[moved], rtol=1e-12, atol=1e-14)


@invariant("gradient_sum")
@pytest.mark.parametrize("name", _names("gradient_sum"))
def test_gradient_sum(name, backend):
    """A gradient row sums to 2 g t lse: to 0 without z-loss."""

    @quick
    @given(problems(), st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.05]))
    def check(problem, e, t):
        x, y, random = problem
        labels = _labels(name, y, x.shape[1], random)
        u = random.random(len(x))
        _, grad = cases.with_grad(name)(x, labels, sample_weight=u, label_smoothing=e, z_loss=t)
        lse = np.log(np.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1)
        np.testing.assert_allclose(
            grad.sum(1), 2 * u * t * lse, rtol=1e-12, atol=1e-14 * x.shape[1]
        )

    check()


@invariant("smoothing_zero")
@pytest.mark.parametrize("name", _names("smoothing_zero"))
def test_smoothing_zero(name, backend):
    """``label_smoothing=0`` and ``z_loss=0`` are the plain loss, bit by bit."""

    @quick
    @given(problems())
    def check(problem):
        x, y, random = problem
        labels = _labels(name, y, x.shape[1], random)
        a = cases.with_grad(name)(x, labels)
        b = cases.with_grad(name)(x, labels, label_smoothing=0, z_loss=0)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])

    check()


@invariant("linear_weights")
@pytest.mark.parametrize("name", _names("linear_weights"))
def test_linear_weights(name, backend):
    """Loss and gradient are linear in the sample weights, for "none" and "sum"."""

    @quick
    @given(problems(), st.floats(-4, 4), st.floats(-4, 4))
    def check(problem, a, b):
        x, y, random = problem
        x = 1 / (1 + np.exp(-x / 2)) if name == "binary_cross_entropy" else x
        labels = _labels(name, y, x.shape[1], random)
        u, v = random.random((2, *cases.losses_shape(name, x)))
        for reduction in ("none", "sum"):

            def f(w, reduction=reduction):
                return cases.with_grad(name)(x, labels, sample_weight=w, reduction=reduction)

            for together, one, other in zip(f(a * u + b * v), f(u), f(v), strict=True):
                size = np.abs(a * one).max() + np.abs(b * other).max()
                np.testing.assert_allclose(together, a * one + b * other, rtol=0, atol=1e-14 * size)

    check()


@invariant("label_swap")
@pytest.mark.parametrize("name", _names("label_swap"))
def test_label_swap(name, backend):
    """Labels 1 - z of scores -x (of probabilities: 1 - p) cost the same, with opposite slopes."""

    @quick
    @given(problems())
    def check(problem):
        x, _, random = problem
        f = cases.function(name)
        if name == "sigmoid":
            np.testing.assert_allclose(f(-x), 1 - f(x), rtol=1e-15, atol=3e-16)
            return
        if name == "log_sigmoid":
            np.testing.assert_allclose(f(x) - f(-x), x, rtol=1e-14, atol=1e-14)
            return
        # Multiples of 2^-10: their distance to 1 is exact.
        z = random.integers(0, 1025, x.shape) / 1024
        other = -x
        if name == "binary_cross_entropy":
            x = random.integers(1, 1024, x.shape) / 1024
            other = 1 - x
        value, grad = cases.with_grad(name)(x, z)
        swapped, swapped_grad = cases.with_grad(name)(other, 1 - z)
        np.testing.assert_allclose(swapped, value, rtol=2e-15)
        scale = np.abs(grad) + (1 / x + 1 / other if name == "binary_cross_entropy" else 1)
        assert (np.abs(swapped_grad + grad) <= 1e-15 * scale).all()

    check()


@invariant("linear_labels")
@pytest.mark.parametrize("name", _names("linear_labels"))
def test_linear_labels(name, backend):
    """Loss and gradient are linear in the labels, which may leave [0, 1]."""

    @quick
    @given(problems(), st.floats(-2, 3))
    def check(problem, t):
        x, _, random = problem
        x = 1 / (1 + np.exp(-x / 2)) if name == "binary_cross_entropy" else x
        z, v = random.random((2, *x.shape))
        f = cases.with_grad(name)
        options = cases.only(name, pos_weight=random.random(x.shape[1]), label_smoothing=0.25)
        to_labels = np.empty_like(x)
        mixed = f(x, t * z + (1 - t) * v, labels_grad_out=to_labels, **options)
        one, other = f(x, z, **options), f(x, v, **options)
        for k in range(2):
            size = 1 + np.abs(one[k]) + np.abs(other[k])
            size += 1 / x + 1 / (1 - x) if name == "binary_cross_entropy" else 0
            expected = t * one[k] + (1 - t) * other[k]
            assert (np.abs(mixed[k] - expected) <= 4e-15 * size * (1 + abs(t))).all()
        # The derivative is the slope of that line.
        size = 1 + np.abs(one[0]) + np.abs(other[0])
        assert (np.abs((z - v) * to_labels - (one[0] - other[0])) <= 2e-15 * size).all()

    check()


@invariant("one_hot")
def test_one_hot(backend):
    """Dense one-hot labels are index labels: values and gradients, every reduction.

    For "mean" without class weights only: index labels divide by the class weights of
    the labels, dense ones do not.
    """

    @quick
    @given(problems(), st.sampled_from(REDUCTIONS), st.sampled_from([0.0, 0.3]))
    def check(problem, reduction, e):
        x, y, random = problem
        w = None if reduction == "mean" else random.random(x.shape[1])
        options = {
            "class_weight": w,
            "sample_weight": random.random(len(x)),
            "label_smoothing": e,
            "z_loss": 0.01,
            "reduction": reduction,
        }
        a = fx.sparse_softmax_cross_entropy_with_grad(x, y, **options)
        b = fx.softmax_cross_entropy_with_grad(x, np.eye(x.shape[1])[y], **options)
        np.testing.assert_allclose(b[0], a[0], rtol=1e-13, atol=1e-300)
        np.testing.assert_allclose(b[1], a[1], rtol=1e-13, atol=1e-15)

    check()


def test_two_classes_are_a_sigmoid(backend):
    """Softmax over two classes is the sigmoid of the difference of the logits."""

    @quick
    @given(problems())
    def check(problem):
        x, _, random = problem
        x = np.stack([x.ravel(), random.permutation(x.ravel())], axis=1)
        d = x[:, 1] - x[:, 0]
        sigmoid = np.where(
            d >= 0, 1 / (1 + np.exp(-np.abs(d))), np.exp(-np.abs(d)) / (1 + np.exp(-np.abs(d)))
        )
        np.testing.assert_allclose(fx.softmax(x)[:, 1], sigmoid, rtol=1e-14)
        np.testing.assert_allclose(fx.sigmoid(d), sigmoid, rtol=1e-14)
        softplus = np.maximum(d, 0) + np.log1p(np.exp(-np.abs(d)))
        np.testing.assert_allclose(fx.sigmoid_cross_entropy(d, np.zeros_like(d)), softplus, 1e-14)
        np.testing.assert_allclose(fx.log_sigmoid(-d), -softplus, rtol=1e-14)
        loss = fx.sparse_softmax_cross_entropy(x, np.zeros(len(x), int))
        np.testing.assert_allclose(loss, softplus, rtol=1e-14)

    check()


def test_softmax_family_agrees(backend):
    """log_softmax is x - logsumexp, softmax its exponential, the loss minus its label's entry."""

    @quick
    @given(problems())
    def check(problem):
        x, y, _ = problem
        log_p = fx.log_softmax(x)
        np.testing.assert_allclose(
            log_p, x - fx.logsumexp(x, keepdims=True), rtol=1e-13, atol=1e-13
        )
        np.testing.assert_allclose(fx.softmax(x), np.exp(log_p), rtol=1e-12)
        np.testing.assert_allclose(fx.softmax(x).sum(1), 1, rtol=1e-14)
        loss = fx.sparse_softmax_cross_entropy(x, y)
        np.testing.assert_allclose(loss, -log_p[np.arange(len(y)), y], rtol=1e-12, atol=1e-13)

    check()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_of_our_own_losses(loss, backend, reduction):
    """Each reduction is NumPy's arithmetic on the unreduced losses."""
    random = np.random.default_rng(3)
    x = random.standard_normal((20, 6))
    y = random.integers(0, 6, 20)
    labels = _labels(loss, y, 6, random)
    shape = cases.losses_shape(loss, x)
    u = random.random(shape) * (random.random(shape) < 0.7)
    w = random.random(6)
    options = cases.only(loss, sample_weight=u, class_weight=w, pos_weight=w)
    each = cases.function(loss)(x, labels, **options)
    mass = u * w[y] if labels.ndim == 1 else u
    expected = {
        "none": each,
        "sum": each.sum(),
        "mean": each.sum() / mass.sum(),
        "size_mean": np.mean(each),
        "nonzero_mean": each.sum() / np.count_nonzero(u),
    }[reduction]
    got = cases.function(loss)(x, labels, **options, reduction=reduction)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_every_named_invariant_is_proven():
    named = {label for spec in SPECS.values() for label in spec.invariants}
    assert named == set(PROVEN)
