"""Time of a call, warmed up, on every workload."""

import functools
import math
import time

from .contenders import prepare, warm
from .frozen import BACKENDS, CASES, CONTENDERS, FEW_CASES, of
from .limits import limit_entries

#: asv runs ``setup`` before each sample; the arrays are made once in a process.
prepared = functools.lru_cache(maxsize=1)(prepare)

#: A sample of a short call is a batch of as many calls as make this many elements.
ELEMENTS = 1 << 18


class _Speed:
    """Times are of one call.

    asv takes one call per sample where there is a ``setup``; a call of microseconds is
    too short for that.  So a sample is a batch of calls, read on a clock that runs
    slower by the size of the batch.
    """

    version = "1"
    timeout = 300
    repeat = (5, 50, 1.0)  # samples at least, at most; seconds
    param_names = ("function", "contender", "case")
    grad = False

    def setup(self, function, contender, case):
        job, self.call = prepared(contender, function, *case.split(), self.grad)
        batch = max(1, ELEMENTS // job.x.size)
        self.batch = range(batch)
        self.timer = lambda: time.perf_counter() / batch
        warm(self.call)

    def run(self, *parameters):
        call = self.call
        for _ in self.batch:
            call()


class Normalizer(_Speed):
    """Into a given array, where the result is one."""

    params = (of("normalizer"), CONTENDERS, CASES)
    time_forward = _Speed.run


class Loss(_Speed):
    """The mean loss."""

    params = (of("index", "dense"), CONTENDERS, CASES)
    time_forward = _Speed.run


class LossWithGrad(_Speed):
    """The mean loss and its gradient; ours into a given array, a peer's where it likes."""

    params = (of("index", "dense"), CONTENDERS, CASES)
    grad = True
    time_gradient = _Speed.run


class Activation(_Speed):
    """Into a given array."""

    params = (of("activation"), CONTENDERS, FEW_CASES)
    time_forward = _Speed.run


class OtherLoss(_Speed):
    params = (of("picked", "sequence", "binary", "linear", "sampled"), CONTENDERS, FEW_CASES)
    time_forward = _Speed.run


class OtherLossWithGrad(_Speed):
    params = (of("picked", "sequence", "binary", "linear", "sampled"), CONTENDERS, FEW_CASES)
    grad = True
    time_gradient = _Speed.run


class Fraction:
    """The share of the speed of memory that a call reaches, float32.

    One read of the logits (and of labels of their shape), or one copy, on as many threads,
    over the time of the call.  Both take turns; the largest share counts.
    """

    version = "1"
    timeout = 300
    param_names = ("function", "backend", "workload")
    params = (
        ("logsumexp", *of("index", "dense")),
        BACKENDS,
        tuple(case.split()[0] for case in CASES if case.endswith("float32")),
    )
    rounds = 7
    unit = "of the limit"

    def share(self, kind, grad, function, backend, workload):
        if grad and function == "logsumexp":
            return math.nan  # only a setup may skip
        job, call = prepare(backend, function, workload, "float32", grad)
        warm(call)
        limits = limit_entries(job, kind)
        if not limits:
            return math.nan
        limits = sorted(limits, key=lambda limit: _seconds(limit.call) / limit.passes)[:2]
        return max(
            min(_seconds(limit.call) / limit.passes for limit in limits) / _seconds(call)
            for _ in range(self.rounds)
        )

    def track_read_fraction(self, function, backend, workload):
        return self.share("read", False, function, backend, workload)

    def track_copy_fraction(self, function, backend, workload):
        return self.share("copy", True, function, backend, workload)

    track_read_fraction.unit = track_copy_fraction.unit = unit


def _seconds(call):
    """The smallest time of a few calls."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
