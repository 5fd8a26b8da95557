"""Print linear cross entropy beside its own products and its peers, in one process.

    python asv_bench/linear.py 512 512 32000 --rounds 10      rows, features, classes

The contenders take turns, round by round.  "products" are NumPy's, of whole arrays into arrays
that exist: the logits; with gradient also those that lead to the gradients of inputs and weight.
Ours writes its gradients into given arrays ("fresh": into new ones); a peer makes them.  Memory is
what the second call adds at its peak, with what it returns.  Peers that are not installed are left
out.  BLAS has as many threads as it takes; ``OPENBLAS_CORETYPE``, if set, slows NumPy's products
and so the measure: unset it.  On a machine with other work, ``--processor-time`` on one core with
one thread for all (``taskset``, ``OMP_NUM_THREADS=1``) gives ratios that can be trusted.
"""

import argparse
import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastxent as fx

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

M_MMAP_THRESHOLD = -3

Calls = dict[str, Callable[[], Any]]


def ours(x: Any, weight: Any, y: Any, alone: bool) -> tuple[Calls, Calls]:
    """Products and ours: forward, and with gradient."""
    out = fx.LinearGradients(np.empty_like(x), np.empty_like(weight), None)
    logits = None if alone else np.empty((len(x), len(weight)), np.float32)

    def forward():
        np.matmul(x, weight.T, out=logits)

    def gradient():
        forward()
        np.matmul(logits, weight, out=out.inputs)
        np.matmul(logits.T, x, out=out.weight)

    def with_grad(**options):
        return fx.linear_cross_entropy_with_grad(x, weight, y, reduction="mean", **options)

    calls = (
        {"ours": lambda: fx.linear_cross_entropy(x, weight, y, reduction="mean")},
        {"ours": lambda: with_grad(grad_out=out), "ours, fresh": with_grad},
    )
    if alone:
        return calls
    return {"products": forward, **calls[0]}, {"products": gradient, **calls[1]}


def torchs(x: Any, weight: Any, y: Any) -> tuple[Calls, Calls]:
    """Logits as a whole, eager and compiled; and torch's own function, which cuts the rows."""
    import torch
    from torch.nn import functional
    from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions

    x, weight, y = map(torch.from_numpy, (x, weight, y))
    options = LinearCrossEntropyOptions(chunking_method="aspect_ratio")

    def plain(a, b):
        return functional.cross_entropy(a @ b.T, y)

    functions = {
        "torch": plain,
        "torch, cut": lambda a, b: functional.linear_cross_entropy(a, b, y, options=options),
        "torch.compile": torch.compile(plain, dynamic=False),
    }

    def forward(function):
        def call():
            with torch.no_grad():
                return function(x, weight)

        return call

    def gradient(function):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()

        def call():
            loss = function(a, b)
            loss.backward()
            grads, a.grad, b.grad = (a.grad, b.grad), None, None
            return loss, grads

        return call

    return tuple({name: f(g) for name, g in functions.items()} for f in (forward, gradient))


def jaxs(x: Any, weight: Any, y: Any) -> tuple[Calls, Calls]:
    """Logits as a whole, jitted."""
    import jax
    import jax.numpy as jnp
    import optax

    x, weight, y = jnp.asarray(x), jnp.asarray(weight), jnp.asarray(y.astype(np.int32))

    def loss(a, b):
        return optax.softmax_cross_entropy_with_integer_labels(a @ b.T, y).mean()

    jitted = jax.jit(loss), jax.jit(jax.value_and_grad(loss, (0, 1)))
    return tuple({"JAX": lambda f=f: jax.block_until_ready(f(x, weight))} for f in jitted)


def resident(field: str) -> int:
    return next(
        int(line.split()[1]) * 1024
        for line in STATUS.read_text().splitlines()
        if line.startswith(field)
    )


def extra(call: Callable[[], Any]) -> float:
    """Bytes that a second call takes at its peak, with its result."""
    call()
    gc.collect()
    if not CLEAR.exists():
        return float("nan")
    CLEAR.write_text("5")  # resets the peak
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def measure(title: str, calls: Calls, rounds: int, clock: Callable[[], float]) -> None:
    """One table."""
    memory, times = {name: extra(call) for name, call in calls.items()}, {n: [] for n in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    print(f"\n| {title} | ms, least | median | of the products, least | median | extra MB |")
    print("|---|---|---|---|---|---|")
    for name, mine in times.items():
        ratios = ""
        if "products" in times:
            base = times["products"]
            middle = statistics.median(a / b for a, b in zip(mine, base))
            ratios = f"{min(mine) / min(base):.2f} | {middle:.2f}"
        print(
            f"| {name} | {1e3 * min(mine):.1f} | {1e3 * statistics.median(mine):.1f} | "
            f"{ratios or ' | '} | {memory[name] / 1e6:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", nargs=3, type=int, metavar="N", help="rows, features, classes")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--alone", action="store_true", help="ours, not even the products")
    options = parser.parse_args()
    with contextlib.suppress(AttributeError, OSError):  # glibc: freed arrays are given back
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    n, d, c = options.shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d), dtype=np.float32)
    weight = rng.standard_normal((c, d), dtype=np.float32)
    weight *= np.float32(d**-0.5)
    y = rng.integers(0, c, n)
    print(f"{n} rows, {d} features, {c} classes: {n * c * 4 / 1e6:.0f} MB of float32 logits")
    found = ours(x, weight, y, options.alone)
    for peer in () if options.alone or options.no_peers else (torchs, jaxs):
        try:
            for calls, more in zip(found, peer(x, weight, y)):
                calls.update(more)
        except ImportError as error:
            print(f"({error})")
    for title, calls in zip(("forward", "with gradient"), found):
        clock = time.process_time if options.processor_time else time.perf_counter
        measure(title, calls, options.rounds, clock)


if __name__ == "__main__":
    main()
