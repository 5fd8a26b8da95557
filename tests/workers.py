"""Work for other processes: importable by name, so that every start method can find it."""

import os

import numpy as np
from numpy.random import default_rng  # NumPy loads it late, which is too late at interpreter exit

import fastxent as fx


def problem():
    random = default_rng(1)
    x = random.standard_normal((16_001, 50)).astype(np.float32)
    return x, random.integers(0, 50, 16_001)


def losses(seed=0, backend=None):
    """A call large enough for the pool; returns the sum of the losses and the process id."""
    x, y = problem()
    with fx.config(threads=2, **({"backend": backend} if backend else {})):
        value, grad = fx.sparse_softmax_cross_entropy_with_grad(x, y)
    assert grad.shape == x.shape
    return float(value.sum(dtype=np.float64)), os.getpid()


def rows(x, y):
    """A picklable chunk of work."""
    return fx.sparse_softmax_cross_entropy(x, y)


def then_queue(queue, backend=None):
    queue.put(losses(backend=backend)[0])
