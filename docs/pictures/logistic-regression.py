"""What each class of a logistic regression looks for in a picture of a digit."""

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits

import fastxent as fx

SIZE = 6.4, 2.9
ALT = (
    "Ten small pictures, the weights of the ten digits. In each, blue pixels trace the digit's own "
    "strokes, and red ones lie where other digits have ink: in the middle of the 0, for example."
)
CLASSES = 10


def train(pixels, digits):
    """Weights of a softmax regression, as the page finds them."""

    def objective(theta):
        weight = theta[:-CLASSES].reshape(CLASSES, -1)
        loss, grad = fx.linear_cross_entropy_with_grad(
            pixels, weight, digits, bias=theta[-CLASSES:], reduction="sum"
        )
        slope = np.concatenate([(grad.weight + weight).ravel(), grad.bias])
        return loss + (weight**2).sum() / 2, slope

    start = np.zeros(CLASSES * (pixels.shape[1] + 1))
    best = minimize(objective, start, jac=True, method="L-BFGS-B")
    return best.x[:-CLASSES].reshape(CLASSES, 8, 8)


def draw(figure):
    """Two rows of five."""
    pixels, digits = load_digits(return_X_y=True)
    weights = train(pixels / 16, digits)
    limit = np.abs(weights).max()
    for digit, axes in enumerate(figure.subplots(2, 5).flat):
        axes.imshow(weights[digit], cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(str(digit))
        axes.set_axis_off()
