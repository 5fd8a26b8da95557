"""Measure where one way of computing gets faster than another: ``fastxent/_choices.py``.

    python build_tools/choices.py [PARALLEL AWAKE PRODUCTS STREAM_BYTES SMALL_CLASSES]

For each number, a table: the size, the time either way in microseconds, their ratio, and
at the end the smallest size from which the second way is faster.  Both ways take turns;
what counts is the median over the rounds of the ratio within a round.
"""

import datetime
import json
import statistics
import subprocess
import sys
import time
from functools import partial

import numpy as np

import fastxent as fx
from fastxent import _choices

ROUNDS = 15
TURN = 0.004  # seconds of calls in a turn
FASTER = 0.98


def turn(call):
    """The smallest time of a call, over a few milliseconds of them."""
    call()
    best, end = float("inf"), time.perf_counter() + TURN
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best


def problem(rows, classes):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, classes), dtype=np.float32)
    return x, rng.integers(0, classes, rows), np.empty_like(x)


def call_of(problem, grad, threads, **numbers):
    """A call of sparse cross entropy under other choices."""
    x, y, into = problem
    if grad:
        work = partial(fx.sparse_softmax_cross_entropy_with_grad, reduction="mean", grad_out=into)
    else:
        work = partial(fx.sparse_softmax_cross_entropy, reduction="mean")
    return under(partial(work, x, y), threads, **numbers)


def under(work, threads, **numbers):
    """A turn of some calls under other choices."""

    def call():
        before = {name: getattr(_choices, name) for name in numbers}
        for name, value in numbers.items():
            setattr(_choices, name, value)
        try:
            work()
        finally:
            for name, value in before.items():
                setattr(_choices, name, value)

    def run():
        with fx.config(threads=threads):
            return turn(call)

    return run


def compare(first, second):
    rounds = [(first(), second()) for _ in range(ROUNDS)]
    return (
        min(a for a, _ in rounds),
        min(b for _, b in rounds),
        statistics.median(b / a for a, b in rounds),
    )


def parallel():
    """Elements from which two threads are faster than one."""
    for classes in (10, 1000):
        for size in (1 << k for k in range(14, 21)):
            x, y, into = problem(max(1, size // classes), classes)
            rows = x, y.astype(np.int16), into  # not for the short cut of small plain calls
            serial = call_of(rows, False, 1)
            yield f"C = {classes}", size, *compare(serial, call_of(rows, False, 2, PARALLEL=0))


def sampled(rows, width, negatives):
    """A call of NCE with its gradients, whose classes are drawn before."""
    rng = np.random.default_rng(0)
    h, w = (rng.standard_normal((n, width), dtype=np.float32) for n in (rows, 10_000))
    y, ids = rng.integers(0, len(w), rows), rng.choice(len(w), negatives, replace=False)
    drawn = ids, np.full(rows, 1e-3), np.full(negatives, 1e-3)
    return partial(fx.nce_loss_with_grad, h, w, y, sampled=drawn, reduction="mean")


def awake():
    """Elements from which two threads are faster than one amid a call that has just used both."""
    for rows in (1 << k for k in range(6, 14)):
        work = partial(under, sampled(rows, 64, 64), 2, PRODUCTS=0)
        yield "NCE gradient", rows * 65, *compare(work(AWAKE=1 << 62), work(AWAKE=0))


def products():
    """Multiplications in small products from which two threads are faster than one."""
    for rows in (1 << k for k in range(4, 12)):
        work = partial(under, sampled(rows, 128, 64), 2)
        size = rows * 65 * 128
        yield "NCE gradient", size, *compare(work(PRODUCTS=1 << 62), work(PRODUCTS=0))


def stream():
    """Bytes from which a gradient that goes past the cache is faster."""
    for size in (1 << k for k in range(20, 28)):
        rows = problem(size // 4000, 1000)
        ways = [call_of(rows, True, 2, STREAM_BYTES=n) for n in (1 << 62, 0)]
        yield "gradient alone", size, *compare(*ways)


def child(limit, classes):
    """Seconds of a call where the kernels took another number of classes for small."""
    _choices.SMALL_CLASSES = limit  # before they are loaded
    rows = problem((1 << 18) // classes, classes)
    return [min(call_of(rows, grad, 1)() for _ in range(3)) for grad in (False, True)]


def small():
    """Classes up to which tiles are faster: the second way is row by row."""

    def seconds(limit, classes):
        command = [sys.executable, __file__, "--child", str(limit), str(classes)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    for classes in (2, 4, 8, 16, 24, 32, 40, 48, 64, 96, 128):
        rounds = [(seconds(1 << 30, classes), seconds(0, classes)) for _ in range(3)]
        for k, what in enumerate(("forward", "gradient")):
            tiles, alone = (min(r[way][k] for r in rounds) for way in (0, 1))
            yield what, classes, tiles, alone, alone / tiles


MEASURES = {
    "PARALLEL": parallel,
    "AWAKE": awake,
    "PRODUCTS": products,
    "STREAM_BYTES": stream,
    "SMALL_CLASSES": small,
}


def main(names):
    print(f"{datetime.date.today()}; {fx.get_config()['isa']}; now in use: {_choices.MEASURED}")
    for name in names:
        print(f"\n{name} = {getattr(_choices, name)}: {MEASURES[name].__doc__}")
        found = {}
        for what, size, first, second, ratio in MEASURES[name]():
            print(f"{what:>16} {size:>10} {first * 1e6:10.1f} {second * 1e6:10.1f} {ratio:6.2f}")
            if ratio >= FASTER:
                found.pop(what, None)
            else:
                found.setdefault(what, size)
        for what, size in found.items():
            print(f"{what}: the second way is faster from {size} on")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*map(int, sys.argv[2:]))))
    else:
        main(sys.argv[1:] or list(MEASURES))
