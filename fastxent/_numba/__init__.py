"""The kernels compiled by Numba, for the processor that they run on.

Numba is imported when the backend is chosen, not before.
"""

from functools import cache
from importlib import import_module, metadata
from types import ModuleType


@cache
def usable() -> tuple[tuple[str, ...], str]:
    """Whether Numba is installed, found out without importing it; and which version."""
    try:
        version = metadata.version("numba")
    except metadata.PackageNotFoundError:
        return (), "Numba is not installed (pip install fastxent[numba])"
    return ("",), f"compiled by Numba {version} when first called"


def kernels() -> ModuleType:
    """The kernels; imports Numba."""
    return import_module(f"{__name__}._jobs")
