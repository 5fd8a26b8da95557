"""The command ``fastxent``: check known numbers on every backend, evaluate logits in files."""

import argparse
import json
import math
import shutil
import sys
import time
import timeit
from importlib.resources import files
from typing import Any, NamedTuple, TextIO

import numpy as np

import fastxent as fx
from fastxent import _evaluate, _npy
from fastxent._backends import words
from fastxent._spec import DTYPES, SPECS


class Number(NamedTuple):
    """One published number: a function, its arguments and the exact result."""

    source: str
    function: str
    arguments: tuple[Any, ...]
    exact: tuple[float, ...]
    reduction: str | None = None

    def __str__(self) -> str:
        options = [f"{key}={value!r}" for key, value in self._options().items()]
        return f"{self.function}({', '.join([*map(str, self.arguments), *options])})"

    def _options(self) -> dict[str, str]:
        return {} if self.reduction is None else {"reduction": self.reduction}

    def error(self) -> float:
        """Return the largest absolute error; NaN if any entry is NaN."""
        value = np.ravel(getattr(fx, self.function)(*self.arguments, **self._options()))
        return float(np.max(np.abs(value - self.exact)))


#: Largest absolute error allowed in a number, in double precision.
TOLERANCE = 1e-13

# S1: sparse softmax cross entropy and its mean; one loss per candidate label.
# S2: multi-class cross entropy in two frameworks: ``CrossEntropyLoss`` is ``NLLLoss`` after
#     ``LogSoftmax``.  The last three take labels for logits, as the source does by mistake: they
#     explain its 0.6922.
# S3: the sequence loss by example: the second example is padded after one step, then all of it.
# S4: softmax against sigmoid cross entropy.  ``-p log q`` alone is the binary loss where p = 1;
#     softmax over two classes is the sigmoid of the difference of the logits.
_LOG_P = (-5.02474489013882, -0.02474489013882, -4.02474489013882)
_STEPS = [[[3.0, 1.0, -3.0], [0.0, 5.0, 1.0]], [[0.0, 5.0, 1.0], [float("nan")] * 3]]
_TARGETS = [[0, 1], [1, -1]]
_BINARY = ([[0.2] * 5, [0.3, 0.3, 0.2, 0.1, 0.1]], [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]])
_BINARY_LOSSES = (
    *(0.79813886938159, 0.79813886938159, 0.79813886938159, 0.59813886938159, 0.79813886938159),
    *(0.55435524446853, 0.85435524446853, 0.79813886938159, 0.74439666007357, 0.74439666007357),
)

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
    Number("S2", "log_softmax", ([0, 5, 1],), _LOG_P),
    Number("S2", "nll_loss", (_LOG_P, 1), (0.02474489013882,)),
    Number("S2", "logsumexp", ([0, 0.8, 0.2],), (1.49221704822658,)),
    Number("S2", "sparse_softmax_cross_entropy", ([0, 0.8, 0.2], 1), (0.69221704822658,)),
    Number("S2", "softmax_cross_entropy", ([0, 0.8, 0.2], [0, 5, 1]), (4.75330228935946,)),
    Number(
        "S3",
        "sequence_loss_by_example",
        (_STEPS, _TARGETS, [[1, 1], [1, 0]]),
        (0.07692689948434, 0.02474489013882),
    ),
    Number(
        "S3",
        "sequence_loss_by_example",
        (_STEPS, _TARGETS, [[1, 0], [1, 0]]),
        (0.07692689948434, 0.0),
    ),
    Number(
        "S4",
        "softmax_cross_entropy",
        ([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]], [[0, 1], [1, 0], [1, 0]]),
        (0.43748795048589, 0.51301525239995, 0.69314718055995),
    ),
    Number("S4", "softmax_cross_entropy", _BINARY, (1.60943791243410, 1.51343325485813)),
    Number("S4", "sigmoid_cross_entropy", _BINARY, _BINARY_LOSSES),
    Number("S4", "sigmoid_cross_entropy", _BINARY, (0.74863370253738,), "mean"),
    Number("S4", "log_sigmoid", ([0.2, 0.3],), (-0.59813886938159, -0.55435524446853)),
    Number("S4", "softmax", ([0.2, 0.8],), (0.35434369377420, 0.64565630622580)),
    Number("S4", "sigmoid", ([0.2 - 0.8, 0.8 - 0.2],), (0.35434369377420, 0.64565630622580)),
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


class Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = stream.isatty()
        self._next = 0.0

    def __call__(self, fraction: float) -> None:
        """Show how much is done, some ten times a second."""
        if self._shown and (now := time.monotonic()) >= self._next:
            self._next = now + 0.1
            size = max(1, min(60, shutil.get_terminal_size().columns - 10))
            full = int(fraction * size)
            self._write(f"[{'#' * full}{'.' * (size - full)}] {fraction:4.0%}")

    def clear(self) -> None:
        """Leave an empty line."""
        if self._next:
            self._write(" " * min(70, shutil.get_terminal_size().columns - 1))
            self._write("")

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text)
        self._stream.flush()


def evaluate_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a file of logits; the numbers to print, by name."""
    stored = _npy.mapped(arguments.logits)
    labels = _npy.mapped(arguments.labels)
    logits = _npy.viewed(arguments.logits, stored, arguments.dtype)
    bar = Bar(sys.stderr)
    with fx.config(backend=arguments.backend, threads=arguments.threads):
        info = fx.get_config()
        begin = time.perf_counter()
        try:
            found = _evaluate.evaluate(
                logits, labels, arguments.axis, arguments.ignore_index,
                arguments.label_smoothing, bar,
            )  # fmt: skip
        finally:
            bar.clear()
        seconds = time.perf_counter() - begin
    mean = found.loss / found.counted if found.counted else math.nan
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(mean))
    return {
        "mean_loss": mean,
        "perplexity": perplexity,
        "accuracy": found.hits / found.counted if found.counted else math.nan,
        "loss_sum": found.loss,
        "hits": found.hits,
        "counted": found.counted,
        "rows": found.rows,
        "seconds": seconds,
        "gb_per_second": (logits.nbytes + labels.nbytes) / 1e9 / seconds,
        "backend": info["backend"],
        "isa": info["isa"],
        "threads": info["threads"],
        "dtype": arguments.dtype or logits.dtype.name,
        "shape": list(logits.shape),
    }


def print_evaluation(numbers: dict[str, Any], as_json: bool) -> None:
    """Print the numbers, one per line or as one JSON object."""
    if as_json:
        # JSON has no infinity and no NaN: those are strings, which float() reads.
        plain = {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in numbers.items()
        }
        print(json.dumps(plain, allow_nan=False))
        return
    for name in ("mean_loss", "perplexity"):
        print(f"{name.replace('_', ' '):<11} {numbers[name]:.9g}")
    print(f"{'accuracy':<11} {numbers['accuracy']:.6f}")
    ignored = numbers["rows"] - numbers["counted"]
    print(f"{'rows':<11} {numbers['rows']}" + (f", {ignored} of them ignored" if ignored else ""))
    print(f"{'seconds':<11} {numbers['seconds']:.3f}")
    print(f"{'GB/s':<11} {numbers['gb_per_second']:.2f}")
    word = f"{numbers['backend']}:{numbers['isa']}" if numbers["isa"] else numbers["backend"]
    threads = f"{numbers['threads']} thread{'s' if numbers['threads'] > 1 else ''}"
    print(f"{'logits':<11} {tuple(numbers['shape'])} {numbers['dtype']}")
    print(f"{'backend':<11} {word}, {threads}")


EVAL = """\
Mean loss, perplexity and top-1 accuracy of saved logits, in one pass over files of any
size: they are mapped into memory, not read into it.
"""

EVAL_MORE = """\
mean loss   the sum of the losses of the rows that count, in float64 and the same for any
            number of threads, divided by their number; ignored rows do not count, and
            without a row that counts it is nan.  With --label-smoothing E the loss of a row
            is (1 - E) (lse - x_label) + E (lse - mean of x): the mean loss and the
            perplexity are those of the smoothed loss.
perplexity  exp(mean loss)
accuracy    the share of the rows that count whose label has the largest logit, alone or
            tied; a row with a NaN has none
GB/s        bytes of both files per second, in powers of ten

--dtype says what the elements of LOGITS are where the file does not: integers or raw bytes
of the same size.  numpy.save writes the bfloat16 of ml_dtypes as raw bytes.

--json adds loss_sum, hits and counted, which can be added up over files; what is not finite
is a string there ("nan", "inf").

The exit status is 2, with one line on standard error, if a file, a shape or a label is
wrong, and 130 after Ctrl-C.
"""


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    command = argparse.ArgumentParser(
        prog="fastxent",
        description="Evaluate a classifier's logits on every backend and check published numbers. "
        "With a command, do that instead.",
    )
    command.add_argument("--version", action="version", version=f"fastxent {fx.__version__}")
    commands = command.add_subparsers(dest="command", metavar="command", title="commands")
    commands.add_parser("info", help="print what would run, and why")
    add = commands.add_parser(
        "eval",
        help="mean loss, perplexity and accuracy of logits and labels in .npy files",
        description=EVAL,
        epilog=EVAL_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).add_argument
    add("logits", metavar="LOGITS.npy", help="real numbers, the classes on one axis")
    add("labels", metavar="LABELS.npy", help="integers, of that shape without the class axis")
    add("--axis", type=int, default=-1, metavar="N", help="the class axis (default: the last)")
    add("--ignore-index", type=int, metavar="N", help="the label of rows that do not count")
    add("--label-smoothing", type=float, default=0.0, metavar="E", help="from 0 to 1 (default 0)")
    add("--dtype", choices=DTYPES, help="what the elements of LOGITS are")
    add("--backend", metavar="WORD", help=f"one of {', '.join(words())}, or a name alone")
    add("--threads", type=int, metavar="N", help="threads, at least 1")
    add("--json", action="store_true", help="print one JSON object")
    return command


def refuse(why: object) -> int:
    """Say in one line why files or options are refused; the exit status."""
    print(f"fastxent eval: {why}", file=sys.stderr)
    return 2


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        return run(argv)
    except KeyboardInterrupt:
        return 130


def run(argv: list[str] | None) -> int:
    """What `main` does, unless Ctrl-C ends it."""
    arguments = parser().parse_args(argv)
    if arguments.command == "info":
        fx.show_config()
        return 0
    if arguments.command == "eval":
        try:
            print_evaluation(evaluate_files(arguments), arguments.json)
        except OSError as error:
            return refuse(f"{error.filename}: {error.strerror}" if error.filename else error)
        except (ValueError, TypeError, IndexError) as error:
            return refuse(error)
        return 0
    return check_everything()


def check_everything() -> int:
    """Compare all backends on real logits, and check published numbers."""
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
