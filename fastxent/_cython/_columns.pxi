# Plain rows of few classes, 16 to a vector: a label and a factor each, nothing else.
# Included by _isa.pyx.

cdef bint fits(View* v, Py_ssize_t across) noexcept nogil:
    """Floats, with the classes or the rows of a tile side by side."""
    return v.kind == KIND_F32 and (v.classes == 4 or across == 4)


cdef bint is_plain(Task* t) noexcept nogil:
    return (HAS_COLUMNS and t.tiled and t.phase == ALL and t.num_classes <= FX_COLUMNS_CLASSES
            and t.begin == 0 and t.end == t.num_classes and t.op != DENSE and t.e == 0 and t.t == 0
            and t.mask.data == NULL and t.stats.data == NULL and usual(t.scale)
            and fits(&t.x, pitch(t, &t.x))
            and (t.grad.data == NULL or fits(&t.grad, pitch(t, &t.grad))))


cdef inline bint usual(double factor) noexcept nogil:
    """Does a factor leave room for what floats are multiplied by it?"""
    return factor == 0 or 1e-30 < factor < 1e30 or -1e30 < factor < -1e-30


cdef bint open_columns(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, int32_t* label,
                       float* factor, float* slope) noexcept nogil:
    """Labels, -1 where a row is absent, and factors; False if a factor is out of the ordinary."""
    cdef int64_t y[FX_COLUMNS_ROWS]
    cdef double u[FX_COLUMNS_ROWS]
    cdef double g[FX_COLUMNS_ROWS]
    cdef bint fine = True
    cdef Py_ssize_t j
    load_labels(t.y.data + o * t.y.outer + i * t.y.inner, t.y.kind, pitch(t, &t.y), count, &y[0])
    if t.has_ignore:
        for j in range(count):
            label[j] = -1 if y[j] == t.ignore else <int32_t>y[j]
    else:
        for j in range(count):
            label[j] = <int32_t>y[j]
    if t.u.data == NULL and t.w.data == NULL and t.g.data == NULL:
        return True
    for j in range(count):
        u[j] = g[j] = 1
    if t.u.data != NULL:
        load_column(t, &t.u, o, i, count, &u[0])
    if t.g.data != NULL:
        load_column(t, &t.g, o, i, count, &g[0])
    for j in range(count):
        if t.w.data != NULL and label[j] >= 0 and u[j] != 0:
            u[j] *= element_get(t.w.data + label[j] * t.w.classes, t.w.kind)
        g[j] *= t.scale
        fine &= usual(u[j]) and usual(g[j]) and usual(g[j] * u[j])
        label[j] = -1 if u[j] == 0 else label[j]
        factor[j] = <float>u[j]
        slope[j] = <float>(g[j] * u[j])
    return fine


cdef double run_columns(Task* t, Py_ssize_t first, Py_ssize_t stop, real* kept,
                        real unused) noexcept nogil:
    """All tiles of a range of rows."""
    cdef float x[FX_COLUMNS + (FX_COLUMNS_CLASSES + 1) * 16]
    cdef float loss[FX_COLUMNS_ROWS]
    cdef float factor[FX_COLUMNS_ROWS]
    cdef float slope[FX_COLUMNS_ROWS]
    cdef int32_t label[FX_COLUMNS_ROWS]
    cdef fx_columns tile
    cdef Py_ssize_t most = min(<Py_ssize_t>FX_COLUMNS_ROWS, FX_COLUMNS // t.num_classes // 32 * 32)
    cdef Py_ssize_t row = first, count, o, i
    cdef double total = 0
    cdef bint weighed = t.u.data != NULL or t.w.data != NULL or t.g.data != NULL
    cdef Py_ssize_t across = pitch(t, &t.x)
    cdef const char* p
    tile.op = t.op
    tile.ahead_row = across
    tile.ahead_class = t.x.classes if across == 4 else 128
    tile.classes = t.num_classes
    tile.pitch = most + 16      # not a power of two: a store hides loads a multiple of 4 KB away
    tile.x = <float*>(<uintptr_t>&x[15] & ~<uintptr_t>63)      # whole lines
    tile.label = &label[0]
    tile.factor = &factor[0] if weighed else NULL
    tile.slope = &slope[0] if weighed else NULL
    tile.scale = <float>t.scale
    tile.loss = &loss[0]
    tile.slopes = t.grad.data != NULL
    while row < stop:
        o = row // t.num_inner
        i = row % t.num_inner
        count = min(most, stop - row)
        if t.num_inner > 1:
            count = min(count, t.num_inner - i)
        tile.rows = count
        if t.op == INDEX and not open_columns(t, o, i, count, &label[0], &factor[0], &slope[0]):
            count = min(count, <Py_ssize_t>TILE)
            total += run_tile(t, &t.grad, o, i, count, kept, unused)
            row += count
            continue
        p = t.x.data + o * t.x.outer + i * t.x.inner
        tile.ahead = p + count * across if row + 2 * count <= stop else NULL
        columns_load(&tile, p, across, t.x.classes)
        total += columns_settle(&tile)
        if t.loss.data != NULL:
            store(t.loss.kind, t.loss.data + o * t.loss.outer + i * t.loss.inner,
                  pitch(t, &t.loss), count, tile.loss, False)
        if t.grad.data != NULL:
            columns_store(&tile, t.grad.data + o * t.grad.outer + i * t.grad.inner,
                          pitch(t, &t.grad), t.grad.classes, t.stream)
        row += count
    return total
