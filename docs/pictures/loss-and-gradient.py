"""The loss of one row and its gradient, as one logit moves."""

import numpy as np

import fastxent as fx

SIZE = 7.2, 3.2
ALT = (
    "Two curves against the logit of the label; the other two logits are 0 and -1. The loss falls "
    "from about 6 at logit -6, along a straight line, and bends to 0 near logit 3. Its gradient "
    "rises from -1 to 0 and is steepest where the loss bends."
)


def draw(figure):
    """Loss and gradient with respect to the label's logit."""
    logit = np.linspace(-6, 8, 281)
    x = np.stack([logit, np.zeros_like(logit), np.full_like(logit, -1.0)], axis=1)
    labels = np.zeros(len(x), np.intp)
    loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x, labels)
    for axes, values, title in zip(
        figure.subplots(1, 2), (loss, grad[:, 0]), (r"loss $\ell$", r"gradient $p_y - 1$")
    ):
        axes.plot(logit, values)
        axes.set(title=title, xlabel="logit of the label")
