"""Check and measure the CUDA backend on a machine with a GPU.

    python build_tools/gpu_check.py [--out FOLDER] [--quick]

Prints the environment, answers on fresh random data beside float64, the bandwidth of a copy,
and for each workload the time, its fraction of that bandwidth and its peers' times; all of
it goes as JSON into a folder too. Exits with 77 where there is no GPU, with 1 where an
answer is wrong. Needs no compiled extension: an uninstalled clone will do.
"""

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
try:
    import fastxent as fx
except ImportError:
    sys.path.insert(0, str(ROOT))
    import fastxent as fx

#: name -> (rows, classes[, inner]), or a number of entries for the sigmoid.
WORKLOADS = {
    "C = 10": (1 << 20, 10),
    "C = 128": (1 << 20, 128),
    "C = 1000": (1 << 17, 1000),
    "C = 32000": (1 << 13, 32000),
    "C = 128256": (2048, 128256),
    "C = 262144": (1024, 262144),
    "class axis 1": (16, 21, 512 * 512),
    "sigmoid": (1 << 27,),
}
#: (rows, classes) of random logits whose answers are compared.
SHAPES = ((1000, 1), (1000, 10), (300, 1001), (40, 32001), (5, 262147))

DTYPES = ("float32", "bfloat16")
PASSES = ("forward", "gradient", "in place")


class Arrays:
    """Where the arrays come from: PyTorch if it is there, else CuPy, else Numba."""

    def __init__(self):
        from numba import cuda

        self.cuda, self.name = cuda, "numba"
        for name in ("torch", "cupy"):
            try:
                self.package = __import__(name)
                self.name = name
                break
            except ImportError:
                continue

    def give(self, a, dtype=None):
        """A host array on the GPU; floats in another dtype if asked for."""
        if self.name == "torch":
            made = self.package.from_numpy(np.ascontiguousarray(a)).cuda()
            return made.to(getattr(self.package, dtype)) if dtype else made
        a = a.astype(dtype) if dtype else a
        return self.package.asarray(a) if self.name == "cupy" else self.cuda.to_device(a)

    def take(self, a):
        """A copy on the host; half precision as float32."""
        if self.name == "torch":
            return a.float().cpu().numpy() if a.element_size() == 2 else a.cpu().numpy()
        return a.get() if self.name == "cupy" else a.copy_to_host()

    def like(self, a):
        """Room for another of its shape and dtype."""
        if self.name == "numba":
            return self.cuda.device_array(a.shape, a.dtype)
        return self.package.empty_like(a)

    def has(self, dtype):
        """Tell whether it knows a dtype."""
        return self.name == "torch" or dtype != "bfloat16"

    def synchronize(self):
        """Wait for the GPU."""
        self.cuda.synchronize()

    def timed(self, call, seconds):
        """Milliseconds of a call on the GPU: the median of runs between two events."""
        for _ in range(3):
            call()
        self.synchronize()
        start = time.perf_counter()
        call()
        self.synchronize()
        runs = max(5, min(200, int(seconds / max(time.perf_counter() - start, 1e-5))))
        stream = self.stream()
        times = []
        for _ in range(runs):
            first, last = self.cuda.event(), self.cuda.event()
            first.record(stream)
            call()
            last.record(stream)
            last.synchronize()
            times.append(self.cuda.event_elapsed_time(first, last))
        return statistics.median(times)

    def stream(self):
        """The current stream of the package, as Numba takes it."""
        pointer = 0
        if self.name == "torch":
            pointer = self.package.cuda.current_stream().cuda_stream
        elif self.name == "cupy":
            pointer = self.package.cuda.get_current_stream().ptr
        return self.cuda.external_stream(pointer) if pointer else 0


def environment(arrays):
    """What runs here."""
    from importlib.metadata import PackageNotFoundError, version

    device = arrays.cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    found = {
        "device": name,
        "compute capability": ".".join(map(str, device.compute_capability)),
        "arrays of": arrays.name,
        "python": platform.python_version(),
        "backends": {k: v["reason"] for k, v in fx.get_config()["backends"].items()},
    }
    for package in ("fastxent", "numpy", "numba", "numba-cuda", "torch", "cupy-cuda12x",
                    "cupy-cuda13x", "nvidia-nvvm"):  # fmt: skip
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def reference(x, y):
    """Losses and gradients of rows in float64."""
    x = x.astype(np.float64)
    m = x.max(1, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(1, keepdims=True)
    rows = np.arange(len(x))
    grad = e / s
    grad[rows, y] -= 1
    return (m + np.log(s))[:, 0] - x[rows, y], grad


def wrong_answers(arrays, *shapes):
    """Sentences about answers that are too far from float64's."""
    random = np.random.default_rng()
    for rows, classes in shapes or SHAPES:
        for dtype in (*DTYPES, "float16", "float64"):
            if not arrays.has(dtype):
                continue
            x = arrays.give(3 * random.standard_normal((rows, classes)).astype(np.float32), dtype)
            y = random.integers(0, classes, rows)
            value, grad = fx.sparse_softmax_cross_entropy_with_grad(x, arrays.give(y))
            exact, exact_grad = reference(arrays.take(x), y)
            limit = {"float64": 1e-12, "float32": 2e-6}.get(dtype, 2e-6)
            narrow = {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 2 * limit)
            for what, got, wanted, allowed in (
                ("loss", value, exact, limit * np.maximum(1, np.abs(exact))),
                ("gradient", grad, exact_grad, narrow * np.maximum(1e-3, np.abs(exact_grad))),
            ):
                error = np.abs(arrays.take(got).astype(np.float64) - wanted)
                if not (error <= allowed).all():
                    yield f"{what} of {rows} x {classes} {dtype}: error {np.nanmax(error):.3g}"
    x = 4 * random.standard_normal((100, 77)).astype(np.float32)
    z = random.random(x.shape).astype(np.float32)
    value, grad = fx.sigmoid_cross_entropy_with_grad(arrays.give(x), arrays.give(z))
    wide = x.astype(np.float64)
    exact = np.logaddexp(0, wide) - z * wide
    if not np.allclose(arrays.take(value), exact, rtol=2e-6, atol=1e-7):
        yield "sigmoid loss"
    if not np.allclose(arrays.take(grad), 1 / (1 + np.exp(-wide)) - z, rtol=2e-6, atol=1e-6):
        yield "sigmoid gradient"
    yield from wrong_products(arrays, random)
    for bad in (-1, 77):
        try:
            fx.sparse_softmax_cross_entropy(arrays.give(x), arrays.give(np.full(100, bad)))
            yield f"label {bad} was taken"
        except IndexError:
            pass


def wrong_products(arrays, random):
    """The same of losses that multiply matrices, beside the host's in float64."""
    if arrays.name == "numba":
        return
    x, weight = (random.standard_normal(shape).astype(np.float32) for shape in ((20, 9), (30, 9)))
    y = random.integers(0, 30, 20)
    calls = {
        "linear": (fx.linear_cross_entropy_with_grad, {}),
        "NCE": (fx.nce_loss_with_grad, {"num_sampled": 7, "rng": 1}),
        "sampled softmax": (fx.sampled_softmax_loss_with_grad, {"num_sampled": 7, "rng": 1}),
    }
    for name, (call, options) in calls.items():
        exact, exact_grads = call(x.astype(np.float64), weight.astype(np.float64), y, **options)
        value, grads = call(*map(arrays.give, (x, weight, y)), **options)
        pairs = {"loss": (value, exact), "inputs": (grads.inputs, exact_grads.inputs)}
        pairs["weight"] = grads.weight, exact_grads.weight
        for what, (got, wanted) in pairs.items():
            if not np.allclose(arrays.take(got), wanted, rtol=1e-4, atol=1e-5):
                yield f"{name}: {what}"


def copy_speed(arrays, seconds, size=1 << 28):
    """Bytes a second of a copy on the GPU, read and written ones counted."""
    a = arrays.give(np.zeros(size, np.float32))
    b = arrays.like(a)
    if arrays.name == "numba":
        ms = arrays.timed(lambda: b.copy_to_device(a), seconds)
    elif arrays.name == "torch":
        ms = arrays.timed(lambda: b.copy_(a), seconds)
    else:
        ms = arrays.timed(lambda: arrays.package.copyto(b, a), seconds)
    return 8 * size / ms * 1e3


def peers(arrays, name, x, y, forward_only):
    """Name of each peer and its call."""
    if arrays.name == "cupy" and name.startswith("C ="):
        cp = arrays.package

        def by_hand():
            m = x.max(1, keepdims=True)
            e = cp.exp(x - m)
            s = e.sum(1, keepdims=True)
            loss = (m + cp.log(s))[:, 0] - x[cp.arange(len(x)), y]
            if not forward_only:
                e /= s
                e[cp.arange(len(x)), y] -= 1
            return loss

        yield "CuPy by hand", by_hand
    if arrays.name != "torch":
        return
    torch = arrays.package
    functional = torch.nn.functional
    of = functional.binary_cross_entropy_with_logits
    of = of if name == "sigmoid" else functional.cross_entropy
    z = x.detach().requires_grad_(not forward_only)

    def eager():
        loss = of(z, y, reduction="sum")
        if not forward_only:
            z.grad = None
            loss.backward()
        return loss

    yield "torch", eager
    compiled = torch.compile(lambda a, b: of(a, b, reduction="sum"))

    def compiled_call():
        loss = compiled(z, y)
        if not forward_only:
            z.grad = None
            loss.backward()
        return loss

    yield "torch.compile", compiled_call


def measured(arrays, name, shape, dtype, seconds, copy):
    """A record for each pass of a workload."""
    random = np.random.default_rng(0)
    x = arrays.give(random.standard_normal(shape, np.float32), dtype)
    options = {"axis": 1} if len(shape) == 3 else {}
    if name == "sigmoid":
        y = arrays.give(random.random(shape, np.float32), dtype)
        plain, with_grad = fx.sigmoid_cross_entropy, fx.sigmoid_cross_entropy_with_grad
    else:
        y = arrays.give(random.integers(0, shape[1], (shape[0], *shape[2:])))
        plain = fx.sparse_softmax_cross_entropy
        with_grad = fx.sparse_softmax_cross_entropy_with_grad
    out = arrays.like(x)
    size = 4 if dtype == "float32" else 2
    units = {"forward": 1, "gradient": 2, "in place": 2}
    for which in PASSES:
        calls = {
            "forward": lambda: plain(x, y, reduction="sum", **options),
            "gradient": lambda: with_grad(x, y, reduction="sum", grad_out=out, **options),
            "in place": lambda: with_grad(x, y, reduction="sum", grad_out=x, **options),
        }
        read = units[which] + (name == "sigmoid")
        moved = int(np.prod(shape)) * size * read
        record = {"workload": name, "dtype": dtype, "pass": which, "bytes": moved}
        record["ms"] = arrays.timed(calls[which], seconds)
        record["of_copy"] = moved / record["ms"] * 1e3 / copy
        if which != "in place":
            record["peers"] = {}
            for peer, call in peers(arrays, name, x, y, which == "forward"):
                try:
                    record["peers"][peer] = arrays.timed(call, seconds)
                except Exception as error:  # a peer that cannot is no reason to stop
                    record["peers"][peer] = f"{type(error).__name__}: {error}"[:200]
        yield record


def report(record):
    """A line of the table."""
    others = ", ".join(
        f"{name} {ms:.3f}" if isinstance(ms, float) else f"{name} failed"
        for name, ms in record.get("peers", {}).items()
    )
    return (
        f"{record['workload']:14} {record['dtype']:9} {record['pass']:9} {record['ms']:9.3f} ms "
        f"{100 * record['of_copy']:5.1f} % of copy   {others}"
    )


def check(arrays, out, seconds, workloads=WORKLOADS, shapes=()):
    """Everything; the number of wrong answers."""
    found = {"environment": environment(arrays)}
    print(json.dumps(found["environment"], indent=1))
    found["wrong"] = list(wrong_answers(arrays, *shapes))
    print("answers:", found["wrong"] or "all as in float64")
    copy = copy_speed(arrays, seconds)
    found["copy_bytes_per_second"] = copy
    print(f"copy: {copy / 1e9:.0f} GB/s")
    found["records"] = []
    for name, shape in workloads.items():
        for dtype in DTYPES:
            if not arrays.has(dtype):
                continue
            for record in measured(arrays, name, shape, dtype, seconds, copy):
                found["records"].append(record)
                print(report(record), flush=True)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu_check.json").write_text(json.dumps(found, indent=1))
    return len(found["wrong"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="folder for gpu_check.json")
    parser.add_argument("--quick", action="store_true", help="fewer runs of each workload")
    options = parser.parse_args()
    state = fx.get_config()["backends"]["cuda"]
    if not state["available"] or "simulated" in state["reason"]:
        print(f"no GPU: {state['reason']}", file=sys.stderr)
        sys.exit(77)
    from numba import cuda

    if not cuda.is_available():
        print("no GPU: Numba finds no driver, or no libNVVM of a CUDA toolkit", file=sys.stderr)
        sys.exit(77)
    sys.exit(1 if check(Arrays(), options.out, 0.05 if options.quick else 0.5) else 0)


if __name__ == "__main__":
    main()
