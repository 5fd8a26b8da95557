"""Every number of the source documents that these functions cover, on every backend.

S1: sparse softmax cross entropy and its mean.  S2: multi-class cross entropy in
TensorFlow and PyTorch.  S3: the family of losses.  S4: softmax beside sigmoid cross entropy.
The exact values have 14 decimals; the documents' own digits are float32 output.
"""

import numpy as np
import pytest

import fastxent as fx

ATOL = 1e-13
PRINTED = 2.5e-7


def near(got, exact):
    np.testing.assert_allclose(got, exact, rtol=0, atol=ATOL)


S1 = np.array([3.0, 1.0, -3.0])


def test_s1_softmax(backend):
    near(fx.softmax(S1), [0.87887824273215, 0.11894323591065, 0.00217852135720])


def test_s1_logsumexp(backend):
    near(fx.logsumexp(S1), 3.12910890882985)


def test_s1_one_loss_per_candidate_label(backend):
    losses = [0.12910890882985, 2.12910890882985, 6.12910890882985]
    near(fx.sparse_softmax_cross_entropy(np.tile(S1, (3, 1)), [0, 1, 2]), losses)
    near(fx.sparse_softmax_cross_entropy(S1[None], [2]), losses[2:])
    near(fx.softmax_cross_entropy(np.tile(S1, (3, 1)), np.eye(3)), losses)


def test_s1_two_steps(backend):
    """Softmax, then minus the log of the entry that the label picks."""
    near(-np.log(fx.softmax(S1))[2], 6.12910890882985)
    near(-fx.log_softmax(S1), [0.12910890882985, 2.12910890882985, 6.12910890882985])


def test_s1_the_loss_is_the_mean_of_the_losses(backend):
    """``tf.losses`` and ``reduce_mean(tf.nn...)`` agree for weights of 1, and only then."""
    x, y = np.tile(S1, (3, 1)), [0, 1, 2]
    mean = (0.12910890882985 + 2.12910890882985 + 6.12910890882985) / 3
    for reduction in ("mean", "size_mean", "nonzero_mean"):
        near(fx.sparse_softmax_cross_entropy(x, y, reduction=reduction), mean)
    u = [1.0, 0.0, 1.0]
    total = 0.12910890882985 + 6.12910890882985
    got = fx.sparse_softmax_cross_entropy(x, y, sample_weight=u, reduction="nonzero_mean")
    near(got, total / 2)
    near(fx.sparse_softmax_cross_entropy(x, y, sample_weight=u, reduction="size_mean"), total / 3)


S2 = np.array([0.0, 5.0, 1.0])
S2_LABELS = np.array([0.0, 0.8, 0.2])


def test_s2_softmax(backend):
    near(fx.softmax(S2), [0.00657326318531, 0.97555875494439, 0.01786798187030])


def test_s2_logsumexp(backend):
    near(fx.logsumexp(S2), 5.02474489013882)


def test_s2_dense(backend):
    near(fx.softmax_cross_entropy(S2, S2_LABELS), 0.82474489013882)
    near(-(S2_LABELS * fx.log_softmax(S2)).sum(), 0.82474489013882)


def test_s2_one_hot_and_sparse(backend):
    near(fx.softmax_cross_entropy(S2, [0, 1, 0]), 0.02474489013882)
    near(fx.sparse_softmax_cross_entropy(S2, 1), 0.02474489013882)


def test_s2_the_labels_fed_as_logits(backend):
    """The article's 0.6922: labels and logits changed places."""
    near(fx.logsumexp(S2_LABELS), 1.49221704822658)
    near(fx.sparse_softmax_cross_entropy(S2_LABELS, 1), 0.69221704822658)
    near(fx.softmax_cross_entropy(S2_LABELS, S2), 4.75330228935946)
    assert fx.sparse_softmax_cross_entropy(S2_LABELS, 1) == pytest.approx(0.6922, abs=5e-5)


def test_s2_the_unstable_form_fails_where_ours_does_not(backend):
    """``log(softmax(x))`` written out, at logits of +-1000."""
    x = np.array([1000.0, -1000.0])
    with np.errstate(all="ignore"):
        by_hand = np.log(np.exp(x) / np.exp(x).sum())
    assert not np.isfinite(by_hand).any()
    np.testing.assert_array_equal(fx.log_softmax(x), [0, -2000])
    assert fx.sparse_softmax_cross_entropy(x, 1) == 2000


def test_s2_cross_entropy_is_nll_after_log_softmax(backend):
    """The article's check: three rows of five random classes, class indices and the mean."""
    x = np.random.default_rng(0).standard_normal((3, 5))
    y = [1, 0, 4]
    for dtype, rtol in ((np.float32, 1e-6), (np.float64, 1e-14)):
        for reduction in ("none", "mean"):
            cross_entropy = fx.sparse_softmax_cross_entropy(x.astype(dtype), y, reduction=reduction)
            by_steps = fx.nll_loss(fx.log_softmax(x.astype(dtype)), y, reduction=reduction)
            np.testing.assert_allclose(by_steps, cross_entropy, rtol=rtol)
    near(fx.nll_loss(fx.log_softmax(S2), 1), 0.02474489013882)
    near(fx.nll_loss(fx.log_softmax(S2_LABELS), 1), 0.69221704822658)
    near(
        fx.nll_loss(fx.log_softmax(np.tile(S1, (3, 1))), [0, 1, 2], reduction="mean"),
        (0.12910890882985 + 2.12910890882985 + 6.12910890882985) / 3,
    )


# S3 has formulas and shapes, no numbers: its functions on the numbers of the others.


def test_s3_shapes(backend):
    """``[batch]`` for the softmax losses, higher ranks too; the logits' shape for sigmoid."""
    x = np.tile(S2, (4, 1))
    near(fx.sparse_softmax_cross_entropy(x, [1] * 4), [0.02474489013882] * 4)
    near(fx.softmax_cross_entropy(x, np.tile(S2_LABELS, (4, 1))), [0.82474489013882] * 4)
    assert fx.sparse_softmax_cross_entropy(x.reshape(2, 2, 3), [[1, 1], [1, 1]]).shape == (2, 2)
    assert fx.sigmoid_cross_entropy(x, np.zeros((4, 3))).shape == (4, 3)


def test_s3_the_stable_form(backend):
    """The article's "internally it is a relu": ``max(x,0) - x z + log1p(exp(-abs(x)))``."""
    x, z = np.meshgrid(np.linspace(-30, 30, 61), [0, 0.25, 1])
    stable = np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))
    np.testing.assert_allclose(fx.sigmoid_cross_entropy(x, z), stable, rtol=1e-13)


STEPS = [np.array([S1, S2]), np.array([S2, S1])]


def test_s3_sequence_loss_by_example(backend):
    targets, weights = [[0, 1], [1, 2]], [[1, 1], [2, 0.5]]
    step = np.array([[0.12910890882985, 0.02474489013882], [0.02474489013882, 6.12910890882985]])
    total = (step * weights).sum(0)
    near(fx.sequence_loss_by_example(STEPS, targets, weights, False), total)
    near(fx.sequence_loss_by_example(STEPS, targets, weights), total / [3, 1.5])
    # The article divides by the sum of the weights + 1e-12.
    got = fx.sequence_loss_by_example(STEPS, targets, weights)
    np.testing.assert_allclose(got, total / (np.sum(weights, 0) + 1e-12), rtol=1.1e-12, atol=1e-13)


def test_s3_padding_has_neither_loss_nor_gradient(backend):
    padded = [STEPS[0], np.array([S2, [np.nan] * 3])]
    targets, weights = [[0, 1], [1, -1]], [[1, 1], [1, 0]]
    exact = [(0.12910890882985 + 0.02474489013882) / 2, 0.02474489013882]
    loss, grad = fx.sequence_loss_by_example_with_grad(padded, targets, weights)
    near(loss, exact)
    assert not grad[1][1].any()
    assert grad[0].all()
    near(fx.sequence_loss_by_example(padded, targets, [[1, 0], [1, 0]]), [exact[0], 0])


def test_s3_the_loss_function_replaced(backend):
    got = fx.sequence_loss_by_example(
        STEPS,
        [[0, 1], [1, 2]],
        [[1, 1], [1, 1]],
        softmax_loss_function=lambda logits, targets: -logits[[0, 1], targets],
    )
    near(got, [-(3 + 5) / 2, -(5 - 3) / 2])


S4_LOGITS = [[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]]
S4_LABELS = [[0, 1], [1, 0], [1, 0]]


def test_s4_multi_class(backend):
    exact = [0.43748795048589, 0.51301525239995, 0.69314718055995]
    near(fx.softmax_cross_entropy(S4_LOGITS, S4_LABELS), exact)
    near(fx.sparse_softmax_cross_entropy(S4_LOGITS, [1, 0, 0]), exact)


BINARY_LOGITS = np.array([[0.2] * 5, [0.3, 0.3, 0.2, 0.1, 0.1]])
BINARY_LABELS = np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]])
BINARY_LOSSES = [
    [0.79813886938159, 0.79813886938159, 0.79813886938159, 0.59813886938159, 0.79813886938159],
    [0.55435524446853, 0.85435524446853, 0.79813886938159, 0.74439666007357, 0.74439666007357],
]


def test_s4_binary(backend):
    near(fx.sigmoid_cross_entropy(BINARY_LOGITS, BINARY_LABELS), BINARY_LOSSES)
    near(fx.binary_cross_entropy(fx.sigmoid(BINARY_LOGITS), BINARY_LABELS), BINARY_LOSSES)
    for reduction in ("mean", "size_mean", "nonzero_mean"):
        mean = fx.sigmoid_cross_entropy(BINARY_LOGITS, BINARY_LABELS, reduction=reduction)
        near(mean, 0.74863370253738)
    # The article's form, with q = sigmoid(x).
    p, q = BINARY_LABELS, fx.sigmoid(BINARY_LOGITS)
    near(p * -np.log(q) + (1 - p) * -np.log(1 - q), BINARY_LOSSES)


def test_s4_prob1_is_a_part_of_it(backend):
    """``-p log q`` is the binary loss where p = 1 and 0 elsewhere: its sums are no loss."""
    prob1 = -BINARY_LABELS * fx.log_sigmoid(BINARY_LOGITS)
    hit = BINARY_LABELS == 1
    near(prob1[hit], np.array(BINARY_LOSSES)[hit])
    near(prob1[hit], [0.59813886938159, 0.55435524446853])
    assert not prob1[~hit].any()
    assert (prob1.sum(1) < np.sum(BINARY_LOSSES, 1) / 5).all()


def test_s4_two_classes_are_a_sigmoid_of_the_difference(backend):
    x = np.array(S4_LOGITS)
    near(fx.softmax(x)[:, 1], fx.sigmoid(x[:, 1] - x[:, 0]))
    near(fx.softmax(x)[:, 1], [0.64565630622580, 0.40131233988755, 0.5])
    exact = [0.43748795048589, 0.51301525239995, 0.69314718055995]
    near(fx.sigmoid_cross_entropy(x[:, 1] - x[:, 0], [1, 0, 0]), exact)


def test_s4_the_softmax_of_the_binary_example(backend):
    got = fx.softmax_cross_entropy(BINARY_LOGITS, BINARY_LABELS)
    near(got, [1.60943791243410, 1.51343325485813])
    np.testing.assert_allclose(got, [1.60943791, 1.51343325], rtol=PRINTED)


DOCUMENT_DIGITS = [
    # name, function, arguments, digits as printed, relative tolerance
    ("s1_softmax", "softmax", (S1,), [0.87887824, 0.11894324], PRINTED),
    # Eight decimals of a small number are six digits.
    ("s1_softmax_2", "softmax", (S1,), [0.87887824, 0.11894324, 0.00217852], 1e-6),
    (
        "s1_losses",
        "sparse_softmax_cross_entropy",
        (np.tile(S1, (3, 1)), [0, 1, 2]),
        [0.1291089166980569, 2.1291089016197424, 6.1291089069914575],
        PRINTED,
    ),
    ("s1_loss", "sparse_softmax_cross_entropy", (S1, 2), 6.12910890699, PRINTED),
    ("s2_softmax", "softmax", (S2,), [0.00657326, 0.9755587, 0.01786798], 5e-7),
    ("s2_dense", "softmax_cross_entropy", (S2, S2_LABELS), 0.82474494, PRINTED),
    # The frameworks subtract 5 from 5.0247 in float32 here, which costs them a digit.
    ("s2_one_hot", "softmax_cross_entropy", (S2, [0, 1, 0]), 0.02474492, 2.5e-6),
    ("s2_sparse", "sparse_softmax_cross_entropy", (S2, 1), 0.024744948, 2.5e-6),
    ("s2_swapped", "sparse_softmax_cross_entropy", (S2_LABELS, 1), 0.6922, 5e-5),
    (
        "s4_losses",
        "softmax_cross_entropy",
        (S4_LOGITS, S4_LABELS),
        [0.43748799, 0.51301527, 0.69314718],
        PRINTED,
    ),
]


@pytest.mark.parametrize("case", DOCUMENT_DIGITS, ids=lambda c: c[0])
def test_the_documents_own_digits(backend, case):
    _, function, (x, *rest), printed, rtol = case
    for dtype in (np.float32, np.float64):
        got = np.asarray(getattr(fx, function)(np.array(x, dtype), *rest))
        if np.ndim(printed):
            got = got[: len(printed)]
        np.testing.assert_allclose(got, printed, rtol=rtol)
