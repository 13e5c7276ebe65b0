"""Recall, precision and F1 of crowns, over rasters and over all crowns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes
from treedet.metrics.matching import match_boxes


@dataclass(frozen=True)
class RasterCount:
    """What was found on one raster.

    Attributes:
        truth: Annotated crowns.
        predicted: Predicted crowns.
        matched: Pairs of both.
    """

    truth: int
    predicted: int
    matched: int


@dataclass(frozen=True)
class Scores:
    """Scores over several rasters.

    Macro figures are means over rasters, as DeepForest defines them: recall over rasters with truth, precision over
    rasters with predictions (Weinstein et al. 2019). Micro figures pool all crowns.
    """

    recall: float
    precision: float
    micro_recall: float
    micro_precision: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the macro recall and precision."""
        return _f1(self.recall, self.precision)

    @property
    def micro_f1(self) -> float:
        """Harmonic mean of the micro recall and precision."""
        return _f1(self.micro_recall, self.micro_precision)


def count(truth: Boxes, predicted: Boxes, *, iou_threshold: float = 0.4) -> RasterCount:
    """Match the crowns of one raster and count them."""
    matched, _ = match_boxes(truth, predicted, iou_threshold=iou_threshold)
    return RasterCount(len(truth), len(predicted), len(matched))


def scores(counts: Sequence[RasterCount]) -> Scores:
    """Return the scores over rasters; a raster without truth has no recall, one without predictions no precision.

    >>> s = scores([RasterCount(4, 2, 2), RasterCount(2, 2, 1)])
    >>> s.recall, s.precision, round(s.f1, 3), round(s.micro_recall, 3)
    (0.5, 0.75, 0.6, 0.5)
    """
    truth, predicted, matched = (
        np.array([getattr(c, name) for c in counts], dtype=float) for name in ("truth", "predicted", "matched")
    )
    return Scores(
        recall=_mean_share(matched, truth),
        precision=_mean_share(matched, predicted),
        micro_recall=float(matched.sum() / max(1.0, truth.sum())),
        micro_precision=float(matched.sum() / max(1.0, predicted.sum())),
    )


def _mean_share(matched: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> float:
    there = total > 0
    return float((matched[there] / total[there]).mean()) if there.any() else 0.0


def _f1(recall: float, precision: float) -> float:
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0
