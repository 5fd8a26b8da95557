"""Measure how the time of a call grows: with rows, with classes, with threads.

    python asv_bench/scaling.py scaling.json --machine "2-core Granite Rapids"

Sparse cross entropy, float32, forward and with its gradient into a given array, on the
default backend.  Numbers are the smallest of several calls, in nanoseconds per element.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np

import fastxent as fx

ROWS = (1, 2, 3, 5, 10, 20, 30, 50, *(a * 10**k for k in range(2, 6) for a in (1, 2, 5)), 10**6)
CLASSES = (
    *(2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 31, 32, 33, 40, 48, 64, 65, 80, 100, 127, 128, 129),
    *(200, 255, 256, 257, 400, 512, 700, 1000, 1023, 1024, 1025, 2000, 2048, 4096, 4097, 10_000),
    *(16_384, 30_522, 65_536, 100_000, 128_256, 262_144, 500_000, 1_000_000),
)
ODD = (992, 1000, 1001, 1008, 1023, 1024, 1025)
OFFSETS = (0, 1, 8, 15)  # elements from a multiple of 64 bytes
ELEMENTS = 1 << 22
SECONDS = 0.06


def least(call):
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    for k in range(10_000):
        start = time.perf_counter()
        if k > 2 and start > end:
            break
        call()
        best = min(best, time.perf_counter() - start)
    return best


def aligned(shape, offset=0):
    size = int(np.prod(shape))
    memory = np.zeros(size + 32, np.float32)
    first = -(memory.ctypes.data // 4) % 16 + offset
    return memory[first : first + size].reshape(shape)


def measure(rows, classes, offset=0):
    """[rows, classes, offset, threads, with gradient?, nanoseconds per element] each."""
    rng = np.random.default_rng(0)
    x, grad = aligned((rows, classes), offset), aligned((rows, classes), offset)
    x[...] = np.resize(rng.standard_normal(1 << 16, dtype=np.float32), x.shape)
    y = rng.integers(0, classes, rows)
    for threads in (1, 2):
        with fx.config(threads=threads):
            for call in (
                lambda: fx.sparse_softmax_cross_entropy(x, y, reduction="mean"),
                lambda: fx.sparse_softmax_cross_entropy_with_grad(
                    x, y, reduction="mean", grad_out=grad
                ),
            ):
                found = least(call) / x.size * 1e9
                yield [rows, classes, offset, threads, float(f"{found:.3g}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json")
    parser.add_argument("--machine", required=True)
    options = parser.parse_args()
    config = fx.get_config()
    found = {
        "machine": options.machine,
        "date": datetime.date.today().isoformat(),
        "backend": f"{config['backend']}:{config['isa']}",
        "columns": ["rows", "classes", "offset", "threads", "nanoseconds per element"],
        "order": "forward, then with gradient",
        "by rows": [m for n in ROWS for m in measure(n, 100)],
        "by classes": [m for c in CLASSES for m in measure(max(1, ELEMENTS // c), c)],
        "odd": [m for c in ODD for offset in OFFSETS for m in measure(4096, c, offset)],
    }
    text = json.dumps(found)
    Path(options.json).write_text(text.replace("], [", "],\n[") + "\n")


if __name__ == "__main__":
    main()
