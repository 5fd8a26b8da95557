"""The CUDA backend without a GPU: in Numba's simulator, and down to machine code."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import fastxent as fx
from fastxent import _check, _cuda
from fastxent._backends import words

pytest.importorskip("numba", reason="needs Numba")

HERE = pathlib.Path(__file__).parent
CODE = HERE.parent / "build_tools" / "cuda_code.py"


#: Starts pytest on one processor: the simulator's threads pass Python's lock around, which took 170
#: seconds on two and 50 on one.
ON_ONE = """
import os, sys, pytest
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.exit(pytest.main(sys.argv[1:]))
"""


def simulate(*arguments):
    """Run tests in a process of their own, where Numba simulates a GPU."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", ON_ONE, "-q", "-x", "-p", "no:cacheprovider", "-n0",
         "-m", "not slow", *arguments],
        cwd=HERE.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_arrays_of_a_gpu_in_the_simulator():
    simulate("tests/test_gpu.py")


def test_products_and_libraries_of_a_gpu_in_the_simulator():
    simulate("tests/test_gpu_products.py", "tests/test_gpu_libraries.py")


def test_numpy_arrays_in_the_simulator():
    """What is copied over and back, on some of the tests that all backends have."""
    chosen = "cuda and (float32 or bfloat16) and (10 or 1000) and not worst and not every"
    simulate("tests/test_values.py", "-k", chosen)
    simulate("tests/test_entries.py", "-k", "cuda and float32 and not every_number")


# ---- without a GPU and without a simulator -------------------------------------------------


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_of_cuda_is_imported_before_it_is_needed():
    out = run(
        "import sys, numpy as np, fastxent as fx\n"
        "fx.logsumexp(np.zeros(3)); fx.logsumexp([0.0, 1.0]); fx.show_config()\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('numba', 'numba_cuda', 'cuda', 'llvmlite', 'torch', 'cupy')))"
    )
    assert out.splitlines()[-1] == "[]"


def test_the_reason_is_told_where_there_is_no_gpu():
    info = fx.get_config()["backends"]["cuda"]
    assert info["available"] == ("cuda" in words())
    assert info["reason"]
    if not info["available"]:
        with pytest.raises(ValueError, match="backend must be one of"):
            fx.set_config(backend="cuda")


def test_cuda_is_never_the_default():
    out = run("import fastxent as fx; print(fx.get_config()['backend'])", NUMBA_ENABLE_CUDASIM="1")
    assert out != "cuda"


class Elsewhere:
    """An array on a GPU that is not there."""

    __cuda_array_interface__ = {  # noqa: RUF012
        "data": (0, False), "shape": (2, 3), "typestr": "<f4", "strides": None, "version": 3,
    }  # fmt: skip


@pytest.mark.skipif("cuda" in words(), reason="there is a GPU")
def test_arrays_of_a_gpu_where_none_can_be_used():
    x, there = np.zeros((2, 3)), Elsewhere()
    for call in (
        lambda: fx.softmax(there),
        lambda: fx.linear_cross_entropy(there, x, [0, 1]),
        lambda: fx.nce_loss(there, x, [0, 1], num_sampled=1),
        lambda: fx.scatter_add(there, [0], x),
    ):
        with pytest.raises(RuntimeError, match="arrays on a GPU need the backend cuda, which can"):
            call()
    for argument, call in (
        ("labels", lambda: fx.sparse_softmax_cross_entropy(x, there)),
        ("weight", lambda: fx.linear_cross_entropy(x, there, [0, 1])),
        ("weight", lambda: fx.nce_loss(x, there, [0, 1], num_sampled=1)),
        ("labels", lambda: fx.nce_loss(x, x, there, num_sampled=1)),
        ("ids", lambda: fx.scatter_add(x, there, x)),
    ):
        with pytest.raises(TypeError, match=f"^{argument} must be in the host's memory here"):
            call()


def test_one_file_knows_llvm():
    folder = pathlib.Path(_cuda.__file__).parent
    knows = {p.name for p in folder.glob("*.py") if re.search(r"llvmlite|extending", p.read_text())}
    assert knows == {"_intrinsics.py"}


@pytest.mark.skipif("cuda" in words(), reason="there is a GPU")
def test_reasons_one_by_one(monkeypatch):
    """What is missing: the driver, the GPU, the extra, a toolkit."""
    ask = _cuda.usable.__wrapped__
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    assert ask() == ((), "there is no NVIDIA driver on this machine")
    monkeypatch.setattr(_cuda, "_has_driver", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert ask() == ((), "the NVIDIA driver shows no GPU to this process")
    monkeypatch.setattr(_cuda, "_has_device", lambda: True)
    monkeypatch.setattr(_cuda, "find_spec", lambda name: None)
    assert not ask()[0]
    assert ask()[1].startswith("numba-cuda is not installed (pip install fastxent[cuda12]")
    monkeypatch.setattr(_cuda, "find_spec", lambda name: name)
    assert ask()[0] == ("",)
    with pytest.raises(RuntimeError, match="Numba cannot use the GPU: it finds no driver"):
        _cuda.calls()


def test_what_is_taken_for_an_array_of_a_gpu():
    class WithGradient:
        """Like a tensor that requires a gradient."""

        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("it requires a gradient")

    class Capsule:
        def __init__(self, kind):
            self.kind = kind

        def __dlpack_device__(self):
            return self.kind, 0

    for x, answer in (
        (Elsewhere(), True), (WithGradient(), True), (Capsule(2), True), (Capsule(1), False),
        ([1.0], False), (1.0, False), (None, False), (np.zeros(2), False),
    ):  # fmt: skip
        assert _check.is_on_gpu(x) == answer


@pytest.mark.skipif("cuda" in words(), reason="there is a GPU")
def test_the_check_of_a_gpu_says_that_there_is_none():
    done = subprocess.run(
        [sys.executable, "-P", CODE.with_name("gpu_check.py")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 77
    assert done.stderr.startswith("no GPU: ")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


# ---- machine code ----------------------------------------------------------------------------

#: Registers of a thread, at most: two blocks of 256 threads in a multiprocessor.
LIMIT = 128


def test_machine_code():
    """No spills, no local memory, no arithmetic in double precision where float32 will do."""
    done = subprocess.run(
        [sys.executable, "-P", CODE, "--json"], capture_output=True, text=True, timeout=900
    )
    if done.returncode == 77:
        assert not os.environ.get("FASTXENT_REQUIRE_PTX"), done.stderr
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert_page_is_true(load(CODE), records)
    assert {r["arch"] for r in records} == {"sm_75", "sm_80", "sm_90", "sm_100"}
    assert len({r["kernel"] for r in records}) >= 33
    for r in records:
        assert r["stack"] == r["spills"] == r["local"] == 0, r
        assert r["atomics"] == 0, r  # the bits would depend on who comes first
        assert r["registers"] <= LIMIT, r
        if r["single"]:
            assert not r["doubles"], r
        if r["kernel"].startswith(("rows", "entries")):
            assert r["vector_loads"] >= 1, r
            assert r["vector_stores"] >= 1, r
        if r["kernel"].startswith("entries"):  # logits and, in their dtype, labels
            assert r["vector_loads"] >= 2 - ("labels in float64" in r["kernel"]), r
            assert r["vector_stores"] >= 2, r
        if r["kernel"].startswith("rows, general"):  # logits and label masses; both gradients
            assert r["vector_loads"] >= 4, r
            assert r["vector_stores"] >= 2, r


def assert_page_is_true(script, records):
    """The documentation's table; another version of the compiler may move a few registers."""
    page, found = script.in_page()[1], list(script.table(records))
    assert len(page) == len(found), "renew it: cuda_code.py --docs"
    assert page[:2] == found[:2]
    for line, wanted in zip(page[2:], found[2:]):
        (name, *numbers), (name2, *numbers2) = (
            [cell.strip() for cell in row.strip("|").split("|")] for row in (line, wanted)
        )
        assert name == name2
        far = np.abs(np.array(numbers, int) - np.array(numbers2, int))
        assert (far[:-2] <= 8).all(), (name, "renew it: cuda_code.py --docs")
        assert not far[-2:].any(), (name, "renew it: cuda_code.py --docs")


LAUNCHES = """
import sys
sys.path.insert(0, {folder!r})
import cuda_code, numpy as np
if cuda_code.missing():
    print("nothing compiles here")
    sys.exit()
from numba.cuda.typing.typeof import Purpose, typeof
from fastxent._cuda import _launch
compiled = {{id(kernel): signature.args for _, kernel, signature, _ in cuda_code.kernels()}}
def run(self, kernel, blocks, threads, *args):
    assert tuple(typeof(a, Purpose.argument) for a in args) == compiled[id(kernel)]
    print(kernel.py_func.__name__)
_launch.Stream.run = run
s = _launch.Stream(0, lambda shape, dtype: (np.empty(shape, dtype), None))
y, z = np.zeros(4, np.int64), np.zeros(())
for dtype in ("float32", "float64"):
    x, sums = np.zeros((4, 40000), dtype), np.zeros((1024, 2), dtype)
    _launch.rows(s, "index", x, y=y, loss=x[:, 0], grad=x, ignore=-1)
    _launch.rows(s, "dense", x[:, :9], y=x[:, :9], loss=x[:, 0])
    _launch.entries(s, "logits", x, z=x, grad=x, sums=sums)
    _launch.entries(s, "logits", x, z=x.astype(float), grad=x, sums=sums)
_launch.labels(s, y, None, None, -100, 5, y.shape, np.zeros((1, 3)))
_launch.pick(s, x, y, u=None, g=None, w=None, ignore=None, loss=x[:, 0], grad=x, scale=1.0)
_launch.total(s, x[:, 0], 2.0, z)
_launch.shares(s, y[None], 1.0, x[:1])
_launch.row_sums(s, x, x[:, 0])
_launch.pos_weight_slopes(s, x, x, None, None, 0.1, 1.0, x[0])
for dtype in ("float32", "float64"):
    x = np.zeros((4, 5), dtype)
    _launch.move(s, x, None, add=True)
    _launch.dots(s, x[:, 0], x, x)
    _launch.scatter(s, x, x, y[:1], y, y)
    _launch.column_sums(s, x[0], x, False)
_launch.strike(s, x, y.reshape(2, 2))
_launch.live(s, np.zeros(4, np.float32), y, None, None, None, -100)
"""


def test_machine_code_is_what_is_launched():
    """The host hands each kernel just the types that it was compiled for."""
    out = run(LAUNCHES.format(folder=str(CODE.parent)), NUMBA_ENABLE_CUDASIM="0")
    if out == "nothing compiles here":
        assert not os.environ.get("FASTXENT_REQUIRE_PTX")
        pytest.skip(out)
    launched = set(out.split())
    assert launched == {
        "rows", "merge_pieces", "entries", "labels", "pick", "sums", "close", "shares", "row_sums",
        "pos_weight_slopes", "move", "dots", "scatter", "column_sums", "strike", "live",
    }  # fmt: skip
