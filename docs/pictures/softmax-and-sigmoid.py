"""What one logit does to the others: softmax divides, sigmoid does not."""

import numpy as np

import fastxent as fx

SIZE = 7.2, 3.4
ALT = (
    "Left, softmax: three bands of probability against the first logit; as it rises, its band "
    "grows from 0 to 1 and the other two shrink, for the three add up to 1. Right, sigmoid: the "
    "first curve rises in the same way, the other two stay level at 0.5 and 0.27."
)


def draw(figure):
    """Probabilities of the logits [x, 0, -1]."""
    x = np.linspace(-6, 6, 241)
    rows = np.stack([x, np.zeros_like(x), np.full_like(x, -1.0)], axis=1)
    left, right = figure.subplots(1, 2, sharey=True)
    names = ["$x$", "$0$", "$-1$"]
    left.stackplot(x, fx.softmax(rows).T, alpha=0.35)
    for place, height, name in ((4, 0.4, "$x$"), (-3.5, 0.35, "$0$"), (-3.5, 0.85, "$-1$")):
        left.text(place, height, name, size=14)
    left.set(title="softmax: one cake, three classes", xlabel="first logit $x$", xlim=(-6, 6))
    for k, name in enumerate(names):
        right.plot(x, fx.sigmoid(rows[:, k]), label=name, linestyle=["-", "--", ":"][k])
    right.set(title="sigmoid: three answers, each its own", xlabel="first logit $x$", ylim=(0, 1))
    right.legend(title="logit", loc="upper left")
