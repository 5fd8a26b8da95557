"""The registry of backends: one record each, found out and loaded when first needed.

A backend is a module with the kernels ``normalize``, ``rows_index``, ``rows_dense`` and
the label pass ``labels``, all with the same arguments everywhere (see ``_numpy``).
"""

import os
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from . import _check, _cuda
from ._spec import ISAS


class Backend(NamedTuple):
    """One backend: what it can run here, and how to get it."""

    name: str
    probe: Callable[[], tuple[tuple[str, ...], str]]  # usable ISAs ("" if it has none), reason
    load: Callable[[str], ModuleType]


class Chosen(NamedTuple):
    """A backend word, resolved."""

    name: str
    isa: str
    kernels: ModuleType
    front: Any  # their way in for small plain calls, or None (see ``_front``)


def _probe_cython() -> tuple[tuple[str, ...], str]:
    from . import _cython

    return _cython.usable()


def _load_cython(isa: str) -> ModuleType:
    from . import _cython

    return _cython.kernels(isa)


def _probe_numba() -> tuple[tuple[str, ...], str]:
    from . import _numba

    return _numba.usable()


def _load_numba(isa: str) -> ModuleType:
    from . import _numba

    return _numba.kernels()


def _probe_cuda() -> tuple[tuple[str, ...], str]:
    return _cuda.usable()


def _load_cuda(isa: str) -> ModuleType:
    return _cuda.kernels()


def _probe_numpy() -> tuple[tuple[str, ...], str]:
    return ("",), "plain NumPy, always there"


def _load_numpy(isa: str) -> ModuleType:
    from . import _numpy

    return _numpy


#: In order of preference; the last is for arrays on a GPU, and on request.
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("cython", _probe_cython, _load_cython),
        Backend("numba", _probe_numba, _load_numba),
        Backend("numpy", _probe_numpy, _load_numpy),
        Backend("cuda", _probe_cuda, _load_cuda),
    )
}

_NO_EXTENSION = (
    "fastxent runs on its NumPy reference, which is slow: {reason}. Build the compiled kernels "
    "with a C compiler: pip install --force-reinstall --no-binary fastxent fastxent"
)


def gpu_calls(x: object, load: Callable[[], ModuleType] = _cuda.calls) -> ModuleType | None:
    """The path of a call for an array on a GPU; None for an array of the host's."""
    if not _check.is_on_gpu(x):
        return None
    usable, reason = probe("cuda")
    if not usable:
        raise RuntimeError(f"arrays on a GPU need the backend cuda, which cannot be used: {reason}")
    return load()


def gpu_compositions(x: object) -> ModuleType | None:
    """The losses that multiply matrices, for an array on a GPU; None for one of the host's."""
    return gpu_calls(x, _cuda.compositions)


@cache
def probe(name: str) -> tuple[tuple[str, ...], str]:
    """Usable instruction sets of a backend, best first, and why these."""
    return BACKENDS[name].probe()


def words() -> tuple[str, ...]:
    """Every usable backend word, the default first."""
    return tuple(f"{name}:{isa}" if isa else name for name in BACKENDS for isa in probe(name)[0])


def check_word(word: object) -> None:
    """Raise unless the word names a usable backend (and instruction set)."""
    usable = words()
    names = dict.fromkeys(w.partition(":")[0] for w in usable)
    if word not in usable and word not in names:
        raise ValueError(
            f"backend must be one of {', '.join([*names, *(w for w in usable if ':' in w)])}; "
            f"got {word!r}"
        )


def _best() -> tuple[str, str]:
    """The best backend that loads, and why not a better one."""
    problems: list[str] = []
    for name, backend in BACKENDS.items():
        isas, reason = probe(name)
        if isas:
            try:
                backend.load(isas[0])
            except ImportError as error:  # a Numba that does not fit this NumPy
                reason = f"{name} does not load ({error})"
            else:
                return name, "; ".join(problems)
        problems.append(reason)
    raise AssertionError("NumPy is always there")


@cache
def choose(word: str | None) -> Chosen:
    """The kernels for a backend word; None asks for the best backend that loads."""
    name, _, isa = (word or "").partition(":")
    if word is not None:
        check_word(word)
    else:
        name, reason = _best()
        if name == "numpy":
            warnings.warn(_NO_EXTENSION.format(reason=reason), RuntimeWarning, stacklevel=5)
    usable = probe(name)[0]
    wanted = os.environ.get("FASTXENT_ISA")
    if not isa and wanted and usable != ("",):
        if wanted not in usable:
            raise ValueError(
                f"FASTXENT_ISA must be one of {', '.join(usable)} on this machine; got {wanted!r}"
                + ("" if wanted in ISAS else " (unknown instruction set)")
            )
        isa = wanted
    isa = isa or usable[0]
    kernels = BACKENDS[name].load(isa)
    return Chosen(name, isa, kernels, _front(kernels))


def _front(kernels: ModuleType) -> Any:
    """Build the way in for small plain calls; None where it is not compiled, or has no kernels."""
    try:
        from ._front import Front
    except ImportError:
        return None
    return Front(kernels.DIRECT) if hasattr(kernels, "DIRECT") else None
