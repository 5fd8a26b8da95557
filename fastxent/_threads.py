"""How many threads, and the pool that runs row blocks on them.

One process-wide pool, made when first needed and made anew in a forked child: a used
pool's threads do not survive a fork, and waiting for them would hang.  The calling
thread works too, so a call never waits for a helper that has not started; helpers that
come too late find no work left.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

#: Room for the exponentials of a row (or of a few), so that its gradient need not compute
#: them again: half a megabyte of floats, which stays in the second-level cache.
ROOM_BYTES = (1 << 19) + (1 << 14)
_rooms = threading.local()


def room() -> Any:
    """Return the calling thread's room."""
    try:
        return _rooms.room
    except AttributeError:
        _rooms.room = np.empty(ROOM_BYTES, np.uint8)
        return _rooms.room


_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()


def _reset() -> None:
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


@cache
def default_threads() -> int:
    """``FASTXENT_NUM_THREADS``, ``OMP_NUM_THREADS``, or the processors this process may use."""
    own = os.environ.get("FASTXENT_NUM_THREADS", "")
    if own:
        if not own.strip().isdecimal() or int(own) < 1:
            raise ValueError(f"FASTXENT_NUM_THREADS must be an integer >= 1; got {own!r}")
        return int(own)
    # OpenMP allows a list, one number per nesting level; the first is the outer one.
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if omp.isdecimal() and int(omp) >= 1:
        return int(omp)
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    quota = _cgroup_quota()
    return processors if quota is None else max(1, min(processors, quota))


def _cgroup_quota() -> int | None:
    """Processors that the control group grants, rounded up; None if unlimited or unknown."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return -(-int(quota) // int(period))


def _submit(work: Callable[[], None], helpers: int) -> list[Future[None]]:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < helpers:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(helpers, "fastxent"), helpers
        try:
            return [_pool.submit(work) for _ in range(helpers)]
        except RuntimeError:  # the interpreter is shutting down: no new threads
            return []


def run(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``work(k)`` for every ``k < count``, on up to ``threads`` threads.

    Work is handed out piece by piece: with another process on one core, equal shares
    would wait for the slower thread.  The first error, Ctrl-C included, stops the rest
    and is raised when no thread works any more.
    """
    if threads <= 1 or count <= 1:
        for k in range(count):
            work(k)
        return
    numbers = itertools.count()
    stopped = False

    def loop() -> None:
        nonlocal stopped
        try:
            while not stopped and (k := next(numbers)) < count:
                work(k)
        except BaseException:
            stopped = True
            raise

    helpers = _submit(loop, min(threads, count) - 1)
    try:
        loop()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.exception()  # wait: the arrays are in use until then
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
