"""Memory that a call takes, float32.

asv's ``peakmem`` counts the whole process: interpreter, imports and inputs too.
``track_extra`` counts what a second call adds beyond its outputs, as the kernel sees it
(Linux), so that allocations in C count; what a peer's allocator kept from the first call
does not.
"""

import gc
import math
from pathlib import Path

from .contenders import prepare, warm
from .frozen import BACKENDS, CONTENDERS, LARGE, PEERS, of

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field):
    for line in STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} in {STATUS}")


class _Memory:
    version = "1"
    timeout = 300
    param_names = ("function", "contender", "workload")
    params = (
        of("index", "dense", "picked", "sequence", "binary", "linear", "sampled"),
        CONTENDERS,
        LARGE,
    )
    grad = False

    def setup(self, function, contender, workload):
        self.job, self.call = prepare(contender, function, workload, "float32", self.grad)
        if contender in BACKENDS:
            warm(self.call)

    def peak(self, *parameters):
        self.call()

    def extra(self, function, contender, workload):
        if not CLEAR.exists():
            return math.nan
        self.call()
        gc.collect()
        CLEAR.write_text("5")  # resets the peak
        before = resident("VmRSS")
        result = self.call()
        extra = resident("VmHWM") - before
        del result
        # Ours writes into an array that exists; a peer makes one.
        arrays = self.job.x, self.job.weight
        outputs = sum(a.nbytes for a in arrays if a is not None)
        outputs *= self.grad and contender in PEERS
        return max(0, extra - outputs)

    extra.unit = "bytes"


class Function(_Memory):
    """Into a given array, where the result is one."""

    params = (of("normalizer", "activation"), CONTENDERS, LARGE)
    peakmem_forward = _Memory.peak
    track_extra_forward = _Memory.extra


class Loss(_Memory):
    peakmem_forward = _Memory.peak
    track_extra_forward = _Memory.extra


class LossWithGrad(_Memory):
    grad = True
    peakmem_gradient = _Memory.peak
    track_extra_gradient = _Memory.extra
