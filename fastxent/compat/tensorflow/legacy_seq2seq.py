"""``tensorflow.contrib.legacy_seq2seq`` (TensorFlow 1): losses of lists over time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import sequence
from .._common import cast

__all__ = ["sequence_loss", "sequence_loss_by_example"]
