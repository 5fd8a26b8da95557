"""Candidate samplers: exact probabilities, the law of the draws at fixed seeds, expected counts."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy import stats

from fastxent import samplers

COUNTS = np.array([50.0, 0, 3, 1, 20, 1, 0.5, 8])


def learned(labels=(0, 0, 0, 3, 3, 6), num_classes=8):
    sampler = samplers.LearnedUnigram(num_classes)
    sampler.sample(1, labels, rng=0)
    return sampler


#: Name -> a sampler of 8 classes, new each time, and the weights of the classes by hand.
SAMPLERS = {
    "LogUniform": (
        lambda: samplers.LogUniform(8),
        [mp.log(mpf(k + 2) / (k + 1)) for k in range(8)],
    ),
    "Uniform": (lambda: samplers.Uniform(8), [mpf(1)] * 8),
    "Unigram": (lambda: samplers.Unigram(COUNTS), [mpf(c) for c in COUNTS]),
    "Unigram-distorted": (
        lambda: samplers.Unigram(COUNTS, distortion=0.75),
        [mpf(c) ** 0.75 for c in COUNTS],
    ),
    "Unigram-reserved": (
        lambda: samplers.Unigram(COUNTS[:6], num_reserved_ids=2),
        [mpf(0)] * 2 + [mpf(c) for c in COUNTS[:6]],
    ),
    "LearnedUnigram": (learned, [mpf(w) for w in (4, 1, 1, 3, 1, 1, 2, 1)]),
}


@pytest.fixture(params=SAMPLERS)
def case(request):
    make, weights = SAMPLERS[request.param]
    total = mp.fsum(weights)
    return make, np.array([float(w / total) for w in weights])


def test_probability(case):
    make, p = case
    sampler = make()
    np.testing.assert_array_max_ulp(sampler.probability(np.arange(8)), p, 3)
    assert sampler.probability([[2, 3], [0, 2]]).shape == (2, 2)
    assert sampler.probability(np.uint8(3)) == sampler.probability([3])[0]
    assert isinstance(sampler.probability(3), np.float64)
    assert sampler.probability([]).shape == (0,)


@pytest.mark.parametrize("num_classes", [1, 2, 1000, 10**6])
def test_probabilities_add_up(num_classes):
    ids = np.arange(num_classes)
    for sampler in (samplers.LogUniform(num_classes), samplers.Uniform(num_classes)):
        np.testing.assert_allclose(sampler.probability(ids).sum(), 1, rtol=1e-13)


def chi_square(counts, p):
    """The p-value of counts of classes; those of few expected draws together."""
    assert counts[p == 0].sum() == 0
    expected = counts.sum() * p / p.sum()
    small = expected < 10
    observed = [*counts[~small], counts[small].sum()]
    wanted = [*expected[~small], expected[small].sum()]
    if wanted[-1] < 10:
        observed[-2:], wanted[-2:] = [sum(observed[-2:])], [sum(wanted[-2:])]
    return stats.chisquare(observed, wanted).pvalue


def test_draws_with_repetition_follow_the_probabilities(case):
    make, p = case
    ids = make().sample(50_000, [0], unique=False, rng=7).ids
    assert chi_square(np.bincount(ids, minlength=8), p) > 1e-3
    # Neighbours are independent.
    pairs = np.bincount(ids[:-1] * 8 + ids[1:], minlength=64)
    assert chi_square(pairs, np.outer(p, p).ravel()) > 1e-3


@pytest.mark.parametrize("num_classes", [1000, 10**6])
def test_log_uniform_over_many_classes(num_classes):
    sampler = samplers.LogUniform(num_classes)
    ids = sampler.sample(200_000, [0], unique=False, rng=3).ids
    edges = np.unique(np.geomspace(1, num_classes + 1, 40).astype(int)) - 1
    p = np.add.reduceat(sampler.probability(np.arange(num_classes)), edges[:-1])
    assert ids.max() < num_classes
    assert chi_square(np.histogram(ids, edges)[0], p) > 1e-3


def law_of_rejection(p, num_sampled, longest):
    """P(last new class, number of draws) exactly, by recursion over the sets of seen classes."""
    found = np.zeros((len(p), longest + 1))
    now = {frozenset(): 1.0}
    for tries in range(1, longest + 1):
        after = {}
        for seen, mass in now.items():
            for k, q in enumerate(p):
                grown = seen | {k}
                if len(grown) == num_sampled and k not in seen:
                    found[k, tries] += mass * q
                else:
                    after[grown] = after.get(grown, 0) + mass * q
        now = after
    return found


def rejection(p, num_sampled, rng):
    """Draw until enough are distinct, one after the other: ids in order, number of draws."""
    seen, tries = [], 0
    while len(seen) < num_sampled:
        k = int(rng.choice(len(p), p=p))
        tries += 1
        if k not in seen:
            seen.append(k)
    return tuple(seen), tries


#: Weights, ids asked for, more draws than ever needed: some with draws from what is left.
DISTINCT = {
    "few": ([5, 4, 3, 2, 1], 2, 60),
    "all": ([5, 4, 3, 2, 1], 5, 200),
    "skewed": ([100, 10, 5, 2], 3, 400),
    "very skewed": ([40, 1, 1], 3, 800),
    "of one": ([3, 1], 1, 1),
}
TIMES = 4000


def distinct_draws(name):
    weights, n, longest = DISTINCT[name]
    sampler, random = samplers.Unigram(weights), np.random.default_rng(5)
    found = [sampler._ids_and_tries(n, True, random) for _ in range(TIMES)]
    found = [(tuple(ids.tolist()), int(tries)) for ids, tries in found]
    # After 4 n rejections, what is left is drawn from directly; both ways are met.
    beyond = np.mean([tries > 5 * n for _, tries in found])
    assert beyond > 0.5 if "skewed" in name else beyond < 0.5
    return sampler.probability(np.arange(len(weights))), n, longest, found


@pytest.mark.parametrize("name", DISTINCT)
def test_distinct_draws_follow_the_law_of_rejection(name):
    """The last new class and the number of draws together."""
    p, n, longest, found = distinct_draws(name)
    law = law_of_rejection(p, n, longest)
    np.testing.assert_allclose(law.sum(), 1, atol=1e-5)
    edges = np.unique(np.searchsorted(law.sum(0).cumsum(), np.linspace(0, 0.99, 7)[1:]))
    cells = np.searchsorted(edges, np.arange(longest + 1))
    expected, observed = np.zeros((2, len(p), len(edges) + 1))
    for tries in range(longest + 1):
        expected[:, cells[tries]] += law[:, tries]
    for ids, tries in found:
        observed[ids[-1], np.searchsorted(edges, tries)] += 1
    assert chi_square(observed.ravel(), expected.ravel()) > 1e-3


@pytest.mark.parametrize("name", DISTINCT)
def test_distinct_draws_are_those_of_plain_rejection(name):
    """The ids with their order, and the numbers of draws, beside a simulation."""
    p, n, _, found = distinct_draws(name)
    random = np.random.default_rng(9)
    plain = [rejection(p, n, random) for _ in range(TIMES // 4)]
    kinds = sorted({ids for ids, _ in found + plain})
    table = np.array([[sum(r[0] == k for r in side) for k in kinds] for side in (found, plain)])
    table = table[:, table.sum(0) >= 20]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.ks_2samp([r[1] for r in found], [r[1] for r in plain]).pvalue > 1e-3


def test_distinct_draws_of_the_rare_take_no_longer():
    """Rejection alone would draw 10^30 times."""
    sampler = samplers.Unigram([1.0, 1e-30, 1e-300])
    found = sampler.sample(3, [0, 1, 2], rng=0)
    assert found.ids.tolist() == [0, 1, 2]
    assert np.all(found.sampled_expected > 0)
    np.testing.assert_allclose(found.sampled_expected[0], 1)
    _, tries = sampler._ids_and_tries(3, True, np.random.default_rng(0))
    assert 1e297 < tries < 1e303


def test_distinct_ids_of_all_classes(case):
    make, p = case
    possible = np.count_nonzero(p)
    for seed in range(5):
        ids = make().sample(possible, [0], rng=seed).ids
        assert sorted(ids) == np.flatnonzero(p).tolist()


def test_large():
    sampler = samplers.LogUniform(10**6)
    found = sampler.sample(10**4, [[0], [999_999]], rng=0)
    assert np.unique(found.ids).size == 10**4
    # As many distinct classes as that number of draws gives on average.
    _, tries = sampler._ids_and_tries(10**4, True, np.random.default_rng(0))
    p = sampler.probability(np.arange(10**6))
    np.testing.assert_allclose(-np.expm1(tries * np.log1p(-p)).sum(), 10**4, rtol=0.02)


def test_expected_counts(case):
    make, p = case
    labels = [[2, 0], [3, 3], [7, 4]]
    found = make().sample(5, labels, unique=False, rng=2)
    np.testing.assert_allclose(found.true_expected, 5 * p[labels], rtol=1e-14)
    np.testing.assert_allclose(found.sampled_expected, 5 * p[found.ids], rtol=1e-14)
    found = make().sample(5, labels, rng=2)
    ids, tries = make()._ids_and_tries(5, True, np.random.default_rng(2))
    np.testing.assert_array_equal(found.ids, ids)
    with mp.workdps(40):
        exact = np.array([float(1 - (1 - mpf(float(q))) ** int(tries)) for q in p])
    np.testing.assert_allclose(found.true_expected, exact[labels], rtol=1e-13)
    np.testing.assert_allclose(found.sampled_expected, exact[ids], rtol=1e-13)
    assert found.ids.dtype == np.int64
    assert found.true_expected.dtype == found.sampled_expected.dtype == np.float64


def test_expected_counts_are_the_frequencies():
    """How often a class is among distinct ids, on average over many samples: nearly."""
    sampler, random = samplers.LogUniform(10), np.random.default_rng(1)
    seen, expected = np.zeros(10), np.zeros(10)
    for _ in range(3000):
        found = sampler.sample(4, np.arange(10), rng=random)
        seen[found.ids] += 1
        expected += found.true_expected
    np.testing.assert_allclose(seen / 3000, expected / 3000, atol=0.05)


def test_certain_class():
    found = samplers.Unigram([0, 2.5]).sample(1, [0, 1], rng=0)
    assert found.ids.tolist() == [1]
    assert found.true_expected.tolist() == [0, 1]
    assert found.sampled_expected.tolist() == [1]
    assert samplers.LogUniform(1).sample(1, [0], rng=0).sampled_expected.tolist() == [1]


def test_shapes_of_labels(case):
    make, _ = case
    for labels in (0, [0], [[1, 0]], [], np.zeros((0, 2), np.int32), np.zeros((2, 1, 3), np.uint8)):
        found = make().sample(2, labels, rng=0)
        assert np.shape(found.true_expected) == np.shape(labels)


# ---- randomness ----------------------------------------------------------------------


def test_seeds(case):
    make, _ = case
    for unique in (True, False):
        a, b, c = (make().sample(4, [0], unique=unique, rng=seed).ids for seed in (11, 11, 12))
        generator = make().sample(4, [0], unique=unique, rng=np.random.default_rng(11)).ids
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, generator)
        assert not np.array_equal(a, c)
    stream, sampler = np.random.default_rng(11), make()
    first = sampler.sample(4, [0], unique=False, rng=stream).ids
    assert not np.array_equal(first, sampler.sample(4, [0], unique=False, rng=stream).ids)
    unseeded = [tuple(make().sample(4, [0], unique=False).ids) for _ in range(40)]
    assert len(set(unseeded)) > 1


def test_no_global_randomness(case):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that of the legacy functions
    case[0]().sample(4, [0])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# ---- learning ------------------------------------------------------------------------


def test_learned_unigram_learns_after_it_counts():
    sampler = samplers.LearnedUnigram(4)
    found = [sampler.sample(4, [[0], [0]], unique=False, rng=0) for _ in range(3)]
    assert [f.true_expected[0, 0] for f in found] == [1.0, 2.0, 2.5]
    assert sampler.probability([0, 1]).tolist() == [0.7, 0.1]
    with pytest.raises(IndexError):
        sampler.sample(1, [0, 4])
    with pytest.raises(ValueError, match="num_sampled"):
        sampler.sample(5, [0])
    assert sampler.probability(0) == 0.7, "a call that fails teaches nothing"


def test_samplers_can_be_copied(case):
    make, p = case
    for other in (copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
        np.testing.assert_allclose(other.probability(np.arange(8)), p)
    assert repr(make()).endswith("(num_classes=8)")
    assert make().num_classes == 8


# ---- errors --------------------------------------------------------------------------

BAD = {
    "num_sampled 0": (ValueError, r"num_sampled must be at least 1; got 0", (0, [0])),
    "num_sampled 1.5": (TypeError, r"num_sampled must be an integer; got 1.5", (1.5, [0])),
    "labels -1": (
        IndexError,
        r"true_labels must lie in \[0, 8\); got -1 at position \(1, 0\)",
        (1, [[0], [-1]]),
    ),
    "labels 8": (IndexError, r"true_labels must lie .* got 8 at position \(0\)", (1, [8, 9])),
    "labels uint64": (
        IndexError,
        "got 18446744073709551615",
        (1, np.array([2**64 - 1], np.uint64)),
    ),
    "labels float": (TypeError, "true_labels must be integers.*float64", (1, [0.0])),
    "labels bool": (TypeError, "true_labels must be integers.*bool", (1, [True])),
    "rng": (TypeError, "rng must be None, an integer or a numpy.random.Generator; got str",
            (1, [0], {"rng": "0"})),
    "rng legacy": (TypeError, "rng must be .* got RandomState",
                   (1, [0], {"rng": np.random.RandomState(0)})),
    "rng -1": (ValueError, "rng must not be negative", (1, [0], {"rng": -1})),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_samples(case, name):
    error, sentence, (n, labels, *more) = BAD[name]
    with pytest.raises(error, match=sentence):
        case[0]().sample(n, labels, **(more[0] if more else {}))


def test_too_many_distinct(case):
    make, p = case
    possible = np.count_nonzero(p)
    sentence = rf"num_sampled must be at most {possible}, .*; got {possible + 1}"
    with pytest.raises(ValueError, match=sentence):
        make().sample(possible + 1, [0])
    assert make().sample(100, [0], unique=False).ids.size == 100


@pytest.mark.parametrize(
    ("error", "sentence", "make"),
    [
        (ValueError, "num_classes must be at least 1; got 0", lambda: samplers.Uniform(0)),
        (TypeError, "num_classes must be an integer; got 2.0", lambda: samplers.LogUniform(2.0)),
        (ValueError, r"counts must have shape \(classes,\)", lambda: samplers.Unigram([[1]])),
        (ValueError, r"counts must have shape", lambda: samplers.Unigram([])),
        (ValueError, r"not negative; got -1 at position \(1\)", lambda: samplers.Unigram([1, -1])),
        (ValueError, "finite", lambda: samplers.Unigram([1, np.nan])),
        (ValueError, "finite", lambda: samplers.Unigram([1, np.inf])),
        (ValueError, "only zeros", lambda: samplers.Unigram([0, 0])),
        (TypeError, "counts must be real numbers", lambda: samplers.Unigram(["a"])),
        (ValueError, "distortion must be finite", lambda: samplers.Unigram([1], distortion=-1)),
        (ValueError, "distortion must be finite", lambda: samplers.Unigram([1], distortion=np.nan)),
        (ValueError, "num_reserved_ids", lambda: samplers.Unigram([1], num_reserved_ids=-1)),
        (IndexError, r"ids must lie in \[0, 3\)", lambda: samplers.Uniform(3).probability([3])),
        (TypeError, "ids must be integers", lambda: samplers.Uniform(3).probability([0.0])),
    ],
)  # fmt: skip
def test_bad_arguments(error, sentence, make):
    with pytest.raises(error, match=sentence):
        make()


def test_extreme_counts():
    """Powers of counts neither overflow nor make NaN."""
    sampler = samplers.Unigram([1e300, 1e-300], distortion=2)
    assert sampler.probability([0, 1]).tolist() == [1, 0]
    assert samplers.Unigram([1e308, 1e308]).probability(1) == 0.5
    assert samplers.Unigram([2, 0, 5], distortion=0).probability([0, 1]).tolist() == [1 / 3] * 2


@pytest.mark.parametrize("name", samplers.__all__)
def test_docstrings(name):
    """Every public name and method says what it takes and gives."""
    kind = getattr(samplers, name)
    text = inspect.getdoc(kind)
    assert text.splitlines()[0].endswith(".")
    if name == "Candidates":
        assert all(f"\n{field} : " in text for field in kind._fields)
        return
    for function, doc in ((kind, text), *((m, inspect.getdoc(m)) for m in
                          (kind.probability, kind.sample))):  # fmt: skip
        for parameter in inspect.signature(function).parameters:
            assert parameter == "self" or f"\n{parameter} : " in doc, parameter
