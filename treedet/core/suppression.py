"""One box per crown: the rule by which a detection gives way to a better one.

The same rule, with the same settings, serves inside a window and between windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes, area, intersection
from treedet.core.neighbours import Index, Pairs, filter_pairs, overlapping_pairs
from treedet.errors import ConfigError


@dataclass(frozen=True)
class MergeConfig:
    """When two detections are taken for one crown.

    Attributes:
        iou_threshold: A detection gives way to a better one with more than this intersection over union.
        ios_threshold: A cut detection also gives way to a better one that covers more than this share of it.
        per_class: Only detections of one class give way to each other.
        cut_margin_px: A box that comes this close to a window edge is cut by it, in pixels.
    """

    iou_threshold: float = 0.4
    ios_threshold: float = 0.6
    per_class: bool = False
    cut_margin_px: float = 2.0

    def __post_init__(self) -> None:
        for name in ("iou_threshold", "ios_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be a share from 0 to 1, found {value}")
        if not (math.isfinite(self.cut_margin_px) and self.cut_margin_px >= 0):
            raise ConfigError(f"cut_margin_px must be a number of pixels, 0 or more, found {self.cut_margin_px}")


def preference_order(
    boxes: Boxes,
    scores: npt.NDArray[np.floating[Any]],
    *,
    classes: Index,
    sides: npt.NDArray[np.uint8],
    order: Index | None = None,
) -> Index:
    """Return the positions of detections, best first.

    Whole before cut, then score, then larger area, then ymin, xmin, ymax, xmax, class, running number: a total
    order, so that results do not depend on the order in which detections arrive.

    Args:
        boxes: Float ``[N, 4]``.
        scores: Float ``[N]``.
        classes: Int64 ``[N]``.
        sides: Uint8 ``[N]``, bits of the sides that are cut; 0 = whole.
        order: Int64 ``[N]``, a different number for each detection; None takes the positions.

    Returns:
        Int64 ``[N]``.

    >>> boxes = np.array([[0.0, 0, 4, 4], [0, 0, 5, 5], [0, 0, 6, 6]])
    >>> cut = np.array([0, 4, 0], np.uint8)
    >>> preference_order(boxes, np.array([0.5, 0.9, 0.5]), classes=np.zeros(3, np.int64), sides=cut).tolist()
    [2, 0, 1]
    """
    number = np.arange(len(boxes)) if order is None else order
    by_score = np.argsort(-scores, kind="stable")
    cut = sides[by_score] != 0
    best = np.concatenate([by_score[~cut], by_score[cut]])
    # Equal scores are rare, so the many other keys are compared only where they are needed.
    score, is_cut = scores[best], sides[best] != 0
    same = (score[1:] == score[:-1]) & (is_cut[1:] == is_cut[:-1])
    run = np.concatenate([np.zeros(min(len(best), 1), np.int64), np.cumsum(~same)])
    tied = np.concatenate([same, [False]])[: len(best)] | np.concatenate([[False], same])[: len(best)]
    at = best[tied]
    xmin, ymin, xmax, ymax = boxes[at].T
    best[tied] = at[np.lexsort((number[at], classes[at], xmax, ymax, xmin, ymin, -area(boxes[at]), run[tied]))]
    return best


@dataclass(frozen=True)
class Ranking:
    """Boxes that compete for crowns, and the place of each in the order of preference.

    Attributes:
        boxes: Float ``[N, 4]``.
        cut: Bool ``[N]``.
        rank: Int64 ``[N]``, 0 for the best.
    """

    boxes: Boxes
    cut: npt.NDArray[np.bool_]
    rank: Index

    @classmethod
    def build(cls, boxes: Boxes, sides: npt.NDArray[np.uint8], best: Index) -> Ranking:
        """Rank boxes by their positions in order of preference."""
        rank = np.empty(len(best), np.int64)
        rank[best] = np.arange(len(best))
        return cls(boxes, sides != 0, rank)

    def conflicts(self, pairs: Pairs, config: MergeConfig) -> Pairs:
        """Return those pairs of which the second has to give way if the first is kept.

        That is where their IoU exceeds ``iou_threshold``, or the second is cut and the first covers more than
        ``ios_threshold`` of it.

        Args:
            pairs: Positions of boxes that may overlap, each pair once, either way round.
            config: Thresholds.

        Returns:
            Positions of the better and of the worse box of each pair in conflict.
        """
        boxes, areas, cut = self.boxes, area(self.boxes), self.cut

        def alike(i: Index, j: Index) -> npt.NDArray[np.bool_]:
            shared = intersection(boxes[i], boxes[j])
            covered = (cut[i] & (shared > config.ios_threshold * areas[i])) | (
                cut[j] & (shared > config.ios_threshold * areas[j])
            )
            return np.asarray(covered | (shared > config.iou_threshold * (areas[i] + areas[j] - shared)))

        i, j = filter_pairs(pairs, alike)
        ahead = self.rank[i] < self.rank[j]
        better, worse = np.where(ahead, i, j), np.where(ahead, j, i)
        shared = intersection(boxes[better], boxes[worse])
        covered = cut[worse] & (shared > config.ios_threshold * areas[worse])
        clash = covered | (shared > config.iou_threshold * (areas[better] + areas[worse] - shared))
        return better[clash], worse[clash]

    def survivors(self, conflicts: Pairs) -> npt.NDArray[np.bool_]:
        """Return which boxes are left when each, from the best down, drops those it is in conflict with.

        Args:
            conflicts: Positions of the better and the worse box, as :meth:`conflicts` returns them.

        Returns:
            Bool ``[N]``.
        """
        better, worse = conflicts
        turn = np.argsort(self.rank[better], kind="stable")
        alive = bytearray(b"\x01") * len(self.boxes)
        # By the time a box takes its turn, all that could have dropped it have had theirs.
        for a, b in zip(better[turn].tolist(), worse[turn].tolist(), strict=True):
            if alive[a]:
                alive[b] = 0
        return np.frombuffer(alive, dtype=np.bool_)


def suppress(
    boxes: Boxes,
    scores: npt.NDArray[np.floating[Any]],
    *,
    classes: Index,
    sides: npt.NDArray[np.uint8],
    config: MergeConfig,
) -> Index:
    """Return the detections to keep: greedy suppression, exact, of boxes that share a crown with a better one.

    In order of preference, a detection is dropped if one that is kept has IoU > ``iou_threshold`` with it, or if
    it is itself cut and one that is kept covers more than ``ios_threshold`` of its area. A small whole crown
    therefore never removes a much larger cut one.

    Args:
        boxes: Float ``[N, 4]``, ``(xmin, ymin, xmax, ymax)``.
        scores: Float ``[N]``.
        classes: Int64 ``[N]``; looked at only with ``per_class``, and to order equals.
        sides: Uint8 ``[N]``, bits of the sides that are cut; 0 = whole.
        config: Thresholds.

    Returns:
        Int64 ``[K]``, positions of the detections kept, best first.

    >>> boxes, scores = np.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]), np.array([0.7, 0.8, 0.6])
    >>> none, tree = np.zeros(3, np.uint8), np.zeros(3, np.int64)
    >>> suppress(boxes, scores, classes=tree, sides=none, config=MergeConfig()).tolist()
    [1, 2]
    """
    best = preference_order(boxes, scores, classes=classes, sides=sides)
    ranking = Ranking.build(boxes, sides, best)
    pairs = comparable(overlapping_pairs(boxes), classes, config)
    alive = ranking.survivors(ranking.conflicts(pairs, config))
    return best[alive[best]]


def comparable(pairs: Pairs, classes: Index, config: MergeConfig) -> Pairs:
    """Return those pairs that may be one crown: all of them, or with ``per_class`` those of one class."""
    if not config.per_class:
        return pairs
    return filter_pairs(pairs, lambda i, j: np.asarray(classes[i] == classes[j]))
