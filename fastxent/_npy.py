"""Arrays in ``.npy`` files, mapped into memory, and every sentence about such a file."""

import math
import mmap
import os
import stat
from typing import Any

import numpy as np

from ._check import RAW_BFLOAT16

Array = np.ndarray[Any, Any]

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in the letters of field names only
}


def mapped(path: str) -> Array:
    """The array of a ``.npy`` file, as a read-only view of the file."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait
        raise ValueError(f"{path} must be a regular file, to be mapped into memory")
    with open(path, "rb") as file:
        magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        if magic[:4] == b"PK\x03\x04":
            raise ValueError(
                f"{path} must be a .npy file; got an archive (.npz): save its arrays one by one"
            )
        if magic != np.lib.format.MAGIC_PREFIX:
            raise ValueError(f"{path} must be a .npy file, as numpy.save writes it; got another")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = _HEADERS[version](file)
        except KeyError:
            raise ValueError(
                f"{path} must be of .npy version 1, 2 or 3; got {version[0]}.{version[1]}"
            ) from None
        except (ValueError, TypeError, SyntaxError):
            raise ValueError(f"{path} must have a .npy header; got one that is damaged") from None
        if dtype.hasobject:
            raise ValueError(f"{path} must hold numbers; got Python objects, which are not read")
        begin, end = file.tell(), os.fstat(file.fileno()).st_size
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > end - begin:
            raise ValueError(
                f"{path} must hold {size} bytes for shape {shape} of {dtype}; "
                f"got {end - begin}: the file is cut short"
            )
        if size == 0:  # nothing to map
            return np.empty(shape, dtype)
        everything = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(everything, dtype, math.prod(shape), begin)
        return flat.reshape(shape, order="F" if fortran else "C")


def viewed(path: str, a: Array, name: str | None) -> Array:
    """The same elements as those of a named dtype; bfloat16 needs no dtype of that name."""
    dtype = a.dtype
    raw = dtype.kind == "V" and dtype.names is None and dtype.subdtype is None
    if name is None:
        if raw and dtype.itemsize in (2, 4, 8):
            raise ValueError(
                f"{path} holds raw elements of {dtype.itemsize} bytes: say with --dtype what "
                "they are (numpy.save writes bfloat16 like this)"
            )
        return a
    if dtype.name == name:
        return a
    wanted = RAW_BFLOAT16 if name == "bfloat16" else np.dtype(name)
    if not (raw or dtype.kind in "iu") or dtype.itemsize != wanted.itemsize:
        raise ValueError(
            f"--dtype {name} reads integers or raw elements of {wanted.itemsize} bytes; "
            f"{path} holds {dtype}"
        )
    if dtype.isnative or name != "bfloat16":
        return a.view(wanted.newbyteorder(dtype.byteorder))
    raise ValueError(
        f"--dtype bfloat16 reads elements of the native byte order; {path} has {dtype}"
    )
