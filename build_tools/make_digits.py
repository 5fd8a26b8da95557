"""Write fastxent/data/digits.npz: held-out logits of a softmax regression, and their labels.

The classifier is trained by L-BFGS on half of scikit-learn's handwritten digits, with the loss and
gradient of this library, and evaluated on the other half.  Needs SciPy and scikit-learn.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits

import fastxent as fx

PENALTY = 1e-3
CLASSES = 10
TARGET = Path(__file__).parents[1] / "fastxent" / "data" / "digits.npz"


def train(x, y):
    """Return the weights of the penalised softmax regression, one column per class."""

    def objective(flat):
        weights = flat.reshape(-1, CLASSES)
        loss, grad = fx.sparse_softmax_cross_entropy_with_grad(x @ weights, y, reduction="mean")
        return loss + PENALTY / 2 * flat @ flat, (x.T @ grad + PENALTY * weights).ravel()

    result = minimize(
        objective,
        np.zeros(x.shape[1] * CLASSES),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 2000, "ftol": 0.0, "gtol": 1e-9},
    )
    return result.x.reshape(-1, CLASSES)


def main():
    """Train, evaluate and write."""
    pixels, labels = load_digits(return_X_y=True)
    x = np.column_stack([pixels / 16.0, np.ones(len(pixels))])
    order = np.random.default_rng(0).permutation(len(x))
    held_out, training = order[: len(x) // 2], order[len(x) // 2 :]
    logits = (x[held_out] @ train(x[training], labels[training])).astype(np.float32)
    np.savez(TARGET, logits=logits, labels=labels[held_out].astype(np.uint8))
    accuracy = np.mean(logits.argmax(axis=1) == labels[held_out])
    print(f"{TARGET.name}: {logits.shape}, accuracy {accuracy:.4f}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
