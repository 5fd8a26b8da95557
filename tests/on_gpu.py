"""Arrays on a GPU for tests, of every library at hand; in Numba's simulator of one made up here."""

import os

import ml_dtypes
import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


class Simulated:
    """An array of a library that follows the array API, in the simulator's memory."""

    def __init__(self, a):
        self.a = a
        self.device = "simulated"

    @property
    def __cuda_array_interface__(self):
        a = self.a
        return {
            "data": (a.__array_interface__["data"][0], not a.flags.writeable),
            "shape": a.shape,
            "typestr": a.dtype.str,
            "strides": a.strides,
            "version": 3,
            "stream": None,
        }

    def __array_namespace__(self):
        return Namespace

    def __matmul__(self, other):
        assert self.a.dtype == other.a.dtype
        assert self.a.ndim == other.a.ndim == 2
        with np.errstate(all="ignore"):
            return Simulated(self.a @ other.a)

    def __getitem__(self, index):
        return Simulated(self.a[index])

    def reshape(self, shape):
        return Simulated(self.a.reshape(shape))

    @property
    def T(self):
        return Simulated(self.a.T)


class Bare:
    """An array of a library that does not multiply matrices."""

    def __init__(self, a):
        self.a = a

    __cuda_array_interface__ = Simulated.__cuda_array_interface__


class Namespace:
    float16, float32, float64, bfloat16 = np.float16, np.float32, np.float64, ml_dtypes.bfloat16
    int64 = np.int64

    @staticmethod
    def empty(shape, dtype, device):
        assert device == "simulated"
        # Poison: what is not written is seen.
        return Simulated(np.full(shape, 77, dtype))


def libraries():
    """Those whose arrays can be made here."""
    if SIMULATED:
        return ("simulated",)
    found = []
    try:
        from numba import cuda

        if cuda.is_available():
            found.append("numba")
    except ImportError:
        pass
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            found.append("cupy")
    except Exception:
        pass
    try:
        import torch

        if torch.cuda.is_available():
            found.append("torch")
    except ImportError:
        pass
    return tuple(found)


def give(library, a):
    """A NumPy array (or None, or a number) as one of the library's."""
    if not isinstance(a, np.ndarray):
        return a
    if library == "simulated":
        return Simulated(a.copy(order="K"))
    if library == "numba":
        from numba import cuda

        return cuda.to_device(a if a.dtype.name != "bfloat16" else a.view("V2"))
    if library == "cupy":
        import cupy

        return cupy.asarray(a)
    import torch

    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16).copy()).cuda().view(torch.bfloat16)
    return torch.from_numpy(a.copy()).cuda()


def take(a):
    """The NumPy array of one of a library's; tuples element by element."""
    if a is None:
        return None
    if isinstance(a, tuple):
        taken = map(take, a)
        return a._make(taken) if hasattr(a, "_make") else tuple(taken)
    if isinstance(a, Simulated):
        return a.a
    if type(a).__module__.startswith("torch"):
        if str(a.dtype) == "torch.bfloat16":
            import torch

            return a.view(torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
        return a.cpu().numpy()
    if type(a).__module__.startswith("cupy"):
        return a.get()
    a = a.copy_to_host()
    return a.view(ml_dtypes.bfloat16) if a.dtype.kind == "V" else a


def kinds(library):
    """Dtypes that the library can hold."""
    if library == "cupy":
        return ("float16", "float32", "float64")
    return ("float16", "bfloat16", "float32", "float64")


def call(library, function, *args, **options):
    """Call with arrays on the GPU, and fetch the results."""
    args = [give(library, a) for a in args]
    options = {k: give(library, v) for k, v in options.items()}
    return take(function(*args, **options))
