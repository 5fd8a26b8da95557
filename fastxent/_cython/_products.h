/* Small matrix products in vectors, without a library that brings threads of its own: for the
 * sampled losses, whose matrices stay in the cache.  1024 rows of 128 with 64 others, there and
 * back twice, took 285 microseconds on one core of a Granite Rapids, as OpenBLAS takes 300. */
#ifndef FASTXENT_PRODUCTS_H
#define FASTXENT_PRODUCTS_H

#include "_elements.h"

#include <string.h>

/* Rows and vectors of a tile of results, which stays in registers. */
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
#define FX_COLUMNS(type) (2 * FX_BYTES / (ptrdiff_t)sizeof(type))

#if defined(__GNUC__) || defined(__clang__)
#define FX_ALWAYS static inline __attribute__((always_inline))
#define FX_TILE(name, type) \
    typedef type name##_vector __attribute__((vector_size(FX_BYTES), aligned(sizeof(type)), may_alias)); \
    FX_ALWAYS void name##_some(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, ptrdiff_t bk, \
                               ptrdiff_t depth, int rows, int vectors, type *out) { \
        const ptrdiff_t lanes = FX_BYTES / sizeof(type); \
        name##_vector s[FX_ROWS][2], w[2]; \
        ptrdiff_t k; \
        int i, v; \
        for (i = 0; i < rows; i++) \
            for (v = 0; v < vectors; v++) s[i][v] = (name##_vector){0}; \
        for (k = 0; k < depth; k++) { \
            for (v = 0; v < vectors; v++) \
                w[v] = *(const name##_vector *)(b + k * bk + v * lanes); \
            for (i = 0; i < rows; i++) \
                for (v = 0; v < vectors; v++) s[i][v] += a[i * ai + k * ak] * w[v]; \
        } \
        for (i = 0; i < rows; i++) \
            for (v = 0; v < vectors; v++) \
                *(name##_vector *)(out + i * FX_COLUMNS(type) + v * lanes) = s[i][v]; \
    } \
    FX_ALWAYS type name##_dot(const type *a, const type *b, ptrdiff_t n) { \
        const ptrdiff_t lanes = FX_BYTES / sizeof(type); \
        name##_vector s[4] = {{0}, {0}, {0}, {0}}; \
        type sums[FX_BYTES / sizeof(type)], sum = 0; \
        ptrdiff_t k = 0, j; \
        for (; k + 4 * lanes <= n; k += 4 * lanes) \
            for (j = 0; j < 4; j++) \
                s[j] += *(const name##_vector *)(a + k + j * lanes) \
                        * *(const name##_vector *)(b + k + j * lanes); \
        for (; k + lanes <= n; k += lanes) \
            s[0] += *(const name##_vector *)(a + k) * *(const name##_vector *)(b + k); \
        s[0] = (s[0] + s[1]) + (s[2] + s[3]); \
        memcpy(sums, s, sizeof sums); \
        for (; k < n; k++) sum += a[k] * b[k]; \
        for (j = lanes; j >>= 1;) \
            for (k = 0; k < j; k++) sums[k] += sums[k + j]; \
        return sum + sums[0]; \
    }
#else
#define FX_ALWAYS static inline
#define FX_TILE(name, type) \
    FX_ALWAYS void name##_some(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, ptrdiff_t bk, \
                               ptrdiff_t depth, int rows, int vectors, type *out) { \
        ptrdiff_t i, j, k, n = vectors * (FX_COLUMNS(type) / 2); \
        for (i = 0; i < rows; i++) { \
            for (j = 0; j < n; j++) out[i * FX_COLUMNS(type) + j] = 0; \
            for (k = 0; k < depth; k++) \
                for (j = 0; j < n; j++) \
                    out[i * FX_COLUMNS(type) + j] += a[i * ai + k * ak] * b[k * bk + j]; \
        } \
    } \
    FX_ALWAYS type name##_dot(const type *a, const type *b, ptrdiff_t n) { \
        type sum = 0; \
        ptrdiff_t k; \
        for (k = 0; k < n; k++) sum += a[k] * b[k]; \
        return sum; \
    }
#endif

/* FX_ROWS x FX_COLUMNS sums over k of a[i ai + k ak] b[k bk + j], of which `rows` and at least
 * `columns` are computed; b has whole vectors. */
#define FX_PRODUCTS(name, type) \
    FX_TILE(name, type) \
    static void name##_tile(const type *a, ptrdiff_t ai, ptrdiff_t ak, const type *b, ptrdiff_t bk, \
                            ptrdiff_t depth, ptrdiff_t rows, ptrdiff_t columns, type *out) { \
        int two = columns > FX_COLUMNS(type) / 2; \
        ptrdiff_t i = 0; \
        if (rows == FX_ROWS) { \
            if (two) name##_some(a, ai, ak, b, bk, depth, FX_ROWS, 2, out); \
            else name##_some(a, ai, ak, b, bk, depth, FX_ROWS, 1, out); \
            return; \
        } \
        for (; i + 2 <= rows; i += 2) { \
            if (two) name##_some(a + i * ai, ai, ak, b, bk, depth, 2, 2, out + i * FX_COLUMNS(type)); \
            else name##_some(a + i * ai, ai, ak, b, bk, depth, 2, 1, out + i * FX_COLUMNS(type)); \
        } \
        if (i < rows) { \
            if (two) name##_some(a + i * ai, ai, ak, b, bk, depth, 1, 2, out + i * FX_COLUMNS(type)); \
            else name##_some(a + i * ai, ai, ak, b, bk, depth, 1, 1, out + i * FX_COLUMNS(type)); \
        } \
    }
FX_PRODUCTS(floats, float)
FX_PRODUCTS(doubles, double)

#endif
