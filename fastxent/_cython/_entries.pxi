# The kernel of entries that stand by themselves: sigmoid, log_sigmoid, and binary cross entropy
# from log-odds or from probabilities.  Included by _isa.pyx.
#
# With t = exp(-|x|) <= 1: log(1 + exp(|x|)) = |x| + log1p(t) and log(1 + exp(-|x|)) = log1p(t);
# the sigmoids of |x| and -|x| are 1 / (1 + t) and t / (1 + t).  All terms have one sign, so nothing
# cancels that is not opposite by nature, and t is the only exponential.

cdef enum:
    SPAN = 1024         # entries worked on at once: a dozen arrays of them stay in L1 or near

cdef enum What:
    SIGMOID, LOG_SIGMOID, LOGITS, PROBS

cdef struct Entries:
    What what
    View x, z, u, g, pw, loss, grad     # strides: outer, inner
    double* total
    double e, scale
    Py_ssize_t inner
    bint single, stream


cdef inline real* gather(View* v, Py_ssize_t inner, Py_ssize_t first, Py_ssize_t n,
                         real* buf) noexcept nogil:
    """Entries first..first+n of an (outer, inner) array, n rounded up to whole vectors.

    What is read beyond n is 0.  In place where the array allows.
    """
    cdef Py_ssize_t row = first // inner, col = first % inner, done = 0, some, k
    cdef real* found
    if v.outer == inner * v.inner:      # rows follow each other
        inner = first + n
        row = 0
        col = first
    while done < n:
        some = min(n - done, inner - col)
        found = load(v.kind, v.data + row * v.outer + col * v.inner, v.inner, some, buf + done)
        if found != buf + done:
            if some == n and n % VECTOR == 0:
                return found
            memcpy(buf + done, found, some * sizeof(real))
        done += some
        row += 1
        col = 0
    for k in range(n, n + VECTOR - 1 - (n + VECTOR - 1) % VECTOR):
        buf[k] = 0
    return buf


cdef inline void scatter(View* v, Py_ssize_t inner, Py_ssize_t first, Py_ssize_t n,
                         const real* buf, bint stream) noexcept nogil:
    cdef Py_ssize_t row = first // inner, col = first % inner, done = 0, some
    if v.outer == inner * v.inner:
        inner = first + n
        row = 0
        col = first
    while done < n:
        some = min(n - done, inner - col)
        store(v.kind, v.data + row * v.outer + col * v.inner, v.inner, some, buf + done, stream)
        done += some
        row += 1
        col = 0


cdef inline real log1p_small(real t) noexcept nogil:
    """log(1 + t) for 0 <= t <= 1: t times a minimax polynomial (relative error 4.7e-9)."""
    cdef real p, t2
    if real is float:
        # In pairs: the loops that use it wait for one entry's operations after the other.
        t2 = t * t
        p = <float>-0.0032440246083 * t + <float>0.0198514598155
        p = p * t2 + (<float>-0.0569595295249 * t + <float>0.106036544123)
        p = p * t2 + (<float>-0.153055923012 * t + <float>0.196759391696)
        p = p * t2 + (<float>-0.249541336413 * t + <float>0.333299624158)
        p = p * t2 + (<float>-0.499999024228 * t + <float>0.999999995287)
        return p * t
    else:
        return log1p64(t)


cdef inline real magnitude(real x) noexcept nogil:
    return -x if x < 0 else x


cdef inline real lift(real v, int32_t n) noexcept nogil:
    """v 2^n, rounded once; in four steps, since 2^n itself may be out of range."""
    cdef int32_t q = n >> 2
    cdef real s
    if real is float:
        s = scale_float(q + 127)
        return v * s * s * s * scale_float(n - 3 * q + 127)
    else:
        s = scale_double(q + 1023)
        return v * s * s * s * scale_double(n - 3 * q + 1023)


cdef inline real decay(real x, real* p, int32_t* n) noexcept nogil:
    """exp(-|x|) = p 2^n, subnormal or 0 where it is."""
    cdef real far = -magnitude(x), least, magic, b
    if real is float:
        least = <float>-300.0
        magic = <float>12582912.0
    else:
        least = -2000.0
        magic = 6755399441055744.0
    far = least if far < least else far
    b = far * <real>1.44269504088896340736 + magic
    b -= magic
    p[0] = <real>1.0 + tail_of_exp(remainder(far, b, True))
    n[0] = <int32_t>b
    # Two steps do where lift takes four: below the least term it is 0 anyway.
    if real is float:
        b = p[0] * scale_float(n[0] + 127 + BIAS32) * <real>unbias(x)
    else:
        b = p[0] * scale_double(n[0] + 1023 + BIAS64) * <real>unbias(x)
    return <real>0.0 if far < lowest(x, True) else b


cdef inline void activations(What what, const real* x, Py_ssize_t n, real* y) noexcept nogil:
    cdef Py_ssize_t j
    cdef int32_t e
    cdef real t, p, q
    if real is float and HAS_ENTRY_FLOATS:
        sigmoid_floats(x, n, what == LOG_SIGMOID, y)
    elif what == SIGMOID:
        for j in range(n):
            t = decay(x[j], &p, &e)
            q = <real>1.0 / (<real>1.0 + t)
            y[j] = t * q if x[j] < 0 else q
    else:
        for j in range(n):
            t = log1p_small(decay(x[j], &p, &e))
            y[j] = (x[j] if x[j] < 0 else <real>0.0) - t


cdef inline void costs(const real* x, const real* a, const real* b, Py_ssize_t n, bint both,
                       real* t, real* loss) noexcept nogil:
    """Losses a log(1 + exp(x)) + b log(1 + exp(-x)), and t = exp(-|x|).

    Without both, a is 1 - b.  A term whose coefficient is 0 is absent.
    """
    cdef Py_ssize_t j
    cdef int32_t e
    cdef real log, p, a_j, large, small, up, down
    for j in range(n):
        a_j = a[j] if both else <real>1.0 - b[j]
        large = b[j] if x[j] < 0 else a_j
        small = a_j if x[j] < 0 else b[j]
        t[j] = decay(x[j], &p, &e)
        log = log1p_small(t[j])
        if both:
            up = large * (magnitude(x[j]) + log)
            # A large coefficient meets the exponential before that underflows.
            down = lift(small * p, e) if magnitude(x[j]) > 40 else small * log
            loss[j] = (<real>0.0 if large == 0 else up) + (<real>0.0 if small == 0 else down)
        else:       # their sum is 1
            up = large * magnitude(x[j])
            loss[j] = (<real>0.0 if large == 0 else up) + log


cdef inline void slopes_of(const real* x, const real* a, const real* b, const real* t, Py_ssize_t n,
                           bint both, real scale, real* grad) noexcept nogil:
    """Derivatives of the same, times scale: a loop of its own, so that the losses' bits are the
    same with and without it."""
    cdef Py_ssize_t j
    cdef real q, a_j, large, small, up, down
    for j in range(n):
        a_j = a[j] if both else <real>1.0 - b[j]
        large = b[j] if x[j] < 0 else a_j
        small = a_j if x[j] < 0 else b[j]
        q = <real>1.0 / (<real>1.0 + t[j])
        up = <real>0.0 if large == 0 else large * q
        down = <real>0.0 if small == 0 else small * (t[j] * q)
        grad[j] = scale * (down - up if x[j] < 0 else up - down)


cdef inline double log64(double p) noexcept nogil:
    """log(p) for p in [0, 1]."""
    cdef double small = 1.0 if p >= 2.2250738585072014e-308 else 18014398509481984.0    # 2^54
    cdef double found = log_sum(p * small, 0.0) - (0.0 if small == 1 else 37.429947750237048)
    return -INFINITY if p == 0 else found


cdef void costs_of_probs(const double* p, const double* a, const double* b, Py_ssize_t n,
                         double scale, double* loss, double* grad) noexcept nogil:
    """Losses -(a log(1 - p) + b log(p)) and their derivatives times scale; NaN outside [0, 1]."""
    cdef Py_ssize_t j
    cdef double v, up, down
    for j in range(n):
        v = p[j] if 0 < p[j] <= 1 else 0.0 if p[j] == 0 else NAN    # -0.0 is 0
        up = -a[j] * (-INFINITY if v == 1 else log_sum(1.0 - v, (1.0 - (1.0 - v)) - v))
        down = -b[j] * log64(v)
        loss[j] = (0.0 if a[j] == 0 else up) + (0.0 if b[j] == 0 else down)
        up = a[j] / (1.0 - v)
        down = b[j] / v
        grad[j] = scale * ((0.0 if a[j] == 0 else up) - (0.0 if b[j] == 0 else down))


cdef inline bint is_exact(int kind) noexcept nogil:
    """Is every element of this kind a float32?"""
    return kind & 31 in (KIND_BOOL, KIND_I8, KIND_U8, KIND_I16, KIND_U16, KIND_F16, KIND_BF16,
                         KIND_F32)


cdef inline void weigh(const real* w, Py_ssize_t n, real* a) noexcept nogil:
    """a = w a, where 0 times anything is 0."""
    cdef Py_ssize_t j
    for j in range(n):
        a[j] = <real>0.0 if a[j] == 0 or w[j] == 0 else w[j] * a[j]


cdef void smooth(Entries* t, const real* z, Py_ssize_t n, real* a, real* b) noexcept nogil:
    """a = 1 - z' and b = z', z' = (1-e) z + e/2."""
    cdef real keep = <real>(1.0 - t.e), half = <real>(0.5 * t.e)
    cdef Py_ssize_t j
    for j in range(n):
        a[j] = half if keep == 0 else keep * (1 - z[j]) + half
        b[j] = half if keep == 0 else keep * z[j] + half


cdef double span(Entries* t, Py_ssize_t first, Py_ssize_t n, real unused) noexcept nogil:
    """Some entries, at most SPAN; the sum of their losses."""
    cdef real bx[SPAN]
    cdef real ba[SPAN]
    cdef real bb[SPAN]
    cdef real extra[SPAN]
    cdef real losses[SPAN]
    cdef real slopes[SPAN]
    cdef double wide[SPAN]
    cdef double wide_a[SPAN]
    cdef double wide_b[SPAN]
    cdef real* x = gather(&t.x, t.inner, first, n, &bx[0])
    cdef real* a = NULL
    cdef real* b
    cdef real* weights
    cdef double* zs
    cdef real scale = <real>t.scale
    cdef Py_ssize_t j, whole = n + VECTOR - 1 - (n + VECTOR - 1) % VECTOR
    cdef bint emit = t.grad.data != NULL

    if t.what == SIGMOID or t.what == LOG_SIGMOID:
        activations(t.what, x, whole, &slopes[0])
        scatter(&t.grad, t.inner, first, n, &slopes[0], t.stream)
        return 0

    if real is float and not is_exact(t.z.kind):
        # Labels that a float32 cannot hold: 1 - z' and z' are rounded from float64 each.
        zs = gather(&t.z, t.inner, first, n, &wide[0])
        smooth(t, zs, whole, &wide_a[0], &wide_b[0])
        for j in range(whole):
            ba[j] = <real>wide_a[j]
            bb[j] = <real>wide_b[j]
        a = &ba[0]
        b = &bb[0]
    else:
        b = gather(&t.z, t.inner, first, n, &bb[0])
        if t.e != 0 or t.pw.data != NULL or t.u.data != NULL or t.what == PROBS:
            smooth(t, b, whole, &ba[0], &bb[0])
            a = &ba[0]
            b = &bb[0]
    if t.pw.data != NULL:
        weigh(gather(&t.pw, t.inner, first, n, &extra[0]), whole, &bb[0])
    if t.u.data != NULL:
        weights = gather(&t.u, t.inner, first, n, &extra[0])
        weigh(weights, whole, &ba[0])
        weigh(weights, whole, &bb[0])

    if t.what == PROBS:
        if real is double:
            costs_of_probs(x, a, b, whole, scale, &losses[0], &slopes[0])
    elif real is float and HAS_ENTRY_FLOATS:
        if a != NULL:
            entry_floats(x, a, b, whole, scale, True, True, &losses[0], &slopes[0])
        elif emit:
            entry_floats(x, b, b, whole, scale, False, True, &losses[0], &slopes[0])
        else:
            entry_floats(x, b, b, whole, scale, False, False, &losses[0], &slopes[0])
    elif a == NULL:
        costs(x, b, b, whole, False, &extra[0], &losses[0])
        if emit:
            slopes_of(x, b, b, &extra[0], whole, False, scale, &slopes[0])
    else:
        costs(x, a, b, whole, True, &extra[0], &losses[0])
        if emit:
            slopes_of(x, a, b, &extra[0], whole, True, scale, &slopes[0])

    if t.g.data != NULL and emit:
        weights = gather(&t.g, t.inner, first, n, &extra[0])
        for j in range(whole):
            slopes[j] = <real>0.0 if weights[j] == 0 else weights[j] * slopes[j]
    if t.scale == 0 and emit:
        for j in range(whole):
            slopes[j] = 0
    if a != NULL and emit:      # absent comes before NaN
        for j in range(whole):
            slopes[j] = <real>0.0 if a[j] == 0 and b[j] == 0 else slopes[j]
    if t.loss.data != NULL:
        scatter(&t.loss, t.inner, first, n, &losses[0], False)
    if emit:
        scatter(&t.grad, t.inner, first, n, &slopes[0], t.stream)
    if t.total == NULL:
        return 0
    for j in range(n, whole):
        losses[j] = 0
    if real is float:
        return sum_floats(&losses[0], whole)
    else:
        return sum_doubles(&losses[0], whole)


cdef void run_entries(Entries* t, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                      real unused) noexcept nogil:
    cdef Py_ssize_t k, n
    cdef double total = 0
    for k in range((stop - first + SPAN - 1) // SPAN):
        n = min(<Py_ssize_t>SPAN, stop - first - k * SPAN)
        total += span(t, first + k * SPAN, n, unused)
    if t.stream:
        stream_fence()
    if t.total != NULL:
        t.total[block] = total


cdef void compute_entries(void* task, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                          char* room, Py_ssize_t size) noexcept nogil:
    if (<Entries*>task).single:
        run_entries(<Entries*>task, first, stop, block, <float>0)
    else:
        run_entries(<Entries*>task, first, stop, block, <double>0)


cdef class EntriesJob(Arrays):
    """Arrays of entries bound to the kernel; calling it computes a range of entries."""

    cdef Entries task

    def __cinit__(self):
        self.part.compute = compute_entries
        self.part.task = &self.task


def elements(x, z, u, g, pw, double e, str kind, loss, total, grad, double scale, bint stream):
    """Each entry by itself; all arrays are seen as (outer, n).

    ``kind`` is "sigmoid" or "log_sigmoid" of ``x`` into ``grad``; "logits", binary cross entropy
    of log-odds ``x`` and labels ``z``; or "probs", the same of probabilities.
    """
    cdef EntriesJob job = EntriesJob()
    cdef Entries* t = &job.task
    if kind == "sigmoid":
        t.what = SIGMOID
    elif kind == "log_sigmoid":
        t.what = LOG_SIGMOID
    elif kind == "logits":
        t.what = LOGITS
    else:
        t.what = PROBS
    job.bind_entries(&t.x, x)
    t.inner = job.buffers[0].shape[1]
    # Logarithms of probabilities are taken in double whatever the dtype: 1 - p is exact.
    t.single = t.what != PROBS and t.x.kind & 31 in (KIND_F16, KIND_BF16, KIND_F32)
    job.bind_entries(&t.z, z)
    job.bind_entries(&t.u, u)
    job.bind_entries(&t.g, g)
    job.bind_entries(&t.pw, pw)
    job.bind_entries(&t.loss, loss, True)
    job.bind_entries(&t.grad, grad, True)
    if total is not None:
        t.total = <double*>job.hold(total, True).buf
    t.e = e
    t.scale = scale
    t.stream = stream
    return job
