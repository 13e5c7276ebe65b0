"""Box recall and precision as DeepForest defines them, to be set beside its published figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treedet.metrics.detection import score_arrays
from treedet.metrics.paired import PairedCrowns

IOU_THRESHOLD = 0.4
"""A matched pair counts where its intersection over union is above this."""


def box_recall_precision(rasters: Sequence[PairedCrowns]) -> tuple[float, float]:
    """Return ``box_recall`` and ``box_precision`` of DeepForest's ``evaluate_boxes`` (Weinstein et al. 2020).

    On each image with truth, boxes are matched one to one so that the sum of the areas they share is largest; a pair
    counts where IoU > 0.4. Recall is the mean over these images of matched over truth, precision that of matched
    over predicted, over those of them with predictions: an image without truth enters neither, so false alarms
    there go unseen. DeepForest knows no AOI: ignored crowns are left out before matching.

    Args:
        rasters: Truth and predictions, the latter already above the score threshold (see :meth:`PairedCrowns.at`).

    Returns:
        Recall; 0 where nothing is predicted, NaN without any truth. Precision; NaN where nothing is predicted, 0
        without any truth.

    >>> truth, found = np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([[0.0, 0, 4, 5]])
    >>> box_recall_precision([PairedCrowns(truth, found, np.ones(1, np.float32))])
    (0.5, 1.0)
    """
    known = [raster.without_ignored() for raster in rasters]
    annotated = [raster for raster in known if len(raster.truth)]
    if not annotated:
        return float("nan"), 0.0 if any(len(raster.predicted) for raster in known) else float("nan")
    counts = [raster.counted(iou_threshold=IOU_THRESHOLD, method="deepforest") for raster in annotated]
    found = score_arrays(*np.array([(c.truth, c.predicted, c.matched) for c in counts]).T)
    return float(found["recall"]), float(found["precision"])
