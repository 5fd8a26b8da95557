/* Rows with contiguous classes on AVX-512, in whole vectors and masked ends: see _rows.pxi. */
#ifndef FASTXENT_ROWS_H
#define FASTXENT_ROWS_H

#include "_elements.h"

#if defined(__AVX512F__)
#define HAS_SCAN_FLOATS 1
#define FX_INLINE static inline __attribute__((always_inline))

/* The 16 elements at p, of which the mask's are read, as floats; -inf for the others. */
FX_INLINE __m512 fx_load16(const char *p, __mmask16 mask, int kind) {
    __m512 v;
    if (kind == KIND_F32)
        return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), mask, p);
    v = kind == KIND_F16
        ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p))
        : _mm512_castsi512_ps(_mm512_slli_epi32(
              _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
    return _mm512_mask_blend_ps(mask, _mm512_set1_ps(-INFINITY), v);
}

FX_INLINE __mmask16 fx_first16(ptrdiff_t n) {
    return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

/* A group of up to 64 elements: widened into `to` unless they are floats; and the lanes' maxima,
 * which NaN never wins. */
FX_INLINE void fx_take64(const char *p, ptrdiff_t n, int kind, float *to, __m512 *top) {
    int k, size = kind == KIND_F32 ? 4 : 2;
    for (k = 0; k < 4; k++) {
        __mmask16 mask = fx_first16(n - 16 * k);
        __m512 v = fx_load16(p + 16 * k * size, mask, kind);
        if (kind != KIND_F32) _mm512_mask_storeu_ps(to + 16 * k, mask, v);
        top[k] = _mm512_max_ps(v, top[k]);
    }
}

FX_INLINE float fx_take_from(const char *p, ptrdiff_t n, int kind, float *to, __m512 *top) {
    int size = kind == KIND_F32 ? 4 : 2;
    for (; n >= 64; n -= 64, p += 64 * size, to += 64) fx_take64(p, 64, kind, to, top);
    if (n > 0) fx_take64(p, n, kind, to, top);
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

/* The maximum of n elements, which are widened into `to` unless they are floats. */
static inline float take_floats(const char *p, ptrdiff_t n, int kind, float *to) {
    __m512 top[4];
    int k;
    for (k = 0; k < 4; k++) top[k] = _mm512_set1_ps(-INFINITY);
    return kind == KIND_F32 ? fx_take_from(p, n, KIND_F32, to, top)
         : kind == KIND_F16 ? fx_take_from(p, n, KIND_F16, to, top)
         : fx_take_from(p, n, KIND_BF16, to, top);
}

/* exp(d) 2^64 for d <= 0; without far, for finite d: beyond -2^22 it is 0, or it overflows. */
FX_INLINE __m512 fx_term16(__m512 d, int far) {
    __m512 n, r = fx_remainder16(far ? fx_clamp16(d) : d, 0, &n);
    return _mm512_scalef_ps(_mm512_fmadd_ps(fx_slope16(r, 0x1p64f), r, _mm512_set1_ps(0x1p64f)), n);
}

/* 64 lanes as one double. */
FX_INLINE double fx_sum64(const __m512 *v) {
    __m512d s[4];
    int k;
    for (k = 0; k < 4; k++)
        s[k] = _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v[k])),
                             _mm512_cvtps_pd(_mm512_extractf32x8_ps(v[k], 1)));
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(s[0], s[1]), _mm512_add_pd(s[2], s[3])));
}

/* to = a (first x), in whole lines; past the cache if asked to. */
static inline void scale_floats(const float *x, ptrdiff_t n, float a, float first, float *to,
                                int stream) {
    ptrdiff_t k = (ptrdiff_t)((64 - ((uintptr_t)to & 63)) & 63) / 4;
    __m512 va = _mm512_set1_ps(a), vf = _mm512_set1_ps(first);
#define FX_SCALED(mask, k) \
    _mm512_mul_ps(va, _mm512_mul_ps(vf, _mm512_maskz_loadu_ps(mask, x + (k))))
    _mm512_mask_storeu_ps(to, fx_first16(k < n ? k : n), FX_SCALED(fx_first16(k < n ? k : n), 0));
    if (stream)
        for (; k + 16 <= n; k += 16) _mm512_stream_ps(to + k, FX_SCALED(0xffff, k));
    else
        for (; k + 16 <= n; k += 16) _mm512_storeu_ps(to + k, FX_SCALED(0xffff, k));
    if (k < n) _mm512_mask_storeu_ps(to + k, fx_first16(n - k), FX_SCALED(fx_first16(n - k), k));
#undef FX_SCALED
}

/* A block of the gradient of the row before, written from its terms in kept before the new ones
 * take their place. */
typedef struct { float a; float *to; int stream; } late_floats;

FX_INLINE double fx_scan(const float *x, ptrdiff_t n, float m, const char *ahead, float *lanes,
                         float *kept, const late_floats *late, const char *next, ptrdiff_t next_n,
                         float *to, float *next_top, int kind, int far, int keep) {
    __m512 base = _mm512_set1_ps(m), sum[4], top[4], e[4];
    ptrdiff_t size = kind == KIND_F32 ? 4 : 2;
    ptrdiff_t both = n < next_n ? n / 64 : next_n / 64, groups = n / 64;
    ptrdiff_t lines = 0, head, g;
    int k;
    for (k = 0; k < 4; k++) sum[k] = _mm512_setzero_ps(), top[k] = _mm512_set1_ps(-INFINITY);
#define FX_TERMS \
    for (k = 0; k < 4; k++) { \
        e[k] = fx_term16(_mm512_sub_ps(_mm512_loadu_ps(x + 16 * k), base), far); \
        sum[k] = _mm512_add_ps(sum[k], e[k]); \
        if (keep) _mm512_storeu_ps(kept + 16 * k, e[k]); \
        if (64 * k < 64 * size) _mm_prefetch(ahead + 64 * k, _MM_HINT_T1); \
    }
    groups -= both;
    next_n -= 64 * both;
    if (keep && late) {
        head = (ptrdiff_t)((64 - ((uintptr_t)late->to & 63)) & 63) / 4;
        lines = n < head ? 0 : (n - head) / 64;
        if (lines > both) lines = both;
        scale_floats(kept, head < n ? head : n, late->a, 1.0f, late->to, 0);
        for (g = 0; g < lines; g++) {
            for (k = 0; k < 4; k++) {
                __m512 v = _mm512_mul_ps(_mm512_set1_ps(late->a), _mm512_loadu_ps(kept + head + 16 * k));
                float *line = late->to + head + 64 * g + 16 * k;
                if (late->stream) _mm512_stream_ps(line, v); else _mm512_store_ps(line, v);
            }
            FX_TERMS
            fx_take64(next, 64, kind, to, top);
            x += 64, kept += 64, ahead += 64 * size, next += 64 * size, to += 64;
        }
        head += 64 * lines;
        scale_floats(kept + head - 64 * lines, n - head, late->a, 1.0f, late->to + head, late->stream);
        both -= lines;
    }
    n %= 64;
    for (; both > 0; both--) {
        FX_TERMS
        fx_take64(next, 64, kind, to, top);
        x += 64, kept += 64, ahead += 64 * size, next += 64 * size, to += 64;
    }
    for (; groups > 0; groups--) {
        FX_TERMS
        x += 64, kept += 64, ahead += 64 * size;
    }
#undef FX_TERMS
    for (k = 0; k < 4; k++)
        if (16 * k < n) {
            __mmask16 mask = fx_first16(n - 16 * k);
            __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + 16 * k), base);
            e[k] = _mm512_maskz_mov_ps(mask, fx_term16(d, far));
            sum[k] = _mm512_add_ps(sum[k], e[k]);
            if (keep) _mm512_storeu_ps(kept + 16 * k, e[k]);
        }
    for (k = 0; k < 4; k++) _mm512_storeu_ps(lanes + 16 * k, sum[k]);
    *next_top = fx_take_from(next, next_n, kind, to, top);
    return fx_sum64(sum);
}

/* The sum of exp(x - m) 2^64 over n floats, element k in lane k % 64; the terms go to kept unless
 * that is NULL, in whole vectors.  Meanwhile the next block is taken, since a pass over it alone
 * would wait for the second-level cache, and what lies ahead is fetched.  far is for elements
 * that are -inf or NaN: it is set when they are met. */
static inline double scan_floats(const float *x, ptrdiff_t n, float m, int *far, const char *ahead,
                                 float *lanes, float *kept, const late_floats *late,
                                 const char *next, ptrdiff_t next_n, int kind, float *to,
                                 float *next_top) {
    double sum = NAN;
#define FX_SCAN(kind, far) \
    (kept ? fx_scan(x, n, m, ahead, lanes, kept, late, next, next_n, to, next_top, kind, far, 1) \
          : fx_scan(x, n, m, ahead, lanes, lanes, NULL, next, next_n, to, next_top, kind, far, 0))
#define FX_KIND(kind) \
    if (!*far) sum = FX_SCAN(kind, 0); \
    if (!(sum - sum == 0)) { \
        if (!*far) late = NULL; /* written already */ \
        sum = FX_SCAN(kind, 1); \
        *far = 1; \
    }
    if (kind == KIND_F32) { FX_KIND(KIND_F32) }
    else if (kind == KIND_F16) { FX_KIND(KIND_F16) }
    else { FX_KIND(KIND_BF16) }
#undef FX_KIND
#undef FX_SCAN
    return sum;
}

/* Adds sum c, sum c (m - x) and the number of c != 0 to found; 0 times anything is 0. */
static inline void gap_floats(const float *x, const float *c, ptrdiff_t n, float m, double *found) {
    __m512 base = _mm512_set1_ps(m), weight[4], gap[4], count[4];
    ptrdiff_t g;
    int k;
    for (k = 0; k < 4; k++) weight[k] = gap[k] = count[k] = _mm512_setzero_ps();
    for (g = 0; g < n; g += 64)
        for (k = 0; k < 4; k++) {
            __mmask16 mask = fx_first16(n - g - 16 * k);
            __m512 v = _mm512_maskz_loadu_ps(mask, c + g + 16 * k);
            __m512 d = _mm512_sub_ps(base, _mm512_maskz_loadu_ps(mask, x + g + 16 * k));
            __mmask16 some = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
            _mm_prefetch((const char *)(c + g + 16 * k) + 16384, _MM_HINT_T1);
            weight[k] = _mm512_add_ps(weight[k], v);
            gap[k] = _mm512_mask3_fmadd_ps(v, d, gap[k], some);
            count[k] = _mm512_mask_add_ps(count[k], some, count[k], _mm512_set1_ps(1.0f));
        }
    found[0] += fx_sum64(weight);
    found[1] += fx_sum64(gap);
    found[2] += fx_sum64(count);
}

/* g ((a + tail) exp(x - m) - (c + c_tail)), as difference in _isa.pyx. */
static inline void less_floats(const float *x, const float *c, const float *c_tail, ptrdiff_t n,
                               float m, float a, float tail, float g, float *to) {
    ptrdiff_t k;
    for (k = 0; k < n; k += 16) {
        __mmask16 mask = fx_first16(n - k);
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + k), _mm512_set1_ps(m)), e, s;
        __m512 r = fx_remainder16(fx_clamp16(d), 0, &e), t = _mm512_mul_ps(fx_slope16(r, 1.0f), r);
        s = _mm512_scalef_ps(_mm512_set1_ps(1.0f), e);
        e = _mm512_mul_ps(_mm512_set1_ps(tail), s);
        s = _mm512_mul_ps(_mm512_set1_ps(a), s);
        e = _mm512_fmadd_ps(s, t, _mm512_fmadd_ps(e, t, e));
        e = _mm512_sub_ps(e, _mm512_maskz_loadu_ps(mask, c_tail + k));
        s = _mm512_sub_ps(s, _mm512_maskz_loadu_ps(mask, c + k));
        _mm512_mask_storeu_ps(to + k, mask, _mm512_mul_ps(_mm512_set1_ps(g), _mm512_add_ps(s, e)));
    }
}

#else
#define HAS_SCAN_FLOATS 0
typedef struct { float a; float *to; int stream; } late_floats;
#define scale_floats(x, n, a, first, to, stream)
#define take_floats(p, n, kind, to) (0.0f)
#define gap_floats(x, c, n, m, found)
#define less_floats(x, c, c_tail, n, m, a, tail, g, to)
#define scan_floats(x, n, m, far, ahead, lanes, kept, late, next, next_n, kind, to, top) (0.0)
#endif
#endif
