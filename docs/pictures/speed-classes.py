"""Time per logit against the number of classes, as ``asv_bench/scaling.py`` measured it."""

import measured

SIZE = 7.2, 4.0
ALT = (
    "Nanoseconds per logit against the number of classes, up to a million, on "
    "logarithmic scales: forward and with gradient, with one and two threads."
)


def draw(figure):
    """Four lines."""
    measured.growth(figure, "by classes", 1, "classes (4 million logits in all)")
