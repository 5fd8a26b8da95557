"""Configuration: which backend and how many threads."""

import operator
import platform
from typing import Any

import numpy as np

from . import _backends, _check, _config, _numba, _threads
from ._config import Settings
from ._version import __version__


def _checked(backend: Any, threads: Any) -> Settings:
    if backend is not None:
        _backends.check_word(backend)
    if threads is not None:
        try:
            threads = operator.index(threads)
        except TypeError:
            raise TypeError(
                f"threads must be an integer >= 1; got {threads!r} ({type(threads).__name__})"
            ) from None
        if threads < 1:
            raise ValueError(f"threads must be an integer >= 1; got {threads}")
    return Settings(backend, threads)


class config:  # noqa: N801 - used like a function
    """Choose backend and threads for the calls inside a ``with`` block.

    The choice holds for the present thread and asyncio task only; a thread started inside
    begins with the process default.

    Parameters
    ----------
    backend : str, optional
        ``"cython"``, ``"numba"``, ``"numpy"``, ``"cuda"``, or a name with an instruction set,
        ``"cython:v3"``. Arrays on a GPU are computed there whatever the backend.
        By default what applies outside.
    threads : int, optional
        Threads per call, at least 1. By default what applies outside.

    Raises
    ------
    ValueError
        If the backend or instruction set is unknown or cannot be used here; the sentence
        lists the usable ones. If ``threads`` is below 1.
    TypeError
        If ``threads`` is not an integer.

    See Also
    --------
    set_config : The same for the whole process.

    Examples
    --------
    >>> import fastxent as fx
    >>> with fx.config(backend="numpy", threads=1):
    ...     float(fx.logsumexp([0.0, 0.0]))
    0.6931471805599453
    """

    def __init__(self, *, backend: str | None = None, threads: int | None = None) -> None:
        self._settings = _checked(backend, threads)
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        outer = _config.scoped.get()
        self._tokens.append(_config.scoped.set(self._settings.over(outer)))

    def __exit__(self, *error: object) -> None:
        _config.scoped.reset(self._tokens.pop())


def set_config(*, backend: str | None = None, threads: int | None = None) -> None:
    """Choose backend and threads for the whole process.

    Parameters
    ----------
    backend : str, optional
        As for `config`. By default unchanged.
    threads : int, optional
        As for `config`. By default unchanged.

    Raises
    ------
    ValueError
        If the backend cannot be used here, or ``threads`` is below 1.
    TypeError
        If ``threads`` is not an integer.

    See Also
    --------
    config : The same for one block of code.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.set_config(threads=2)
    >>> fx.get_config()["threads"]
    2
    """
    _config.process = _checked(backend, threads).over(_config.process)


def get_config() -> dict[str, Any]:
    """What would run here and now.

    Returns
    -------
    dict
        ``backend`` and ``isa`` (None for a backend without instruction sets) that a call
        would use, ``threads`` per call, ``backends`` (for each its ``available``, ``isas``
        and ``reason``) and ``versions``.

    See Also
    --------
    show_config : The same, printed.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.get_config()["backends"]["numpy"]["available"]
    True
    """
    settings = _config.current()
    chosen = _backends.choose(settings.backend)
    backends = {}
    for name in _backends.BACKENDS:
        isas, reason = _backends.probe(name)
        backends[name] = {
            "available": bool(isas),
            "isas": [isa for isa in isas if isa],
            "reason": reason,
        }
    versions = {
        "fastxent": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    if backends["numba"]["available"]:
        versions["numba"] = _numba.version()
    return {
        "backend": chosen.name,
        "isa": chosen.isa or None,
        "threads": settings.threads or _threads.default_threads(),
        "backends": backends,
        "versions": versions,
    }


def show_config() -> None:
    """Print what would run here and now, and why.

    See Also
    --------
    get_config : The same as a dict.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.show_config()  # doctest: +ELLIPSIS
    fastxent ...
    """
    info = get_config()
    word = f"{info['backend']}:{info['isa']}" if info["isa"] else info["backend"]
    versions = info["versions"]
    print(f"fastxent {versions['fastxent']}")
    print(f"backend  {word}")
    print(f"threads  {info['threads']}")
    for name, backend in info["backends"].items():
        state = "available" if backend["available"] else "not available"
        print(f"  {name:<8} {state}: {backend['reason']}")
    print(", ".join(f"{name} {v}" for name, v in versions.items() if name != "fastxent"))


def warmup(*dtypes: Any) -> None:
    """Load, and where needed compile, what the present backend needs.

    The compiled and the NumPy backend need nothing beyond their import; a backend that
    compiles at run time does it here, so that a pipeline's first call is as fast as the
    next.

    Parameters
    ----------
    *dtypes : str or dtype
        Dtypes of the logits to come, ``"float32"`` if none is given. Half precision is
        computed in single precision and integers in double.

    Raises
    ------
    TypeError
        If a dtype is not one that logits may have.

    See Also
    --------
    config : Choose the backend.

    Notes
    -----
    Numba compiles each kernel once per precision and keeps it on disk where it can: the next
    process only reads it. On one core, compiling for one precision took 19 s, reading 0.5 s;
    a first call without warm-up compiles what it needs, in 6 to 12 s.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.warmup()
    >>> fx.warmup("float16", "float64")
    """
    double = [_check.computes_in_double(dtype) for dtype in dtypes or ("float32",)]
    kernels = _backends.choose(_config.current().backend).kernels
    if hasattr(kernels, "warmup"):
        kernels.warmup(single=not all(double), double=any(double))
