"""The limits of memory: streaming loops in C over the arrays of a job.

Compiled when they are asked for; the best of several chunkings, with and without
prefetch, with ordinary and with streaming stores, is the limit.
"""

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .contenders import Job


class Entry(NamedTuple):
    """One contender of a row.  ``prepare`` runs before each call, outside the clock."""

    name: str
    call: Any
    prepare: Any = None
    context: Any = contextlib.nullcontext
    passes: int = 1  # the call does its work that many times over


LIMITS_C = r"""
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
typedef uint64_t vec __attribute__((vector_size(64), aligned(64), may_alias));

/* Chunks first, first + step, ... of `chunk` bytes; addresses are multiples of 64. */
void limit_read(const char *x, size_t size, size_t chunk, size_t first, size_t step,
                size_t ahead, size_t passes)
{
    vec a = {0}, b = {0}, c = {0}, d = {0};
    for (; passes; passes--)
        for (size_t lo = first * chunk; lo < size; lo += step * chunk) {
            size_t hi = lo + chunk < size ? lo + chunk : size;
            const char *p = x + lo, *end = x + hi;
            if (ahead)
                for (; p + 256 <= end; p += 256) {
                    __builtin_prefetch(p + ahead), __builtin_prefetch(p + ahead + 64);
                    __builtin_prefetch(p + ahead + 128), __builtin_prefetch(p + ahead + 192);
                    a += *(const vec *)p, b += *(const vec *)(p + 64);
                    c += *(const vec *)(p + 128), d += *(const vec *)(p + 192);
                }
            else
                for (; p + 256 <= end; p += 256) {
                    a += *(const vec *)p, b += *(const vec *)(p + 64);
                    c += *(const vec *)(p + 128), d += *(const vec *)(p + 192);
                }
        }
    a += b + c + d;
    __asm__ volatile("" : : "r"(&a) : "memory");
}

static void copy_streaming(char *to, const char *from, size_t size)
{
#if defined(__AVX512F__)
    for (size_t i = 0; i + 64 <= size; i += 64)
        _mm512_stream_si512((__m512i *)(to + i), _mm512_load_si512((const void *)(from + i)));
#elif defined(__AVX__)
    for (size_t i = 0; i + 32 <= size; i += 32)
        _mm256_stream_si256((__m256i *)(to + i), _mm256_load_si256((const __m256i *)(from + i)));
#elif defined(__SSE2__)
    for (size_t i = 0; i + 16 <= size; i += 16)
        _mm_stream_si128((__m128i *)(to + i), _mm_load_si128((const __m128i *)(from + i)));
#else
    memcpy(to, from, size);
#endif
}

static void copy_ordinary(char *to, const char *from, size_t size)
{
    for (size_t i = 0; i + 64 <= size; i += 64) {
        *(vec *)(to + i) = *(const vec *)(from + i);
        __asm__ volatile("" : : : "memory"); /* or gcc makes it a memcpy, which may stream */
    }
}

void limit_copy(char *to, const char *from, size_t size, size_t chunk, size_t first, size_t step,
                int streaming, size_t passes)
{
    for (; passes; passes--)
        for (size_t lo = first * chunk; lo < size; lo += step * chunk) {
            size_t n = lo + chunk < size ? chunk : size - lo;
            if (streaming)
                copy_streaming(to + lo, from + lo, n);
            else
                copy_ordinary(to + lo, from + lo, n);
        }
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
"""


@functools.cache
def limits_library() -> Any:
    """The loops above, compiled for this machine; None without a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    folder = tempfile.mkdtemp(prefix="limits-")
    try:
        source, library = Path(folder, "limits.c"), Path(folder, "limits.so")
        source.write_text(LIMITS_C)
        command = [compiler, "-O3", "-march=native", "-shared", "-fPIC"]
        if "clang" not in compiler:
            command.append("-mprefer-vector-width=512" if _is_x86() else "-O3")
        subprocess.run([*command, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    finally:
        shutil.rmtree(folder)
    size = ctypes.c_size_t
    loaded.limit_read.argtypes = [ctypes.c_void_p, *[size] * 6]
    loaded.limit_copy.argtypes = [ctypes.c_void_p] * 2 + [*[size] * 4, ctypes.c_int, size]
    loaded.limit_read.restype = loaded.limit_copy.restype = None
    return loaded


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def streamed(job: Job) -> list[Any]:
    """The arrays whose traffic counts: logits, and labels of their shape."""
    return [a for a in (job.x, job.labels) if a is not None and a.shape == job.x.shape]


def limit_entries(job: Job, kind: str) -> list[Entry]:
    """The variants of a limit ("read" or "copy"), for the arrays of this job."""
    library = limits_library()
    if library is None:
        return []
    threads = job.threads
    pool = ThreadPoolExecutor(threads)
    arrays = streamed(job)
    total = sum(a.nbytes for a in arrays)
    # One call moves at least 64 MB, or the hand-over to the threads would be timed.
    passes = max(1, (64 << 20) // total)
    spans = []
    for array in arrays:
        head = -array.ctypes.data % 64
        spans.append((array.ctypes.data + head, (array.nbytes - head) // 64 * 64))

    def on_threads(function):
        jobs = [pool.submit(function, first) for first in range(threads - 1)]
        function(threads - 1)
        for one in jobs:
            one.result()

    def chunks(size):
        halves = -(-size // threads // 64) * 64
        return sorted({min(c, halves) for c in (64 << 10, 256 << 10, 1 << 20, halves)})

    found = []
    if kind == "read":
        for chunk in chunks(max(size for _, size in spans)):
            for ahead in (0, 1024, 4096):

                def part(first, chunk=chunk, ahead=ahead):
                    for address, size in spans:
                        library.limit_read(address, size, chunk, first, threads, ahead, passes)

                call = functools.partial(on_threads, part)
                name = f"read, chunks of {chunk >> 10} kB, prefetch {ahead}"
                found.append(Entry(name, call, passes=passes))
    else:
        target = np.zeros(job.x.nbytes + 64, np.uint8)
        to = target.ctypes.data + -target.ctypes.data % 64
        address, size = spans[0]
        for chunk in chunks(size):
            for streaming in (0, 1):

                def part(first, chunk=chunk, streaming=streaming, keep=target):
                    library.limit_copy(to, address, size, chunk, first, threads, streaming, passes)

                call = functools.partial(on_threads, part)
                name = f"copy, chunks of {chunk >> 10} kB, streaming {streaming}"
                found.append(Entry(name, call, passes=passes))
    return found
