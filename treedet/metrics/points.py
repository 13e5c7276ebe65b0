"""Points as truth, such as stems or street trees: which crown is whose, and what can be said from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes
from treedet.core.neighbours import overlapping_pairs
from treedet.errors import ConfigError
from treedet.metrics.assignment import Bools, Floats, Index, assign
from treedet.metrics.detection import RasterCount, harmonic_mean

POINT_HALF_M = 1e-3
"""Half the side of the square that stands for a point where candidates are looked for; what it finds is checked."""
LEAST_RADIUS_M = 0.05
"""Radius that a narrower crown is given in the cost, so that a sliver of a box does not drown all other costs."""


@dataclass(frozen=True, eq=False)
class PointMatching:
    """Pairs of a point and a crown.

    Attributes:
        point: Int64 ``[K]``, positions of the points, ascending.
        crown: Int64 ``[K]``, positions of the crowns.
        distance_m: Float64 ``[K]``, metres from the point to the centre of the crown.
    """

    point: Index
    crown: Index
    distance_m: Floats


def match_points(points: Floats, crowns: Boxes, *, max_distance: float | None = None) -> PointMatching:
    """Match points to crowns one to one.

    A point may belong to a crown in which it lies (the ellipse inscribed in the crown's box), or whose centre is at
    most ``max_distance`` away. Of all matchings with the most pairs, the one with the least sum of costs is taken
    (assignment problem, Kuhn 1955). The cost of a pair is the distance from point to centre over the crown's radius,
    which is half its diameter, and at least 5 cm. A crown without area takes no point.

    Args:
        points: Float64 ``[N, 2]``, ``(x, y)`` in metres.
        crowns: Float ``[M, 4]``, boxes in the same metres.
        max_distance: Metres; None asks that the point lies in the crown.

    Raises:
        ConfigError: ``max_distance`` is not a positive number.

    >>> found = match_points(np.array([[1.0, 1], [2, 2], [9, 9]]), np.array([[0.0, 0, 4, 4], [0, 0, 2, 2]]))
    >>> found.point.tolist(), found.crown.tolist(), found.distance_m.round(2).tolist()
    ([0, 1], [1, 0], [0.0, 0.0])
    """
    if max_distance is not None and not (np.isfinite(max_distance) and max_distance > 0):
        raise ConfigError(f"max_distance must be a positive number of metres, found {max_distance}; or leave it out")
    points = np.asarray(points, np.float64).reshape(-1, 2)
    crowns = np.asarray(crowns, np.float64).reshape(-1, 4)
    half = POINT_HALF_M if max_distance is None else max_distance
    # Whoever may have a point has a box that meets the point's square; and what meets it is looked at closely.
    point, crown = overlapping_pairs(np.hstack([points - half, points + half]), crowns)
    sides = crowns[crown, 2:] - crowns[crown, :2]
    offset = points[point] - (crowns[crown, :2] + crowns[crown, 2:]) / 2
    distance = np.hypot(*offset.T)
    allowed = ((2 * offset / sides) ** 2).sum(axis=1) <= 1
    if max_distance is not None:
        allowed |= distance <= max_distance
    point, crown, distance = point[allowed], crown[allowed], distance[allowed]
    cost = distance / np.maximum(sides[allowed].sum(axis=1) / 4, LEAST_RADIUS_M)
    chosen = assign(point, crown, _most_pairs_first(point, cost))
    chosen = chosen[np.argsort(point[chosen], kind="stable")]
    return PointMatching(point[chosen], crown[chosen], distance[chosen])


def _most_pairs_first(point: Index, cost: Floats) -> Floats:
    """Return weights by which one pair more outweighs any saving of cost."""
    if not len(point):
        return np.zeros(0)
    dearest = np.zeros(int(point.max()) + 1)
    np.maximum.at(dearest, point, cost)
    return np.asarray(1 + dearest.sum() - cost)


@dataclass(frozen=True, eq=False)
class PairedPoints:
    """Points and predicted crowns of one raster.

    Ignored points and crowns (outside the AOI) take part in matching; see
    :class:`treedet.metrics.paired.PairedCrowns` for what counts then.

    Attributes:
        points: Float64 ``[N, 2]``, ``(x, y)`` in metres on the ground, x right, y down.
        predicted: Float ``[M, 4]``, boxes in the same metres.
        scores: Float32 ``[M]``, 0 to 1.
        name: Of the raster.
        hectares: Valid ground inside the AOI; NaN where unknown.
        complete: Every tree in the AOI is a point, so that a crown without one is a false alarm.
        point_ignored: Bool ``[N]``; None: none is.
        predicted_ignored: Bool ``[M]``; None: none is.
    """

    points: Floats
    predicted: Boxes
    scores: npt.NDArray[np.float32]
    name: str = ""
    hectares: float = float("nan")
    complete: bool = False
    point_ignored: Bools | None = None
    predicted_ignored: Bools | None = None

    def at(self, threshold: float) -> PairedPoints:
        """Return the same raster with the predictions that score at least ``threshold`` (as float32)."""
        kept = self.scores >= np.float32(threshold)
        ignored = self.predicted_ignored
        return replace(
            self,
            predicted=self.predicted[kept],
            scores=self.scores[kept],
            predicted_ignored=None if ignored is None else ignored[kept],
        )

    def matched(self, *, max_distance: float | None = None) -> PointMatching:
        """Match all points to all predicted crowns; see :func:`match_points`."""
        return match_points(self.points, self.predicted, max_distance=max_distance)

    def counted(self, *, max_distance: float | None = None) -> RasterCount:
        """Match and count, under the rule on what is ignored."""
        return self.count(self.matched(max_distance=max_distance))

    def count(self, matching: PointMatching) -> RasterCount:
        """Count points, predictions and hits of a matching of this raster."""
        hits = self._hits(matching)
        predicted = self.predictions_inside.copy()
        predicted[matching.crown] = hits
        return RasterCount(int(self.points_inside.sum()), int(predicted.sum()), int(hits.sum()))

    def hit_distances(self, matching: PointMatching) -> Floats:
        """Return the distances of the pairs that count, float64 ``[K]`` in metres."""
        return matching.distance_m[self._hits(matching)]

    @property
    def points_inside(self) -> Bools:
        """Which points are not ignored, bool ``[N]``."""
        return np.ones(len(self.points), bool) if self.point_ignored is None else ~self.point_ignored

    @property
    def predictions_inside(self) -> Bools:
        """Which predictions are not ignored, bool ``[M]``."""
        return np.ones(len(self.predicted), bool) if self.predicted_ignored is None else ~self.predicted_ignored

    def _hits(self, matching: PointMatching) -> Bools:
        return self.points_inside[matching.point]


def point_distances(
    rasters: Sequence[PairedPoints], *, threshold: float = 0.0, max_distance: float | None = None
) -> Floats:
    """Return the metres from each point that was found to the centre of its crown; float64 ``[K]``, all rasters.

    Args:
        rasters: Points and predictions.
        threshold: Least score of a prediction.
        max_distance: See :func:`match_points`.
    """
    kept = [raster.at(threshold) for raster in rasters]
    found = [raster.hit_distances(raster.matched(max_distance=max_distance)) for raster in kept]
    return np.concatenate([np.zeros(0), *found])


def point_scores(
    rasters: Sequence[PairedPoints], *, threshold: float = 0.0, max_distance: float | None = None
) -> dict[str, float]:
    """Return what can be said about crowns from points.

    Recall and distances look at all rasters. Precision, F1 and counts need to know that a crown without a point is
    no tree, so they look at the rasters whose points are complete, and are NaN where there is none. Macro figures are
    means over rasters, micro figures pool all trees.

    Args:
        rasters: Points and predictions.
        threshold: Least score of a prediction.
        max_distance: See :func:`match_points`.

    Returns:
        ``points``, ``matched`` (numbers); ``recall``, ``micro_recall``; ``predicted``, ``precision``,
        ``micro_precision``, ``f1``, ``micro_f1``, ``count_error`` (mean absolute difference of predicted and true
        counts), ``count_bias`` (mean of predicted - true), ``count_error_rel`` and ``count_bias_rel`` (their sums
        over all points) of the complete rasters; ``distance_mean_m``, ``distance_median_m`` and ``distance_p95_m``
        of matched pairs. NaN is what is not defined.

    >>> one = PairedPoints(np.array([[2.0, 2], [9, 9]]), np.array([[0.0, 0, 4, 4]]), np.ones(1, np.float32))
    >>> scores = point_scores([one], threshold=0.5)
    >>> scores["recall"], scores["precision"], scores["distance_median_m"]
    (0.5, nan, 0.0)
    """
    kept = [raster.at(threshold) for raster in rasters]
    matchings = [raster.matched(max_distance=max_distance) for raster in kept]
    truth, predicted, matched = (
        np.array(
            [
                (count.truth, count.predicted, count.matched)
                for count in (raster.count(matching) for raster, matching in zip(kept, matchings, strict=True))
            ],
            dtype=np.float64,
        )
        .reshape(-1, 3)
        .T
    )
    distances = [raster.hit_distances(matching) for raster, matching in zip(kept, matchings, strict=True)]
    distance = np.concatenate([np.zeros(0), *distances])
    full = np.array([raster.complete for raster in kept], dtype=bool)
    # A tree counts by where its centre is, whatever it was matched with.
    inside = np.array([raster.predictions_inside.sum() for raster in kept], dtype=np.float64)
    recall, micro_recall = _shares(matched, truth)
    precision, micro_precision = _shares(matched[full], predicted[full])
    full_recall, full_micro_recall = _shares(matched[full], truth[full])
    return {
        "points": float(truth.sum()),
        "matched": float(matched.sum()),
        "recall": recall,
        "micro_recall": micro_recall,
        "predicted": float(predicted[full].sum()) if full.any() else np.nan,
        "precision": precision,
        "micro_precision": micro_precision,
        "f1": float(harmonic_mean(np.array(full_recall), np.array(precision))),
        "micro_f1": float(harmonic_mean(np.array(full_micro_recall), np.array(micro_precision))),
        **_count_errors(truth[full], inside[full]),
        "distance_mean_m": float(distance.mean()) if len(distance) else np.nan,
        "distance_median_m": float(np.median(distance)) if len(distance) else np.nan,
        "distance_p95_m": float(np.percentile(distance, 95)) if len(distance) else np.nan,
    }


def _count_errors(truth: Floats, predicted: Floats) -> dict[str, float]:
    off = predicted - truth
    total = float(truth.sum())
    return {
        "count_error": float(np.abs(off).mean()) if len(off) else np.nan,
        "count_bias": float(off.mean()) if len(off) else np.nan,
        "count_error_rel": float(np.abs(off).sum() / total) if total else np.nan,
        "count_bias_rel": float(off.sum() / total) if total else np.nan,
    }


def _shares(part: Floats, whole: Floats) -> tuple[float, float]:
    """Return the mean share over rasters, and that of the sums; NaN where there is nothing to take a share of."""
    there = whole > 0
    if not there.any():
        return np.nan, np.nan
    return float((part[there] / whole[there]).mean()), float(part.sum() / whole.sum())
