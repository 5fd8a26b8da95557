"""Time of a call, warmed up, on every workload."""

import functools
import time

from .contenders import prepare, warm
from .frozen import CASES, CONTENDERS, FEW_CASES, of

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
    params = (of("picked", "sequence", "binary", "sampled"), CONTENDERS, FEW_CASES)
    time_forward = _Speed.run


class OtherLossWithGrad(_Speed):
    params = (of("picked", "sequence", "binary", "sampled"), CONTENDERS, FEW_CASES)
    grad = True
    time_gradient = _Speed.run
