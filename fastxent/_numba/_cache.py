"""Compiled kernels kept on disk, where that can be done, and never stale.

Numba looks only at the file that holds a function, by its time of change.  Here the
contents of every file of this backend and the version of Numba belong to the key.  What
cannot be read or written (a read-only home, a full disk, a damaged file) is compiled
again: a cache is no reason to fail.
"""

import hashlib
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


def _key() -> str:
    """Changes with the sources and with Numba."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_KEY = _key()


class _Cache(FunctionCache):
    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _KEY)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            return


def cached(dispatcher: Any) -> Any:
    """Let a compiled function use the cache, if there is a place for one."""
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except Exception:
        return dispatcher  # "no locator available": no directory can be written
    return dispatcher
