"""Options together: each combination against the oracle, every reduction."""

import itertools

import cases
import data
import numpy as np
import oracle
import pytest
from conftest import UNLABELLED

import fastxent as fx
from fastxent._spec import REDUCTIONS, SPECS

N, C = 18, 7


def _values(name, x, y):
    """For each option: its plain value and one that matters."""
    return cases.only(
        name,
        sample_weight=(None, cases.weights_for(name, x)),
        class_weight=(None, data.class_weights(C)),
        pos_weight=(None, data.pos_weights(C)),
        ignore_index=(None, 3),
        label_smoothing=(0.0, 0.125),
        z_loss=(0.0, 0.01),
        where=(None, data.mask(x, y)),
    )


def _inputs(name, dtype):
    x = cases.scores_for(name, dtype, N, C, seed=11)
    return x, cases.labels_for(name, x, seed=11)


def _combinations(name):
    options = [o for o in SPECS[name].options if o != "reduction"]
    for picks in itertools.product((0, 1), repeat=len(options)):
        yield dict(zip(options, picks, strict=True))


def _check(name, dtype, picks, reduction):
    x, y = _inputs(name, dtype)
    values = _values(name, x, y)
    given = {o: values[o][pick] for o, pick in picks.items() if pick}
    upstream = cases.ramp(name, x) if reduction == "none" else 1.5
    exact = cases.exact(name, x, y, reduction=reduction, upstream=upstream, **given)
    plain = y.ndim == 1 and not picks.get("label_smoothing") and not picks.get("z_loss")
    what = f"{picks} {reduction}"
    value = cases.function(name)(x, y, reduction=reduction, **given)
    cases.assert_loss(value, name, dtype, exact, what)
    value2, grad = cases.with_grad(name)(x, y, reduction=reduction, upstream=upstream, **given)
    np.testing.assert_array_equal(value2, value)
    cases.assert_grad(grad, name, dtype, exact, labels=y, plain=plain, what=what)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_full_product(loss, backend, dtype, reduction):
    for picks in _combinations(loss):
        _check(loss, dtype, picks, reduction)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pairs_on_half_inputs(loss, backend, dtype):
    """Each option alone, each pair, and all together; the reductions in turn."""
    for i, picks in enumerate(_combinations(loss)):
        if sum(picks.values()) in (1, 2, len(picks)):
            _check(loss, dtype, picks, REDUCTIONS[i % len(REDUCTIONS)])


def test_every_option_of_the_registry_is_tried(loss):
    x, y = _inputs(loss, "float32")
    assert set(SPECS[loss].options) == {*_values(loss, x, y), "reduction"}


def test_every_option_matters(loss):
    """An option that changes nothing here would be tested by nothing here."""
    x, y = _inputs(loss, "float64")
    plain = cases.exact(loss, x, y).value.hi
    for option, (_, value) in _values(loss, x, y).items():
        assert (cases.exact(loss, x, y, **{option: value}).value.hi != plain).any(), option


def test_reductions_differ(loss):
    """The five reductions of one set are five numbers."""
    x, y = _inputs(loss, "float64")
    given = cases.only(loss, sample_weight=cases.weights_for(loss, x), ignore_index=3)
    exact = [cases.exact(loss, x, y, reduction=r, **given).value.hi for r in REDUCTIONS[1:]]
    got = {float(v) for v in exact}
    assert len(got) == len(REDUCTIONS) - 1


# ---- the forms in which an option may come -------------------------------------------


def test_sample_weight_broadcasts(loss, backend):
    """A scalar, a row, a column: the same as the array written out."""
    x = cases.scores_for(loss, "float32", 12, C)
    y = cases.labels_for(loss, x)
    x, y = x.reshape(3, 4, C), y.reshape(3, 4, *y.shape[1:])
    shape = cases.losses_shape(loss, x)
    random = data.rng(1)
    row = (1,) * (len(shape) - 2)
    for weight in (
        2.0,
        np.float32(0.5),
        random.random(shape[-1]),
        random.random((4, *row)),
        random.random((3, 1, *row)),
        random.random((1, 4, *row)),
    ):
        full = np.array(np.broadcast_to(weight, shape))
        for reduction in REDUCTIONS:
            a = cases.with_grad(loss)(x, y, sample_weight=weight, reduction=reduction)
            b = cases.with_grad(loss)(x, y, sample_weight=full, reduction=reduction)
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("name", [n for n, s in SPECS.items() if "where" in s.options])
def test_where_broadcasts(name, backend):
    x = data.logits(12, C, "float32").reshape(3, 4, C)
    y = cases.labels_for(name, x.reshape(12, C)) * 0
    y = () if not SPECS[name].is_loss else (y.reshape(3, 4, C) if y.ndim == 2 else y.reshape(3, 4),)
    random = data.rng(1)
    f = cases.with_grad(name) if y else cases.function(name)
    for shape in ((C,), (4, C), (3, 1, C), (1, 1, C), (3, 4, 1), (1,), ()):
        mask = random.random(shape) < 0.7
        full = np.array(np.broadcast_to(mask, x.shape))
        for a, b in zip(_tuple(f(x, *y, where=mask)), _tuple(f(x, *y, where=full)), strict=True):
            np.testing.assert_array_equal(a, b)


def _tuple(v):
    return v if isinstance(v, tuple) else (v,)


@pytest.mark.parametrize(
    "weight_dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"]
)
def test_weights_of_any_dtype(loss, backend, weight_dtype):
    """Weights never change the result dtype."""
    x, y = _inputs(loss, "float32")
    u = (np.arange(np.prod(cases.losses_shape(loss, x))) % 3).astype(weight_dtype)
    u = u.reshape(cases.losses_shape(loss, x))
    w = (np.arange(C) % 2 + 1).astype(weight_dtype)
    given = cases.only(loss, sample_weight=u, class_weight=w, pos_weight=w)
    a = cases.with_grad(loss)(x, y, **given)
    b = cases.with_grad(loss)(x, y, **{k: v.astype(np.float64) for k, v in given.items()})
    assert a[0].dtype == a[1].dtype == np.float32
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_negative_weights(loss, backend):
    x, y = _inputs(loss, "float64")
    w = np.linspace(-1, 2, C)
    given = cases.only(loss, sample_weight=cases.ramp(loss, x), class_weight=w, pos_weight=w)
    for reduction in REDUCTIONS:
        exact = cases.exact(loss, x, y, reduction=reduction, **given)
        value, grad = cases.with_grad(loss)(x, y, reduction=reduction, **given)
        cases.assert_loss(value, loss, "float64", exact, reduction)
        scale = np.abs(exact.grad.hi)
        np.testing.assert_allclose(grad, exact.grad.hi, rtol=1e-14, atol=1e-14 * scale.max())


def test_out(name, backend, dtype):
    """The result lands in ``out``, which is returned; the bits are those of a fresh array."""
    x, y = cases.rows(dtype, 48, 10, name)
    args = (x, y) if SPECS[name].is_loss else (x,)
    fresh = cases.function(name)(*args)
    out = np.full_like(fresh, 7)
    assert cases.function(name)(*args, out=out) is out
    np.testing.assert_array_equal(out.view(np.uint8), fresh.view(np.uint8))
    if SPECS[name].is_loss:
        out[...] = 7
        assert cases.with_grad(name)(*args, out=out)[0] is out
        np.testing.assert_array_equal(out.view(np.uint8), fresh.view(np.uint8))


@pytest.mark.parametrize("name", [n for n in UNLABELLED if n != "logsumexp"])
def test_out_may_be_the_input(name, backend, dtype):
    x, _ = cases.rows(dtype, 48, 37)
    fresh = cases.function(name)(x)
    mine = x.copy()
    assert cases.function(name)(mine, out=mine) is mine
    np.testing.assert_array_equal(mine.view(np.uint8), fresh.view(np.uint8))


def test_normalizer_where(normalizer, backend, dtype):
    x, y = cases.rows(dtype, 48, 10)
    mask = data.mask(x)
    exact, size = cases.exact_normalizer(normalizer, x, mask)
    wanted = cases.value_dtype(normalizer, dtype)
    limit = oracle.allowed(
        SPECS[normalizer].budgets["value"], exact, dtype, **size, out_dtype=wanted
    )
    oracle.assert_within(cases.function(normalizer)(x, where=mask), exact, limit, normalizer)


def test_keepdims(backend):
    x = data.logits(12, C, "float32").reshape(3, 4, C)
    for axis in (-1, 0, 1, 2, -3):
        kept = fx.logsumexp(x, axis=axis, keepdims=True)
        assert kept.shape == tuple(1 if i == axis % 3 else s for i, s in enumerate(x.shape))
        np.testing.assert_array_equal(np.squeeze(kept, axis), fx.logsumexp(x, axis=axis))
        out = np.empty_like(kept)
        assert fx.logsumexp(x, axis=axis, keepdims=True, out=out) is out
        np.testing.assert_array_equal(out, kept)
