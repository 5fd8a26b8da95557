"""Plain calls, checked, planned and run in one compiled frame.

A call of a few hundred elements costs more in frames of Python than in arithmetic, one of
a million a tenth as much.  So what most calls are (arrays of NumPy's own type,
C-contiguous, native float32 or float64, no option but ``axis``, ``reduction`` and the
outputs) is recognised here and handed to the kernels' ``direct``, on several threads where
that is worth it.  Everything else, and whatever would be an error, is answered by None: the
general path of `_call` takes it, and says what is wrong.  Nothing has been written then.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uintptr_t

import numpy

from . import _choices, _pool, _threads
from ._spec import REDUCTIONS

cdef extern from "_direct.h" nogil:
    ctypedef enum fx_op:
        LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, INDEX, DENSE

    ctypedef struct fx_direct:
        fx_op op
        int bytes, label_bytes
        const char* x
        const char* y
        char* loss
        char* grad
        Py_ssize_t rows, classes, inner
        double scale
        bint stream
        double* totals

    ctypedef int (*fx_direct_run)(const fx_direct*, Py_ssize_t, Py_ssize_t, Py_ssize_t, char*,
                                  Py_ssize_t) noexcept nogil
    const char* FX_DIRECT

cdef extern from "_pool.h" nogil:
    ctypedef void (*fx_piece)(void*, int64_t, char*, Py_ssize_t) noexcept nogil
    const char* FX_POOL

ctypedef int (*fx_pool_run)(fx_piece, void*, int64_t, int, char*, Py_ssize_t) except -1 nogil

cdef fx_pool_run on_pool = <fx_pool_run>PyCapsule_GetPointer(_pool.RUN, FX_POOL)

#: Elements below which a call is serial, and one block.
cdef Py_ssize_t PARALLEL = _choices.PARALLEL

cdef Py_ssize_t LONG = _choices.LONG

cdef enum:
    LIMIT = 1 << 23     # elements from which the general path, too, costs nothing beside them
    BLOCKS = 256        # at most
    TOGETHER = 4096     # labels looked at before the first bad one counts

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object float32 = numpy.float32
cdef object float64 = numpy.float64
cdef object own_room = _threads.room
cdef object default_threads = _threads.default_threads
cdef object rows_per_block = _choices.rows_per_block
cdef tuple MEANS = REDUCTIONS[2:]
cdef dict OPS = {"logsumexp": LOGSUMEXP, "softmax": SOFTMAX, "log_softmax": LOG_SOFTMAX}


cdef class Call:
    """The arrays of a call, held while it runs."""

    cdef fx_direct task
    cdef double totals[BLOCKS]
    cdef Py_buffer buffers[5]
    cdef int held, axis
    cdef Py_ssize_t step        # rows in a block
    cdef fx_direct_run kernel

    def __dealloc__(self):
        cdef int k
        for k in range(self.held):
            PyBuffer_Release(&self.buffers[k])

    cdef Py_buffer* hold(self, array, bint writable):
        """The buffer of a plain array, or NULL."""
        cdef Py_buffer* b = &self.buffers[self.held]
        if type(array) is not ndarray:
            return NULL
        try:
            PyObject_GetBuffer(
                array, b, PyBUF_FORMAT | PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        except (ValueError, BufferError):
            return NULL
        self.held += 1
        if (b.format == NULL or b.format[0] == 0 or b.format[1] != 0
                or <uintptr_t>b.buf % b.itemsize or not PyBuffer_IsContiguous(b, c"C")):
            return NULL
        return b

    cdef bint logits(self, x, axis):
        """Take up the logits; tell whether they are plain and small."""
        cdef Py_buffer* b = self.hold(x, False)
        cdef int k
        if b == NULL or not is_float(b) or type(axis) is not int or not -b.ndim <= axis < b.ndim:
            return False
        self.axis = axis if axis >= 0 else axis + b.ndim
        self.task.x = <const char*>b.buf
        self.task.bytes = b.itemsize
        self.task.classes = b.shape[self.axis]
        self.task.inner = 1
        for k in range(self.axis + 1, b.ndim):
            self.task.inner *= b.shape[k]
        self.task.scale = 1.0
        if not 0 < b.len < LIMIT * b.itemsize or self.task.classes > LONG:
            return False
        self.task.rows = b.len // (b.itemsize * self.task.classes)
        return True

    cdef bint labels(self, y, bint index):
        """Take up the labels; tell whether they are plain and, as indices, in range."""
        cdef Py_buffer* x = &self.buffers[0]
        cdef Py_buffer* b = self.hold(y, False)
        if b == NULL or not has_shape(b, x, self.axis if index else x.ndim):
            return False
        self.task.y = <const char*>b.buf
        self.task.label_bytes = b.itemsize
        if not index:
            return b.format[0] == x.format[0]
        if b.format[0] in b"lq" and b.itemsize == 8:
            return in_range(<const int64_t*>b.buf, self.task.rows, self.task.classes)
        if b.format[0] in b"li" and b.itemsize == 4:
            return in_range(<const int32_t*>b.buf, self.task.rows, self.task.classes)
        return False

    cdef char* output(self, array, int without):
        """Memory of an output: the logits' dtype and axes but one, apart from all others."""
        cdef Py_buffer* x = &self.buffers[0]
        cdef Py_buffer* b = self.hold(array, True)
        cdef int k
        if b == NULL or b.format[0] != x.format[0] or not has_shape(b, x, without):
            return NULL
        for k in range(self.held - 1):
            if apart(b, &self.buffers[k]):
                continue
            # In place, all of it.
            if k > 0 or b.buf != x.buf or without < x.ndim:
                return NULL
        return <char*>b.buf

    cdef per_row(self, fx_direct_run kernel, threads, x, out):
        """Run, and return one number per row: an array, or a scalar."""
        cdef double double_value = 0
        cdef float float_value = 0
        if out is None and self.buffers[0].ndim == 1:
            if self.task.bytes == 8:
                self.task.loss = <char*>&double_value
            else:
                self.task.loss = <char*>&float_value
            if not self.run(kernel, threads):
                return None
            return scalar(&self.buffers[0], double_value + float_value)
        if out is None:
            out = empty(x.shape[:self.axis] + x.shape[self.axis + 1:], x.dtype)
        self.task.loss = self.output(out, self.axis)
        if self.task.loss == NULL or not self.run(kernel, threads):
            return None
        return out

    cdef bint run(self, fx_direct_run kernel, threads) except -1:
        """Tell whether it was done: if not, nothing was written."""
        cdef fx_direct* d = &self.task
        cdef Py_buffer room
        cdef Py_ssize_t k, blocks = 1
        cdef int workers = 1
        cdef bint busy
        if kernel(d, 0, 0, 0, NULL, 0):
            return False
        self.kernel = kernel
        self.step = d.rows
        d.totals = &self.totals[0]
        if d.rows * d.classes >= PARALLEL:
            self.step = rows_per_block(d.rows, d.classes, 1, d.inner == 1, PARALLEL)
            blocks = (d.rows + self.step - 1) // self.step
            workers = threads or default_threads()
            d.stream = d.grad != NULL and d.grad != d.x and (
                d.rows * d.classes * d.bytes >= _choices.STREAM_BYTES)
            if blocks > BLOCKS:
                return False
        room.buf = NULL
        room.len = 0
        if d.grad != NULL:
            room = self.hold(own_room(), True)[0]
        with nogil:
            if workers > 1 and blocks > 1:
                busy = on_pool(piece, <void*>self, blocks, workers, <char*>room.buf, room.len)
            else:
                busy = False
                for k in range(blocks):
                    piece(<void*>self, k, <char*>room.buf, room.len)
        return not busy

    cdef double total(self):
        """The sum of the losses, added up as the general path does."""
        cdef Py_ssize_t k
        if self.step == self.task.rows:
            return self.totals[0]
        return sum([self.totals[k] for k in range((self.task.rows + self.step - 1) // self.step)])


cdef void piece(void* call, int64_t k, char* room, Py_ssize_t size) noexcept nogil:
    """A block of a call's rows."""
    cdef Py_ssize_t step = (<Call>call).step
    (<Call>call).kernel(&(<Call>call).task, k * step,
                        min((<Call>call).task.rows, (k + 1) * step), k, room, size)


cdef inline bint is_float(Py_buffer* b):
    return b.format[0] in b"fd"


cdef inline bint has_shape(Py_buffer* a, Py_buffer* x, int without):
    """Are these the axes of x, without one if there is that one?"""
    cdef int k
    if a.ndim != x.ndim - (without < x.ndim):
        return False
    for k in range(a.ndim):
        if a.shape[k] != x.shape[k + (k >= without)]:
            return False
    return True


cdef inline bint apart(Py_buffer* a, Py_buffer* b):
    return <char*>a.buf + a.len <= <char*>b.buf or <char*>b.buf + b.len <= <char*>a.buf


ctypedef fused label:
    int32_t
    int64_t


cdef inline bint in_range(const label* y, Py_ssize_t n, Py_ssize_t classes):
    cdef Py_ssize_t k, begin
    cdef label bad = 0, last = <label>(classes - 1)
    for begin in range(0, n, TOGETHER):
        # No branch, and no overflow where it counts: of a label beyond, one of the two is negative.
        for k in range(begin, min(begin + TOGETHER, n)):
            bad |= y[k] | (last - y[k])
        if bad < 0:
            return False
    return True


cdef inline bint is_zero(value):
    return type(value) is float and <double>value == 0


cdef inline object scalar(Py_buffer* x, double value):
    # Beyond the range of float32 the result is inf, without NumPy's warning.
    return float64(value) if x.itemsize == 8 else float32(<float>value)


cdef class Front:
    """The way in to some kernels; every answer is None where the general path is wanted."""

    cdef fx_direct_run kernel

    def __cinit__(self, capsule):
        self.kernel = <fx_direct_run>PyCapsule_GetPointer(capsule, FX_DIRECT)

    def normalize(self, threads, str kind, x, axis, out, bint keepdims):
        """logsumexp, softmax or log_softmax."""
        cdef Call call = Call()
        if keepdims or not call.logits(x, axis):
            return None
        call.task.op = OPS[kind]
        if call.task.op == LOGSUMEXP:
            return call.per_row(self.kernel, threads, x, out)
        if out is None:
            out = empty(x.shape, x.dtype)
        call.task.grad = call.output(out, call.buffers[0].ndim)
        if call.task.grad == NULL or not call.run(self.kernel, threads):
            return None
        return out

    def loss(self, threads, bint index, logits, labels, axis, smoothing, z_loss, reduction, out,
             bint with_grad, grad):
        """Softmax cross entropy, with its gradient if asked for."""
        cdef Call call = Call()
        cdef double rows
        if (not is_zero(smoothing) or not is_zero(z_loss) or type(reduction) is not str
                or not call.logits(logits, axis) or not call.labels(labels, index)):
            return None
        call.task.op = INDEX if index else DENSE
        if with_grad:
            if grad is None:
                grad = empty(logits.shape, logits.dtype)
            call.task.grad = call.output(grad, call.buffers[0].ndim)
            if call.task.grad == NULL:
                return None
        if reduction == "none":
            result = call.per_row(self.kernel, threads, logits, out)
        elif out is None and (reduction == "sum" or reduction in MEANS):
            rows = 1.0 if reduction == "sum" else call.task.rows
            call.task.scale /= rows
            if not call.run(self.kernel, threads):
                return None
            result = scalar(&call.buffers[0], call.total() / rows)
        else:
            return None
        return result if result is None or not with_grad else (result, grad)
