"""How sure a score is: intervals by drawing rasters again with replacement (Efron 1979).

Rasters are drawn, not crowns, because the crowns of one raster succeed or fail together. The intervals are of the
percentile kind; they say nothing of a forest or a season that no raster shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.confusion import class_scores
from treedet.metrics.detection import RasterCount, score_arrays

DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """Lower and upper limit; NaN where there is nothing to tell them from."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference between two scores, and its interval.

    Attributes:
        value: The second score less the first.
        low: Lower limit of the interval; NaN with fewer than two rasters.
        high: Upper limit.
        rasters: Rasters compared.
    """

    value: float
    low: float
    high: float
    rasters: int


def resamples(count: int, *, draws: int = DRAWS, seed: int = 0) -> Index:
    """Return which rasters each draw holds: int64 ``[draws, count]``, positions drawn with replacement.

    Args:
        count: Number of rasters.
        draws: Number of draws.
        seed: Equal seeds give equal draws.

    >>> drawn = resamples(3, draws=2)
    >>> drawn.shape, bool(((drawn >= 0) & (drawn < 3)).all())
    ((2, 3), True)
    """
    if not count:
        return np.zeros((draws, 0), np.int64)
    return np.random.default_rng(seed).integers(0, count, (draws, count))


def interval(values: Floats, *, level: float = 0.95) -> Interval:
    """Return the percentile interval of a score over draws.

    Args:
        values: Float ``[draws]``. NaN, where a draw holds no raster that defines the score, is left out.
        level: Share of the draws inside, between 0 and 1.

    Returns:
        Both limits NaN where no value is defined.

    >>> interval(np.arange(101.0), level=0.5)
    Interval(low=25.0, high=75.0)
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high))


def score_intervals(
    counts: Sequence[RasterCount], *, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Return an interval for each score of :func:`treedet.metrics.detection.score_arrays`, by its name.

    Args:
        counts: Of each raster.
        draws: Number of draws.
        seed: Equal seeds give equal intervals.
        level: Share of the draws inside, between 0 and 1.

    Returns:
        Limits are NaN with fewer than two rasters: one raster says nothing of the spread between rasters.

    >>> found = score_intervals([RasterCount(4, 4, 1), RasterCount(4, 4, 3)])
    >>> found["recall"]
    Interval(low=0.25, high=0.75)
    """
    drawn = _drawn(counts, resamples(len(counts), draws=draws, seed=seed))
    if len(counts) < 2:
        return {name: Interval(float("nan"), float("nan")) for name in drawn}
    return {name: interval(values, level=level) for name, values in drawn.items()}


def paired_difference(
    first: Sequence[RasterCount],
    second: Sequence[RasterCount],
    *,
    score: str = "f1",
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Return by how much a score differs between two predictions of the same rasters: second less first.

    Both are drawn together, so that hard rasters count against neither; an interval without 0 is a difference that
    other rasters of the kind would likely show too.

    Args:
        first: Counts of each raster.
        second: Counts of the same rasters, in the same order.
        score: A name of :func:`treedet.metrics.detection.score_arrays`.
        draws: Number of draws.
        seed: Equal seeds give equal intervals.
        level: Share of the draws inside, between 0 and 1.

    Raises:
        ConfigError: Different numbers of rasters, or an unknown score.

    >>> paired_difference([RasterCount(4, 4, 1), RasterCount(8, 8, 2)], [RasterCount(4, 4, 2), RasterCount(8, 8, 4)])
    Difference(value=0.25, low=0.25, high=0.25, rasters=2)
    """
    count = len(first)
    if count != len(second):
        raise ConfigError(
            f"{count} rasters are compared with {len(second)}; give counts of the same rasters in the same order"
        )
    every = np.arange(count)[None]
    a, b = _drawn(first, every), _drawn(second, every)
    if score not in a:
        raise ConfigError(f"score is {score!r}; give one of {', '.join(a)}")
    value = float((b[score] - a[score])[0])
    if count < 2:
        return Difference(value, float("nan"), float("nan"), count)
    chosen = resamples(count, draws=draws, seed=seed)
    limits = interval(_drawn(second, chosen)[score] - _drawn(first, chosen)[score], level=level)
    return Difference(value, limits.low, limits.high, count)


def class_intervals(confusions: Index, classes: int, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Interval]:
    """Return 95 % intervals of what is said about crowns, by the name of the score.

    Args:
        confusions: Int64 ``[R, K + 1, K + 2]``, one for each raster
            (:func:`treedet.metrics.confusion.confusion_matrix`).
        classes: Number of classes, K.
        draws: Number of draws.
        seed: Equal seeds give equal intervals.

    Returns:
        ``accuracy`` and ``macro_f1`` of matched crowns, ``macro_f1_all`` of all; NaN with fewer than two rasters. A
        macro F1 is the mean over the classes that a draw holds.

    >>> one, other = [[3, 1, 0, 0], [0, 2, 0, 0], [0] * 4], [[5, 0, 0, 0], [1, 0, 0, 0], [0] * 4]
    >>> class_intervals(np.array([one, other]), 2)["accuracy"]
    Interval(low=0.8333333333333334, high=0.8333333333333334)
    """
    count = len(confusions)
    chosen = resamples(count, draws=draws, seed=seed)
    # How often a draw holds each raster, so that draws are one product of matrices.
    times = np.stack([np.bincount(draw, minlength=count) for draw in chosen])
    pooled = (times @ confusions.reshape(count, -1)).reshape(draws, classes + 1, classes + 2)
    matched, every = class_scores(pooled[:, :-1, :-1], classes), class_scores(pooled, classes)
    found = {"accuracy": matched.accuracy, "macro_f1": matched.macro_f1, "macro_f1_all": every.macro_f1}
    if count < 2:
        return dict.fromkeys(found, Interval(float("nan"), float("nan")))
    return {name: interval(values) for name, values in found.items()}


def _drawn(counts: Sequence[RasterCount], chosen: Index) -> dict[str, Floats]:
    """Return the scores of each draw; ``chosen`` is int64 ``[draws, rasters]``.

    An F1 is 0 where crowns are annotated and none is predicted: left out, such draws would flatter the rest.
    """
    table = np.array([(c.truth, c.predicted, c.matched) for c in counts], np.float64).reshape(-1, 3)
    truth, predicted, matched = (column[chosen] for column in table.T)
    found = score_arrays(truth, predicted, matched)
    nothing_found = (truth.sum(axis=-1) > 0) & (predicted.sum(axis=-1) == 0)
    return found | {name: np.where(nothing_found, 0.0, found[name]) for name in ("f1", "micro_f1")}
