"""Which detections of different windows are parts of one crown, and the box they make together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from treedet.core.boxes import BOTTOM, LEFT, RIGHT, SIDES, TOP, area, intersection
from treedet.core.neighbours import Index, Pairs, filter_pairs, overlapping_pairs
from treedet.core.suppression import MergeConfig, comparable
from treedet.inference.candidates import Candidates

AGREEMENT = 0.7
"""Parts of one crown share more than this of the shorter of their extents along the seam.

Of a convex crown seen without error the shorter extent lies within the longer one; the rest is room for noise.
"""

Mask = npt.NDArray[np.bool_]


def reach(config: MergeConfig) -> float:
    """Return the widest gap between two parts of one crown, in pixels.

    The first ends within a margin of the edge of its window, the next window begins within a margin of that edge,
    and the second within a margin of its window's. No later detection further away can be linked.
    """
    return 3 * config.cut_margin_px


def beyond_cut(candidates: Candidates, a: Index, b: Index) -> Mask:
    """Return where ``b[k]`` goes on beyond an edge at which its window cuts ``a[k]``: it shows more of the crown."""
    past = np.empty((len(a), 4), np.bool_)
    past[:, :2] = candidates.boxes[b, :2] < candidates.windows[a, :2]
    past[:, 2:] = candidates.boxes[b, 2:] > candidates.windows[a, 2:]
    cut = (candidates.sides[a][:, None] & SIDES) != 0
    return np.asarray((past & cut).any(axis=1))


def facing(candidates: Candidates, a: Index, b: Index, config: MergeConfig) -> Mask:
    """Return where ``a[k]`` and ``b[k]`` are the two ends of a crown wider than the overlap of their windows."""
    sides_a, sides_b = candidates.sides[a], candidates.sides[b]
    found = np.zeros(len(a), np.bool_)
    for axis, (near, far) in enumerate(((LEFT, RIGHT), (TOP, BOTTOM))):
        at = np.flatnonzero((sides_a & far != 0) & (sides_b & near != 0))
        found[at] |= _facing_along(candidates, a[at], b[at], axis, config)
        at = np.flatnonzero((sides_b & far != 0) & (sides_a & near != 0))
        found[at] |= _facing_along(candidates, b[at], a[at], axis, config)
    return found


def _facing_along(candidates: Candidates, a: Index, b: Index, axis: int, config: MergeConfig) -> Mask:
    """Return where ``a``, cut at the far end of its window, and ``b``, at the near end of its own, are one crown.

    Both have to span all ground that the windows share along the axis (0 is x), else one of the windows sees the
    crown's end; and they have to agree along the seam.
    """
    margin = config.cut_margin_px
    first, second, window, following = (
        candidates.boxes[a],
        candidates.boxes[b],
        candidates.windows[a],
        candidates.windows[b],
    )
    near, far, along, until = axis, axis + 2, 1 - axis, 3 - axis
    seam_start, seam_end = following[:, near], window[:, far]
    in_order = (window[:, near] < seam_start) & (seam_end < following[:, far])
    meet = (seam_start <= seam_end + margin) & (second[:, near] - first[:, far] <= reach(config))
    span = (first[:, near] <= seam_start + margin) & (second[:, far] >= seam_end - margin)
    shared = np.minimum(first[:, until], second[:, until]) - np.maximum(first[:, along], second[:, along])
    shorter = np.minimum(first[:, until] - first[:, along], second[:, until] - second[:, along])
    return np.asarray(in_order & meet & span & (shared > 0) & (shared > AGREEMENT * shorter))


def links(candidates: Candidates, config: MergeConfig) -> Pairs:
    """Return the pairs of cut detections to be joined if both are kept.

    Either they face each other across a seam, or they share so much that one would have to give way to the other
    although it shows a part of the crown that the other can not.
    """
    cut = candidates.take(np.flatnonzero(candidates.sides))
    grown = cut.boxes + np.array([-1, -1, 1, 1]) * (reach(config) / 2 + 1)
    areas = area(cut.boxes)

    def linked(i: Index, j: Index) -> Mask:
        shared, area_i, area_j = intersection(cut.boxes[i], cut.boxes[j]), areas[i], areas[j]
        alike = shared > config.ios_threshold * np.minimum(area_i, area_j)
        alike |= shared > config.iou_threshold * (area_i + area_j - shared)
        found = facing(cut, i, j, config)
        at = np.flatnonzero(alike & ~found)
        found[at] = beyond_cut(cut, i[at], j[at]) | beyond_cut(cut, j[at], i[at])
        return found

    i, j = filter_pairs(comparable(overlapping_pairs(grown), cut.classes, config), linked)
    source = np.flatnonzero(candidates.sides)
    return source[i], source[j]


def components(n: int, edges: list[Pairs]) -> Index:
    """Return the number of the connected component of each of ``n`` nodes."""
    i = np.concatenate([first for first, _ in edges])
    j = np.concatenate([second for _, second in edges])
    if not len(i):
        return np.arange(n)  # most small windows; scipy takes a millisecond to say the same
    graph = coo_array((np.ones(len(i), np.bool_), (i, j)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def join(parts: Candidates, group: Index, rank: Index, config: MergeConfig) -> Candidates:
    """Return one candidate for each group: the box around its members; score, class and attributes of the best.

    A side stays cut if all members that reach it, within the margin, are cut there: one that is not has seen the
    crown's end.

    Args:
        parts: The members, at least one.
        group: Int64 ``[N]``, number of the group of each member.
        rank: Int64 ``[N]``, place of each member in the order of preference.
        config: Gives the margin.

    Returns:
        Candidates in ascending order of ``group``.
    """
    together = np.lexsort((rank, group))
    parts, group = parts.take(together), group[together]
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    best = parts.take(starts)
    boxes, windows = (_around(values, starts) for values in (parts.boxes, parts.windows))
    size = np.diff(np.append(starts, len(group)))
    aside = np.abs(parts.boxes - np.repeat(boxes, size, axis=0)) > config.cut_margin_px
    cut = (parts.sides[:, None] & SIDES) != 0
    sides = np.where(np.logical_and.reduceat(aside | cut, starts), SIDES, np.uint8(0)).sum(axis=1, dtype=np.uint8)
    edge = np.logical_or.reduceat(parts.edge, starts)
    return replace(best, boxes=boxes, windows=windows, sides=sides, edge=edge)


def _around(boxes: npt.NDArray[np.float64], starts: Index) -> npt.NDArray[np.float64]:
    """Return the box around each run of boxes."""
    low = np.minimum.reduceat(boxes[:, :2], starts)
    return np.concatenate([low, np.maximum.reduceat(boxes[:, 2:], starts)], axis=1)
