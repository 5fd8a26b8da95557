"""Candidate samplers: a few classes that stand for all, and how often each is expected.

`LogUniform`, `Uniform`, `Unigram` and `LearnedUnigram` draw class ids from a distribution over the
classes, with or without repetition. The sampled losses take one of them, or what it returned.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import _check

__all__ = ["Candidates", "LearnedUnigram", "LogUniform", "Uniform", "Unigram"]

Array = np.ndarray[Any, Any]
Rng: TypeAlias = "np.random.Generator"  # a name only: NumPy imports that module when asked


class Candidates(NamedTuple):
    """Sampled classes, and how often each class is expected among them.

    Parameters
    ----------
    ids : ndarray of int64
        The sampled classes, shape ``(num_sampled,)``, in the order in which they were drawn.
    true_expected : ndarray of float64
        How often each label is expected among ``ids``: the shape of the labels.
    sampled_expected : ndarray of float64
        How often each of ``ids`` is expected, shape ``(num_sampled,)``.

    See Also
    --------
    fastxent.nce_loss : Takes them as ``sampled``.

    Examples
    --------
    >>> from fastxent import samplers
    >>> found = samplers.Uniform(10).sample(5, [3], unique=False)
    >>> found.true_expected.tolist(), found.ids.shape
    ([0.5], (5,))
    """

    ids: Any
    true_expected: Any
    sampled_expected: Any


class _Sampler:
    """What all samplers do; each has its own `_probability`, `_draw` and `_possible`."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = _check.count("num_classes", num_classes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_classes={self.num_classes})"

    def _probability(self, ids: Array) -> Array:
        raise NotImplementedError

    def _draw(self, size: int, rng: Rng) -> Array:
        """Independent ids."""
        raise NotImplementedError

    def _possible(self) -> int:
        """How many classes can be drawn."""
        return self.num_classes

    def _learn(self, labels: Array) -> None:
        """Be told of the labels of a batch, after its counts are made."""

    def probability(self, ids: Any) -> Any:
        """Probability of each class in one draw.

        Parameters
        ----------
        ids : array_like of int
            Classes in ``[0, num_classes)``, any shape.

        Returns
        -------
        ndarray or scalar
            Numbers of float64, in the shape of ``ids``.

        Raises
        ------
        IndexError
            "ids must lie in [0, num_classes); got ... at position ...".
        TypeError
            "ids must be integers ...".

        See Also
        --------
        sample : Draw by these probabilities.

        Examples
        --------
        >>> from fastxent import samplers
        >>> samplers.LogUniform(3).probability([0, 1, 2]).round(4).tolist()
        [0.5, 0.2925, 0.2075]
        """
        return self._probability(_check.class_ids("ids", ids, self.num_classes))[()]

    def sample(
        self, num_sampled: int, true_labels: Any, *, unique: bool = True, rng: Any = None
    ) -> Candidates:
        r"""Draw class ids, and say how often each class is expected among them.

        Labels are not left out: a sampled class may be one of them (an accidental hit). With
        the probability :math:`p_k` of a class in one draw, ``num_sampled`` of :math:`n` and
        :math:`t` draws until :math:`n` distinct classes were seen, the expected counts are

        .. math::

            n\, p_k \text{ with repetition}, \qquad 1 - (1 - p_k)^t \text{ for distinct ids.}

        Parameters
        ----------
        num_sampled : int
            How many ids, at least 1.
        true_labels : array_like of int
            Labels in ``[0, num_classes)``, any shape.
        unique : bool, default: True
            Distinct ids: a class that was drawn before is drawn again. Else ids may repeat.
        rng : None, int or numpy.random.Generator, optional
            Where the randomness comes from. The same seed gives the same ids.

        Returns
        -------
        Candidates
            ``ids``, ``true_expected`` and ``sampled_expected``.

        Raises
        ------
        ValueError
            "num_sampled must be at least 1 ...", "num_sampled must be at most ... classes that
            can be drawn, where ids are distinct; got ...".
        IndexError
            "true_labels must lie in [0, num_classes); got ... at position ...".
        TypeError
            "true_labels must be integers ...", "rng must be None, an integer or a
            numpy.random.Generator ...".

        See Also
        --------
        probability : What the counts follow from.

        Notes
        -----
        Distinct ids are drawn by rejection. After 4 ``num_sampled`` rejections each next id
        comes from the mass that is left and its number of draws from the geometric law: the
        same joint law, in a time that is bounded.

        Examples
        --------
        >>> from fastxent import samplers
        >>> found = samplers.LogUniform(1000).sample(3, [[0], [500]], unique=False, rng=0)
        >>> found.ids.tolist(), found.true_expected.round(4).tolist()
        ([80, 5, 0], [[0.301], [0.0009]])
        """
        n = _check.count("num_sampled", num_sampled)
        labels = _check.class_ids("true_labels", true_labels, self.num_classes)
        ids, tries = self._ids_and_tries(n, unique, _check.rng(rng))
        true, sampled = self._probability(labels), self._probability(ids)
        if unique:
            with np.errstate(divide="ignore"):  # a class that is certain
                true, sampled = (-np.expm1(tries * np.log1p(-p)) for p in (true, sampled))
        else:
            true, sampled = n * true, n * sampled
        self._learn(labels)
        return Candidates(ids, true, sampled)

    def _ids_and_tries(self, num_sampled: int, unique: bool, rng: Rng) -> tuple[Array, float]:
        """Draw ids, and count the draws that it took, rejected ones included."""
        if not unique:
            return self._draw(num_sampled, rng), num_sampled
        _check.enough_classes(num_sampled, self._possible())
        drawn = np.empty(0, np.int64)
        # After five times as many draws either enough are distinct, or four times were not.
        for more in (2 * num_sampled, 3 * num_sampled):
            drawn = np.concatenate([drawn, self._draw(more, rng)])
            first = _first(drawn)
            distinct = np.cumsum(first)
            rejected = np.arange(1, drawn.size + 1) - distinct
            enough = int(np.searchsorted(distinct, num_sampled)) + 1
            limit = int(np.searchsorted(rejected, 4 * num_sampled)) + 1
            if min(enough, limit) <= drawn.size:
                break
        tries = min(enough, limit)
        ids = drawn[:tries][first[:tries]]
        if enough < limit:
            return ids, tries
        rest, more_tries = self._rest(ids, num_sampled - ids.size, rng)
        return np.concatenate([ids, rest]), tries + more_tries

    def _rest(self, taken: Array, count: int, rng: Rng) -> tuple[Array, float]:
        """Draw further distinct ids, and the number of draws that rejection would take.

        The order in which classes first come up is that of exponential times over their
        probabilities; the draws from one to the next are geometric in the mass not yet seen.
        """
        p = self._probability(np.arange(self.num_classes))
        p[taken] = 0
        left = np.flatnonzero(p)
        with np.errstate(divide="ignore"):
            times = np.log(rng.standard_exponential(left.size)) - np.log(p[left])
        soonest = np.argpartition(times, count - 1)[:count]
        ids = left[soonest[np.argsort(times[soonest])]]
        own = p[ids]
        p[ids] = 0
        mass = p.sum() + np.cumsum(own[::-1])[::-1]  # adds up small ones first: no cancellation
        with np.errstate(divide="ignore", over="ignore"):
            draws = 1 + np.floor(rng.standard_exponential(count) / -np.log1p(-np.minimum(mass, 1)))
            return ids, min(float(draws.sum()), np.finfo(np.float64).max)


def _first(drawn: Array) -> Array:
    """Tell which draws have not come up before."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    new = np.ones(drawn.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    first = np.zeros(drawn.size, np.bool_)
    first[order[new]] = True
    return first


class LogUniform(_Sampler):
    r"""Sampler of classes that are ordered by falling frequency, as Zipf's law has it.

    .. math::

        p_k = \frac{\log(k + 2) - \log(k + 1)}{\log(C + 1)}

    Parameters
    ----------
    num_classes : int
        The number of classes ``C``; class 0 is the most frequent.

    Raises
    ------
    ValueError
        "num_classes must be at least 1; got ...".
    TypeError
        "num_classes must be an integer; got ...".

    See Also
    --------
    Unigram : Frequencies that are known.
    LearnedUnigram : Frequencies of the labels so far.

    References
    ----------
    TensorFlow: ``tf.random.log_uniform_candidate_sampler``.

    Examples
    --------
    >>> from fastxent import samplers
    >>> samplers.LogUniform(10000).probability([0, 1, 9999]).round(6).tolist()
    [0.075257, 0.044022, 1.1e-05]
    """

    def _probability(self, ids: Array) -> Array:
        return np.log1p(1.0 / (ids + 1.0)) / np.log(self.num_classes + 1.0)

    def _draw(self, size: int, rng: Rng) -> Array:
        ids = np.exp(rng.random(size) * np.log(self.num_classes + 1.0)).astype(np.int64) - 1
        return np.minimum(ids, self.num_classes - 1)  # where exp rounds up to C + 1


class Uniform(_Sampler):
    """Sampler of classes that are all alike, with probability 1 / ``num_classes`` each.

    Parameters
    ----------
    num_classes : int
        The number of classes.

    Raises
    ------
    ValueError
        "num_classes must be at least 1; got ...".
    TypeError
        "num_classes must be an integer; got ...".

    See Also
    --------
    LogUniform : Classes ordered by falling frequency.

    References
    ----------
    TensorFlow: ``tf.random.uniform_candidate_sampler``.

    Examples
    --------
    >>> from fastxent import samplers
    >>> found = samplers.Uniform(5).sample(5, [0], rng=1)
    >>> sorted(found.ids.tolist())
    [0, 1, 2, 3, 4]
    """

    def _probability(self, ids: Array) -> Array:
        return np.full(ids.shape, 1.0 / self.num_classes)

    def _draw(self, size: int, rng: Rng) -> Array:
        return rng.integers(0, self.num_classes, size)


class Unigram(_Sampler):
    r"""Sampler by given counts, to a power.

    .. math::

        p_k = \frac{c_k^{d}}{\sum_j c_j^{d}}

    Parameters
    ----------
    counts : array_like
        How often each class occurs: real numbers >= 0, shape ``(C - num_reserved_ids,)``. A
        class that never occurs is never drawn.
    distortion : float, default: 1.0
        The power ``d`` >= 0: 1 keeps the frequencies, 0 makes all classes alike; 0.75 is
        usual for word vectors.
    num_reserved_ids : int, default: 0
        As many ids before those of ``counts``, which are never drawn.

    Raises
    ------
    ValueError
        "counts must ...", "distortion must be finite and at least 0; got ...".
    TypeError
        "counts must be real numbers ...".

    See Also
    --------
    LearnedUnigram : Counts of the labels so far.
    LogUniform : Classes ordered by falling frequency.

    References
    ----------
    TensorFlow: ``tf.random.fixed_unigram_candidate_sampler``.

    Examples
    --------
    >>> from fastxent import samplers
    >>> sampler = samplers.Unigram([16, 1, 0], distortion=0.75, num_reserved_ids=1)
    >>> sampler.probability([0, 1, 2, 3]).round(4).tolist()
    [0.0, 0.8889, 0.1111, 0.0]
    """

    def __init__(self, counts: Any, *, distortion: float = 1.0, num_reserved_ids: int = 0) -> None:
        counts = _check.counts(counts)
        power = _check.number("distortion", distortion, 0.0, np.finfo(np.float64).max)
        reserved = _check.count("num_reserved_ids", num_reserved_ids, 0)
        super().__init__(reserved + counts.size)
        weights = np.concatenate([np.zeros(reserved), (counts / counts.max()) ** power])
        self._weights = weights / weights.sum()
        self._sums = np.cumsum(self._weights)
        self._drawable = np.flatnonzero(self._weights)

    def _possible(self) -> int:
        return self._drawable.size

    def _probability(self, ids: Array) -> Array:
        return self._weights[ids]

    def _draw(self, size: int, rng: Rng) -> Array:
        # The first sum beyond: a class without weight adds nothing and is never the first.
        ids = np.searchsorted(self._sums, rng.random(size) * self._sums[-1], side="right")
        return np.minimum(ids, self._drawable[-1])


class LearnedUnigram(_Sampler):
    """Sampler by how often each class was a label so far; each starts at 1.

    `sample` counts its ``true_labels``, each as often as it occurs, after it has drawn.

    Parameters
    ----------
    num_classes : int
        The number of classes.

    Raises
    ------
    ValueError
        "num_classes must be at least 1; got ...".
    TypeError
        "num_classes must be an integer; got ...".

    See Also
    --------
    Unigram : Counts that are known from the start.

    References
    ----------
    TensorFlow: ``tf.random.learned_unigram_candidate_sampler``.

    Examples
    --------
    >>> from fastxent import samplers
    >>> sampler = samplers.LearnedUnigram(4)
    >>> for _ in range(3):
    ...     found = sampler.sample(4, [[0], [0]], unique=False)
    ...     print(found.true_expected.ravel().round(6).tolist())
    [1.0, 1.0]
    [2.0, 2.0]
    [2.5, 2.5]
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self._counts = np.ones(self.num_classes, np.int64)
        self._total = self.num_classes

    def _learn(self, labels: Array) -> None:
        np.add.at(self._counts, labels.ravel(), 1)
        self._total += labels.size

    def _probability(self, ids: Array) -> Array:
        return self._counts[ids] / self._total

    def _draw(self, size: int, rng: Rng) -> Array:
        sums = np.cumsum(self._counts)
        return np.searchsorted(sums, rng.integers(0, sums[-1], size), side="right")
