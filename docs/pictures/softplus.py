"""Sigmoid cross entropy of both labels beside max(x, 0)."""

import numpy as np

import fastxent as fx

SIZE = 7.2, 3.2
ALT = (
    "Left, the loss of the label 0 against the logit: it follows max(x, 0), 0 on the left and a "
    "rising line on the right, and rounds its corner, at most by log 2. Right, the losses of the "
    "labels 0, 1 and one half: two mirror images that cross at x = 0, and between them a bowl that "
    "touches neither axis."
)


def draw(figure):
    """Softplus and its corner; then the losses."""
    x = np.linspace(-6, 6, 241)
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(x, np.maximum(x, 0), "--", color="C4", label=r"$\max(x, 0)$, the relu")
    left.plot(x, fx.sigmoid_cross_entropy(x, np.zeros_like(x)), label="loss, label 0")
    left.set(title="the corner, rounded", xlabel="logit $x$")
    for k, z in enumerate((0.0, 1.0, 0.5)):
        style = ["-", "--", ":"][k]
        right.plot(x, fx.sigmoid_cross_entropy(x, np.full_like(x, z)), style, label=f"label {z:g}")
    right.set(title="the loss of three labels", xlabel="logit $x$")
    left.legend()
    right.legend(loc="upper center")
