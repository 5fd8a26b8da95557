"""What kernels are written in: element kinds, memory by address, lanes that meet.

Memory is addressed by plain integers, as bytes: so arrays of any dtype, stride and place
are of one type, and a kernel is compiled once per precision. In Numba's simulator the
primitives are plain Python, which also checks that every address lies in an array of the
call.
"""

import numpy as np
from numba import config, cuda

from . import simulated

SIMULATED = simulated()

#: Element kinds, as kernels get them, and their sizes in bytes.
(
    BOOL, INT8, UINT8, INT16, UINT16, HALF, BFLOAT, INT32, UINT32, SINGLE, INT64, UINT64, DOUBLE,
) = range(13)  # fmt: skip
SIZES = (1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8)

I8, U8, I16, U16 = np.int8(0), np.uint8(0), np.int16(0), np.uint16(0)
I32, U32, I64, U64 = np.int32(0), np.uint32(0), np.int64(0), np.uint64(0)
F32, F64 = np.float32(0), np.float64(0)

if SIMULATED:
    from ._simulated import (
        fma,
        get,
        get2,
        get4,
        get8,
        larger,
        narrow_bfloat,
        narrow_half,
        put,
        put2,
        put4,
        put8,
        quiet,
        raised,
        scaled,
        warp_sync,
        widen_bfloat,
        widen_half,
        word,
        xor,
    )

    WARP = 4  # lanes; small, since each is a thread of the host

    def function(f):
        """A function that kernels call."""
        return f

    kernel = cuda.jit
else:
    from numba.cuda.dispatcher import config  # noqa: F401 - numba-cuda has one of its own

    from ._intrinsics import (  # noqa: F401 - for the kernels
        fma,
        get,
        get2,
        get4,
        get8,
        larger,
        narrow_bfloat,
        narrow_half,
        put,
        put2,
        put4,
        put8,
        quiet,
        raised,
        scaled,
        warp_sync,
        widen_bfloat,
        widen_half,
        word,
        xor,
    )

    WARP = 32
    function = cuda.jit(device=True, forceinline=True)
    kernel = cuda.jit


@function
def integer(p, kind):
    """A label in its own dtype; uint64 from 2^63 on comes out negative: out of any range."""
    if kind == INT32:
        return np.int64(get(p, I32))
    if kind == UINT32:
        return np.int64(get(p, U32))
    if kind == INT16:
        return np.int64(get(p, I16))
    if kind == UINT16:
        return np.int64(get(p, U16))
    if kind == INT8:
        return np.int64(get(p, I8))
    if kind == UINT8:
        return np.int64(get(p, U8))
    return get(p, I64)
