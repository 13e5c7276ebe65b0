"""Crowns of many rasters in one numbering, and the matching by falling score that COCO's figures rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import area
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.matching import Bools, settle
from treedet.metrics.paired import PairedCrowns


@dataclass(frozen=True, eq=False)
class Side:
    """What is known of the crowns of one side, the annotated or the predicted.

    Attributes:
        classes: Int ``[N]``.
        area: Float64 ``[N]``, box area in square metres.
        ignored: Bool ``[N]``.
    """

    classes: npt.NDArray[np.integer[Any]]
    area: Floats
    ignored: Bools

    def ignored_beyond(self, size: tuple[float, float] | None) -> Bools:
        """Tell which crowns are ignored where only boxes of some areas count, both limits included; None: all."""
        return self.ignored if size is None else self.ignored | (self.area < size[0]) | (self.area > size[1])

    def take(self, order: Index) -> Side:
        """Return the crowns in another order."""
        return Side(self.classes[order], self.area[order], self.ignored[order])


@dataclass(frozen=True, eq=False)
class Pool:
    """Crowns of all rasters, numbered together: truth in the order given, predictions by falling score.

    Attributes:
        scores: Float64 ``[M]``, falling.
        truth: The annotated crowns, ``[N]``.
        predicted: The predicted crowns, ``[M]``.
        pair_truth: Int64 ``[P]``, of each pair of one raster and class that overlaps enough.
        pair_predicted: Int64 ``[P]``, rising; the pairs of a prediction by preference: highest IoU, then later truth.
        pair_iou: Float64 ``[P]``.
    """

    scores: Floats
    truth: Side
    predicted: Side
    pair_truth: Index
    pair_predicted: Index
    pair_iou: Floats

    @classmethod
    def of(cls, rasters: Sequence[PairedCrowns], *, least: float, by_class: bool) -> Pool:
        """Pool rasters.

        Args:
            rasters: Crowns in metres.
            least: Least IoU of the pairs to keep: that of the lowest threshold that will be asked for.
            by_class: Pair crowns of equal class alone; a side whose classes are None is of class 0. Else all are.
        """
        scores = np.concatenate([np.zeros(0), *(raster.scores for raster in rasters)])
        order = np.argsort(-scores, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        truth = _side([(r.truth, r.truth_classes if by_class else None, r.truth_ignored) for r in rasters])
        predicted = _side(
            [(r.predicted, r.predicted_classes if by_class else None, r.predicted_ignored) for r in rasters]
        ).take(order)
        overlaps = [raster.overlaps for raster in rasters]
        t = _numbered([o.truth for o in overlaps], [len(raster.truth) for raster in rasters])
        p = rank[_numbered([o.predicted for o in overlaps], [len(raster.predicted) for raster in rasters])]
        iou = np.concatenate([np.zeros(0), *(o.iou for o in overlaps)])
        kept = np.flatnonzero((iou >= _reaching(least)) & (truth.classes[t] == predicted.classes[p]))
        kept = kept[np.lexsort((-t[kept], -iou[kept], p[kept]))]
        return cls(scores[order], truth, predicted, t[kept], p[kept], iou[kept])

    def outcomes(self, iou_threshold: float, truth_ignored: Bools, predicted_ignored: Bools) -> tuple[Bools, Bools]:
        """Match, and tell which predictions are hits and which count at all.

        Args:
            iou_threshold: A prediction may take a crown where their IoU is at least this.
            truth_ignored: Bool ``[N]``: taken only where no other is free, and then neither hit nor false alarm.
            predicted_ignored: Bool ``[M]``: no false alarm where it takes nothing.

        Returns:
            Two arrays bool ``[M]``, by falling score: hits, which all count, and predictions that count.
        """
        enough = self.pair_iou >= _reaching(iou_threshold)
        truth, predicted = self.pair_truth[enough], self.pair_predicted[enough]
        if truth_ignored.any():
            ignored_last = np.argsort(2 * predicted + truth_ignored[truth], kind="stable")
            truth, predicted = truth[ignored_last], predicted[ignored_last]
        taken = settle(truth, predicted, truths=len(truth_ignored), predictions=len(self.scores))
        matched = taken >= 0
        hit = np.zeros(len(taken), bool)
        hit[matched] = ~truth_ignored[taken[matched]]
        return hit, np.where(matched, hit, ~predicted_ignored)


def _side(parts: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None, Bools | None]]) -> Side:
    """Put the boxes, classes and ignored flags of all rasters behind one another."""
    classes = [np.zeros(len(boxes), np.int64) if given is None else given for boxes, given, _ in parts]
    ignored = [np.zeros(len(boxes), bool) if given is None else given for boxes, _, given in parts]
    return Side(
        np.concatenate([np.zeros(0, np.int64), *classes]),
        np.concatenate([np.zeros(0), *(area(np.asarray(boxes, np.float64)) for boxes, _, _ in parts)]),
        np.concatenate([np.zeros(0, bool), *ignored]),
    )


def _numbered(positions: Sequence[Index], lengths: Sequence[int]) -> Index:
    """Put positions within rasters behind one another, as numbers within all."""
    first = np.cumsum([0, *lengths])
    numbers = [here + start for here, start in zip(positions, first[:-1], strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *numbers])


def _reaching(iou_threshold: float) -> float:
    """Return the least IoU that reaches a threshold: at 1, boxes may differ by rounding, as in pycocotools."""
    return min(iou_threshold, 1 - 1e-10)
