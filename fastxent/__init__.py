"""Cross-entropy losses and their gradients on NumPy arrays, at the speed of memory."""

from . import compat, samplers
from ._version import __version__
from .linear import LinearGradients, linear_cross_entropy, linear_cross_entropy_with_grad
from .losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_grad,
    nll_loss,
    nll_loss_with_grad,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_with_grad,
    softmax_cross_entropy,
    softmax_cross_entropy_with_grad,
    sparse_softmax_cross_entropy,
    sparse_softmax_cross_entropy_with_grad,
)
from .normalizers import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax
from .sampled import (
    SampledGradients,
    nce_loss,
    nce_loss_with_grad,
    sampled_softmax_loss,
    sampled_softmax_loss_with_grad,
    scatter_add,
)
from .sequence import (
    sequence_loss,
    sequence_loss_by_example,
    sequence_loss_by_example_with_grad,
    sequence_loss_with_grad,
)
from .settings import config, get_config, set_config, show_config, warmup

__all__ = [
    "LinearGradients",
    "SampledGradients",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "compat",
    "config",
    "get_config",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "nce_loss",
    "nce_loss_with_grad",
    "nll_loss",
    "nll_loss_with_grad",
    "sampled_softmax_loss",
    "sampled_softmax_loss_with_grad",
    "samplers",
    "scatter_add",
    "sequence_loss",
    "sequence_loss_by_example",
    "sequence_loss_by_example_with_grad",
    "sequence_loss_with_grad",
    "set_config",
    "show_config",
    "sigmoid",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_grad",
    "sparse_softmax_cross_entropy",
    "sparse_softmax_cross_entropy_with_grad",
    "warmup",
]
