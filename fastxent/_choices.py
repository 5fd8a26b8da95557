"""Where one way of computing gets faster than another: measured, and in this place only.

``python build_tools/choices.py`` measures these numbers again and prints what it finds.
None of them changes a result beyond what the order of a sum may.
"""

#: When and on what they were measured.
MEASURED = "2026-11-26", "2-core Granite Rapids"

#: Up to this many classes side by side, rows are computed in tiles, one row per lane of a
#: vector; longer ones each by itself, with classes in the lanes.
SMALL_CLASSES = 64

#: The same of the numba backend, whose tiles gain less.
NUMBA_SMALL_CLASSES = 32

#: Elements from which a call is parallel: waking a helper costs as much as computing these.
PARALLEL = 1 << 17

#: The same in the midst of a call, whose helpers are still awake.
AWAKE = 1 << 16

#: Bytes from which an output goes past the cache; a smaller one is still in it for the reader.
STREAM_BYTES = 24 << 20

#: Multiplications in small products from which these are parallel.
PRODUCTS = 1 << 22

#: Rows walked together where the classes are not contiguous.
TILE = 64

#: Rows longer than this are cut in pieces.
LONG = 1 << 20

#: Elements per block of rows, at most: some 50 microseconds.
BLOCK = 1 << 18

#: A parallel call is cut in as many, or threads would wait for the last one,
BLOCKS = 16

#: but into blocks of so many elements, which are worth handing out.
LEAST = 1 << 15


# The partition depends on the shape (and on where the classes lie) only, never on the
# number of threads: the sums have the same bits for any of them.
def block(size: int, parallel: int) -> int:
    """Elements per block of a call on so many, which is parallel from some number on."""
    if size < parallel:
        return size
    return min(BLOCK, max(LEAST, size // BLOCKS))


def rows_per_block(rows: int, num_classes: int, calls: int, contiguous: bool, parallel: int) -> int:
    """Rows per block of each of some calls alike, with contiguous classes or others."""
    step = max(1, block(rows * num_classes * calls, parallel) // num_classes, min(8, rows // 64))
    if step < rows and (step >= TILE or not contiguous):
        step = max(TILE, step - step % TILE)
    return step
