"""The kernels compiled by Numba, for the processor that they run on.

Numba is imported when the backend is chosen, not before.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


@cache
def usable() -> tuple[tuple[str, ...], str]:
    """Whether Numba is installed, found out without importing it."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        return (), "Numba is not installed (pip install fastxent[numba])"
    return ("",), "compiled by Numba when first called"


@cache
def version() -> str:
    """Numba's version, found out without importing it."""
    from importlib.metadata import version

    return version("numba")


def kernels() -> ModuleType:
    """The kernels; imports Numba."""
    return import_module(f"{__name__}._jobs")
