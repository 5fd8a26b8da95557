"""The names of PyTorch: ``fastxent.compat.torch.nn``."""

from . import nn

__all__ = ["nn"]
