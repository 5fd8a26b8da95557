"""Time per logit against the number of rows, as ``asv_bench/scaling.py`` measured it."""

import measured

SIZE = 7.2, 4.0
ALT = (
    "Nanoseconds per logit against the number of rows of 100 classes, up to a million, on "
    "logarithmic scales: forward and with gradient, with one and two threads."
)


def draw(figure):
    """Four lines."""
    measured.growth(figure, "by rows", 0, "rows of 100 classes")
