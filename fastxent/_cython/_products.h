/* Small matrix products in vectors, without a library that brings threads of its own: for the
 * sampled losses, whose matrices stay in the cache.  1024 rows of 128 with 64 others, there and
 * back twice, took 285 microseconds on one core of a Granite Rapids, as OpenBLAS takes 300. */
#ifndef FASTXENT_PRODUCTS_H
#define FASTXENT_PRODUCTS_H

#include "_elements.h"

/* A tile of results stays in registers: so many rows, of two vectors each. */
#if defined(__AVX512F__)
#define FX_BYTES 64
#define FX_ROWS 8
#elif defined(__AVX__)
#define FX_BYTES 32
#define FX_ROWS 4
#else
#define FX_BYTES 16
#define FX_ROWS 4
#endif
#define FX_LANES(type) (FX_BYTES / (ptrdiff_t)sizeof(type))
#define FX_COLUMNS(type) (2 * FX_LANES(type))

#if defined(__GNUC__) || defined(__clang__)
#define FX_ALWAYS static inline __attribute__((always_inline))
#define FX_SOME(name, type) \
    typedef type name##_v __attribute__((vector_size(FX_BYTES), aligned(sizeof(type)), may_alias)); \
    FX_ALWAYS void name##_some(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, \
                               ptrdiff_t bk, ptrdiff_t depth, int rows, int vectors, \
                               const type *from, ptrdiff_t fi, type *to, ptrdiff_t ti) { \
        name##_v s[FX_ROWS][2], w[2]; \
        ptrdiff_t k; \
        int i, v; \
        for (i = 0; i < rows; i++) \
            for (v = 0; v < vectors; v++) \
                s[i][v] = *(const name##_v *)(from + i * fi + v * FX_LANES(type)); \
        for (k = 0; k < depth; k++) { \
            for (v = 0; v < vectors; v++) \
                w[v] = *(const name##_v *)(b + k * bk + v * FX_LANES(type)); \
            for (i = 0; i < rows; i++) \
                for (v = 0; v < vectors; v++) s[i][v] += a[i * ai + k * ak] * w[v]; \
        } \
        for (i = 0; i < rows; i++) \
            for (v = 0; v < vectors; v++) \
                *(name##_v *)(to + i * ti + v * FX_LANES(type)) = s[i][v]; \
    } \
    static inline type name##_dot(const type *a, const type *b, ptrdiff_t n) { \
        name##_v s[4] = {{0}, {0}, {0}, {0}}; \
        type sum = 0; \
        ptrdiff_t k = 0, j; \
        for (; k + 4 * FX_LANES(type) <= n; k += 4 * FX_LANES(type)) \
            for (j = 0; j < 4; j++) \
                s[j] += *(const name##_v *)(a + k + j * FX_LANES(type)) \
                        * *(const name##_v *)(b + k + j * FX_LANES(type)); \
        for (; k + FX_LANES(type) <= n; k += FX_LANES(type)) \
            s[0] += *(const name##_v *)(a + k) * *(const name##_v *)(b + k); \
        s[0] = (s[0] + s[1]) + (s[2] + s[3]); \
        for (; k < n; k++) sum += a[k] * b[k]; \
        for (j = 0; j < FX_LANES(type); j++) sum += s[0][j]; \
        return sum; \
    }
#else
#define FX_ALWAYS static inline
#define FX_SOME(name, type) \
    static void name##_some(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, \
                            ptrdiff_t bk, ptrdiff_t depth, int rows, int vectors, \
                            const type *from, ptrdiff_t fi, type *to, ptrdiff_t ti) { \
        ptrdiff_t i, j, k, n = vectors * FX_LANES(type); \
        for (i = 0; i < rows; i++) { \
            for (j = 0; j < n; j++) to[i * ti + j] = from[i * fi + j]; \
            for (k = 0; k < depth; k++) \
                for (j = 0; j < n; j++) to[i * ti + j] += a[i * ai + k * ak] * b[k * bk + j]; \
        } \
    } \
    static inline type name##_dot(const type *a, const type *b, ptrdiff_t n) { \
        type sum = 0; \
        ptrdiff_t k; \
        for (k = 0; k < n; k++) sum += a[k] * b[k]; \
        return sum; \
    }
#endif

/* to[i ti + j] = from[i fi + j] + sum over k of a[i ai + k ak] b[k bk + j], for i < rows <= FX_ROWS
 * and j < columns <= FX_COLUMNS; b has whole vectors. */
#define FX_PRODUCTS(name, type) \
    FX_SOME(name, type) \
    FX_ALWAYS void name##_rows(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, \
                               ptrdiff_t bk, ptrdiff_t depth, ptrdiff_t rows, int vectors, \
                               const type *from, ptrdiff_t fi, type *to, ptrdiff_t ti) { \
        if (rows == FX_ROWS) { \
            name##_some(a, ai, ak, b, bk, depth, FX_ROWS, vectors, from, fi, to, ti); \
            return; \
        } \
        for (; rows >= 2; rows -= 2, a += 2 * ai, from += 2 * fi, to += 2 * ti) \
            name##_some(a, ai, ak, b, bk, depth, 2, vectors, from, fi, to, ti); \
        if (rows) name##_some(a, ai, ak, b, bk, depth, 1, vectors, from, fi, to, ti); \
    } \
    static void name##_tile(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, \
                            ptrdiff_t bk, ptrdiff_t depth, ptrdiff_t rows, ptrdiff_t columns, \
                            const type *from, ptrdiff_t fi, type *to, ptrdiff_t ti) { \
        type part[FX_ROWS * FX_COLUMNS(type)]; \
        ptrdiff_t i, j, n = FX_COLUMNS(type); \
        if (columns == n) { \
            name##_rows(a, ai, ak, b, bk, depth, rows, 2, from, fi, to, ti); \
            return; \
        } \
        for (i = 0; i < rows; i++) \
            for (j = 0; j < n; j++) part[i * n + j] = j < columns ? from[i * fi + j] : 0; \
        if (columns > n / 2) name##_rows(a, ai, ak, b, bk, depth, rows, 2, part, n, part, n); \
        else name##_rows(a, ai, ak, b, bk, depth, rows, 1, part, n, part, n); \
        for (i = 0; i < rows; i++) \
            for (j = 0; j < columns; j++) to[i * ti + j] = part[i * n + j]; \
    }
FX_PRODUCTS(floats, float)
FX_PRODUCTS(doubles, double)

#endif
