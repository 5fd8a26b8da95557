"""Calls from many Python threads; settings of contexts, threads and tasks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import cases
import data
import numpy as np
import pytest

import fastxent as fx
from fastxent._backends import words
from fastxent._spec import SPECS


def _problems(name):
    for rows, classes in ((3, 5), (100, 37), (16_001, 40)):
        x = data.rng(rows).standard_normal((rows, classes)).astype(np.float32)
        if name == "binary_cross_entropy":
            x = 1 / (1 + np.exp(x))
        yield x, cases.labels_for(name, x)


def _call(name, x, y):
    return cases.with_grad(name)(x, y) if SPECS[name].is_loss else (cases.function(name)(x),)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_python_threads_at_once(name, backend, threads):
    problems = list(_problems(name))
    expected = [_call(name, x, y) for x, y in problems]
    failures = []
    start = threading.Barrier(8)

    def work(k):
        start.wait()
        with fx.config(backend=backend, threads=threads):
            for i in range(6):
                j = (i + k) % len(problems)
                got = _call(name, *problems[j])
                for a, b in zip(got, expected[j], strict=True):
                    if a.tobytes() != b.tobytes():
                        failures.append((k, i))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(120)
    assert not any(w.is_alive() for w in workers), "hangs"
    assert not failures


def test_errors_in_many_threads(indexed_loss, backend):
    """A bad label in one thread's call disturbs no other."""
    x = np.full((16_000, 50), -np.log(50), np.float32)

    def work(k):
        y = np.zeros(16_000, np.int64)
        if k % 2:
            y[-1] = 50
            with pytest.raises(IndexError), fx.config(backend=backend, threads=3):
                cases.function(indexed_loss)(x, y)
            return 0
        with fx.config(backend=backend, threads=3):
            return cases.function(indexed_loss)(x, y).sum()

    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(work, range(40)))
    np.testing.assert_allclose(sums[::2], 16_000 * np.log(50), rtol=1e-4)


def test_a_new_thread_starts_from_the_process_default():
    default = fx.get_config()["threads"]
    seen = []
    with fx.config(threads=default + 3):
        t = threading.Thread(target=lambda: seen.append(fx.get_config()["threads"]))
        t.start()
        t.join()
        assert fx.get_config()["threads"] == default + 3
    assert seen == [default]


def test_set_config_reaches_new_threads():
    default = fx.get_config()["threads"]
    fx.set_config(threads=default + 2)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(fx.get_config).result()["threads"] == default + 2
    finally:
        fx.set_config(threads=default)


def test_settings_of_tasks_do_not_meet():
    async def task(n, barrier):
        with fx.config(threads=n, backend=words()[-1]):
            await barrier.wait()
            assert fx.get_config()["threads"] == n
            await barrier.wait()
            return fx.get_config()["backend"]

    async def main():
        barrier = asyncio.Barrier(3)
        return await asyncio.gather(*(task(n, barrier) for n in (1, 2, 9)))

    before = fx.get_config()["backend"]
    assert asyncio.run(main()) == [words()[-1].split(":")[0]] * 3
    assert fx.get_config()["backend"] == before


def test_backend_of_a_thread_is_its_own():
    """Two threads in two backends at the same time get each backend's own bits."""
    x = data.logits(64, 37, "float32")
    expected = {}
    for word in words():
        with fx.config(backend=word):
            expected[word] = fx.softmax(x).tobytes()
    barrier = threading.Barrier(len(words()))

    def work(word):
        with fx.config(backend=word):
            barrier.wait()
            return all(fx.softmax(x).tobytes() == expected[word] for _ in range(50))

    with ThreadPoolExecutor(len(words())) as pool:
        assert all(pool.map(work, words()))


def test_thread_counts_in_any_order():
    """Helpers of an earlier call may wake in a later one, with fewer seats or more blocks."""
    x = data.rng(5).standard_normal((4000, 100)).astype(np.float32)
    expected = fx.logsumexp(x).tobytes()
    for threads in (1, 40, 2, 300, 3, 2, 17) * 10:
        with fx.config(threads=threads):
            assert fx.logsumexp(x).tobytes() == expected
