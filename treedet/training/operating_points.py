"""Score thresholds chosen on images held out from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.spec import OperatingPoint
from treedet.inference.detector import Detector
from treedet.metrics.detection import RasterCount, Scores, scores
from treedet.metrics.matching import match_boxes
from treedet.rasters.raster import Raster

LEAST = 0.05
"""Predictions are made once at this score and thresholded afterwards."""
THRESHOLDS = np.round(np.arange(0.1, 0.8, 0.01), 2)


@dataclass(frozen=True)
class Prediction:
    """Annotated and predicted crowns of one image.

    Attributes:
        truth: Float ``[N, 4]``, pixels of the image.
        boxes: Float ``[M, 4]``, likewise.
        scores: Float32 ``[M]``.
        source: Name of the set.
        truth_classes: Int64 ``[N]``; None where there is one class.
        classes: Int64 ``[M]``; None where there is one class.
        excused: Bool ``[M]``: on ground where nothing is known, so no false alarm without a crown; None: none.
    """

    truth: npt.NDArray[np.floating]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    source: str
    truth_classes: npt.NDArray[np.int64] | None = None
    classes: npt.NDArray[np.int64] | None = None
    excused: npt.NDArray[np.bool_] | None = None

    def matched(
        self, threshold: float, *, iou_threshold: float = 0.4
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Match what scores at least ``threshold`` with the truth of the same class.

        Returns:
            Int64 ``[K]`` positions in ``truth`` and in ``boxes``.
        """
        kept = np.flatnonzero(self.scores >= threshold)
        if self.classes is None or self.truth_classes is None:
            t, p = match_boxes(self.truth, self.boxes[kept], iou_threshold=iou_threshold)
            return t, kept[p]
        pairs: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for name in np.unique(self.truth_classes):
            here, there = np.flatnonzero(self.truth_classes == name), kept[self.classes[kept] == name]
            t, p = match_boxes(self.truth[here], self.boxes[there], iou_threshold=iou_threshold)
            pairs.append((here[t], there[p]))
        return np.concatenate([t for t, _ in pairs]), np.concatenate([p for _, p in pairs])

    def counted(self, threshold: float, *, iou_threshold: float = 0.4) -> RasterCount:
        """Count what scores at least ``threshold``."""
        hits, _ = self.matched(threshold, iou_threshold=iou_threshold)
        found = self.counts_at(threshold, iou_threshold=iou_threshold)
        return RasterCount(len(self.truth), int(found.sum()), len(hits))

    def counts_at(self, threshold: float, *, iou_threshold: float = 0.4) -> npt.NDArray[np.bool_]:
        """Tell which detections count: those with the score, unless excused and without a crown; bool ``[M]``."""
        found = self.scores >= threshold
        if self.excused is not None:
            _, hits = self.matched(threshold, iou_threshold=iou_threshold)
            found = found & ~self.excused
            found[hits] = True
        return found


def predicted_boxes(
    detector: Detector, path: Path, *, gsd: float | None = None, threshold: float | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Predict an image as a user would, and return boxes in pixels of its file, and scores.

    Args:
        detector: The model.
        path: Image.
        gsd: Metres per pixel, where the file does not say.
        threshold: Least score; the model's default if None.
    """
    table = detector.predict(path, gsd=gsd, score_threshold=threshold)
    with Raster.open(path, gsd=gsd) as raster:
        boxes = raster.native_grid.to_pixels(table.geometry.to_numpy())
    return boxes, table["score"].to_numpy(np.float32)


def scores_at(predictions: Sequence[Prediction], threshold: float, *, iou_threshold: float = 0.4) -> Scores:
    """Return the scores of predictions with at least a certain score."""
    return scores([p.counted(threshold, iou_threshold=iou_threshold) for p in predictions])


def best_threshold(predictions: Sequence[Prediction]) -> tuple[float, Scores]:
    """Return the threshold with the best F1 over all crowns, and the scores there."""
    tried = [(scores_at(predictions, t), float(t)) for t in THRESHOLDS[::2]]
    best, threshold = max(tried, key=lambda pair: (pair[0].micro_f1, -pair[1]))
    return threshold, best


def choose_points(predictions: Sequence[Prediction]) -> Mapping[str, OperatingPoint]:
    """Choose the operating points.

    ``balanced`` has the best F1, averaged over the sets so that none outweighs another; ``count`` finds as many
    crowns as there are; ``precise`` is the lowest threshold with a precision of 0.9, ``complete`` the highest with
    a recall of 0.9, or else those that come closest.

    Args:
        predictions: Images held out from training.
    """
    sets = {name: [p for p in predictions if p.source == name] for name in {p.source for p in predictions}}
    all_scores = [scores_at(predictions, t) for t in THRESHOLDS]
    f1 = [np.mean([scores_at(members, t).f1 for members in sets.values()]) for t in THRESHOLDS]
    truth = sum(len(p.truth) for p in predictions)
    found = np.array([sum(p.counted(t).predicted for p in predictions) for t in THRESHOLDS])
    precision = np.array([s.micro_precision for s in all_scores])
    recall = np.array([s.micro_recall for s in all_scores])
    precise, complete = np.flatnonzero(precision >= 0.9), np.flatnonzero(recall >= 0.9)
    chosen = {
        "balanced": int(np.argmax(f1)),
        "count": int(np.argmin(np.abs(found - truth))),
        "precise": int(precise[0]) if len(precise) else int(np.argmax(precision)),
        "complete": int(complete[-1]) if len(complete) else int(np.argmax(recall)),
    }
    return {
        name: OperatingPoint(
            threshold=float(THRESHOLDS[i]),
            precision=round(all_scores[i].precision, 4),
            recall=round(all_scores[i].recall, 4),
            f1=round(all_scores[i].f1, 4),
        )
        for name, i in chosen.items()
    }
