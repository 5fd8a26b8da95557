"""The compiled way in for plain calls gives what the general path gives, or steps back."""

import cases
import data
import numpy as np
import pytest

import fastxent as fx
from fastxent import _backends, _call
from fastxent._backends import words
from fastxent._spec import FAMILIES, REDUCTIONS, SPECS

COMPILED = [w for w in words() if _backends.choose(w).front is not None]
NAMES = [n for n, s in SPECS.items() if s.family in ("normalizer", "index", "dense")]
SHAPES = (
    (10,),
    (1, 1),
    (32, 10),
    (7, 33),
    (3, 4, 100),
    (5, 2000),
    (65, 2016),
    (16000, 9),
    (80, 2000),
)

pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled kernels here")


@pytest.fixture(params=COMPILED)
def word(request):
    with fx.config(backend=request.param):
        yield request.param


class Watched:
    """The front, and how often it answered."""

    def __init__(self, front):
        self.front, self.answers = front, []

    def normalize(self, *arguments):
        return self.note(self.front.normalize(*arguments))

    def loss(self, *arguments):
        return self.note(self.front.loss(*arguments))

    def note(self, result):
        self.answers.append(result is not None)
        return result


@pytest.fixture
def paths(word, monkeypatch):
    """Call a function by the front, or by the general path."""
    chosen = _backends.choose(word)

    def call(front, function, *arguments, **options):
        watched = Watched(chosen.front)
        swapped = chosen._replace(front=watched if front else None)
        with monkeypatch.context() as patch:
            patch.setattr(_call._backends, "choose", lambda word: swapped)
            result = function(*arguments, **options)
        return result, watched.answers == [True]

    return call


def both(paths, function, *arguments, **options):
    """The bits, type and shape of both paths; did the front answer?"""
    general, _ = paths(False, function, *arguments, **options)
    plain, answered = paths(True, function, *arguments, **options)
    a, b = (r if isinstance(r, tuple) else (r,) for r in (general, plain))
    assert [type(v) for v in a] == [type(v) for v in b]
    assert [(v.shape, v.dtype) for v in a] == [(v.shape, v.dtype) for v in b]
    for v, w in zip(a, b):
        # A NaN's sign is left to the processor.
        np.testing.assert_array_equal(v, w)
        assert (np.signbit(v) == np.signbit(w))[~np.isnan(v)].all()
    return answered


#: Shapes and axes that are not the last.
ALONG = {
    "(10, 7), 0": ((10, 7), 0),
    "(3, 10, 7), 1": ((3, 10, 7), 1),
    "(3, 10, 1), -2": ((3, 10, 1), -2),
    "(1, 21, 100), 1": ((1, 21, 100), 1),
    "(2, 3, 70, 4), 1": ((2, 3, 70, 4), 1),
    "(2, 40, 30, 70), 1": ((2, 40, 30, 70), 1),
    "(9, 20000), 0": ((9, 20000), 0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALONG)
@pytest.mark.parametrize("fname", NAMES)
def test_the_same_bits_along_another_axis(paths, fname, case, dtype):
    shape, axis = ALONG[case]
    x = data.rng(sum(shape)).standard_normal(shape).astype(dtype) * 3
    if not SPECS[fname].is_loss:
        assert both(paths, cases.function(fname), x, axis=axis)
        return
    dense = SPECS[fname].family == "dense"
    last = np.moveaxis(x, axis, -1)
    y = cases.labels_for(fname, last.reshape(-1, last.shape[-1]))
    if dense:
        y = np.ascontiguousarray(np.moveaxis(y.reshape(last.shape), -1, axis), dtype)
    else:
        y = y.reshape(last.shape[:-1])
    for reduction in ("none", "mean"):
        assert both(paths, cases.function(fname), x, y, axis=axis, reduction=reduction)
        assert both(paths, cases.with_grad(fname), x, y, axis=axis, reduction=reduction)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fname", NAMES)
def test_the_same_bits(paths, fname, shape, dtype):
    x = data.rng(sum(shape)).standard_normal(shape).astype(dtype) * 3
    x.flat[0] = np.inf if x.size > 50 else x.flat[0]
    if not SPECS[fname].is_loss:
        assert both(paths, cases.function(fname), x)
        return
    dense = SPECS[fname].family == "dense"
    y = cases.labels_for(fname, x.reshape(-1, shape[-1]))
    y = y.reshape(shape).astype(dtype) if dense else y.reshape(shape[:-1])
    for reduction in REDUCTIONS:
        assert both(paths, cases.function(fname), x, y, reduction=reduction)
        assert both(paths, cases.with_grad(fname), x, y, reduction=reduction)


def test_outputs_are_filled(paths):
    x = data.rng(1).standard_normal((4, 40)).astype(np.float32)
    y = np.arange(4, dtype=np.int32)
    expected = fx.sparse_softmax_cross_entropy_with_grad(x, y)
    out, grad, z = np.empty(4, np.float32), np.empty_like(x), x.copy()
    with_grad = fx.sparse_softmax_cross_entropy_with_grad
    for logits, target in ((x, grad), (z, z)):
        result, answered = paths(True, with_grad, logits, y, out=out, grad_out=target)
        assert answered
        assert result[0] is out
        assert result[1] is target
        np.testing.assert_array_equal(out, expected[0])
        np.testing.assert_array_equal(target, expected[1])
    p = x.copy()
    result, answered = paths(True, fx.softmax, p, out=p)
    assert answered
    assert result is p
    np.testing.assert_array_equal(p, fx.softmax(x))


X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
Y = np.array([0, 3, 1])
ROOM = np.zeros(40, np.float32)


class Mine(np.ndarray):
    pass


#: Calls that the front must leave to the general path, which answers or refuses them.
LEFT = {
    "a list": ((X.tolist(), Y), {}),
    "strides": ((X[:, ::2], Y % 2), {}),
    "Fortran order": ((np.asfortranarray(X), Y), {}),
    "half": ((X.astype(np.float16), Y), {}),
    "integers": ((X.astype(np.int64), Y), {}),
    "byte order": ((X.astype(">f4"), Y), {}),
    "subclass": ((X.view(Mine), Y), {}),
    "label bytes": ((X, Y.astype(np.int8)), {}),
    "label list": ((X, Y.tolist()), {}),
    "label too large": ((X, Y + 1), {}),
    "label negative": ((X, Y - 1), {}),
    "label smallest": ((X, np.full(3, np.iinfo(np.int64).min)), {}),
    "label shape": ((X, Y[:2]), {}),
    "label dtype": ((X, Y * 1.0), {}),
    "no rows": ((X[:0], Y[:0]), {}),
    "no classes": ((X[:, :0], Y), {}),
    "scalar": ((X[0, 0], Y), {}),
    "axis": ((X, Y), {"axis": 2}),
    "axis of floats": ((X, Y), {"axis": 1.0}),
    "reduction": ((X, Y), {"reduction": "average"}),
    "no reduction": ((X, Y), {"reduction": None}),
    "smoothing": ((X, Y), {"label_smoothing": 0.1}),
    "too smooth": ((X, Y), {"label_smoothing": 2.0}),
    "z": ((X, Y), {"z_loss": 1e-4}),
    "weights": ((X, Y), {"sample_weight": np.ones(3)}),
    "ignored": ((X, Y), {"ignore_index": 3}),
    "out reduced": ((X, Y), {"out": np.empty((), np.float32), "reduction": "sum"}),
    "out dtype": ((X, Y), {"out": np.empty(3)}),
    "out shape": ((X, Y), {"out": np.empty(4, np.float32)}),
    "out overlaps": ((ROOM[:12].reshape(3, 4), Y), {"out": ROOM[9:12]}),
    "too large": ((np.zeros((1 << 20, 9), np.float32), np.zeros(1 << 20, np.int64)), {}),
    "long rows": ((np.zeros((1, (1 << 20) + 1), np.float32), np.zeros(1, np.int64)), {}),
}  # fmt: skip

LEFT_GRADIENTS = {
    "read-only": np.broadcast_to(np.float32(0), (3, 4)),
    "dtype": np.empty((3, 4)),
    "shape": np.empty((4, 3), np.float32),
    "strides": np.empty((3, 8), np.float32)[:, ::2],
    "overlaps": ROOM[1:13].reshape(3, 4),
    "no array": [0.0],
}


def outcome(paths, front, function, *arguments, **options):
    try:
        result, answered = paths(front, function, *arguments, **options)
    except (TypeError, ValueError, IndexError) as error:
        return (type(error), str(error)), False
    parts = result if isinstance(result, tuple) else (result,)
    return [(type(part), np.asarray(part).tobytes()) for part in parts], answered


@pytest.mark.parametrize("case", LEFT)
def test_left_to_the_general_path(paths, case):
    """The same answer, or the same error and sentence."""
    arguments, options = LEFT[case]
    loss = fx.sparse_softmax_cross_entropy
    general = outcome(paths, False, loss, *arguments, **options)
    plain = outcome(paths, True, loss, *arguments, **options)
    assert plain == general
    assert not plain[1]


@pytest.mark.parametrize("case", LEFT_GRADIENTS)
def test_gradients_left_to_the_general_path(paths, case):
    x = ROOM[:12].reshape(3, 4)
    options = {"grad_out": LEFT_GRADIENTS[case]}
    loss = fx.sparse_softmax_cross_entropy_with_grad
    general = outcome(paths, False, loss, x, Y, **options)
    plain = outcome(paths, True, loss, x, Y, **options)
    assert plain == general
    assert not plain[1]


def test_families_are_all_here():
    assert {SPECS[name].family for name in NAMES} < set(FAMILIES)
