"""Inputs that reach the corners: the generator is itself tested (``test_data.py``).

Rows cycle through ``KINDS``, labels through the largest class, the smallest and a random
one, so that a few dozen rows already hold confident hits, confident misses and ties.
"""

import ml_dtypes
import numpy as np

KINDS = ("normal", "spread", "wide", "confident", "tie", "equal", "close", "shifted")


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def rng(seed=0):
    return np.random.default_rng(seed)


def _row(random, kind, classes, dtype):
    normal = random.standard_normal(classes)
    if kind == "spread":
        return 5 * normal
    if kind == "wide":
        row = random.uniform(-80, 80, classes)
        row[: min(2, classes)] = (80, -80)[: min(2, classes)]
        return random.permutation(row)
    if kind == "confident":
        normal[random.integers(classes)] = normal.max() + random.uniform(12, 60)
    elif kind == "tie":
        best = normal.max() + 1
        normal[random.permutation(classes)[: max(2, classes // 3)]] = best
    elif kind == "equal":
        normal[:] = normal[0]
    elif kind == "close":
        # A few units in the last place apart.
        base = np.asarray(random.uniform(1, 8)).astype(dtype)
        step = np.float64(np.nextafter(base, dtype.type(100))) - np.float64(base)
        return np.float64(base) + step * random.integers(0, 4, classes)
    elif kind == "shifted":
        return 3 * normal + random.choice([-500.0, 500.0])
    return normal


def logits(rows, classes, dtype, seed=0):
    """A (rows, classes) array of dtype ``dtype`` (a name); row i is of kind ``KINDS[i % 8]``."""
    random = rng(seed)
    dt = dtype_of(dtype)
    x = [_row(random, KINDS[i % len(KINDS)], classes, dt) for i in range(rows)]
    return np.array(x, dtype=np.float64).reshape(rows, classes).astype(dt)


def index_labels(x, seed=0, dtype=np.int64):
    """Labels (rows,): by turns the largest class, the smallest and any."""
    random = rng(seed + 1000)
    wide = x.astype(np.float64)
    y = random.integers(0, x.shape[1], x.shape[0])
    turn = (np.arange(len(x)) // len(KINDS)) % 3
    y = np.where(turn == 0, wide.argmax(1), np.where(turn == 1, wide.argmin(1), y))
    return y.astype(dtype)


def dense_labels(x, seed=0, dtype=np.float64):
    """Labels (rows, C) >= 0: one-hot at the maximum, sums of 1, other sums, zeros inside."""
    random = rng(seed + 2000)
    n, c = x.shape
    q = random.gamma(0.5, size=(n, c))
    q[random.random((n, c)) < 0.3] = 0
    turn = (np.arange(n) // len(KINDS)) % 4
    total = q.sum(1, keepdims=True)
    q = np.where((turn == 1)[:, None] & (total > 0), q / np.where(total > 0, total, 1), q)
    hot = np.eye(c)[x.astype(np.float64).argmax(1)]
    q = np.where((turn == 0)[:, None], hot, q)
    return q.astype(dtype)


def probabilities(rows, classes, dtype, seed=0):
    """Probabilities (rows, classes) inside (0, 1): near 0, near 1 and between, by turns.

    Their reciprocals do not overflow in ``dtype``.
    """
    random = rng(seed + 6000)
    dt = dtype_of(dtype)
    digits = {"float16": 3, "bfloat16": 30, "float32": 30, "float64": 200}[dtype]
    near = 10.0 ** -random.uniform(0, digits, (rows, classes))
    close = 10.0 ** -random.uniform(0, min(digits, 16), (rows, classes))
    below_1 = np.float64(np.nextafter(dt.type(1), dt.type(0)))
    turn = (np.arange(rows * classes) % 3).reshape(rows, classes)
    p = np.select([turn == 0, turn == 1], [near, np.minimum(1 - close, below_1)], 0)
    return np.where(turn == 2, random.uniform(0.05, 0.95, p.shape), p).astype(dt)


def binary_labels(x, seed=0, dtype=np.float64):
    """Labels of the shape of ``x``: 0, 1 and numbers between, by turns of different length."""
    random = rng(seed + 7000)
    turn = random.integers(0, 3, x.shape)
    return np.select([turn == 0, turn == 1], [0.0, 1.0], random.random(x.shape)).astype(dtype)


def pos_weights(classes, seed=0):
    """Weights (classes,) >= 0 of three decades around 1, one of them 0."""
    w = 10 ** rng(seed + 8000).uniform(-2, 2, classes)
    w[classes // 2] = 0
    return w


def mask(x, labels=None, seed=0):
    """A mask (rows, C) that keeps at least one class and, if given, every label's class."""
    random = rng(seed + 3000)
    keep = random.random(x.shape) < 0.7
    keep[np.arange(len(x)), random.integers(0, x.shape[1], len(x))] = True
    if labels is not None and np.ndim(labels) == 1:
        keep[np.arange(len(x)), np.clip(labels, 0, x.shape[1] - 1)] = True
    if labels is not None and np.ndim(labels) == 2:
        keep |= labels.astype(np.float64) != 0
    return keep


def sample_weights(rows, seed=0):
    """Weights (rows,) >= 0 with zeros and a spread of three decades."""
    random = rng(seed + 4000)
    w = 10 ** random.uniform(-2, 1, rows)
    w[::5] = 0
    return w


def class_weights(classes, seed=0):
    """Weights (classes,) >= 0; one of them is 0 where there are at least three."""
    random = rng(seed + 5000)
    w = random.uniform(0.2, 3, classes)
    if classes >= 3:
        w[1] = 0
    return w
