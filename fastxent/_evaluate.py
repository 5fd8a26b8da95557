"""Evaluation in one pass over logits of any size: what it adds up to, block by block."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _call, _check

Array = np.ndarray[Any, Any]

# Blocks depend on the shape and the layout only, so the sums have the same bits for any
# number of threads.
_ELEMENTS = 1 << 24  # logits per block: some milliseconds
_ROWS = 1 << 19  # rows per block: their statistics take 20 MB

#: Rows side by side in a block, where the classes lie further apart than the rows: runs of
#: some pages, so that no page of a file is read for several blocks.
_RUN = 1 << 14


def evaluate(
    logits: Array,
    labels: Array,
    axis: int = -1,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    progress: Callable[[float], None] = lambda fraction: None,
) -> _call.Partial:
    """The sum of the sparse softmax cross entropy, how many rows count, and how many are hits.

    The formula and the arguments are those of `fastxent.sparse_softmax_cross_entropy`;
    2-byte void logits are bfloat16.  The results of parts of a data set can be added.
    """
    x = _check.logits("logits", logits, raw=True)[0]
    axis = _check.axis("logits", x, axis)
    y = _check.index_labels(labels, x, axis)
    ignore = _check.ignore_index(ignore_index, y.dtype)
    e = _check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    order = _memory_order(x, axis)
    done = 0

    def tick(elements: int) -> None:
        nonlocal done
        done += elements
        progress(done / x.size)

    result = _call.Partial()
    for block in _blocks(x, axis, order):
        everything = (*block[:axis], slice(None), *block[axis:])
        # Labels in the order of the logits: one layout, whatever the file of labels has.
        ys = np.empty([s.stop - s.start for s in (block[k] for k in order)], y.dtype)
        ys = ys.transpose(np.argsort(order))
        ys[...] = y[block]
        origin = tuple(s.start for s in block)
        result += _call.evaluate(x[everything], ys, axis, ignore, e, origin, tick)
    return result


def _memory_order(x: Array, axis: int) -> list[int]:
    """The row axes (numbered without the class axis), the largest stride first."""
    strides = _check.without(x.strides, axis)
    return sorted(range(len(strides)), key=lambda k: -abs(strides[k]))


def _blocks(x: Array, axis: int, order: list[int]) -> Iterator[tuple[slice, ...]]:
    """Cut the row axes into blocks that lie together in memory, in the order of memory."""
    shape, strides = _check.without(x.shape, axis), _check.without(x.strides, axis)
    run = math.prod(n for n, s in zip(shape, strides) if abs(s) < abs(x.strides[axis]))
    rows = min(max(_ELEMENTS // x.shape[axis], min(run, _RUN)), _ROWS)
    sizes = [1] * len(shape)
    for k in reversed(order):
        sizes[k] = max(1, min(shape[k], rows))
        rows //= sizes[k]
    for index in np.ndindex(*(-(-shape[k] // sizes[k]) for k in order)):
        block = [slice(0)] * len(shape)
        for k, i in zip(order, index):
            block[k] = slice(i * sizes[k], min((i + 1) * sizes[k], shape[k]))
        yield tuple(block)
