"""One-to-one matching of predicted crowns to annotated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes, area, intersection
from treedet.core.neighbours import overlapping_pairs
from treedet.metrics.assignment import Floats, Index, assign

Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """All pairs of an annotated and a predicted crown that share area.

    Attributes:
        truth: Int64 ``[P]``, positions of the annotated crowns.
        predicted: Int64 ``[P]``, positions of the predicted crowns.
        intersection: Float64 ``[P]``, the area shared, in the squared unit of the boxes.
        iou: Float64 ``[P]``, intersection over union (Jaccard index), above 0.
    """

    truth: Index
    predicted: Index
    intersection: Floats
    iou: Floats

    @classmethod
    def of(cls, truth: Boxes, predicted: Boxes) -> Overlaps:
        """Find the pairs of boxes that share area.

        Args:
            truth: Float ``[N, 4]``.
            predicted: Float ``[M, 4]``, in the same unit.

        >>> o = Overlaps.of(np.array([[0.0, 0, 4, 4]]), np.array([[9.0, 9, 12, 12], [0, 0, 4, 5]]))
        >>> o.truth.tolist(), o.predicted.tolist(), o.intersection.tolist(), o.iou.tolist()
        ([0], [1], [16.0], [0.8])
        """
        truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
        t, p = overlapping_pairs(truth, predicted)
        shared = intersection(truth[t], predicted[p])
        union = area(truth)[t] + area(predicted)[p] - shared
        return cls(t, p, np.asarray(shared), np.asarray(shared / union))

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, chosen: Bools | Index) -> Overlaps:
        """Return some of the pairs, by a mask or by positions."""
        return Overlaps(self.truth[chosen], self.predicted[chosen], self.intersection[chosen], self.iou[chosen])


@dataclass(frozen=True, eq=False)
class Matching:
    """Crowns matched one to one: no crown comes twice.

    Attributes:
        truth: Int64 ``[K]``, positions of the annotated crowns.
        predicted: Int64 ``[K]``, positions of the predicted crowns.
        iou: Float64 ``[K]``, intersection over union of each pair.
    """

    truth: Index
    predicted: Index
    iou: Floats

    def __len__(self) -> int:
        return len(self.truth)


def hungarian(
    overlaps: Overlaps, *, iou_threshold: float = 0.4, weight: Literal["iou", "intersection"] = "iou"
) -> Matching:
    """Match one to one so that the sum of overlaps is largest (Hungarian assignment, Kuhn 1955), then threshold.

    Args:
        overlaps: The pairs to choose from.
        iou_threshold: A chosen pair counts where its intersection over union is above this.
        weight: What to sum: ``iou``, or the area of the ``intersection`` (as DeepForest does).

    >>> boxes = np.array([[0.0, 0, 4, 4], [3, 0, 7, 4]])
    >>> hungarian(Overlaps.of(boxes, boxes)).predicted.tolist()
    [0, 1]
    """
    positions = assign(overlaps.truth, overlaps.predicted, overlaps.iou if weight == "iou" else overlaps.intersection)
    return _pairs(overlaps, positions[overlaps.iou[positions] > iou_threshold])


def greedy(overlaps: Overlaps, scores: npt.NDArray[np.floating[Any]], *, iou_threshold: float = 0.4) -> Matching:
    """Let predictions choose in the order of their scores: each takes the free truth with the highest overlap.

    Of equal scores the lower position chooses first; of equal overlaps it takes the lower position. What a prediction
    takes never depends on lower scores, so one matching serves all score thresholds.

    Args:
        overlaps: The pairs to choose from.
        scores: Float ``[M]``, of all predictions.
        iou_threshold: A pair is possible where its intersection over union is above this.

    Returns:
        The pairs, by falling score.

    >>> o = Overlaps.of(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 4], [0, 0, 4, 5]]))
    >>> greedy(o, np.array([0.5, 0.9])).predicted.tolist()
    [1]
    """
    enough = np.flatnonzero(overlaps.iou > iou_threshold)
    if not len(enough):
        return _pairs(overlaps, enough)
    pairs = overlaps.take(enough)
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-np.asarray(scores), kind="stable")] = np.arange(len(scores))
    order = np.lexsort((pairs.truth, -pairs.iou, rank[pairs.predicted]))
    return _pairs(overlaps, enough[order[_first_come(pairs.truth[order], pairs.predicted[order])]])


def match_boxes(truth: Boxes, predicted: Boxes, *, iou_threshold: float = 0.4) -> tuple[Index, Index]:
    """Match boxes one to one so that the sum of overlaps is largest (see :func:`hungarian`).

    Args:
        truth: Float ``[N, 4]``.
        predicted: Float ``[M, 4]``.
        iou_threshold: A pair counts where its intersection over union is above this.

    Returns:
        Int64 ``[K]`` positions in ``truth`` and in ``predicted``.

    >>> t, p = match_boxes(np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([[0.0, 0, 4, 5]]))
    >>> t.tolist(), p.tolist()
    ([0], [0])
    """
    found = hungarian(Overlaps.of(truth, predicted), iou_threshold=iou_threshold)
    return found.truth, found.predicted


def _pairs(overlaps: Overlaps, positions: Index) -> Matching:
    return Matching(overlaps.truth[positions], overlaps.predicted[positions], overlaps.iou[positions])


def _first_come(truth: Index, predicted: Index) -> Index:
    """Go through the pairs in order and take each whose crowns are both still free; return the positions taken.

    One pass over plain integers: each choice hangs on the one before, and the pass takes less time than the rounds of
    array operations that settle independent choices together, whatever the order of the scores.
    """
    truth_taken, predicted_taken = bytearray(int(truth.max()) + 1), bytearray(int(predicted.max()) + 1)
    taken = []
    for position, (t, p) in enumerate(zip(truth.tolist(), predicted.tolist(), strict=True)):
        if not truth_taken[t] and not predicted_taken[p]:
            truth_taken[t] = predicted_taken[p] = 1
            taken.append(position)
    return np.array(taken, np.int64)
