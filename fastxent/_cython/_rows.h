/* Rows with contiguous classes on AVX-512, in whole vectors and masked ends: see _rows.pxi.  The
 * scan itself is in _scan.h, for floats and for doubles. */
#ifndef FASTXENT_ROWS_H
#define FASTXENT_ROWS_H

#include "_elements.h"

/* A block of the gradient of the row before, a times its terms in kept, written before the new
 * ones take their place. */
typedef struct { double a; void *to; int stream; } late_block;

#if defined(__AVX512F__)
#define HAS_SCAN 1
#define FX_INLINE static inline __attribute__((always_inline))

/* Before a loop over an array of vectors. gcc unrolled those of the scan too late to keep the array in
 * registers: each of its eight sums and maxima was written to memory once per group. Without
 * that, rows of 1000 classes take 0.95 of the time, and 0.90 beside a busy neighbour. */
#if defined(__clang__)
#define FX_UNROLL /* does so by itself */
#else
#define FX_UNROLL _Pragma("GCC unroll 8")
#endif

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

/* exp(d) 2^64 for d <= 0; without far, for finite d: beyond -2^22 it is 0, or it overflows. With far
 * the same bits, quickly where they are 0. */
FX_INLINE __m512 fx_term16(__m512 d, int far) {
    __m512 n, r = fx_remainder16(d, 0, &n);
    r = _mm512_fmadd_ps(fx_slope16(r, 0x1p64f), r, _mm512_set1_ps(0x1p64f));
    return far ? _mm512_maskz_scalef_ps(fx_above16(d, -148.5f), r, n) : _mm512_scalef_ps(r, n);
}

/* Are some of these elements so far below m that scalef is slow? One vector of eight tells. */
FX_INLINE int fx_spread(const float *x, ptrdiff_t n, float m) {
    __m512 low[2] = {_mm512_set1_ps(m), _mm512_set1_ps(m)};
    ptrdiff_t k;
    for (k = 0; k + 256 <= n; k += 256) {
        low[0] = _mm512_min_ps(low[0], _mm512_loadu_ps(x + k));
        low[1] = _mm512_min_ps(low[1], _mm512_loadu_ps(x + k + 128));
    }
    if (!k && n >= 16) low[0] = _mm512_loadu_ps(x);
    return fx_above16(_mm512_sub_ps(_mm512_min_ps(low[0], low[1]), _mm512_set1_ps(m)), -148.5f) != 0xffff;
}

/* 64 lanes as one double. */
FX_INLINE double fx_sum64(const __m512 *v) {
    __m512d s[4];
    int k;
    FX_UNROLL
    for (k = 0; k < 4; k++)
        s[k] = _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v[k])),
                             _mm512_cvtps_pd(_mm512_extractf32x8_ps(v[k], 1)));
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(s[0], s[1]), _mm512_add_pd(s[2], s[3])));
}

FX_INLINE __mmask8 fx_first8(ptrdiff_t n) {
    return n >= 8 ? 0xff : n <= 0 ? 0 : (__mmask8)((1u << n) - 1);
}

FX_INLINE __m512d fx_load8(const char *p, __mmask8 mask, int kind) {
    (void)kind;
    return _mm512_mask_loadu_pd(_mm512_set1_pd(-INFINITY), mask, p);
}

/* exp(d) 2^256 for d <= 0.  With far by the polynomial of tail_of_exp.  Else n is in sixteenths,
 * exp(d) = 2^n (1 + q) with 2^n's fraction from a table and q = r + r^2 times a minimax polynomial:
 * five operations less, but an error of 1.1 units for 0.6, too much for a gradient that cancels. */
FX_INLINE __m512d fx_term8(__m512d d, int far) {
    const __m512d magic = _mm512_set1_pd(far ? 0x1.8p52 : 0x1.8p48); /* rounds */
    static const double table[] = {
        0x1p256, 0x1.0b5586cf9890fp256, 0x1.172b83c7d517bp256, 0x1.2387a6e756238p256,
        0x1.306fe0a31b715p256, 0x1.3dea64c123422p256, 0x1.4bfdad5362a27p256, 0x1.5ab07dd485429p256,
        0x1.6a09e667f3bcdp256, 0x1.7a11473eb0187p256, 0x1.8ace5422aa0dbp256, 0x1.9c49182a3f090p256,
        0x1.ae89f995ad3adp256, 0x1.c199bdd85529cp256, 0x1.d5818dcfba487p256, 0x1.ea4afa2a490dap256};
    static const double c[] = {
        0.0013889034348599754, 0.00833344970125369, 0.04166666666496045,
        0.1666666666530169, 0.5};
    static const double exact[] = {
        2.763037827860424467e-7, 2.755758731800244181e-6, 0.00002480149276373791425,
        0.0001984126949479256364, 0.001388888894392176027, 0.008333333333495611326,
        0.0416666666665291917, 0.1666666666666641025, 0.5000000000000010721, 1.0, 1.0};
    __m512d n, r, q, power;
    int k;
    d = _mm512_max_pd(_mm512_set1_pd(-1100.0), d); /* 0 from here on; NaN passes */
    q = _mm512_fmadd_pd(d, _mm512_set1_pd(1.44269504088896340736), magic);
    n = _mm512_sub_pd(q, magic);
    r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0.693147180369123816490), d);
    r = _mm512_fnmadd_pd(n, _mm512_set1_pd(1.90821492927058770002e-10), r);
    if (far) {
        q = _mm512_set1_pd(0x1p256 * 2.499997286429089851e-8);
        for (k = 0; k < 11; k++) q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(0x1p256 * exact[k]));
        return _mm512_scalef_pd(q, n);
    }
    power = _mm512_permutex2var_pd(_mm512_loadu_pd(table), _mm512_castpd_si512(q),
                                   _mm512_loadu_pd(table + 8));
    q = _mm512_fmadd_pd(_mm512_set1_pd(c[0]), r, _mm512_set1_pd(c[1]));
    for (k = 2; k < 5; k++) q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(c[k]));
    q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(1.0));
    return _mm512_scalef_pd(_mm512_fmadd_pd(_mm512_mul_pd(q, r), power, power), n);
}

FX_INLINE double fx_sum64d(const __m512d *v) {
    return _mm512_reduce_add_pd(_mm512_add_pd(
        _mm512_add_pd(_mm512_add_pd(v[0], v[1]), _mm512_add_pd(v[2], v[3])),
        _mm512_add_pd(_mm512_add_pd(v[4], v[5]), _mm512_add_pd(v[6], v[7]))));
}

#define FX_REAL float
#define FX_VECTOR __m512
#define FX_WIDTH 16
#define FX_DO(op) _mm512_##op##_ps
#define FX_NAME(name) name##_floats
#define FX_FIRST fx_first16
#define FX_LOAD fx_load16
#define FX_TERM fx_term16
#define FX_SUM64 fx_sum64
#include "_scan.h"
#define FX_REAL double
#define FX_VECTOR __m512d
#define FX_WIDTH 8
#define FX_DO(op) _mm512_##op##_pd
#define FX_NAME(name) name##_doubles
#define FX_FIRST fx_first8
#define FX_LOAD fx_load8
#define FX_TERM fx_term8
#define FX_SUM64 fx_sum64d
#include "_scan.h"

/* The sum of exp(x - m) 2^BIAS over n elements, element k in lane k % 64; the terms go to kept
 * unless that is NULL, in whole vectors, and the lines from soon on, where the gradient goes, are
 * fetched.  Meanwhile the next block is taken, since a pass over it alone would wait for the
 * second-level cache, and what lies ahead is fetched.  far is for floats that are -inf, NaN or far
 * below the maximum: it is set when they are met; for doubles it asks for accuracy. */
static inline double scan_floats(const float *x, ptrdiff_t n, float m, int *far, const char *ahead,
                                 float *lanes, float *kept, const char *soon, const late_block *late,
                                 const char *next, ptrdiff_t next_n, int kind, float *to,
                                 float *next_top) {
    double sum = NAN;
#define FX_SCAN(kind, far) \
    (kept ? fx_scan_floats(x, n, m, ahead, lanes, kept, soon, late, next, next_n, to, next_top, \
                           kind, far, 1) \
          : fx_scan_floats(x, n, m, ahead, lanes, lanes, ahead, NULL, next, next_n, to, next_top, \
                           kind, far, 0))
#define FX_KIND(kind) \
    if (!*far) sum = FX_SCAN(kind, 0); \
    if (!(sum - sum == 0)) { \
        if (!*far) late = NULL; /* written already */ \
        sum = FX_SCAN(kind, 1); \
        *far = 1; \
    } else if (!*far) \
        *far = fx_spread(x, n, m);
    if (kind == KIND_F32) { FX_KIND(KIND_F32) }
    else if (kind == KIND_F16) { FX_KIND(KIND_F16) }
    else { FX_KIND(KIND_BF16) }
#undef FX_KIND
#undef FX_SCAN
    return sum;
}

static inline double scan_doubles(const double *x, ptrdiff_t n, double m, int *far,
                                  const char *ahead, double *lanes, double *kept, const char *soon,
                                  const late_block *late, const char *next, ptrdiff_t next_n,
                                  int kind, double *to, double *next_top) {
    (void)kind;
#define FX_SCAN(far, keep) \
    fx_scan_doubles(x, n, m, ahead, lanes, keep ? kept : lanes, soon, keep ? late : NULL, next, \
                    next_n, to, next_top, KIND_F64, far, keep)
    return kept ? *far ? FX_SCAN(1, 1) : FX_SCAN(0, 1) : *far ? FX_SCAN(1, 0) : FX_SCAN(0, 0);
#undef FX_SCAN
}

/* The maximum of n elements, which are widened into `to` if they are halves. */
static inline float take_floats(const char *p, ptrdiff_t n, int kind, float *to) {
    return kind == KIND_F32 ? fx_take_floats(p, n, KIND_F32, to)
         : kind == KIND_F16 ? fx_take_floats(p, n, KIND_F16, to)
         : fx_take_floats(p, n, KIND_BF16, to);
}

static inline double take_doubles(const char *p, ptrdiff_t n, int kind, double *to) {
    (void)kind;
    return fx_take_doubles(p, n, KIND_F64, to);
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
            _mm_prefetch((const char *)(c + g + 16 * k) + 4096, _MM_HINT_T0);
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

/* g ((a + tail) first e - (c + c_tail)), e from the scan, as block_less_kept in _rows.pxi. */
FX_INLINE void fx_less_kept(const float *e, const float *c, const float *c_tail, float fixed,
                            float fixed_tail, ptrdiff_t n, float first, float a, float tail, float g,
                            float *to, int some, int tails, int once) {
    ptrdiff_t k;
    for (k = 0; k < n; k += 16) {
        __mmask16 mask = fx_first16(n - k);
        __m512 v = _mm512_maskz_loadu_ps(mask, e + k), low, r;
        if (!once) v = _mm512_mul_ps(_mm512_set1_ps(first), v);
        r = some ? _mm512_maskz_loadu_ps(mask, c + k) : _mm512_set1_ps(fixed);
        r = _mm512_fmsub_ps(_mm512_set1_ps(a), v, r);
        low = !some ? _mm512_set1_ps(fixed_tail) : tails ? _mm512_maskz_loadu_ps(mask, c_tail + k)
            : _mm512_setzero_ps();
        low = _mm512_fmsub_ps(_mm512_set1_ps(tail), v, low);
        _mm512_mask_storeu_ps(to + k, mask, _mm512_mul_ps(_mm512_set1_ps(g), _mm512_add_ps(r, low)));
    }
}

static inline void less_kept_floats(const float *e, const float *c, const float *c_tail, float fixed,
                                    float fixed_tail, ptrdiff_t n, float first, float a, float tail,
                                    float g, float *to) {
#define FX_LESS(some, tails, once) \
    fx_less_kept(e, c, c_tail, fixed, fixed_tail, n, first, a, tail, g, to, some, tails, once)
    if (first != 1) FX_LESS(c != NULL, c_tail != NULL, 0);
    else if (!c) FX_LESS(0, 0, 1);
    else if (!c_tail) FX_LESS(1, 0, 1);
    else FX_LESS(1, 1, 1);
#undef FX_LESS
}

#else
#define HAS_SCAN 0
#define scale_floats(x, n, a, first, label, entry, to, stream)
#define scale_doubles(x, n, a, first, label, entry, to, stream)
#define take_floats(p, n, kind, to) (0.0f)
#define take_doubles(p, n, kind, to) (0.0)
#define gap_floats(x, c, n, m, found)
#define less_floats(x, c, c_tail, n, m, a, tail, g, to)
#define less_kept_floats(e, c, c_tail, fixed, fixed_tail, n, first, a, tail, g, to)
#define scan_floats(x, n, m, far, ahead, lanes, kept, soon, late, next, next_n, kind, to, top) (0.0)
#define scan_doubles(x, n, m, far, ahead, lanes, kept, soon, late, next, next_n, kind, to, top) (0.0)
#endif
#endif
