"""The lists that the benchmarks run over: frozen, append-only.

Today's benchmarks also run on old commits, and a stored result is found again by the
names in these lists.  So they are not read from the package that is measured: they are
copies of its registry, and ``tests/test_benchmarks.py`` keeps them equal.  An entry is
never renamed or taken out; a commit that lacks one skips it.
"""

#: Function -> family, which says what labels it takes (``contenders.LABELS``).
FUNCTIONS = {
    "logsumexp": "normalizer",
    "softmax": "normalizer",
    "log_softmax": "normalizer",
    "sparse_softmax_cross_entropy": "index",
    "softmax_cross_entropy": "dense",
    "nll_loss": "picked",
    "sequence_loss": "sequence",
    "sigmoid": "activation",
    "log_sigmoid": "activation",
    "sigmoid_cross_entropy": "binary",
    "binary_cross_entropy": "binary",
    "linear_cross_entropy": "linear",
    "nce_loss": "sampled",
    "sampled_softmax_loss": "sampled",
}


def of(*families: str) -> tuple[str, ...]:
    """The functions of some families."""
    return tuple(name for name, family in FUNCTIONS.items() if family in families)


#: Name -> (shape of the logits, class axis).
WORKLOADS = {
    "65536x10": ((65536, 10), -1),
    "4096x1000": ((4096, 1000), -1),
    "1024x30522": ((1024, 30522), -1),
    "256x128256": ((256, 128256), -1),
    "4x21x256x256": ((4, 21, 256, 256), 1),
    "1x10000000": ((1, 10_000_000), -1),
    "32x10": ((32, 10), -1),
}

DTYPES = ("float16", "bfloat16", "float32", "float64")

#: "workload dtype" for the functions that go through whole rows: all workloads in float32,
#: the other dtypes once within the caches and once beyond.  The full product took six
#: minutes (busy machine) for the forward pass of two losses.
CASES = tuple(
    f"{workload} {dtype}"
    for workload in WORKLOADS
    for dtype in DTYPES
    if dtype == "float32" or workload in ("4096x1000", "256x128256")
)

#: For the functions that share those loops, or have no classes: every workload, and of other
#: dtypes the one within the caches.
FEW_CASES = (
    "32x10 float32",
    "4096x1000 float16",
    "4096x1000 bfloat16",
    "4096x1000 float32",
    "4096x1000 float64",
    "256x128256 float32",
    "65536x10 float32",
    "1024x30522 float32",
    "4x21x256x256 float32",
    "1x10000000 float32",
)

#: Where memory is counted: one with rows, one with the class axis inside.
LARGE = ("256x128256", "4x21x256x256")

#: Backend words of this library.
BACKENDS = ("cython:v4", "cython:v3", "cython:baseline", "numba", "numpy", "cuda")

#: Names in ``contenders.PEERS``.
PEERS = (
    "NumPy by hand",
    "SciPy",
    "scikit-learn",
    "torch",
    "torch.compile",
    "JAX",
    "TensorFlow",
)

CONTENDERS = BACKENDS + PEERS

#: Contender -> its name in ``build_tools/error_table.py``; ours are not asked by name.
IN_ERROR_TABLE = dict.fromkeys(BACKENDS) | {
    "SciPy": "SciPy/NumPy",
    "torch": "torch",
    "JAX": "JAX",
    "TensorFlow": "TensorFlow",
}
