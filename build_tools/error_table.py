"""Print the errors of this library and of its peers against the exact result, as Markdown.

    python build_tools/error_table.py
    python build_tools/error_table.py --by-family --dtypes float32 > errors.md
    python build_tools/error_table.py --dtypes float32 --backends cython:v4 \
        --json docs/pictures/errors.json        # what the picture on the site shows

Every contender gets the same inputs, already rounded to the dtype, and is held against
the exact result for those inputs.  An error is counted in units in the last place (ulp)
of the exact entry in the dtype *that the contender returned*: for half inputs this
library returns float32 losses and most peers half ones, so the cells name the dtype
where it is not that of the input.  Two things differ from that:

* ``logsumexp`` is counted in ulp of the larger of its exact value and the row's maximum,
  since the value itself may be as near to 0 as it likes;
* exact entries below the smallest normal number are left out of the ulp figures.

Entries of softmax and of the gradients are also counted in a coarser unit: epsilon times
the row's largest probability, or the entry's own ulp where that is larger.  ``p - q`` may
cancel to almost nothing, and a small ``p`` has the rounding of ``x - m`` blown up by the
exponential: neither matters beside the largest entry.

The exact result of float64 inputs comes from mpmath with 200 bits.  That of narrower
inputs comes from float64 arithmetic without cancellation; a sample of it is compared
with mpmath in each run, and the largest difference is printed.
"""

import argparse
import functools
import importlib
import itertools
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np

DTYPES = ("float32", "float64", "float16", "bfloat16")
BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
LOWEST = {"float64": -1022, "float32": -126, "float16": -14, "bfloat16": -126}
SHORT = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}

#: Shapes of each family; float64 has fewer, for mpmath takes 10 us an exponential.
SHAPES = ((4000, 10), (150, 1000), (3, 30522))
SHAPES_EXACT = ((1200, 10), (40, 1000), (1, 30522))

#: Output -> its entries are also counted in the coarser unit.
OUTPUTS = {
    "logsumexp": False,
    "softmax": True,
    "log_softmax": False,
    "sparse CE": False,
    "sparse CE gradient": True,
    "... entry of the label": False,
    "dense CE": False,
    "dense CE gradient": True,
}

# ------------------------------------------------------------------------------------
# Inputs.


class Case(NamedTuple):
    """Inputs of one family, shape and dtype, and what the exact results are."""

    x: Any  # logits in the dtype under test
    y: Any  # int64 labels
    q: Any  # label distributions in the dtype of x; each row sums to exactly 1
    exact: dict[str, tuple[Any, Any]]  # output -> (value, what the value leaves over)
    scale: Any  # max(|maximum|, |logsumexp|) of each row
    largest: Any  # largest probability of each row


def numpy_dtype(name: str) -> Any:
    if name == "bfloat16":
        return importlib.import_module("ml_dtypes").bfloat16
    return np.dtype(name)


def normal(rng: Any, shape: tuple[int, int]) -> Any:
    return rng.standard_normal(shape)


def wide(rng: Any, shape: tuple[int, int]) -> Any:
    return rng.uniform(-80, 80, shape)


def confident(rng: Any, shape: tuple[int, int]) -> Any:
    """One class stands 5 to 30 above the rest; it is the label."""
    x = rng.standard_normal(shape)
    top = rng.integers(0, shape[1], shape[0])
    x[np.arange(shape[0]), top] = x.max(axis=1) + rng.uniform(5, 30, shape[0])
    return x


def ties(rng: Any, shape: tuple[int, int]) -> Any:
    return rng.integers(-3, 4, shape).astype(float)


def offset(rng: Any, shape: tuple[int, int]) -> Any:
    return rng.standard_normal(shape) + 1e4


FAMILIES = {
    "normal": normal,
    "wide, +-80": wide,
    "confident": confident,
    "ties": ties,
    "offset 1e4": offset,
}


def make_case(family: str, shape: tuple[int, int], dtype: str, oracle: Any = None) -> Case:
    rng = np.random.default_rng([list(FAMILIES).index(family), *shape])
    x = FAMILIES[family](rng, shape).astype(numpy_dtype(dtype))
    rows, classes = shape
    if family == "confident":
        y = x.astype(np.float64).argmax(axis=1)
        q = np.zeros(shape)
        q[np.arange(rows), y] = 1
    else:
        y = rng.integers(0, classes, rows)
        # Counts of 64 draws: exact in every dtype, and the sum is exactly 1, which some
        # peers take for granted.
        q = rng.multinomial(64, np.full(classes, 1 / classes), rows) / 64
    oracle = oracle or (exact_mpmath if dtype == "float64" else exact_double)
    wide_x = x.astype(np.float64)
    exact = oracle(wide_x, y, q)
    return Case(
        x,
        y,
        q.astype(x.dtype),
        exact,
        np.maximum(np.abs(wide_x.max(axis=1)), np.abs(exact["logsumexp"][0])),
        exact["softmax"][0].max(axis=1),
    )


# ------------------------------------------------------------------------------------
# Exact results.  With m the maximum and d = m - x: S = sum of exp(-d) over all classes
# but one maximum, r = log1p(S); every result is a sum or a quotient of terms of one
# sign, but for lse = m + r and p - q.


def exact_double(x: Any, y: Any, q: Any) -> dict[str, tuple[Any, Any]]:
    rows = np.arange(len(x))
    m = x.max(axis=1)
    d = m[:, None] - x
    e = np.exp(-d)
    rest = e.copy()
    rest[rows, x.argmax(axis=1)] = 0
    s = rest.sum(axis=1)
    r = np.log1p(s)
    p = e / (1 + s)[:, None]
    others = e.copy()
    others[rows, y] = 0
    grad = p.copy()
    grad[rows, y] = np.nan  # counted as the label's entry
    values = {
        "logsumexp": m + r,
        "softmax": p,
        "log_softmax": -(d + r[:, None]),
        "sparse CE": d[rows, y] + r,
        "sparse CE gradient": grad,
        "... entry of the label": -others.sum(axis=1) / (1 + s),
        "dense CE": (q * (d + r[:, None])).sum(axis=1),
        "dense CE gradient": _p_minus_q(e, s, q),
    }
    return {name: (value, np.zeros_like(value)) for name, value in values.items()}


def _p_minus_q(e: Any, s: Any, q: Any) -> Any:
    """``p - q``, and where q = 1 minus the sum of the other probabilities."""
    grad = e / (1 + s)[:, None] - q
    row, label = np.nonzero(q == 1)
    others = e[row].copy()
    others[np.arange(len(row)), label] = 0
    grad[row, label] = -others.sum(axis=1) / (1 + s[row])
    return grad


def exact_mpmath(x: Any, y: Any, q: Any) -> dict[str, tuple[Any, Any]]:
    found: dict[str, list[Any]] = {name: [] for name in OUTPUTS}
    with mpmath.workprec(200):
        for row, label, weights in zip(x, y, q, strict=True):
            values = [mpmath.mpf(v) for v in row.tolist()]
            weights = weights.tolist()
            top = int(row.argmax())
            d = [values[top] - v for v in values]
            e = [mpmath.exp(-v) for v in d]
            s = mpmath.fsum(e[:top] + e[top + 1 :])
            r, total = mpmath.log1p(s), 1 + s
            p = [v / total for v in e]
            label_entry = -mpmath.fsum(p[:label] + p[label + 1 :])
            grad = list(p)
            grad[label] = mpmath.nan
            ell = [v + r for v in d]
            dense = [v - w for v, w in zip(p, weights, strict=True)]
            for k, w in enumerate(weights):
                if w == 1:
                    dense[k] = -mpmath.fsum(p[:k] + p[k + 1 :])
            found["logsumexp"].append(values[top] + r)
            found["softmax"].append(p)
            found["log_softmax"].append([-v for v in ell])
            found["sparse CE"].append(ell[label])
            found["sparse CE gradient"].append(grad)
            found["... entry of the label"].append(label_entry)
            found["dense CE"].append(
                mpmath.fsum(w * v for w, v in zip(weights, ell, strict=True) if w)
            )
            found["dense CE gradient"].append(dense)
        return {name: _two_doubles(values) for name, values in found.items()}


def _two_doubles(values: list[Any]) -> tuple[Any, Any]:
    nested = isinstance(values[0], list)
    flat = list(itertools.chain.from_iterable(values)) if nested else values
    high = [float(v) for v in flat]
    low = [float(v - h) if h == h else 0.0 for v, h in zip(flat, high, strict=True)]
    shape = (len(values), -1) if nested else (len(values),)
    return np.array(high).reshape(shape), np.array(low).reshape(shape)


def check_double() -> float:
    """Largest difference of the two oracles, in ulp of float32, on a sample."""
    worst = 0.0
    for family in FAMILIES:
        for shape in ((40, 10), (4, 1000)):
            case = make_case(family, shape, "float32")
            q = case.q.astype(np.float64)
            exact = exact_mpmath(case.x.astype(np.float64), case.y, q)
            for name in OUTPUTS:
                other = case._replace(exact=exact)
                error = errors(name, case.exact[name][0], "float32", other)[0]
                worst = max(worst, error.max(initial=0))
    return worst


# ------------------------------------------------------------------------------------
# Contenders: (x, y, q) -> output -> array.  Losses are per row, gradients those of the sum.


def ours(word: str, x: Any, y: Any, q: Any) -> dict[str, Any]:
    import fastxent as fx

    with fx.config(backend=word):
        sparse = functools.partial(fx.sparse_softmax_cross_entropy_with_grad, x, y)
        dense = functools.partial(fx.softmax_cross_entropy_with_grad, x, q)
        return {
            "logsumexp": fx.logsumexp(x),
            "softmax": fx.softmax(x),
            "log_softmax": fx.log_softmax(x),
            "sparse CE": fx.sparse_softmax_cross_entropy(x, y),
            "sparse CE gradient": sparse()[1],
            "dense CE": fx.softmax_cross_entropy(x, q),
            "dense CE gradient": dense()[1],
        }


def torch(x: Any, y: Any, q: Any) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    def tensor(a):
        if a.dtype.name == "bfloat16":
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    def array(t):
        t = t.detach()
        if t.dtype == torch.bfloat16:
            return t.view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
        return t.numpy()

    x, y, q = tensor(x), torch.from_numpy(y), tensor(q)

    def grad(labels):
        leaf = x.clone().requires_grad_()
        F.cross_entropy(leaf, labels, reduction="sum").backward()
        return array(leaf.grad)

    return {
        "logsumexp": array(torch.logsumexp(x, -1)),
        "softmax": array(F.softmax(x, -1)),
        "log_softmax": array(F.log_softmax(x, -1)),
        "sparse CE": array(F.cross_entropy(x, y, reduction="none")),
        "sparse CE gradient": grad(y),
        "dense CE": array(F.cross_entropy(x, q, reduction="none")),
        "dense CE gradient": grad(q),
    }


@functools.cache
def _jax_functions() -> dict[str, Any]:
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    sparse = optax.softmax_cross_entropy_with_integer_labels
    dense = optax.softmax_cross_entropy
    functions = {
        "logsumexp": lambda x, y, q: jax.nn.logsumexp(x, axis=-1),
        "softmax": lambda x, y, q: jax.nn.softmax(x),
        "log_softmax": lambda x, y, q: jax.nn.log_softmax(x),
        "sparse CE": lambda x, y, q: sparse(x, y),
        "sparse CE gradient": jax.grad(lambda x, y, q: sparse(x, y).sum()),
        "dense CE": lambda x, y, q: dense(x, q),
        "dense CE gradient": jax.grad(lambda x, y, q: dense(x, q).sum()),
    }
    return {name: jax.jit(function) for name, function in functions.items()}


def jax(x: Any, y: Any, q: Any) -> dict[str, Any]:
    return {name: np.asarray(function(x, y, q)) for name, function in _jax_functions().items()}


def tensorflow(x: Any, y: Any, q: Any) -> dict[str, Any]:
    import tensorflow as tf

    x, y, q = tf.constant(x), tf.constant(y), tf.constant(q)

    def sparse(x):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)

    def dense(x):
        return tf.nn.softmax_cross_entropy_with_logits(labels=q, logits=x)

    def grad(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = function(x)
        return tape.gradient(loss, x)

    found = {
        "logsumexp": tf.reduce_logsumexp(x, axis=-1),
        "softmax": tf.nn.softmax(x),
        "log_softmax": tf.nn.log_softmax(x),
        "sparse CE": sparse(x),
        "sparse CE gradient": grad(sparse),
        "dense CE": dense(x),
        "dense CE gradient": grad(dense),
    }
    return {name: value.numpy() for name, value in found.items()}


def scipy(x: Any, y: Any, q: Any) -> dict[str, Any]:
    """SciPy's normalisers and the obvious NumPy formulas around them."""
    from scipy import special

    if x.dtype.name == "bfloat16":
        raise TypeError("SciPy does not know bfloat16")
    rows = np.arange(len(x))
    p, logp = special.softmax(x, axis=-1), special.log_softmax(x, axis=-1)
    lse = special.logsumexp(x, axis=-1)
    grad = p.copy()
    grad[rows, y] -= 1
    return {
        "logsumexp": lse,
        "softmax": p,
        "log_softmax": logp,
        "sparse CE": lse - x[rows, y],
        "sparse CE gradient": grad,
        "dense CE": -(q * logp).sum(axis=-1),
        "dense CE gradient": p - q,
    }


PEERS = {
    "torch": ("torch", torch),
    "JAX": ("optax", jax),
    "TensorFlow": ("tensorflow", tensorflow),
    "SciPy/NumPy": ("scipy", scipy),
}

# ------------------------------------------------------------------------------------
# Errors.


def errors(name: str, got: Any, dtype: str, case: Case) -> tuple[Any, Any]:
    """Errors in ulp, and in the coarser unit; flat arrays."""
    high, low = case.exact[name]
    bits = BITS[dtype]
    with np.errstate(all="ignore"):
        error = np.abs((got.astype(np.float64) - high) - low)
        error = np.where(np.isnan(error), np.inf, error)  # a NaN is as wrong as can be
        size = case.scale if name == "logsumexp" else np.abs(high)
        counted = np.isfinite(high) & (size >= 2.0 ** LOWEST[dtype])
        exponent = np.frexp(np.where(counted, size, 1))[1]
        unit = np.ldexp(1.0, exponent - bits)
        ulp = (error / unit)[counted]
        if not OUTPUTS[name]:
            return ulp, np.empty(0)
        coarse = case.largest[:, None] * 2.0 ** (1 - bits)
        coarse = np.where(counted, np.maximum(coarse, unit), coarse)
        relative = (error / coarse)[np.isfinite(high)]
    return ulp, relative


class Figure(NamedTuple):
    """Worst and 99.9th percentile, in ulp and in the coarser unit."""

    ulp: tuple[float, float]
    relative: tuple[float, float]
    dtype: str


def figure(parts: list[tuple[Any, Any]], dtype: str) -> Figure:
    def both(arrays):
        flat = np.concatenate(arrays)
        if not flat.size:
            return (float("nan"), float("nan"))
        return float(flat.max()), float(np.quantile(flat, 0.999, method="higher"))

    return Figure(both([a for a, _ in parts]), both([b for _, b in parts]), dtype)


def contenders(words: list[str]) -> dict[str, Any]:
    found = {word: functools.partial(ours, word) for word in words}
    for name, (module, function) in PEERS.items():
        try:
            importlib.import_module(module)
            found[name] = function
        except Exception as error:  # a broken install must not end the run
            print(f"{name} left out: {type(error).__name__}: {error}", file=sys.stderr)
    return found


def run(dtypes: list[str], words: list[str]) -> tuple[dict, list[str]]:
    """(output, dtype, contender, family) -> Figure; and the names of the contenders."""
    rivals = contenders(words)
    parts: dict[tuple, list] = {}
    returned: dict[tuple, str] = {}
    refused: dict[tuple, str] = {}
    for dtype, family in itertools.product(dtypes, FAMILIES):
        start = time.perf_counter()
        for shape in SHAPES_EXACT if dtype == "float64" else SHAPES:
            case = make_case(family, shape, dtype)
            for rival, function in rivals.items():
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        results = function(case.x, case.y, case.q)
                except Exception as error:  # not every peer takes every dtype
                    refused[rival, dtype] = f"{type(error).__name__}: {str(error)[:100]}"
                    continue
                grad = results["sparse CE gradient"]
                results["... entry of the label"] = grad[np.arange(len(grad)), case.y]
                for name, got in results.items():
                    key = name, dtype, rival, family
                    returned[key] = got.dtype.name
                    parts.setdefault(key, []).append(errors(name, got, got.dtype.name, case))
        print(f"{dtype}, {family}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for (rival, dtype), text in refused.items():
        print(f"{rival}, {dtype}: {text}", file=sys.stderr)
    return {key: figure(found, returned[key]) for key, found in parts.items()}, list(rivals)


# ------------------------------------------------------------------------------------
# The report.


UNITS = {"ulp": "ulp", "relative": "epsilon x largest probability of the row"}


def number(value: float) -> str:
    if value != value:
        return ""
    if value >= 1000:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def cell(pair: tuple[float, float], returned: str, dtype: str) -> str:
    if pair[0] != pair[0]:
        return ""
    note = "" if returned == dtype else f" ({SHORT.get(returned, returned)})"
    return f"{number(pair[0])} / {number(pair[1])}{note}"


def worst(figures: list[Figure], field: str) -> tuple[float, float]:
    """Over the families: the worst entry, and the worst of the 99.9th percentiles."""
    pairs = [getattr(one, field) for one in figures]
    return max(p[0] for p in pairs), max(p[1] for p in pairs)


def summary(
    found: dict, dtypes: list[str], rivals: list[str], field: str, families: tuple[str, ...]
) -> list[str]:
    lines = [f"| output | dtype | {' | '.join(rivals)} |", "|---" * (len(rivals) + 2) + "|"]
    for name, dtype in itertools.product(OUTPUTS, dtypes):
        if field == "relative" and not OUTPUTS[name]:
            continue
        cells = []
        for rival in rivals:
            figures = [found[k] for f in families if (k := (name, dtype, rival, f)) in found]
            pair = worst(figures, field) if figures else None
            cells.append(cell(pair, figures[0].dtype, dtype) if pair else "-")
        lines.append(f"| {name} | {dtype} | {' | '.join(cells)} |")
    return lines


def by_family(found: dict, dtypes: list[str], rivals: list[str], field: str) -> list[str]:
    lines = [
        f"| output | dtype | contender | {' | '.join(FAMILIES)} |",
        "|---" * (len(FAMILIES) + 3) + "|",
    ]
    for name, dtype, rival in itertools.product(OUTPUTS, dtypes, rivals):
        if field == "relative" and not OUTPUTS[name]:
            continue
        figures = [found.get((name, dtype, rival, family)) for family in FAMILIES]
        if any(figures):
            cells = [cell(getattr(f, field), f.dtype, dtype) if f else "-" for f in figures]
            lines.append(f"| {name} | {dtype} | {rival} | {' | '.join(cells)} |")
    return lines


def record(path: str, found: dict, dtypes: list[str], rivals: list[str]) -> None:
    """Write the worst error over all inputs: dtype -> output -> contender -> (number, unit)."""
    table: dict[str, dict] = {}
    for dtype, name, rival in itertools.product(dtypes, OUTPUTS, rivals):
        figures = [found[k] for f in FAMILIES if (k := (name, dtype, rival, f)) in found]
        if figures:
            field = "relative" if OUTPUTS[name] else "ulp"
            entry = table.setdefault(dtype, {}).setdefault(name, {"unit": UNITS[field]})
            entry[rival] = float(f"{worst(figures, field)[0]:.3g}")
    Path(path).write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--backends", default="", help="backend words; default: every usable one")
    parser.add_argument("--by-family", action="store_true", help="a table by input family too")
    parser.add_argument("--json", metavar="FILE", help="write the worst errors there too")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start = time.perf_counter()
    try:
        importlib.import_module("fastxent")
        usable = list(importlib.import_module("fastxent._backends").words())
        words = options.backends.split(",") if options.backends else usable
    except ImportError as error:
        words = []
        print(f"fastxent left out: {error}", file=sys.stderr)
    dtypes = options.dtypes.split(",")
    if "bfloat16" in dtypes:
        try:
            numpy_dtype("bfloat16")
        except ImportError:
            dtypes.remove("bfloat16")
            print("bfloat16 left out: it needs ml_dtypes", file=sys.stderr)
    found, rivals = run(dtypes, words)
    if options.json:
        record(options.json, found, dtypes, rivals)
    families = ", ".join(FAMILIES)
    shapes = ", ".join(f"{a} x {b}" for a, b in SHAPES)
    fewer = ", ".join(f"{a} x {b}" for a, b in SHAPES_EXACT)
    print(f"Inputs: {families}; {shapes} (float64: {fewer}).\n")
    print("Each cell: worst error / 99.9 % of the entries are below.")
    for title, chosen in (
        ("normal inputs", ("normal",)),
        ("the worst of all families", tuple(FAMILIES)),
    ):
        for field, unit in UNITS.items():
            print(f"\nIn {unit}, {title}:\n")
            print("\n".join(summary(found, dtypes, rivals, field, chosen)))
    if options.by_family:
        for field, unit in UNITS.items():
            print(f"\nIn {unit}, by family:\n")
            print("\n".join(by_family(found, dtypes, rivals, field)))
    print(f"\nThe two oracles differ by at most {check_double():.1e} ulp of float32.")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
