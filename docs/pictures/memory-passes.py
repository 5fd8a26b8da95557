"""What loss and gradient move through memory: the formula in NumPy, counted, and the library."""

import numpy as np

SIZE = 7.2, 3.6
ALT = (
    "Bars of what each operation of the NumPy formula reads and writes, in sizes of the logits: "
    "maximum, difference, exponential, sum, quotient, subtraction of the labels and division by "
    "the number of rows. Together they move about twelve such arrays; the library moves two."
)

SHAPE = 64, 1000


class Counted(np.ndarray):
    """An array that writes down what is done to it: (name, elements read, written)."""

    log: list = []  # noqa: RUF012 - one list for all arrays is meant

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        """Do it, and note it in units of the logits."""
        arrays = [np.asarray(a) for a in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(a) for a in out)
        result = getattr(ufunc, method)(*arrays, **options)
        size = np.prod(SHAPE)
        name = {"maximum": "max", "add": "sum", "true_divide": "divide"}.get(ufunc.__name__)
        self.log.append(
            (
                name or ufunc.__name__,
                sum(a.size for a in arrays) / size,
                np.size(result) / size,
            )
        )
        return result.view(Counted)


def formula(x, onehot):
    """Mean loss and its gradient, as people write it."""
    d = x - x.max(axis=1, keepdims=True)
    e = np.exp(d)
    p = e / e.sum(axis=1, keepdims=True)
    return (p - onehot) / len(x)


def draw(figure):
    """One bar per operation, and one for the library."""
    Counted.log.clear()
    x = np.zeros(SHAPE, np.float32).view(Counted)
    formula(x, np.eye(*SHAPE, dtype=np.float32))
    lines = [*Counted.log, ("fastxent: all of it", 1.0, 1.0)]
    lines.insert(-1, ("NumPy: all of it", *map(sum, zip(*(line[1:] for line in Counted.log)))))
    axes = figure.subplots()
    places = np.arange(len(lines))
    read, written = (np.array([line[k] for line in lines]) for k in (1, 2))
    axes.barh(places, read, label="read")
    axes.barh(places, written, left=read, label="written", hatch="//", edgecolor="none")
    axes.set_yticks(places, [line[0] for line in lines])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="sizes of the logits")
    axes.legend()
