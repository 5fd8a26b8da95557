# Rows whose classes are few or not contiguous: tiles of them, one row per lane.
# Included by _isa.pyx.

cdef real* load_tile(Task* t, View* v, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                     Py_ssize_t depth, real* buf, Py_ssize_t* step) noexcept nogil:
    """depth classes of count rows: class k of row j at [k * step + j].

    In place where rows are contiguous and fill the tile; else copied, the missing rows 0.
    """
    cdef real line[TILE]
    cdef real* q
    cdef char* p = v.data + o * v.outer + i * v.inner + c * v.classes
    cdef Py_ssize_t j, k, across = pitch(t, v)
    if count == TILE and across == sizeof(real) and v.classes % <Py_ssize_t>sizeof(real) == 0 and (
            v.kind == native_kind(line[0])):
        step[0] = v.classes // <Py_ssize_t>sizeof(real)
        return <real*>p
    step[0] = TILE
    if count < TILE:
        for j in range(depth * TILE):
            buf[j] = 0
    if distance(v.classes) < distance(across):
        for j in range(count):
            q = load(v.kind, p + j * across, v.classes, depth, &line[0])
            for k in range(depth):
                buf[k * TILE + j] = q[k]
    else:
        for k in range(depth):
            q = load(v.kind, p + k * v.classes, across, count, buf + k * TILE)
            if q != buf + k * TILE:
                memcpy(buf + k * TILE, q, count * sizeof(real))
    return buf


cdef void store_tile(Task* t, View* v, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                     Py_ssize_t depth, const real* d) noexcept nogil:
    cdef real line[TILE]
    cdef char* p = v.data + o * v.outer + i * v.inner + c * v.classes
    cdef Py_ssize_t j, k, across = pitch(t, v)
    if distance(v.classes) < distance(across):
        for j in range(count):
            for k in range(depth):
                line[k] = d[k * TILE + j]
            store(v.kind, p + j * across, v.classes, depth, &line[0], t.stream)
    else:
        for k in range(depth):
            store(v.kind, p + k * v.classes, across, count, d + k * TILE, t.stream)


cdef void load_allowed(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                       Py_ssize_t depth, char* allowed) noexcept nogil:
    cdef const char* p = t.mask.data + o * t.mask.outer + i * t.mask.inner + c * t.mask.classes
    cdef Py_ssize_t j, k, across = pitch(t, &t.mask)
    for k in range(depth):
        for j in range(TILE):
            allowed[k * TILE + j] = 1
        for j in range(count):
            allowed[k * TILE + j] = p[k * t.mask.classes + j * across] != 0


cdef real* load_logits_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Py_ssize_t c,
                            Py_ssize_t depth, const char* allowed, real* buf,
                            Py_ssize_t* step) noexcept nogil:
    """Logits of a tile; masked ones are -inf."""
    cdef real* x = load_tile(t, &t.x, o, i, count, c, depth, buf, step)
    cdef Py_ssize_t j, k
    cdef real v
    if t.mask.data == NULL:
        return x
    for k in range(depth):
        for j in range(TILE):
            v = x[k * step[0] + j]      # x may be buf
            buf[k * TILE + j] = v if allowed[k * TILE + j] else minus_infinity(v)
    step[0] = TILE
    return buf


cdef real* load_coefs_tile(Task* t, const real* share, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                           Py_ssize_t c, Py_ssize_t depth, const char* allowed, real* buf,
                           Py_ssize_t* step) noexcept nogil:
    """Coefficients of a tile, as load_coefs."""
    cdef real* q = NULL
    cdef Py_ssize_t j, k
    cdef real keep = <real>(1.0 - t.e), w = 1, v
    if t.op == DENSE:
        q = load_tile(t, &t.y, o, i, count, c, depth, buf, step)
        if t.e == 0 and t.w.data == NULL:
            return q
    for k in range(depth):
        if t.w.data != NULL:
            w = <real>element_get(t.w.data + (c + k) * t.w.classes, t.w.kind)
        for j in range(TILE):
            v = <real>1.0 if t.op == INDEX or allowed[k * TILE + j] else <real>0.0
            if t.op == DENSE:
                v = v * share[j] + (<real>0.0 if keep == 0 else keep * q[k * step[0] + j])
                v = <real>0.0 if v == 0 or w == 0 else v * w
            else:
                v = w if allowed[k * TILE + j] else <real>0.0
            buf[k * TILE + j] = v
    step[0] = TILE
    return buf


cdef void scan_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Row* rows,
                    real unused) noexcept nogil:
    cdef real bx[BLOCK]
    cdef real bc[BLOCK]
    cdef char allowed[BLOCK]
    cdef real m[TILE]
    cdef real new[TILE]
    cdef real base[TILE]
    cdef real part[TILE]
    cdef real rest_part[TILE]
    cdef real count_[TILE]
    cdef double weight[TILE]
    cdef double error[TILE]
    cdef real gap[TILE]
    cdef real share[TILE]
    cdef double rest[TILE]
    cdef double ties[TILE]
    cdef double factor
    cdef real* x
    cdef real* c
    cdef real v, s, f = 0
    cdef double unscale = unbias(unused)
    cdef Py_ssize_t b, g, j, k, depth, step = TILE, cstep = TILE
    cdef bint grown
    for j in range(TILE):
        m[j] = minus_infinity(unused)
        rest[j] = 0
        ties[j] = 0
        weight[j] = 0
        error[j] = 0
        share[j] = <real>rows[j].share if j < count else <real>0.0
    for j in range(BLOCK):
        allowed[j] = 1
    for g in range((t.end - t.begin + DEPTH - 1) // DEPTH):
        b = t.begin + g * DEPTH
        depth = min(<Py_ssize_t>DEPTH, t.end - b)
        if t.mask.data != NULL:
            load_allowed(t, o, i, count, b, depth, &allowed[0])
        x = load_logits_tile(t, o, i, count, b, depth, &allowed[0], &bx[0], &step)
        for j in range(TILE):
            new[j] = m[j]
        for k in range(depth):
            for j in range(TILE):
                new[j] = x[k * step + j] if x[k * step + j] > new[j] else new[j]
        grown = False
        for j in range(TILE):
            grown |= new[j] > m[j]
        if grown and b > t.begin:
            for j in range(TILE):
                factor = exp64(<double>m[j] - <double>new[j])
                factor = 1.0 if m[j] == new[j] else factor
                rest[j] = rest[j] if m[j] == new[j] else (rest[j] + ties[j]) * factor
                ties[j] = ties[j] if m[j] == new[j] else 0.0
            for j in range(count):
                if m[j] != minus_infinity(unused) and new[j] > m[j]:
                    rows[j].gap += rows[j].weight * (<double>new[j] - <double>m[j])
        for j in range(TILE):
            m[j] = new[j]
            base[j] = <real>0.0 if m[j] == minus_infinity(unused) else m[j]
            part[j] = 0
            rest_part[j] = 0
            count_[j] = 0
        # One lane sums up to 32 terms: s and s t apart, since sums of powers of two are exact.
        for k in range(depth):
            for j in range(TILE):
                v = x[k * step + j] - base[j]
                s = factors(v, True, &f)
                f = <real>0.0 if (x[k * step + j] == m[j]) | (v < lowest(v, True)) else s * f
                s = <real>0.0 if (x[k * step + j] == m[j]) | (v < lowest(v, True)) else s
                part[j] += s
                rest_part[j] += f
                count_[j] += <real>1.0 if x[k * step + j] == m[j] else <real>0.0
        for j in range(TILE):
            rest[j] += (<double>part[j] + rest_part[j]) * unscale
            ties[j] += count_[j]
        if has_coefficients(t):
            c = load_coefs_tile(t, &share[0], o, i, count, b, depth, &allowed[0], &bc[0], &cstep)
            for j in range(TILE):
                gap[j] = 0
                count_[j] = 0
            for k in range(depth):
                for j in range(TILE):
                    add_exactly(&weight[j], &error[j], c[k * cstep + j])
                for j in range(TILE):
                    v = c[k * cstep + j] * (base[j] - x[k * step + j])
                    gap[j] += <real>0.0 if c[k * cstep + j] == 0 else v
                    count_[j] += <real>0.0 if c[k * cstep + j] == 0 else <real>1.0
            for j in range(count):
                rows[j].weight = weight[j]
                rows[j].error = error[j]
                rows[j].gap += gap[j]
                rows[j].nonzero += count_[j]
    for j in range(count):
        rows[j].m = m[j]
        rows[j].rest = rest[j]
        if m[j] != minus_infinity(unused):
            rows[j].rest += ties[j] - 1     # all maxima but one
        rows[j].weight += rows[j].error


cdef void load_exact_tile(Task* t, Row* rows, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                          Py_ssize_t c, Py_ssize_t depth, const char* allowed, real* buf,
                          real* tail) noexcept nogil:
    """Coefficients of a tile, as load_exact."""
    cdef real* q = NULL
    cdef Py_ssize_t j, k, step = TILE
    cdef double w = 1, v, error = 0
    if t.op == DENSE:
        q = load_tile(t, &t.y, o, i, count, c, depth, buf, &step)
    for k in range(depth):
        if t.w.data != NULL:
            w = element_get(t.w.data + (c + k) * t.w.classes, t.w.kind)
        for j in range(count):
            v = exact_coef(t, &rows[j], allowed[k * TILE + j],
                           q[k * step + j] if q != NULL else 0.0, w, &error)
            buf[k * TILE + j] = <real>v
            tail[k * TILE + j] = <real>((v - buf[k * TILE + j]) + error)


cdef void emit_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count, Row* rows, Coef* coefs,
                    real unused) noexcept nogil:
    cdef real bx[BLOCK]
    cdef real bc[BLOCK]
    cdef real bt[BLOCK]
    cdef real bd[BLOCK]
    cdef char allowed[BLOCK]
    cdef real m[TILE]
    cdef real a[TILE]
    cdef real tail[TILE]
    cdef real g[TILE]
    cdef real shift[TILE]
    cdef char zero[TILE]
    cdef real* x
    cdef real nothing = minus_infinity(unused) if t.op == LOG_SOFTMAX else <real>0.0
    cdef Py_ssize_t b, h, j, k, depth, step = TILE
    cdef bint any_zero = False, coefficients = has_coefficients(t)
    for j in range(TILE):
        m[j] = 0
        a[j] = 0
        tail[j] = 0
        g[j] = 0
        shift[j] = 0
        zero[j] = 0
    for j in range(BLOCK):
        allowed[j] = 1
        bc[j] = 0
        bt[j] = 0
    for j in range(count):
        m[j] = <real>coefs[j].m
        g[j] = <real>coefs[j].g
        a[j] = <real>(coefs[j].a if coefficients else coefs[j].g * coefs[j].a)
        tail[j] = <real>(coefs[j].a - a[j] + coefs[j].tail)
        shift[j] = <real>coefs[j].shift
        zero[j] = coefs[j].zero
        any_zero |= zero[j]
    for h in range((t.end - t.begin + DEPTH - 1) // DEPTH):
        b = t.begin + h * DEPTH
        depth = min(<Py_ssize_t>DEPTH, t.end - b)
        if t.mask.data != NULL:
            load_allowed(t, o, i, count, b, depth, &allowed[0])
        x = load_logits_tile(t, o, i, count, b, depth, &allowed[0], &bx[0], &step)
        if t.op == LOG_SOFTMAX:
            for k in range(depth):
                for j in range(TILE):
                    bd[k * TILE + j] = (x[k * step + j] - m[j]) - shift[j]
        elif coefficients:
            load_exact_tile(t, rows, o, i, count, b, depth, &allowed[0], &bc[0], &bt[0])
            for k in range(depth):
                for j in range(TILE):
                    bd[k * TILE + j] = difference(
                        x[k * step + j], m[j], a[j], tail[j], bc[k * TILE + j],
                        bt[k * TILE + j], g[j])
        else:
            for k in range(depth):
                for j in range(TILE):
                    bd[k * TILE + j] = a[j] * exponential(x[k * step + j] - m[j], False)
        for j in range(count):
            if b <= coefs[j].label < b + depth:
                bd[(coefs[j].label - b) * TILE + j] = <real>coefs[j].entry
        if t.mask.data != NULL or any_zero:
            for k in range(depth):
                for j in range(TILE):
                    if zero[j] or not allowed[k * TILE + j]:
                        bd[k * TILE + j] = nothing
        store_tile(t, &t.grad, o, i, count, b, depth, &bd[0])


cdef double run_tile(Task* t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t count,
                     real unused) noexcept nogil:
    cdef Row rows[TILE]
    cdef Coef coefs[TILE]
    cdef double r[TILE]
    cdef double loss, total = 0
    cdef Py_ssize_t j, di, dj
    di = 1 if t.num_inner == 1 else 0
    dj = 1 - di
    for j in range(count):
        open_row(t, o + j * di, i + j * dj, &rows[j])
        if t.phase == FINISH:
            read_stats(t, o + j * di, i + j * dj, &rows[j])
    if t.phase != FINISH:
        scan_tile(t, o, i, count, &rows[0], unused)
        if t.stats.data != NULL:
            for j in range(count):
                write_stats(t, o + j * di, i + j * dj, &rows[j])
    if t.phase == SCAN:
        return 0
    for j in range(TILE):
        r[j] = rows[j].rest if j < count else 0.0
    for j in range(TILE):
        r[j] = log1p64(r[j])
    for j in range(count):
        loss = finish(t, o + j * di, i + j * dj, &rows[j], r[j], &coefs[j])
        total += loss
        if t.loss.data != NULL:
            element_put(t.loss.data + (o + j * di) * t.loss.outer + (i + j * dj) * t.loss.inner,
                        t.loss.kind, loss)
    if t.grad.data != NULL:
        emit_tile(t, o, i, count, &rows[0], &coefs[0], unused)
    return total
