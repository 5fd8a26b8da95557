"""The command ``fastxent``: evaluate real logits on every backend and check known numbers."""

import argparse
import sys
import timeit
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

import fastxent as fx
from fastxent._backends import words
from fastxent._spec import SPECS


class Number(NamedTuple):
    """One published number: a function, its arguments and the exact result."""

    source: str
    function: str
    arguments: tuple[Any, ...]
    exact: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"

    def error(self) -> float:
        """Return the largest absolute error; NaN if any entry is NaN."""
        value = np.ravel(getattr(fx, self.function)(*self.arguments))
        return float(np.max(np.abs(value - self.exact)))


#: Largest absolute error allowed in a number, in double precision.
TOLERANCE = 1e-13

# S1: sparse softmax cross entropy and its mean; one loss per candidate label.
# S2: multi-class cross entropy in two frameworks.  The last three take labels for logits, as
#     the source does by mistake: they explain its 0.6922.
# S4: softmax against sigmoid cross entropy; the softmax part.
NUMBERS = (
    Number("S1", "softmax", ([3, 1, -3],), (0.87887824273215, 0.11894323591065, 0.00217852135720)),
    Number("S1", "logsumexp", ([3, 1, -3],), (3.12910890882985,)),
    Number("S1", "sparse_softmax_cross_entropy", ([3, 1, -3], 0), (0.12910890882985,)),
    Number("S1", "sparse_softmax_cross_entropy", ([3, 1, -3], 1), (2.12910890882985,)),
    Number("S1", "sparse_softmax_cross_entropy", ([3, 1, -3], 2), (6.12910890882985,)),
    Number("S2", "softmax", ([0, 5, 1],), (0.00657326318531, 0.97555875494439, 0.01786798187030)),
    Number("S2", "logsumexp", ([0, 5, 1],), (5.02474489013882,)),
    Number("S2", "softmax_cross_entropy", ([0, 5, 1], [0, 0.8, 0.2]), (0.82474489013882,)),
    Number("S2", "softmax_cross_entropy", ([0, 5, 1], [0, 1, 0]), (0.02474489013882,)),
    Number("S2", "sparse_softmax_cross_entropy", ([0, 5, 1], 1), (0.02474489013882,)),
    Number("S2", "logsumexp", ([0, 0.8, 0.2],), (1.49221704822658,)),
    Number("S2", "sparse_softmax_cross_entropy", ([0, 0.8, 0.2], 1), (0.69221704822658,)),
    Number("S2", "softmax_cross_entropy", ([0, 0.8, 0.2], [0, 5, 1]), (4.75330228935946,)),
    Number(
        "S4",
        "softmax_cross_entropy",
        ([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]], [[0, 1], [1, 0], [1, 0]]),
        (0.43748795048589, 0.51301525239995, 0.69314718055995),
    ),
)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return held-out logits (float32) and labels of a classifier of handwritten digits."""
    with (
        files("fastxent").joinpath("data/digits.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        return arrays["logits"], arrays["labels"]


class Reference(NamedTuple):
    """Losses and gradients in double precision, and the errors allowed in single precision."""

    loss: np.ndarray
    grad: np.ndarray
    loss_allowed: np.ndarray
    grad_allowed: np.ndarray


def _ulp(x: np.ndarray) -> np.ndarray:
    return np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)


def reference(logits: np.ndarray, labels: np.ndarray) -> Reference:
    """Evaluate the numpy backend on widened logits and apply the error budgets."""
    wide = logits.astype(np.float64)
    with fx.config(backend="numpy"):
        loss, grad = fx.sparse_softmax_cross_entropy_with_grad(wide, labels)
        largest = fx.softmax(wide).max(axis=1)
    budgets = SPECS["sparse_softmax_cross_entropy"].budgets
    rows = np.arange(len(labels))
    second, first = np.sort(wide, axis=1)[:, -2:].T
    gap = np.where(wide[rows, labels] == first, first - second, 0.0)
    loss_allowed = (budgets["value"].ulp + gap) * _ulp(loss)
    floor = budgets["grad"].floor32 * largest[:, None]
    grad_allowed = np.maximum(budgets["grad"].ulp * _ulp(grad), floor)
    at_label = grad[rows, labels]
    grad_allowed[rows, labels] = (budgets["label_entry"].ulp + gap) * _ulp(at_label)
    return Reference(loss, grad, loss_allowed, grad_allowed)


def evaluate(word: str, logits: np.ndarray, labels: np.ndarray, truth: Reference) -> bool:
    """Print one line of the table; return whether the backend keeps its error budgets."""
    buffer = np.empty_like(logits)
    with fx.config(backend=word):
        loss, grad = fx.sparse_softmax_cross_entropy_with_grad(logits, labels)
        mean = fx.sparse_softmax_cross_entropy(logits, labels, reduction="mean")
        accuracy = np.mean(fx.softmax(logits).argmax(axis=1) == labels)
        seconds = min(
            timeit.repeat(
                lambda: fx.sparse_softmax_cross_entropy_with_grad(
                    logits, labels, reduction="mean", grad_out=buffer
                ),
                repeat=100,
                number=1,
            )
        )
    loss_error = np.abs(loss - truth.loss)
    grad_error = np.abs(grad - truth.grad)
    agrees = bool(
        np.all(loss_error <= truth.loss_allowed)
        and np.all(grad_error <= truth.grad_allowed)
        and abs(mean - truth.loss.mean()) <= 2 * _ulp(truth.loss.mean())
    )
    print(
        f"{word:16} {mean:9.6f} {np.exp(mean):10.6f} {accuracy:8.2%}"
        f" {np.max(loss_error / _ulp(truth.loss)):10.2f} {np.max(grad_error):10.1e}"
        f" {seconds * 1e6:9.1f}  {'agrees' if agrees else 'DISAGREES'}"
    )
    return agrees


def check(word: str) -> bool:
    """Print one line per published number; return whether all hold."""
    good = True
    with fx.config(backend=word):
        for number in NUMBERS:
            error = number.error()
            holds = error <= TOLERANCE
            print(
                f"{word:16} {number.source} {error:8.1e} {'ok   ' if holds else 'WRONG'} {number}"
            )
            good = good and holds
    return good


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="fastxent",
        description="Evaluate a classifier's logits on every backend and check published numbers.",
    )
    parser.add_argument("--version", action="version", version=f"fastxent {fx.__version__}")
    parser.add_argument(
        "command", nargs="?", choices=["info"], help="info: print what would run, and why"
    )
    if parser.parse_args(argv).command == "info":
        fx.show_config()
        return 0

    logits, labels = digits()
    truth = reference(logits, labels)
    rows, classes = logits.shape
    print(f"Handwritten digits: {rows} held-out rows x {classes} classes, {logits.dtype} logits.")
    print("Errors are against double precision: loss in ulp, gradient absolute; time in us of")
    print("one mean loss with its gradient.\n")
    print(
        f"{'backend':16} {'mean loss':>9} {'perplexity':>10} {'accuracy':>8}"
        f" {'loss error':>10} {'grad error':>10} {'time':>9}"
    )
    good = [evaluate(word, logits, labels, truth) for word in words()]
    print(f"\nNumbers of the source documents, largest absolute error (allowed {TOLERANCE:.0e}):\n")
    good += [check(word) for word in words()]
    print("\nAll agree." if all(good) else "\nSome results DISAGREE.")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
