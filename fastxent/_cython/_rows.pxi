# Rows with contiguous classes, each walked in blocks: lanes across the classes.
# Included by _isa.pyx.

cdef inline void pad(const real* x, Py_ssize_t n, real* end) noexcept nogil:
    """The ragged end of a block as a whole group, filled up with -inf."""
    cdef Py_ssize_t j
    if n % LANES:
        for j in range(LANES):
            end[j] = minus_infinity(x[0])
        memcpy(end, x + n - n % LANES, (n % LANES) * sizeof(real))


cdef inline double lane_sum(const real* lanes) noexcept nogil:
    if real is float:
        return sum_floats(lanes, LANES)
    else:
        return sum_doubles(lanes, LANES)


cdef inline real block_max(const real* x, Py_ssize_t n, const real* end) noexcept nogil:
    """Largest element of a block; NaN never wins."""
    cdef real lanes[LANES]
    cdef Py_ssize_t g, j
    for j in range(LANES):
        lanes[j] = minus_infinity(x[0])
    for g in range(n // LANES):
        for j in range(LANES):
            lanes[j] = x[g * LANES + j] if x[g * LANES + j] > lanes[j] else lanes[j]
    if n % LANES:
        for j in range(LANES):
            lanes[j] = end[j] if end[j] > lanes[j] else lanes[j]
    if real is float:
        return max_floats(&lanes[0])
    else:
        return max_doubles(&lanes[0])


cdef inline void add_exp(const real* x, Py_ssize_t groups, real m, real* lanes,
                         const char* ahead, real* kept) noexcept nogil:
    """Adds exp(x - m) to the lanes and fetches the bytes from ahead meanwhile.

    The terms go to kept as well, unless that is NULL.
    """
    cdef Py_ssize_t g, j
    cdef real v
    for g in range(groups):
        if ahead != NULL:
            for j in range(LANES * <Py_ssize_t>sizeof(real) // 64):
                prefetch(ahead + g * LANES * <Py_ssize_t>sizeof(real) + 64 * j)
        if kept != NULL:
            for j in range(LANES):
                v = exponential(x[g * LANES + j] - m, True)
                kept[g * LANES + j] = v
                lanes[j] += v
        else:
            for j in range(LANES):
                lanes[j] += exponential(x[g * LANES + j] - m, True)


cdef inline Py_ssize_t find(const real* x, Py_ssize_t n, real m) noexcept nogil:
    if real is float:
        return find_float(x, n, m)
    else:
        return find_double(x, n, m)


cdef double nan_or_zero(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        if x[j] != x[j]:
            return NAN
    return 0


cdef double block_sum(const real* x, Py_ssize_t n, real m, const real* end, const char* ahead,
                      real* lanes, real* kept) noexcept nogil:
    """Sum of exp(x - m) 2^BIAS over a block, element k in lane k % LANES.

    With kept, all the terms are left there, the ragged end as a whole group.
    """
    cdef Py_ssize_t j, groups = n // LANES
    for j in range(LANES):
        lanes[j] = 0
    add_exp(x, groups, m, lanes, ahead, kept)
    if n % LANES:
        add_exp(end, 1, m, lanes, NULL, kept + groups * LANES if kept != NULL else NULL)
    return lane_sum(lanes)


cdef double without_one(const real* x, Py_ssize_t n, real m, double total,
                        real* lanes) noexcept nogil:
    """The sum of a block without one of its elements equal to m.

    In 1 + tiny the tiny is lost, and a confident row's loss is all in it.  Where the sum is
    small, only the lane with the maximum has lost something: that lane is summed again
    without it.
    """
    cdef real lane[LANES]
    cdef Py_ssize_t g, j, at
    cdef double one = 1.0 / unbias(m)
    if total >= 4 * one:
        return total - one
    at = find(x, n, m)
    for j in range(LANES):
        lane[j] = minus_infinity(m)
    for g in range((n - at % LANES + LANES - 1) // LANES):
        lane[g] = x[g * LANES + at % LANES]
    lane[at // LANES] = minus_infinity(m)
    lanes[at % LANES] = 0
    add_exp(&lane[0], 1, m, lanes, NULL, NULL)
    return lane_sum(lanes)


cdef void block_gap(const real* x, const real* c, Py_ssize_t n, real m, Row* row) noexcept nogil:
    """Adds sum c, sum c (m - x) and the number of c != 0 to the row; 0 x anything is 0.

    The sum of c scales p in the gradient, where a p - c may cancel: for float64 it is
    summed exactly; sums of a few float32 in each of many lanes are exact enough.
    """
    cdef real weight[LANES]
    cdef real error[LANES]
    cdef real gap[LANES]
    cdef real count[LANES]
    cdef Py_ssize_t g, j, k, whole = n - n % LANES
    cdef real v
    cdef double found[3]
    if real is float and HAS_SCAN:
        found[0] = found[1] = found[2] = 0
        gap_floats(<const float*>x, <const float*>c, n, <float>m, &found[0])
        row.weight += found[0]
        row.gap += found[1]
        row.nonzero += found[2]
        return
    for j in range(LANES):
        weight[j] = 0
        error[j] = 0
        gap[j] = 0
        count[j] = 0
    for g in range(whole // LANES):
        k = g * LANES
        for j in range(LANES):
            v = c[k + j] * (m - x[k + j])
            if real is float:
                gap[j] += float_if(c[k + j], v)
                count[j] += float_if(c[k + j], 1)
            else:
                gap[j] += double_if(c[k + j], v)
                count[j] += double_if(c[k + j], 1)
        for j in range(LANES):
            if real is float:
                weight[j] += c[k + j]
            else:
                add_exactly(&weight[j], &error[j], c[k + j])
    for j in range(n - whole):
        if c[whole + j] != 0:
            if real is float:
                weight[j] += c[whole + j]
            else:
                add_exactly(&weight[j], &error[j], c[whole + j])
            gap[j] += c[whole + j] * (m - x[whole + j])
            count[j] += 1
    if real is float:
        row.weight += lane_sum(&weight[0])
    else:
        for j in range(LANES):
            add_exactly(&row.weight, &row.error, weight[j])
            row.error += error[j]
    row.gap += lane_sum(&gap[0])
    row.nonzero += lane_sum(&count[0])


cdef double block_gap_plain(const real* x, Py_ssize_t n, real m) noexcept nogil:
    """Sum of m - x."""
    cdef real gap[LANES]
    cdef Py_ssize_t g, j, k, whole = n - n % LANES
    for j in range(LANES):
        gap[j] = 0
    for g in range(whole // LANES):
        k = g * LANES
        for j in range(LANES):
            gap[j] += m - x[k + j]
    for j in range(n - whole):
        gap[j] += m - x[whole + j]
    return lane_sum(gap)


cdef enum:
    VECTOR = 16         # the widest vector of floats


cdef void block_exp(const real* x, Py_ssize_t n, real m, real a, real* dst) noexcept nogil:
    """dst = a exp(x - m).  The ragged end goes through a whole vector, not one by one."""
    cdef real end[VECTOR]
    cdef Py_ssize_t j, whole = n - n % VECTOR
    for j in range(whole):
        dst[j] = a * exponential(x[j] - m, False)
    if whole < n:
        for j in range(VECTOR):
            end[j] = m
        memcpy(end, x + whole, (n - whole) * sizeof(real))
        for j in range(VECTOR):
            end[j] = a * exponential(end[j] - m, False)
        memcpy(dst + whole, end, (n - whole) * sizeof(real))


cdef void block_less(const real* x, const real* c, const real* c_tail, Py_ssize_t n, real m,
                     real a, real tail, real g, real* dst) noexcept nogil:
    """dst = g ((a + tail) exp(x - m) - (c + c_tail))."""
    cdef Py_ssize_t j
    if real is float and HAS_SCAN:
        less_floats(<const float*>x, <const float*>c, <const float*>c_tail, n, <float>m, <float>a,
                    <float>tail, <float>g, <float*>dst)
        return
    for j in range(n):
        dst[j] = difference(x[j], m, a, tail, c[j], c_tail[j], g)


cdef void block_less_kept(const real* e, const real* c, const real* c_tail, real fixed,
                          real fixed_tail, Py_ssize_t n, real first, real a, real tail, real g,
                          real* dst) noexcept nogil:
    """dst = g ((a + tail) first e - (c + c_tail)); without c, what is fixed stands for them."""
    cdef Py_ssize_t j
    cdef real v
    if real is float and HAS_SCAN:
        less_kept_floats(<const float*>e, <const float*>c, <const float*>c_tail, <float>fixed,
                         <float>fixed_tail, n, <float>first, <float>a, <float>tail, <float>g,
                         <float*>dst)
    elif c == NULL:
        for j in range(n):
            v = first * e[j]
            dst[j] = g * ((a * v - fixed) + (tail * v - fixed_tail))
    elif c_tail == NULL:
        for j in range(n):
            v = first * e[j]
            dst[j] = g * ((a * v - c[j]) + tail * v)
    else:
        for j in range(n):
            v = first * e[j]
            dst[j] = g * ((a * v - c[j]) + (tail * v - c_tail[j]))


cdef void block_log(const real* x, Py_ssize_t n, real m, real r, real* dst) noexcept nogil:
    """dst = (x - m) - r."""
    cdef Py_ssize_t j
    for j in range(n):
        dst[j] = (x[j] - m) - r


# ---------------------------------------------------------------- rows with contiguous classes

cdef inline real* load_logits(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t c, Py_ssize_t n,
                              real* buf) noexcept nogil:
    """Logits of n classes; masked ones are -inf."""
    cdef real* x = load(t.x.kind, t.x.data + o * t.x.outer + i * t.x.inner + c * t.x.classes,
                        t.x.classes, n, buf)
    cdef const char* p
    cdef Py_ssize_t j
    if t.mask.data != NULL:
        p = t.mask.data + o * t.mask.outer + i * t.mask.inner + c * t.mask.classes
        for j in range(n):
            buf[j] = x[j] if p[j * t.mask.classes] != 0 else minus_infinity(buf[0])
        return buf
    return x


cdef inline real* load_coefs(Task* t, Row* row, Py_ssize_t o, Py_ssize_t i, Py_ssize_t c,
                             Py_ssize_t n, real* buf, real* extra) noexcept nogil:
    """Coefficients of n classes: w for index labels, w ((1-e) q + e/C) for dense ones.

    NULL stands for all ones.
    """
    cdef real* w = NULL
    cdef real* q
    cdef const char* p = NULL
    cdef Py_ssize_t j
    cdef real keep = <real>(1.0 - t.e), share = <real>row.share
    if t.w.data != NULL:
        w = load(t.w.kind, t.w.data + c * t.w.classes, t.w.classes, n, extra)
    if t.mask.data != NULL:
        p = t.mask.data + o * t.mask.outer + i * t.mask.inner + c * t.mask.classes
    if t.op == DENSE:
        q = load(t.y.kind, t.y.data + o * t.y.outer + i * t.y.inner + c * t.y.classes,
                 t.y.classes, n, buf)
        if t.e != 0:
            for j in range(n):
                buf[j] = (<real>0.0 if keep == 0 else keep * q[j]) + (
                    share if p == NULL or p[j * t.mask.classes] != 0 else <real>0.0)
            q = buf
        if w != NULL:
            for j in range(n):
                buf[j] = <real>0.0 if w[j] == 0 or q[j] == 0 else w[j] * q[j]
            q = buf
        return q
    if p != NULL:
        for j in range(n):
            buf[j] = (<real>1.0 if w == NULL else w[j]) if p[j * t.mask.classes] != 0 else <real>0.0
        return buf
    return w


cdef inline bint labels_exact(Task* t) noexcept nogil:
    """Does the gradient subtract the labels as they are?"""
    return t.op == DENSE and t.e == 0 and t.w.data == NULL


cdef real* load_exact(Task* t, Row* row, Py_ssize_t o, Py_ssize_t i, Py_ssize_t c, Py_ssize_t n,
                      real* buf, real* tail) noexcept nogil:
    """What the gradient subtracts for n classes, and in tail what rounding it to real left.

    NULL if it is the same for all: then both have one element.
    """
    cdef real* q = NULL
    cdef const char* p = NULL
    cdef Py_ssize_t j
    cdef double v, error = 0
    if t.op == DENSE:
        q = load(t.y.kind, t.y.data + o * t.y.outer + i * t.y.inner + c * t.y.classes,
                 t.y.classes, n, buf)
        if labels_exact(t):
            return q
    if t.mask.data != NULL:
        p = t.mask.data + o * t.mask.outer + i * t.mask.inner + c * t.mask.classes
    elif t.op == INDEX and t.w.data == NULL:
        v = exact_coef(t, row, True, 0.0, 1.0, &error)
        buf[0] = <real>v
        tail[0] = <real>((v - <real>v) + error)
        return NULL
    for j in range(n):
        v = exact_coef(
            t, row, p == NULL or p[j * t.mask.classes] != 0, q[j] if q != NULL else 0.0,
            element_get(t.w.data + (c + j) * t.w.classes, t.w.kind) if t.w.data != NULL else 1.0,
            &error)
        buf[j] = <real>v
        tail[j] = <real>((v - buf[j]) + error)
    return buf


cdef inline bint is_plain_gradient(Task* t, real unused) noexcept nogil:
    """Does the gradient go where it goes as it is computed?"""
    return t.grad.classes == sizeof(real) and t.grad.kind == native_kind(unused)


cdef inline real kept_factor(Coef* coef, double base, real* first) noexcept nogil:
    """What a block's kept terms are multiplied by, after first."""
    cdef double scale = coef.g * coef.a
    if base != coef.m:
        scale *= exp64(base - coef.m)
    # The terms' bias goes into the factor, unless a small weight would underflow with it.
    first[0] = <real>1.0
    if -tiny(first[0]) < scale < tiny(first[0]):
        first[0] = <real>unbias(first[0])
        return <real>scale
    return <real>(scale * unbias(first[0]))


cdef void emit_block(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row, Coef* coef, real* kept,
                     const double* bases, Py_ssize_t b, real unused) noexcept nogil:
    """A block of a row's gradient; with kept one multiplication each of what the scan left."""
    cdef real bx[BLOCK]
    cdef real bc[BLOCK]
    cdef real bw[BLOCK]
    cdef real bd[BLOCK]
    cdef real* x
    cdef real* c
    cdef real* d
    cdef char* to
    cdef const char* p
    cdef real a, first = 1, nothing = minus_infinity(unused) if t.op == LOG_SOFTMAX else <real>0.0
    cdef double factor
    cdef bint plain = is_plain_gradient(t, unused)
    cdef bint whole = HAS_SCAN and plain and kept != NULL and (
        t.mask.data == NULL and not has_coefficients(t))
    cdef bint direct = whole or plain and not t.stream and (kept != NULL or not t.in_place)
    cdef Py_ssize_t j, k = t.begin + b * BLOCK, n = min(<Py_ssize_t>BLOCK, t.end - k)
    to = t.grad.data + o * t.grad.outer + i * t.grad.inner + k * t.grad.classes
    d = <real*>to if direct else kept + b * BLOCK if kept != NULL else &bd[0]
    if coef.zero:
        for j in range(n):
            d[j] = nothing
    elif kept != NULL and has_coefficients(t):
        factor = coef.a + coef.tail
        if bases[b] != coef.m:
            factor *= exp64(bases[b] - coef.m)
        # As in kept_factor.
        if -1e-10 < factor < 1e-10:
            first = <real>unbias(first)
        else:
            factor *= unbias(first)
        a = <real>factor
        c = load_exact(t, row, o, i, k, n, &bc[0], &bw[0])
        block_less_kept(kept + b * BLOCK, c, NULL if labels_exact(t) else &bw[0], bc[0], bw[0], n,
                        first, a, <real>(factor - a), <real>coef.g, d)
    elif kept != NULL:
        a = kept_factor(coef, bases[b], &first)
        x = kept + b * BLOCK
        if whole:
            if real is float:
                scale_floats(<float*>x, n, a, first, coef.label - k, <float>coef.entry, <float*>d,
                             t.stream)
            else:
                scale_doubles(<double*>x, n, a, first, coef.label - k, coef.entry, <double*>d,
                              t.stream)
            return
        for j in range(n):
            d[j] = a * (first * x[j])
    else:
        x = load_logits(t, o, i, k, n, &bx[0])
        if t.op == LOG_SOFTMAX:
            block_log(x, n, <real>coef.m, <real>coef.shift, d)
        elif has_coefficients(t):
            c = load_exact(t, row, o, i, k, n, &bc[0], &bw[0])
            if c == NULL:
                c = &bc[0]
                for j in range(1, n):
                    bc[j] = bc[0]
                    bw[j] = bw[0]
            a = <real>coef.a
            if labels_exact(t):
                for j in range(n):
                    bw[j] = 0
            block_less(x, c, &bw[0], n, <real>coef.m, a, <real>(coef.a - a + coef.tail),
                       <real>coef.g, d)
        else:
            block_exp(x, n, <real>coef.m, <real>(coef.g * coef.a), d)
    if k <= coef.label < k + n:
        d[coef.label - k] = <real>coef.entry
    if t.mask.data != NULL:
        p = t.mask.data + o * t.mask.outer + i * t.mask.inner + k * t.mask.classes
        for j in range(n):
            d[j] = d[j] if p[j * t.mask.classes] != 0 else nothing
    if not direct:
        store(t.grad.kind, to, t.grad.classes, n, d, t.stream)


cdef void emit_row(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row, Coef* coef, real* kept,
                   const double* bases, real unused) noexcept nogil:
    cdef Py_ssize_t b
    for b in range((t.end - t.begin + BLOCK - 1) // BLOCK):
        emit_block(t, o, i, row, coef, kept, bases, b, unused)


cdef inline bint in_whole_vectors(Task* t, real unused) noexcept nogil:
    """Can the scan in whole vectors read the logits?"""
    if not HAS_SCAN or t.mask.data != NULL:
        return False
    if real is float:
        return (t.x.kind == KIND_F32 and t.x.classes == 4
                or (t.x.kind == KIND_F16 or t.x.kind == KIND_BF16) and t.x.classes == 2)
    else:
        return t.x.kind == KIND_F64 and t.x.classes == 8


cdef struct Next:               # the block that is scanned next, already read once
    const char* source
    const void* x               # its elements, halves as floats
    float* buffers              # two blocks, for such as are not
    double top
    int far                     # floats: have -inf or NaN been met? doubles: must sums be exact?


cdef inline float* other_buffer(Next* next) noexcept nogil:
    return next.buffers + (BLOCK if next.x == next.buffers else 0)


cdef inline void take(Next* next, const char* p, Py_ssize_t n, int kind,
                      real unused) noexcept nogil:
    cdef float* to = other_buffer(next)
    if real is float:
        next.top = take_floats(p, n, kind, to)
    else:
        next.top = take_doubles(p, n, kind, NULL)
    next.x = <const void*>p if kind == native_kind(unused) else <const void*>to
    next.source = p


cdef inline double scan_next(Next* next, const char* p, Py_ssize_t n, int kind, const real* x,
                             Py_ssize_t x_n, real m, const char* ahead, real* lanes, real* kept,
                             const char* soon, const late_block* late) noexcept nogil:
    """Sum of exp(x - m) 2^BIAS over a block; takes the n elements at p meanwhile, if any."""
    cdef float* to = other_buffer(next)
    cdef double total
    cdef real top = 0
    if real is float:
        total = scan_floats(<const float*>x, x_n, <float>m, &next.far, ahead, <float*>lanes,
                            <float*>kept, soon, late, p, n, kind, to, <float*>&top)
    else:
        total = scan_doubles(<const double*>x, x_n, m, &next.far, ahead, <double*>lanes,
                             <double*>kept, soon, late, p, n, kind, NULL, <double*>&top)
    next.top = top
    next.x = <const void*>p if kind == native_kind(x[0]) else <const void*>to
    next.source = p
    return total


cdef inline const char* start_of(Task* t, Py_ssize_t row, Py_ssize_t stop) noexcept nogil:
    """A row's first logit, NULL beyond the last row."""
    if row >= stop:
        return NULL
    return (t.x.data + row // t.num_inner * t.x.outer + row % t.num_inner * t.x.inner
            + t.begin * t.x.classes)


cdef void scan_row(Task* t, Py_ssize_t o, Py_ssize_t i, Row* row, real* kept, double* bases,
                   Late* late, Next* next, const char* after, real unused) noexcept nogil:
    """The row's statistics; with kept, exp(x - base) of each block too, and the bases.

    A late gradient is written block by block as its place in kept is needed.  After, if not
    NULL, are the logits of the row scanned next.
    """
    cdef real bx[BLOCK]
    cdef real bc[BLOCK]
    cdef real bw[BLOCK]
    cdef real end[LANES]
    cdef real lanes[LANES]
    cdef real* x
    cdef real* c
    cdef real* keep = NULL
    cdef const char* ahead
    cdef const char* soon
    cdef const char* p
    cdef const char* follows
    cdef Py_ssize_t b, k, n, coming
    cdef Py_ssize_t width = t.end - t.begin
    cdef real m = minus_infinity(unused), top, base
    cdef double total
    cdef bint grown, together = False, whole = in_whole_vectors(t, unused)
    cdef bint plain = is_plain_gradient(t, unused)
    cdef late_block later
    cdef real first = 1
    for b in range((width + BLOCK - 1) // BLOCK):
        k = t.begin + b * BLOCK
        n = min(<Py_ssize_t>BLOCK, t.end - k)
        p = t.x.data + o * t.x.outer + i * t.x.inner + k * t.x.classes
        if kept != NULL:
            keep = kept + b * BLOCK
        if whole:
            if next.source != p:
                take(next, p, n, t.x.kind, unused)
            x = <real*>next.x
            top = <real>next.top
        else:
            x = load_logits(t, o, i, k, n, &bx[0])
            pad(x, n, &end[0])
            top = block_max(x, n, &end[0])
        grown = top > m
        if grown:
            if m != minus_infinity(m):
                row.rest = (row.rest + 1.0) * exp64(<double>m - <double>top)
                row.gap += row.weight * (<double>top - <double>m)
            m = top
        base = <real>0.0 if m == minus_infinity(m) else m
        if late != NULL and late.some:
            together = whole and not has_coefficients(t) and not late.coef.zero and (
                m != <real>INFINITY) and plain
            if together:
                later.a = kept_factor(&late.coef, late.bases[b], &first)
                later.to = (t.grad.data + late.o * t.grad.outer + late.i * t.grad.inner
                            + k * t.grad.classes)
                later.stream = t.stream
                together = first == 1
            if not together:
                emit_block(t, late.o, late.i, &late.row, &late.coef, kept, late.bases, b, unused)
        if m == <real>INFINITY:
            row.rest += nan_or_zero(x, n)
        else:
            # Past the row's end comes, as a rule, the next row.
            if whole:
                ahead = p + n * t.x.classes + AHEAD * sizeof(real)
                follows = p + n * t.x.classes if k + n < t.end else after
                coming = min(<Py_ssize_t>BLOCK, t.end - k - n if k + n < t.end else width)
                if follows == NULL:
                    coming = 0
                soon = <const char*>keep
                if plain and not t.stream:
                    soon = (t.grad.data + o * t.grad.outer + i * t.grad.inner
                            + k * t.grad.classes)
                total = scan_next(next, follows, coming, t.x.kind, x, n, base, ahead, &lanes[0],
                                  keep, soon, &later if together else NULL)
                if together and k <= late.coef.label < k + n:
                    (<real*>later.to)[late.coef.label - k] = <real>late.coef.entry
            else:
                ahead = <const char*>(x + n + AHEAD) if x != &bx[0] else NULL
                total = block_sum(x, n, base, &end[0], ahead, &lanes[0], keep)
            if grown:
                total = without_one(x, n, base, total, &lanes[0])
            row.rest += unbias(unused) * total
        if kept != NULL:
            bases[b] = m        # -inf: nothing but zeros so far
        if has_coefficients(t):
            c = load_coefs(t, row, o, i, k, n, &bc[0], &bw[0])
            if c == NULL:
                row.weight += n
                row.gap += block_gap_plain(x, n, base)
                row.nonzero += n
            else:
                block_gap(x, c, n, base, row)
    row.m = m
    row.weight += row.error
    if late != NULL:
        late.some = False


cdef double run_rows(Task* t, Py_ssize_t first, Py_ssize_t count, Py_ssize_t stop, real* kept,
                     Next* next, real unused) noexcept nogil:
    """A few rows at once, for their logarithms: one alone waits for each of its operations.

    With kept, room for all their elements, each exponential is computed only once.
    """
    cdef Row rows[BATCH]
    cdef double r[BATCH]
    cdef double bases[BASES]
    cdef Coef coef
    cdef double loss, total = 0
    cdef Py_ssize_t j, o, i, length = (t.end - t.begin + LANES - 1) // LANES * LANES
    cdef Py_ssize_t blocks = (length + BLOCK - 1) // BLOCK
    for j in range(BATCH):
        r[j] = 0
    for j in range(count):
        o = (first + j) // t.num_inner
        i = (first + j) % t.num_inner
        open_row(t, o, i, &rows[j])
        if t.phase == FINISH:
            read_stats(t, o, i, &rows[j])
        elif not rows[j].absent:
            scan_row(t, o, i, &rows[j], kept + j * length if kept != NULL else NULL,
                     &bases[j * blocks], NULL, next, start_of(t, first + j + 1, stop), unused)
        if t.stats.data != NULL and t.phase != FINISH:
            write_stats(t, o, i, &rows[j])
        r[j] = rows[j].rest
    if t.phase == SCAN:
        return 0
    for j in range(BATCH):
        r[j] = log1p64(r[j])
    for j in range(count):
        o = (first + j) // t.num_inner
        i = (first + j) % t.num_inner
        loss = finish(t, o, i, &rows[j], r[j], &coef)
        total += loss
        if t.loss.data != NULL:
            element_put(t.loss.data + o * t.loss.outer + i * t.loss.inner, t.loss.kind, loss)
        if t.grad.data != NULL:
            emit_row(t, o, i, &rows[j], &coef, kept + j * length if kept != NULL else NULL,
                     &bases[j * blocks], unused)
    return total


cdef double run_long_rows(Task* t, Py_ssize_t first, Py_ssize_t stop, real* kept, Next* next,
                          real unused) noexcept nogil:
    """Loss and gradient, the gradient of a row while the next one is scanned.

    Writing past the cache waits for memory and the scan for arithmetic: together they take
    little more than the longer of them.
    """
    cdef double bases[2 * BASES]
    cdef double* now
    cdef Row row
    cdef Late late
    cdef double loss, total = 0
    cdef Py_ssize_t j, o, i
    late.some = False
    for j in range(first, stop):
        o = j // t.num_inner
        i = j % t.num_inner
        now = &bases[(j % 2) * BASES]
        open_row(t, o, i, &row)
        if not row.absent:
            scan_row(t, o, i, &row, kept, now, &late, next, start_of(t, j + 1, stop), unused)
        elif late.some:
            emit_row(t, late.o, late.i, &late.row, &late.coef, kept, late.bases, unused)
        loss = finish(t, o, i, &row, log1p64(row.rest), &late.coef)
        total += loss
        if t.loss.data != NULL:
            element_put(t.loss.data + o * t.loss.outer + i * t.loss.inner, t.loss.kind, loss)
        late.some = True
        late.o = o
        late.i = i
        late.row = row
        late.bases = now
    if late.some:
        emit_row(t, late.o, late.i, &late.row, &late.coef, kept, late.bases, unused)
    return total
