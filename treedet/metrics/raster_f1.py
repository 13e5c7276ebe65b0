"""RF1, the raster-level F1 of CanopyRS and the SelvaBox benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treedet.metrics.paired import PairedCrowns

RF1_IOUS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The thresholds 0.50, 0.55, ..., 0.95 of RF1_50:95."""


def raster_f1(rasters: Sequence[PairedCrowns], *, iou_thresholds: Sequence[float] = (0.75,)) -> float:
    """Return RF1: the F1 of merged predictions on whole rasters (Baudchon et al. 2025, SelvaBox).

    As its reference implementation (``raster_level_multi_iou_thresholds`` of CanopyRS) computes it: on each raster
    predictions choose in the order of their scores, each takes the free truth with the highest IoU if that is at
    least the threshold; F1 of the counts; the mean over the thresholds; then the mean over rasters weighted by their
    crowns of truth. A raster without truth thus has no weight.

    Two things differ: a crown belongs to the AOI by its centre and is never clipped (there: by 40 % of its area,
    clipped), and crowns that are ignored take part in matching (see :class:`PairedCrowns`).

    Args:
        rasters: Truth and predictions, the latter already above the score threshold: of the model and its merging
            as chosen on validation (see :meth:`PairedCrowns.at`).
        iou_thresholds: Least intersection over union; ``(0.75,)`` for RF1_75, :data:`RF1_IOUS` for RF1_50:95.

    Returns:
        0 to 1; NaN without any truth.

    >>> truth = np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]])
    >>> one = PairedCrowns(truth, truth[:1], np.ones(1, np.float32))
    >>> round(raster_f1([one], iou_thresholds=RF1_IOUS), 4)
    0.6667
    """
    f1, weight = np.zeros(len(rasters)), np.zeros(len(rasters))
    for position, raster in enumerate(rasters):
        # The next lower float, as counting asks for more than its threshold and RF1 for at least it.
        counts = [raster.counted(iou_threshold=np.nextafter(t, 0), method="greedy") for t in iou_thresholds]
        # 2PR / (P + R) is 2 * matched / (truth + predicted), and 0 where nothing is matched.
        f1[position] = np.mean([2 * c.matched / max(1, c.truth + c.predicted) for c in counts])
        weight[position] = counts[0].truth
    return float(f1 @ weight / weight.sum()) if weight.sum() else float("nan")
