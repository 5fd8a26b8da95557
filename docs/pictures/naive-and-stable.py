"""Three ways to compute the loss of a row, in float32: where each of them ends."""

import numpy as np

import fastxent as fx

SIZE = 7.2, 3.6
ALT = (
    "Left, the wrong class is ahead by x: all three forms rise along a line, and the formula as "
    "written stops at x = 88. Right, the right class is ahead by x, on a logarithmic scale: the "
    "loss falls along a straight line; both other forms leave it near x = 12, in steps, and are 0 "
    "from 17 on."
)


def naive(x, y):
    """As it is written."""
    e = np.exp(x)
    return -np.log(e / e.sum(axis=1, keepdims=True))[:, y]


def shifted(x, y):
    """With the maximum subtracted."""
    d = x - x.max(axis=1, keepdims=True)
    return np.log(np.exp(d).sum(axis=1)) - d[:, y]


def library(x, y):
    """Of this library."""
    return fx.sparse_softmax_cross_entropy(x, np.full(len(x), y))


def draw(figure):
    """The loss of [x, 0] with the label 1, then 0."""
    x = np.linspace(0, 120, 961, dtype=np.float32)
    rows = np.stack([x, np.zeros_like(x)], axis=1)
    left, right = figure.subplots(1, 2)
    # The wider, the paler, the further down: where a wide band ends, its form does.
    for k, (form, name, width, alpha) in enumerate(
        (
            (library, "fastxent", 1.5, 1.0),
            (shifted, "minus the maximum", 5, 0.6),
            (naive, "as written", 11, 0.4),
        )
    ):
        style = {"linewidth": width, "alpha": alpha, "zorder": 5 - k, "label": name}
        with np.errstate(all="ignore"):
            wrong, sure = form(rows, 1), form(rows, 0)
        left.plot(x, np.where(np.isfinite(wrong), wrong, np.nan), **style)
        near = x <= 40
        right.semilogy(x[near], np.where(sure > 0, sure, np.nan)[near], **style)
    left.set(title="label 1: the other class is ahead", xlabel="$x$", ylabel="loss")
    right.set(title="label 0: its class is ahead", xlabel="$x$")
    left.legend()
