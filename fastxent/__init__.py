"""Cross-entropy losses and their gradients on NumPy arrays, at the speed of memory."""

from ._version import __version__
from .losses import (
    softmax_cross_entropy,
    softmax_cross_entropy_with_grad,
    sparse_softmax_cross_entropy,
    sparse_softmax_cross_entropy_with_grad,
)
from .normalizers import log_softmax, logsumexp, softmax
from .settings import config, get_config, set_config, show_config, warmup

__all__ = [
    "__version__",
    "config",
    "get_config",
    "log_softmax",
    "logsumexp",
    "set_config",
    "show_config",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_grad",
    "sparse_softmax_cross_entropy",
    "sparse_softmax_cross_entropy_with_grad",
    "warmup",
]
