/* Plain rows of few classes on AVX-512: 16 rows per vector, all their numbers floats in registers.
 *
 * A tile holds class k of row j at x[k * pitch + j].  Where _tiles.pxi goes through columns of
 * doubles for whatever a row may have, a plain row has a label and a factor, so that loss and
 * gradient of 16 rows are settled at once: 65536 x 10 took 0.30 ms in those, 0.63 with gradient. */
#ifndef FASTXENT_COLUMNS_H
#define FASTXENT_COLUMNS_H

#include <float.h>

#include "_direct.h"
#include "_rows.h"
#include "_tiles.h"

/* Most floats of a tile, the rows of one, and the classes. */
enum { FX_COLUMNS = 4096, FX_COLUMNS_ROWS = 256, FX_COLUMNS_CLASSES = 32 };

typedef struct {
    fx_op op;               /* not DENSE */
    int slopes;             /* is x to become the gradient, softmax or log_softmax? */
    ptrdiff_t rows, classes, pitch;
    float *x;               /* pitch * classes */
    const int32_t *label;   /* of each row; negative: the row is absent */
    const float *factor;    /* of each loss, NULL for 1 */
    const float *slope;     /* of each gradient, NULL for scale */
    float scale;
    float *loss;
    const char *ahead;      /* the next tile, fetched meanwhile; NULL if there is none */
    ptrdiff_t ahead_row, ahead_class; /* bytes from one to the next; a class of 32 rows is 2 lines */
    const char *soon;       /* where the tile goes afterwards, fetched too; NULL if that is past the cache */
    ptrdiff_t soon_row, soon_class;
} fx_columns;

#if defined(__AVX512F__)
#define HAS_COLUMNS 1

/* log(1 + s) for s >= 0, below 2^24: the result, and in low what its rounding leaves. */
FX_INLINE __m512 fx_log_one_plus16(__m512 s, __m512 *low) {
    const __m512 one = _mm512_set1_ps(1.0f);
    static const float c[] = {
        0.0691536806881f, -0.1178980769569f, 0.1187297629345f, -0.1238434847014f, 0.1421865809021f,
        -0.1666925081615f, 0.2000222661400f, -0.2499998659983f, 0.3333331043986f};
    __m512 u = _mm512_add_ps(one, s), lost = _mm512_sub_ps(s, _mm512_sub_ps(u, one)), k, f, p, high,
        inverse;
    /* u = 2^k (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1]: see mantissa in _isa.pyx. */
    __m512i b = _mm512_add_epi32(_mm512_castps_si512(u), _mm512_set1_epi32(0x3f800000 - 0x3f3504f3));
    int j;
    k = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srai_epi32(b, 23), _mm512_set1_epi32(127)));
    b = _mm512_add_epi32(_mm512_and_si512(b, _mm512_set1_epi32(0x7fffff)), _mm512_set1_epi32(0x3f3504f3));
    f = _mm512_sub_ps(_mm512_castsi512_ps(b), one);
    p = _mm512_set1_ps(c[0]);
    for (j = 1; j < 9; j++) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c[j]));
    p = _mm512_fnmadd_ps(f, p, _mm512_set1_ps(0.5f));
    /* What rounding 1 + s left, over u, and the low part of k ln 2. */
    inverse = _mm512_rcp14_ps(u);
    inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(u, inverse, _mm512_set1_ps(2.0f)));
    lost = _mm512_fmadd_ps(k, _mm512_set1_ps(-2.12194440e-4f), _mm512_mul_ps(lost, inverse));
    p = _mm512_fnmadd_ps(_mm512_mul_ps(f, f), p, lost);
    k = _mm512_mul_ps(k, _mm512_set1_ps(0.693359375f)); /* exact, and 0 or larger than f */
    high = _mm512_add_ps(k, f);
    *low = _mm512_add_ps(_mm512_add_ps(_mm512_sub_ps(k, high), f), p);
    return high;
}

/* a + b + low, rounded once, and more where a is finite. */
FX_INLINE __m512 fx_add4(__m512 a, __m512 b, __m512 low, __m512 more) {
    __m512 s = _mm512_add_ps(a, b), part = _mm512_sub_ps(s, a);
    __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(a), _mm512_set1_ps(INFINITY), _CMP_LT_OQ);
    more = _mm512_add_ps(more, _mm512_sub_ps(b, part));
    more = _mm512_add_ps(more, _mm512_sub_ps(a, _mm512_sub_ps(s, part)));
    return _mm512_add_ps(s, _mm512_mask_add_ps(low, finite, low, more));
}

/* Losses of 32 rows from j on, and what the tile is to hold after them; the sum of the losses.
 * Two vectors at once: one alone waits for each of its maxima and sums. */
FX_INLINE __m512d fx_columns32(const fx_columns *t, ptrdiff_t j, fx_op op, int slopes) {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f), nan = _mm512_set1_ps(NAN);
    const __m512 bias = _mm512_set1_ps(0x1p-64f), infinity = _mm512_set1_ps(INFINITY);
    const int terms = slopes && op != LOG_SOFTMAX;
    const ptrdiff_t pitch = t->pitch;
    const char *ahead = t->ahead ? t->ahead + j * t->ahead_row : NULL;
    const char *soon = slopes && t->soon ? t->soon + j * t->soon_row : NULL;
    float *x = t->x + j;
    __m512d sum = _mm512_setzero_pd();
    __mmask16 live[2], broken[2], some[2], tiny[2];
    __m512 m[2], base[2], s[2], parts[2], all[2], rest[2], loss[2], low[2], d[2], a[2];
    __m512 first[2], entry[2];
    __m512i y[2];
    ptrdiff_t k;
    int i;
#define FX_BOTH for (i = 0; i < 2; i++)
#define FX_X _mm512_loadu_ps(x + k * pitch + 16 * i)
    FX_BOTH {
        live[i] = fx_first16(t->rows - j - 16 * i);
        m[i] = rest[i] = _mm512_set1_ps(-INFINITY);
        s[i] = parts[i] = all[i] = d[i] = a[i] = zero;
        if (op == INDEX) {
            y[i] = _mm512_maskz_loadu_epi32(live[i], t->label + j + 16 * i);
            live[i] &= _mm512_cmpge_epi32_mask(y[i], _mm512_setzero_si512());
            y[i] = _mm512_mullo_epi32(y[i], _mm512_set1_epi32((int)pitch));
            y[i] = _mm512_add_epi32(y[i], _mm512_set_epi32(
                15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
            d[i] = _mm512_mask_i32gather_ps(zero, live[i], y[i], x + 16 * i, 4);
        }
    }
    for (k = 0; k + 2 <= t->classes; k += 2, x += 2 * pitch)
        FX_BOTH {
            m[i] = _mm512_max_ps(_mm512_loadu_ps(x + 16 * i), m[i]);
            rest[i] = _mm512_max_ps(_mm512_loadu_ps(x + pitch + 16 * i), rest[i]);
        }
    if (k < t->classes) FX_BOTH m[i] = _mm512_max_ps(_mm512_loadu_ps(x + 16 * i), m[i]);
    x = t->x + j;
    FX_BOTH {
        m[i] = _mm512_max_ps(m[i], rest[i]);
        broken[i] = _mm512_cmp_ps_mask(_mm512_abs_ps(m[i]), infinity, _CMP_EQ_OQ);
        base[i] = _mm512_mask_mov_ps(
            m[i], _mm512_cmp_ps_mask(m[i], _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ), zero);
    }
    /* exp(d) = 2^n (1 + p). The sum leaves the maxima out, so that it keeps the digits of what is small
     * beside them, and is one of the powers and one of what they leave, apart: sums of powers are
     * exact. All powers, less those, count the maxima. */
    for (k = 0; k < t->classes; k++)
        FX_BOTH {
            __m512 v = FX_X, n, r, p, e;
            __mmask16 less = _mm512_cmp_ps_mask(v, m[i], _CMP_NEQ_UQ), near;
            if (ahead) _mm_prefetch(ahead + k * t->ahead_class + 64 * i, _MM_HINT_T1);
            if (soon) prefetch_write(soon + k * t->soon_class + 64 * i);
            r = _mm512_sub_ps(v, base[i]);
            near = fx_above16(r, -130.0f);
            r = fx_remainder16(r, 0, &n);
            p = _mm512_maskz_mul_ps(near, fx_slope16(r, 1.0f), r);
            e = _mm512_maskz_scalef_ps(near, _mm512_set1_ps(0x1p64f), n);
            if (terms) _mm512_storeu_ps(x + k * pitch + 16 * i, _mm512_fmadd_ps(e, p, e));
            s[i] = _mm512_mask_add_ps(s[i], less, s[i], e);
            all[i] = _mm512_add_ps(all[i], e);
            parts[i] = _mm512_mask3_fmadd_ps(e, p, parts[i], less);
        }
    FX_BOTH {
        all[i] = _mm512_roundscale_ps(_mm512_mul_ps(_mm512_sub_ps(all[i], s[i]), bias), 0);
        s[i] = _mm512_add_ps(s[i], parts[i]);
        rest[i] = _mm512_fmadd_ps(s[i], bias, _mm512_sub_ps(all[i], one));
        rest[i] = _mm512_mask_mov_ps(rest[i], broken[i], s[i]);  /* where all is NaN, s may not be */
        loss[i] = fx_log_one_plus16(rest[i], &low[i]);
        if (terms) a[i] = _mm512_div_ps(one, _mm512_add_ps(one, rest[i]));
    }
    if (op == INDEX)
        FX_BOTH {
            __m512 at = d[i], part;
            d[i] = _mm512_sub_ps(m[i], at);
            part = _mm512_sub_ps(d[i], m[i]); /* and what rounding the distance lost */
            part = _mm512_sub_ps(_mm512_sub_ps(m[i], _mm512_sub_ps(d[i], part)), _mm512_add_ps(at, part));
            loss[i] = fx_add4(d[i], loss[i], low[i], part);
            loss[i] = _mm512_mask_mov_ps(loss[i], broken[i], nan);
            if (t->factor) loss[i] = _mm512_mul_ps(loss[i], _mm512_loadu_ps(t->factor + j + 16 * i));
            loss[i] = _mm512_maskz_mov_ps(live[i], loss[i]);
            sum = _mm512_add_pd(sum, _mm512_add_pd(
                _mm512_cvtps_pd(_mm512_castps512_ps256(loss[i])),
                _mm512_cvtps_pd(_mm512_extractf32x8_ps(loss[i], 1))));
            _mm512_storeu_ps(t->loss + j + 16 * i, loss[i]);
        }
    if (op == INDEX && slopes)
        FX_BOTH {
            /* 1 - p is the sum of the others' over that of all; of the maximum it is rest. */
            __m512 n, g, r = _mm512_sub_ps(zero, d[i]);
            __mmask16 near = fx_above16(r, -87.0f);
            r = fx_remainder16(r, 0, &n);
            r = _mm512_maskz_scalef_ps(near, _mm512_fmadd_ps(fx_slope16(r, 1.0f), r, one), n);
            r = _mm512_sub_ps(_mm512_add_ps(one, rest[i]), r);
            r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(d[i], zero, _CMP_EQ_OQ), rest[i]);
            g = t->slope ? _mm512_loadu_ps(t->slope + j + 16 * i) : _mm512_set1_ps(t->scale);
            some[i] = live[i] & _mm512_cmp_ps_mask(g, zero, _CMP_NEQ_UQ);
            g = _mm512_mask_mov_ps(g, broken[i], nan);
            entry[i] = _mm512_mul_ps(_mm512_sub_ps(zero, g), _mm512_mul_ps(r, a[i]));
            a[i] = _mm512_mul_ps(g, a[i]);
        }
    else FX_BOTH {
        if (op == LOGSUMEXP) _mm512_storeu_ps(t->loss + j + 16 * i, fx_add4(m[i], loss[i], low[i], zero));
        a[i] = _mm512_mask_mov_ps(a[i], broken[i], nan);
        loss[i] = _mm512_mask_mov_ps(loss[i], broken[i], nan);
        some[i] = 0xffff;
    }
    if (slopes && op == LOG_SOFTMAX)
        for (k = 0; k < t->classes; k++)
            FX_BOTH _mm512_storeu_ps(x + k * pitch + 16 * i, _mm512_sub_ps(
                _mm512_sub_ps(_mm512_sub_ps(FX_X, base[i]), loss[i]), low[i]));
    if (terms) {
        /* The terms' bias goes into the factor, unless a small one would underflow with it. */
        FX_BOTH {
            tiny[i] = _mm512_cmp_ps_mask(_mm512_abs_ps(a[i]), _mm512_set1_ps(1e-15f), _CMP_LT_OQ);
            first[i] = _mm512_mask_mov_ps(one, tiny[i], bias);
            a[i] = _mm512_mask_mul_ps(a[i], (__mmask16)~tiny[i], a[i], bias);
        }
        for (k = 0; k < t->classes; k++)
            FX_BOTH _mm512_storeu_ps(x + k * pitch + 16 * i, _mm512_maskz_mul_ps(
                some[i], _mm512_mul_ps(first[i], FX_X), a[i]));
        if (op == INDEX)
            FX_BOTH _mm512_mask_i32scatter_ps(x + 16 * i, some[i], y[i], entry[i], 4);
    }
#undef FX_BOTH
#undef FX_X
    return sum;
}

FX_INLINE double fx_columns_all(const fx_columns *t, fx_op op, int slopes) {
    __m512d total = _mm512_setzero_pd();
    ptrdiff_t j;
    for (j = 0; j < t->rows; j += 32) total = _mm512_add_pd(total, fx_columns32(t, j, op, slopes));
    return _mm512_reduce_add_pd(total);
}

static double columns_settle(const fx_columns *t) {
    switch (t->op) {
    case LOGSUMEXP: return fx_columns_all(t, LOGSUMEXP, 0);
    case SOFTMAX: return fx_columns_all(t, SOFTMAX, 1);
    case LOG_SOFTMAX: return fx_columns_all(t, LOG_SOFTMAX, 1);
    default: return t->slopes ? fx_columns_all(t, INDEX, 1) : fx_columns_all(t, INDEX, 0);
    }
}

/* n floats, in whole lines where they go; past the cache if asked to. */
FX_INLINE void fx_put(const float *from, ptrdiff_t n, char *to, int stream) {
    ptrdiff_t k = (ptrdiff_t)((64 - ((uintptr_t)to & 63)) & 63) / 4;
    k = k < n ? k : n;
    _mm512_mask_storeu_ps(to, fx_first16(k), _mm512_loadu_ps(from));
    for (; k + 16 <= n; k += 16)
        if (stream) _mm512_stream_ps((float *)(to + 4 * k), _mm512_loadu_ps(from + k));
        else _mm512_storeu_ps(to + 4 * k, _mm512_loadu_ps(from + k));
    _mm512_mask_storeu_ps(to + 4 * k, fx_first16(n - k), _mm512_loadu_ps(from + k));
}

/* Fills the tile; across and step are bytes from row to row and from class to class, one of them 4.
 * Vectors that no row fills get zeros. */
static void columns_load(const fx_columns *t, const char *p, ptrdiff_t across, ptrdiff_t step) {
    ptrdiff_t j, k, some = t->rows / 16 * 16, all = (t->rows + 31) / 32 * 32;
    if (across != 4) {
        for (k = 0; k < t->classes; k++)
            for (j = some; j < all; j += 16)
                _mm512_storeu_ps(t->x + k * t->pitch + j, _mm512_setzero_ps());
        floats_to_lanes(p, across, t->rows, t->classes, t->x, t->pitch);
        return;
    }
    for (k = 0; k < t->classes; k++) {
        const char *from = p + k * step;
        float *to = t->x + k * t->pitch;
        for (j = 0; j < some; j += 16) _mm512_storeu_ps(to + j, _mm512_loadu_ps(from + 4 * j));
        for (; j < all; j += 16)
            _mm512_storeu_ps(to + j, _mm512_maskz_loadu_ps(fx_first16(t->rows - j), from + 4 * j));
    }
}

static void columns_store(const fx_columns *t, char *p, ptrdiff_t across, ptrdiff_t step, int stream) {
    float lines[FX_COLUMNS + 16];
    ptrdiff_t k;
    if (across == 4)
        for (k = 0; k < t->classes; k++) fx_put(t->x + k * t->pitch, t->rows, p + k * step, stream);
    else if (stream && across == 4 * t->classes) {
        lanes_to_floats(t->x, t->pitch, across, t->rows, t->classes, (char *)lines);
        fx_put(lines, t->rows * t->classes, p, 1);
    } else
        lanes_to_floats(t->x, t->pitch, across, t->rows, t->classes, p);
}
#else
#define HAS_COLUMNS 0
static inline double columns_settle(const fx_columns *t) { (void)t; return 0; }
#define columns_load(t, p, across, step)
#define columns_store(t, p, across, step, stream)
#endif
#endif
