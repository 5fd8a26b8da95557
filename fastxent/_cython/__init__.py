"""The compiled kernels: ``_isa.pyx``, built once per instruction set.

A module built for an instruction set is imported only on a processor that has it: even
its initialisation is compiled with the wide instructions.
"""

from functools import cache
from importlib import import_module
from types import ModuleType


@cache
def usable() -> tuple[tuple[str, ...], str]:
    """Instruction sets that this processor runs and this build has, best first; and why."""
    try:
        from ._cpu import supported
    except ImportError as error:
        return (), f"the compiled kernels do not load ({error})"
    names, problems = [], []
    for isa in supported():
        try:
            kernels(isa)
        except ImportError as error:
            problems.append(f"{isa} does not load ({error})")
        else:
            names.append(isa)
    return tuple(names), "; ".join(["compiled for " + ", ".join(names or ["nothing"]), *problems])


def kernels(isa: str) -> ModuleType:
    """The kernels built for one instruction set."""
    return import_module(f"{__name__}._isa_{isa}")
