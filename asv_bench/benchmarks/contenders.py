"""What is measured: a job (the arrays of one workload) and who can do it.

Shared by the benchmarks of asv and by ``compare.py``.  Nothing heavy is imported before
a contender is asked for: a benchmark imports one peer, in a process of its own.
"""

import contextlib
import functools
import importlib
import importlib.util
import math
import os
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .frozen import BACKENDS, FUNCTIONS, WORKLOADS


class Job(NamedTuple):
    function: str  # a key of FUNCTIONS
    grad: bool
    axis: int
    dtype: str
    threads: int
    x: Any  # logits; or vectors of features
    labels: Any  # None, int64 indices, or an array like x
    weight: Any = None  # vectors of the classes
    sampled: Any = None  # ids, expected counts of the labels, and of the ids


# ------------------------------------------------------------------------------------
# Inputs.  A new family adds its labels here and its options to OPTIONS.

#: Numbers drawn at most; more are repetitions of whole leading entries, for drawing 33
#: million of them takes many times as long as what is timed.
DRAWN = 1 << 20


def _drawn(shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Any], dtype: Any) -> Any:
    inner = int(np.prod(shape[1:]))
    outer = min(shape[0], -(-DRAWN // inner))
    return np.resize(draw((outer, *shape[1:])).astype(dtype), shape)


def _index(rng: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    rest = list(shape)
    classes = rest.pop(axis)
    return rng.integers(0, classes, rest)


def _distributions(rng: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    def draw(shape):
        q = rng.random(shape)
        return q / q.sum(axis=axis, keepdims=True)

    return _drawn(shape, draw, dtype)


def _yes_or_no(rng: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    return _drawn(shape, lambda s: rng.integers(0, 2, s), dtype)


def _none(rng: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    return None


#: Features of a row of a linear layer unless said otherwise, and classes that are drawn.
FEATURES, SAMPLED = 128, 64

#: Family -> labels for logits of a shape.
LABELS = {
    "normalizer": _none,
    "index": _index,
    "dense": _distributions,
    "picked": _index,
    "sequence": _index,
    "linear": _index,
    "sampled": _index,
    "activation": _none,
    "binary": _yes_or_no,
}

#: Family -> the options of ours that its calls are given.
OPTIONS = {
    "normalizer": ("axis",),
    "index": ("axis", "reduction"),
    "dense": ("axis", "reduction"),
    "picked": ("axis", "reduction"),
    "sequence": (),
    "linear": ("reduction",),
    "sampled": ("reduction",),
    "activation": (),
    "binary": ("reduction",),
}


def make_job(
    function: str,
    shape: tuple[int, ...],
    axis: int = -1,
    dtype: str = "float32",
    grad: bool = False,
    threads: int = 1,
    features: int = FEATURES,
) -> Job:
    family = FUNCTIONS[function]
    if family == "sequence":  # (batch, time, classes)
        if len(shape) != 2:
            raise NotImplementedError(f"{function} takes rows of classes")
        steps = math.gcd(shape[0], 16)
        shape = (shape[0] // steps, steps, shape[1])
    rng = np.random.default_rng(20240607)
    narrow = numpy_dtype(dtype)

    def draw(shape):
        if function == "binary_cross_entropy":  # probabilities, also after rounding
            return rng.uniform(0.01, 0.99, shape)
        return rng.standard_normal(shape, dtype=np.float32)

    labels = LABELS[family](rng, shape, axis, narrow)
    if family in ("linear", "sampled"):
        if len(shape) != 2:
            raise NotImplementedError(f"{function} takes rows of classes")
        x, weight = (_drawn((n, features), draw, narrow) for n in shape)
        weight = (weight.astype(np.float32) * features**-0.5).astype(narrow)
        if family == "linear":
            return Job(function, grad, axis, dtype, threads, x, labels, weight)
        ids = rng.permutation(shape[1])[:SAMPLED]
        each = len(ids) / shape[1]
        sampled = ids, np.full(len(labels), each), np.full(len(ids), each)
        return Job(function, grad, axis, dtype, threads, x, labels, weight, sampled)
    x = _drawn(shape, draw, narrow)
    return Job(function, grad, axis, dtype, threads, x, labels)


def numpy_dtype(name: str) -> Any:
    if name == "bfloat16":
        return importlib.import_module("ml_dtypes").bfloat16
    return np.dtype(name)


# ------------------------------------------------------------------------------------
# Contenders: each is given a job and returns the call, or None where it does not offer
# the job.  A gradient call returns (loss, gradient), both of the mean.


def ours(job: Job, mode: str = "given") -> Callable[[], Any]:
    """One call on the backend that is set when it is made.

    Modes of a gradient: "given" (into an array of the caller's), "in place" (over the
    logits) and "fresh" (a new array each call).  An array-shaped normaliser writes into
    a given array.
    """
    import fastxent as fx

    family = FUNCTIONS[job.function]
    options: dict[str, Any] = {"axis": job.axis, "reduction": "mean"}
    options = {name: options[name] for name in OPTIONS[family]}
    arguments = tuple(a for a in (job.x, job.weight, job.labels) if a is not None)
    name = job.function + ("_with_grad" if job.grad else "")
    if not hasattr(fx, name):
        raise NotImplementedError(f"this commit has no {name}")
    if job.sampled is not None:
        options["sampled"] = job.sampled
    elif job.grad and mode != "fresh":
        if family == "linear":
            arrays = np.empty_like(job.x), np.empty_like(job.weight), None
            options["grad_out"] = fx.LinearGradients(*arrays)
        else:
            options["grad_out"] = job.x if mode == "in place" else np.empty_like(job.x)
    if job.labels is None and job.function != "logsumexp":
        options["out"] = np.empty_like(job.x)
    return functools.partial(getattr(fx, name), *arguments, **options)


# Peers: the call that their user would write; warmed up later.


def _torch(job: Job, how: str) -> Any:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(job.threads)

    def tensor(a):
        if a is None:
            return None
        if a.dtype.name == "bfloat16":  # torch takes no ml_dtypes array
            return torch.from_numpy(a.view("int16")).view(torch.bfloat16)
        return torch.from_numpy(a)

    x, labels, weight = tensor(job.x), tensor(job.labels), tensor(job.weight)
    axis = job.axis
    functions = {
        "sparse_softmax_cross_entropy": lambda x: F.cross_entropy(x, labels),
        "softmax_cross_entropy": lambda x: F.cross_entropy(x, labels),
        "logsumexp": lambda x: torch.logsumexp(x, axis),
        "softmax": lambda x: F.softmax(x, axis),
        "log_softmax": lambda x: F.log_softmax(x, axis),
        "nll_loss": lambda x: F.nll_loss(x, labels),
        "sequence_loss": lambda x: F.cross_entropy(x.flatten(0, 1), labels.flatten()),
        "linear_cross_entropy": lambda x: F.cross_entropy(x @ weight.T, labels),
        "sigmoid": torch.sigmoid,
        "log_sigmoid": F.logsigmoid,
        "sigmoid_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, labels),
        "binary_cross_entropy": lambda x: F.binary_cross_entropy(x, labels),
    }
    if job.function not in functions:
        return None
    function = functions[job.function]
    if how == "function transform":
        if not job.grad or weight is not None:
            return None
        torch._dynamo.reset()  # or the caches of earlier rows count against this one
        transformed = torch.compile(torch.func.grad_and_value(function), dynamic=False)

        def call():
            grad, loss = transformed(x)
            return loss, grad

        return call
    if how == "compiled":
        torch._dynamo.reset()
        function = torch.compile(function, dynamic=False)
    if not job.grad:
        return lambda: function(x)
    x = x.detach().requires_grad_()
    if weight is not None:
        weight.requires_grad_()

    def call():
        loss = function(x)
        loss.backward()
        grad, x.grad = x.grad, None
        if weight is not None:
            grad, weight.grad = (grad, weight.grad, None), None
        return loss, grad

    return call


def _narrow_index(labels: Any) -> Any:
    """Class indices as int32, which users of these peers have."""
    return labels.astype(np.int32) if labels.dtype.kind == "i" else labels


def _jax(job: Job) -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_enable_x64", job.dtype == "float64")
    axis = job.axis
    labels = None if job.labels is None else jnp.asarray(_narrow_index(job.labels))
    sparse, dense = optax.softmax_cross_entropy_with_integer_labels, optax.softmax_cross_entropy
    functions = {
        "sparse_softmax_cross_entropy": lambda x, y: sparse(x, y, axis=axis).mean(),
        "softmax_cross_entropy": lambda x, y: dense(x, y, axis=axis).mean(),
        "logsumexp": lambda x, y: jax.nn.logsumexp(x, axis=axis),
        "softmax": lambda x, y: jax.nn.softmax(x, axis=axis),
        "log_softmax": lambda x, y: jax.nn.log_softmax(x, axis=axis),
        "nll_loss": lambda x, y: -jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).mean(),
        "sequence_loss": lambda x, y: optax.softmax_cross_entropy_with_integer_labels(x, y).mean(),
        "linear_cross_entropy": lambda x, y: sparse(x[0] @ x[1].T, y).mean(),
        "sigmoid": lambda x, y: jax.nn.sigmoid(x),
        "log_sigmoid": lambda x, y: jax.nn.log_sigmoid(x),
        "sigmoid_cross_entropy": lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
        "binary_cross_entropy": lambda x, y: -(y * jnp.log(x) + (1 - y) * jnp.log1p(-x)).mean(),
    }
    if job.function not in functions:
        return None
    function = functions[job.function]
    x = jnp.asarray(job.x)
    if job.weight is not None:
        x = x, jnp.asarray(job.weight)
    compiled = jax.jit(jax.value_and_grad(function) if job.grad else function)
    return lambda: jax.block_until_ready(compiled(x, labels))


def _tensorflow(job: Job) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    # Only the first row may set it; later rows of the process have the same count.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(job.threads)
        tf.config.set_visible_devices([], "GPU")
    last = job.x.ndim - 1
    order = [*(i for i in range(last + 1) if i != job.axis % (last + 1)), job.axis % (last + 1)]
    labels = None if job.labels is None else tf.constant(_narrow_index(job.labels))

    def turned(x):  # the sparse op has no axis: its user transposes
        return x if order[-1] == last else tf.transpose(x, order)

    functions = {
        "sparse_softmax_cross_entropy": lambda x: tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=turned(x))
        ),
        "softmax_cross_entropy": lambda x: tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=x, axis=job.axis)
        ),
        "logsumexp": lambda x: tf.reduce_logsumexp(x, axis=job.axis),
        "softmax": lambda x: tf.nn.softmax(x, axis=job.axis),
        "log_softmax": lambda x: tf.nn.log_softmax(x, axis=job.axis),
        "sequence_loss": lambda x: tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
        ),
        "sigmoid": tf.nn.sigmoid,
        "log_sigmoid": tf.math.log_sigmoid,
        "sigmoid_cross_entropy": lambda x: tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=x)
        ),
        "binary_cross_entropy": lambda x: tf.reduce_mean(
            tf.keras.losses.binary_crossentropy(labels, x)
        ),
    }
    if job.sampled is not None:
        return _tensorflow_sampled(tf, job, labels)
    if job.function not in functions:
        return None
    function = functions[job.function]
    x = tf.constant(job.x)
    if not job.grad:
        compiled = tf.function(function)
        return lambda: compiled(x)

    @tf.function
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = function(x)
        return loss, tape.gradient(loss, x)

    return lambda: compiled(x)


def _tensorflow_sampled(tf: Any, job: Job, labels: Any) -> Any:
    """Gradients of the class vectors come in rows, as ours do."""
    if job.dtype not in ("float32", "float64"):
        return None  # hits make it NaN in half precision
    x, weight = tf.constant(job.x), tf.Variable(job.weight)
    bias = tf.zeros(len(job.weight), weight.dtype)
    ids, true, sampled = (tf.constant(a) for a in job.sampled)
    true, sampled = tf.cast(true[:, None], x.dtype), tf.cast(sampled, x.dtype)
    y = tf.cast(labels, tf.int64)[:, None]
    loss = getattr(tf.nn, job.function)

    def function(x):
        values = loss(
            weight, bias, y, x, len(job.sampled[0]), len(job.weight),
            sampled_values=(ids, true, sampled),
        )  # fmt: skip
        return tf.reduce_mean(values)

    @tf.function
    def compiled(x):
        if not job.grad:
            return function(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        d_x, rows = tape.gradient(value, [x, weight])
        return value, (d_x, rows.indices, rows.values)

    return lambda: compiled(x)


def _sklearn(job: Job) -> Any:
    from sklearn._loss.loss import HalfBinomialLoss, HalfMultinomialLoss

    if job.dtype not in ("float32", "float64"):
        return None
    if job.function == "sparse_softmax_cross_entropy" and job.x.ndim == 2:
        loss = HalfMultinomialLoss(n_classes=job.x.shape[1])
        x, y = job.x, job.labels.astype(job.x.dtype)
    elif job.function == "sigmoid_cross_entropy":
        loss = HalfBinomialLoss()
        x, y = job.x.reshape(-1), job.labels.reshape(-1)
    else:
        return None
    if not job.grad:
        return lambda: loss.loss(y, x, n_threads=job.threads).mean()

    def call():
        values, grad = loss.loss_gradient(y, x, n_threads=job.threads)
        grad /= len(y)  # of the mean, as the others return it
        return values.mean(), grad.reshape(job.x.shape)

    return call


def _scipy(job: Job) -> Any:
    from scipy import special

    if job.dtype not in ("float32", "float64"):
        return None
    return _around(special, job, job.x)


class _Hand:
    """SciPy's functions as written in NumPy by someone who knows of overflow."""

    @staticmethod
    def logsumexp(x, axis):
        m = x.max(axis=axis, keepdims=True)
        return (m + np.log(np.exp(x - m).sum(axis=axis, keepdims=True))).squeeze(axis)

    @staticmethod
    def softmax(x, axis):
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    @staticmethod
    def log_softmax(x, axis):
        d = x - x.max(axis=axis, keepdims=True)
        return d - np.log(np.exp(d).sum(axis=axis, keepdims=True))

    @staticmethod
    def expit(x):
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1, e) / (1 + e)

    @staticmethod
    def log_expit(x):
        return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def _by_hand(job: Job) -> Any:
    """Half inputs are widened in the call, and a gradient narrowed."""
    if job.dtype in ("float32", "float64"):
        return _around(_Hand, job, job.x)
    if _around(_Hand, job, job.x) is None:
        return None

    def call():
        result = _around(_Hand, job, job.x.astype(np.float32))()
        if job.weight is not None:
            return result
        return (result[0], result[1].astype(job.x.dtype)) if job.grad else result

    return call


def _around(special: Any, job: Job, x: Any) -> Any:
    """The obvious formulas around somebody's normalisers."""
    if job.sampled is not None:
        return _sampled(special, job, x)
    axis, labels = job.axis, job.labels
    if job.weight is not None:
        return _linear(special, job, x)
    rows = x.size // x.shape[axis]

    def at_labels(a):
        return np.take_along_axis(a, np.expand_dims(labels, axis), axis)

    def index():
        return (special.logsumexp(x, axis=axis) - at_labels(x).squeeze(axis)).mean()

    def index_grad():
        grad = special.softmax(x, axis=axis)
        of_label = at_labels(grad)
        value = -np.log(of_label).mean()
        np.put_along_axis(grad, np.expand_dims(labels, axis), of_label - 1, axis)
        grad /= rows
        return value, grad

    def dense():
        return -(labels * special.log_softmax(x, axis=axis)).sum() / rows

    def dense_grad():
        logp = special.log_softmax(x, axis=axis)
        return -(labels * logp).sum() / rows, (np.exp(logp) - labels) / rows

    def picked():
        return -at_labels(x).mean()

    def picked_grad():
        grad = np.zeros_like(x)
        np.put_along_axis(grad, np.expand_dims(labels, axis), -1 / rows, axis)
        return picked(), grad

    def logits():
        return ((1 - labels) * x - special.log_expit(x)).mean()

    def logits_grad():
        return logits(), (special.expit(x) - labels) / x.size

    def probabilities():
        return -(labels * np.log(x) + (1 - labels) * np.log1p(-x)).mean()

    def probabilities_grad():
        return probabilities(), (x - labels) / (x * (1 - x)) / x.size

    return {
        ("logsumexp", False): lambda: special.logsumexp(x, axis=axis),
        ("softmax", False): lambda: special.softmax(x, axis=axis),
        ("log_softmax", False): lambda: special.log_softmax(x, axis=axis),
        ("sparse_softmax_cross_entropy", False): index,
        ("sparse_softmax_cross_entropy", True): index_grad,
        ("softmax_cross_entropy", False): dense,
        ("softmax_cross_entropy", True): dense_grad,
        ("nll_loss", False): picked,
        ("nll_loss", True): picked_grad,
        ("sequence_loss", False): index,
        ("sequence_loss", True): index_grad,
        ("sigmoid", False): lambda: special.expit(x),
        ("log_sigmoid", False): lambda: special.log_expit(x),
        ("sigmoid_cross_entropy", False): logits,
        ("sigmoid_cross_entropy", True): logits_grad,
        ("binary_cross_entropy", False): probabilities,
        ("binary_cross_entropy", True): probabilities_grad,
    }.get((job.function, job.grad))


def _linear(special: Any, job: Job, x: Any) -> Any:
    """The logits as a whole, and what follows from their gradient."""
    weight = job.weight.astype(x.dtype)
    loss = "sparse_softmax_cross_entropy"

    def call():
        logits = job._replace(function=loss, weight=None)
        result = _around(special, logits, x @ weight.T)()
        if not job.grad:
            return result
        value, grad = result
        return value, (grad @ weight, grad.T @ x, None)

    return call


def _sampled(special: Any, job: Job, x: Any) -> Any:
    """The obvious formulas over label and sampled classes."""
    ids, true_expected, expected = job.sampled
    dtype, rows, weight = x.dtype, len(x), job.weight.astype(x.dtype, copy=False)
    where = np.concatenate([job.labels, ids])

    def logits():
        at_labels = np.einsum("bd,bd->b", x, weight[job.labels]) - np.log(true_expected)
        at_sampled = x @ weight[ids].T - np.log(expected)
        if job.function == "sampled_softmax_loss":
            at_sampled[job.labels[:, None] == ids] = -np.inf
        return np.concatenate([at_labels[:, None], at_sampled], axis=1).astype(dtype)

    def loss_and_slopes():
        values = logits()
        if job.function == "nce_loss":
            loss = -special.log_expit(-values).sum(1) - values[:, 0]
            slopes = special.expit(values) / dtype.type(rows)
        else:
            loss = special.logsumexp(values, axis=1) - values[:, 0]
            slopes = special.softmax(values, axis=1) / dtype.type(rows)
        slopes[:, 0] -= dtype.type(1 / rows)
        return loss.mean(), slopes

    def call():
        loss, slopes = loss_and_slopes()
        d_x = slopes[:, :1] * weight[job.labels] + slopes[:, 1:] @ weight[ids]
        d_rows = np.concatenate([slopes[:, :1] * x, slopes[:, 1:].T @ x])
        return loss, (d_x, where, d_rows)

    return call if job.grad else lambda: loss_and_slopes()[0]


#: name -> (module that must be importable, maker)
PEERS = {
    "torch": ("torch", functools.partial(_torch, how="eager")),
    "torch.compile": ("torch", functools.partial(_torch, how="compiled")),
    "torch.compile func": ("torch", functools.partial(_torch, how="function transform")),
    "JAX": ("optax", _jax),
    "TensorFlow": ("tensorflow", _tensorflow),
    "scikit-learn": ("sklearn", _sklearn),
    "SciPy": ("scipy", _scipy),
    "NumPy by hand": ("numpy", _by_hand),
}


# ------------------------------------------------------------------------------------
# For the benchmarks of asv.


def processors() -> int:
    """Threads for every contender: all processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require(contender: str) -> None:
    """Choose one of our backends, or see that a peer is installed; else skip."""
    if contender in BACKENDS:
        import fastxent as fx

        try:
            fx.set_config(backend=contender, threads=processors())
        except ValueError as error:
            raise NotImplementedError(str(error)) from None
        return
    module = PEERS[contender][0]
    if importlib.util.find_spec(module) is None:
        raise NotImplementedError(f"{module} is not installed")


#: Contenders of seconds a call, and the most elements that they are given.
SLOW = {"numpy": 1 << 23, "NumPy by hand": 1 << 23}


#: The most classes that have vectors.
MANY_CLASSES = 1 << 20


def prepare(
    contender: str, function: str, workload: str, dtype: str, grad: bool
) -> tuple[Job, Callable[[], Any]]:
    """A workload and a contender's call on it; NotImplementedError where there is none."""
    require(contender)
    shape, axis = WORKLOADS[workload]
    if np.prod(shape) > SLOW.get(contender, np.inf):
        raise NotImplementedError(f"{contender} would take seconds")
    if FUNCTIONS[function] in ("linear", "sampled") and shape[axis] > MANY_CLASSES:
        raise NotImplementedError(f"{function}: class vectors would take gigabytes")
    try:
        job = make_job(function, shape, axis, dtype, grad, processors())
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    call = ours(job) if contender in BACKENDS else PEERS[contender][1](job)
    if call is None:
        raise NotImplementedError(f"{contender} does not offer {function} of {dtype}")
    return job, call


def warm(call: Callable[[], Any]) -> None:
    """The first call, untimed; it finds out whether the backend has the kernel."""
    try:
        call()
    except AttributeError as error:  # of a commit between a loss and its kernel
        raise NotImplementedError(str(error)) from None


_folders: list[Any] = []  # kept until the process ends


def forget_compiled() -> None:
    """Give compilers empty caches in this process; before their first import."""
    for name in ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        _folders.append(tempfile.TemporaryDirectory())
        os.environ[name] = _folders[-1].name
