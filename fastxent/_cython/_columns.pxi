# Plain rows of few classes, 16 to a vector: a label and a factor each, nothing else.
# Included by _isa.pyx.

cdef bint is_plain(Task* t) noexcept nogil:
    return (HAS_COLUMNS and t.tiled and t.single and t.phase == ALL and t.op != DENSE and t.e == 0
            and t.t == 0 and t.mask.data == NULL and t.stats.data == NULL and t.begin == 0
            and t.end == t.num_classes and t.num_classes <= FX_COLUMNS_CLASSES)


cdef inline bint in_floats(int kind, Py_ssize_t across, Py_ssize_t step) noexcept nogil:
    """Are these floats, with the classes or the rows of a tile side by side?"""
    return kind == KIND_F32 and (step == 4 or across == 4)


cdef void fill_columns(Task* t, fx_columns* tile, const char* p, float* lines) noexcept nogil:
    """The logits of a tile, from wherever they are."""
    cdef Py_ssize_t j, k, across = pitch(t, &t.x), step = t.x.classes
    if in_floats(t.x.kind, across, step):
        columns_load(tile, p, across, step)
    elif distance(step) <= distance(across):
        for j in range(tile.rows):
            load(t.x.kind, p + j * across, step, tile.classes, lines + j * tile.classes)
        columns_load(tile, <const char*>lines, 4 * tile.classes, 4)
    else:
        for k in range(tile.classes):
            load(t.x.kind, p + k * step, across, tile.rows, lines + k * tile.rows)
        columns_load(tile, <const char*>lines, 4, 4 * tile.rows)


cdef void empty_columns(Task* t, fx_columns* tile, char* to, float* lines) noexcept nogil:
    """The gradient of a tile, to wherever it goes."""
    cdef Py_ssize_t j, k, across = pitch(t, &t.grad), step = t.grad.classes
    if in_floats(t.grad.kind, across, step):
        columns_store(tile, to, across, step, t.stream)
    elif distance(step) <= distance(across):
        columns_store(tile, <char*>lines, 4 * tile.classes, 4, False)
        for j in range(tile.rows):
            store(t.grad.kind, to + j * across, step, tile.classes, lines + j * tile.classes,
                  t.stream)
    else:
        for k in range(tile.classes):
            store(t.grad.kind, to + k * step, across, tile.rows, tile.x + k * tile.pitch, t.stream)


cdef inline float narrow(double v) noexcept nogil:
    """v as a float that is 0 or infinite only if v is."""
    cdef float f = <float>v
    if f == 0 and v != 0:
        return <float>-1e-45 if v < 0 else <float>1e-45
    if f - f != 0 and v - v == 0:
        return -FLT_MAX if v < 0 else FLT_MAX
    return f


cdef void open_columns(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, int32_t* label,
                       float* factor, float* slope) noexcept nogil:
    """Labels, -1 where a row is absent, and factors."""
    cdef int64_t y[FX_COLUMNS_ROWS]
    cdef double u[FX_COLUMNS_ROWS]
    cdef double g[FX_COLUMNS_ROWS]
    cdef Py_ssize_t j
    cdef Py_ssize_t across = pitch(t, &t.y)
    cdef const char* p = t.y.data + o * t.y.outer + i * t.y.inner
    for j in range((count * distance(across) + 63) // 64):
        prefetch(p + count * across + 64 * j)       # the next ones
    load_labels(p, t.y.kind, across, count, &y[0])
    for j in range(count):
        label[j] = -1 if t.has_ignore and y[j] == t.ignore else <int32_t>y[j]
    if t.u.data == NULL and t.w.data == NULL and t.g.data == NULL:
        return
    for j in range(count):
        u[j] = g[j] = 1
    if t.u.data != NULL:
        load_column(t, &t.u, o, i, count, &u[0])
    if t.g.data != NULL:
        load_column(t, &t.g, o, i, count, &g[0])
    for j in range(count):
        if t.w.data != NULL and label[j] >= 0 and u[j] != 0:
            u[j] *= element_get(t.w.data + label[j] * t.w.classes, t.w.kind)
        label[j] = -1 if u[j] == 0 else label[j]
        factor[j] = narrow(u[j])
        g[j] *= t.scale
        slope[j] = <float>0.0 if g[j] == 0 else narrow(g[j] * u[j])


cdef double run_columns(Task* t, Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    """All tiles of a range of rows."""
    cdef float x[FX_COLUMNS + (FX_COLUMNS_CLASSES + 1) * 16]
    cdef float lines[FX_COLUMNS]
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
    cdef bint nearby = in_floats(t.x.kind, across, t.x.classes)
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
    tile.scale = narrow(t.scale)
    tile.loss = &loss[0]
    tile.slopes = t.grad.data != NULL
    tile.soon_row = pitch(t, &t.grad)
    tile.soon_class = t.grad.classes if tile.soon_row == 4 else 128
    while row < stop:
        o = row // t.num_inner
        i = row % t.num_inner
        count = min(most, stop - row)
        if t.num_inner > 1:
            count = min(count, t.num_inner - i)
        tile.rows = count
        if t.op == INDEX:
            open_columns(t, o, i, count, &label[0], &factor[0], &slope[0])
        p = t.x.data + o * t.x.outer + i * t.x.inner
        tile.ahead = p + count * across if nearby and row + 2 * count <= stop else NULL
        tile.soon = NULL
        if tile.slopes and not t.stream and in_floats(t.grad.kind, tile.soon_row, t.grad.classes):
            tile.soon = t.grad.data + o * t.grad.outer + i * t.grad.inner
        fill_columns(t, &tile, p, &lines[0])
        total += columns_settle(&tile)
        if t.loss.data != NULL:
            store(t.loss.kind, t.loss.data + o * t.loss.outer + i * t.loss.inner,
                  pitch(t, &t.loss), count, tile.loss, False)
        if t.grad.data != NULL:
            empty_columns(t, &tile, t.grad.data + o * t.grad.outer + i * t.grad.inner, &lines[0])
        row += count
    return total
