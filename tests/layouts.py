"""Every memory layout an array of logits may come in.

A layout takes a C-contiguous array ``x`` of shape (2, 3, C) and returns ``(array, axis)``;
``rows(array, axis)`` gives the (n, C) rows that the answer is compared with.  Most layouts
hold the values of ``x`` in another place; "broadcast" and "stride_zero" hold one row or one
value of it many times.
"""

import os

import numpy as np


def rows(array, axis):
    """The rows along ``axis``, as a fresh (n, C) array in native byte order."""
    moved = np.moveaxis(array, axis, -1)
    flat = np.array(moved.reshape(-1, moved.shape[-1]), order="C")
    return flat.astype(flat.dtype.newbyteorder("=")) if flat.dtype.byteorder in "<>" else flat


def unrows(array_of_rows, shape, axis):
    """Put (n, C) rows back where ``rows`` found them."""
    axis %= len(shape)
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.moveaxis(np.reshape(array_of_rows, moved), -1, axis)


def _contiguous(x, tmp):
    return x.copy(), -1


def _one_row(x, tmp):
    return x[0, 0].copy(), 0


def _axis0(x, tmp):
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T), 0


def _middle(x, tmp):
    return np.ascontiguousarray(x.transpose(0, 2, 1)), 1


def _middle4(x, tmp):
    return np.ascontiguousarray(x.reshape(2, 3, 1, -1).transpose(0, 3, 1, 2)), -3


def _fortran(x, tmp):
    return np.asfortranarray(x), -1


def _strided(x, tmp):
    big = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    big[..., ::2] = x
    return big[..., ::2], -1


def _strided_rows(x, tmp):
    big = np.zeros((2, 2 * x.shape[1], x.shape[2]), x.dtype)
    big[:, ::2] = x
    return big[:, ::2], -1


def _strided_inner(x, tmp):
    big = np.zeros((2, x.shape[2], 6), x.dtype)
    big[:, :, ::2] = x.transpose(0, 2, 1)
    return big[:, :, ::2], 1


def _negative(x, tmp):
    return x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1], -1


def _negative_axis0(x, tmp):
    return np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T[::-1, ::-1])[::-1, ::-1], 0


def _gapped(x, tmp):
    """Outer axes that do not collapse to one stride."""
    big = np.zeros((2, 5, x.shape[2] + 3), x.dtype)
    big[:, 1:4, 1:-2] = x
    return big[:, 1:4, 1:-2], -1


def _swapped_outer(x, tmp):
    return x.transpose(1, 0, 2).copy().transpose(1, 0, 2), -1


def _inner_gapped(x, tmp):
    """Inner axes that do not collapse to one stride."""
    big = np.zeros((x.shape[2], 2, 5), x.dtype)
    big[:, :, 1:4] = np.moveaxis(x, -1, 0)
    return big[:, :, 1:4], 0


def _read_only(x, tmp):
    y = x.copy()
    y.flags.writeable = False
    return y, -1


def _byte_swapped(x, tmp):
    return x.astype(x.dtype.newbyteorder()), -1


def _byte_swapped_axis0(x, tmp):
    y, _ = _axis0(x, tmp)
    return y.astype(y.dtype.newbyteorder()), 0


def _unaligned(x, tmp):
    y = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    assert not y.flags.aligned
    return y, -1


def _memory_mapped(x, tmp):
    path = os.path.join(tmp, "x.bin")
    x.tofile(path)
    return np.memmap(path, x.dtype, "r", shape=x.shape), -1


def _broadcast(x, tmp):
    return np.broadcast_to(x[:, :1], x.shape), -1


def _stride_zero(x, tmp):
    """The class axis itself has stride 0: all logits of a row are equal."""
    return np.broadcast_to(x[..., :1], x.shape), -1


LAYOUTS = {
    name[1:]: function
    for name, function in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and callable(function)
}

#: Layouts that hold no value twice and may be written, so a gradient may land in place.
WRITABLE = tuple(
    name
    for name in LAYOUTS
    if name not in ("read_only", "memory_mapped", "broadcast", "stride_zero")
)


def possible(name, dtype):
    """Whether NumPy can make this layout: bfloat16 has no byte-swapped form."""
    return not (dtype == "bfloat16" and name.startswith("byte_swapped"))
