# Logits of the sampled losses, and the way back from their gradients.  Included by _isa.pyx.
#
# Each row of vectors meets the class vectors of its own labels, which are read where they lie, and
# those of the sampled classes, which all rows share.  Second operands of products have whole
# vectors: their width is a multiple of 16, and 0 beyond what counts.

cdef extern from "_products.h" nogil:
    enum:
        FX_ROWS
    Py_ssize_t float_columns "FX_COLUMNS(float)", double_columns "FX_COLUMNS(double)"
    float floats_dot(const float*, const float*, Py_ssize_t)
    double doubles_dot(const double*, const double*, Py_ssize_t)
    void floats_tile(const float*, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, float*, Py_ssize_t)
    void doubles_tile(const double*, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, Py_ssize_t,
                      Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, double*, Py_ssize_t)

cdef enum:
    RESULTS = 256       # results of a tile, at most
    SOON = 4            # rows until a class vector that is fetched now is read

cdef struct Table:
    char* data          # NULL: absent
    Py_ssize_t row, column      # strides in elements

cdef struct Sampled:
    bint single
    Py_ssize_t features, num_true, num_sampled
    Table x, w, ids, others, logits, shift, shared, d_x, d_rows, sums
    double* slope_sums


cdef inline real* cell(Table* t, Py_ssize_t i, Py_ssize_t k, real unused) noexcept nogil:
    return <real*>t.data + i * t.row + k * t.column


cdef inline Py_ssize_t columns_of(real unused) noexcept nogil:
    return float_columns if real is float else double_columns


cdef inline real dot(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    if real is float:
        return floats_dot(a, b, n)
    else:
        return doubles_dot(a, b, n)


cdef inline void tile(const real* a, Py_ssize_t ai, Py_ssize_t ak, const real* b, Py_ssize_t bk,
                      Py_ssize_t depth, Py_ssize_t rows, Py_ssize_t columns, const real* start,
                      Py_ssize_t start_row, real* to, Py_ssize_t to_row) noexcept nogil:
    if real is float:
        floats_tile(a, ai, ak, b, bk, depth, rows, columns, start, start_row, to, to_row)
    else:
        doubles_tile(a, ai, ak, b, bk, depth, rows, columns, start, start_row, to, to_row)


cdef inline real* class_vector(Sampled* t, Py_ssize_t k, real unused) noexcept nogil:
    """The vector of a label."""
    return cell(&t.w, (<int64_t*>t.ids.data)[k], 0, unused)


cdef inline void fetch(Sampled* t, Py_ssize_t k, Py_ssize_t stop, real unused) noexcept nogil:
    """Have a label's vector in the cache before it is needed."""
    cdef Py_ssize_t c
    if k < stop * t.num_true:
        for c in range(parts(t.features * sizeof(real), 64)):
            prefetch(<char*>class_vector(t, k, unused) + 64 * c)


cdef inline void claim(real* to, Py_ssize_t n) noexcept nogil:
    """Have the lines of a row in the cache before it is written."""
    cdef Py_ssize_t c
    for c in range(parts(n * sizeof(real), 64)):
        prefetch_write(<char*>to + 64 * c)


cdef inline Py_ssize_t parts(Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    return (n + step - 1) // step


cdef void there(Sampled* t, Py_ssize_t first, Py_ssize_t stop, real unused) noexcept nogil:
    """Logits of some rows."""
    cdef real found[RESULTS]
    cdef Py_ssize_t i, j, k, r, c, n, m, across, down, width = columns_of(unused)
    cdef real* shift = <real*>t.shift.data
    cdef real* to
    cdef bint beside
    for r in range(first, stop):
        for k in range(r * t.num_true, (r + 1) * t.num_true):
            fetch(t, k + SOON, stop, unused)
            cell(&t.logits, r, k - r * t.num_true, unused)[0] = shift[k] + dot(
                cell(&t.x, r, 0, unused), class_vector(t, k, unused), t.features)
    shift = <real*>t.shared.data
    for across in range(parts(t.num_sampled, width)):
        c = across * width
        m = min(width, t.num_sampled - c)
        for down in range(parts(stop - first, FX_ROWS)):
            r = first + down * FX_ROWS
            n = min(<Py_ssize_t>FX_ROWS, stop - r)
            to = cell(&t.logits, r, t.num_true + c, unused)
            beside = t.logits.column == 1
            tile(cell(&t.x, r, 0, unused), t.x.row, 1, cell(&t.others, 0, c, unused), t.others.row,
                 t.features, n, m, shift + c, 0, to if beside else &found[0],
                 t.logits.row if beside else width)
            if not beside:
                for j in range(m):
                    for i in range(n):
                        to[i * t.logits.row + j * t.logits.column] = found[i * width + j]


cdef void back(Sampled* t, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
               real unused) noexcept nogil:
    """Gradients of some rows, few enough for the nearest cache, from those of their logits."""
    cdef Py_ssize_t j, k, r, c, n, m, across, down, width = columns_of(unused)
    cdef real* to
    cdef const real* x
    cdef const real* w
    cdef real slope
    cdef double* sums
    for r in range(first, stop):
        x = cell(&t.x, r, 0, unused)
        for k in range(t.num_true):
            fetch(t, r * t.num_true + k + SOON, stop, unused)
            slope = cell(&t.logits, r, k, unused)[0]
            to = cell(&t.d_rows, r * t.num_true + k, 0, unused)
            claim(to + SOON * t.d_rows.row, t.features)
            for j in range(t.features):
                to[j] = slope * x[j]
            to = cell(&t.d_x, r, 0, unused)
            w = class_vector(t, r * t.num_true + k, unused)
            if k == 0:
                claim(to + SOON * t.d_x.row, t.features)
                for j in range(t.features):
                    to[j] = slope * w[j]
            else:
                for j in range(t.features):
                    to[j] += slope * w[j]
    for across in range(parts(t.features, width)):
        c = across * width
        m = min(width, t.features - c)
        for down in range(parts(stop - first, FX_ROWS)):
            r = first + down * FX_ROWS
            n = min(<Py_ssize_t>FX_ROWS, stop - r)
            to = cell(&t.d_x, r, c, unused)
            tile(cell(&t.logits, r, t.num_true, unused), t.logits.row, t.logits.column,
                 cell(&t.others, 0, c, unused), t.others.row, t.num_sampled, n, m, to, t.d_x.row,
                 to, t.d_x.row)
    for across in range(parts(t.features, width)):
        c = across * width
        m = min(width, t.features - c)
        for down in range(parts(t.num_sampled, FX_ROWS)):
            k = down * FX_ROWS
            n = min(<Py_ssize_t>FX_ROWS, t.num_sampled - k)
            to = cell(&t.sums, block * t.num_sampled + k, c, unused)
            tile(cell(&t.logits, first, t.num_true + k, unused), t.logits.column, t.logits.row,
                 cell(&t.x, first, c, unused), t.x.row, stop - first, n, m, to, t.sums.row,
                 to, t.sums.row)
    if t.slope_sums == NULL:
        return
    sums = t.slope_sums + block * t.num_sampled
    for r in range(first, stop):
        x = cell(&t.logits, r, t.num_true, unused)
        if t.logits.column == 1:
            for k in range(t.num_sampled):
                sums[k] += x[k]
        else:
            for k in range(t.num_sampled):
                sums[k] += x[k * t.logits.column]


cdef void compute_logits(void* task, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                         char* room, Py_ssize_t size) noexcept nogil:
    cdef Sampled* t = <Sampled*>task
    if t.single:
        there(t, first, stop, <float>0)
    else:
        there(t, first, stop, <double>0)


cdef void compute_gradients(void* task, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t block,
                            char* room, Py_ssize_t size) noexcept nogil:
    cdef Sampled* t = <Sampled*>task
    cdef Py_ssize_t k, r
    for k in range(parts(stop - first, TILE)):
        r = first + k * TILE
        if t.single:
            back(t, r, min(r + TILE, stop), block, <float>0)
        else:
            back(t, r, min(r + TILE, stop), block, <double>0)


cdef class SampledJob(Arrays):
    """Arrays of a sampled loss bound to a kernel; calling it computes a range of rows."""

    cdef Sampled task

    cdef int bind_table(self, Table* t, array, bint writable=False) except -1:
        cdef Py_buffer* b = self.hold(array, writable)
        t.data = <char*>b.buf
        t.row = b.strides[0] // b.itemsize
        t.column = b.strides[b.ndim - 1] // b.itemsize
        return 0

    cdef int bind_common(self, x, w, ids, others, logits, bint writable) except -1:
        cdef Sampled* t = &self.task
        self.part.task = t
        self.bind_table(&t.x, x)
        t.single = self.buffers[0].itemsize == 4
        self.bind_table(&t.w, w)
        t.features = self.buffers[1].shape[1]
        self.bind_table(&t.ids, ids)
        t.num_true = self.buffers[2].shape[1]
        self.bind_table(&t.others, others)
        self.bind_table(&t.logits, logits, writable)
        t.num_sampled = self.buffers[4].shape[1] - t.num_true
        return 0


def sampled_logits(x, w, ids, turned, shift, shared, logits):
    """Logits of labels and of sampled classes, whose vectors are the columns of ``turned``."""
    cdef SampledJob job = SampledJob()
    job.bind_common(x, w, ids, turned, logits, True)
    job.bind_table(&job.task.shift, shift)
    job.bind_table(&job.task.shared, shared)
    job.part.compute = compute_logits
    return job


def sampled_gradients(x, w, ids, sampled, slopes, d_x, d_rows, sums, slope_sums):
    """Gradients of vectors from those of logits; what all rows share is added up per block."""
    cdef SampledJob job = SampledJob()
    job.bind_common(x, w, ids, sampled, slopes, False)
    job.bind_table(&job.task.d_x, d_x, True)
    job.bind_table(&job.task.d_rows, d_rows, True)
    job.bind_table(&job.task.sums, sums, True)
    job.task.sums.row = sampled.shape[1]
    if slope_sums is not None:
        job.task.slope_sums = <double*>job.hold(slope_sums, True).buf
    job.part.compute = compute_gradients
    return job


cdef void nothing(void* context, int64_t k, char* room, Py_ssize_t size) noexcept nogil:
    pass


def awaken(int threads):
    """Wake the pool's helpers; it takes them as long as hundreds of rows."""
    with nogil:
        on_pool(nothing, NULL, threads, threads, NULL, 0)
