"""The names of TensorFlow: `nn`, and `losses` and `legacy_seq2seq` of version 1."""

from . import legacy_seq2seq, losses, nn

__all__ = ["legacy_seq2seq", "losses", "nn"]
