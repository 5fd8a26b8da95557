/* The scan of _rows.h, for one element type: FX_REAL, in FX_VECTORs of FX_WIDTH; included twice. */
#define FX_VECTORS (64 / FX_WIDTH)
#define FX_NATIVE (FX_WIDTH == 16 ? KIND_F32 : KIND_F64)
#define FX_SIZE(kind) (FX_WIDTH == 8 ? 8 : kind == KIND_F32 ? 4 : 2)

/* A group of up to 64 elements: widened into `to` if they are halves; and the lanes' maxima, which
 * NaN never wins. */
FX_INLINE void FX_NAME(fx_group)(const char *p, ptrdiff_t n, int kind, FX_REAL *to,
                                 FX_VECTOR *top) {
    int k;
    FX_UNROLL
    for (k = 0; k < FX_VECTORS; k++) {
        ptrdiff_t left = n - FX_WIDTH * k;
        FX_VECTOR v = FX_LOAD(p + FX_WIDTH * FX_SIZE(kind) * k, FX_FIRST(left), kind);
        if (kind != FX_NATIVE) FX_DO(mask_storeu)(to + FX_WIDTH * k, FX_FIRST(left), v);
        top[k % 4] = FX_DO(max)(v, top[k % 4]);
    }
}

FX_INLINE FX_REAL FX_NAME(fx_rest)(const char *p, ptrdiff_t n, int kind, FX_REAL *to,
                                   FX_VECTOR *top) {
    for (; n >= 64; n -= 64, p += 64 * FX_SIZE(kind), to += 64)
        FX_NAME(fx_group)(p, 64, kind, to, top);
    if (n > 0) FX_NAME(fx_group)(p, n, kind, to, top);
    return FX_DO(reduce_max)(
        FX_DO(max)(FX_DO(max)(top[0], top[1]), FX_DO(max)(top[2], top[3])));
}

FX_INLINE FX_REAL FX_NAME(fx_take)(const char *p, ptrdiff_t n, int kind, FX_REAL *to) {
    FX_VECTOR top[4];
    int k;
    FX_UNROLL
    for (k = 0; k < 4; k++) top[k] = FX_DO(set1)(-INFINITY);
    return FX_NAME(fx_rest)(p, n, kind, to, top);
}

/* to = a (first x), but entry at label, in whole lines; past the cache if asked to: then the
 * label's line is written once too, since what came after would have to read it back. */
static inline void FX_NAME(scale)(const FX_REAL *x, ptrdiff_t n, FX_REAL a, FX_REAL first,
                                  ptrdiff_t label, FX_REAL entry, FX_REAL *to, int stream) {
    ptrdiff_t k = (ptrdiff_t)((64 - ((uintptr_t)to & 63)) & 63) / (ptrdiff_t)sizeof(FX_REAL), some;
    ptrdiff_t head;
#define FX_SCALED(n, k) FX_DO(mul)(FX_DO(set1)(a), FX_DO(mul)( \
        FX_DO(set1)(first), FX_DO(maskz_loadu)(FX_FIRST(n), x + (k))))
    head = k = k < n ? k : n;
    FX_DO(mask_storeu)(to, FX_FIRST(k), FX_SCALED(k, 0));
    if (stream) {
        for (; k + FX_WIDTH <= n; k += FX_WIDTH) {
            FX_VECTOR v = FX_SCALED(FX_WIDTH, k);
            some = label - k;
            if (some >= 0 && some < FX_WIDTH)
                v = FX_DO(mask_mov)(v, FX_FIRST(some + 1) & ~FX_FIRST(some), FX_DO(set1)(entry));
            FX_DO(stream)(to + k, v);
        }
    } else
        for (; k + FX_WIDTH <= n; k += FX_WIDTH) FX_DO(storeu)(to + k, FX_SCALED(FX_WIDTH, k));
    FX_DO(mask_storeu)(to + k, FX_FIRST(n - k), FX_SCALED(n - k, k));
    if (label >= 0 && label < n && (!stream || label >= k || label < head)) to[label] = entry;
#undef FX_SCALED
}

FX_INLINE double FX_NAME(fx_scan)(const FX_REAL *x, ptrdiff_t n, FX_REAL m, const char *ahead,
                                  FX_REAL *lanes, FX_REAL *kept, const char *soon, const late_block *late,
                                  const char *next, ptrdiff_t next_n, FX_REAL *to,
                                  FX_REAL *next_top, int kind, int far, int keep) {
    FX_VECTOR base = FX_DO(set1)(m), sum[FX_VECTORS], top[4], e;
    ptrdiff_t groups = n / 64, both = n < next_n ? n / 64 : next_n / 64, head, lines, g;
    FX_REAL a, *line;
    int k;
    FX_UNROLL
    for (k = 0; k < FX_VECTORS; k++) sum[k] = FX_DO(setzero)();
    FX_UNROLL
    for (k = 0; k < 4; k++) top[k] = FX_DO(set1)(-INFINITY);
#define FX_TERMS \
    FX_UNROLL \
    for (k = 0; k < FX_VECTORS; k++) { \
        e = FX_TERM(FX_DO(sub)(FX_DO(loadu)(x + FX_WIDTH * k), base), far); \
        sum[k] = FX_DO(add)(sum[k], e); \
        if (keep) { \
            FX_DO(storeu)(kept + FX_WIDTH * k, e); \
            prefetch_write(soon + 64 * k); \
        } \
        if (k < FX_SIZE(kind)) _mm_prefetch(ahead + 64 * k, _MM_HINT_T1); \
    } \
    x += 64, kept += 64, soon += 64 * sizeof(FX_REAL), ahead += 64 * FX_SIZE(kind);
#define FX_NEXT \
    FX_NAME(fx_group)(next, 64, kind, to, top); \
    next += 64 * FX_SIZE(kind), to += 64;
    groups -= both;
    next_n -= 64 * both;
    if (keep && late) {
        line = (FX_REAL *)late->to;
        a = (FX_REAL)late->a;
        head = (ptrdiff_t)((64 - ((uintptr_t)line & 63)) & 63) / (ptrdiff_t)sizeof(FX_REAL);
        lines = n < head ? 0 : (n - head) / 64;
        if (lines > both) lines = both;
        FX_NAME(scale)(kept, head < n ? head : n, a, 1, -1, 0, line, 0);
        for (g = 0, line += head; g < lines; g++, line += 64) {
            FX_UNROLL
            for (k = 0; k < FX_VECTORS; k++) {
                e = FX_DO(mul)(FX_DO(set1)(a), FX_DO(loadu)(kept + head + FX_WIDTH * k));
                if (late->stream) FX_DO(stream)(line + FX_WIDTH * k, e);
                else FX_DO(store)(line + FX_WIDTH * k, e);
            }
            FX_TERMS
            FX_NEXT
        }
        FX_NAME(scale)(kept + head, n - head - 64 * lines, a, 1, -1, 0, line, late->stream);
        both -= lines;
    }
    n %= 64;
    for (; both > 0; both--) {
        FX_TERMS
        FX_NEXT
    }
    for (; groups > 0; groups--) {
        FX_TERMS
    }
#undef FX_TERMS
#undef FX_NEXT
    FX_UNROLL
    for (k = 0; k < FX_VECTORS; k++)
        if (FX_WIDTH * k < n) {
            e = FX_DO(maskz_loadu)(FX_FIRST(n - FX_WIDTH * k), x + FX_WIDTH * k);
            e = FX_TERM(FX_DO(sub)(e, base), far);
            e = FX_DO(maskz_mov)(FX_FIRST(n - FX_WIDTH * k), e);
            sum[k] = FX_DO(add)(sum[k], e);
            if (keep) FX_DO(storeu)(kept + FX_WIDTH * k, e);
        }
    FX_UNROLL
    for (k = 0; k < FX_VECTORS; k++) FX_DO(storeu)(lanes + FX_WIDTH * k, sum[k]);
    *next_top = FX_NAME(fx_rest)(next, next_n, kind, to, top);
    return FX_SUM64(sum);
}

#undef FX_VECTORS
#undef FX_NATIVE
#undef FX_SIZE
#undef FX_REAL
#undef FX_VECTOR
#undef FX_WIDTH
#undef FX_DO
#undef FX_NAME
#undef FX_FIRST
#undef FX_LOAD
#undef FX_TERM
#undef FX_SUM64
