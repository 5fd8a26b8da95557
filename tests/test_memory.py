"""Beyond its outputs a call takes at most 1 MB per thread; nothing logits-sized is ever made.

Each measurement runs in a process of its own: the peak of the resident memory (reset by
the kernel just before the call) sees every allocation, tracemalloc sees NumPy's arrays.
"""

import json
import os
import subprocess
import sys

import pytest

from fastxent._backends import words

MEASURE = """
import gc, json, os, sys, tracemalloc
import numpy as np
import fastxent as fx
sys.path.insert(0, {tests!r})
import data

def status(field):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(field):
                return int(line.split()[1]) * 1024

def extra(call):
    call()  # first use: pools, lazy imports
    gc.collect()
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = status("VmRSS")
    result = call()
    peak = status("VmHWM") - before
    del result
    tracemalloc.start()
    result = call()
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, arrays

with fx.config(backend={word!r}, threads={threads}):
    {setup}
    print(json.dumps(extra(lambda: {call})))
"""

ROWS, CLASSES = 600, 8000  # 19 MB of float32 logits

BASE = f"""
    ROWS, CLASSES = {ROWS}, {CLASSES}
    x = np.random.default_rng(0).standard_normal(({ROWS}, {CLASSES}), dtype=np.float32)
    y = np.arange({ROWS}) % {CLASSES}
    out = np.zeros({ROWS}, np.float32)
""".strip()

LOSS = "fx.sparse_softmax_cross_entropy"
DENSE = "fx.softmax_cross_entropy"
GRAD = f"{LOSS}_with_grad"
ENTRIES = "fx.sigmoid_cross_entropy"

CALLS = {
    # name: (more set-up, call)
    "forward": ("", f"{LOSS}(x, y, out=out)"),
    "forward_smoothed": ("", f"{LOSS}(x, y, out=out, label_smoothing=0.1, z_loss=0.01)"),
    "forward_mean": ("", f"{LOSS}(x, y, reduction='mean')"),
    "in_place": ("", f"{GRAD}(x, y, out=out, grad_out=x)"),
    "axis0": ("x = np.ascontiguousarray(x.T)", f"{LOSS}(x, y, out=out, axis=0)"),
    "axis0_in_place": (
        "x = np.ascontiguousarray(x.T)",
        f"{GRAD}(x, y, out=out, grad_out=x, axis=0)",
    ),
    "fortran": ("x = np.asfortranarray(x)", f"{LOSS}(x, y, out=out)"),
    "middle_axis": (
        "x = x.reshape(6, 8000, 100); y = y.reshape(6, 100); out = out.reshape(6, 100)",
        f"{GRAD}(x, y, out=out, grad_out=x, axis=1)",
    ),
    "strided": ("x = x[:, ::2]; y //= 2", f"{GRAD}(x, y, out=out, grad_out=x)"),
    "not_collapsing": (
        "x = x.reshape(12, 50, 8000)[:, :49]; y = y.reshape(12, 50)[:, :49]",
        f"{GRAD}(x, y, reduction='sum', grad_out=x)",
    ),
    "byte_swapped": ("x = x.astype('>f4')", f"{LOSS}(x, y, out=out)"),
    "float16": ("x = x.astype(np.float16)", f"{GRAD}(x, y, out=out, grad_out=x)"),
    "bfloat16": ("x = x.astype(data.dtype_of('bfloat16'))", f"{GRAD}(x, y, out=out, grad_out=x)"),
    "integer_logits": ("x = x.astype(np.int8)", f"{LOSS}(x, y, reduction='sum')"),
    "dense": ("q = np.full_like(x, 1 / 8000)", f"{DENSE}(x, q, out=out)"),
    "dense_float64_labels": (
        "q = np.full(x.shape, 1 / 8000)",
        f"{DENSE}_with_grad(x, q, out=out, grad_out=x)",
    ),
    "labels_grad": (
        "q = np.full_like(x, 1 / 8000); g = np.zeros_like(x)",
        f"{DENSE}_with_grad(x, q, out=out, grad_out=x, labels_grad_out=g)",
    ),
    "where": (
        "m = np.arange(8000) % 3 > 0; y -= (y % 3 == 0); y %= 8000",
        f"{LOSS}(x, y, out=out, where=m)",
    ),
    "where_full": ("m = x > -1", f"{GRAD}(x, y, out=out, grad_out=x, where=m)"),
    "nll": ("", "fx.nll_loss(x, y, out=out)"),
    "nll_in_place": ("", "fx.nll_loss_with_grad(x, y, out=out, grad_out=x)"),
    "sigmoid_in_place": ("", "fx.sigmoid(x, out=x)"),
    "log_sigmoid_bfloat16": (
        "x = x.astype(data.dtype_of('bfloat16'))",
        "fx.log_sigmoid(x, out=x)",
    ),
    "entries_mean": ("", f"{ENTRIES}(x, x, reduction='mean')"),
    "entries_weighted_mean_in_place": (
        "z = x > 0; u = np.ones((ROWS, 1)); w = np.ones(CLASSES)",
        f"{ENTRIES}_with_grad(x, z, sample_weight=u, pos_weight=w, label_smoothing=0.1,"
        " reduction='mean', grad_out=x)",
    ),
    "entries_in_place": (
        "z = x > 0; big = np.empty_like(x)",
        f"{ENTRIES}_with_grad(x, z, out=big, grad_out=x)",
    ),
    "entries_in_another_order": (
        "x = np.asfortranarray(x); z = x.T.astype(np.float64).copy().T > 0",
        f"{ENTRIES}_with_grad(x, z, reduction='sum', grad_out=x)",
    ),
    "entries_to_labels_and_weight": (
        "z = x > 0; g = np.zeros_like(x); w = np.ones(CLASSES); gw = np.zeros(CLASSES, np.float32)",
        f"{ENTRIES}_with_grad(x, z, pos_weight=w, reduction='mean', grad_out=x, labels_grad_out=g,"
        " pos_weight_grad_out=gw)",
    ),
    "entries_of_integers": (
        "z = x > 0; x = x.astype(np.int8)",
        f"{ENTRIES}(x, z, reduction='sum')",
    ),
    "probabilities_in_place": (
        "x = np.abs(x) / 8; z = x > 0.1",
        "fx.binary_cross_entropy_with_grad(x, z, reduction='sum', grad_out=x)",
    ),
    "sequence_in_place": (
        "x = x.reshape(6, 100, 8000); y = y.reshape(6, 100); w = np.ones((6, 100), bool)",
        "fx.sequence_loss_with_grad(x, y, sample_weight=w, average='timesteps', grad_out=x)",
    ),
    "logsumexp": ("", "fx.logsumexp(x, out=out)"),
    "softmax_in_place": ("", "fx.softmax(x, out=x)"),
    "log_softmax_in_place": ("", "fx.log_softmax(x, out=x)"),
    "one_long_row": ("x = x.reshape(1, -1)", "fx.logsumexp(x)"),
    "one_long_row_gradient": ("x = x.reshape(1, -1)", f"{GRAD}(x, [5], grad_out=x)"),
    "read_only_map": (
        "import tempfile; f = tempfile.NamedTemporaryFile(); x.tofile(f.name);"
        " x = np.memmap(f.name, np.float32, 'r', shape=x.shape); np.asarray(x).sum()",
        f"{LOSS}(x, y, out=out)",
    ),
}

#: More rows than classes: here an array of losses or of labels would show.
MANY = {
    "many_rows_mean": (
        "x = np.zeros((1_200_000, 2), np.float32); y = np.zeros(1_200_000, np.int8)",
        f"{LOSS}(x, y, reduction='mean')",
    ),
    "many_rows_mean_in_place": (
        "x = np.zeros((1_200_000, 2), np.float32); y = np.zeros(1_200_000, np.int8)",
        f"{GRAD}(x, y, reduction='mean', grad_out=x)",
    ),
    "many_rows_dense_mean": (
        "x = np.zeros((1_200_000, 2), np.float32)",
        f"{DENSE}(x, x, reduction='mean')",
    ),
    "many_rows_nll_mean": (
        "x = np.zeros((1_200_000, 2), np.float32); y = np.zeros(1_200_000, np.int8)",
        "fx.nll_loss_with_grad(x, y, reduction='mean', grad_out=x)",
    ),
    "many_weights": (
        "x = np.zeros((1_200_000, 2), np.float32); y = np.zeros(1_200_000, np.int8);"
        " u = np.ones(1_200_000, np.int8)",
        f"{LOSS}(x, y, reduction='mean', sample_weight=u, ignore_index=-1)",
    ),
}

linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")


def _measure(word, threads, setup, call):
    code = MEASURE.format(
        tests=os.path.dirname(__file__),
        word=word,
        threads=threads,
        setup=f"{BASE}\n    {setup}".strip(),
        call=call,
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The kernel counts pages in batches per thread, so a resident peak is some tens of pages off.
NOISE = 2**18


@linux
@pytest.mark.parametrize("call", CALLS | MANY)
@pytest.mark.parametrize("word", {w.split(":")[0]: w for w in words()[::-1]}.values())
def test_extra_memory(word, call):
    threads = 2
    setup, expression = (CALLS | MANY)[call]
    peak, arrays = _measure(word, threads, setup, expression)
    assert arrays <= threads * 2**20, f"{arrays / 2**20:.2f} MB of arrays"
    assert peak <= threads * 2**20 + NOISE, f"{peak / 2**20:.2f} MB"


@linux
def test_the_measurement_sees_a_copy():
    """A call that copies the logits must fail this test's limit by far."""
    peak, arrays = _measure(words()[0], 2, "", "fx.softmax(x)")
    assert peak > 18 * 2**20
    assert arrays > 18 * 2**20
