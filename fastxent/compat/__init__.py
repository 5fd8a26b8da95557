"""The functions of other libraries, with their signatures, on NumPy arrays.

``fastxent.compat.tensorflow`` and ``fastxent.compat.torch`` hold what these libraries call by the
same names: parameters, order and defaults are theirs, and so are the shapes, dtypes, denominators
and special cases, except where a docstring lists a difference.  They return values only;
gradients come from the functions of ``fastxent`` itself.  Neither library is imported.
"""

import importlib
from typing import Any

__all__ = ["tensorflow", "torch"]


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for: importing `fastxent` must not wait for them."""
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
