"""``torch.nn``: the losses as objects that hold their options, and `functional`."""

from typing import Any

from . import functional

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "LogSoftmax",
    "NLLLoss",
    "Softmax",
    "functional",
]


class _Module:
    """An object that is called like a function: ``module(input, ...)`` is ``forward``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class _Loss(_Module):
    """A loss with its weight and reduction."""

    def __init__(self, weight: Any, size_average: Any, reduce: Any, reduction: str) -> None:
        if size_average is not None or reduce is not None:
            reduction = functional._reduction(size_average, reduce, reduction, level=4)
        self.weight = weight
        self.reduction = reduction

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Softmax(_Module):
    """`functional.softmax` along ``dim``, as ``torch.nn.Softmax``.

    Parameters
    ----------
    dim : int, optional
        The axis of the classes; None is deprecated.

    See Also
    --------
    functional.softmax : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.Softmax`` beyond those of `functional.softmax`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> nn.Softmax(dim=1)([[3.0, 1.0, -3.0]]).round(8).tolist()
    [[0.87887824, 0.11894324, 0.00217852]]
    """

    def __init__(self, dim: Any = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return the probabilities."""
        return functional.softmax(input, self.dim, _stacklevel=5)

    def __repr__(self) -> str:
        return f"Softmax(dim={self.dim})"


class LogSoftmax(_Module):
    """`functional.log_softmax` along ``dim``, as ``torch.nn.LogSoftmax``.

    Parameters
    ----------
    dim : int, optional
        The axis of the classes; None is deprecated.

    See Also
    --------
    functional.log_softmax : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.LogSoftmax`` beyond those of `functional.log_softmax`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSoftmax.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> nn.LogSoftmax(dim=1)([[3.0, 1.0, -3.0]]).round(8).tolist()
    [[-0.12910891, -2.12910891, -6.12910891]]
    """

    def __init__(self, dim: Any = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return the log-probabilities."""
        return functional.log_softmax(input, self.dim, _stacklevel=5)

    def __repr__(self) -> str:
        return f"LogSoftmax(dim={self.dim})"


class NLLLoss(_Loss):
    """`functional.nll_loss` with fixed options, as ``torch.nn.NLLLoss``.

    Parameters
    ----------
    weight : array_like, optional
        Weight of each class, shape ``(C,)``.
    size_average : bool, optional
        Deprecated, with ``reduce``; they override ``reduction``.
    ignore_index : int, default: -100
        Rows with this target have the loss 0 and do not count in a mean.
    reduce : bool, optional
        Deprecated, with ``size_average``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        What becomes of the losses.

    See Also
    --------
    functional.nll_loss : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.NLLLoss`` beyond those of `functional.nll_loss`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> loss = nn.NLLLoss()(nn.LogSoftmax(dim=1)([[0.0, 5.0, 1.0]]), [1])
    >>> print(f"{loss:.12f}")
    0.024744890139
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return functional.nll_loss(
            input, target, self.weight, None, self.ignore_index, None, self.reduction
        )


class CrossEntropyLoss(_Loss):
    """`functional.cross_entropy` with fixed options, as ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    weight : array_like, optional
        Weight of each class, shape ``(C,)``.
    size_average : bool, optional
        Deprecated, with ``reduce``; they override ``reduction``.
    ignore_index : int, default: -100
        Rows with this class have the loss 0 and do not count in a mean.
    reduce : bool, optional
        Deprecated, with ``size_average``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        What becomes of the losses.
    label_smoothing : float, default: 0.0
        Share of the target's mass that is spread over all classes.

    See Also
    --------
    functional.cross_entropy : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.CrossEntropyLoss`` beyond those of `functional.cross_entropy`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> print(f"{nn.CrossEntropyLoss()([[0.0, 5.0, 1.0]], [[0.0, 0.8, 0.2]]):.12f}")
    0.824744890139
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return functional.cross_entropy(
            input, target, self.weight, None, self.ignore_index, None, self.reduction,
            self.label_smoothing,
        )  # fmt: skip


class BCELoss(_Loss):
    """`functional.binary_cross_entropy` with fixed options, as ``torch.nn.BCELoss``.

    Parameters
    ----------
    weight : array_like, optional
        Weight of each loss; broadcasts to the input.
    size_average, reduce : bool, optional
        Deprecated; they override ``reduction``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        What becomes of the losses.

    See Also
    --------
    functional.binary_cross_entropy : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.BCELoss`` beyond those of `functional.binary_cross_entropy`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> print(f"{nn.BCELoss()([0.5, 0.0], [1.0, 1.0]):.12f}")
    50.346573590280
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return functional.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`functional.binary_cross_entropy_with_logits` with fixed options.

    As ``torch.nn.BCEWithLogitsLoss``.

    Parameters
    ----------
    weight : array_like, optional
        Weight of each loss; broadcasts to the input.
    size_average, reduce : bool, optional
        Deprecated; they override ``reduction``.
    reduction : {'none', 'sum', 'mean'}, default: 'mean'
        What becomes of the losses.
    pos_weight : array_like, optional
        Weight of the positive label; broadcasts to the input.

    See Also
    --------
    functional.binary_cross_entropy_with_logits : The same as a function.

    Notes
    -----
    No differences from ``torch.nn.BCEWithLogitsLoss`` beyond those of
    `functional.binary_cross_entropy_with_logits`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html

    Examples
    --------
    >>> from fastxent.compat.torch import nn
    >>> print(f"{nn.BCEWithLogitsLoss()([0.2, 0.2], [0.0, 1.0]):.12f}")
    0.698138869382
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.pos_weight = pos_weight

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
