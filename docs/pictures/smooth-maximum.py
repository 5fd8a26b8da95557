"""logsumexp of two logits beside their maximum, at three temperatures."""

import numpy as np

import fastxent as fx

SIZE = 6.4, 3.4
ALT = (
    "The maximum of x and 0 is a line with a corner at 0. logsumexp lies above it and rounds the "
    "corner, at most by log 2 at x = 0; at half the temperature it lies closer, at twice the "
    "temperature further away."
)


def draw(figure):
    """T lse(x / T) for several T."""
    x = np.linspace(-5, 5, 401)
    rows = np.stack([x, np.zeros_like(x)], axis=1)
    axes = figure.subplots()
    axes.plot(x, rows.max(axis=1), color="C4", label=r"$\max(x, 0)$")
    for k, (t, words) in enumerate(((2.0, "$T = 2$"), (1.0, "$T = 1$"), (0.5, "$T = 0.5$"))):
        style = "-" if t == 1 else "--"
        axes.plot(x, t * fx.logsumexp(rows / t), style, color=f"C{k}", label=words)
    axes.set(xlabel="$x$", title=r"$T\,\mathrm{lse}([x, 0] / T)$")
    axes.legend()
