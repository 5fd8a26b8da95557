"""The threads that run compiled kernels: no Python in them, and awake within microseconds.

A sweep (all blocks of a call) is handed out block by block to the calling thread and to
helpers that take a seat while there is one.  A helper that comes too late finds none: a
call never waits for one that has not started.  A helper looks for the next sweep for a
short while before it sleeps, for waking it costs as long as many a block takes.

There is one sweep at a time.  A second caller is told so and works by itself, or on the
pool of `_threads`: that machine has its threads at work already.

Helpers never hold the GIL and touch nothing of Python, so they need not be ended when the
interpreter is, and a fork may happen at any time: the child starts without helpers.
"""

import os

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "_pool.h" nogil:
    ctypedef int64_t fx_atomic
    ctypedef void (*fx_piece)(void*, int64_t, char*, Py_ssize_t) noexcept nogil
    int64_t fx_load(fx_atomic*)
    int64_t fx_swap(fx_atomic*, int64_t)
    int64_t fx_add(fx_atomic*, int64_t)
    bint fx_replace(fx_atomic*, int64_t, int64_t)
    void fx_pause()
    void fx_yield()
    uint64_t fx_now()
    const char* FX_POOL

cdef extern from "Python.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    int PyThread_acquire_lock(PyThread_type_lock, int)
    void PyThread_release_lock(PyThread_type_lock)
    unsigned long PyThread_start_new_thread(void (*)(void*) noexcept nogil, void*)

cdef enum:
    MOST = 256              # helpers
    SPIN = 50_000           # nanoseconds that a helper looks for work, and a call for its end
    LOOK = 20_000_000       # nanoseconds between looks for Ctrl-C

cdef enum:
    DONE, BUSY

cdef struct Helper:
    PyThread_type_lock wake     # held, but while somebody wakes the helper
    fx_atomic asleep

cdef Helper helpers[MOST]
cdef int hired = 0
cdef int generation = 0         # of processes: a child's is one more

# The sweep.  Written while nobody has a seat.
cdef fx_piece piece
cdef void* context
cdef int64_t count
cdef Py_ssize_t room_bytes
cdef fx_atomic busy, seats, active, stopped, at


cdef void work(char* room, Py_ssize_t size) noexcept nogil:
    cdef int64_t k
    while not fx_load(&stopped):
        k = fx_add(&at, 1)
        if k >= count:
            break
        piece(context, k, room, size)


cdef bint take_seat() noexcept nogil:
    cdef int64_t left = fx_load(&seats)
    while left > 0:
        if fx_replace(&seats, left, left - 1):
            return True
        left = fx_load(&seats)
    return False


cdef bint seat_in_sight() noexcept nogil:
    """Look for a free seat for a while."""
    cdef uint64_t start = fx_now()
    cdef int _k
    while fx_now() - start < <uint64_t>SPIN:
        for _k in range(20):
            if fx_load(&seats) > 0:
                return True
            fx_pause()
    return False


cdef void help(void* place) noexcept nogil:
    """What a helper does all its life."""
    cdef Helper* me = <Helper*>place
    cdef char* room = NULL
    cdef Py_ssize_t size = 0
    while True:
        if not seat_in_sight():
            fx_swap(&me.asleep, 1)
            # A seat may have come meanwhile; whoever takes the flag back decides.
            if fx_load(&seats) <= 0 or not fx_swap(&me.asleep, 0):
                PyThread_acquire_lock(me.wake, 1)
        fx_add(&active, 1)
        if take_seat():
            if size < room_bytes:
                free(room)
                room = <char*>malloc(room_bytes)
                size = room_bytes if room != NULL else 0
            work(room, size)
        fx_add(&active, -1)


cdef int hire(int wanted) noexcept nogil:
    """Have that many helpers, or as many as the system gives."""
    global hired
    cdef Helper* new
    while hired < min(wanted, <int>MOST):
        new = &helpers[hired]
        new.wake = PyThread_allocate_lock()
        if new.wake == NULL:
            break
        PyThread_acquire_lock(new.wake, 1)
        fx_swap(&new.asleep, 0)
        if PyThread_start_new_thread(help, new) == <unsigned long>-1:
            break
        hired += 1
    return min(wanted, hired)


cdef int do_all(char* room, Py_ssize_t size) except -1 nogil:
    """Work like a helper, but look up for Ctrl-C now and then."""
    cdef uint64_t last = fx_now()
    cdef int64_t k
    while True:
        k = fx_add(&at, 1)
        if k >= count:
            return 0
        piece(context, k, room, size)
        if fx_now() - last >= <uint64_t>LOOK:
            with gil:
                PyErr_CheckSignals()
            last = fx_now()


cdef int run(fx_piece f, void* with_context, int64_t pieces, int threads, char* room,
             Py_ssize_t size) except -1 nogil:
    global piece, context, count, room_bytes
    cdef int born = generation, k, wanted
    if fx_swap(&busy, 1):
        return BUSY
    piece, context, count, room_bytes = f, with_context, pieces, size
    fx_swap(&at, 0)
    fx_swap(&stopped, 0)
    wanted = hire(<int>min(<int64_t>threads, pieces) - 1)
    fx_swap(&seats, wanted)
    for k in range(wanted):
        if fx_swap(&helpers[k].asleep, 0):
            PyThread_release_lock(helpers[k].wake)
    try:
        do_all(room, size)
    finally:
        if generation == born:
            leave()
        else:
            with gil:
                raise RuntimeError("a signal handler forked during a call: the child has no result")
    return DONE


cdef void leave() noexcept nogil:
    """Take the seats away and wait for those who had one: the arrays are in use until then."""
    cdef uint64_t start = fx_now()
    fx_swap(&stopped, 1)
    fx_swap(&seats, 0)
    while fx_load(&active) > 0:
        if fx_now() - start < <uint64_t>SPIN:
            fx_pause()
        else:
            fx_yield()
    fx_swap(&busy, 0)


def reset():
    """For a forked child, in which no helper exists."""
    global hired, generation
    hired = 0
    generation += 1
    fx_swap(&busy, 0)
    fx_swap(&seats, 0)
    fx_swap(&active, 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)


def sweep(uintptr_t f, uintptr_t with_context, int64_t pieces, int threads, room):
    """Run kernels that Cython does not know: a `fx_piece` and its context, by their addresses.

    Tell whether the pool did; it may have other work.
    """
    cdef Py_buffer b
    cdef int state
    b.buf = NULL
    b.len = 0
    if room is not None:
        PyObject_GetBuffer(room, &b, PyBUF_WRITABLE)
    try:
        with nogil:
            state = run(<fx_piece>f, <void*>with_context, pieces, threads, <char*>b.buf, b.len)
    finally:
        if room is not None:
            PyBuffer_Release(&b)
    return state == DONE


RUN = PyCapsule_New(<void*>&run, FX_POOL, NULL)
