# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
# cython: freethreading_compatible=True
"""The kernels, compiled once per instruction set from this one source.

Each kernel binds arrays that exist and returns a ``Job``; ``job(first, stop, block, room)``
computes the rows ``first <= row < stop`` without the GIL and adds their losses up in
``total[block]``; a room for exponentials saves computing them twice for a gradient.
Nothing is allocated, checked or decided here.

A row's work has three parts.  *Scan* walks the classes once and leaves the row's
statistics: maximum ``m``, ``rest = sum exp(x_k - m)`` over all classes but one maximum,
``weight = sum c_k`` and ``gap = sum c_k (m - x_k)`` of the classes' coefficients ``c``,
and how many of these are not zero.  *Finish* turns them into the loss and the three
numbers of the gradient ``g (a exp(x - m) - c)``, and the label's own entry.
*Emit* writes the gradient.  Long rows scan piece by piece and merge in between.

Rows come in two shapes.  With contiguous classes one row is walked in blocks, lanes
across the classes (``_rows.pxi``).  Otherwise, and for few classes, ``TILE`` rows are
walked together, one row per lane (``_tiles.pxi``; plain ones of very few classes, where the
processor has AVX-512, in ``_columns.pxi``).  Explicit lanes vectorise without
reassociating anything, so the bits do not depend on the compiler's mood.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from .._choices import SMALL_CLASSES
from .._pool import RUN

cdef extern from "_elements.h" nogil:
    bint HAS_FMA, HAS_ENTRY_FLOATS
    void entry_floats(const float*, const float*, const float*, Py_ssize_t, float, bint, bint,
                      float*, float*)
    void sigmoid_floats(const float*, Py_ssize_t, bint, float*)
    int KIND_BOOL, KIND_F16, KIND_BF16, KIND_F32, KIND_F64, KIND_SWAPPED, KIND_MISALIGNED
    int KIND_I8, KIND_U8, KIND_I16, KIND_U16, KIND_I32, KIND_U32, KIND_I64, KIND_U64, KIND_LONG
    int32_t bits_of_float(float)
    int64_t bits_of_double(double)
    float scale_float(int32_t)
    double scale_double(int64_t)
    double double_of_bits(int64_t)
    float float_if(float, float)
    double double_if(double, double)
    double element_get(const char*, int)
    int64_t element_label(const char*, int)
    void element_put(char*, int, double)
    const uint8_t* element_size
    bint widen_floats(int, const char*, Py_ssize_t, Py_ssize_t, float*)
    bint widen_doubles(int, const char*, Py_ssize_t, Py_ssize_t, double*)
    void widen_half(const char*, Py_ssize_t, float*)
    void narrow_half(const float*, Py_ssize_t, char*)
    void widen_bfloat(const char*, Py_ssize_t, float*)
    void narrow_bfloat(const float*, Py_ssize_t, char*)
    void stream_copy(const char*, Py_ssize_t, char*)
    void stream_fence()
    double sum_floats(const float*, Py_ssize_t)
    double sum_doubles(const double*, Py_ssize_t)
    float max_floats(const float*)
    double max_doubles(const double*)
    Py_ssize_t find_float(const float*, Py_ssize_t, float)
    Py_ssize_t find_double(const double*, Py_ssize_t, double)
    void prefetch(const char*)
    void prefetch_write(const char*)
    double fma(double, double, double)
    float FLT_MAX
    double INFINITY
    double NAN

cdef extern from "_tiles.h" nogil:
    bint HAS_ADD_EXP_TILE
    void add_exp_tile(const float*, Py_ssize_t, const float*, const float*, float*, float*, float*,
                      float*, const char*, Py_ssize_t)
    void floats_to_lanes(const char*, Py_ssize_t, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t)
    void lanes_to_floats(const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, char*)
    void doubles_to_lanes(const char*, Py_ssize_t, Py_ssize_t, Py_ssize_t, double*)
    void lanes_to_doubles(const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, char*)

cdef extern from "_rows.h" nogil:
    bint HAS_SCAN
    ctypedef struct late_block:
        double a
        void* to
        bint stream
    float take_floats(const char*, Py_ssize_t, int, float*)
    double take_doubles(const char*, Py_ssize_t, int, double*)
    double scan_floats(const float*, Py_ssize_t, float, int*, const char*, float*, float*,
                       const char*, const late_block*, const char*, Py_ssize_t, int, float*, float*)
    double scan_doubles(const double*, Py_ssize_t, double, int*, const char*, double*, double*,
                        const char*, const late_block*, const char*, Py_ssize_t, int, double*,
                        double*)
    void scale_floats(const float*, Py_ssize_t, float, float, Py_ssize_t, float, float*, bint)
    void scale_doubles(const double*, Py_ssize_t, double, double, Py_ssize_t, double, double*, bint)
    void gap_floats(const float*, const float*, Py_ssize_t, float, double*)
    void less_kept_floats(const float*, const float*, const float*, float, float, Py_ssize_t, float,
                          float, float, float, float*)
    void less_floats(const float*, const float*, const float*, Py_ssize_t, float, float, float,
                     float, float*)

cdef extern from "_direct.h" nogil:
    ctypedef enum Op "fx_op":
        LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, INDEX, DENSE

    ctypedef struct fx_direct:
        Op op
        int bytes, label_bytes
        const char* x
        const char* y
        char* loss
        char* grad
        Py_ssize_t rows, classes, inner
        double scale
        bint stream
        double* totals
    const char* FX_DIRECT

cdef extern from "_columns.h" nogil:
    bint HAS_COLUMNS
    enum:
        FX_COLUMNS, FX_COLUMNS_ROWS, FX_COLUMNS_CLASSES
    ctypedef struct fx_columns:
        Op op
        bint slopes
        Py_ssize_t rows, classes, pitch
        float* x
        const int32_t* label
        const float* factor
        const float* slope
        float scale
        float* loss
        const char* ahead
        Py_ssize_t ahead_row, ahead_class
        const char* soon
        Py_ssize_t soon_row, soon_class
    double columns_settle(const fx_columns*)
    void columns_load(const fx_columns*, const char*, Py_ssize_t, Py_ssize_t)
    void columns_store(const fx_columns*, char*, Py_ssize_t, Py_ssize_t, bint)

cdef extern from "_pool.h" nogil:
    ctypedef void (*fx_piece)(void*, int64_t, char*, Py_ssize_t) noexcept nogil
    const char* FX_POOL

ctypedef int (*fx_pool_run)(fx_piece, void*, int64_t, int, char*, Py_ssize_t) except -1 nogil

cdef fx_pool_run on_pool = <fx_pool_run>PyCapsule_GetPointer(RUN, FX_POOL)

cdef extern from "string.h" nogil:
    void* memcpy(void*, const void*, size_t)
    void* memmove(void*, const void*, size_t)
    void* memset(void*, int, size_t)

ctypedef fused real:
    float
    double

cdef enum:
    LANES = 64          # classes per group: four 512-bit vectors of floats
    BLOCK = 2048        # elements per block: 8 or 16 KB, stays in L1
    AHEAD = 6144        # elements from a block's end to what is fetched meanwhile
    BATCH = 16          # rows with contiguous classes finished together,
    NEAR = 4096         # but so few that a gradient's exponentials stay in L1
    BASES = 96          # blocks in a batch, at most
    TILE = 64           # rows per tile
    DEPTH = 32          # classes per tile block: TILE * DEPTH == BLOCK
    GROUP = 528         # rows whose gradients go past the cache together: 8 tiles and a line

cdef enum Phase:
    ALL, SCAN, FINISH


# ---------------------------------------------------------------- arrays

cdef struct View:
    char* data          # NULL: absent
    Py_ssize_t outer, classes, inner    # strides in bytes
    int kind


cdef inline Py_ssize_t distance(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef inline double at(View* v, Py_ssize_t o, Py_ssize_t i) noexcept nogil:
    """Element of a per-row array."""
    return element_get(v.data + o * v.outer + i * v.inner, v.kind)


cdef inline real* load(int kind, const char* p, Py_ssize_t stride, Py_ssize_t n,
                       real* buf) noexcept nogil:
    """n elements as contiguous reals: in place if they are, else converted into buf."""
    cdef Py_ssize_t k
    if real is float:
        if kind == KIND_F32:
            if stride == 4:
                return <real*>p
            for k in range(n):
                buf[k] = (<float*>(p + k * stride))[0]
            return buf
        if stride == 2 and kind == KIND_F16:
            widen_half(p, n, buf)
            return buf
        if stride == 2 and kind == KIND_BF16:
            widen_bfloat(p, n, buf)
            return buf
    else:
        if kind == KIND_F64:
            if stride == 8:
                return <real*>p
            for k in range(n):
                buf[k] = (<double*>(p + k * stride))[0]
            return buf
    if real is float:
        if widen_floats(kind, p, stride, n, <float*>buf):
            return buf
    elif widen_doubles(kind, p, stride, n, <double*>buf):
        return buf
    for k in range(n):
        buf[k] = <real>element_get(p + k * stride, kind)
    return buf


cdef inline void store(int kind, char* p, Py_ssize_t stride, Py_ssize_t n, const real* buf,
                       bint stream) noexcept nogil:
    cdef Py_ssize_t k
    if real is float:
        if kind == KIND_F32:
            if stride == 4:
                if stream:
                    stream_copy(<const char*>buf, n * 4, p)
                else:
                    memcpy(p, buf, n * 4)
                return
            for k in range(n):
                (<float*>(p + k * stride))[0] = buf[k]
            return
        if stride == 2 and kind == KIND_F16:
            narrow_half(buf, n, p)
            return
        if stride == 2 and kind == KIND_BF16:
            narrow_bfloat(buf, n, p)
            return
    else:
        if kind == KIND_F64:
            if stride == 8:
                if stream:
                    stream_copy(<const char*>buf, n * 8, p)
                else:
                    memcpy(p, buf, n * 8)
                return
            for k in range(n):
                (<double*>(p + k * stride))[0] = buf[k]
            return
    for k in range(n):
        element_put(p + k * stride, kind, buf[k])


# ---------------------------------------------------------------- exp and log1p

# The sum of exponentials is kept times 2^BIAS so that terms which would be subnormal
# keep their digits: a confident row's loss is as small as exp(-103) in float32.
cdef enum:
    BIAS32 = 64
    BIAS64 = 256

cdef inline double unbias(real unused) noexcept nogil:
    return scale_double(1023 - BIAS32 if sizeof(real) == 4 else 1023 - BIAS64)


cdef inline double tiny(real unused) noexcept nogil:
    """Below this a factor should not be multiplied by unbias."""
    return 1e-15 if sizeof(real) == 4 else 1e-220


cdef inline int native_kind(real unused) noexcept nogil:
    return KIND_F32 if sizeof(real) == 4 else KIND_F64


cdef inline real lowest(real unused, bint term) noexcept nogil:
    """Below this exp gives exactly 0."""
    if real is float:
        return <float>-130.0 if term else <float>-87.3
    else:
        return -880.0 if term else -708.0


cdef inline real tail_of_exp(real r) noexcept nogil:
    """exp(r) - 1 for |r| <= ln(2)/2: r + r^2 Q(r), Q minimax (error of exp: 3.1e-9, 3.7e-18)."""
    cdef real q
    if real is float:
        q = <float>0.00138144663088
        q = q * r + <float>0.00836878030255
        q = q * r + <float>0.0416683942321
        q = q * r + <float>0.166665201088
        q = q * r + <float>0.499999934123
    else:
        q = 2.499997286429089851e-8
        q = q * r + 2.763037827860424467e-7
        q = q * r + 2.755758731800244181e-6
        q = q * r + 0.00002480149276373791425
        q = q * r + 0.0001984126950479256364
        q = q * r + 0.001388888894392176027
        q = q * r + 0.008333333333495611326
        q = q * r + 0.0416666666665291917
        q = q * r + 0.1666666666666641025
        q = q * r + 0.5000000000000010721
    return q * r * r + r


cdef inline real remainder(real x, real n, bint far) noexcept nogil:
    """x - n ln 2; with far its error does not grow with n."""
    if real is float:
        if not HAS_FMA:
            return (x - n * <float>0.693145751953125) - n * <float>1.428606765330187045e-06
        # One step: n times the error of float32's ln 2 is 0.02 units per unit of x.
        x = x - n * <float>0.69314718055994530942
        return x + n * <float>1.904654323148236e-09 if far else x
    else:
        return (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10


cdef inline real factors(real x, bint term, real* t) noexcept nogil:
    """exp(x) = s (1 + t) for lowest <= x <= 0, s a power of two; with term times 2^BIAS.

    x = n ln 2 + r with |r| <= ln(2)/2; n is rounded by adding a large constant, whose low
    bits then are the exponent of s.  t is at most 0.42, so its rounding weighs little: what
    has to survive cancellation is better computed from s and t than from their product.
    """
    cdef real magic, b
    if real is float:
        magic = <float>(12582912.0 + 127.0 + BIAS32) if term else <float>(12582912.0 + 127.0)
        b = x * <float>1.44269504088896340736 + magic
        t[0] = tail_of_exp(remainder(x, b - magic, False))
        return scale_float(bits_of_float(b))
    else:
        magic = 6755399441055744.0 + 1023.0 + (BIAS64 if term else 0)
        b = x * 1.44269504088896340736 + magic
        t[0] = tail_of_exp(remainder(x, b - magic, False))
        return scale_double(bits_of_double(b))


cdef inline real exponential(real x, bint term) noexcept nogil:
    """exp(x) for x <= 0, with term times 2^BIAS.  NaN stays NaN, -inf gives 0."""
    cdef real t = 0
    cdef real s = factors(x, term, &t)
    return <real>0.0 if x < lowest(x, term) else s * t + s


cdef inline double exp64(double x) noexcept nogil:
    return exponential(x, False)


cdef inline double mantissa(double u, double* k) noexcept nogil:
    """f with u = 2^k (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1]."""
    # Adding the distance from sqrt(1/2) to 1 in the exponent's units picks k.
    cdef int64_t b = bits_of_double(u) + (0x3FF0000000000000LL - 0x3FE6A09E667F3BCDLL)
    # k becomes a double through the mantissa of 2^52: AVX2 cannot convert 64-bit integers.
    k[0] = double_of_bits((b >> 52) | 0x4330000000000000LL) - (4503599627370496.0 + 1023.0)
    return double_of_bits((b & 0x000FFFFFFFFFFFFFLL) + 0x3FE6A09E667F3BCDLL) - 1.0


cdef inline double log_sum(double u, double c) noexcept nogil:
    """log(u + c) for normal u > 0 and a c that is rounding of it; branch-free, about 1 ulp.

    u = 2^k (1 + f); c is given back as c / u.
    log(1 + f) = 2 artanh(z), z = f / (2 + f), by its series, with f - f^2/2 split off so
    that small f keep every digit.
    """
    cdef double k = 0
    cdef double f = mantissa(u, &k)
    cdef double z = f / (2.0 + f)
    cdef double w = z * z
    cdef double h = 0.5 * f * f
    cdef double p = 2.0 / 21.0
    p = p * w + 2.0 / 19.0
    p = p * w + 2.0 / 17.0
    p = p * w + 2.0 / 15.0
    p = p * w + 2.0 / 13.0
    p = p * w + 2.0 / 11.0
    p = p * w + 2.0 / 9.0
    p = p * w + 2.0 / 7.0
    p = p * w + 2.0 / 5.0
    p = p * w + 2.0 / 3.0
    p = p * w
    return k * 0.693147180369123816490 + (
        f - (h - (z * (h + p) + (k * 1.90821492927058770002e-10 + c / u))))


cdef inline double log1p64(double s) noexcept nogil:
    """log(1 + s) for s >= 0; what rounding 1 + s leaves is given back."""
    cdef double u = 1.0 + s
    return log_sum(u, s - (u - 1.0))


cdef inline double log1p_for(double s, real unused) noexcept nogil:
    """log(1 + s) for s >= 0; for floats to 1e-9 of it, and without a division."""
    cdef double k = 0, u = 1.0 + s, f, p
    if real is float:
        f = mantissa(u, &k)
        p = 0.0691536806881
        p = p * f - 0.1178980769569
        p = p * f + 0.1187297629345
        p = p * f - 0.1238434847014
        p = p * f + 0.1421865809021
        p = p * f - 0.1666925081615
        p = p * f + 0.2000222661400
        p = p * f - 0.2499998659983
        p = p * f + 0.3333331043986
        # What rounding 1 + s leaves matters only where u is about 1.
        return k * 0.6931471805599453 + (f - f * f * (0.5 - f * p) + (s - (u - 1.0)))
    else:
        return log_sum(u, s - (u - 1.0))


cdef inline double product(double a, double b, double* error) noexcept nogil:
    """a b; adds what is rounded off to error."""
    cdef double p = a * b
    error[0] += fma(a, b, -p)
    return p


cdef inline void add_exactly(double* total, double* error, double v) noexcept nogil:
    """Adds v to total and what that rounds off to error."""
    cdef double s = total[0] + v
    cdef double b = s - total[0]
    error[0] += (total[0] - (s - b)) + (v - b)
    total[0] = s


# ---------------------------------------------------------------- what a job is

cdef struct Task:
    Op op
    Phase phase
    View x, y, mask, u, g, w, loss, grad, stats     # y: labels, or the label distribution
    double* total
    double e, t, scale
    int64_t ignore
    bint has_ignore, single, tiled, stream, in_place
    Py_ssize_t num_outer, num_classes, num_inner, begin, end     # begin, end: classes walked


cdef struct Row:
    double m, rest, weight, gap, nonzero     # the statistics
    double error                             # of the weight: what its sum rounded off
    double share, share_error                # e / C, C being the row's allowed classes
    double u
    bint absent, masked                      # masked: no class is allowed


cdef struct Coef:
    double m, shift                          # log_softmax: (x - m) - shift
    double g, a, tail                        # gradient g ((a + tail) exp(x - m) - c)
    double entry                             # the label's own gradient entry
    Py_ssize_t label                         # -1: none
    bint zero


cdef struct Late:                            # a row whose gradient is still to be written
    bint some
    Py_ssize_t o, i
    Row row
    Coef coef
    double* bases


# ---------------------------------------------------------------- what both shapes of rows need

cdef inline real minus_infinity(real unused) noexcept nogil:
    return <real>-INFINITY


cdef inline Py_ssize_t pitch(Task* t, View* v) noexcept nogil:
    """Stride from one row of a tile to the next."""
    return v.outer if t.num_inner == 1 else v.inner


cdef inline Py_ssize_t count_allowed(Task* t, Py_ssize_t o, Py_ssize_t i) noexcept nogil:
    cdef const char* p = t.mask.data + o * t.mask.outer + i * t.mask.inner
    cdef Py_ssize_t c, n = 0
    for c in range(t.num_classes):
        n += p[c * t.mask.classes] != 0
    return n


cdef inline void open_row(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row) noexcept nogil:
    """What is known before the logits are read."""
    cdef Py_ssize_t allowed = t.num_classes
    row.m = -INFINITY
    row.rest = 0
    row.weight = 0
    row.error = 0
    row.gap = 0
    row.nonzero = 0
    row.share = 0
    row.share_error = 0
    row.u = 1.0
    row.absent = False
    row.masked = False
    if t.u.data != NULL:
        row.u = at(&t.u, o, i)
        row.absent = row.u == 0
    if t.op == INDEX and t.has_ignore:
        row.absent |= element_label(t.y.data + o * t.y.outer + i * t.y.inner, t.y.kind) == t.ignore
    if row.absent:
        return
    if t.mask.data != NULL:
        allowed = count_allowed(t, o, i)
        row.masked = allowed == 0
    if t.e != 0 and allowed > 0:
        row.share = t.e / allowed
        row.share_error = fma(-row.share, <double>allowed, t.e) / allowed


cdef inline void write_stats(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row) noexcept nogil:
    cdef double* p = <double*>(t.stats.data + o * t.stats.outer + i * t.stats.inner)
    p[0] = row.m
    p[1] = row.rest
    p[2] = row.weight
    p[3] = row.gap
    p[4] = row.nonzero


cdef inline void read_stats(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row) noexcept nogil:
    cdef double* p = <double*>(t.stats.data + o * t.stats.outer + i * t.stats.inner)
    row.m = p[0]
    row.rest = p[1]
    row.weight = p[2]
    row.gap = p[3]
    row.nonzero = p[4]


cdef inline bint has_coefficients(Task* t) noexcept nogil:
    return t.op == DENSE or (t.op == INDEX and t.e != 0)


cdef inline double exact_coef(Task* t, Row* row, bint allowed, double q, double w,
                              double* error) noexcept nogil:
    """A class's coefficient in the gradient, w e/C or w ((1-e) q + e/C), and its rounding error."""
    cdef double keep = 1.0 - t.e
    cdef double v = 0
    error[0] = 0
    if allowed:
        v = row.share
        error[0] = row.share_error
    if t.op == DENSE and keep != 0:
        error[0] += ((1.0 - keep) - t.e) * q
        add_exactly(&v, error, product(keep, q, error))
    if w == 0 or v == 0:
        error[0] = 0
        return 0
    error[0] *= w
    return product(v, w, error)


cdef inline real difference(real x, real m, real a, real tail, real c, real c_tail,
                            real g) noexcept nogil:
    """g ((a + tail) exp(x - m) - (c + c_tail)), right to a unit of a exp(x - m)."""
    # A plain 1 would be a double, and half of the vectors with it.
    cdef real t = 0
    cdef real s = factors(x - m, False, &t)
    t = <real>0.0 if x - m < lowest(x, False) else t
    s = <real>0.0 if x - m < lowest(x, False) else s
    return g * ((a * s - c) + (a * s * t + (tail * s * (<real>1.0 + t) - c_tail)))


# ---------------------------------------------------------------- finish

cdef inline double rounding_of_one_plus(double s) noexcept nogil:
    cdef double total = 1.0 + s
    cdef double b = total - 1.0
    return (1.0 - (total - b)) + (s - b)


cdef struct Lanes:          # rows side by side: what Row and Coef are, a column for each number
    double m[TILE]
    double rest[TILE]
    double weight[TILE]
    double gap[TILE]
    double nonzero[TILE]
    double share[TILE]
    double share_error[TILE]
    double u[TILE]
    double absent[TILE]
    double masked[TILE]
    double r[TILE]          # log1p(rest)
    double d[TILE]          # m - x of the label; infinite where it is masked
    double wy[TILE]         # the label's class weight
    double top[TILE]
    double shift[TILE]
    double g[TILE]          # before: scale and upstream gradient; after: times u
    double a[TILE]
    double tail[TILE]
    double entry[TILE]
    double zero[TILE]
    double loss[TILE]
    int64_t label[TILE]


cdef inline void settle(Lanes* s, Py_ssize_t j, bint index, bint coefficients, double e,
                        double z) noexcept nogil:
    """Loss of a row from its statistics.

    With d = m - x >= 0 and r = log1p(rest) every term is a coefficient times (d + r):
    nothing cancels.  There is no branch, so that rows side by side are settled in vectors.
    """
    cdef double m = s.m[j], r = s.r[j], lse = m + r
    cdef double hard = (1.0 - e) * s.wy[j] if index else <double>0.0, loss = 0, soft
    cdef bint broken = (s.masked[j] == 0) & ((m == INFINITY) | (m == -INFINITY))
    if index:
        loss = <double>0.0 if hard == 0 else hard * (s.d[j] + r)
    if coefficients:
        soft = s.weight[j] * r + s.gap[j]
        if index:
            soft *= s.share[j]
        loss += soft if s.nonzero[j] > 0 else <double>0.0
        hard = hard if s.nonzero[j] <= 0 else <double>1.0
    if z != 0:
        loss += z * lse * lse
        hard = 1
    loss = NAN if broken else loss
    loss = INFINITY if s.masked[j] != 0 else loss
    # Without any coefficient a row is absent too.
    s.absent[j] = <double>1.0 if hard == 0 else s.absent[j]
    s.loss[j] = <double>0.0 if s.absent[j] != 0 else s.u[j] * loss


cdef inline void settle_slope(Lanes* s, Py_ssize_t j, bint index, bint coefficients, bint single,
                              double e, double z) noexcept nogil:
    """The numbers of a row's gradient, after settle.  1 - p is the sum of the others'."""
    cdef double m = s.m[j], rest = s.rest[j], whole = 1.0 + rest, g = s.g[j]
    cdef double hard = (1.0 - e) * s.wy[j] if index else <double>0.0
    cdef double a = hard, error = 0, b, p, other, inverse, tail, zero = s.absent[j]
    cdef bint broken = (s.masked[j] == 0) & ((m == INFINITY) | (m == -INFINITY))
    zero = <double>1.0 if s.masked[j] != 0 else zero
    s.zero[j] = <double>1.0 if g == 0 else zero
    s.top[j] = <double>0.0 if m == -INFINITY else m
    g *= s.u[j]
    s.g[j] = g
    if index and coefficients:
        product(1.0 - e, s.wy[j], &error)
        error += ((1.0 - (1.0 - e)) - e) * s.wy[j]
        add_exactly(&a, &error, product(s.share[j], s.weight[j], &error))
        error += s.share_error[j] * s.weight[j]
    elif not index:
        a = s.weight[j]
    if z != 0:
        add_exactly(&a, &error, 2.0 * z * (m + s.r[j]))
    a = NAN if broken else a
    inverse = 1.0 / whole
    b = a * inverse if single and not coefficients else a / whole
    s.a[j] = b
    s.tail[j] = 0
    if coefficients:
        # What the division leaves, and the rounding of 1 + rest: a p - c may cancel.
        tail = fma(-b, whole, a) + error
        tail -= b * rounding_of_one_plus(rest)
        s.tail[j] = tail / whole
    if index:
        p = exp64(-s.d[j])
        other = rest if s.d[j] == 0 else whole - p
        # a holds (1-e) w_y too; its share of the entry is -(1-e) w_y (1 - p).
        p = (a - hard) * (p * inverse) - hard * (other * inverse)
        if coefficients:
            p -= s.share[j] * s.wy[j]
        s.entry[j] = g * p


cdef inline void settle_normaliser(Lanes* s, Py_ssize_t j) noexcept nogil:
    """logsumexp, and what softmax and log_softmax subtract or multiply by."""
    cdef double m = s.m[j]
    cdef bint broken = (s.masked[j] == 0) & ((m == INFINITY) | (m == -INFINITY))
    s.loss[j] = m + s.r[j]
    s.top[j] = <double>0.0 if m == -INFINITY else m
    s.zero[j] = s.masked[j]
    s.g[j] = 1
    s.tail[j] = 0
    s.a[j] = NAN if broken else 1.0 / (1.0 + s.rest[j])
    s.shift[j] = NAN if broken else s.r[j]


cdef double finish(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row, double r,
                   Coef* coef) noexcept nogil:
    """Loss of a row (or its normaliser) from its statistics, and the gradient's numbers."""
    cdef Lanes s
    cdef Py_ssize_t y = -1
    cdef bint loss = t.op == INDEX or t.op == DENSE
    s.m[0] = row.m
    s.rest[0] = row.rest
    s.weight[0] = row.weight
    s.gap[0] = row.gap
    s.nonzero[0] = row.nonzero
    s.share[0] = row.share
    s.share_error[0] = row.share_error
    s.u[0] = row.u
    s.absent[0] = row.absent
    s.masked[0] = row.masked
    s.r[0] = r
    s.d[0] = 0
    s.wy[0] = 1
    s.entry[0] = 0
    s.shift[0] = r
    s.g[0] = t.scale
    if row.absent:
        coef.zero = True
        coef.label = -1
        return 0
    if t.op == INDEX:
        y = <Py_ssize_t>element_label(t.y.data + o * t.y.outer + i * t.y.inner, t.y.kind)
        if t.w.data != NULL:
            s.wy[0] = element_get(t.w.data + y * t.w.classes, t.w.kind)
        if t.mask.data != NULL and (t.mask.data + o * t.mask.outer + i * t.mask.inner
                                    + y * t.mask.classes)[0] == 0:
            s.d[0] = INFINITY
            y = -1
        else:
            s.d[0] = row.m - element_get(
                t.x.data + o * t.x.outer + y * t.x.classes + i * t.x.inner, t.x.kind)
    if t.g.data != NULL:
        s.g[0] *= at(&t.g, o, i)
    if loss:
        settle(&s, 0, t.op == INDEX, has_coefficients(t), t.e, t.t)
        if t.grad.data != NULL:
            settle_slope(&s, 0, t.op == INDEX, has_coefficients(t), False, t.e, t.t)
    else:
        settle_normaliser(&s, 0)
    if t.grad.data != NULL:
        coef.m = s.top[0]
        coef.shift = s.shift[0]
        coef.g = s.g[0]
        coef.a = s.a[0]
        coef.tail = s.tail[0]
        coef.entry = s.entry[0]
        coef.zero = s.zero[0] != 0
        coef.label = -1 if coef.zero else y
    return s.loss[0] if loss or t.op == LOGSUMEXP else 0


# ---------------------------------------------------------------- the two shapes

include "_rows.pxi"
include "_tiles.pxi"
include "_columns.pxi"


# ---------------------------------------------------------------- jobs

cdef void run(Task* t, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block, char* room,
              Py_ssize_t size, real unused) noexcept nogil:
    cdef Py_ssize_t row = first, count
    cdef Py_ssize_t width = t.end - t.begin
    cdef Py_ssize_t whole = size // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t near = NEAR // 2 if t.op == DENSE else <Py_ssize_t>NEAR    # labels need room
    cdef Py_ssize_t most = TILE if t.tiled else max(1, min(
        <Py_ssize_t>BATCH, (near if t.grad.data != NULL else BATCH * BLOCK) // width))
    cdef double total = 0
    cdef real* kept = NULL
    cdef float buffers[2 * BLOCK]
    cdef Next next
    next.source = NULL
    next.x = NULL
    next.buffers = &buffers[0]
    next.far = sizeof(real) == 8 and has_coefficients(t)
    # Rows are kept in whole groups, which may take up to a block more than their elements.
    size = min(size // <Py_ssize_t>sizeof(real) - BLOCK, (BASES - BATCH) * BLOCK)
    # Where they cancel against labels, doubles are computed anew from what rounding them lost.
    if (t.grad.data != NULL and t.phase == ALL and t.op != LOG_SOFTMAX
            and (not has_coefficients(t) or (sizeof(real) == 4 and not t.tiled))
            and most * (width + (width + DEPTH - 1) // DEPTH if t.tiled else width) <= size):
        kept = <real*>room
    if kept != NULL and most == 1 and t.stats.data == NULL:
        total = run_long_rows(t, first, stop, kept, &next, unused)
        row = stop
    if is_plain(t):
        total = run_columns(t, first, stop)
        row = stop
    elif t.tiled:
        total = run_tiles(t, first, stop, kept, room, whole, unused)
        row = stop
    while row < stop:
        count = min(most, stop - row)
        total += run_rows(t, row, count, stop, kept, &next, unused)
        row += count
    if t.stream:
        stream_fence()
    if t.total != NULL:
        t.total[block] = total


cdef Py_ssize_t SMALL = SMALL_CLASSES


cdef bint by_tiles(Task* t, Py_ssize_t itemsize) noexcept nogil:
    return t.num_classes <= SMALL or (
        t.x.classes != itemsize and distance(t.x.classes) > distance(pitch(t, &t.x)))


cdef int kind_of(Py_buffer* b) except -1:
    """Element kind from the buffer's format and size."""
    cdef const char* f = b.format
    cdef bint swapped = False
    cdef int kind
    if f == NULL:
        return KIND_BF16        # bfloat16 has no format; nothing else without one gets here
    if f[0] == c"2":
        return KIND_BF16        # "2x": its bits, raw
    if f[0] in b"<>=@^!":
        swapped = f[0] == c">" or f[0] == c"!"
        f += 1
    if f[0] == c"?":
        kind = KIND_BOOL
    elif f[0] == c"e":
        kind = KIND_F16
    elif f[0] == c"f":
        kind = KIND_F32
    elif f[0] == c"d":
        kind = KIND_F64
    elif f[0] == c"g":
        kind = KIND_LONG
    elif f[0] in b"bhilqn":
        kind = {1: KIND_I8, 2: KIND_I16, 4: KIND_I32, 8: KIND_I64}[b.itemsize]
    elif f[0] in b"BHILQN":
        kind = {1: KIND_U8, 2: KIND_U16, 4: KIND_U32, 8: KIND_U64}[b.itemsize]
    else:
        raise TypeError(f"no kernel reads elements of format {b.format!r}")
    return kind | (KIND_SWAPPED if swapped and b.itemsize > 1 else 0)


#: Computes a range of rows (or entries) of a task: first, stop, block, room and its size.
ctypedef void (*Compute)(void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, char*,
                         Py_ssize_t) noexcept nogil

cdef struct Part:
    Compute compute
    void* task

cdef struct Sweep:
    Part* parts
    Py_ssize_t num_parts, rows, step


cdef void sweep_piece(void* sweep, int64_t k, char* room, Py_ssize_t size) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef Part* part = &s.parts[k % s.num_parts]
    cdef Py_ssize_t block = k // s.num_parts
    part.compute(part.task, block * s.step, min(s.rows, (block + 1) * s.step), block, room, size)


cdef void compute_rows(void* task, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                       char* room, Py_ssize_t size) noexcept nogil:
    if (<Task*>task).single:
        run(<Task*>task, first, stop, block, room, size, <float>0)
    else:
        run(<Task*>task, first, stop, block, room, size, <double>0)


cdef class Arrays:
    """A job: the buffers of its arrays, held while it lives, and what computes with them."""

    cdef Py_buffer buffers[10]
    cdef int held
    cdef Part part

    def __dealloc__(self):
        cdef int k
        for k in range(self.held):
            PyBuffer_Release(&self.buffers[k])

    def __call__(self, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block=0, room=None):
        """Compute a range of rows."""
        cdef Py_buffer b
        b.buf = NULL
        b.len = 0
        if room is not None:
            PyObject_GetBuffer(room, &b, PyBUF_WRITABLE)
        with nogil:
            self.part.compute(self.part.task, first, stop, block, <char*>b.buf, b.len)
        if room is not None:
            PyBuffer_Release(&b)

    @staticmethod
    def sweep(list jobs, Py_ssize_t rows, Py_ssize_t step, int threads, room):
        """Compute all rows of all jobs, block by block, on the pool.

        Return the jobs that are left: all of them, if the pool has other work.
        """
        cdef Sweep s
        cdef Py_buffer b
        cdef Py_ssize_t k
        cdef bint busy
        s.num_parts, s.rows, s.step = len(jobs), rows, step
        s.parts = <Part*>malloc(len(jobs) * sizeof(Part))
        if s.parts == NULL:
            raise MemoryError
        b.buf = NULL
        b.len = 0
        try:
            for k in range(s.num_parts):
                s.parts[k] = (<Arrays?>jobs[k]).part
            if room is not None:
                PyObject_GetBuffer(room, &b, PyBUF_WRITABLE)
            with nogil:
                busy = on_pool(sweep_piece, &s, (rows + step - 1) // step * s.num_parts, threads,
                               <char*>b.buf, b.len)
        finally:
            if b.buf != NULL:
                PyBuffer_Release(&b)
            free(s.parts)
        return jobs if busy else []

    cdef Py_buffer* hold(self, array, bint writable) except NULL:
        cdef Py_buffer* b = &self.buffers[self.held]
        cdef int flags = PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0)
        try:
            PyObject_GetBuffer(array, b, flags | PyBUF_FORMAT)
        except ValueError:
            PyObject_GetBuffer(array, b, flags)
        self.held += 1
        return b

    cdef int bind(self, View* v, array, bint classes, bint writable=False) except -1:
        """Layout (outer[, inner]), with classes (outer, classes[, inner])."""
        cdef Py_buffer* b
        cdef Py_ssize_t k
        cdef bint aligned
        v.data = NULL
        v.outer = v.classes = v.inner = 0
        if array is None:
            return 0
        b = self.hold(array, writable)
        v.data = <char*>b.buf
        v.kind = kind_of(b)
        aligned = <uintptr_t>b.buf % b.itemsize == 0
        for k in range(b.ndim):
            aligned &= b.strides[k] % b.itemsize == 0
        if not aligned:
            v.kind |= KIND_MISALIGNED
        v.outer = b.strides[0]
        if classes:
            v.classes = b.strides[1]
        if b.ndim > 1 + classes:
            v.inner = b.strides[1 + classes]
        return 0

    cdef int bind_entries(self, View* v, array, bint writable=False) except -1:
        """Layout (outer, inner)."""
        return self.bind(v, array, False, writable)


cdef class Job(Arrays):
    """Arrays bound to a kernel; calling it computes a range of rows."""

    cdef Task task

    def __cinit__(self):
        self.part.compute = compute_rows
        self.part.task = &self.task

    cdef int bind_logits(self, x, mask, stats, int phase, Py_ssize_t begin,
                         Py_ssize_t end) except -1:
        cdef Task* t = &self.task
        cdef Py_buffer* b
        self.bind(&t.x, x, True)
        b = &self.buffers[self.held - 1]
        t.num_outer = b.shape[0]
        t.num_classes = b.shape[1]
        t.num_inner = b.shape[2] if b.ndim == 3 else 1
        t.single = t.x.kind & 31 in (KIND_F16, KIND_BF16, KIND_F32)
        t.tiled = by_tiles(t, b.itemsize)
        self.bind(&t.mask, mask, True)
        self.bind(&t.stats, stats, False, True)
        t.phase = <Phase>phase
        t.begin = begin
        t.end = end
        t.scale = 1.0
        return 0

    cdef int bind_outputs(self, loss, total, grad, bint stream) except -1:
        cdef Task* t = &self.task
        self.bind(&t.loss, loss, False, True)
        self.bind(&t.grad, grad, True, True)
        t.in_place = t.grad.data != NULL and t.grad.data == t.x.data
        t.stream = stream
        if total is not None:
            t.total = <double*>self.hold(total, True).buf
        return 0


def normalize(x, mask, str kind, out, stats, int phase, Py_ssize_t begin, Py_ssize_t end,
              bint stream):
    """logsumexp (``out`` per row), softmax or log_softmax (``out`` like ``x``)."""
    cdef Job job = Job()
    job.bind_logits(x, mask, stats, phase, begin, end)
    if kind == "logsumexp":
        job.task.op = LOGSUMEXP
        job.bind_outputs(out, None, None, stream)
    else:
        job.task.op = SOFTMAX if kind == "softmax" else LOG_SOFTMAX
        job.bind_outputs(None, None, out, stream)
    return job


cdef Job rows(Op op, x, y, mask, u, g, w, double e, double t, loss, total, grad, stats,
              double scale, ignore, int phase, Py_ssize_t begin, Py_ssize_t end, bint stream):
    cdef Job job = Job()
    job.task.op = op
    job.bind_logits(x, mask, stats, phase, begin, end)
    job.bind(&job.task.y, y, op == DENSE)
    job.bind(&job.task.u, u, False)
    job.bind(&job.task.g, g, False)
    job.bind(&job.task.w, w, False)
    job.task.w.classes = job.task.w.outer
    job.bind_outputs(loss, total, grad, stream)
    job.task.e = e
    job.task.t = t
    job.task.scale = scale
    job.task.has_ignore = ignore is not None
    if ignore is not None:
        job.task.ignore = ignore
    return job


def rows_index(x, y, mask, u, g, w, double e, double t, loss, total, grad, stats, double scale,
               ignore, int phase, Py_ssize_t begin, Py_ssize_t end, bint stream):
    """Softmax cross entropy with index labels ``y``."""
    return rows(INDEX, x, y, mask, u, g, w, e, t, loss, total, grad, stats, scale, ignore, phase,
                begin, end, stream)


def rows_dense(x, q, mask, u, g, w, double e, double t, loss, total, grad, stats, double scale,
               int phase, Py_ssize_t begin, Py_ssize_t end, bint stream):
    """Softmax cross entropy with label distributions ``q``."""
    return rows(DENSE, x, q, mask, u, g, w, e, t, loss, total, grad, stats, scale, None, phase,
                begin, end, stream)


cdef bint labels_pass(Task* t, double* weight, Py_ssize_t* nonzero) noexcept nogil:
    cdef int64_t y[TILE]
    cdef double u[TILE]
    cdef Py_ssize_t o, b, i, j, rows, count, n = 0
    cdef double s = 0
    cdef bint good = True
    # As in a tile: along the inner axis, or along the outer one if there is no inner.
    rows = t.num_outer if t.num_inner == 1 else t.num_inner
    for j in range(TILE):
        u[j] = 1
    for o in range(1 if t.num_inner == 1 else t.num_outer):
        for b in range((rows + TILE - 1) // TILE):
            i = b * TILE
            count = min(<Py_ssize_t>TILE, rows - i)
            load_labels(t.y.data + o * t.y.outer + i * pitch(t, &t.y), t.y.kind, pitch(t, &t.y),
                        count, &y[0])
            if t.u.data != NULL:
                load_column(t, &t.u, i if t.num_inner == 1 else o,
                            0 if t.num_inner == 1 else i, count, &u[0])
            for j in range(count):
                if (t.has_ignore and y[j] == t.ignore) or u[j] == 0:
                    continue
                if y[j] < 0 or y[j] >= t.num_classes:
                    good = False
                    continue
                n += 1
                if t.w.data != NULL:
                    s += u[j] * element_get(t.w.data + y[j] * t.w.classes, t.w.kind)
                else:
                    s += u[j]
    weight[0] = s
    nonzero[0] = n
    return good


cdef bint labels_plain(const char* p, int kind, Py_ssize_t n, int64_t c) noexcept nogil:
    """Are n contiguous labels all in [0, c)?  Branch-free, so that it vectorises."""
    cdef Py_ssize_t j
    cdef int64_t bad = 0
    cdef int32_t bad32 = 0, c32 = <int32_t>min(c, <int64_t>0x7FFFFFFF)
    if kind == KIND_I64:
        for j in range(n):
            bad |= (<const int64_t*>p)[j] | (c - 1 - (<const int64_t*>p)[j])
    else:
        for j in range(n):
            bad32 |= (<const int32_t*>p)[j] | (c32 - 1 - (<const int32_t*>p)[j])
    return bad >= 0 and bad32 >= 0


def labels(y, u, w, ignore, Py_ssize_t num_classes):
    """The pass over the labels alone.

    Returns whether every label that counts is in ``[0, num_classes)``, the sum of the
    sample weight x class weight of those rows, and how many they are.
    """
    cdef Job job = Job()
    cdef Task* t = &job.task
    cdef Py_buffer* b
    cdef double weight = 0
    cdef Py_ssize_t nonzero = 0, n, k
    cdef bint good
    job.bind(&t.y, y, False)
    b = &job.buffers[0]
    t.num_outer = b.shape[0]
    t.num_inner = b.shape[1] if b.ndim == 2 else 1
    n = t.num_outer * t.num_inner
    if (u is None and w is None and ignore is None and t.y.kind in (KIND_I64, KIND_I32)
            and b.strides[b.ndim - 1] == b.itemsize):
        good = True
        with nogil:
            for k in range(1 if b.ndim == 1 else t.num_outer):
                good &= labels_plain(t.y.data + k * t.y.outer, t.y.kind,
                                     n if b.ndim == 1 else t.num_inner, num_classes)
        return good, <double>n, n
    job.bind(&t.u, u, False)
    job.bind(&t.w, w, False)
    t.w.classes = t.w.outer
    t.num_classes = num_classes
    t.has_ignore = ignore is not None
    if ignore is not None:
        t.ignore = ignore
    with nogil:
        good = labels_pass(t, &weight, &nonzero)
    return good, weight, nonzero


# ---------------------------------------------------------------- plain calls

cdef inline void lay(Task* t, View* v, const char* data, int kind, Py_ssize_t classes,
                     Py_ssize_t inner) noexcept nogil:
    """C-contiguous (outer, classes, inner); the rows of a single outer are outer ones."""
    cdef Py_ssize_t bytes = element_size[kind]
    v.data = <char*>data
    v.kind = kind
    v.inner = bytes
    v.classes = inner * bytes
    v.outer = bytes if t.num_inner < inner else classes * inner * bytes


cdef int direct(const fx_direct* d, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                char* room, Py_ssize_t room_bytes) noexcept nogil:
    """A block of a plain call."""
    cdef Task t
    cdef int kind = KIND_F32 if d.bytes == 4 else KIND_F64
    if first == stop:
        return 0
    memset(&t, 0, sizeof(Task))
    t.op = d.op
    t.num_inner = d.inner if d.rows > d.inner else 1
    t.num_outer = d.rows // t.num_inner
    t.num_classes = t.end = d.classes
    t.single = d.bytes == 4
    lay(&t, &t.x, d.x, kind, d.classes, d.inner)
    lay(&t, &t.grad, d.grad, kind, d.classes, d.inner)
    lay(&t, &t.loss, d.loss, kind, 1, d.inner)
    if t.op == DENSE:
        lay(&t, &t.y, d.y, kind, d.classes, d.inner)
    else:
        lay(&t, &t.y, d.y, KIND_I32 if d.label_bytes == 4 else KIND_I64, 1, d.inner)
    t.tiled = by_tiles(&t, d.bytes)
    t.in_place = d.grad != NULL and d.grad == d.x
    t.scale = d.scale
    t.stream = d.stream
    t.total = d.totals
    compute_rows(&t, first, stop, block, room, room_bytes)
    return 0


#: For `_front`, which asks no Python of the kernels.
DIRECT = PyCapsule_New(<void*>&direct, FX_DIRECT, NULL)


# ---------------------------------------------------------------- entries by themselves

include "_entries.pxi"


# ---------------------------------------------------------------- sampled losses

include "_sampled.pxi"
