"""What each public function is, as data: the one registry.

Tests generate their product from it, benchmarks their parameters, the documentation
its tables.  Adding a function means adding a record here; a test that walks the
registry fails until the function has its tests, its benchmark and its page.
"""

from typing import NamedTuple

#: Floating dtypes of logits, by name.  ``bfloat16`` is recognised by its name only.
DTYPES = ("float16", "bfloat16", "float32", "float64")

#: Averages of a sequence loss.
AVERAGES = ("tokens", "examples", "timesteps", None)

#: Reductions of a loss; the three means differ in the denominator.
REDUCTIONS = ("none", "sum", "mean", "size_mean", "nonzero_mean")

#: Phases of a kernel: rows in one go; or their statistics first (so that pieces of a row
#: can be merged), then everything else from the statistics.
ALL, SCAN, FINISH = 0, 1, 2

#: Columns of a row's statistics (see ``_numpy``).
STATS = ("max", "rest", "weight", "gap", "nonzero")

#: Instruction sets of the compiled kernels, best first.
ISAS = ("v4", "v3", "baseline")


class Budget(NamedTuple):
    """Largest allowed error of one output against the exact result.

    An entry passes if its error is at most ``ulp`` units in the last place of the exact
    value (plus ``d`` units with ``per_gap``, where ``d`` is the gap from the largest to
    the next logit if the largest carries label mass, else 0), or at most ``floor32``
    (``floor64`` in double precision) times the scale named in ``floor_of``.  Half
    inputs: the float32 result of the widened logits, rounded once.
    """

    ulp: float
    per_gap: bool = False
    floor32: float = 0.0
    floor64: float = 0.0
    floor_of: str = ""


_LOSS = Budget(4, per_gap=True)
_LSE = Budget(4, floor_of="ulp of max(|maximum|, |lse|)")
_LOG_P = Budget(4, per_gap=True)  # -log_softmax is the loss of each class
_PROB = Budget(4, floor32=1e-7, floor64=2e-16, floor_of="largest probability")
_GRAD = Budget(4, floor32=1e-7, floor64=2e-16, floor_of="|coefficient of p| x largest probability")
_LABEL_ENTRY = Budget(4, per_gap=True)
_ENTRY = Budget(4)  # nothing cancels in an entry by itself
_ENTRY_GRAD = Budget(4, floor32=1e-7, floor64=2e-16, floor_of="|g| (|1-z| + |pos_weight z|)")
_PRODUCT = Budget(
    4, floor32=6e-8, floor64=1.1e-16,
    floor_of="D x largest sum_i |h_i weight_ki| + |bias_k|, to first order through the formula",
)  # fmt: skip


#: Of sampled losses: BLAS adds the products up in an order of its own.
_SAMPLED = Budget(
    4, floor32=1e-6, floor64=2e-15,
    floor_of="the sizes of the terms: |h_d W_kd|, |b_k| and |log c_k| in each logit, to first "
    "order through the formula",
)  # fmt: skip


class Spec(NamedTuple):
    """One public function."""

    name: str
    family: str  # a key of FAMILIES
    formula: str
    options: tuple[str, ...]  # keyword options beyond ``axis`` and ``out``
    budgets: dict[str, Budget]  # output -> budget; outputs: value, grad, label_entry
    invariants: tuple[str, ...]
    domain: str

    @property
    def is_loss(self) -> bool:
        return self.family not in ("normalizer", "activation")

    @property
    def has_classes(self) -> bool:
        """Is there an axis of classes; else each entry stands by itself."""
        return self.family not in ("activation", "binary")


#: Families of functions: what they take and give, in words.
FAMILIES = {
    "normalizer": "rows of scores; no labels",
    "index": "rows of scores, one class index per row",
    "dense": "rows of scores, a distribution over the classes per row",
    "picked": "rows of log-probabilities, one class index per row; only its entry is read",
    "sequence": "rows of scores over batch and time, one class index per row",
    "linear": "rows of features, a row of weights per class, one class index per row of features",
    "sampled": "vectors of rows and of classes, class indices per row, a few sampled classes",
    "activation": "entries by themselves; no labels",
    "binary": "entries by themselves, one label in [0, 1] each",
}


_ENTRY_INVARIANTS = (
    "label_swap",  # labels 1 - z at -x (of probabilities: 1 - p) have the same loss
    "linear_labels",  # linear in the labels
    "linear_weights",
)

_ROW_INVARIANTS = (
    "shift",  # adding a constant to a row changes nothing (z_loss = 0)
    "gradient_sum",  # a gradient row sums to 0; with z-loss to 2 g t lse
    "permutation",  # classes may be renumbered
    "smoothing_zero",  # label_smoothing=0 is the plain loss
    "linear_weights",  # linear in sample_weight for "none" and "sum"
    "one_hot",  # dense with one-hot labels is the index loss
)

SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            "logsumexp",
            "normalizer",
            "lse = log(sum_k exp(x_k))",
            ("where", "keepdims"),
            {"value": _LSE},
            ("shift", "permutation"),
            "any real x",
        ),
        Spec(
            "softmax",
            "normalizer",
            "p_k = exp(x_k - lse)",
            ("where",),
            {"value": _PROB},
            ("shift", "permutation"),
            "any real x",
        ),
        Spec(
            "log_softmax",
            "normalizer",
            "log p_k = x_k - lse",
            ("where",),
            {"value": _LOG_P},
            ("shift", "permutation"),
            "any real x",
        ),
        Spec(
            "sparse_softmax_cross_entropy",
            "index",
            "L = u [(1-e) w_y (lse - x_y) + (e/C) sum_k w_k (lse - x_k) + t lse^2]",
            (
                "sample_weight",
                "class_weight",
                "ignore_index",
                "label_smoothing",
                "z_loss",
                "where",
                "reduction",
            ),
            {"value": _LOSS, "grad": _GRAD, "label_entry": _LABEL_ENTRY},
            _ROW_INVARIANTS,
            "any real x; integer labels in [0, C)",
        ),
        Spec(
            "softmax_cross_entropy",
            "dense",
            "q'_k = w_k ((1-e) q_k + e/C);  L = u [sum_k q'_k (lse - x_k) + t lse^2]",
            ("sample_weight", "class_weight", "label_smoothing", "z_loss", "where", "reduction"),
            {"value": _LOSS, "grad": _GRAD},
            _ROW_INVARIANTS,
            "any real x; real labels of the same shape",
        ),
        Spec(
            "nll_loss",
            "picked",
            "L = -u w_y x_y",
            ("sample_weight", "class_weight", "ignore_index", "reduction"),
            {"value": _ENTRY, "grad": _ENTRY},
            ("linear_weights",),
            "log-probabilities (any real x); integer labels in [0, C)",
        ),
        Spec(
            "sequence_loss",
            "sequence",
            "averages of w_bt (lse_bt - x_bty) over tokens, examples or time steps",
            ("sample_weight", "average"),
            {"value": _LOSS, "grad": _GRAD},
            ("shift",),
            "any real x; integer labels in [0, V) where the weight is not 0",
        ),
        Spec(
            "linear_cross_entropy",
            "linear",
            "x_k = sum_i h_i weight_ki + bias_k;  L = u [(1-e) w_y (lse - x_y) + (e/C) sum_k w_k "
            "(lse - x_k) + t lse^2]",
            (
                "bias",
                "sample_weight",
                "class_weight",
                "ignore_index",
                "label_smoothing",
                "z_loss",
                "reduction",
            ),
            {"value": _PRODUCT, "grad": _PRODUCT},
            ("permutation", "smoothing_zero", "linear_weights"),
            "any real h, weight and bias; integer labels in [0, C)",
        ),
        Spec(
            "nce_loss",
            "sampled",
            "x_k = h . W_k + b_k - log c_k;  L = u [sum_t ((1-1/T) log(1 + exp(x_t)) + "
            "1/T log(1 + exp(-x_t))) + sum_s log(1 + exp(x_s))]",
            (
                "bias",
                "num_sampled",
                "sampler",
                "sampled",
                "remove_accidental_hits",
                "rng",
                "sample_weight",
                "reduction",
            ),
            {"value": _SAMPLED, "grad": _SAMPLED},
            ("candidates",),  # may come in any order
            "any real h, W and b; integer labels in [0, C); expected counts c > 0",
        ),
        Spec(
            "sampled_softmax_loss",
            "sampled",
            "x_k = h . W_k + b_k - log c_k;  L = u [lse(x_t, x_s) - 1/T sum_t x_t]",
            (
                "bias",
                "num_sampled",
                "sampler",
                "sampled",
                "remove_accidental_hits",
                "rng",
                "sample_weight",
                "reduction",
            ),
            {"value": _SAMPLED, "grad": _SAMPLED},
            ("candidates",),  # may come in any order
            "any real h, W and b; integer labels in [0, C); expected counts c > 0",
        ),
        Spec(
            "sigmoid",
            "activation",
            "p = 1 / (1 + exp(-x))",
            (),
            {"value": _ENTRY},
            ("label_swap",),
            "any real x",
        ),
        Spec(
            "log_sigmoid",
            "activation",
            "log p = -log(1 + exp(-x))",
            (),
            {"value": _ENTRY},
            ("label_swap",),
            "any real x",
        ),
        Spec(
            "sigmoid_cross_entropy",
            "binary",
            "z' = (1-e) z + e/2;  L = u [(1-z') log(1 + exp(x)) + pos_weight z' log(1 + exp(-x))]",
            ("sample_weight", "pos_weight", "label_smoothing", "reduction"),
            {"value": _ENTRY, "grad": _ENTRY_GRAD},
            _ENTRY_INVARIANTS,
            "any real x; real labels of the same shape",
        ),
        Spec(
            "binary_cross_entropy",
            "binary",
            "L = -u [z log p + (1-z) log(1-p)]",
            ("sample_weight", "reduction"),
            {
                "value": _ENTRY,
                "grad": Budget(
                    4, floor32=1e-7, floor64=2e-16, floor_of="|g| (|1-z| / (1-p) + |z| / p)"
                ),
            },
            _ENTRY_INVARIANTS,
            "p in [0, 1]; real labels of the same shape",
        ),
    )
}

#: Workloads of the speed table: (shape of the logits, class axis).
WORKLOADS = {
    "65536x10": ((65536, 10), -1),
    "4096x1000": ((4096, 1000), -1),
    "1024x30522": ((1024, 30522), -1),
    "256x128256": ((256, 128256), -1),
    "4x21x256x256": ((4, 21, 256, 256), 1),
    "1x10000000": ((1, 10_000_000), -1),
    "32x10": ((32, 10), -1),
}
