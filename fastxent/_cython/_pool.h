/* What the pool needs of the machine: atomic integers (sequentially consistent), a pause, a
 * clock.  And its one function, as the kernels call it. */
#ifndef FASTXENT_POOL_H
#define FASTXENT_POOL_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef void (*fx_piece)(void *context, int64_t k, char *room, ptrdiff_t room_bytes);

/* Calls piece(context, k, ...) for every k < count on at most `threads` threads, the caller
 * among them.  0: done; 1: the pool has other work now; -1: interrupted, a Python error is set. */
typedef int (*fx_pool_run)(fx_piece, void *context, int64_t count, int threads, char *room,
                           ptrdiff_t room_bytes);

#define FX_POOL "fastxent.pool"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#include <windows.h>
typedef volatile __int64 fx_atomic;
static inline int64_t fx_load(fx_atomic *a) { return _InterlockedOr64(a, 0); }
static inline int64_t fx_swap(fx_atomic *a, int64_t v) { return _InterlockedExchange64(a, v); }
static inline int64_t fx_add(fx_atomic *a, int64_t v) { return _InterlockedExchangeAdd64(a, v); }
static inline int fx_replace(fx_atomic *a, int64_t was, int64_t v) {
    return _InterlockedCompareExchange64(a, v, was) == was;
}
static inline void fx_pause(void) { YieldProcessor(); }
static inline void fx_yield(void) { SwitchToThread(); }
#else
#include <sched.h>
typedef int64_t fx_atomic;
static inline int64_t fx_load(fx_atomic *a) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
static inline int64_t fx_swap(fx_atomic *a, int64_t v) {
    return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST);
}
static inline int64_t fx_add(fx_atomic *a, int64_t v) {
    return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);
}
static inline int fx_replace(fx_atomic *a, int64_t was, int64_t v) {
    return __atomic_compare_exchange_n(a, &was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline void fx_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
static inline void fx_yield(void) { sched_yield(); }
#endif

/* Nanoseconds; it may jump, which only makes a wait shorter or longer once. */
static inline uint64_t fx_now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
