"""Print the errors of the sigmoid family, ours and the peers', over [-100, 100], as Markdown.

    python build_tools/sigmoid_error_table.py
    python build_tools/sigmoid_error_table.py --dtypes float32 --backends numpy

Every contender gets the same logits, already rounded to the dtype, with labels 0, 1 and 0.3,
and is held against the exact result for those inputs, from mpmath.  An error is counted in
units in the last place (ulp) of the exact entry in the dtype that the contender returned: half
losses of this library are float32.  Results below the smallest normal number are a table of
their own: there a result may be flushed to 0 as a whole.

Gradients are also counted in a coarser unit, epsilon x (|1-z| + |pos_weight z|), or the entry's
own ulp where that is larger: ``(1-z) p - pos_weight z (1-p)`` may cancel to almost nothing.
"""

import argparse
import functools
import importlib
import os
import sys
import time
import warnings
from typing import Any, NamedTuple

import mpmath
import numpy as np
from error_table import BITS, LOWEST, SHORT, number, numpy_dtype

POS_WEIGHTS = (None, 0.01, 3.0, 1000.0)
LABELS = (0.0, 1.0, 0.3)


class Inputs(NamedTuple):
    """Logits, and labels of the same shape and dtype."""

    x: Any
    z: Any


def inputs(dtype: str) -> Inputs:
    """A grid over [-100, 100], and powers of two down to 2^-30 on both sides of 0."""
    small = 2.0 ** -np.arange(31.0)
    x = np.concatenate([np.linspace(-100, 100, 4001), small, -small]).astype(numpy_dtype(dtype))
    x, z = np.meshgrid(x, LABELS)
    return Inputs(x.astype(numpy_dtype(dtype)), z.astype(numpy_dtype(dtype)))


# ------------------------------------------------------------------------------------
# Exact results, as a pair of doubles; and the scale of the gradient.


@functools.cache
def _terms(x: float) -> tuple[Any, ...]:
    """log(1 + e^x), log(1 + e^-x), sigmoid(x), sigmoid(-x)."""
    with mpmath.workdps(120):
        up, down = mpmath.exp(x), mpmath.exp(-x)
        return mpmath.log(1 + up), mpmath.log(1 + down), 1 / (1 + down), 1 / (1 + up)


def _pairs(values: list[Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    high = [float(v) for v in values]
    low = [float(v - h) for v, h in zip(values, high, strict=True)]
    return np.array(high).reshape(shape), np.array(low).reshape(shape)


def exact(given: Inputs, pos_weight: float | None) -> dict[str, tuple[Any, Any, Any]]:
    """Output -> (value, what the value leaves over, scale of the coarser unit or None)."""
    x = given.x.astype(np.float64)
    z, w = given.z.astype(np.float64), 1.0 if pos_weight is None else pos_weight
    found: dict[str, list[Any]] = {"sigmoid": [], "log_sigmoid": [], "loss": [], "gradient": []}
    with mpmath.workdps(120):
        weight = mpmath.mpf(w)
        for score, label in zip(x.ravel().tolist(), z.ravel().tolist(), strict=True):
            cost_0, cost_1, p, q = _terms(score)
            label = mpmath.mpf(label)
            found["sigmoid"].append(p)
            found["log_sigmoid"].append(-cost_1)
            found["loss"].append((1 - label) * cost_0 + weight * label * cost_1)
            found["gradient"].append((1 - label) * p - weight * label * q)
        scales = {"gradient": np.abs(1 - z) + np.abs(w * z)}
        return {
            name: (*_pairs(values, x.shape), scales.get(name)) for name, values in found.items()
        }


# ------------------------------------------------------------------------------------
# Contenders: (inputs, pos_weight) -> output -> array; None where it has no pos_weight.


def ours(word: str, given: Inputs, pos_weight: float | None) -> dict[str, Any]:
    import fastxent as fx

    with fx.config(backend=word):
        loss, grad = fx.sigmoid_cross_entropy_with_grad(*given, pos_weight=pos_weight)
        return {
            "sigmoid": fx.sigmoid(given.x),
            "log_sigmoid": fx.log_sigmoid(given.x),
            "loss": loss,
            "gradient": grad,
        }


def torch(given: Inputs, pos_weight: float | None) -> dict[str, Any]:
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

    x, z = (tensor(np.ascontiguousarray(a)) for a in given)
    x.requires_grad_()
    weight = None if pos_weight is None else torch.tensor(pos_weight, dtype=x.dtype)
    loss = F.binary_cross_entropy_with_logits(x, z, pos_weight=weight, reduction="none")
    (grad,) = torch.autograd.grad(loss.sum(), x)
    return {
        "sigmoid": array(torch.sigmoid(x)),
        "log_sigmoid": array(F.logsigmoid(x)),
        "loss": array(loss),
        "gradient": array(grad),
    }


def tensorflow(given: Inputs, pos_weight: float | None) -> dict[str, Any]:
    import tensorflow as tf

    x, z = (tf.constant(a) for a in given)
    with tf.GradientTape() as tape:
        tape.watch(x)
        if pos_weight is None:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=z, logits=x)
        else:
            loss = tf.nn.weighted_cross_entropy_with_logits(
                labels=z, logits=x, pos_weight=pos_weight
            )
    found = {
        "sigmoid": tf.nn.sigmoid(x),
        "log_sigmoid": tf.math.log_sigmoid(x),
        "loss": loss,
        "gradient": tape.gradient(loss, x),
    }
    return {name: value.numpy() for name, value in found.items()}


def optax(given: Inputs, pos_weight: float | None) -> dict[str, Any] | None:
    import jax
    import optax

    if pos_weight is not None:
        return None
    jax.config.update("jax_enable_x64", True)

    def loss(x, z):
        return optax.sigmoid_binary_cross_entropy(x, z)

    found = {
        "sigmoid": jax.jit(jax.nn.sigmoid)(given.x),
        "log_sigmoid": jax.jit(jax.nn.log_sigmoid)(given.x),
        "loss": jax.jit(loss)(*given),
        "gradient": jax.jit(jax.grad(lambda x, z: loss(x, z).sum()))(*given),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def numpy(given: Inputs, pos_weight: float | None) -> dict[str, Any]:
    """SciPy's functions, and the usual stable formulas in the dtype of the inputs."""
    from scipy import special

    x, z = given
    one = x.dtype.type(1)
    w = one if pos_weight is None else x.dtype.type(pos_weight)
    p = special.expit(x)
    softplus = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)
    return {
        "sigmoid": p,
        "log_sigmoid": special.log_expit(x),
        "loss": (one - z) * x + (one + (w - one) * z) * softplus,
        "gradient": (one - z) * p - w * z * (one - p),
    }


PEERS = {
    "torch": ("torch", torch),
    "TensorFlow": ("tensorflow", tensorflow),
    "JAX/optax": ("optax", optax),
    "SciPy/NumPy": ("scipy", numpy),
}

# ------------------------------------------------------------------------------------
# Errors, and the report.


def errors(got: Any, want: tuple[Any, Any, Any]) -> dict[str, Any]:
    """Errors of the normal results in ulp, of the subnormal ones, and in the coarser unit."""
    high, low, scale = want
    dtype = got.dtype.name
    bits, lowest = BITS[dtype], LOWEST[dtype]
    with np.errstate(all="ignore"):
        error = np.abs((got.astype(np.float64) - high) - low)
    error = np.where(np.isnan(error), np.inf, error)
    exponent = np.maximum(np.frexp(np.where(high == 0, 1, high))[1], lowest + 1)
    unit = np.ldexp(1.0, exponent - bits)
    normal = np.abs(high) >= 2.0**lowest
    found = {"normal": (error / unit)[normal], "subnormal": (error / unit)[~normal & (high != 0)]}
    if scale is not None:
        found["coarse"] = (error / np.maximum(unit, scale * 2.0 ** (1 - bits))).ravel()
    return found


def cell(errors: Any, returned: str, dtype: str) -> str:
    if not errors.size:
        return ""
    note = "" if returned == dtype else f" ({SHORT[returned]})"
    return f"{number(errors.max())} / {number(np.quantile(errors, 0.999, method='higher'))}{note}"


def rows(dtypes: list[str], rivals: dict[str, Any]) -> dict[str, list[str]]:
    """Title of a table -> its lines."""
    titles = {
        "normal": "In ulp, results that are normal numbers",
        "subnormal": "In ulp, subnormal results",
        "coarse": "In epsilon x (|1-z| + |pos_weight z|)",
    }
    tables: dict[str, list[str]] = {title: [] for title in titles.values()}
    for dtype in dtypes:
        given = inputs(dtype)
        for pos_weight in POS_WEIGHTS:
            # The weight as the contenders get it, in the dtype of the logits.
            weight = None if pos_weight is None else float(given.x.dtype.type(pos_weight))
            want = exact(given, weight)
            results = {}
            for rival, function in rivals.items():
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        results[rival] = function(given, weight) or {}
                except Exception as error:  # not every peer takes every dtype
                    print(f"{rival}, {dtype}: {type(error).__name__}: {error}", file=sys.stderr)
                    results[rival] = {}
            for name in want:
                if name.endswith("sigmoid") and pos_weight is not None:
                    continue
                label = name if pos_weight is None else f"{name}, pos_weight {pos_weight:g}"
                found = {
                    rival: (errors(got[name], want[name]), got[name].dtype.name)
                    for rival, got in results.items()
                    if got
                }
                for kind, title in titles.items():
                    cells = [
                        cell(found[r][0][kind], found[r][1], dtype)
                        if r in found and kind in found[r][0]
                        else "-"
                        for r in rivals
                    ]
                    if any(c not in ("", "-") for c in cells):
                        tables[title].append(f"| {label} | {dtype} | {' | '.join(cells)} |")
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtypes", default="float32,float64,float16,bfloat16")
    parser.add_argument("--backends", default="", help="backend words; default: every usable one")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start = time.perf_counter()
    usable = list(importlib.import_module("fastxent._backends").words())
    words = options.backends.split(",") if options.backends else usable
    rivals: dict[str, Any] = {word: functools.partial(ours, word) for word in words}
    for name, (module, function) in PEERS.items():
        try:
            importlib.import_module(module)
            rivals[name] = function
        except Exception as error:  # a broken install must not end the run
            print(f"{name} left out: {type(error).__name__}: {error}", file=sys.stderr)
    print("Each cell: worst error / 99.9 % of the entries are below.")
    for title, lines in rows(options.dtypes.split(","), rivals).items():
        print(f"\n{title}:\n")
        print(f"| output | dtype | {' | '.join(rivals)} |")
        print("|---" * (len(rivals) + 2) + "|")
        print("\n".join(lines))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
