"""Recall, precision and F1 of crowns, over rasters and over all crowns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes
from treedet.metrics.assignment import Floats
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


def score_arrays(truth: npt.ArrayLike, predicted: npt.ArrayLike, matched: npt.ArrayLike) -> dict[str, Floats]:
    """Return the scores of many sets of counts at once, as a bootstrap or a threshold search needs them.

    As :func:`scores`, but NaN for a figure that is not defined: no raster with truth (recall) or with predictions
    (precision). An F1 is NaN where either of its two is.

    Args:
        truth: Numbers ``[..., R]``, annotated crowns by raster.
        predicted: Numbers ``[..., R]``, predicted crowns.
        matched: Numbers ``[..., R]``, pairs of both. The three shapes are broadcast.

    Returns:
        Float64 ``[...]`` by name: ``recall``, ``precision``, ``f1`` (macro), ``micro_recall``, ``micro_precision``,
        ``micro_f1``.

    >>> s = score_arrays(np.array([4.0, 2]), np.array([2.0, 2]), np.array([[2.0, 1], [0, 0]]))
    >>> s["f1"].round(3).tolist(), s["micro_recall"].tolist()
    ([0.6, 0.0], [0.5, 0.0])
    """
    true, found, hits = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (truth, predicted, matched)))
    recall, precision = _mean_shares(hits, true), _mean_shares(hits, found)
    total = hits.sum(axis=-1)
    micro_recall, micro_precision = _ratio(total, true.sum(axis=-1)), _ratio(total, found.sum(axis=-1))
    return {
        "recall": recall,
        "precision": precision,
        "f1": harmonic_mean(recall, precision),
        "micro_recall": micro_recall,
        "micro_precision": micro_precision,
        "micro_f1": harmonic_mean(micro_recall, micro_precision),
    }


def harmonic_mean(a: Floats, b: Floats) -> Floats:
    """Return the harmonic mean of two arrays; 0 where both are 0, NaN where one is NaN.

    >>> harmonic_mean(np.array([0.5, 0.0, np.nan]), np.array([1.0, 0.0, 1.0])).round(3).tolist()
    [0.667, 0.0, nan]
    """
    total = np.asarray(a + b)
    return np.asarray(np.divide(2 * a * b, total, out=np.asarray(total * 0.0), where=total != 0))


def _mean_shares(part: Floats, whole: Floats) -> Floats:
    there = whole > 0
    share = np.divide(part, whole, out=np.zeros(whole.shape), where=there)
    return _ratio(share.sum(axis=-1), there.sum(axis=-1).astype(np.float64))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the divisor is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


def _mean_share(matched: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> float:
    there = total > 0
    return float((matched[there] / total[there]).mean()) if there.any() else 0.0


def _f1(recall: float, precision: float) -> float:
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0
