"""Safe everywhere: processes of every kind, other libraries' threads, Ctrl-C, errors, exits."""

import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
import weakref

import cases
import numpy as np
import pytest
import workers

import fastxent as fx
from fastxent._backends import words

HERE = os.path.dirname(__file__)
BEST = words()[0]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
#: The best of each backend.
each = pytest.mark.parametrize("word", sorted({w.split(":")[0]: w for w in words()[::-1]}.values()))


@functools.cache
def expected():
    return workers.losses(backend=BEST)[0]


def _close(value):
    return value == pytest.approx(expected(), rel=1e-6)


def run(code, *, timeout=60, **environment):
    """A fresh interpreter that imports the installed package and the tests' helpers."""
    code = f"import sys; sys.path.insert(0, {HERE!r})\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def fine(code, **options):
    done = run(code, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- processes -----------------------------------------------------------------------


@posix
@each
def test_fork_after_use(word):
    """The pool of the parent does not exist in the child, which must make its own."""
    out = fine(
        f"""
        import os, threading, warnings, workers
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads is the point
        before = workers.losses(backend={word!r})[0]
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                ok = workers.losses(backend={word!r})[0] == before
                tasks = "/proc/self/task"  # threads without Python too
                ok = ok and (not os.path.exists(tasks) or len(os.listdir(tasks)) > 1)
                pid = os.fork()  # and the child's child
                if pid == 0:
                    os._exit(0 if workers.losses(backend={word!r})[0] == before else 3)
                status = os.waitpid(pid, 0)[1]
                os._exit(0 if ok and status == 0 else 4)
            assert os.waitpid(pid, 0)[1] == 0
        assert workers.losses(backend={word!r})[0] == before
        print("done")
        """
    )
    assert out == "done"


@posix
def test_fork_while_calls_run():
    """Forking while other threads are inside calls: the child must not wait for their locks."""
    out = fine(
        """
        import os, threading, warnings, workers
        warnings.simplefilter("ignore", DeprecationWarning)
        before = workers.losses()[0]
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                workers.losses()
        threads = [threading.Thread(target=busy) for _ in range(3)]
        for t in threads: t.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if workers.losses()[0] == before else 3)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for t in threads: t.join()
        print("done")
        """
    )
    assert out == "done"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@each
def test_start_methods(method, word):
    out = fine(
        f"""
        import multiprocessing, warnings, workers
        warnings.simplefilter("ignore", DeprecationWarning)
        if __name__ == "__main__":
            before = workers.losses(backend={word!r})[0]
            context = multiprocessing.get_context({method!r})
            queue = context.Queue()
            processes = [
                context.Process(target=workers.then_queue, args=(queue, {word!r})) for _ in range(3)
            ]
            for p in processes: p.start()
            assert [queue.get(timeout=50) for _ in processes] == [before] * 3
            for p in processes:
                p.join(50)
                assert p.exitcode == 0, p.exitcode
            print("done")
        """
    )
    assert out == "done"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools_of_processes(method):
    out = fine(
        f"""
        import multiprocessing, os, warnings, workers
        warnings.simplefilter("ignore", DeprecationWarning)
        if __name__ == "__main__":
            before = workers.losses()[0]
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                got = pool.map(workers.losses, range(6), chunksize=1)
            assert [v for v, _ in got] == [before] * 6
            assert os.getpid() not in {{pid for _, pid in got}}
            print("done")
        """
    )
    assert out == "done"


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend):
    out = fine(
        f"""
        import warnings, joblib, workers
        warnings.simplefilter("ignore", DeprecationWarning)
        before = workers.losses()[0]
        got = joblib.Parallel(n_jobs=3, backend={backend!r})(
            joblib.delayed(workers.losses)(i) for i in range(6)
        )
        assert [v for v, _ in got] == [before] * 6
        print("done")
        """
    )
    assert out == "done"


@pytest.mark.parametrize("scheduler", ["threads", "processes", "sync"])
def test_dask(scheduler):
    out = fine(
        f"""
        import dask, numpy as np, workers
        import fastxent as fx
        if __name__ == "__main__":
            x, y = workers.problem()
            expected = fx.sparse_softmax_cross_entropy(x, y)
            pairs = [(x[i:i + 3000], y[i:i + 3000]) for i in range(0, 16_001, 3000)]
            parts = [dask.delayed(workers.rows)(*pair) for pair in pairs]
            got = np.concatenate(dask.compute(*parts, scheduler={scheduler!r}, num_workers=3))
            np.testing.assert_array_equal(got, expected)
            print("done")
        """
    )
    assert out == "done"


# ---- other libraries in one process ---------------------------------------------------


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_scikit_learn(first):
    """Its OpenMP and BLAS pools and ours in one process, in turn and from threads at once."""
    ours, theirs = "work()", "fit()"
    order = f"{ours}; {theirs}" if first == "ours" else f"{theirs}; {ours}"
    out = fine(
        f"""
        import threading, workers
        import numpy as np
        from sklearn.cluster import KMeans
        from sklearn.linear_model import LogisticRegression
        random = np.random.default_rng(0)
        a = random.standard_normal((3000, 20)); b = random.integers(0, 3, 3000)
        def fit():
            inertia = KMeans(5, n_init=1, random_state=0).fit(a).inertia_
            return inertia + LogisticRegression().fit(a, b).coef_.sum()
        def work():
            return workers.losses()[0]
        {order}
        before, inertia = work(), fit()
        failures = []
        def loop(f, value):
            for _ in range(4):
                if not np.isclose(f(), value, rtol=1e-6, atol=1e-6): failures.append(f)
        pairs = [(work, before), (fit, inertia)] * 2
        threads = [threading.Thread(target=loop, args=p) for p in pairs]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not failures
        print(before)
        """,
        timeout=120,
    )
    assert _close(float(out))


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_torch(first):
    pytest.importorskip("torch")
    imports = "import fastxent, torch" if first == "ours" else "import torch, fastxent"
    out = fine(
        f"""
        {imports}
        import threading, workers
        import numpy as np
        x, y = workers.problem()
        tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y)
        def theirs():
            loss = torch.nn.functional.cross_entropy(tx, ty, reduction="none")
            g, = torch.autograd.grad(loss.sum(), tx)
            return loss.detach().numpy(), g.numpy()
        def ours():
            return fastxent.sparse_softmax_cross_entropy_with_grad(x, y)
        {"ours(); theirs()" if first == "ours" else "theirs(); ours()"}
        failures = []
        def loop():
            for _ in range(10):
                for a, b in zip(ours(), theirs()):
                    if not np.allclose(a, b, rtol=1e-5, atol=1e-6): failures.append(1)
        threads = [threading.Thread(target=loop) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not failures
        # The memory of a tensor, in place.
        z = tx.detach().clone()
        fastxent.sparse_softmax_cross_entropy_with_grad(z.numpy(), y, grad_out=z.numpy())
        assert np.allclose(z.numpy(), theirs()[1], rtol=1e-5, atol=1e-6)
        print("done")
        """,
        timeout=180,
    )
    assert out == "done"


# ---- Ctrl-C ---------------------------------------------------------------------------

LOSS = "fx.sparse_softmax_cross_entropy"
ROWS = "np.broadcast_to(np.float32([[1, 2] * 2000]), (30_000_000, 4000))"
PLANES = "np.broadcast_to(np.float32([[[1], [2]]]), (30_000_000, 2, 4000))"
SWAPPED = "np.broadcast_to(np.arange(4000, dtype='>f4'), (30_000_000, 4000))"

#: Views of a few numbers, so that the work is long and the memory small.
LONG_CALLS = {
    "rows": f"{LOSS}({ROWS}, np.broadcast_to(1, 30_000_000), reduction='sum')",
    "logsumexp": f"fx.logsumexp({ROWS})",
    "inner_axis": f"{LOSS}({PLANES}, np.broadcast_to(1, (30_000_000, 4000)), axis=1,"
    " reduction='sum')",
    "one_row": "fx.logsumexp(np.broadcast_to(np.float32(1), (1, 2**38)))",
    "labels": f"{LOSS}(np.broadcast_to(np.float32([1, 2]), (2**38, 2)),"
    " np.broadcast_to(np.int8(0), 2**38), reduction='sum')",
    "blocks_copied": f"fx.softmax_cross_entropy({SWAPPED},"
    " np.broadcast_to(np.int8(1), (30_000_000, 4000)), reduction='mean')",
}

INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import fastxent as fx
sent = []
def send():
    time.sleep(0.7)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
with fx.config(backend={word!r}, threads={threads}):
    fx.warmup()
    threading.Thread(target=send, daemon=True).start()
    try:
        {call}
    except KeyboardInterrupt:
        print(time.monotonic() - sent[0])
    # The library is usable afterwards.
    assert np.allclose(fx.logsumexp(np.zeros((5000, 50))), np.log(50))
print("done")
"""


@posix
@each
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("call", LONG_CALLS)
def test_ctrl_c_ends_a_long_call(call, threads, word):
    out = fine(INTERRUPT.format(word=word, threads=threads, call=LONG_CALLS[call]), timeout=30)
    seconds, done = out.split()
    assert float(seconds) < 0.5
    assert done == "done"


@posix
@pytest.mark.skipif(not BEST.startswith("cython"), reason="of the compiled kernels' threads")
def test_a_signal_handler_that_forks():
    """The child has the handler's call behind it and no helper: an error, no half result."""
    out = fine(
        f"""
        import os, signal, warnings
        import numpy as np
        import fastxent as fx
        warnings.simplefilter("ignore", DeprecationWarning)
        children = []
        def handler(*_):
            children.append(os.fork())
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        x = np.broadcast_to(np.float32([[1, 2] * 2000]), (2_000_000, 4000))
        with fx.config(backend={BEST!r}, threads=2):
            try:
                total = fx.sparse_softmax_cross_entropy(
                    x, np.broadcast_to(1, 2_000_000), reduction="mean")
            except RuntimeError as error:
                os._exit(7 if "forked" in str(error) else 8)
            if children == [0]:
                os._exit(9)
        assert abs(total - np.log(1000 * 2 * (1 + np.exp(-1)))) < 1e-3, total
        print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        """
    )
    assert out == "7"


@posix
def test_ctrl_c_in_another_process_group():
    """As a terminal sends it: the process ends with the status of SIGINT."""
    code = "import numpy as np, fastxent as fx; print('go', flush=True); " + LONG_CALLS["rows"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"go\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert b"KeyboardInterrupt" in err
        assert process.returncode == -signal.SIGINT
    finally:
        process.kill()


# ---- arrays are released ---------------------------------------------------------------


def _arrays():
    x = np.random.default_rng(0).standard_normal((16_001, 50)).astype(np.float32)
    return (
        x,
        np.zeros(16_001, np.int64),
        np.empty_like(x),
        np.empty(16_001, np.float32),
        np.ones(16_001),
    )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("outcome", ["returns", "bad_label", "bad_out", "bad_option"])
def test_arrays_are_released(backend, threads, outcome):
    """Nothing of a finished call keeps its arrays alive: no cache, no worker, no cycle."""
    x, y, grad, out, u = _arrays()
    if outcome == "bad_label":
        y[-1] = 99
    if outcome == "bad_out":
        out = np.empty(7, np.float32)
    given = {"grad_out": grad, "out": out, "sample_weight": u}
    if outcome == "bad_option":
        given["reduction"] = "nonsense"
    references = [weakref.ref(a) for a in (x, y, grad, out, u)]
    gc.collect()
    gc.disable()
    try:
        with fx.config(threads=threads):
            if outcome == "returns":
                fx.sparse_softmax_cross_entropy_with_grad(x, y, **given)
            else:
                try:
                    fx.sparse_softmax_cross_entropy_with_grad(x, y, **given)
                except (IndexError, ValueError):
                    pass
                else:
                    raise AssertionError("no error")
        del x, y, grad, out, u, given
        # A helper thread may still be on its way out of the finished call.
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(r() is not None for r in references):
            time.sleep(0.001)
        assert [r() is None for r in references] == [True] * 5
    finally:
        gc.enable()


def test_no_leak(loss, backend):
    """Reference counts and traced memory stand still over many calls and many errors."""
    x, y = (np.array(a[:8]) for a in cases.rows("float32", 48, 10, loss))
    bad = y[:-1]
    options = cases.only(
        loss,
        class_weight=np.ones(10),
        pos_weight=np.ones(10),
        sample_weight=np.ones(cases.losses_shape(loss, x)),
        where=np.ones(10, bool),
    )

    def calls(n):
        for _ in range(n):
            cases.with_grad(loss)(x, y, **options)
            cases.function(loss)(x, y, reduction="mean")
            fx.softmax(x)
            with pytest.raises(ValueError):  # noqa: PT011
                cases.function(loss)(x, bad)

    calls(20)
    tracked = (x, y, *options.values())
    counts = [sys.getrefcount(a) for a in tracked]
    gc.collect()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    calls(100)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert [sys.getrefcount(a) for a in tracked] == counts
    assert grown < 20_000


# ---- homes, exits ----------------------------------------------------------------------


@posix
@pytest.mark.parametrize("home", ["read_only", "missing"])
def test_read_only_home(tmp_path, home):
    place = tmp_path / "home"
    if home == "read_only":
        place.mkdir(mode=0o555)
    before = sorted(tmp_path.rglob("*"))
    variables = {k: str(place) for k in ("HOME", "XDG_CACHE_HOME", "TMPDIR", "XDG_CONFIG_HOME")}
    out = fine("import workers; print(workers.losses()[0])", **variables)
    assert _close(float(out))
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


@pytest.mark.parametrize(
    "code",
    [
        "import atexit, workers\nworkers.losses()\n"
        "atexit.register(lambda: print(workers.losses()[0]))",
        "import atexit, workers; atexit.register(lambda: print(workers.losses()[0]))",
        # Used before: at this point Python itself can import nothing any more.
        "import workers\nworkers.losses()\n"
        "class A:\n    def __del__(self): print(workers.losses()[0])\na = A()",
        "import threading, time, workers\n"
        "def late():\n    time.sleep(0.3)\n    print(workers.losses()[0])\n"
        "threading.Thread(target=late).start()",
    ],
    ids=["atexit", "atexit_first_use", "finalizer", "thread_that_outlives_main"],
)
def test_use_at_interpreter_exit(code):
    """No pool may be made any more by then: the call runs serially, or on what is there."""
    out = fine(code)
    assert _close(float(out))


def test_exit_while_a_daemon_thread_computes():
    fine(
        """
        import threading, time, workers
        def forever():
            while True: workers.losses()
        for _ in range(3): threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.5)
        """
    )


def test_calls_from_inside_a_pool_of_threads_of_any_size():
    """More callers than workers, each call itself parallel: no call waits for another's worker."""
    out = fine(
        """
        from concurrent.futures import ThreadPoolExecutor
        import workers
        with ThreadPoolExecutor(32) as pool:
            got = {v for v, _ in pool.map(workers.losses, range(128))}
        assert len(got) == 1
        print(got.pop())
        """
    )
    assert _close(float(out))
