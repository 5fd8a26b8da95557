/* Elements of arrays, whatever their dtype, byte order or alignment; and the few
 * operations that Cython cannot write: bit casts, prefetch, streaming stores. */
#ifndef FASTXENT_ELEMENTS_H
#define FASTXENT_ELEMENTS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#define FX_X86 1
#endif

/* Does a product added to something round once? */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define HAS_FMA 1
#else
#define HAS_FMA 0
#endif

/* Element kinds.  SWAPPED and MISALIGNED are flags: such an element is only reached
 * through element_get and element_put. */
enum {
    KIND_BOOL, KIND_I8, KIND_U8, KIND_I16, KIND_U16, KIND_I32, KIND_U32, KIND_I64, KIND_U64,
    KIND_F16, KIND_BF16, KIND_F32, KIND_F64, KIND_LONG,
    KIND_SWAPPED = 32, KIND_MISALIGNED = 64
};

static inline int32_t bits_of_float(float v) { int32_t b; memcpy(&b, &v, 4); return b; }
static inline float float_of_bits(int32_t b) { float v; memcpy(&v, &b, 4); return v; }
static inline int64_t bits_of_double(double v) { int64_t b; memcpy(&b, &v, 8); return b; }
static inline double double_of_bits(int64_t b) { double v; memcpy(&v, &b, 8); return v; }

/* v where c != 0, else 0; a condition would keep baseline's loops scalar. */
static inline float float_if(float c, float v) {
    return float_of_bits(bits_of_float(v) & -(int32_t)(c != 0));
}
static inline double double_if(double c, double v) {
    return double_of_bits(bits_of_double(v) & -(int64_t)(c != 0));
}

/* Shifts on unsigned values: a shifted negative number is undefined in C. */
static inline float scale_float(int32_t b) { return float_of_bits((int32_t)((uint32_t)b << 23)); }
static inline double scale_double(int64_t b) { return double_of_bits((int64_t)((uint64_t)b << 52)); }

/* binary16 -> binary32 without F16C: shift into place, rescale the exponent (which also
 * normalises subnormals), restore infinities and NaNs. */
static inline float float_of_half(uint16_t h) {
    uint32_t body = (uint32_t)(h & 0x7fffu);
    float v = float_of_bits((int32_t)(body << 13)) * 0x1p112f;
    uint32_t bits = (uint32_t)bits_of_float(v);
    bits |= body >= 0x7c00u ? 0x7f800000u : 0u;
    return float_of_bits((int32_t)(bits | ((uint32_t)(h & 0x8000u) << 16)));
}

/* binary32 -> binary16, to nearest even.  The addition of a power of two that is 2^13
 * times the result's unit makes the adder do the rounding, also for subnormals. */
static inline uint16_t half_of_float(float v) {
    uint32_t bits = (uint32_t)bits_of_float(v), body = bits & 0x7fffffffu, unit, half;
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    if (body >= 0x7f800000u)
        return (uint16_t)(sign | 0x7c00u | (body > 0x7f800000u ? 0x0200u : 0u));
    if (body >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    unit = body >> 23 < 113u ? 113u : body >> 23;
    half = (uint32_t)bits_of_float(float_of_bits((int32_t)body) + float_of_bits((int32_t)((unit + 13u) << 23)));
    half -= (unit + 13u) << 23;
    return (uint16_t)(sign | (half + (unit > 113u ? (unit - 113u) << 10 : 0u)));
}

static inline float float_of_bfloat(uint16_t h) { return float_of_bits((int32_t)((uint32_t)h << 16)); }

static inline uint16_t bfloat_of_float(float v) {
    uint32_t bits = (uint32_t)bits_of_float(v);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

static const uint8_t element_size[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, sizeof(long double)};

/* Copy one element to a native, aligned place. */
static inline void element_fetch(const char *p, int kind, void *to) {
    size_t n = element_size[kind & 31], k;
    if (kind & KIND_SWAPPED)
        for (k = 0; k < n; k++) ((char *)to)[k] = p[n - 1 - k];
    else
        memcpy(to, p, n);
}

#define FX_FETCH(type) do { type v; memcpy(&v, raw, sizeof v); return (double)v; } while (0)

static inline double element_get(const char *p, int kind) {
    char raw[32] = {0};
    uint16_t h;
    element_fetch(p, kind, raw);
    memcpy(&h, raw, 2);
    switch (kind & 31) {
    case KIND_BOOL: return raw[0] != 0;
    case KIND_I8: FX_FETCH(int8_t);
    case KIND_U8: FX_FETCH(uint8_t);
    case KIND_I16: FX_FETCH(int16_t);
    case KIND_U16: FX_FETCH(uint16_t);
    case KIND_I32: FX_FETCH(int32_t);
    case KIND_U32: FX_FETCH(uint32_t);
    case KIND_I64: FX_FETCH(int64_t);
    case KIND_U64: FX_FETCH(uint64_t);
    case KIND_F16: return float_of_half(h);
    case KIND_BF16: return float_of_bfloat(h);
    case KIND_F32: FX_FETCH(float);
    case KIND_F64: FX_FETCH(double);
    default: FX_FETCH(long double);
    }
}

#undef FX_FETCH
#define FX_FETCH(type) do { type v; memcpy(&v, raw, sizeof v); return (int64_t)v; } while (0)

/* A label in its own dtype.  uint64 beyond 2^63 comes out negative: out of any range. */
static inline int64_t element_label(const char *p, int kind) {
    char raw[32] = {0};
    element_fetch(p, kind, raw);
    switch (kind & 31) {
    case KIND_I8: FX_FETCH(int8_t);
    case KIND_U8: FX_FETCH(uint8_t);
    case KIND_I16: FX_FETCH(int16_t);
    case KIND_U16: FX_FETCH(uint16_t);
    case KIND_I32: FX_FETCH(int32_t);
    case KIND_U32: FX_FETCH(uint32_t);
    default: FX_FETCH(int64_t);
    }
}

#undef FX_FETCH

static inline void element_put(char *p, int kind, double value) {
    char raw[16];
    size_t n = element_size[kind & 31] & 15, k;
    float f = (float)value;
    uint16_t h;
    switch (kind & 31) {
    case KIND_F16: h = half_of_float(f); memcpy(raw, &h, 2); break;
    case KIND_BF16: h = bfloat_of_float(f); memcpy(raw, &h, 2); break;
    case KIND_F32: memcpy(raw, &f, 4); break;
    default: memcpy(raw, &value, 8); break;
    }
    if (kind & KIND_SWAPPED)
        for (k = 0; k < n; k++) p[k] = raw[n - 1 - k];
    else
        memcpy(p, raw, n);
}

/* Contiguous half <-> float, in the widest form that the target has. */
static inline void widen_half(const char *p, ptrdiff_t n, float *to) {
    ptrdiff_t k = 0;
    uint16_t h;
#if defined(__AVX512F__)
    for (; k + 16 <= n; k += 16)
        _mm512_storeu_ps(to + k, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 2 * k))));
#elif defined(__F16C__)
    for (; k + 8 <= n; k += 8)
        _mm256_storeu_ps(to + k, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 2 * k))));
#endif
    for (; k < n; k++) { memcpy(&h, p + 2 * k, 2); to[k] = float_of_half(h); }
}

static inline void narrow_half(const float *from, ptrdiff_t n, char *p) {
    ptrdiff_t k = 0;
    uint16_t h;
#if defined(__AVX512F__)
    for (; k + 16 <= n; k += 16)
        _mm256_storeu_si256((__m256i *)(p + 2 * k), _mm512_cvtps_ph(_mm512_loadu_ps(from + k), 0));
#elif defined(__F16C__)
    for (; k + 8 <= n; k += 8)
        _mm_storeu_si128((__m128i *)(p + 2 * k), _mm256_cvtps_ph(_mm256_loadu_ps(from + k), 0));
#endif
    for (; k < n; k++) { h = half_of_float(from[k]); memcpy(p + 2 * k, &h, 2); }
}

static inline void widen_bfloat(const char *p, ptrdiff_t n, float *to) {
    ptrdiff_t k;
    uint16_t h;
    for (k = 0; k < n; k++) { memcpy(&h, p + 2 * k, 2); to[k] = float_of_bfloat(h); }
}

static inline void narrow_bfloat(const float *from, ptrdiff_t n, char *p) {
    ptrdiff_t k;
    uint16_t h;
    for (k = 0; k < n; k++) { h = bfloat_of_float(from[k]); memcpy(p + 2 * k, &h, 2); }
}

/* Native, aligned elements of other kinds, in loops that vectorise where they are contiguous;
 * 0 for the kinds that element_get must fetch. */
#define FX_CASE(kind, type, value) \
    case kind: \
        if (stride == (ptrdiff_t)sizeof(type)) \
            for (k = 0; k < n; k++) { type v = ((const type *)p)[k]; to[k] = (value); } \
        else \
            for (k = 0; k < n; k++) { type v = *(const type *)(p + k * stride); to[k] = (value); } \
        return 1;
#define FX_WIDEN(name, real) \
    static inline int name(int kind, const char *p, ptrdiff_t stride, ptrdiff_t n, real *to) { \
        ptrdiff_t k; \
        switch (kind) { \
        FX_CASE(KIND_BOOL, uint8_t, v != 0 ? (real)1 : (real)0) \
        FX_CASE(KIND_I8, int8_t, (real)v) \
        FX_CASE(KIND_U8, uint8_t, (real)v) \
        FX_CASE(KIND_I16, int16_t, (real)v) \
        FX_CASE(KIND_U16, uint16_t, (real)v) \
        FX_CASE(KIND_I32, int32_t, (real)v) \
        FX_CASE(KIND_U32, uint32_t, (real)v) \
        FX_CASE(KIND_I64, int64_t, (real)v) \
        FX_CASE(KIND_U64, uint64_t, (real)v) \
        FX_CASE(KIND_F32, float, (real)v) \
        FX_CASE(KIND_F64, double, (real)v) \
        FX_CASE(KIND_BF16, uint16_t, (real)float_of_bfloat(v)) \
        FX_CASE(KIND_F16, uint16_t, (real)float_of_half(v)) \
        default: return 0; \
        } \
    }
FX_WIDEN(widen_floats, float)
FX_WIDEN(widen_doubles, double)

/* Copy past the cache where the target can: whole 64-byte lines with streaming stores,
 * the ragged ends with ordinary ones. */
static inline void stream_copy(const char *from, ptrdiff_t n, char *to) {
#ifdef FX_X86
    ptrdiff_t head = (ptrdiff_t)((64 - ((uintptr_t)to & 63)) & 63);
    if (head > n) head = n;
    if (head) memcpy(to, from, (size_t)head);
    from += head; to += head; n -= head;
    for (; n >= 64; n -= 64, from += 64, to += 64) {
#if defined(__AVX512F__)
        _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512((const void *)from));
#elif defined(__AVX2__)
        _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
        _mm256_stream_si256((__m256i *)(to + 32), _mm256_loadu_si256((const __m256i *)(from + 32)));
#else
        int k;
        for (k = 0; k < 64; k += 16)
            _mm_stream_si128((__m128i *)(to + k), _mm_loadu_si128((const __m128i *)(from + k)));
#endif
    }
#endif
    if (n) memcpy(to, from, (size_t)n);
}

/* Sums of n floats or doubles, n a multiple of 16, in one fixed order: 16 lanes in vectors as wide
 * as the target has.  gcc makes plain loops of this kind scalar, which took a third of a
 * 1000-class row; one vector of lanes waits for itself. */
#if defined(__GNUC__) || defined(__clang__)
#if defined(__AVX512F__)
#define FX_WIDE 8
#elif defined(__AVX__)
#define FX_WIDE 4
#else
#define FX_WIDE 2
#endif
typedef double fx_doubles __attribute__((vector_size(8 * FX_WIDE), aligned(8), may_alias));
typedef float fx_floats __attribute__((vector_size(4 * FX_WIDE), aligned(4), may_alias));
#if defined(__AVX512F__) /* gcc converts a vector in quarters */
#define FX_TO_DOUBLES(v) (fx_doubles)_mm512_cvtps_pd(_mm256_loadu_ps(v))
#else
#define FX_TO_DOUBLES(v) __builtin_convertvector(*(const fx_floats *)(v), fx_doubles)
#endif
#define FX_AS_DOUBLES(v) (*(const fx_doubles *)(v))
#define FX_SUM(name, type, load) \
    static inline double name(const type *v, ptrdiff_t n) { \
        fx_doubles s[16 / FX_WIDE]; \
        double lanes[16]; \
        ptrdiff_t k; \
        int j; \
        for (j = 0; j < 16 / FX_WIDE; j++) s[j] = load(v + j * FX_WIDE); \
        for (k = 16; k < n; k += 16) \
            for (j = 0; j < 16 / FX_WIDE; j++) s[j] += load(v + k + j * FX_WIDE); \
        memcpy(lanes, s, sizeof lanes); \
        for (j = 0; j < 8; j++) lanes[j] += lanes[j + 8]; \
        return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) \
             + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])); \
    }
#else
#define FX_TO_DOUBLES(v) (*(v))
#define FX_AS_DOUBLES(v) (*(v))
#define FX_SUM(name, type, load) \
    static inline double name(const type *v, ptrdiff_t n) { \
        double s[16]; \
        ptrdiff_t k; \
        int j; \
        for (j = 0; j < 16; j++) s[j] = v[j]; \
        for (k = 16; k < n; k += 16) for (j = 0; j < 16; j++) s[j] += v[k + j]; \
        for (j = 0; j < 8; j++) s[j] += s[j + 8]; \
        return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])); \
    }
#endif
FX_SUM(sum_floats, float, FX_TO_DOUBLES)
FX_SUM(sum_doubles, double, FX_AS_DOUBLES)

/* Maximum of 64 lanes, none of them NaN. */
static inline float max_floats(const float *v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(_mm512_loadu_ps(v), _mm512_loadu_ps(v + 16)),
                      _mm512_max_ps(_mm512_loadu_ps(v + 32), _mm512_loadu_ps(v + 48))));
#elif defined(FX_X86)
    __m128 a = _mm_loadu_ps(v);
    int k;
    for (k = 4; k < 64; k += 4) a = _mm_max_ps(a, _mm_loadu_ps(v + k));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps(a, a, 1)));
#else
    float m = v[0];
    int k;
    for (k = 1; k < 64; k++) m = v[k] > m ? v[k] : m;
    return m;
#endif
}

static inline double max_doubles(const double *v) {
#if defined(__AVX512F__)
    __m512d a = _mm512_loadu_pd(v);
    int k;
    for (k = 8; k < 64; k += 8) a = _mm512_max_pd(a, _mm512_loadu_pd(v + k));
    return _mm512_reduce_max_pd(a);
#elif defined(FX_X86)
    __m128d a = _mm_loadu_pd(v);
    int k;
    for (k = 2; k < 64; k += 2) a = _mm_max_pd(a, _mm_loadu_pd(v + k));
    return _mm_cvtsd_f64(_mm_max_sd(a, _mm_unpackhi_pd(a, a)));
#else
    double m = v[0];
    int k;
    for (k = 1; k < 64; k++) m = v[k] > m ? v[k] : m;
    return m;
#endif
}

#if defined(__AVX512F__)
/* d = n ln 2 + r with |r| <= ln(2)/2; with far the error of r does not grow with d. */
static inline __m512 fx_remainder16(__m512 d, int far, __m512 *n) {
    const __m512 magic = _mm512_set1_ps(12582912.0f); /* rounds to an integer */
    __m512 r = _mm512_fmadd_ps(d, _mm512_set1_ps(1.44269504088896340736f), magic);
    *n = _mm512_sub_ps(r, magic);
    r = _mm512_fnmadd_ps(*n, _mm512_set1_ps(0.69314718055994530942f), d);
    return far ? _mm512_fmadd_ps(*n, _mm512_set1_ps(1.904654323148236e-09f), r) : r;
}

/* (exp(r) - 1) / r times scale, as in tail_of_exp. */
static inline __m512 fx_slope16(__m512 r, float scale) {
    __m512 p = _mm512_set1_ps(0.00138144663088f * scale);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00836878030255f * scale));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0416683942321f * scale));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.166665201088f * scale));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.499999934123f * scale));
    return _mm512_fmadd_ps(p, r, _mm512_set1_ps(scale));
}

/* Where d is above a bound, or NaN; elsewhere exp(d) 2^64 counts as 0. To let scalef find that out takes
 * 60 ns per vector, since it asks the microcode for all that is too small: rows of 50 classes, half of
 * them masked, took five times as long. Below -130 exp(d) is 0 as a float even if it is not yet one
 * times 2^64; below -148.5 it is 0 either way. */
static inline __mmask16 fx_above16(__m512 d, float bound) {
    return _mm512_cmp_ps_mask(d, _mm512_set1_ps(bound), _CMP_NLT_UQ);
}

/* From here on the exponential is 0; NaN passes, since max returns its second operand then. */
static inline __m512 fx_clamp16(__m512 d) { return _mm512_max_ps(_mm512_set1_ps(-200.0f), d); }
#endif

/* Entries by themselves (see _entries.pxi), in whole vectors: the general loops took 0.62 ns per
 * entry and thread for a loss and 1.2 with its gradient, these 0.47 and 0.64. Fetching ahead, a
 * loss of 4096 x 1000 entries beyond the cache on two threads took 1.26 ms in place of 1.70. */
#if defined(__AVX512F__)
#define HAS_ENTRY_FLOATS 1
#define FX_S(v) _mm512_set1_ps(v)
#define FX_AHEAD 8192

/* exp(-|x|) = p 2^n.  Where it is 0 nothing is computed: a result that underflows takes the
 * processor 150 cycles, and 1000 x 65 entries of some hundreds took 1.3 ms in place of 0.06. */
static inline __m512 fx_decay16(__m512 x, __m512 *p, __m512 *n) {
    __m512 far = _mm512_or_ps(x, FX_S(-0.0f)), r = fx_remainder16(fx_clamp16(far), 1, n);
    *p = _mm512_fmadd_ps(fx_slope16(r, 1.0f), r, FX_S(1.0f));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(far, FX_S(-104.0f), _CMP_NLT_UQ), *p, *n);
}

/* log(1 + t) / t for 0 <= t <= 1, as in log1p_small.  A t that may be subnormal counts as 0. */
static inline __m512 fx_log1p16(__m512 t) {
    __m512 p = FX_S(-0.0032440246083f);
    t = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(t, FX_S(1e-30f), _CMP_NLT_UQ), t);
    p = _mm512_fmadd_ps(p, t, FX_S(0.0198514598155f));
    p = _mm512_fmadd_ps(p, t, FX_S(-0.0569595295249f));
    p = _mm512_fmadd_ps(p, t, FX_S(0.106036544123f));
    p = _mm512_fmadd_ps(p, t, FX_S(-0.153055923012f));
    p = _mm512_fmadd_ps(p, t, FX_S(0.196759391696f));
    p = _mm512_fmadd_ps(p, t, FX_S(-0.249541336413f));
    p = _mm512_fmadd_ps(p, t, FX_S(0.333299624158f));
    p = _mm512_fmadd_ps(p, t, FX_S(-0.499999024228f));
    return _mm512_fmadd_ps(p, t, FX_S(0.999999995287f));
}

/* 1 / d for 1 <= d <= 2: one step of Newton from 14 bits; dividing takes three times as long. */
static inline __m512 fx_inverse16(__m512 d) {
    __m512 r = _mm512_rcp14_ps(d);
    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(d, r, FX_S(1.0f)), r);
}

static inline __mmask16 fx_negative16(__m512 x) {
    return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
}

static inline void entry_floats(const float *x, const float *a, const float *b, ptrdiff_t n,
                                float scale, int both, int slopes, float *loss, float *grad) {
    ptrdiff_t k;
    for (k = 0; k < n; k += 16) {
        __m512 v = _mm512_loadu_ps(x + k), bk = _mm512_loadu_ps(b + k);
        __m512 ak = both ? _mm512_loadu_ps(a + k) : _mm512_sub_ps(FX_S(1.0f), bk);
        __mmask16 negative = fx_negative16(v);
        __m512 large = _mm512_mask_blend_ps(negative, ak, bk);
        /* A term whose coefficient is 0 is absent; NaN is not 0. */
        __mmask16 some = _mm512_cmp_ps_mask(large, _mm512_setzero_ps(), _CMP_NEQ_UQ), few;
        __m512 small, p, e, t = fx_decay16(v, &p, &e), q = fx_log1p16(t), l = _mm512_mul_ps(q, t), s;
        _mm_prefetch((const char *)(x + k) + FX_AHEAD, _MM_HINT_T1);
        _mm_prefetch((const char *)(b + k) + FX_AHEAD, _MM_HINT_T1);
        if (both || slopes) {
            small = _mm512_mask_blend_ps(negative, bk, ak);
            few = _mm512_cmp_ps_mask(small, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        }
        if (both) { /* a large coefficient meets the exponential before that underflows */
            s = _mm512_maskz_mul_ps(some, large, _mm512_add_ps(_mm512_abs_ps(v), l));
            s = _mm512_mask_add_ps(
                s, few, s, _mm512_scalef_ps(_mm512_mul_ps(_mm512_mul_ps(small, p), q), e));
        } else /* the coefficients' sum is 1 */
            s = _mm512_mask3_fmadd_ps(large, _mm512_abs_ps(v), l, some);
        _mm512_storeu_ps(loss + k, s);
        if (slopes) {
            q = fx_inverse16(_mm512_add_ps(FX_S(1.0f), t));
            s = _mm512_maskz_mul_ps(some, large, q);
            s = _mm512_mask3_fnmadd_ps(small, _mm512_mul_ps(t, q), s, few);
            s = _mm512_mask_sub_ps(s, negative, _mm512_setzero_ps(), s);
            _mm512_storeu_ps(grad + k, _mm512_mul_ps(FX_S(scale), s));
        }
    }
}

static inline void sigmoid_floats(const float *x, ptrdiff_t n, int logarithm, float *y) {
    ptrdiff_t k;
    for (k = 0; k < n; k += 16) {
        __m512 v = _mm512_loadu_ps(x + k), p, e, t = fx_decay16(v, &p, &e), s;
        if (logarithm)
            s = _mm512_fnmadd_ps(fx_log1p16(t), t, _mm512_min_ps(v, _mm512_setzero_ps()));
        else {
            s = fx_inverse16(_mm512_add_ps(FX_S(1.0f), t));
            s = _mm512_mask_mul_ps(s, fx_negative16(v), t, s);
        }
        _mm512_storeu_ps(y + k, s);
    }
}
#else
#define HAS_ENTRY_FLOATS 0
static inline void entry_floats(const float *x, const float *a, const float *b, ptrdiff_t n,
                                float scale, int both, int slopes, float *loss, float *grad) {
    (void)x; (void)a; (void)b; (void)n; (void)scale; (void)both; (void)slopes; (void)loss; (void)grad;
}
static inline void sigmoid_floats(const float *x, ptrdiff_t n, int logarithm, float *y) {
    (void)x; (void)n; (void)logarithm; (void)y;
}
#endif

/* Index of the first element equal to m; there is one. */
static inline ptrdiff_t find_float(const float *v, ptrdiff_t n, float m) {
    ptrdiff_t k = 0;
#if defined(__AVX512F__)
    for (; k + 16 <= n; k += 16)
        if (_mm512_cmpeq_ps_mask(_mm512_loadu_ps(v + k), _mm512_set1_ps(m))) break;
#elif defined(FX_X86)
    for (; k + 4 <= n; k += 4)
        if (_mm_movemask_ps(_mm_cmpeq_ps(_mm_loadu_ps(v + k), _mm_set1_ps(m)))) break;
#endif
    while (k < n - 1 && v[k] != m) k++;
    return k;
}

static inline ptrdiff_t find_double(const double *v, ptrdiff_t n, double m) {
    ptrdiff_t k = 0;
#if defined(__AVX512F__)
    for (; k + 8 <= n; k += 8)
        if (_mm512_cmpeq_pd_mask(_mm512_loadu_pd(v + k), _mm512_set1_pd(m))) break;
#elif defined(FX_X86)
    for (; k + 2 <= n; k += 2)
        if (_mm_movemask_pd(_mm_cmpeq_pd(_mm_loadu_pd(v + k), _mm_set1_pd(m)))) break;
#endif
    while (k < n - 1 && v[k] != m) k++;
    return k;
}

static inline void stream_fence(void) {
#ifdef FX_X86
    _mm_sfence();
#endif
}

/* A line that will be written, with the right to: the store would wait for it, and all after it. The
 * builtin is a plain fetch unless the target has the instruction by name; where it is missing, it does
 * nothing. */
static inline void prefetch_write(const char *p) {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*p));
#elif defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p, 1, 3);
#else
    (void)p;
#endif
}

/* To the second-level cache: it has more misses in flight than the first. 125 MB of logits on
 * two threads took 5.0 ms with the next block fetched to the first level, 4.0 ms so. */
static inline void prefetch(const char *p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p, 0, 2);
#elif defined(FX_X86)
    _mm_prefetch(p, _MM_HINT_T1);
#endif
}

#endif
