"""Primitives of the kernels for Numba's simulator, where each GPU thread is a host thread.

An address must lie in an array of the call, and a store in one that it may write. Lanes
that meet wait for each other; one that does not come fails the call.
"""

import ctypes
import threading

import numpy as np

#: (first address, its end, writable) of the arrays that a launch may touch.
memory: list[tuple[int, int, bool]] = []

WARP = 4
_PATIENCE = 100.0  # seconds that a lane waits for the others

_KINDS = {
    np.dtype(t): c
    for t, c in {
        np.int8: ctypes.c_int8, np.uint8: ctypes.c_uint8, np.int16: ctypes.c_int16,
        np.uint16: ctypes.c_uint16, np.int32: ctypes.c_int32, np.uint32: ctypes.c_uint32,
        np.int64: ctypes.c_int64, np.uint64: ctypes.c_uint64, np.float32: ctypes.c_float,
        np.float64: ctypes.c_double,
    }.items()
}  # fmt: skip


def _check(address, size, align, write=False):
    if address % align:
        raise IndexError(f"address {address:#x} is not a multiple of {align}")
    for first, end, writable in memory:
        if first <= address and address + size <= end and (writable or not write):
            return
    raise IndexError(f"{'store to' if write else 'load from'} {address:#x} outside the arrays")


def get(address, like):
    dtype = like.dtype
    _check(address, dtype.itemsize, dtype.itemsize)
    return dtype.type(_KINDS[dtype].from_address(int(address)).value)


def _several(address, like, count):
    size = like.dtype.itemsize
    _check(address, count * size, min(16, count * size))
    return tuple(get(address + k * size, like) for k in range(count))


def get2(address, like):
    return _several(address, like, 2)


def get4(address, like):
    return _several(address, like, 4)


def get8(address):
    return _several(address, np.uint16(0), 8)


def put(address, value):
    dtype = value.dtype
    _check(address, dtype.itemsize, dtype.itemsize, True)
    _KINDS[dtype].from_address(int(address)).value = value.item()


def _put_several(address, *values):
    size = values[0].dtype.itemsize
    _check(address, len(values) * size, min(16, len(values) * size), True)
    for k, v in enumerate(values):
        put(address + k * size, v)


put2 = put4 = put8 = _put_several


_WORDS = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.int64}


def word(v):
    return np.int64(v.view(_WORDS[v.dtype]))


def raised(w, like):
    bits = np.uint32(int(w) & 0xFFFFFFFF) if like.dtype == np.float32 else np.int64(w)
    return bits.view(like.dtype)


def scaled(b):
    if b.dtype == np.float32:
        return np.uint32((int(b.view(np.uint32)) << 23) & 0xFFFFFFFF).view(np.float32)
    return np.uint64((int(b.view(np.uint64)) << 52) & 0xFFFFFFFFFFFFFFFF).view(np.float64)


def fma(a, b, c):
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    return a.dtype.type(wide(a) * wide(b) + wide(c))


def larger(a, b):
    return b if b > a or a != a else a


def widen_half(h):
    return np.float32(h.view(np.float16))


def narrow_half(v):
    return np.float16(v).view(np.uint16)


def widen_bfloat(h):
    return np.uint32(int(h) << 16).view(np.float32)


def narrow_bfloat(v):
    bits = int(v.view(np.uint32))
    if v != v:
        return np.uint16(bits >> 16 | 0x40)
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def quiet():
    """NumPy raises no floating-point errors in this thread."""
    np.seterr(all="ignore")


def _meet():
    thread = threading.current_thread()
    manager, warp = thread._manager, thread.thread_id // WARP
    with _lock:
        meetings = manager.__dict__.setdefault("_meetings", {})
        if warp not in meetings:
            size = int(np.prod(manager._block_dim))
            lanes = min(WARP, size - warp * WARP)
            meetings[warp] = threading.Barrier(lanes, timeout=_PATIENCE), {}
    return thread, *meetings[warp]


_lock = threading.Lock()


def xor(v, k):
    thread, barrier, slots = _meet()
    thread._turn = turn = 1 - getattr(thread, "_turn", 0)  # nobody is two meetings ahead
    lane = thread.thread_id % WARP
    slots[turn, lane] = v
    barrier.wait()
    return slots[turn, lane ^ k]


def warp_sync():
    _meet()[1].wait()
