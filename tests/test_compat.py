"""``fastxent.compat`` against what torch and TensorFlow returned for the same calls."""

import array
import inspect
import itertools
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import peers
import pytest

from fastxent.compat import tensorflow as tf
from fastxent.compat import torch
from fastxent.compat.torch.nn import functional as F

#: What may be raised where a peer raises. An index out of range is an IndexError everywhere; the
#: peers' own kinds of errors do not exist here.
ERRORS = {
    "IndexError": (IndexError,),
    "InvalidArgumentError": (ValueError, TypeError, IndexError),
    "AbortedError": (ValueError, TypeError),
    "RuntimeError": (ValueError, TypeError),
    "NotFoundError": (OSError,),
    "NotImplementedError": (TypeError,),
    "TypeError": (TypeError,),
    "ValueError": (ValueError, TypeError),
}


def _answer(case):
    """Our value or error, and the kinds of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = peers.call(case), None
            assert isinstance(value, np.ndarray) == (np.ndim(value) > 0), "a scalar, not 0-d"
            value = np.asarray(value)
        except Exception as e:
            value, error = None, e
    return value, error, sorted({w.category.__name__ for w in caught})


def _coarsest(case, value):
    """The epsilon of the coarsest floats that a case has."""
    given = [*case.args, *case.kwargs.values(), *(case.init or {}).values(), value]
    given += [b for a in given if isinstance(a, list) for b in a]
    names = [a.dtype.name for a in given if isinstance(a, np.ndarray)]
    return max(peers.EPSILON.get(n, 0.0) for n in names)


def _wide(case, value):
    """The epsilon that this library computes in."""
    return min(_coarsest(case, value), peers.EPSILON["float32"])


def _agrees(key, value):
    """Our value is the peer's, but for the rounding of the peer's arithmetic and of ours.

    The peer's is four roundings to nearest in the coarsest dtype of the call (or in the one that
    the peer uses whatever the dtype), of terms as large as the formula's; ours is what `_follows`
    allows before the result is rounded.
    """
    case = peers.CASES[key]
    if value.dtype != case.value.dtype or value.shape != case.value.shape:
        return False
    if value.dtype.kind == "i":
        return np.array_equal(value, case.value)
    epsilon = max(_coarsest(case, case.value), peers.COARSER.get(case.function, 0.0))
    limit = 2 * (epsilon + _wide(case, value)) * peers.expected(key)[1]
    return peers.near(value, case.value, limit + peers.SMALLEST[value.dtype.name])


def _follows(key, value):
    """Our value is the formula's, rounded as this library does: wide inside, once at the end."""
    exact, size = peers.expected(key)
    if value.dtype.kind == "i":
        return np.array_equal(value, np.trunc(exact))
    epsilon = peers.EPSILON[value.dtype.name]
    wide = _wide(peers.CASES[key], value)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.where(np.isinf(exact.astype(value.dtype)), np.sign(exact) * np.inf, exact)
        limit = 2 * wide * size + (epsilon > wide) * epsilon * np.abs(exact)
    return peers.near(value, exact, limit + peers.SMALLEST[value.dtype.name])


def _fault(key):
    """What is wrong with our answer to a case, if anything."""
    case, difference = peers.CASES[key], peers.DIFFERING.get(key)
    value, error, warned = _answer(case)
    if difference is not None and difference.error is not None:
        if not isinstance(error, difference.error):
            return f"must raise {difference.error.__name__}; got {value} {error!r}"
        if case.error is not None and isinstance(error, ERRORS[case.error[0]]):
            return "differs no more"
    elif case.error is not None and difference is None:
        if not isinstance(error, ERRORS[case.error[0]]):
            return f"the peer raises {case.error}; got {value} {error!r}"
    elif error is not None:
        return repr(error)
    else:
        agrees = case.error is None and _agrees(key, value)
        if agrees != (difference is None):
            return f"{value} {'agrees' if agrees else 'disagrees'} with the peer's {case.value}"
        if not _follows(key, value):
            return f"{value} is not the formula's {peers.expected(key)[0]}"
        if warned != case.warns and case.error is None:
            return f"warns {warned}"
    return None


@pytest.mark.parametrize("function", peers.SIGNATURES)
def test_peer(backend, function):
    """Every recorded case: the peer's answer, or the difference that is listed, and no other."""
    tf.nn._learner.cache_clear()  # what earlier tests have taught it
    keys = [key for key, case in peers.CASES.items() if case.function == function]
    assert keys
    faults = {key: fault for key in keys if (fault := _fault(key)) is not None}
    assert not faults, "\n".join(f"{k}: {v}" for k, v in faults.items())


def test_the_record_is_whole():
    assert {c.function for c in peers.CASES.values()} == set(peers.SIGNATURES)
    assert set(peers.FORMULAS) == set(peers.SIGNATURES)
    assert {"torch", "tensorflow"} <= set(peers.VERSIONS)
    public = {
        f"tensorflow.{part}.{name}"
        for part in tf.__all__
        for name in getattr(tf, part).__all__
        if name != "Reduction"
    }
    public |= {f"torch.nn.{n}" for n in torch.nn.__all__ if n != "functional"}
    public |= {f"torch.nn.functional.{n}" for n in F.__all__}
    assert public == set(peers.SIGNATURES)


@pytest.mark.parametrize("function", peers.SIGNATURES)
def test_every_parameter_has_a_case(function):
    names = [name for name, _, _ in peers.SIGNATURES[function]]
    cases = [c for c in peers.CASES.values() if c.function == function]
    for position, name in enumerate(names):
        given = [
            c for c in cases if name in c.kwargs or name in (c.init or {}) or len(c.args) > position
        ]
        assert given, name


# ---- signatures ------------------------------------------------------------------------


@pytest.mark.parametrize("function", peers.SIGNATURES)
def test_signature_is_the_peers(function):
    got = [
        [p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
        for p in inspect.signature(peers.ours(function)).parameters.values()
    ]
    if "legacy_seq2seq" in function:  # what the recorded formula has no use for
        optional = [[n, "POSITIONAL_OR_KEYWORD", "None"] for n in ("softmax_loss_function", "name")]
        assert got == peers.SIGNATURES[function] + optional
    else:
        assert got == peers.SIGNATURES[function]


def test_reductions_are_the_peers():
    ours = {k: v for k, v in vars(tf.losses.Reduction).items() if k.isupper()}
    assert ours == peers.REDUCTIONS
    assert set(tf.losses.Reduction.all()) == set(peers.REDUCTIONS.values())


FUNCTIONS = {f: peers.ours(f) for f in peers.SIGNATURES}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_docstring(function):
    """One sentence, the parameters of the signature, the peer's name and page, the differences."""
    text = inspect.getdoc(FUNCTIONS[function])
    assert text
    lines = text.splitlines()
    assert lines[0].endswith(".")
    assert lines[1] == ""
    headings = [a for a, b in itertools.pairwise(lines) if b and set(b) == {"-"}]
    order = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")
    is_class = inspect.isclass(FUNCTIONS[function])
    left_out = {"Returns", "Raises"} if is_class else {"See Also"} - set(headings)
    assert headings == [h for h in order if h not in left_out]
    section = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
    names = [
        name.strip()
        for line in section.splitlines()
        if line[0] != " "
        for name in line.split(" : ")[0].split(",")
    ]
    assert names == list(inspect.signature(FUNCTIONS[function]).parameters)
    name = function.split(".")[-1]
    peer = {"torch": "torch.", "tensorflow": "tf."}[function.split(".")[0]]
    assert f"``{peer}" in text
    assert name in text.split("References")[1] or "seq2seq" in function
    assert "https://" in text.split("References")[1].split("Examples")[0]
    notes = text.split("Notes\n-----\n")[1].split("\n\n")[0]
    assert notes.startswith(("Difference", "No deliberate differences", "No differences"))
    assert ">>>" in text


# ---- importing -------------------------------------------------------------------------


def test_compat_is_imported_when_asked_for():
    code = (
        "import sys, fastxent as fx\n"
        "before = {m for m in sys.modules if m.startswith('fastxent.compat')}\n"
        "fx.compat.torch.nn.functional.softmax([0.0], 0)\n"
        "import fastxent.compat.tensorflow as tf\n"
        "tf.nn.softmax([0.0])\n"
        "print(sorted(before), 'torch' in sys.modules, 'tensorflow' in sys.modules)\n"
        "print(sorted(dir(fx.compat)))\n"
        "try: fx.compat.jax\n"
        "except AttributeError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "['fastxent.compat'] False False",
        "['tensorflow', 'torch']",
        "module 'fastxent.compat' has no attribute 'jax'",
    ]


# ---- what NumPy users pass -------------------------------------------------------------


def test_lists_are_arrays():
    x, y, w = [[3.0, 1.0, -3.0], [0.0, 5.0, 1.0]], [2, 1], [1, 2, 3]
    expected = F.cross_entropy(np.array(x), np.array(y), np.array(w, float))
    got = F.cross_entropy(x, y, w)
    assert got == expected
    assert got.dtype == np.float64
    assert tf.losses.sparse_softmax_cross_entropy([[2], [1]], x, [[1.0], [0]]).dtype == np.float64


@pytest.mark.parametrize("function", ["cross_entropy", "binary_cross_entropy_with_logits"])
def test_lists_do_not_widen(function):
    """A list has no dtype of its own: float32 stays float32."""
    x = np.array([[0, 5, 1]], np.float32)
    got = getattr(F, function)(x, [[0.0, 0.8, 0.2]], [1.0, 2.0, 3.0])
    assert got.dtype == np.float32


def test_whatever_numpy_can_view():
    """Buffers and objects with ``__array__`` have a dtype, and count with it."""

    class Column:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.values, dtype)

    x, q = np.array([[0, 5, 1]], np.float32), np.array([[0, 0.8, 0.2]])
    for view in (np.asarray, memoryview, Column):
        for function in (F.cross_entropy, F.binary_cross_entropy_with_logits):
            assert function(view(x), view(q)).dtype == np.float64
            assert function(view(q), view(x / 5)).dtype == (
                np.float64 if function is F.cross_entropy else np.float32
            )
        assert F.cross_entropy(view(x), view(np.array([1]))) == F.cross_entropy(x, [1])
    y = array.array("i", [1])
    assert tf.nn.sparse_softmax_cross_entropy_with_logits(y, x) == F.cross_entropy(x, [1])


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y, q: F.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y, q: F.cross_entropy(x, q),
        lambda x, y, q: F.binary_cross_entropy_with_logits(x, q),
        lambda x, y, q: tf.losses.sparse_softmax_cross_entropy(y[:, None], x),
        lambda x, y, q: tf.nn.softmax_cross_entropy_with_logits(q[:1], x),
        lambda x, y, q: tf.losses.sigmoid_cross_entropy(q, x),
    ],
)
def test_no_second_array_of_the_size_of_the_logits(call):
    x, q = np.ones((2, 600, 2000), np.float32)
    y = np.arange(600)
    call(x, y, q)
    tracemalloc.start()
    try:
        call(x, y, q)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 4
    finally:
        tracemalloc.stop()


def test_empty_lists_are_labels():
    x = np.zeros((0, 3), np.float32)
    assert F.cross_entropy(x, [], reduction="sum") == 0
    assert np.isnan(F.nll_loss(x, []))
    assert tf.nn.sparse_softmax_cross_entropy_with_logits([], x).shape == (0,)
    assert tf.losses.sparse_softmax_cross_entropy([], x) == 0


@pytest.mark.parametrize("order", ["F", "reversed", "strided", "byte-swapped", "read-only"])
def test_views(order):
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(6, 5, 4)).astype(np.float32), rng.random((6, 5, 4)).astype(np.float32)
    views = {
        "F": np.asfortranarray,
        "reversed": lambda a: a[::-1, :, ::-1][::-1, :, ::-1],
        "strided": lambda a: np.repeat(a, 2, 1)[:, ::2],
        "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
        "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    }
    a, b = views[order](x), views[order](q)
    calls = (
        lambda x, q: F.softmax(x, 1),
        lambda x, q: F.cross_entropy(x, q, reduction="none"),
        lambda x, q: F.cross_entropy(x, q.argmax(1), reduction="none"),
        lambda x, q: F.binary_cross_entropy(q, q, reduction="none"),
        lambda x, q: F.binary_cross_entropy_with_logits(x, q, reduction="none"),
        lambda x, q: tf.nn.softmax_cross_entropy_with_logits(q, x, 1),
        lambda x, q: tf.nn.weighted_cross_entropy_with_logits(q, x, q),
        lambda x, q: tf.losses.log_loss(q, q, reduction="none"),
        lambda x, q: tf.losses.compute_weighted_loss(x, q, reduction="none"),
    )
    for f in calls:
        got, expected = f(a, b), f(x, q)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert got.dtype == expected.dtype


def test_arguments_are_not_written_to():
    x = np.array([[0.0, 1.0], [0.5, 1.0]])
    for f in (F.binary_cross_entropy, tf.losses.log_loss):
        before = x.copy()
        f(x, x)
        np.testing.assert_array_equal(x, before)


# ---- sentences -------------------------------------------------------------------------

X, Y = np.array([[3.0, 1.0, -3.0]], np.float32), np.array([2])


@pytest.mark.parametrize(
    "call",
    [
        lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(X[:, 0], X),
        lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(X, Y),
        lambda: tf.nn.softmax_cross_entropy_with_logits(X, np.eye(3, dtype=int)[:1]),
        lambda: tf.nn.sigmoid_cross_entropy_with_logits(X, np.ones((1, 3), int)),
        lambda: tf.nn.weighted_cross_entropy_with_logits(X, np.ones((1, 3), int), 2.0),
        lambda: tf.losses.sparse_softmax_cross_entropy(X, Y),
        lambda: tf.losses.sparse_softmax_cross_entropy(X[:, 0], X),
        lambda: tf.losses.softmax_cross_entropy(X, np.ones((1, 3), int)),
        lambda: tf.losses.sigmoid_cross_entropy(X, np.ones((1, 3), int)),
        lambda: tf.legacy_seq2seq.sequence_loss([Y], [X], [[1.0]]),
        lambda: F.cross_entropy(Y, X),
        lambda: F.nll_loss(Y, X),
        lambda: F.binary_cross_entropy_with_logits(np.ones((1, 3), int), X),
    ],
)
def test_swapped_arguments_are_told(call):
    with pytest.raises(TypeError, match="the arguments look swapped: the order is"):
        call()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: F.cross_entropy(X, [5]), r"target must lie in \[0, 3\).*got 5 at position \(0\)"),
        (lambda: F.cross_entropy(X, [0, 1]), r"target must have shape \(1,\), that of input"),
        (lambda: F.cross_entropy(X, Y, [1.0]), r"weight must have shape \(3,\), one weight per"),
        (lambda: F.cross_entropy(X, Y, reduction="size_mean"), "reduction must be one of 'none', "),
        (lambda: F.nll_loss(X, [[0]]), r"target must have shape \(1,\), that of input"),
        (lambda: F.nll_loss(X, [0.0]), "target must be integers"),
        (lambda: F.binary_cross_entropy([2.0], [1.0]), r"input must lie in \[0, 1\]"),
        (lambda: F.binary_cross_entropy([0.5], [1.5]), r"target must lie in \[0, 1\]"),
        (lambda: F.binary_cross_entropy([0.5], [1.0], [1, 2]), "weight must broadcast to"),
        (lambda: F.binary_cross_entropy_with_logits([0.5], 1.0), "target must have the shape of"),
        (lambda: tf.losses.log_loss([1.0], [1.0], [[1.0]]), "weights must be a scalar or have as"),
        (lambda: tf.losses.log_loss([1.0], [1.0], reduction="mean"), "reduction must be one of"),
    ],
)
def test_errors_name_the_peers_arguments(call, sentence):
    with pytest.raises((IndexError, TypeError, ValueError), match=sentence):
        call()


def test_deprecations_point_to_the_caller():
    for call in (
        lambda: F.softmax(X),
        lambda: F.cross_entropy(X, Y, reduce=False),
        lambda: torch.nn.LogSoftmax()(X),
        lambda: torch.nn.NLLLoss(size_average=False),
    ):
        with pytest.warns(UserWarning, match="deprecated") as caught:
            call()
        assert caught[0].filename == __file__


# ---- modules and loss functions of one's own -------------------------------------------


def test_modules_hold_their_options():
    loss = torch.nn.CrossEntropyLoss([1, 2, 3], None, 1, None, "sum", 0.1)
    assert (loss.weight, loss.ignore_index, loss.reduction) == ([1, 2, 3], 1, "sum")
    assert loss.label_smoothing == 0.1
    assert loss(X, Y) == loss.forward(X, target=Y)
    assert loss(X, Y) == F.cross_entropy(X, Y, [1, 2, 3], None, 1, None, "sum", 0.1)
    loss.reduction = "none"
    assert loss(X, Y).shape == (1,)
    assert repr(loss) == "CrossEntropyLoss()"
    assert repr(torch.nn.Softmax(dim=1)) == "Softmax(dim=1)"
    assert repr(torch.nn.LogSoftmax(-1)) == "LogSoftmax(dim=-1)"
    assert torch.nn.BCEWithLogitsLoss(pos_weight=[2.0]).pos_weight == [2.0]


@pytest.mark.parametrize("average", [True, False])
def test_own_loss_function_is_called_by_name(average):
    """The source document's signature; the peer passes labels= and logits=."""
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(4, 3)).astype(np.float32) for _ in range(3)]
    y = [rng.integers(0, 3, 4) for _ in x]
    w = [np.array(a, np.float32) for a in ([1, 1, 0, 2], [1, 0, 0, 1], [0.5, 0, 0, 1])]
    calls = []

    def own(labels, logits):
        calls.append((labels.shape, logits.shape))
        return 2 * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    for name in ("sequence_loss_by_example", "sequence_loss"):
        function = getattr(tf.legacy_seq2seq, name)
        got = function(x, y, w, average, softmax_loss_function=own, name="n")
        expected = 2 * function(x, y, w, average)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert got.dtype == np.float32
    assert calls == [((4,), (4, 3))] * 6


def test_sequence_loss_is_a_mean_of_means():
    """The peer's own average over the batch counts an example without any weight."""
    x, y = [np.zeros((2, 4))] * 2, [np.array([0, 1])] * 2
    w = [np.array([1.0, 0.0])] * 2
    sequence = tf.legacy_seq2seq
    np.testing.assert_allclose(sequence.sequence_loss_by_example(x, y, w), [np.log(4), 0])
    np.testing.assert_allclose(sequence.sequence_loss(x, y, w), np.log(4) / 2)
    got = sequence.sequence_loss(x, y, w, average_across_batch=False)
    np.testing.assert_allclose(got, np.log(4))


# ---- small losses keep their digits ----------------------------------------------------


def test_small_losses_keep_their_digits(backend):
    """The peers return 0 or a wrong digit for these in float32."""
    x = np.array([[0, -20, -25]], np.float32)
    for got in (
        F.cross_entropy(x, [0]),
        tf.nn.sparse_softmax_cross_entropy_with_logits([0], x)[0],
        tf.nn.softmax_cross_entropy_with_logits([[1, 0, 0]], x)[0],
        -F.log_softmax(x, 1)[0, 0],
    ):
        np.testing.assert_allclose(got, 2.0750416e-09, rtol=1e-6)
    x, z = np.array([-20], np.float32), np.array([0], np.float32)
    for got in (
        F.binary_cross_entropy_with_logits(x, z),
        tf.nn.sigmoid_cross_entropy_with_logits(z, x)[0],
        tf.nn.weighted_cross_entropy_with_logits(z, x, 3.0)[0],
    ):
        np.testing.assert_allclose(got, 2.0611536e-09, rtol=1e-6)


def test_sources():
    """The numbers of the source documents, by the names that they use."""
    x = [[0.0, 5.0, 1.0]]
    near = {"rtol": 0, "atol": 1e-13}
    ce = torch.nn.CrossEntropyLoss()
    np.testing.assert_allclose(ce(x, [[0.0, 0.8, 0.2]]), 0.82474489013882, **near)
    np.testing.assert_allclose(ce(x, [1]), 0.02474489013882, **near)
    # The labels as logits: the document's mistake.
    np.testing.assert_allclose(ce([[0.0, 0.8, 0.2]], [1]), 0.69221704822658, **near)
    nll = torch.nn.NLLLoss()(torch.nn.LogSoftmax(dim=1)(x), [1])
    np.testing.assert_allclose(nll, 0.02474489013882, **near)
    labels, logits = [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]], [[0.2] * 5, [0.3, 0.3, 0.2, 0.1, 0.1]]
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(each.mean(), 0.74863370253738, **near)
    mean = tf.losses.sparse_softmax_cross_entropy([0, 1, 2], [[3.0, 1.0, -3.0]] * 3)
    exact = (0.12910890882985 + 2.12910890882985 + 6.12910890882985) / 3
    np.testing.assert_allclose(mean, exact, **near)


# ---- candidate samplers ----------------------------------------------------------------


SAMPLERS = {
    "log_uniform": {}, "uniform": {}, "learned_unigram": {},
    "fixed_unigram": {"unigrams": [3.0, 1, 5, 2, 2, 1, 1, 1, 0.5]},
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler(name):
    """What is drawn, and the counts of distinct ids, with the peer's shortcut."""
    tf.nn._learner.cache_clear()
    sample, labels = getattr(tf.nn, f"{name}_candidate_sampler"), np.array([[0, 3], [4, 8]])
    shortcuts = 0
    for seed in range(30):
        tf.nn._learner.cache_clear()
        found = sample(labels, 2, 3, True, 9, seed=seed, **SAMPLERS[name])
        ids, true, sampled = found
        assert [a.dtype for a in found] == [np.int64, np.float32, np.float32]
        assert (ids.shape, true.shape, sampled.shape) == ((3,), (2, 2), (3,))
        assert np.unique(ids).size == 3
        if name != "learned_unigram":
            again = sample(labels, 2, 3, True, 9, seed=seed, **SAMPLERS[name])
            np.testing.assert_array_equal(again.sampled_candidates, ids)
        tf.nn._learner.cache_clear()
        p = sample(np.arange(9)[:, None], 1, 1, False, 9, **SAMPLERS[name])
        p = p.true_expected_count[:, 0].astype(np.float64)
        # The number of draws, from one count; then all counts have it.
        tries = np.log1p(-np.float64(true[0, 0])) / np.log1p(-p[0])
        if np.allclose(true, 3 * p[labels], rtol=1e-5):
            shortcuts += 1
            continue
        tries = np.round(tries)
        assert tries > 3
        np.testing.assert_allclose(true, -np.expm1(tries * np.log1p(-p[labels])), rtol=1e-4)
        np.testing.assert_allclose(sampled, -np.expm1(tries * np.log1p(-p[ids])), rtol=1e-4)
    assert 0 < shortcuts < 30


def test_learned_unigram_is_shared_by_equal_calls():
    """The numbers are TensorFlow's: 4 samples of 4 classes."""
    tf.nn._learner.cache_clear()
    sample = tf.nn.learned_unigram_candidate_sampler
    counts = [sample([[0], [0]], 1, 4, False, 4).true_expected_count[0, 0] for _ in range(3)]
    assert counts == [1.0, 2.0, 2.5]
    assert sample([[0], [0]], 1, 4, False, 4, seed=1).true_expected_count[0, 0] == 1.0


def test_vocabulary_file(tmp_path):
    file = tmp_path / "vocabulary"
    file.write_text("the,3\na, comma,1\n\nrare,0\n2\n")
    labels = [[0], [1], [2], [3]]
    got = tf.nn.fixed_unigram_candidate_sampler(labels, 1, 6, False, 4, vocab_file=str(file))
    np.testing.assert_allclose(got.true_expected_count.ravel(), [3, 1, 0, 2])
    file.write_text("the,three\n")
    with pytest.raises(ValueError, match=r"vocab_file must have a count .* got 'the,three'"):
        tf.nn.fixed_unigram_candidate_sampler(labels, 1, 6, False, 4, vocab_file=file)
    with pytest.raises(ValueError, match="not both; got both"):
        tf.nn.fixed_unigram_candidate_sampler(
            labels, 1, 6, False, 4, vocab_file=file, unigrams=[1.0]
        )


@pytest.mark.parametrize("name", ["nce_loss", "sampled_softmax_loss"])
def test_sampled_loss_draws_by_itself(name):
    """By default distinct classes of the log-uniform sampler, for any float dtype."""
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(9, 4)), rng.normal(size=9), rng.normal(size=(5, 4))
    y = rng.integers(0, 9, (5, 2))
    for dtype in (np.float16, np.float32, np.float64):
        loss = getattr(tf.nn, name)(w, b, y, x.astype(dtype), 6, 9, num_true=2)
        assert loss.shape == (5,)
        assert loss.dtype == dtype
        assert np.isfinite(loss).all()
    f = tf.nn.sampled_softmax_loss
    drawn = tf.nn.log_uniform_candidate_sampler(y, 2, 6, True, 9, seed=4)
    np.testing.assert_array_equal(
        f(w, b, y, x, 6, 9, 2, seed=4), f(w, b, y, x, 6, 9, 2, sampled_values=drawn)
    )
