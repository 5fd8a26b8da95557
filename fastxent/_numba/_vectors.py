"""A Numba type for 64 lanes side by side, and memory by address.

LLVM's vectoriser sees through some loops and not through others (a maximum, a sum in a
fixed order).  So the kernels say what they mean: a `Vector` is an LLVM vector value, and
every operation on it is one LLVM instruction on all lanes, which the compiler cuts into
registers of whatever width the processor has.  Nothing is reassociated or contracted
behind our back, so the bits do not depend on it either.

Memory is addressed by plain integers, as bytes: arrays of any dtype, stride and alignment
are one and the same type here, and a kernel is compiled once per precision.
"""

import operator
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

LANES = 64


class Vector(types.Type):
    """64 lanes of one dtype."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(_scalar(fe_type.dtype), LANES))


def _scalar(dtype):
    """LLVM's type of a lane (or of an element in memory)."""
    if dtype == types.float32:
        return ir.FloatType()
    if dtype == types.float64:
        return ir.DoubleType()
    return ir.IntType(1 if dtype == types.boolean else dtype.bitwidth)


def _of(dtype, like):
    """The numba type of a result with lanes if ``like`` has them."""
    return Vector(dtype) if isinstance(like, Vector) else dtype


def _dtype(a):
    return a.dtype if isinstance(a, Vector) else types.unliteral(a)


def _llvm(a):
    """LLVM's type of a vector or scalar."""
    scalar = _scalar(_dtype(a))
    return ir.VectorType(scalar, LANES) if isinstance(a, Vector) else scalar


def _splat(builder, value, lanes=LANES):
    one = ir.Constant(ir.IntType(32), 0)
    vector = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, value, one)
    return builder.shuffle_vector(
        vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    )


def _spread(context, builder, value, given, wanted):
    """A value as another type: scalars are cast, and repeated if lanes are wanted."""
    given = types.unliteral(given)
    if isinstance(given, Vector):
        assert given == wanted, (given, wanted)
        return value
    value = context.cast(builder, value, given, _dtype(wanted))
    if not isinstance(wanted, Vector):
        return value
    if wanted.dtype == types.boolean and value.type.width != 1:
        value = builder.trunc(value, ir.IntType(1))
    return _splat(builder, value)


def _has(context, feature):
    """Tell whether the processor that we compile for has a feature."""
    return f"+{feature}" in context.codegen().magic_tuple()[2].split(",")


def _call(builder, name, result, *arguments):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def _suffix(kind):
    """How LLVM's intrinsics spell a type."""
    prefix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    scalar = kind.element if prefix else kind
    names = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}
    return prefix + (names.get(scalar) or f"i{scalar.width}")


# ---------------------------------------------------------------- operators


def _binary(op, on_floats, on_integers, result=None):
    @type_callable(op)
    def _type(context):
        def typer(a, b):
            if isinstance(a, Vector) or isinstance(b, Vector):
                v = a if isinstance(a, Vector) else b
                return v if result is None else Vector(result)

        return typer

    def lower(context, builder, sig, args):
        wanted = next(a for a in sig.args if isinstance(a, Vector))
        a, b = (_spread(context, builder, v, t, wanted) for v, t in zip(args, sig.args))
        real = isinstance(wanted.dtype, types.Float)
        return (on_floats if real else on_integers)(builder, a, b)

    for pair in ((Vector, Vector), (Vector, types.Any), (types.Any, Vector)):
        lower_builtin(op, *pair)(lower)


_binary(operator.add, lambda b, x, y: b.fadd(x, y), lambda b, x, y: b.add(x, y))
_binary(operator.sub, lambda b, x, y: b.fsub(x, y), lambda b, x, y: b.sub(x, y))
_binary(operator.mul, lambda b, x, y: b.fmul(x, y), lambda b, x, y: b.mul(x, y))
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y), None)
_binary(operator.and_, None, lambda b, x, y: b.and_(x, y))
_binary(operator.or_, None, lambda b, x, y: b.or_(x, y))
_binary(operator.lshift, None, lambda b, x, y: b.shl(x, y))
_binary(operator.rshift, None, lambda b, x, y: b.ashr(x, y))
for _op, _sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "==")):
    _binary(
        getattr(operator, _op),
        lambda b, x, y, s=_sign: b.fcmp_ordered(s, x, y),
        lambda b, x, y, s=_sign: b.icmp_signed(s, x, y),
        types.boolean,
    )
_binary(
    operator.ne,
    lambda b, x, y: b.fcmp_unordered("!=", x, y),
    lambda b, x, y: b.icmp_signed("!=", x, y),
    types.boolean,
)


@type_callable(operator.neg)
def _type_neg(context):
    def typer(a):
        if isinstance(a, Vector):
            return a

    return typer


@lower_builtin(operator.neg, Vector)
def _neg(context, builder, sig, args):
    return builder.fneg(args[0])


@intrinsic
def where(typingctx, condition, a, b):
    """Lane by lane ``a if condition else b``; scalars too."""
    wanted = next((t for t in (a, b) if isinstance(t, Vector)), types.unliteral(a))
    if isinstance(condition, Vector) and not isinstance(wanted, Vector):
        wanted = Vector(wanted)

    def codegen(context, builder, sig, args):
        c, *rest = args
        x, y = (_spread(context, builder, v, t, wanted) for v, t in zip(rest, sig.args[1:]))
        return builder.select(c, x, y)

    return wanted(condition, a, b), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a b + c``, rounded once where the processor can; else the product is rounded too."""
    wanted = next((t for t in (a, b, c) if isinstance(t, Vector)), types.unliteral(c))

    def codegen(context, builder, sig, args):
        x, y, z = (_spread(context, builder, v, t, wanted) for v, t in zip(args, sig.args))
        if not _fused(context):
            return builder.fadd(builder.fmul(x, y), z)
        return _call(builder, f"llvm.fma.{_suffix(x.type)}", x.type, x, y, z)

    return wanted(a, b, c), codegen


def _fused(context):
    return _has(context, "fma") or context.codegen().magic_tuple()[0].startswith("aarch64")


@intrinsic
def has_fma(typingctx):
    """Tell whether `fma` rounds once."""

    def codegen(context, builder, sig, args):
        return ir.Constant(ir.IntType(1), int(_fused(context)))

    return types.boolean(), codegen


@intrinsic
def exact_fma(typingctx, a, b, c):
    """``a b + c``, rounded once on every processor."""
    wanted = next((t for t in (a, b, c) if isinstance(t, Vector)), types.unliteral(c))

    def codegen(context, builder, sig, args):
        x, y, z = (_spread(context, builder, v, t, wanted) for v, t in zip(args, sig.args))
        return _call(builder, f"llvm.fma.{_suffix(x.type)}", x.type, x, y, z)

    return wanted(a, b, c), codegen


# ---------------------------------------------------------------- what AVX-512 does in one step


@intrinsic
def wide(typingctx, v):
    """Tell whether these are lanes in registers of AVX-512: then `scaled` may be used."""

    def codegen(context, builder, sig, args):
        here = isinstance(v, Vector) and _has(context, "avx512f")
        return ir.Constant(ir.IntType(1), int(here))

    return types.boolean(v), codegen


def _by_registers(builder, function, *vectors):
    """Of 512-bit parts, the results of a function, put together again."""
    scalar = vectors[0].type.element
    n = 16 if scalar == ir.FloatType() else 8
    parts = []
    for k in range(0, LANES, n):
        index = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(k, k + n)))
        parts.append(function(n, *(builder.shuffle_vector(v, v, index) for v in vectors)))
    while len(parts) > 1:
        parts = [_joined(builder, a, b) for a, b in zip(parts[::2], parts[1::2])]
    return parts[0]


def _joined(builder, a, b):
    n = 2 * a.type.count
    index = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(n)))
    return builder.shuffle_vector(a, b, index)


@intrinsic
def scaled(typingctx, v, n):
    """``v 2^n`` for whole n, rounded once; only where `wide`."""

    def codegen(context, builder, sig, args):
        if not isinstance(v, Vector) or not _has(context, "avx512f"):
            return args[0]

        def scale(lanes, a, b):
            name = f"llvm.x86.avx512.mask.scalef.{'ps' if lanes == 16 else 'pd'}.512"
            every = ir.Constant(ir.IntType(lanes), -1)
            return _call(builder, name, a.type, a, b, a, every, ir.Constant(ir.IntType(32), 4))

        return _by_registers(builder, scale, *args)

    return v(v, v), codegen


@intrinsic
def inverse(typingctx, v):
    """``1 / v`` for normal numbers, to a unit; where it is faster by a step from 14 bits."""

    def codegen(context, builder, sig, args):
        d = args[0]
        one = ir.Constant(_scalar(_dtype(v)), 1.0)
        if not isinstance(v, Vector):
            return builder.fdiv(one, d)
        if v.dtype != types.float32 or not _has(context, "avx512f"):
            return builder.fdiv(_splat(builder, one), d)

        def start(lanes, a):
            every = ir.Constant(ir.IntType(lanes), -1)
            return _call(builder, "llvm.x86.avx512.rcp14.ps.512", a.type, a, a, every)

        r = _by_registers(builder, start, d)
        name = f"llvm.fma.{_suffix(d.type)}"
        lost = _call(builder, name, d.type, builder.fneg(d), r, _splat(builder, one))
        return _call(builder, name, d.type, lost, r, r)

    return v(v), codegen


@intrinsic
def magnitude(typingctx, v):
    """Its sign taken away."""

    def codegen(context, builder, sig, args):
        kind = args[0].type
        return _call(builder, f"llvm.fabs.{_suffix(kind)}", kind, args[0])

    return v(v), codegen


_BITS = {types.float32: types.int32, types.float64: types.int64}
_REALS = {bits: real for real, bits in _BITS.items()}


@intrinsic
def bits(typingctx, a):
    """The bits of floats as integers."""
    result = _of(_BITS[_dtype(a)], a)
    return result(a), lambda c, builder, sig, args: builder.bitcast(args[0], _llvm(result))


@intrinsic
def real(typingctx, a):
    """The float of these bits."""
    result = _of(_REALS[_dtype(a)], a)
    return result(a), lambda c, builder, sig, args: builder.bitcast(args[0], _llvm(result))


@intrinsic
def cast(typingctx, a, like):
    """Floats or integers in the dtype of ``like``, with lanes if ``a`` has them."""
    given, dtype = _dtype(a), _dtype(like)
    result = _of(dtype, a)

    def codegen(context, builder, sig, args):
        value, kind = args[0], _llvm(result)
        if given == dtype:
            return value
        if not isinstance(given, types.Float):
            return builder.sitofp(value, kind)
        if dtype.bitwidth < given.bitwidth:
            return builder.fptrunc(value, kind)
        return builder.fpext(value, kind)

    return result(a, like), codegen


@intrinsic
def pick(typingctx, like, single, double):
    """``single`` or ``double``, whichever precision ``like`` has, in that precision."""
    dtype = _dtype(like)

    def codegen(context, builder, sig, args):
        k = 1 if dtype == types.float32 else 2
        return context.cast(builder, args[k], types.unliteral(sig.args[k]), dtype)

    return dtype(like, single, double), codegen


@intrinsic
def is_single(typingctx, like):
    """Tell whether this is in single precision."""
    constant = ir.Constant(ir.IntType(1), int(_dtype(like) == types.float32))
    return types.boolean(like), lambda context, builder, sig, args: constant


@intrinsic
def splat(typingctx, a):
    """A scalar in every lane."""
    result = Vector(types.unliteral(a))

    def codegen(context, builder, sig, args):
        return _spread(context, builder, args[0], sig.args[0], result)

    return result(a), codegen


@intrinsic
def lanes_below(typingctx, n):
    """The mask of the first n lanes."""
    result = Vector(types.boolean)

    def codegen(context, builder, sig, args):
        i32 = ir.IntType(32)
        numbers = ir.Constant(ir.VectorType(i32, LANES), list(range(LANES)))
        count = context.cast(builder, args[0], types.unliteral(sig.args[0]), types.int32)
        return builder.icmp_signed("<", numbers, _splat(builder, count))

    return result(n), codegen


@intrinsic
def lane_is(typingctx, n):
    """The mask of lane n."""
    result = Vector(types.boolean)

    def codegen(context, builder, sig, args):
        i32 = ir.IntType(32)
        numbers = ir.Constant(ir.VectorType(i32, LANES), list(range(LANES)))
        lane = context.cast(builder, args[0], types.unliteral(sig.args[0]), types.int32)
        return builder.icmp_signed("==", numbers, _splat(builder, lane))

    return result(n), codegen


@intrinsic
def first_lane(typingctx, mask):
    """The number of the first lane that is set; 64 if none is."""

    def codegen(context, builder, sig, args):
        word = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.cttz(word, ir.Constant(ir.IntType(1), 0))

    return types.int64(mask), codegen


def _halves(builder, vector):
    n = vector.type.count // 2
    for k in (0, n):
        index = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(k, k + n)))
        yield builder.shuffle_vector(vector, vector, index)


@intrinsic
def total(typingctx, v):
    """The sum of the lanes in double precision, in a fixed order."""

    def codegen(context, builder, sig, args):
        vector = args[0]
        if v.dtype != types.float64:
            vector = builder.fpext(vector, ir.VectorType(ir.DoubleType(), LANES))
        while vector.type.count > 2:
            vector = builder.fadd(*_halves(builder, vector))
        one, two = (builder.extract_element(vector, ir.Constant(ir.IntType(32), k)) for k in (0, 1))
        return builder.fadd(one, two)

    return types.float64(v), codegen


@intrinsic
def total_exactly(typingctx, v):
    """The sum of the lanes in double precision, and what it rounded off."""

    def codegen(context, builder, sig, args):
        s = args[0]
        if v.dtype != types.float64:
            s = builder.fpext(s, ir.VectorType(ir.DoubleType(), LANES))
        error = None
        while s.type.count > 1:
            a, b = _halves(builder, s)
            s = builder.fadd(a, b)
            part = builder.fsub(s, a)
            lost = builder.fadd(builder.fsub(a, builder.fsub(s, part)), builder.fsub(b, part))
            error = (
                lost
                if error is None
                else builder.fadd(builder.fadd(*_halves(builder, error)), lost)
            )
        zero = ir.Constant(ir.IntType(32), 0)
        return context.make_tuple(
            builder, sig.return_type, [builder.extract_element(w, zero) for w in (s, error)]
        )

    return types.UniTuple(types.float64, 2)(v), codegen


@intrinsic
def largest(typingctx, v):
    """The largest lane; none may be NaN."""

    def codegen(context, builder, sig, args):
        vector = args[0]
        while vector.type.count > 2:
            low, high = _halves(builder, vector)
            vector = builder.select(builder.fcmp_ordered(">", low, high), low, high)
        one, two = (builder.extract_element(vector, ir.Constant(ir.IntType(32), k)) for k in (0, 1))
        return builder.select(builder.fcmp_ordered(">", one, two), one, two)

    return v.dtype(v), codegen


@intrinsic
def apart(typingctx):
    """Compile the function this stands in as one of its own, not again at each call of it."""

    def codegen(context, builder, sig, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


# ---------------------------------------------------------------- memory


def _pointer(builder, address, kind):
    return builder.inttoptr(address, ir.PointerType(kind))


@intrinsic
def scratch(typingctx, size):
    """The address of some bytes on the stack, for as long as the calling function runs."""
    if not isinstance(size, types.IntegerLiteral):
        return None
    count = size.literal_value

    def codegen(context, builder, sig, args):
        # cgutils.alloca_once would fill it with zeros, byte by byte.
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(ir.IntType(8), count))
        place.align = 64
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(size), codegen


@intrinsic
def get(typingctx, address, like):
    """The element at an address, in the dtype of ``like``; it need not be aligned."""
    result = types.unliteral(like)

    def codegen(context, builder, sig, args):
        element = builder.load(_pointer(builder, args[0], _scalar(result)))
        element.align = 1
        return element

    return result(types.int64, like), codegen


@intrinsic
def put(typingctx, address, value):
    """Write an element; it need not be aligned."""
    kind = types.unliteral(value)

    def codegen(context, builder, sig, args):
        builder.store(args[1], _pointer(builder, args[0], _scalar(kind))).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, kind), codegen


@intrinsic
def load(typingctx, address, like):
    """64 contiguous elements."""
    result = Vector(types.unliteral(like))

    def codegen(context, builder, sig, args):
        vector = builder.load(_pointer(builder, args[0], _llvm(result)))
        vector.align = 1
        return vector

    return result(types.int64, like), codegen


@intrinsic
def store(typingctx, address, v):
    """Write 64 contiguous elements."""

    def codegen(context, builder, sig, args):
        builder.store(args[1], _pointer(builder, args[0], args[1].type)).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, v), codegen


@intrinsic
def load_first(typingctx, address, n, other):
    """The first n lanes from memory, the rest ``other``; nothing beyond them is touched."""
    result = Vector(types.unliteral(other))

    def codegen(context, builder, sig, args):
        kind = _llvm(result)
        mask = _below(builder, args[1])
        pointer = _pointer(builder, args[0], kind)
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        align = ir.Constant(ir.IntType(32), 1)
        return _call(builder, name, kind, pointer, align, mask, _splat(builder, args[2]))

    return result(types.int64, types.int64, result.dtype), codegen


@intrinsic
def store_first(typingctx, address, n, v):
    """Write the first n lanes."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(builder, args[0], args[2].type)
        name = f"llvm.masked.store.{_suffix(args[2].type)}.p0"
        align = ir.Constant(ir.IntType(32), 1)
        _call(builder, name, ir.VoidType(), args[2], pointer, align, _below(builder, args[1]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, v), codegen


def _below(builder, n):
    i32 = ir.IntType(32)
    numbers = ir.Constant(ir.VectorType(i32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(n, i32)))


def _mixed(builder, x, y, order):
    """In each part of 128 bits of two vectors of 16, elements in an order, y's after x's."""
    n = len(order)
    index = [n * part + k % n + 16 * (k // n) for part in range(16 // n) for k in order]
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), 16), index))


def _turned(builder, a):
    """Vectors of 16, as many as a part of 128 bits has elements: in each part rows are columns."""
    if len(a) == 2:
        return [_mixed(builder, *a, order) for order in ((0, 2), (1, 3))]
    pairs = [
        _mixed(builder, a[k], a[k + 1], order)
        for order in ((0, 4, 1, 5), (2, 6, 3, 7))
        for k in (0, 2)
    ]
    return [
        _mixed(builder, pairs[k], pairs[k + 1], order)
        for k in (0, 2)
        for order in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


def _get_some(builder, address, kind, count):
    value = builder.load(_pointer(builder, address, ir.VectorType(kind, count)))
    value.align = 1
    return value


def _put_some(builder, address, value):
    builder.store(value, _pointer(builder, address, value.type)).align = 1


def _part_of(like):
    """LLVM's type of an element, its bytes, how many are in 128 bits."""
    kind = _scalar(types.unliteral(like))
    return (kind, 4, 4) if kind == ir.FloatType() else (kind, 8, 2)


@intrinsic
def rows_to_lanes(typingctx, p, pitch, to, like):
    """128 bits of each of 16 rows, pitch bytes apart, to groups of 16 lanes.

    A vector takes those of every fourth row (doubles: of every second one), and shuffles within
    its parts put each column in order.
    """

    def codegen(context, builder, sig, args):
        p, pitch, to, _ = args
        kind, size, n = _part_of(like)
        rows = []
        for i in range(n):
            parts = [
                _get_some(builder, builder.add(p, builder.mul(pitch, _word(i + n * k))), kind, n)
                for k in range(16 // n)
            ]
            while len(parts) > 1:
                parts = [_joined(builder, a, b) for a, b in zip(parts[::2], parts[1::2])]
            rows += parts
        for i, v in enumerate(_turned(builder, rows)):
            _put_some(builder, builder.add(to, _word(size * LANES * i)), v)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, like), codegen


@intrinsic
def lanes_to_rows(typingctx, p, pitch, source, like):
    """The way back."""

    def codegen(context, builder, sig, args):
        p, pitch, source, _ = args
        kind, size, n = _part_of(like)
        columns = [
            _get_some(builder, builder.add(source, _word(size * LANES * i)), kind, 16)
            for i in range(n)
        ]
        for i, v in enumerate(_turned(builder, columns)):
            for k in range(16 // n):
                index = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(n * k, n * k + n)))
                place = builder.add(p, builder.mul(pitch, _word(i + n * k)))
                _put_some(builder, place, builder.shuffle_vector(v, v, index))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, like), codegen


def _word(k):
    return ir.Constant(ir.IntType(64), k)


@intrinsic
def broaden(typingctx, v):
    """32-bit integers as 64-bit ones."""
    return Vector(types.int64)(v), lambda context, builder, sig, args: builder.sext(
        args[0], ir.VectorType(ir.IntType(64), LANES)
    )


@intrinsic
def narrow(typingctx, v):
    """The low halves of 64-bit integers."""
    return Vector(types.int32)(v), lambda context, builder, sig, args: builder.trunc(
        args[0], ir.VectorType(ir.IntType(32), LANES)
    )


@intrinsic
def copy(typingctx, to, source, size):
    """Copy bytes."""

    def codegen(context, builder, sig, args):
        byte = ir.IntType(8)
        cgutils.raw_memcpy(
            builder, _pointer(builder, args[0], byte), _pointer(builder, args[1], byte), args[2], 1
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def stream(typingctx, to, source):
    """Copy 64 bytes to an address that is a multiple of 64, past the cache."""

    def codegen(context, builder, sig, args):
        kind = ir.VectorType(ir.FloatType(), 16)
        line = builder.load(_pointer(builder, args[1], kind))
        line.align = 1
        past = builder.store(line, _pointer(builder, args[0], kind))
        past.align = 64
        past.set_metadata(
            "nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def stream_fence(typingctx):
    """What was streamed is seen before what is written next."""

    def codegen(context, builder, sig, args):
        if context.codegen().magic_tuple()[0].startswith("x86_64"):
            _call(builder, "llvm.x86.sse.sfence", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), codegen


def _prefetches(write, locality):
    def codegen(context, builder, sig, args):
        pointer = _pointer(builder, args[0], ir.IntType(8))
        numbers = [ir.Constant(ir.IntType(32), k) for k in (write, locality, 1)]
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, *numbers)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def prefetch(typingctx, address):
    """Fetch a cache line for reading, to the second-level cache."""
    return _prefetches(0, 2)


@intrinsic
def prefetch_to_write(typingctx, address):
    """Fetch a cache line for writing."""
    return _prefetches(1, 3)


@intrinsic
def fetch_add(typingctx, address, value):
    """Add to a 64-bit integer that several threads share; the value before."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(builder, args[0], ir.IntType(64))
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def shared(typingctx, name):
    """The address of what Python has given this name, see `share`."""
    if not isinstance(name, types.StringLiteral):
        return None
    symbol = name.literal_value

    def codegen(context, builder, sig, args):
        place = cgutils.add_global_variable(builder.module, ir.IntType(64), symbol)
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(name), codegen


def share(name: str, array: Any) -> None:
    """Let compiled code find an array by name: an address would not be right in a later process."""
    binding.add_symbol(name, array.ctypes.data)


@intrinsic
def call(typingctx, function, arguments):
    """Call a compiled function that returns nothing, by its address."""
    kinds = list(arguments)

    def codegen(context, builder, sig, args):
        convention = context.call_conv
        kind = convention.get_function_type(types.none, kinds)
        # Places for a result and for an error, of which there are none.
        with builder.goto_entry_block():
            places = [builder.alloca(k.pointee) for k in kind.args[:2]]
        packer = context.get_arg_packer(kinds)
        values = cgutils.unpack_tuple(builder, args[1])
        pointer = builder.inttoptr(args[0], ir.PointerType(kind))
        builder.call(pointer, [*places, *packer.as_arguments(builder, values)])
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


# ---------------------------------------------------------------- half precision


@intrinsic
def widen_half(typingctx, h):
    """Floats of binary16, given as 16-bit integers."""
    result = _of(types.float32, h)

    def codegen(context, builder, sig, args):
        i32 = _llvm(_of(types.int32, h))
        if _half_conversion(context):
            half = ir.VectorType(ir.HalfType(), LANES) if isinstance(h, Vector) else ir.HalfType()
            return builder.fpext(builder.bitcast(args[0], half), _llvm(result))

        # Shift into place, rescale the exponent (which also normalises subnormals), restore
        # infinities and NaNs.
        def constant(v):
            return ir.Constant(i32, [v] * LANES if isinstance(h, Vector) else v)

        wide = builder.zext(args[0], i32)
        body = builder.and_(wide, constant(0x7FFF))
        scale = ir.Constant(ir.FloatType(), 2.0**112)
        scale = _splat(builder, scale) if isinstance(h, Vector) else scale
        v = builder.bitcast(builder.shl(body, constant(13)), _llvm(result))
        v = builder.bitcast(builder.fmul(v, scale), i32)
        special = builder.icmp_unsigned(">=", body, constant(0x7C00))
        v = builder.or_(v, builder.select(special, constant(0x7F800000), constant(0)))
        sign = builder.shl(builder.and_(wide, constant(0x8000)), constant(16))
        return builder.bitcast(builder.or_(v, sign), _llvm(result))

    return result(h), codegen


def _half_conversion(context):
    return _has(context, "f16c") or context.codegen().magic_tuple()[0].startswith("aarch64")


@intrinsic
def narrow_half(typingctx, v):
    """Floats as binary16, to nearest even, as 16-bit integers."""
    result = _of(types.uint16, v)

    def codegen(context, builder, sig, args):
        lanes = isinstance(v, Vector)
        i16, i32 = _llvm(result), _llvm(_of(types.int32, v))
        if _half_conversion(context):
            half = ir.VectorType(ir.HalfType(), LANES) if lanes else ir.HalfType()
            return builder.bitcast(builder.fptrunc(args[0], half), i16)

        def constant(k):
            return ir.Constant(i32, [k] * LANES if lanes else k)

        # The addition of a power of two that is 2^13 times the result's unit makes the adder
        # do the rounding, also for subnormals.
        word = builder.bitcast(args[0], i32)
        body = builder.and_(word, constant(0x7FFFFFFF))
        exponent = builder.lshr(body, constant(23))
        small = builder.icmp_unsigned("<", exponent, constant(113))
        unit = builder.select(small, constant(113), exponent)
        power = builder.shl(builder.add(unit, constant(13)), constant(23))
        rounded = builder.fadd(
            builder.bitcast(body, args[0].type), builder.bitcast(power, args[0].type)
        )
        half = builder.sub(builder.bitcast(rounded, i32), power)
        normal = builder.shl(builder.sub(unit, constant(113)), constant(10))
        half = builder.add(half, normal)
        too_large = builder.icmp_unsigned(">=", body, constant(0x477FF000))
        half = builder.select(too_large, constant(0x7C00), half)
        nan = builder.icmp_unsigned(">", body, constant(0x7F800000))
        half = builder.select(nan, constant(0x7E00), half)
        sign = builder.and_(builder.lshr(word, constant(16)), constant(0x8000))
        return builder.trunc(builder.or_(half, sign), i16)

    return result(v), codegen


@intrinsic
def widen_bfloat(typingctx, h):
    """Floats of bfloat16, given as 16-bit integers."""
    result = _of(types.float32, h)

    def codegen(context, builder, sig, args):
        i32 = _llvm(_of(types.int32, h))
        shift = ir.Constant(i32, [16] * LANES if isinstance(h, Vector) else 16)
        return builder.bitcast(builder.shl(builder.zext(args[0], i32), shift), _llvm(result))

    return result(h), codegen


@intrinsic
def narrow_bfloat(typingctx, v):
    """Floats as bfloat16, to nearest even, as 16-bit integers."""
    result = _of(types.uint16, v)

    def codegen(context, builder, sig, args):
        i32 = _llvm(_of(types.int32, v))

        def constant(k):
            return ir.Constant(i32, [k] * LANES if isinstance(v, Vector) else k)

        word = builder.bitcast(args[0], i32)
        odd = builder.and_(builder.lshr(word, constant(16)), constant(1))
        rounded = builder.lshr(builder.add(builder.add(word, constant(0x7FFF)), odd), constant(16))
        body = builder.and_(word, constant(0x7FFFFFFF))
        nan = builder.icmp_unsigned(">", body, constant(0x7F800000))
        quiet = builder.or_(builder.lshr(word, constant(16)), constant(0x40))
        return builder.trunc(builder.select(nan, quiet, rounded), _llvm(result))

    return result(v), codegen
