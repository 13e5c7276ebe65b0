"""Average precision as COCO defines it (Lin et al. 2014), equal to pycocotools, without its cap on detections.

Predictions choose in the order of their scores, over all rasters: each takes the free crown of its class and raster
with the highest IoU of at least the threshold; of equal IoUs the later crown. Crowns that are ignored, or outside the
range of sizes asked for, are taken only where no other is free, and are then neither hits nor false alarms; a
prediction that takes nothing is a false alarm unless it is itself ignored or outside the range. The precision, made
falling with recall (its envelope), is averaged over 101 recalls from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats
from treedet.metrics.matching import Bools
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.pooled import Pool

COCO_IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The thresholds that mAP averages over, as pycocotools rounds them."""
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0.0, 16.0),
    "medium": (16.0, 100.0),
    "large": (100.0, float("inf")),
}
"""Ranges of box area in square metres: the two limits that CanopyRS names small and medium; both ends belong to a
range, as in COCO."""

RECALLS = np.linspace(0.0, 1.0, 101)
IOUS = (0.4, *COCO_IOUS)
ROWS = 500
"""A precision-recall curve has at most so many rows."""


@dataclass(frozen=True, eq=False)
class CocoScores:
    """Average precision over several rasters; NaN for a figure without truth.

    Attributes:
        map: Mean over :data:`COCO_IOUS` and the classes that have truth.
        ap: Mean over classes by IoU threshold: 0.4, and 0.5 to 0.95 in steps of 0.05.
        by_size: As ``map``, by range of box area.
        by_class: Columns ``label``, ``truth`` (crowns counted), ``map``, ``ap50``, ``ap75``, ``ap40``; all classes.
    """

    map: float
    ap: dict[float, float]
    by_size: dict[str, float]
    by_class: pd.DataFrame


def coco_scores(
    rasters: Sequence[PairedCrowns],
    *,
    classes: Sequence[str] = ("tree",),
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> CocoScores:
    """Return mean average precision, by IoU, by size and by class.

    Args:
        rasters: Crowns in metres; all predictions with any score, not only those above an operating point.
        classes: Names, in the order of the class numbers; crowns of other numbers are left out. A raster whose
            classes are None has crowns of the first class alone.
        sizes: Least and largest box area in square metres, by name.

    >>> box = np.array([[0.0, 0, 4, 4]])
    >>> found = coco_scores([PairedCrowns(box, box * [1, 1, 1, 0.7], np.array([0.9], np.float32))])
    >>> found.map, found.ap[0.5], found.ap[0.75], found.by_size["large"]
    (0.5, 1.0, 0.0, nan)
    """
    pool = Pool.of(rasters, least=min(IOUS), by_class=True)
    table = _table(pool, IOUS, len(classes))
    by_iou = {round(iou, 2): _mean(row) for iou, row in zip(IOUS, table, strict=True)}
    found = dict(zip(by_iou, table, strict=True))
    counted = pool.truth.classes[~pool.truth.ignored]
    by_class = pd.DataFrame(
        {
            "label": list(classes),
            "truth": [int((counted == index).sum()) for index in range(len(classes))],
            "map": table[1:].mean(axis=0),
            "ap50": found[0.5],
            "ap75": found[0.75],
            "ap40": found[0.4],
        }
    )
    return CocoScores(
        map=_mean(table[1:]),
        ap=by_iou,
        by_size={name: _mean(_table(pool, COCO_IOUS, len(classes), size=size)) for name, size in sizes.items()},
        by_class=by_class,
    )


def average_precision(
    rasters: Sequence[PairedCrowns], *, iou_threshold: float, size: tuple[float, float] | None = None
) -> float:
    """Return the average precision at one IoU threshold, all crowns as one class.

    Args:
        rasters: Crowns in metres, predictions with any score.
        iou_threshold: A prediction may take a crown where their IoU is at least this; above 0, at most 1.
        size: Least and largest box area in square metres; None: all sizes.

    Returns:
        0 to 1; NaN where no crown counts.

    Raises:
        ConfigError: A threshold out of range.

    >>> box, scores = np.array([[0.0, 0, 4, 4]]), np.array([0.9, 0.8], np.float32)
    >>> average_precision([PairedCrowns(box, np.array([[8.0, 8, 9, 9], [0, 0, 4, 4]]), scores)], iou_threshold=0.5)
    0.5
    """
    _check(iou_threshold)
    pool = Pool.of(rasters, least=iou_threshold, by_class=False)
    return float(_table(pool, (iou_threshold,), 1, size=size)[0, 0])


def precision_recall(rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4) -> pd.DataFrame:
    """Return precision and recall over all crowns by falling score threshold, matched as for average precision.

    Args:
        rasters: Crowns in metres, predictions with any score; all crowns as one class.
        iou_threshold: A prediction may take a crown where their IoU is at least this; above 0, at most 1.

    Returns:
        Columns ``score``, ``recall`` (NaN where no crown counts) and ``precision`` (as counted, no envelope), one row
        for each score found, thinned to at most 500; empty where nothing is predicted.

    Raises:
        ConfigError: A threshold out of range.

    >>> box, scores = np.array([[0.0, 0, 4, 4]]), np.array([0.5, 0.25], np.float32)
    >>> precision_recall([PairedCrowns(box, np.array([[0.0, 0, 4, 4], [8, 8, 9, 9]]), scores)])
       score  recall  precision
    0   0.50     1.0        1.0
    1   0.25     1.0        0.5
    """
    _check(iou_threshold)
    pool = Pool.of(rasters, least=iou_threshold, by_class=False)
    hit, counts = pool.outcomes(iou_threshold, pool.truth.ignored, pool.predicted.ignored)
    scores, hits = pool.scores[counts], np.cumsum(hit[counts])
    # Predictions of one score stand or fall together, so a curve has a point at the last of them alone.
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)[: len(scores)])
    if len(last) > ROWS:
        last = last[np.linspace(0, len(last) - 1, ROWS).round().astype(np.int64)]
    truth = int((~pool.truth.ignored).sum())
    return pd.DataFrame(
        {
            "score": scores[last],
            "recall": hits[last] / truth if truth else np.full(len(last), np.nan),
            "precision": hits[last] / (last + 1),
        }
    )


def _table(pool: Pool, ious: Sequence[float], classes: int, *, size: tuple[float, float] | None = None) -> Floats:
    """Return average precision by IoU threshold and class, NaN without truth; float64 ``[T, K]``."""
    truth_ignored, predicted_ignored = pool.truth.ignored_beyond(size), pool.predicted.ignored_beyond(size)
    truth = [int((pool.truth.classes[~truth_ignored] == index).sum()) for index in range(classes)]
    table = np.full((len(ious), classes), np.nan)
    for row, iou in enumerate(ious):
        hit, counts = pool.outcomes(iou, truth_ignored, predicted_ignored)
        hit, of_class = hit[counts], pool.predicted.classes[counts]
        for index in np.flatnonzero(truth):
            table[row, index] = _averaged(hit[of_class == index], truth[index])
    return table


def _averaged(hit: Bools, truth: int) -> float:
    """Average the envelope of precision over 101 recalls; ``hit`` by falling score, of the predictions that count."""
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(hits / truth, RECALLS)].mean())


def _check(iou_threshold: float) -> None:
    if not 0 < iou_threshold <= 1:
        raise ConfigError(f"iou_threshold is {iou_threshold}; give a share above 0 and at most 1, such as 0.4")


def _mean(table: Floats) -> float:
    """Return the mean of what is defined, NaN where nothing is."""
    defined = table[~np.isnan(table)]
    return float(defined.mean()) if len(defined) else float("nan")
