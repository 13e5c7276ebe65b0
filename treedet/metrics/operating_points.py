"""Score thresholds: what each gives on held-out rasters, and the operating points chosen there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core.spec import OperatingPoint
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.calibration import with_temperature
from treedet.metrics.detection import Scores, score_arrays, scores
from treedet.metrics.paired import PairedCrowns

LEAST = 0.05
"""Predictions are made once at this score and thresholded afterwards; of scores whose temperature is 1."""
LEAST_CALIBRATED = 0.01
"""Detections that are right less than once in a hundred cost more time than all others, and move no figure."""
THRESHOLDS: Floats = np.round(np.arange(0.1, 0.8, 0.01), 2)
WANTED_SHARE = 0.9
"""Precision of the point ``precise``, recall of the point ``complete``."""
NEARLY = 0.01
"""How far below the best a precision or recall may lie that is not worth more of the other."""


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """What each score threshold gives on several rasters.

    A figure that is not defined at a threshold (no truth, no predictions) is NaN.

    Attributes:
        thresholds: Float64 ``[T]``, ascending; a prediction with at least this score is kept.
        truth: Int64 ``[R]``, annotated crowns that count.
        predicted: Int64 ``[R, T]``, predicted crowns that count.
        matched: Int64 ``[R, T]``, pairs of both.
        groups: The data set of each raster.
    """

    thresholds: Floats
    truth: Index
    predicted: Index
    matched: Index
    groups: tuple[str, ...]

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """Macro and micro scores by name (see :func:`score_arrays`), each float64 ``[T]``."""
        return score_arrays(self.truth, self.predicted.T, self.matched.T)

    @property
    def recall(self) -> Floats:
        """Macro recall, float64 ``[T]``."""
        return self.scores["recall"]

    @property
    def precision(self) -> Floats:
        """Macro precision, float64 ``[T]``."""
        return self.scores["precision"]

    @property
    def f1(self) -> Floats:
        """Harmonic mean of macro recall and precision, float64 ``[T]``."""
        return self.scores["f1"]

    @property
    def micro_recall(self) -> Floats:
        """Recall over all crowns, float64 ``[T]``."""
        return self.scores["micro_recall"]

    @property
    def micro_precision(self) -> Floats:
        """Precision over all crowns, float64 ``[T]``."""
        return self.scores["micro_precision"]

    @property
    def micro_f1(self) -> Floats:
        """Harmonic mean of micro recall and precision, float64 ``[T]``."""
        return self.scores["micro_f1"]

    @property
    def count_error(self) -> Floats:
        """Mean over rasters of ``|predicted - truth|``, crowns that count; float64 ``[T]``."""
        off = np.abs(self.predicted - self.truth[:, None])
        return off.mean(axis=0) if len(off) else np.full(len(self.thresholds), np.nan)

    @cached_property
    def balanced_f1(self) -> Floats:
        """F1 of each group, averaged over the groups so that none outweighs another; 0 where undefined; ``[T]``."""
        groups = np.array(self.groups)
        members = [groups == name for name in dict.fromkeys(self.groups)]
        return np.asarray(np.mean([np.nan_to_num(self._of(rasters).f1) for rasters in members], axis=0))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per threshold: threshold, the six scores, and the crowns predicted and annotated."""
        return pd.DataFrame(
            {
                "threshold": self.thresholds,
                **self.scores,
                "predicted": self.predicted.sum(axis=0),
                "truth": int(self.truth.sum()),
            }
        )

    def _of(self, rasters: npt.NDArray[np.bool_]) -> ScoreCurve:
        chosen = tuple(name for name, kept in zip(self.groups, rasters, strict=True) if kept)
        return ScoreCurve(
            self.thresholds, self.truth[rasters], self.predicted[rasters], self.matched[rasters], chosen
        )


def least_score(temperature: float) -> float:
    """Return what :data:`LEAST` is on the scale of scores with a temperature, but at least :data:`LEAST_CALIBRATED`.

    >>> round(least_score(1.0), 2), least_score(0.5), round(least_score(1.5), 2)
    (0.05, 0.01, 0.12)
    """
    return max(LEAST_CALIBRATED, float(with_temperature(np.array([LEAST]), temperature)[0]))


def thresholds_from(least: float) -> Floats:
    """Return score thresholds to try, from the least score of the predictions upwards.

    >>> thresholds_from(0.0028)[:3].tolist(), thresholds_from(0.05)[0]
    ([0.005, 0.01, 0.015], np.float64(0.05))
    """
    every = np.round(np.arange(1, 198) * 0.005, 3)
    return every[every >= least - 1e-9]


def score_curve(
    rasters: Sequence[PairedCrowns],
    *,
    thresholds: npt.ArrayLike = THRESHOLDS,
    iou_threshold: float = 0.4,
    by_class: bool = False,
) -> ScoreCurve:
    """Return the counts at many thresholds, from one greedy matching of each raster.

    What a prediction takes in greedy matching does not depend on lower scores, so the pairs at a threshold are those
    of the full matching that score as much.

    Args:
        rasters: Truth and predictions at a score no higher than the lowest threshold.
        thresholds: Float ``[T]``, ascending.
        iou_threshold: A pair counts where its intersection over union is above this.
        by_class: Match crowns of the same class only, where there are classes.

    >>> truth = np.array([[0.0, 0, 4, 4]])
    >>> found = PairedCrowns(truth, np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([0.5, 0.3], np.float32))
    >>> curve = score_curve([found], thresholds=[0.2, 0.4, 0.6])
    >>> curve.predicted.tolist(), curve.precision.tolist()
    ([[2, 1, 0]], [0.5, 1.0, nan])
    """
    levels = np.asarray(thresholds, np.float64)
    truth = np.zeros(len(rasters), np.int64)
    predicted = np.zeros((len(rasters), len(levels)), np.int64)
    matched = np.zeros_like(predicted)
    for position, raster in enumerate(rasters):
        matching = raster.matched(iou_threshold=iou_threshold, method="greedy", by_class=by_class)
        counted, kept, hits = raster.counts(matching)
        truth[position] = counted.sum()
        predicted[position] = _at_least(raster.scores[kept], levels)
        matched[position] = _at_least(raster.scores[matching.predicted[hits]], levels)
    return ScoreCurve(levels, truth, predicted, matched, tuple(raster.group for raster in rasters))


def scores_at(rasters: Sequence[PairedCrowns], threshold: float, *, iou_threshold: float = 0.4) -> Scores:
    """Return the scores of predictions with at least a certain score, matched within their class."""
    return scores([r.at(threshold).counted(iou_threshold=iou_threshold, by_class=True) for r in rasters])


def best_threshold(rasters: Sequence[PairedCrowns]) -> tuple[float, Scores]:
    """Return the threshold with the best F1 over all crowns, and the scores there."""
    curve = score_curve(rasters, thresholds=THRESHOLDS[::2], by_class=True)
    threshold = float(curve.thresholds[np.argmax(np.nan_to_num(curve.micro_f1))])
    return threshold, scores_at(rasters, threshold)


def choose_points(
    rasters: Sequence[PairedCrowns], *, thresholds: npt.ArrayLike = THRESHOLDS, iou_threshold: float = 0.4
) -> Mapping[str, OperatingPoint]:
    """Choose the operating points.

    ``balanced`` has the best F1, averaged over the groups so that none outweighs another; ``count`` finds as many
    crowns as there are; ``precise`` is the lowest threshold with a precision of 0.9, ``complete`` the highest with
    a recall of 0.9; where 0.9 is out of reach, what comes within 0.01 of the best there is takes its place.

    Args:
        rasters: At least one, held out from training, with predictions down to the lowest threshold.
        thresholds: Float ``[T]``, ascending, to choose from.
        iou_threshold: A pair counts where its intersection over union is above this.
    """
    curve = score_curve(rasters, thresholds=thresholds, iou_threshold=iou_threshold, by_class=True)
    precision, recall = np.nan_to_num(curve.micro_precision), np.nan_to_num(curve.micro_recall)
    chosen = {
        "balanced": int(np.argmax(curve.balanced_f1)),
        "count": int(np.argmin(np.abs(curve.predicted.sum(axis=0) - curve.truth.sum()))),
        "precise": int(_reaching(precision)[0]),
        "complete": int(_reaching(recall)[-1]),
    }
    return {name: _point(curve, i) for name, i in chosen.items()}


def _reaching(shares: Floats) -> Index:
    """Return the positions of the thresholds that give the share wanted, or nearly the best there is."""
    return np.flatnonzero(shares >= min(WANTED_SHARE, shares.max() - NEARLY))


def _point(curve: ScoreCurve, position: int) -> OperatingPoint:
    precision, recall, f1 = (
        round(float(np.nan_to_num(values[position])), 4) for values in (curve.precision, curve.recall, curve.f1)
    )
    return OperatingPoint(float(curve.thresholds[position]), precision=precision, recall=recall, f1=f1)


def _at_least(values: npt.NDArray[np.float32], thresholds: Floats) -> Index:
    """Count the values that are at least each threshold, both as float32."""
    return len(values) - np.searchsorted(np.sort(values), thresholds.astype(np.float32)).astype(np.int64)
