"""What becomes of the crowns of one run in another of the same raster, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treedet.core.boxes import Boxes, area, intersection
from treedet.core.neighbours import overlapping_pairs
from treedet.metrics.matching import match_boxes

SAME, MOVED = 0.8, 0.4
"""IoU from which two boxes are one box, and from which they are one crown."""
TWIN = 0.7
"""Share of the smaller box that two boxes of one crown have in common."""


@dataclass(frozen=True)
class Difference:
    """Crowns of two runs, set against each other.

    Attributes:
        first: Crowns of the first run.
        second: Crowns of the second run.
        same: Crowns of both, boxes with an IoU of at least 0.8.
        moved: Crowns of both, boxes with an IoU of 0.4 to 0.8.
        twins: Crowns of the first run alone that share more than 0.7 of the smaller box with another of its crowns.
        only_first: Other crowns of the first run alone.
        only_second: Crowns of the second run alone.
    """

    first: int
    second: int
    same: int
    moved: int
    twins: int
    only_first: int
    only_second: int

    def lines(self) -> list[str]:
        """Return the counts as lines for a person."""
        return [
            f"{self.first:,} crowns and {self.second:,}",
            f"the same   {self.same:,} (IoU of at least {SAME:g})",
            f"moved      {self.moved:,} (IoU of {MOVED:g} to {SAME:g})",
            f"twins      {self.twins:,} of the first lie on another of its crowns, and are gone",
            f"only first {self.only_first:,} more",
            f"only second {self.only_second:,}",
        ]


def difference(first: Boxes, second: Boxes) -> Difference:
    """Count what becomes of the crowns of a run, such as one with the original setting, in another.

    Args:
        first: Float ``[N, 4]``, boxes of the first run.
        second: Float ``[M, 4]``, boxes of the second run, in the same coordinates.

    >>> theirs = np.array([[0.0, 0, 10, 10], [0, 0, 4, 10], [20, 0, 30, 10], [50, 0, 60, 10]])
    >>> ours = np.array([[0.0, 0, 10, 10], [22, 0, 32, 10]])
    >>> difference(theirs, ours)
    Difference(first=4, second=2, same=1, moved=1, twins=1, only_first=1, only_second=0)
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    a, b = match_boxes(first, second, iou_threshold=MOVED)
    shared = intersection(first[a], second[b])
    same = int(np.count_nonzero(shared >= SAME * (area(first[a]) + area(second[b]) - shared)))
    alone = np.ones(len(first), dtype=bool)
    alone[a] = False
    i, j = overlapping_pairs(first)
    on = intersection(first[i], first[j]) > TWIN * np.minimum(area(first[i]), area(first[j]))
    doubled = np.zeros(len(first), dtype=bool)
    doubled[i[on]] = doubled[j[on]] = True
    twins = int(np.count_nonzero(alone & doubled))
    return Difference(
        first=len(first),
        second=len(second),
        same=same,
        moved=len(a) - same,
        twins=twins,
        only_first=int(np.count_nonzero(alone)) - twins,
        only_second=len(second) - len(b),
    )
