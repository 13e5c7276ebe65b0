"""How far counts, crown areas and places are off, and how often something else is taken for a crown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treedet.core.boxes import Boxes, area
from treedet.metrics.assignment import Floats
from treedet.metrics.matching import Bools
from treedet.metrics.paired import PairedCrowns


def crown_errors(rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4) -> dict[str, float]:
    """Return the errors of counts, crown areas and places of the predictions given.

    Crowns are counted by their centres alone (those not ignored), matched or not. A crown's area is that of the
    ellipse inscribed in its box, pi/4 * width * height. False alarms are predictions that count and match no crown.

    Args:
        rasters: Truth and predictions, the latter already above the score threshold (see :meth:`PairedCrowns.at`).
        iou_threshold: A pair counts where its intersection over union is above this.

    Returns:
        ``count_error`` and ``count_bias``: means over rasters of ``|predicted - truth|`` and ``predicted - truth``;
        ``count_error_rel`` and ``count_bias_rel``: the sums of both over all truth; ``area_error`` and
        ``area_bias``: means over matched crowns of ``|predicted - true| / true`` and ``(predicted - true) / true``;
        ``centre_distance_m`` and ``centre_distance_p95_m``: mean and 95th percentile of the distance between the
        centres of matched crowns; ``false_alarms_per_ha``: over the rasters whose hectares are known, and
        ``false_alarms_per_ha_empty``: over those of them without truth. NaN where undefined.

    >>> truth = np.array([[0.0, 0, 4, 4]])
    >>> found = np.array([[0.0, 0, 4, 5], [9, 9, 12, 12]])
    >>> errors = crown_errors([PairedCrowns(truth, found, np.ones(2, np.float32), hectares=0.5)])
    >>> errors["count_bias"], errors["area_bias"], errors["centre_distance_m"], errors["false_alarms_per_ha"]
    (1.0, 0.25, 0.5, 2.0)
    """
    truth = np.array([_not_ignored(r.truth_ignored, r.truth) for r in rasters], np.float64)
    off = np.array([_not_ignored(r.predicted_ignored, r.predicted) for r in rasters], np.float64) - truth
    false_alarms, growths, distances = np.zeros(len(rasters)), [np.zeros(0)], [np.zeros(0)]
    for position, raster in enumerate(rasters):
        matching = raster.matched(iou_threshold=iou_threshold)
        _, predicted, hits = raster.counts(matching)
        false_alarms[position] = predicted.sum() - hits.sum()
        true, found = raster.truth[matching.truth[hits]], raster.predicted[matching.predicted[hits]]
        # pi/4 is in both areas.
        growths.append(np.asarray(area(found) / area(true) - 1, np.float64))
        distances.append(centre_distances(true, found))
    growth, distance = np.concatenate(growths), np.concatenate(distances)
    hectares = np.array([r.hectares for r in rasters], np.float64)
    known = np.isfinite(hectares)
    return {
        "count_error": _mean(np.abs(off)),
        "count_bias": _mean(off),
        "count_error_rel": _over(np.abs(off).sum(), truth.sum()),
        "count_bias_rel": _over(off.sum(), truth.sum()),
        "area_error": _mean(np.abs(growth)),
        "area_bias": _mean(growth),
        "centre_distance_m": _mean(distance),
        "centre_distance_p95_m": float(np.percentile(distance, 95)) if len(distance) else float("nan"),
        "false_alarms_per_ha": _over(false_alarms[known].sum(), hectares[known].sum()),
        "false_alarms_per_ha_empty": _over(
            false_alarms[known & (truth == 0)].sum(), hectares[known & (truth == 0)].sum()
        ),
    }


def centre_distances(a: Boxes, b: Boxes) -> Floats:
    """Return the distance between the centres of ``a[i]`` and ``b[i]``; float64 ``[N]``.

    >>> centre_distances(np.array([[0.0, 0, 2, 2]]), np.array([[3.0, 4, 5, 6]])).tolist()
    [5.0]
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]))


def _not_ignored(ignored: Bools | None, boxes: Boxes) -> int:
    return len(boxes) if ignored is None else int((~ignored).sum())


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
