"""Primitives of the kernels in LLVM: the one file to port when Numba's CUDA target changes."""

from llvmlite import ir
from numba import cuda
from numba.core import types
from numba.cuda.extending import intrinsic

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_GLOBAL = 1  # the address space of device memory

_WORDS = {types.float32: _I32, types.float64: _I64}
_REALS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def _scalar(dtype):
    return _REALS.get(dtype) or ir.IntType(dtype.bitwidth)


def _pointer(builder, address, kind):
    return builder.inttoptr(address, ir.PointerType(kind, _GLOBAL))


def _asm(builder, result, code, constraints, args, effect=False):
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.asm(kind, code, constraints, args, side_effect=effect)


@intrinsic
def get(typingctx, address, like):
    """The element at an address, in the dtype of ``like``."""
    dtype = types.unliteral(like)

    def codegen(context, builder, sig, args):
        return builder.load(_pointer(builder, args[0], _scalar(dtype)))

    return dtype(types.int64, like), codegen


def _several(address, like, count):
    dtype = types.unliteral(like)

    def codegen(context, builder, sig, args):
        kind = ir.VectorType(_scalar(dtype), count)
        vector = builder.load(_pointer(builder, args[0], kind))
        vector.align = min(16, count * dtype.bitwidth // 8)
        parts = [builder.extract_element(vector, ir.Constant(_I32, k)) for k in range(count)]
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(dtype, count)(types.int64, like), codegen


@intrinsic
def get2(typingctx, address, like):
    """Two elements in a row, in one access."""
    return _several(address, like, 2)


@intrinsic
def get4(typingctx, address, like):
    """Four elements in a row, in one access (two of 16 bytes for doubles)."""
    return _several(address, like, 4)


@intrinsic
def get8(typingctx, address):
    """Eight 16-bit words in a row, in one access; LLVM would make two of a load of its own."""

    def codegen(context, builder, sig, args):
        four = ir.LiteralStructType([_I32] * 4)
        loaded = _asm(builder, four, "ld.global.v4.b32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l",
                      args, True)  # fmt: skip
        parts = []
        for k in range(4):
            pair = builder.extract_value(loaded, k)
            upper = builder.lshr(pair, ir.Constant(_I32, 16))
            parts += [builder.trunc(pair, _I16), builder.trunc(upper, _I16)]
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(types.uint16, 8)(types.int64), codegen


@intrinsic
def put(typingctx, address, value):
    """Write an element."""
    dtype = types.unliteral(value)

    def codegen(context, builder, sig, args):
        builder.store(args[1], _pointer(builder, args[0], _scalar(dtype)))
        return context.get_dummy_value()

    return types.void(types.int64, dtype), codegen


@intrinsic
def put4(typingctx, address, a, b, c, d):
    """Write four elements in a row, in one access; they are not read again soon."""
    dtype = types.unliteral(a)

    def codegen(context, builder, sig, args):
        void = ir.VoidType()
        if dtype == types.float64:
            for k in (0, 2):
                place = builder.add(args[0], ir.Constant(_I64, 8 * k))
                _asm(builder, void, "st.global.cs.v2.f64 [$0], {$1, $2};", "l,d,d",
                     [place, *args[1 + k : 3 + k]], True)  # fmt: skip
        else:
            suffix, code = ("f32", "f") if dtype == types.float32 else ("b16", "h")
            _asm(builder, void, f"st.global.cs.v4.{suffix} [$0], {{$1, $2, $3, $4}};",
                 f"l,{code},{code},{code},{code}", args, True)  # fmt: skip
        return context.get_dummy_value()

    return types.void(types.int64, dtype, dtype, dtype, dtype), codegen


@intrinsic
def put2(typingctx, address, a, b):
    """Write two doubles in a row, in one access; they are not read again soon."""

    def codegen(context, builder, sig, args):
        _asm(builder, ir.VoidType(), "st.global.cs.v2.f64 [$0], {$1, $2};", "l,d,d", args, True)
        return context.get_dummy_value()

    return types.void(types.int64, types.float64, types.float64), codegen


@intrinsic
def put8(typingctx, address, a, b, c, d, e, f, g, h):
    """Write eight 16-bit words in a row, in one access; they are not read again soon."""

    def codegen(context, builder, sig, args):
        words = ir.Constant(ir.VectorType(_I16, 8), ir.Undefined)
        for k in range(8):
            words = builder.insert_element(words, args[1 + k], ir.Constant(_I32, k))
        vector = builder.bitcast(words, ir.VectorType(_I32, 4))
        parts = [builder.extract_element(vector, ir.Constant(_I32, k)) for k in range(4)]
        _asm(builder, ir.VoidType(), "st.global.cs.v4.b32 [$0], {$1, $2, $3, $4};", "l,r,r,r,r",
             [args[0], *parts], True)  # fmt: skip
        return context.get_dummy_value()

    return types.void(types.int64, *[types.uint16] * 8), codegen


@intrinsic
def word(typingctx, v):
    """The bits of a real as an integer of its size, in 64 bits."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], _WORDS[v])
        return builder.zext(bits, _I64) if v == types.float32 else bits

    return types.int64(v), codegen


@intrinsic
def raised(typingctx, w, like):
    """The real with these bits; of the lower half of the word in single precision."""
    dtype = types.unliteral(like)

    def codegen(context, builder, sig, args):
        bits = args[0] if dtype == types.float64 else builder.trunc(args[0], _I32)
        return builder.bitcast(bits, _REALS[dtype])

    return dtype(types.int64, like), codegen


@intrinsic
def scaled(typingctx, b):
    """The power of two whose biased exponent is in the low bits of a real."""

    def codegen(context, builder, sig, args):
        kind = _WORDS[b]
        shift = ir.Constant(kind, 23 if b == types.float32 else 52)
        return builder.bitcast(builder.shl(builder.bitcast(args[0], kind), shift), args[0].type)

    return b(b), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a b + c``, rounded once."""

    def codegen(context, builder, sig, args):
        suffix, code = ("f32", "f") if a == types.float32 else ("f64", "d")
        return _asm(builder, args[0].type, f"fma.rn.{suffix} $0, $1, $2, $3;",
                    f"={code},{code},{code},{code}", args)  # fmt: skip

    return a(a, a, a), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of two; NaN never wins."""

    def codegen(context, builder, sig, args):
        suffix, code = ("f32", "f") if a == types.float32 else ("f64", "d")
        return _asm(builder, args[0].type, f"max.{suffix} $0, $1, $2;",
                    f"={code},{code},{code}", args)  # fmt: skip

    return a(a, a), codegen


@intrinsic
def widen_half(typingctx, h):
    """The float of a binary16, given as a 16-bit integer."""

    def codegen(context, builder, sig, args):
        return _asm(builder, ir.FloatType(), "cvt.f32.f16 $0, $1;", "=f,h", args)

    return types.float32(types.uint16), codegen


@intrinsic
def narrow_half(typingctx, v):
    """A float as binary16, to nearest even, as a 16-bit integer."""

    def codegen(context, builder, sig, args):
        return _asm(builder, _I16, "cvt.rn.f16.f32 $0, $1;", "=h,f", args)

    return types.uint16(types.float32), codegen


@intrinsic
def widen_bfloat(typingctx, h):
    """The float of a bfloat16, given as a 16-bit integer."""

    def codegen(context, builder, sig, args):
        bits = builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def narrow_bfloat(typingctx, v):
    """A float as bfloat16, to nearest even, as a 16-bit integer."""

    def codegen(context, builder, sig, args):
        def constant(k):
            return ir.Constant(_I32, k)

        bits = builder.bitcast(args[0], _I32)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.lshr(builder.add(builder.add(bits, constant(0x7FFF)), odd), constant(16))
        quiet = builder.or_(builder.lshr(bits, constant(16)), constant(0x40))
        nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.trunc(builder.select(nan, quiet, rounded), _I16)

    return types.uint16(types.float32), codegen


@intrinsic
def quiet(typingctx):
    """Nothing: a GPU raises no floating-point errors."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(), codegen


_ALL = 0xFFFFFFFF


@cuda.jit(device=True, forceinline=True)
def xor(v, k):
    """What the lane with number ``lane ^ k`` of the warp has; every lane takes part."""
    return cuda.shfl_xor_sync(_ALL, v, k)


@cuda.jit(device=True, forceinline=True)
def warp_sync():
    """What the lanes of the warp read before happens before what they write after."""
    cuda.syncwarp(_ALL)
