"""Where a kernel finds things: the table of a call, and the state of its rows.

Both are a few kilobytes on the stack, read and written by address.  The accessors are
single instructions put in place by hand: as compiled functions of their own, hundreds of
calls of them took most of the compilation.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ._vectors import LANES, Vector

LOGSUMEXP, SOFTMAX, LOG_SOFTMAX, INDEX, DENSE, SIGMOID, LOG_SIGMOID, LOGITS, PROBS = range(9)

# ---------------------------------------------------------------- element kinds, by size
(
    BOOL, INT8, UINT8, INT16, UINT16, HALF, BFLOAT, INT32, UINT32, SINGLE, INT64, UINT64, DOUBLE,
    LONG,
) = range(14)  # fmt: skip
SWAPPED = 32

# ---------------------------------------------------------------- the table of a call
# Its first part is what Python packs: numbers, then addresses of array objects, then kinds.
OP, PHASE, BEGIN, END, STREAM, HAS_IGNORE, IGNORE = range(7)
ARRAYS = X, Y, MASK, U, G, W, LOSS, GRAD, STATS, TOTAL = range(10)
OBJECTS, KINDS = 7, 17
COUNTER = 27  # the next block of a sweep
PACKED = 28
# Its second part is read from the array objects.
OUTER, CLASSES, INNER, IN_PLACE, E, Z, SCALE = range(7, 14)
VIEWS = 14
DATA, BY_OUTER, BY_CLASS, BY_INNER, KIND = range(5)  # a view: address, strides in bytes, kind
TABLE_BYTES = 8 * (VIEWS + 5 * len(ARRAYS))

# ---------------------------------------------------------------- the state of rows
COLUMNS = (
    M, REST, WEIGHT, ERROR, GAP, NONZERO, SHARE, SHARE_ERROR, WEIGHT_U, ABSENT, MASKED, R,
    TOP, SHIFT, FACTOR, A, TAIL, ENTRY, LABEL, ZERO,
) = range(20)  # fmt: skip
COLUMN_COUNT = len(COLUMNS)
STATE_BYTES = 8 * LANES * COLUMN_COUNT


_WORD, _NUMBER = ir.IntType(64), ir.DoubleType()


def _constant(k):
    return ir.Constant(_WORD, k)


def _address(builder, base, index, scale, offset=0):
    """base + scale * index + offset, in bytes."""
    place = builder.add(base, builder.mul(index, _constant(scale)))
    return builder.add(place, _constant(offset)) if offset else place


def _read(builder, address, kind):
    value = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    value.align = 8
    return value


def _write(builder, address, value):
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type))).align = 8


def _view(builder, t, array, k):
    return _read(builder, _address(builder, t, array, 40, 8 * (VIEWS + k)), _WORD)


_I, _F = types.int64, types.float64


@intrinsic
def field(typingctx, t, k):
    """An integer of the table."""

    def codegen(context, builder, sig, args):
        return _read(builder, _address(builder, *args, 8), _WORD)

    return _I(_I, _I), codegen


@intrinsic
def number(typingctx, t, k):
    """A number of the table."""

    def codegen(context, builder, sig, args):
        return _read(builder, _address(builder, *args, 8), _NUMBER)

    return _F(_I, _I), codegen


@intrinsic
def view(typingctx, t, array, k):
    """What is known of an array: DATA, BY_OUTER, BY_CLASS, BY_INNER or KIND."""

    def codegen(context, builder, sig, args):
        t, array, k = args
        place = _address(builder, _address(builder, t, array, 40, 8 * VIEWS), k, 8)
        return _read(builder, place, _WORD)

    return _I(_I, _I, _I), codegen


@intrinsic
def has(typingctx, t, array):
    """Tell whether the array is there."""

    def codegen(context, builder, sig, args):
        return builder.icmp_signed("!=", _view(builder, *args, DATA), _constant(0))

    return types.boolean(_I, _I), codegen


@intrinsic
def at(typingctx, t, array, o, i, c):
    """The address of an element."""

    def codegen(context, builder, sig, args):
        t, array, *indices = args
        place = _view(builder, t, array, DATA)
        for index, k in zip(indices, (BY_OUTER, BY_INNER, BY_CLASS)):
            place = builder.add(place, builder.mul(index, _view(builder, t, array, k)))
        return place

    return _I(_I, _I, _I, _I, _I), codegen


@intrinsic
def state(typingctx, s, column, j):
    """A number of row j."""

    def codegen(context, builder, sig, args):
        s, column, j = args
        place = _address(builder, _address(builder, s, column, 8 * LANES), j, 8)
        return _read(builder, place, _NUMBER)

    return _F(_I, _I, _I), codegen


@intrinsic
def set_state(typingctx, s, column, j, v):
    """Set a number of row j."""

    def codegen(context, builder, sig, args):
        s, column, j, v = args
        place = _address(builder, _address(builder, s, column, 8 * LANES), j, 8)
        _write(builder, place, v)
        return context.get_dummy_value()

    return types.void(_I, _I, _I, _F), codegen


@intrinsic
def column(typingctx, s, k):
    """A number of all rows."""

    def codegen(context, builder, sig, args):
        place = _address(builder, *args, 8 * LANES)
        return _read(builder, place, ir.VectorType(_NUMBER, LANES))

    return Vector(_F)(_I, _I), codegen


@intrinsic
def set_column(typingctx, s, k, v):
    """Set a number of all rows."""

    def codegen(context, builder, sig, args):
        s, k, v = args
        _write(builder, _address(builder, s, k, 8 * LANES), v)
        return context.get_dummy_value()

    return types.void(_I, _I, Vector(_F)), codegen


def _by_precision(doc, result, single, double):
    """An intrinsic that is one of two constants, by the precision of its argument."""

    @intrinsic
    def constant(typingctx, like):
        dtype = types.unliteral(like)
        wide = dtype == _F
        kind = result or dtype
        value = double if wide else single

        def codegen(context, builder, sig, args):
            return context.get_constant(kind, value)

        return kind(like), codegen

    constant.__doc__ = doc
    return constant


width = _by_precision("Bytes of an element.", _I, 4, 8)
native = _by_precision("The kind of an element.", _I, SINGLE, DOUBLE)
infinity = _by_precision("Infinity.", None, float("inf"), float("inf"))
zero_of = _by_precision("Zero.", None, 0.0, 0.0)
