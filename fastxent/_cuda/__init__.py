"""The kernels for NVIDIA GPUs, compiled by Numba when first called.

Numba and CUDA are imported when the backend is chosen, not before, and no context is made:
a process that only asks whether there is a GPU can still be forked.
"""

import ctypes
import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def simulated() -> bool:
    """Tell whether Numba simulates a GPU in this process."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@cache
def usable() -> tuple[tuple[str, ...], str]:
    """Whether there are a driver, a GPU and Numba, found out without importing or starting any."""
    if simulated():
        if find_spec("numba") is None:
            return (), "Numba, which would simulate a GPU, is not installed"
        return ("",), "simulated by Numba (NUMBA_ENABLE_CUDASIM), very slow"
    if not _has_driver():
        return (), "there is no NVIDIA driver on this machine"
    if not _has_device():
        return (), "the NVIDIA driver shows no GPU to this process"
    if find_spec("numba_cuda") is None:
        return (), "numba-cuda is not installed (pip install fastxent[cuda12] or fastxent[cuda13])"
    return ("",), "compiled by Numba when first called; for arrays on a GPU"


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _has_device() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if sys.platform != "linux":
        return True
    return any(
        name == "dxg"  # Windows' Linux
        or name.startswith("nvhost")
        or (name.startswith("nvidia") and name[6:].isdecimal())
        for name in os.listdir("/dev")
    )


def kernels() -> ModuleType:
    """The kernels for NumPy arrays; imports Numba."""
    _start()
    return import_module(f"{__name__}._jobs")


def calls() -> ModuleType:
    """The path of calls on arrays of a GPU; imports Numba."""
    _start()
    return import_module(f"{__name__}._device")


def compositions() -> ModuleType:
    """The losses that multiply matrices, for arrays of a GPU; imports Numba."""
    _start()
    return import_module(f"{__name__}._compose")


@cache
def _start() -> None:
    """Raise unless Numba can use the GPU."""
    if not import_module("numba.cuda").is_available():
        raise RuntimeError(
            "Numba cannot use the GPU: it finds no driver that works, or no libNVVM "
            "(pip install fastxent[cuda12] or fastxent[cuda13], as the driver is)"
        )
