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
    truth, predicted = pairs.truth[order], rank[pairs.predicted[order]]
    taken = settle(truth, predicted, truths=int(truth.max()) + 1, predictions=len(scores))
    return _pairs(overlaps, enough[order[taken[predicted] == truth]])


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


def settle(truth: Index, predicted: Index, *, truths: int, predictions: int) -> Index:
    """Let predictions choose in the order of their numbers: each takes the first free truth on its list.

    By deferred acceptance (Gale and Shapley 1962): all undecided predictions ask for the next truth on their lists at
    once, a truth keeps the lowest number that ever asked, the others ask on. As every truth prefers the lower number,
    the one stable outcome is that of choosing one after the other; no pair is looked at twice.

    Args:
        truth: Int64 ``[P]``, the lists of all predictions behind one another, each by falling preference.
        predicted: Int64 ``[P]``, whose list it is; rising.
        truths: Number of truths.
        predictions: Number of predictions.

    Returns:
        Int64 ``[predictions]``: the truth each takes, -1 for none.

    >>> settle(np.array([0, 1, 0]), np.array([0, 1, 2]), truths=2, predictions=3).tolist()
    [0, 1, -1]
    """
    place = np.searchsorted(predicted, np.arange(predictions))
    stop = np.searchsorted(predicted, np.arange(predictions), side="right")
    holder = np.full(truths, predictions)
    asking = np.flatnonzero(place < stop)
    while len(asking):
        wanted = truth[place[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        accepted = holder[wanted] == asking
        displaced = before[accepted]
        refused = np.concatenate([asking[~accepted], displaced[displaced < predictions]])
        place[refused] += 1
        asking = refused[place[refused] < stop[refused]]
    taken = np.full(predictions, -1)
    held = np.flatnonzero(holder < predictions)
    taken[holder[held]] = held
    return taken


def _pairs(overlaps: Overlaps, positions: Index) -> Matching:
    return Matching(overlaps.truth[positions], overlaps.predicted[positions], overlaps.iou[positions])
