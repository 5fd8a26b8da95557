"""Where one way of computing gets faster than another: measured, and in this place only.

``python build_tools/choices.py`` measures these numbers again and prints what it finds.
None of them changes a result beyond what the order of a sum may.
"""

#: When and on what they were measured.
MEASURED = "2026-11-25", "2-core Sapphire Rapids"

#: Up to this many classes side by side, rows are computed in tiles, one row per lane of a
#: vector; longer ones each by itself, with classes in the lanes.
SMALL_CLASSES = 64

#: The same of the numba backend, whose tiles gain less.
NUMBA_SMALL_CLASSES = 32

#: Elements from which a call is parallel, and goes through the general path: waking a helper
#: and frames of Python cost as much as computing these.
PARALLEL = 1 << 17

#: Bytes from which an output goes past the cache; a smaller one is still in it for the reader.
STREAM_BYTES = 12 << 20

#: The same in the midst of a call, whose helpers are still awake.
AWAKE = 1 << 15

#: Multiplications in small products from which these are parallel.
PRODUCTS = 1 << 20
