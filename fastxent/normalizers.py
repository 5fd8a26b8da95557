"""From scores to probabilities: logsumexp, softmax, log_softmax; sigmoid, log_sigmoid."""

from typing import Any

from . import _call

__all__ = ["log_sigmoid", "log_softmax", "logsumexp", "sigmoid", "softmax"]


def logsumexp(
    x: Any, axis: int = -1, *, where: Any = None, keepdims: bool = False, out: Any = None
) -> Any:
    r"""Logarithm of the sum of exponentials: the normaliser of `softmax`.

    .. math:: \mathrm{lse} = \log \sum_k e^{x_k}

    Computed as ``m + log1p(rest)`` with the maximum ``m`` and the sum over the other
    classes relative to it: no overflow, and full accuracy for confident rows.

    Parameters
    ----------
    x : array_like
        Scores of any shape with at least one axis: float16, bfloat16, float32, float64;
        integers and bools count as float64.
    axis : int, default: -1
        The axis of the classes.
    where : array_like of bool, optional
        Broadcasts to ``x``; False entries take no part.
    keepdims : bool, default: False
        Keep ``axis`` with length 1.
    out : ndarray, optional
        Receives the result: exact shape and dtype.

    Returns
    -------
    ndarray or scalar
        Shape of ``x`` without ``axis``; float32 for half precision, else the dtype of
        ``x``. ``+inf`` for a row with ``+inf``, ``-inf`` for a row of ``-inf`` and for a
        fully masked one.

    Raises
    ------
    ValueError
        "axis must lie in ...", "x must have at least one class ...", "out must have
        shape ...", "where must broadcast ...".
    TypeError
        "x must be float16, bfloat16, float32, float64, integer or bool; got ...",
        "out must have dtype ...".

    See Also
    --------
    log_softmax : ``x - logsumexp(x)``, in one pass and without cancellation.

    Notes
    -----
    Error budget: 4 units in the last place of ``max(abs(m), abs(lse))``.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
    softmax functions", IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import fastxent as fx
    >>> round(float(fx.logsumexp([3.0, 1.0, -3.0])), 14)
    3.12910890882985
    >>> round(float(fx.logsumexp([1000.0, 1000.0])), 10)
    1000.6931471806
    """
    return _call.normalize("logsumexp", x, axis, where, out, keepdims)


def softmax(x: Any, axis: int = -1, *, where: Any = None, out: Any = None) -> Any:
    r"""Probabilities from scores.

    .. math:: p_k = \frac{e^{x_k}}{\sum_j e^{x_j}}

    Parameters
    ----------
    x : array_like
        Scores of any shape with at least one axis: float16, bfloat16, float32, float64;
        integers and bools count as float64.
    axis : int, default: -1
        The axis of the classes.
    where : array_like of bool, optional
        Broadcasts to ``x``; False entries take no part and get probability 0.
    out : ndarray, optional
        Receives the result: shape of ``x``, its dtype, or float32 for half precision.
        May be ``x`` itself.

    Returns
    -------
    ndarray
        Shape and dtype of ``x`` (float64 for integers). NaN in a row with ``+inf`` or of
        ``-inf`` only; 0 in a fully masked row.

    Raises
    ------
    ValueError
        "axis must lie in ...", "out must have shape ...", "out must not overlap ...",
        "where must broadcast ...".
    TypeError
        "x must be float16, bfloat16, float32, float64, integer or bool; got ...",
        "out must have dtype ...".

    See Also
    --------
    log_softmax : Its logarithm, without underflow.
    logsumexp : The normaliser alone.

    Notes
    -----
    Error budget: 4 units in the last place, or 1e-7 (float64: 2e-16) times the largest
    probability of the row.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
    softmax functions", IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.softmax([3.0, 1.0, -3.0]).round(8).tolist()
    [0.87887824, 0.11894324, 0.00217852]
    """
    return _call.normalize("softmax", x, axis, where, out)


def log_softmax(x: Any, axis: int = -1, *, where: Any = None, out: Any = None) -> Any:
    r"""Log-probabilities from scores.

    .. math:: \log p_k = x_k - \log \sum_j e^{x_j}

    Computed as ``-((m - x_k) + log1p(rest))``, both terms at least 0: the log-probability
    of a class that is almost certain keeps its digits, where ``log(softmax(x))`` is 0.

    Parameters
    ----------
    x : array_like
        Scores of any shape with at least one axis: float16, bfloat16, float32, float64;
        integers and bools count as float64.
    axis : int, default: -1
        The axis of the classes.
    where : array_like of bool, optional
        Broadcasts to ``x``; False entries take no part and get ``-inf``.
    out : ndarray, optional
        Receives the result: shape of ``x``, its dtype, or float32 for half precision.
        May be ``x`` itself.

    Returns
    -------
    ndarray
        Shape and dtype of ``x`` (float64 for integers). NaN in a row with ``+inf`` or of
        ``-inf`` only; ``-inf`` in a fully masked row.

    Raises
    ------
    ValueError
        "axis must lie in ...", "out must have shape ...", "out must not overlap ...",
        "where must broadcast ...".
    TypeError
        "x must be float16, bfloat16, float32, float64, integer or bool; got ...",
        "out must have dtype ...".

    See Also
    --------
    softmax : The probabilities.
    sparse_softmax_cross_entropy : Minus the entry that a label picks, without the rest.

    Notes
    -----
    Error budget: 4 units in the last place; for the largest entry plus the gap to the
    next one.

    References
    ----------
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and
    softmax functions", IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import fastxent as fx
    >>> float(fx.log_softmax([0.0, -20.0, -25.0])[0])  # doctest: +ELLIPSIS
    -2.0750415...e-09
    """
    return _call.normalize("log_softmax", x, axis, where, out)


def sigmoid(x: Any, *, out: Any = None) -> Any:
    r"""Probability from one score: the logistic function.

    .. math:: p = \frac{1}{1 + e^{-x}}

    Parameters
    ----------
    x : array_like
        Scores of any shape: float16, bfloat16, float32, float64; integers and bools count
        as float64.
    out : ndarray, optional
        Receives the result: shape of ``x``, its dtype, or float32 for half precision.
        May be ``x`` itself.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of ``x`` (float64 for integers).

    Raises
    ------
    ValueError
        "out must have shape ...", "out must not overlap ...".
    TypeError
        "x must be float16, bfloat16, float32, float64, integer or bool; got ...",
        "out must have dtype ...".

    See Also
    --------
    log_sigmoid : Its logarithm, without underflow.
    softmax : Several classes; of two it is the sigmoid of their difference.

    Notes
    -----
    Error budget: 4 units in the last place, also where the result is subnormal.

    References
    ----------
    TensorFlow: ``tf.nn.sigmoid``; SciPy: ``scipy.special.expit``.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.sigmoid([-1000.0, 0.0, 2.0]).round(8).tolist()
    [0.0, 0.5, 0.88079708]
    """
    return _call.activate("sigmoid", x, out)


def log_sigmoid(x: Any, *, out: Any = None) -> Any:
    r"""Log-probability from one score.

    .. math:: \log p = -\log(1 + e^{-x})

    Parameters
    ----------
    x : array_like
        Scores of any shape: float16, bfloat16, float32, float64; integers and bools count
        as float64.
    out : ndarray, optional
        Receives the result: shape of ``x``, its dtype, or float32 for half precision.
        May be ``x`` itself.

    Returns
    -------
    ndarray or scalar
        Shape and dtype of ``x`` (float64 for integers).

    Raises
    ------
    ValueError
        "out must have shape ...", "out must not overlap ...".
    TypeError
        "x must be float16, bfloat16, float32, float64, integer or bool; got ...",
        "out must have dtype ...".

    See Also
    --------
    sigmoid : The probability.
    sigmoid_cross_entropy : Minus this for label 1, minus this at ``-x`` for label 0.

    Notes
    -----
    Error budget: 4 units in the last place, also where the result is subnormal.

    References
    ----------
    PyTorch: ``torch.nn.functional.logsigmoid``; SciPy: ``scipy.special.log_expit``.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.log_sigmoid([-1000.0, 0.0]).round(8).tolist()
    [-1000.0, -0.69314718]
    """
    return _call.activate("log_sigmoid", x, out)
