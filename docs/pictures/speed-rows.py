"""Time per logit against the number of rows, as ``asv_bench/scaling.py`` measured it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import speed  # noqa: E402 - the documentation's

SIZE = 7.2, 4.0
ALT = (
    "Nanoseconds per logit against the number of rows of 100 classes, from 1 to a million, on logarithmic "
    "scales: forward and with gradient, with one and two threads."
)


def draw(figure):
    """One line for each of forward and gradient, and of one and two threads."""
    axes = figure.subplots()
    found = speed.load("scaling")["by rows"]
    for threads, style in ((1, "-"), (2, "--")):
        for k, name in enumerate(("forward", "with gradient")):
            mine = [m for m in found if m[3] == threads][k::2]
            label = f"{name}, {threads} thread{'s' * (threads > 1)}"
            axes.loglog([m[0] for m in mine], [m[4] for m in mine], style, color=f"C{k}", label=label)
    axes.set(xlabel="rows of 100 classes", ylabel="nanoseconds per logit")
    axes.legend()
