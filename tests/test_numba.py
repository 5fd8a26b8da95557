"""What is special about the Numba backend: imports, choice, threads, forks, the cache, the code."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import cases
import numpy as np
import pytest

import fastxent as fx
from fastxent._backends import words
from fastxent._numba import kernels

pytestmark = pytest.mark.skipif("numba" not in words(), reason="needs Numba")

PACKAGE = pathlib.Path(fx.__file__).parent
HERE = os.path.dirname(__file__)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture(autouse=True)
def _numba():
    with fx.config(backend="numba"):
        yield


def run(code, path=None, **environment):
    """A fresh interpreter with the tests' helpers; ``path`` holds another fastxent."""
    first = f"import sys; sys.path[:0] = {[p for p in (path, HERE) if p]!r}\n"
    done = subprocess.run(
        [sys.executable, "-P", "-c", first + textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def rows(n, c, dtype="float32"):
    return cases.rows(dtype, n, c)


# ---- imports and choice ----------------------------------------------------------------


def test_numba_is_imported_by_its_first_call_only():
    out = run(
        """
        import sys
        import numpy as np, fastxent as fx
        fx.logsumexp(np.zeros(3)); fx.show_config()
        assert "numba" not in sys.modules
        with fx.config(backend="numba"): pass
        assert "numba" not in sys.modules
        with fx.config(backend="numba"): fx.logsumexp(np.zeros(3))
        print("numba" in sys.modules)
        """
    )
    assert out.splitlines()[-1] == "True"


def test_the_version_is_shown(capsys):
    import numba

    assert fx.get_config()["versions"]["numba"] == numba.__version__
    fx.show_config()
    assert f"numba {numba.__version__}" in capsys.readouterr().out


NO_EXTENSION = """
import sys
sys.modules["fastxent._cython._cpu"] = None  # its import fails
import warnings; warnings.simplefilter("error")
import numpy as np, fastxent as fx
"""


def test_chosen_by_itself_without_the_extension():
    code = NO_EXTENSION + "fx.logsumexp(np.zeros(3)); print(fx.get_config()['backend'])"
    assert run(code) == "numba"


def test_a_numba_that_does_not_load_leaves_the_reference():
    code = NO_EXTENSION + textwrap.dedent(
        """
        sys.modules["numba"] = None
        import importlib.util
        find_spec = importlib.util.find_spec
        class Found: origin = "here"
        import fastxent._numba
        fastxent._numba.find_spec = lambda name: Found
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fx.logsumexp(np.zeros(3))
        assert "numba does not load" in str(caught[0].message), caught
        print(fx.get_config()["backend"])
        """
    )
    assert run(code) == "numpy"


# ---- compiling ---------------------------------------------------------------------------


def _compiled():
    jobs = kernels()
    compiled = (
        jobs.k.run_rows, jobs.k.run_tiles, jobs.k.run_labels, jobs.k.sweep,
        jobs._entries.run_entries, jobs._few.run_few, jobs._direct.direct,
    )  # fmt: skip
    return [len(kernel.signatures) for kernel in compiled]


def test_warmup_compiles_all_that_calls_need():
    """No call compiles anything after it, whatever its options, dtypes and layouts."""
    fx.warmup("float32", "float64")
    before = _compiled()
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        for shape in ((5, 7), (70, 300), (3000, 100)):
            x, y = cases.rows(dtype, *shape)
            u, w = np.ones(len(x), np.float16), np.ones(x.shape[1], np.int8)
            for threads in (1, 2):
                with fx.config(threads=threads):
                    for a in (x, np.asfortranarray(x), x[:, ::-1]):
                        fx.softmax(a)
                        fx.sparse_softmax_cross_entropy_with_grad(a, y)
                    fx.sparse_softmax_cross_entropy_with_grad(
                        x, y.astype(np.int32), sample_weight=u, class_weight=w, reduction="mean",
                        label_smoothing=0.1, z_loss=0.1, ignore_index=1,
                        where=np.ones(x.shape, bool),
                    )  # fmt: skip
                    fx.softmax_cross_entropy_with_grad(x, np.ones(x.shape, np.int8))
                    fx.sigmoid_cross_entropy_with_grad(x, np.ones(x.shape, np.int8))
                    fx.sigmoid(x)
    assert _compiled() == before


def test_warmup_names_a_bad_dtype():
    for bad in ("complex64", "nonsense", "float33"):
        with pytest.raises(TypeError, match="dtypes must be float16") as caught:
            fx.warmup(bad)
        assert repr(bad) in str(caught.value)


def test_small_calls_take_the_compiled_way_in():
    """As soon as their kernel is compiled, and only then: nobody waits for it there."""
    out = run(
        """
        import numpy as np, fastxent as fx
        from fastxent import _backends
        fx.set_config(backend="numba")
        front = _backends.choose("numba").front
        x = np.ones((2, 5), np.float32)
        print(front.normalize(None, "softmax", x, -1, None, False))
        fx.logsumexp(x)
        print(front.normalize(None, "softmax", x, -1, None, False) is not None)
        print(front.normalize(None, "softmax", x.astype(float), -1, None, False))
        """
    )
    assert out.splitlines() == ["None", "True", "None"]


def test_machine_code():
    """Registers of full width, fetching ahead, and stores past the cache."""
    from numba import types

    word, single = types.int64, types.float32
    scan, stream = kernels().k.block_sum, kernels().k.stream_copy
    scan.compile((word, word, single, types.boolean, word, word, word, word, word, single))
    stream.compile((word, word, word))
    code = "".join(text for f in (scan, stream) for text in f.inspect_asm().values())
    if "+avx512f," in _features():
        assert len(re.findall(r"vfn?m(?:add|sub)\d+ps.*%zmm", code)) > 20
        assert re.search(r"vmovntps\s+%zmm", code)
    elif "+avx2," in _features():
        assert len(re.findall(r"vfn?m(?:add|sub)\d+ps.*%ymm", code)) > 20
    if "+sse2," in _features():
        assert "prefetcht1" in code
        assert "movntps" in code
    if "+prfchw," in _features():
        assert "prefetchw" in code


def _features():
    from numba.core.registry import cpu_target

    return cpu_target.target_context.codegen().magic_tuple()[2] + ","


# ---- threads -----------------------------------------------------------------------------


@pytest.fixture
def on_numbas_threads(monkeypatch):
    """As where there is no compiled extension, and so no pool of its own."""
    monkeypatch.setattr(kernels(), "_pool", None)


ON_NUMBAS_THREADS = "from fastxent._numba import kernels; kernels()._pool = None"


def test_threads_are_capped_at_the_pool_and_given_back(on_numbas_threads):
    import numba

    x = rows(4000, 200)[0]
    before = numba.get_num_threads()
    with fx.config(threads=50 * numba.config.NUMBA_NUM_THREADS):
        fx.logsumexp(x)
    assert numba.get_num_threads() == before


def test_a_sweep_needs_no_other_pool_but_a_second_caller_has_one(on_numbas_threads):
    """While one thread sweeps, another's call runs on the other pool, with the same bits."""
    jobs = kernels()
    x = rows(4000, 200)[0]
    sweeps = []
    real = jobs.Job._sweep

    def sweep(self, *args):
        sweeps.append(real(self, *args))
        return sweeps[-1]

    jobs.Job._sweep = sweep
    try:
        with fx.config(threads=2):
            swept = fx.softmax(x, where=True)  # not a plain call: those have the compiled pool
            assert sweeps == [True]
            with jobs._sweeping:
                pooled = fx.softmax(x, where=True)
            assert sweeps == [True, False]
    finally:
        jobs.Job._sweep = real
    assert swept.tobytes() == pooled.tobytes()


@pytest.mark.parametrize("shape", [(4000, 200), (3, 1 << 21)], ids=["rows", "pieces"])
def test_all_threads_give_the_same_bits(shape, monkeypatch):
    """The compiled pool's, Numba's and one alone; row blocks and pieces of long rows."""
    jobs = kernels()
    x, y = rows(*shape)

    def results():
        loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, y)
        return loss.tobytes(), grad.tobytes(), fx.logsumexp(x).tobytes()

    with fx.config(threads=2):
        pooled = results()
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "_pool", None)
            swept = results()
    with fx.config(threads=1):
        assert results() == pooled == swept


LAYERS = f"""
{ON_NUMBAS_THREADS}
import threading, workers, numba
import fastxent as fx
failures = []
def work():
    try:
        for _ in range(5): assert workers.losses(backend="numba")[0] == before
    except BaseException as error: failures.append(error)
fx.set_config(backend="numba")
before = workers.losses(backend="numba")[0]
print(numba.threading_layer())
threads = [threading.Thread(target=work) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
assert not failures, failures
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_every_threading_layer_bears_many_callers(layer):
    """Numba's portable layer ends the process when two threads meet in it."""
    try:
        assert run(LAYERS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == layer
    except AssertionError as error:
        if "No threading layer could be loaded" not in str(error):
            raise
        pytest.skip(f"this Numba has no layer {layer}")


@posix
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_a_forked_child_keeps_off_numbas_threads(layer):
    """The OpenMP layer ends a forked child that enters it."""
    code = f"""
    {ON_NUMBAS_THREADS}
    import os, warnings, numba, workers
    warnings.simplefilter("ignore", DeprecationWarning)
    before = workers.losses(backend="numba")[0]
    numba.threading_layer()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if workers.losses(backend="numba")[0] == before else 3)
    print(os.waitpid(pid, 0)[1])
    """
    try:
        assert run(code, NUMBA_THREADING_LAYER=layer) == "0"
    except AssertionError as error:
        if "No threading layer could be loaded" not in str(error):
            raise
        pytest.skip(f"this Numba has no layer {layer}")


def test_one_thread_per_caller_starts_none():
    x = rows(4000, 200)[0]
    with fx.config(threads=1):
        before = threading.active_count()
        fx.softmax(x)
        assert threading.active_count() == before


# ---- the cache ---------------------------------------------------------------------------

# The smallest kernel; the cache is the same for all.
SMALL = """
import numpy as np
from fastxent._numba import kernels
found = kernels().labels(np.array([1, 2]), None, None, None, 3)
print(found == (True, 2.0, 2), sum(kernels().k.run_labels.stats.cache_hits.values()))
"""


def test_cache_directory_that_cannot_be_written(tmp_path):
    """Neither the import nor a call fails."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    out = run(SMALL, NUMBA_CACHE_DIR=str(blocked / "cache"))
    assert out.startswith("True")


def test_no_place_for_a_cache():
    patch = (
        "for c in (caching.CacheImpl, caching.CompileResultCacheImpl): c._locator_classes = []\n"
    )
    assert run("from numba.core import caching\n" + patch + SMALL) == "True 0"


def test_a_damaged_cache_is_compiled_again(tmp_path):
    assert run(SMALL, NUMBA_CACHE_DIR=str(tmp_path)) == "True 0"
    assert run(SMALL, NUMBA_CACHE_DIR=str(tmp_path)) == "True 1"
    files = [p for p in tmp_path.rglob("*.nb?") if "run_labels" in p.name]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    assert run(SMALL, NUMBA_CACHE_DIR=str(tmp_path)) == "True 0"


def test_no_stale_kernel_after_a_change_in_another_file(tmp_path):
    """Same times, same sizes, another word in a file that the kernels only import."""
    cache = str(tmp_path / "cache")
    copy = tmp_path / "fastxent"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    assert run(SMALL, path=str(tmp_path), NUMBA_CACHE_DIR=cache) == "True 0"
    assert run(SMALL, path=str(tmp_path), NUMBA_CACHE_DIR=cache) == "True 1"
    file = copy / "_numba" / "_vectors.py"
    times = file.stat()
    text = file.read_text()
    changed = text.replace("the same type here", "the same kind here")
    assert changed != text
    file.write_text(changed)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(SMALL, path=str(tmp_path), NUMBA_CACHE_DIR=cache).endswith(" 0")
