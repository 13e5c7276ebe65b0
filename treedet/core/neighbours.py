"""Which boxes overlap: a spatial join that never looks at all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes

Index: TypeAlias = npt.NDArray[np.int64]
Pairs: TypeAlias = tuple[Index, Index]

CHUNK = 1 << 18
"""Pairs looked at in one go: few enough to stay in the processor's cache, and to bound the memory of a join."""

LIFT = 3
"""Levels by which the smallest boxes may be lifted, so that a few slivers do not cost joins of their own."""


def overlapping_pairs(boxes: Boxes, others: Boxes | None = None) -> Pairs:
    """Return the pairs of boxes that share a positive area.

    Time and memory grow with the number of boxes and of pairs found, not with all pairs: boxes are sorted into
    levels by their larger side, and each level is laid out in rows as high as its boxes, so that whatever overlaps
    a box lies in three rows, in one stretch of each.

    Args:
        boxes: Float ``[N, 4]``, ``(xmin, ymin, xmax, ymax)``, finite, of any sign and scale.
        others: Float ``[M, 4]`` to pair ``boxes`` with; None pairs ``boxes`` among themselves.

    Returns:
        Two int64 arrays ``[P]``: positions in ``boxes``, and in ``others`` (or in ``boxes`` again, where the first
        is then the smaller of the two). Each pair comes once, in no particular order.

    >>> first, second = overlapping_pairs(np.array([[0.0, 0, 2, 2], [5, 5, 6, 6], [1, 1, 3, 3]]))
    >>> first.tolist(), second.tolist()
    ([0], [2])
    """
    mine = _Boxes.of(boxes)
    found: list[Pairs] = []
    if others is None:
        for level in np.unique(mine.level):
            here = mine.take(mine.level == level)
            found += _join_within(here, 2.0**level)
            found += _join_across(mine.take(mine.level < level), here, 2.0**level)
        first, second = _gather(found)
        return np.minimum(first, second), np.maximum(first, second)
    theirs = _Boxes.of(others)
    for level in np.union1d(mine.level, theirs.level):
        found += _join_across(mine.take(mine.level <= level), theirs.take(theirs.level == level), 2.0**level)
        swapped = _join_across(theirs.take(theirs.level < level), mine.take(mine.level == level), 2.0**level)
        found += [(first, second) for second, first in swapped]
    return _gather(found)


def filter_pairs(pairs: Pairs, keep: Callable[[Index, Index], npt.NDArray[np.bool_]]) -> Pairs:
    """Return the pairs for which ``keep`` says so, asking about a bounded number at a time.

    >>> pairs = np.array([0, 1, 2]), np.array([3, 1, 4])
    >>> [kept.tolist() for kept in filter_pairs(pairs, lambda i, j: i != j)]
    [[0, 2], [3, 4]]
    """
    first, second = pairs
    chunks = [(first[k : k + CHUNK], second[k : k + CHUNK]) for k in range(0, len(first), CHUNK)]
    kept = [(i[chosen], j[chosen]) for i, j in chunks for chosen in [keep(i, j)]]
    return _gather(kept)


@dataclass(frozen=True)
class _Boxes:
    """Columns of the boxes that have an area, where each came from, and its level.

    The level is the exponent of a power of two that exceeds the larger side: the next one, or for the smallest
    quarter of the boxes up to ``LIFT`` more.
    """

    xmin: npt.NDArray[np.float64]
    ymin: npt.NDArray[np.float64]
    xmax: npt.NDArray[np.float64]
    ymax: npt.NDArray[np.float64]
    source: Index
    level: npt.NDArray[np.int32]

    @classmethod
    def of(cls, boxes: Boxes) -> _Boxes:
        columns = np.ascontiguousarray(np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T)
        width, height = columns[2] - columns[0], columns[3] - columns[1]
        solid = np.flatnonzero((width > 0) & (height > 0))
        level = np.frexp(np.maximum(width, height)[solid])[1]
        xmin, ymin, xmax, ymax = columns[:, solid]
        if len(level):
            usual = np.partition(level, len(level) // 4)[len(level) // 4]
            level = np.maximum(level, np.minimum(level + LIFT, usual))
        return cls(xmin, ymin, xmax, ymax, solid, level)

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Index | npt.NDArray[np.bool_]) -> _Boxes:
        return _Boxes(
            self.xmin[index],
            self.ymin[index],
            self.xmax[index],
            self.ymax[index],
            self.source[index],
            self.level[index],
        )


def _gather(found: list[Pairs]) -> Pairs:
    """Put partial results together."""
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([first for first, _ in found]), np.concatenate([second for _, second in found])


def _join_within(boxes: _Boxes, side: float) -> list[Pairs]:
    """Pair boxes of one level: each with those that begin right of its left edge and left of its right edge."""
    boxes = boxes.take(np.argsort(boxes.xmin, kind="stable"))
    rank = np.arange(len(boxes))
    stop = np.searchsorted(boxes.xmin, boxes.xmax)
    row = _rows(boxes.ymin, side, len(boxes))
    order = np.argsort(row, kind="stable")
    boxes, row = boxes.take(order), row[order]
    key = row * (len(boxes) + 1)
    return list(_scan(boxes, boxes, key + rank[order], (key, rank[order] + 1, stop[order])))


def _join_across(query: _Boxes, target: _Boxes, side: float) -> list[Pairs]:
    """Pair smaller boxes with those of one level, all narrower than ``side``."""
    if not len(query) or not len(target):
        return []
    target = target.take(np.argsort(target.xmin, kind="stable"))
    n = len(target)
    # xmin > query.xmin - side is exact in floating point, because no target is as wide as ``side``.
    start = np.searchsorted(target.xmin, query.xmin - side)
    stop = np.searchsorted(target.xmin, query.xmax)
    row = _rows(np.concatenate([query.ymin, target.ymin]), side, n)
    query_key, target_key = row[: len(query)] * (n + 1), row[len(query) :] * (n + 1) + np.arange(n)
    order = np.argsort(target_key)
    # Neighbouring queries should look up neighbouring keys: in random order the searches miss the cache.
    by_place = np.argsort(query_key + start)
    ranges = (query_key[by_place], start[by_place], stop[by_place])
    return list(_scan(query.take(by_place), target.take(order), target_key[order], ranges))


def _rows(ymin: npt.NDArray[np.float64], side: float, n: int) -> Index:
    """Return the row, ``side`` high, in which each box begins; those of overlapping boxes differ by at most one."""
    row = np.floor(ymin / side)
    row -= row.min()
    if row.max() < 2**62 / (n + 1):
        return row.astype(np.int64)
    # A box very far away: empty rows are left out, neighbouring rows stay neighbours.
    used, position = np.unique(row, return_inverse=True)
    renumbered = np.concatenate([[0], np.cumsum(np.minimum(np.diff(used), 2)).astype(np.int64)])
    return np.asarray(renumbered[position], dtype=np.int64)


def _scan(query: _Boxes, target: _Boxes, target_key: Index, ranges: tuple[Index, Index, Index]) -> Iterator[Pairs]:
    """Yield pairs that overlap, from stretches of sorted keys in the row of each query and in both beside it."""
    query_key, start, stop = ranges
    n = len(target)
    for row in (-1, 0, 1):
        shifted = query_key + row * (n + 1)
        begin = np.searchsorted(target_key, shifted + start)
        count = np.searchsorted(target_key, shifted + stop) - begin
        ahead = np.flatnonzero(count > 0)
        if not len(ahead):
            continue
        total = np.cumsum(count[ahead])
        breaks = np.searchsorted(total, np.arange(CHUNK, total[-1], CHUNK))
        for part in np.split(ahead, np.unique(breaks)):
            size = count[part]
            q = np.repeat(part, size)
            t = np.arange(len(q)) + np.repeat(begin[part] - (np.cumsum(size) - size), size)
            hit = (target.ymin[t] < query.ymax[q]) & (query.ymin[q] < target.ymax[t])
            q, t = q[hit], t[hit]
            hit = (target.xmin[t] < query.xmax[q]) & (query.xmin[q] < target.xmax[t])
            yield query.source[q[hit]], target.source[t[hit]]
