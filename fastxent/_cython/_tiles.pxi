# Rows whose classes are few or not contiguous: tiles of them, one row per lane.
# Included by _isa.pyx.

cdef void load_tile(Task* t, View* v, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                    Py_ssize_t depth, real* buf) noexcept nogil:
    """depth classes of count rows: class k of row j to buf[k * TILE + j]; the missing rows 0.

    Copied even where rows are contiguous: classes a power of two apart share few places of
    the caches, and a tile is read twice.
    """
    cdef real lines[BLOCK]
    cdef real* q
    cdef const char* p = v.data + o * v.outer + i * v.inner + c * v.classes
    cdef Py_ssize_t j, k, across = pitch(t, v)
    if count < TILE:
        for j in range(depth * TILE):
            buf[j] = 0
    if distance(v.classes) < distance(across):
        # Whole rows first, as reals.
        if v.classes != sizeof(real) or v.kind != native_kind(lines[0]):
            if across == depth * v.classes:
                p = <const char*>load(v.kind, p, v.classes, count * depth, &lines[0])
            else:
                for j in range(count):
                    q = load(v.kind, p + j * across, v.classes, depth, &lines[j * depth])
                p = <const char*>&lines[0]
            across = depth * sizeof(real)
        if real is float:
            floats_to_lanes(p, across, count, depth, buf, TILE)
        else:
            doubles_to_lanes(p, across, count, depth, buf)
        return
    for k in range(depth):
        q = load(v.kind, p + k * v.classes, across, count, buf + k * TILE)
        if q != buf + k * TILE:
            if count == TILE:
                memcpy(buf + k * TILE, q, TILE * sizeof(real))
            else:
                memcpy(buf + k * TILE, q, count * sizeof(real))


cdef void store_tile(Task* t, View* v, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                     Py_ssize_t depth, const real* d, bint stream) noexcept nogil:
    cdef real lines[BLOCK]
    cdef char* p = v.data + o * v.outer + i * v.inner + c * v.classes
    cdef char* to = p
    cdef Py_ssize_t j, k, across = pitch(t, v), apart = across
    cdef bint native = v.kind == native_kind(lines[0]) and not stream
    if distance(v.classes) < distance(across):
        if v.classes != sizeof(real) or not native:
            to = <char*>&lines[0]
            apart = depth * sizeof(real)
        if real is float:
            lanes_to_floats(d, TILE, apart, count, depth, to)
        else:
            lanes_to_doubles(d, apart, count, depth, to)
        if to == p:
            return
        if across == depth * v.classes:
            store(v.kind, p, v.classes, count * depth, &lines[0], stream)
            return
        for j in range(count):
            store(v.kind, p + j * across, v.classes, depth, &lines[j * depth], stream)
    elif native and count == TILE and across == sizeof(real):
        for k in range(depth):
            memcpy(p + k * v.classes, d + k * TILE, TILE * sizeof(real))
    else:
        for k in range(depth):
            store(v.kind, p + k * v.classes, across, count, d + k * TILE, stream)


cdef void load_allowed(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                       Py_ssize_t depth, char* allowed) noexcept nogil:
    cdef const char* p = t.mask.data + o * t.mask.outer + i * t.mask.inner + c * t.mask.classes
    cdef Py_ssize_t j, k, across = pitch(t, &t.mask)
    for k in range(depth):
        for j in range(TILE):
            allowed[k * TILE + j] = 1
        for j in range(count):
            allowed[k * TILE + j] = p[k * t.mask.classes + j * across] != 0


cdef void load_logits_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                           Py_ssize_t depth, char* allowed, real* x) noexcept nogil:
    """Logits of a tile, and the mask of it; masked logits are -inf."""
    cdef Py_ssize_t j
    load_tile(t, &t.x, o, i, count, c, depth, x)
    if t.mask.data != NULL:
        load_allowed(t, o, i, count, c, depth, allowed)
        for j in range(depth * TILE):
            x[j] = x[j] if allowed[j] != 0 else minus_infinity(x[j])


cdef void load_coefs_tile(Task* t, const double* shares, Py_ssize_t o, Py_ssize_t i,
                          Py_ssize_t count, Py_ssize_t c, Py_ssize_t depth, const char* allowed,
                          real* buf) noexcept nogil:
    """Coefficients of a tile, as load_coefs."""
    cdef real share[TILE]
    cdef Py_ssize_t j, k
    cdef real keep = <real>(1.0 - t.e), w = 1, v
    if t.op == DENSE:
        load_tile(t, &t.y, o, i, count, c, depth, buf)
        if t.e == 0 and t.w.data == NULL:
            return
    for j in range(TILE):
        share[j] = <real>shares[j]
    for k in range(depth):
        if t.w.data != NULL:
            w = <real>element_get(t.w.data + (c + k) * t.w.classes, t.w.kind)
        for j in range(TILE):
            v = <real>1.0 if t.op == INDEX or allowed[k * TILE + j] else <real>0.0
            if t.op == DENSE:
                v = v * share[j] + (<real>0.0 if keep == 0 else keep * buf[k * TILE + j])
                v = <real>0.0 if v == 0 or w == 0 else v * w
            else:
                v = w if allowed[k * TILE + j] else <real>0.0
            buf[k * TILE + j] = v


cdef const char* next_block(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t b) noexcept nogil:
    """Where the logits lie that are read after the block from class b on; NULL if nearby.

    The processor does not follow as many streams, and would wait and compute by turns.
    """
    cdef const char* p = t.x.data + o * t.x.outer + i * t.x.inner
    cdef Py_ssize_t across = pitch(t, &t.x)
    if across != element_size[t.x.kind & 31]:
        return NULL
    return p + (b + DEPTH) * t.x.classes if b + DEPTH < t.end else (
        p + t.begin * t.x.classes + TILE * across)


cdef void tile_sum(const real* x, Py_ssize_t depth, const real* m, const real* base, real* kept,
                   const char* ahead, Py_ssize_t stride, double* rest,
                   double* ties) noexcept nogil:
    """Adds the sum of exp(x - base) over the classes to rest, those equal to m to ties instead.

    One lane sums up to DEPTH terms: s and s t apart, since sums of powers of two are exact.
    With kept, all terms are left there, times 2^BIAS.
    """
    cdef real powers[TILE]
    cdef real parts[TILE]
    cdef real equal[TILE]
    cdef real v, s, f = 0
    cdef Py_ssize_t j, k
    cdef double unscale = unbias(base[0])
    if real is float and HAS_ADD_EXP_TILE:
        add_exp_tile(<const float*>x, depth, <const float*>m, <const float*>base,
                     <float*>&powers[0], <float*>&parts[0], <float*>&equal[0], <float*>kept,
                     ahead, stride)
    else:
        for j in range(TILE):
            powers[j] = 0
            parts[j] = 0
            equal[j] = 0
        for k in range(depth):
            if ahead != NULL:
                for j in range(<Py_ssize_t>sizeof(real)):
                    prefetch(ahead + k * stride + 64 * j)
            for j in range(TILE):
                v = x[k * TILE + j] - base[j]
                s = factors(v, True, &f)
                f = <real>0.0 if (x[k * TILE + j] == m[j]) | (v < lowest(v, True)) else s * f
                s = <real>0.0 if (x[k * TILE + j] == m[j]) | (v < lowest(v, True)) else s
                powers[j] += s
                parts[j] += f
                equal[j] += <real>1.0 if x[k * TILE + j] == m[j] else <real>0.0
            if kept != NULL:
                for j in range(TILE):
                    kept[k * TILE + j] = exponential(x[k * TILE + j] - base[j], True)
    for j in range(TILE):
        rest[j] += (<double>powers[j] + parts[j]) * unscale
        ties[j] += equal[j]


cdef void tile_gap(const real* x, const real* c, Py_ssize_t depth, const real* base,
                   double* error, Lanes* s) noexcept nogil:
    """Adds sum c, sum c (m - x) and the number of c != 0 to the rows; 0 x anything is 0."""
    cdef real gap[TILE]
    cdef real some[TILE]
    cdef real v
    cdef Py_ssize_t j, k
    for j in range(TILE):
        gap[j] = 0
        some[j] = 0
    for k in range(depth):
        for j in range(TILE):
            add_exactly(&s.weight[j], &error[j], c[k * TILE + j])
        for j in range(TILE):
            v = c[k * TILE + j] * (base[j] - x[k * TILE + j])
            gap[j] += <real>0.0 if c[k * TILE + j] == 0 else v
            some[j] += <real>0.0 if c[k * TILE + j] == 0 else <real>1.0
    for j in range(TILE):
        s.gap[j] += gap[j]
        s.nonzero[j] += some[j]


cdef void scan_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Lanes* s, real* kept,
                    real* x, char* allowed) noexcept nogil:
    """Statistics of the rows; the last block's logits stay in x.

    With kept, exp(x - base) of all classes too, and then the bases of each block.
    """
    cdef real c[BLOCK]
    cdef real m[TILE]
    cdef real new[TILE]
    cdef real base[TILE]
    cdef double error[TILE]
    cdef double ties[TILE]
    cdef double factor
    cdef real* bases = kept + (t.end - t.begin) * TILE
    cdef Py_ssize_t b, g, j, k, depth
    cdef bint grown
    for j in range(TILE):
        m[j] = minus_infinity(x[0])
        ties[j] = 0
        error[j] = 0
        s.rest[j] = 0
        s.weight[j] = 0
        s.gap[j] = 0
        s.nonzero[j] = 0
    for g in range((t.end - t.begin + DEPTH - 1) // DEPTH):
        b = t.begin + g * DEPTH
        depth = min(<Py_ssize_t>DEPTH, t.end - b)
        load_logits_tile(t, o, i, count, b, depth, allowed, x)
        for j in range(TILE):
            new[j] = m[j]
        for k in range(depth):
            for j in range(TILE):
                new[j] = x[k * TILE + j] if x[k * TILE + j] > new[j] else new[j]
        if g > 0:
            grown = False
            for j in range(TILE):
                grown |= new[j] > m[j]
            if grown:
                for j in range(TILE):
                    factor = exp64(<double>m[j] - <double>new[j])
                    factor = 1.0 if m[j] == new[j] else factor
                    s.rest[j] = s.rest[j] if m[j] == new[j] else (s.rest[j] + ties[j]) * factor
                    ties[j] = ties[j] if m[j] == new[j] else 0.0
                for j in range(TILE):
                    if m[j] != minus_infinity(x[0]) and new[j] > m[j]:
                        s.gap[j] += s.weight[j] * (<double>new[j] - <double>m[j])
        for j in range(TILE):
            m[j] = new[j]
            base[j] = <real>0.0 if m[j] == minus_infinity(x[0]) else m[j]
        if kept != NULL:
            memcpy(bases + g * TILE, &m[0], TILE * sizeof(real))
        tile_sum(x, depth, &m[0], &base[0], kept + g * BLOCK if kept != NULL else NULL,
                 next_block(t, o, i, b), t.x.classes, &s.rest[0], &ties[0])
        if has_coefficients(t):
            load_coefs_tile(t, &s.share[0], o, i, count, b, depth, allowed, &c[0])
            tile_gap(x, &c[0], depth, &base[0], &error[0], s)
    for j in range(TILE):
        s.m[j] = m[j]
        # All maxima but one.
        s.rest[j] += <double>0.0 if m[j] == minus_infinity(x[0]) else ties[j] - 1
        s.weight[j] += error[j]


cdef void load_exact_tile(Task* t, Lanes* s, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                          Py_ssize_t c, Py_ssize_t depth, const char* allowed, real* buf,
                          real* tail) noexcept nogil:
    """Coefficients of a tile, as load_exact."""
    cdef Row row
    cdef Py_ssize_t j, k
    cdef double w = 1, v, error = 0
    cdef bint each = t.op == DENSE or t.mask.data != NULL or t.w.data != NULL
    if t.op == DENSE:
        load_tile(t, &t.y, o, i, count, c, depth, buf)
        if t.e == 0 and t.w.data == NULL:
            for j in range(depth * TILE):
                tail[j] = 0
            return
    for k in range(depth):
        if k > 0 and not each:      # the classes have one coefficient
            memcpy(buf + k * TILE, buf, TILE * sizeof(real))
            memcpy(tail + k * TILE, tail, TILE * sizeof(real))
            continue
        if t.w.data != NULL:
            w = element_get(t.w.data + (c + k) * t.w.classes, t.w.kind)
        for j in range(TILE):
            row.share = s.share[j]
            row.share_error = s.share_error[j]
            v = exact_coef(t, &row, allowed[k * TILE + j],
                           buf[k * TILE + j] if t.op == DENSE else 0.0, w, &error)
            buf[k * TILE + j] = <real>v
            tail[k * TILE + j] = <real>((v - buf[k * TILE + j]) + error)


cdef void emit_tile(Task* t, View* out, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Lanes* s,
                    real* kept, real* x, char* allowed) noexcept nogil:
    """The gradient of the rows, to out; with kept one multiplication each of what the scan left."""
    cdef real c[BLOCK]
    cdef real lost[BLOCK]
    cdef real d[BLOCK + TILE]
    cdef real m[TILE]
    cdef real a[TILE]
    cdef real tail[TILE]
    cdef real g[TILE]
    cdef real shift[TILE]
    cdef char zero[TILE]
    cdef real nothing = minus_infinity(x[0]) if t.op == LOG_SOFTMAX else <real>0.0
    cdef real* bases = kept + (t.end - t.begin) * TILE
    cdef double scale, low = tiny(x[0]), unscale = unbias(x[0])
    cdef Py_ssize_t b, h, j, k, depth, blocks = (t.end - t.begin + DEPTH - 1) // DEPTH
    cdef bint any_zero = False, coefficients = has_coefficients(t)
    for j in range(TILE):
        m[j] = <real>s.top[j]
        g[j] = <real>s.g[j]
        a[j] = <real>(s.a[j] if coefficients else s.g[j] * s.a[j])
        tail[j] = <real>(s.a[j] - a[j] + s.tail[j])
        shift[j] = <real>s.shift[j]
        zero[j] = s.zero[j] != 0
    for j in range(count):
        any_zero |= zero[j]
    for h in range(blocks):
        b = t.begin + h * DEPTH
        depth = min(<Py_ssize_t>DEPTH, t.end - b)
        if kept == NULL and (blocks > 1 or t.phase == FINISH):
            load_logits_tile(t, o, i, count, b, depth, allowed, x)
        elif blocks > 1 and t.mask.data != NULL:
            load_allowed(t, o, i, count, b, depth, allowed)
        if kept != NULL:
            for j in range(TILE):
                scale = s.g[j] * s.a[j]
                if blocks > 1:
                    scale *= exp64(bases[h * TILE + j] - s.top[j])
                # The terms' bias goes into the factor, unless a small one would underflow with it.
                g[j] = <real>(unscale if -low < scale < low else 1.0)
                a[j] = <real>(scale if -low < scale < low else scale * unscale)
            for k in range(depth):
                for j in range(TILE):
                    d[k * TILE + j] = a[j] * (g[j] * kept[h * BLOCK + k * TILE + j])
        elif t.op == LOG_SOFTMAX:
            for k in range(depth):
                for j in range(TILE):
                    d[k * TILE + j] = (x[k * TILE + j] - m[j]) - shift[j]
        elif coefficients:
            load_exact_tile(t, s, o, i, count, b, depth, allowed, &c[0], &lost[0])
            for k in range(depth):
                for j in range(TILE):
                    d[k * TILE + j] = difference(
                        x[k * TILE + j], m[j], a[j], tail[j], c[k * TILE + j],
                        lost[k * TILE + j], g[j])
        else:
            for k in range(depth):
                for j in range(TILE):
                    d[k * TILE + j] = a[j] * exponential(x[k * TILE + j] - m[j], False)
        if t.op == INDEX:
            for j in range(count):      # labels of other blocks go beside it
                k = min(<uint64_t>(s.label[j] - b), <uint64_t>depth)
                d[k * TILE + j] = <real>s.entry[j]
        if t.mask.data != NULL or any_zero:
            for k in range(depth):
                for j in range(TILE):
                    if zero[j] or not allowed[k * TILE + j]:
                        d[k * TILE + j] = nothing
        store_tile(t, out, o, i, count, b, depth, &d[0], t.stream and out == &t.grad)


cdef void load_labels(const char* p, int kind, Py_ssize_t stride, Py_ssize_t count,
                      int64_t* y) noexcept nogil:
    cdef Py_ssize_t j
    if kind == KIND_I64:
        for j in range(count):
            y[j] = (<const int64_t*>(p + j * stride))[0]
    elif kind == KIND_I32:
        for j in range(count):
            y[j] = (<const int32_t*>(p + j * stride))[0]
    else:
        for j in range(count):
            y[j] = element_label(p + j * stride, kind)


cdef void load_column(Task* t, View* v, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                      double* to) noexcept nogil:
    """A number of each row."""
    cdef double* p = load(v.kind, v.data + o * v.outer + i * v.inner, pitch(t, v), count, to)
    if p != to:
        memcpy(to, p, count * sizeof(double))


cdef void open_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                    Lanes* s) noexcept nogil:
    """What is known before the logits are read, as open_row; the missing rows are absent."""
    cdef Py_ssize_t j, di = t.num_inner == 1, allowed = t.num_classes
    for j in range(TILE):
        s.u[j] = 1
        s.absent[j] = j >= count
        s.masked[j] = 0
        s.share[j] = 0
        s.share_error[j] = 0
        s.label[j] = -1
    if t.u.data != NULL:
        load_column(t, &t.u, o, i, count, &s.u[0])
        for j in range(count):
            s.absent[j] = s.u[j] == 0
    if t.op == INDEX:
        load_labels(t.y.data + o * t.y.outer + i * t.y.inner, t.y.kind, pitch(t, &t.y), count,
                    &s.label[0])
        if t.has_ignore:
            for j in range(count):
                s.absent[j] = <double>1.0 if s.label[j] == t.ignore else s.absent[j]
    if t.mask.data != NULL or t.e != 0:
        for j in range(count):
            if t.mask.data != NULL:
                allowed = count_allowed(t, o + j * di, i + j * (1 - di))
                s.masked[j] = allowed == 0
            if t.e != 0 and allowed > 0:
                s.share[j] = t.e / allowed
                s.share_error[j] = fma(-s.share[j], <double>allowed, t.e) / allowed


cdef void find_labels(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Lanes* s,
                      const real* x) noexcept nogil:
    """Distance and weight of the labels; no label where its row is absent or it is masked.

    x is the tile if all classes are in it: in memory they may be far apart.
    """
    cdef const char* p = t.x.data + o * t.x.outer + i * t.x.inner
    cdef const char* q
    cdef Py_ssize_t j, across = pitch(t, &t.x)
    for j in range(TILE):
        s.wy[j] = 1
        s.d[j] = 0
        s.label[j] = -1 if s.absent[j] != 0 else s.label[j]
    if t.w.data != NULL:
        for j in range(count):
            if s.label[j] >= 0:
                s.wy[j] = element_get(t.w.data + s.label[j] * t.w.classes, t.w.kind)
    if t.phase == ALL and t.num_classes <= DEPTH:
        for j in range(count):
            s.d[j] = x[max(<int64_t>0, s.label[j]) * TILE + j]
    elif t.x.kind == native_kind(x[0]):
        for j in range(count):
            s.d[j] = (<const real*>(p + j * across + max(<int64_t>0, s.label[j]) * t.x.classes))[0]
    else:
        for j in range(count):
            s.d[j] = element_get(p + j * across + max(<int64_t>0, s.label[j]) * t.x.classes,
                                 t.x.kind)
    for j in range(TILE):
        s.d[j] = s.m[j] - s.d[j]
    if t.mask.data != NULL:
        q = t.mask.data + o * t.mask.outer + i * t.mask.inner
        for j in range(count):
            if s.label[j] >= 0 and q[j * pitch(t, &t.mask) + s.label[j] * t.mask.classes] == 0:
                s.d[j] = INFINITY
                s.label[j] = -1


cdef void finish_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Lanes* s,
                      const real* x) noexcept nogil:
    """Losses and the numbers of the gradients, from the statistics."""
    cdef Py_ssize_t j, lanes = (count + 15) // 16 * 16      # a few whole vectors
    cdef double e = t.e, z = t.t, scale = t.scale
    cdef bint slopes = t.grad.data != NULL, single = sizeof(real) == 4
    for j in range(lanes):
        s.rest[j] = <double>0.0 if j >= count else s.rest[j]
    for j in range(lanes):
        s.r[j] = log1p_for(s.rest[j], x[0])
    if t.op != INDEX and t.op != DENSE:
        for j in range(lanes):
            settle_normaliser(s, j)
        return
    if t.op == INDEX:
        find_labels(t, o, i, count, s, x)
    for j in range(lanes):
        s.g[j] = 1
    if t.g.data != NULL:
        load_column(t, &t.g, o, i, count, &s.g[0])
    for j in range(lanes):
        s.g[j] *= scale
    # One loop for each case, all of them in vectors.
    if t.op == DENSE:
        for j in range(lanes):
            settle(s, j, False, True, e, z)
        if slopes:
            for j in range(lanes):
                settle_slope(s, j, False, True, single, e, z)
    elif e != 0:
        for j in range(lanes):
            settle(s, j, True, True, e, z)
        if slopes:
            for j in range(lanes):
                settle_slope(s, j, True, True, single, e, z)
    else:
        for j in range(lanes):
            settle(s, j, True, False, 0, z)
        if slopes:
            for j in range(lanes):
                settle_slope(s, j, True, False, single, 0, z)


cdef double run_tile(Task* t, View* out, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, real* kept,
                     real unused) noexcept nogil:
    cdef Lanes s
    cdef real x[BLOCK]
    cdef char allowed[BLOCK]
    cdef float narrow[TILE]
    cdef double* p
    cdef Py_ssize_t j, di = t.num_inner == 1
    cdef char* to = t.stats.data + o * t.stats.outer + i * t.stats.inner
    cdef Py_ssize_t across = pitch(t, &t.stats)
    if t.mask.data == NULL:
        for j in range(BLOCK):
            allowed[j] = 1
    open_tile(t, o, i, count, &s)
    if t.phase == FINISH:
        for j in range(TILE):
            s.m[j] = 0
            s.rest[j] = 0
        for j in range(count):
            p = <double*>(to + j * across)
            s.m[j] = p[0]
            s.rest[j] = p[1]
            s.weight[j] = p[2]
            s.gap[j] = p[3]
            s.nonzero[j] = p[4]
    else:
        scan_tile(t, o, i, count, &s, kept, &x[0], &allowed[0])
        if t.stats.data != NULL:
            for j in range(count):
                p = <double*>(to + j * across)
                p[0] = s.m[j]
                p[1] = s.rest[j]
                p[2] = s.weight[j]
                p[3] = s.gap[j]
                p[4] = s.nonzero[j]
    if t.phase == SCAN:
        return 0
    finish_tile(t, o, i, count, &s, &x[0])
    if t.loss.data != NULL:
        to = t.loss.data + o * t.loss.outer + i * t.loss.inner
        if t.loss.kind == KIND_F32:
            for j in range(TILE):
                narrow[j] = <float>s.loss[j]
            store(t.loss.kind, to, pitch(t, &t.loss), count, &narrow[0], False)
        else:
            store(t.loss.kind, to, pitch(t, &t.loss), count, &s.loss[0], False)
    if t.grad.data != NULL:
        emit_tile(t, out, o, i, count, &s, kept, &x[0], &allowed[0])
    return sum_doubles(&s.loss[0], (count + 15) // 16 * 16)


cdef Py_ssize_t flush_tiles(Task* t, Py_ssize_t row, Py_ssize_t count, bint last, real* stage,
                            Py_ssize_t group) noexcept nogil:
    """Writes what is gathered from a row on past the cache; how many rows are left for later.

    Left is what does not fill a line of the cache, unless there is no later.
    """
    cdef char* p = t.grad.data + row // t.num_inner * t.grad.outer + (
        row % t.num_inner * t.grad.inner)
    cdef Py_ssize_t k, across = pitch(t, &t.grad), left = 0
    if not last and t.grad.kind == native_kind(stage[0]) and across == sizeof(real) and (
            t.grad.classes % 64 == 0):
        left = min(count, (<Py_ssize_t>(<uintptr_t>p % 64) // across + count) % (64 // across))
    for k in range(t.end - t.begin):
        store(t.grad.kind, p + (t.begin + k) * t.grad.classes, across, count - left,
              stage + k * group, True)
        memmove(stage + k * group, stage + k * group + count - left, left * sizeof(real))
    return left


cdef double run_tiles(Task* t, Py_ssize_t first, Py_ssize_t stop, real* kept, char* room,
                      Py_ssize_t size, real unused) noexcept nogil:
    """All tiles of a range of rows.

    Gradients that go past the cache, and whose rows are contiguous, are gathered in what is
    left of the room and written some kilobytes at a time, whole lines only: where each tile
    wrote its own, cut where the tile ends and not where a line does, it took 1.5 times as long.
    """
    cdef View out = t.grad
    cdef View* to = &t.grad
    cdef Py_ssize_t width = t.end - t.begin, group = 0, gathered = 0
    cdef Py_ssize_t row = first, begin = first, count, o, i
    cdef double total = 0
    cdef real* stage = <real*>room
    cdef bint last
    if t.grad.data != NULL and t.stream and (
            distance(pitch(t, &t.grad)) < distance(t.grad.classes)):
        if kept != NULL:
            o = TILE * (width + (width + DEPTH - 1) // DEPTH)
            stage += o
            size -= o
        group = min(<Py_ssize_t>GROUP, size // width // 16 * 16)
        if group > 2 * TILE:
            to = &out
            out.kind = native_kind(unused)
            out.classes = group * sizeof(real)
            out.outer = sizeof(real) if t.num_inner == 1 else 0
            out.inner = sizeof(real) - out.outer
    while row < stop:
        o = row // t.num_inner
        i = row % t.num_inner
        count = min(<Py_ssize_t>TILE, stop - row)
        if t.num_inner > 1:
            count = min(count, t.num_inner - i)
        if to == &out:
            out.data = <char*>stage - t.begin * out.classes - (
                begin // t.num_inner * out.outer + begin % t.num_inner * out.inner)
        total += run_tile(t, to, o, i, count, kept, unused)
        row += count
        gathered += count
        last = row == stop or (t.num_inner > 1 and row % t.num_inner == 0)
        if to == &out and (last or gathered + TILE > group):
            gathered = flush_tiles(t, begin, gathered, last, stage, group)
            begin = row - gathered
    return total
