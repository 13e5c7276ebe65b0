"""One crown for each tree of a raster, though several windows saw it: sweep, close, flush.

Windows overlap, so a crown is seen whole in one and cut in the next, or cut in both if it is wider than the overlap.
:func:`merge` says what is left of any number of detections:

1. Better detections drop worse ones (:mod:`treedet.core.suppression`). A detection never drops one that goes on
   beyond the edge at which its own window cut it: that one shows more of the crown. What stays is enough: if a cut
   view of a convex crown reaches beyond none of the edges that cut another view, it lies within that other view.
2. Views of one crown that are left (:func:`treedet.inference.seams.links`) are joined into the box around them.
3. A joined crown and the detections that overlap one of its parts compete by the rule of step 1.

:class:`CrownMerger` gives the same crowns while detections arrive row by row, and keeps only those in memory that
a later row can still change.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import area, intersection
from treedet.core.neighbours import Index, Pairs, filter_pairs, overlapping_pairs
from treedet.core.suppression import MergeConfig, Ranking, comparable, preference_order
from treedet.errors import ConfigError
from treedet.inference.candidates import Candidates, concat, place
from treedet.inference.seams import beyond_cut, components, facing, join, links, reach

__all__ = ["Candidates", "CrownMerger", "MergeConfig", "concat", "merge", "place"]

Mask = npt.NDArray[np.bool_]

SLACK = 1 - 1e-9
"""Bounds are lowered by this, so that rounding never makes one sharper than what it bounds."""


def merge(candidates: Candidates, config: MergeConfig) -> Candidates:
    """Return the crowns that detections of overlapping windows stand for.

    Args:
        candidates: Detections of any windows of one raster, in any order.
        config: When two detections are one crown.

    Returns:
        Crowns, by running number. ``sides`` are those at which a crown is still cut, being wider than the overlap;
        score, class and attributes are those of its best part.
    """
    return _resolve(candidates, _relate(candidates, config), config)


class CrownMerger:
    """Merges detections row by row of windows, with the result of :func:`merge` on all of them at once.

    Args:
        config: When two detections are one crown.
        above: Lowest edge, in pixels, of the windows above the first row, if another merger takes them. What could
            meet a detection there stays open; the crowns of both mergers, and ``merge`` of what both left open, are
            together the crowns of the whole.
    """

    def __init__(self, config: MergeConfig, *, above: float = -math.inf) -> None:
        self._config = config
        self._above = above
        self._top = -math.inf
        self._open = Candidates.empty()

    @property
    def open(self) -> Candidates:
        """Detections that may still change, as they were pushed."""
        return self._open

    def restore(self, candidates: Candidates) -> None:
        """Go on from the detections that another merger had open."""
        self._open = candidates

    def push(self, candidates: Candidates, *, next_top: float) -> Candidates:
        """Take the detections of one or more rows of windows and return the crowns that are now settled.

        Args:
            candidates: Detections of the rows, windows in any order.
            next_top: Upper edge of the next row of windows, in pixels; all later detections lie below it.

        Raises:
            ConfigError: A detection lies above the ``next_top`` of the push before, so settled crowns were wrong.
        """
        if len(candidates) and candidates.boxes[:, 1].min() < self._top:
            raise ConfigError(
                f"rows of windows must be merged from top to bottom: found a detection at row "
                f"{candidates.boxes[:, 1].min():.1f} after the rows above {self._top:.1f} were settled"
            )
        self._top = next_top
        pending = concat([self._open, candidates])
        relations = _relate(pending, self._config)
        closed = _closed(pending, relations, self._config, above=self._above, below=next_top)
        self._open = pending.take(np.flatnonzero(~closed))
        return _resolve(pending.take(np.flatnonzero(closed)), relations.among(closed), self._config)

    def flush(self) -> Candidates:
        """Return the crowns of all that is open; nothing is open afterwards."""
        crowns = merge(self._open, self._config)
        self._open = self._open.take(slice(0, 0))
        return crowns


@dataclass(frozen=True)
class _Relations:
    """What candidates have to do with each other, as pairs of positions.

    Attributes:
        ranking: Their boxes and order of preference.
        touching: Pairs that overlap.
        conflicts: Pairs of a better and a worse one of which only one can be kept.
        links: Pairs that are parts of one crown if both are kept.
    """

    ranking: Ranking
    touching: Pairs
    conflicts: Pairs
    links: Pairs

    def among(self, chosen: Mask) -> _Relations:
        """Return the relations among some of the candidates, by their new positions."""
        position = np.cumsum(chosen) - 1
        touching, conflicts, linked = (
            (position[i[both]], position[j[both]])
            for i, j in (self.touching, self.conflicts, self.links)
            for both in [chosen[i] & chosen[j]]
        )
        ranking = Ranking(self.ranking.boxes[chosen], self.ranking.cut[chosen], self.ranking.rank[chosen])
        return _Relations(ranking, touching, conflicts, linked)


def _rank(candidates: Candidates) -> Ranking:
    c = candidates
    best = preference_order(c.boxes, c.scores, classes=c.classes, sides=c.sides, order=c.order)
    return Ranking.build(c.boxes, c.sides, best)


def _relate(candidates: Candidates, config: MergeConfig) -> _Relations:
    """Find all pairs that matter; each depends on its two detections alone."""
    ranking = _rank(candidates)
    touching = comparable(overlapping_pairs(candidates.boxes), candidates.classes, config)
    better, worse = ranking.conflicts(touching, config)
    # Views of one crown that complete each other are joined, not dropped; both are cut.
    spared = np.zeros(len(better), np.bool_)
    both = np.flatnonzero(ranking.cut[better] & ranking.cut[worse])
    a, b = better[both], worse[both]
    spared[both] = beyond_cut(candidates, a, b) | facing(candidates, a, b, config)
    return _Relations(ranking, touching, (better[~spared], worse[~spared]), links(candidates, config))


def _resolve(candidates: Candidates, relations: _Relations, config: MergeConfig) -> Candidates:
    """Suppress, join, suppress."""
    kept = relations.ranking.survivors(relations.conflicts)
    left = relations.among(kept)
    candidates = candidates.take(np.flatnonzero(kept))
    group = components(len(candidates), [left.links])
    joined = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, np.bool_)
    if joined.any():
        candidates = _settle(candidates, left, group, joined, config)
    return candidates.take(np.argsort(candidates.order))


def _settle(
    candidates: Candidates, relations: _Relations, group: Index, joined: Mask, config: MergeConfig
) -> Candidates:
    """Join the parts of crowns, and let joined crowns compete with what overlaps one of their parts.

    Two candidates that are both single have no conflict left: either would have dropped the other before.
    """
    parts, single = np.flatnonzero(joined), np.flatnonzero(~joined)
    whole = join(candidates.take(parts), group[parts], relations.ranking.rank[parts], config)
    crowns = concat([candidates.take(single), whole])
    crown = np.empty(len(candidates), np.int64)
    crown[single] = np.arange(len(single))
    crown[parts] = len(single) + np.unique(group[parts], return_inverse=True)[1]
    i, j = relations.touching
    i, j = crown[i], crown[j]
    new = (i != j) & (np.maximum(i, j) >= len(single))
    i, j = np.minimum(i[new], j[new]), np.maximum(i[new], j[new])
    once = np.unique(i * len(crowns) + j)
    ranking = _rank(crowns)
    conflicts = ranking.conflicts((once // len(crowns), once % len(crowns)), config)
    return crowns.take(np.flatnonzero(ranking.survivors(conflicts)))


def _closed(
    candidates: Candidates, relations: _Relations, config: MergeConfig, *, above: float, below: float
) -> Mask:
    """Return which candidates no detection above ``above`` or below ``below`` can have to do with any more.

    Candidates are taken together in clusters, so that what becomes of a cluster depends on it alone. Two are in one
    cluster if they are in conflict or linked (steps 1 and 2), or if crowns that they may become a part of could be
    in conflict (step 3, :func:`_rivals`). A cluster is closed when

    - it ends more than the reach of a link above ``below``: no later detection overlaps or is linked with a member;
    - none of its members overlaps a part of a crown that may still grow, that is a linked group with a cut member
      that a later detection can reach. Whatever such a crown grows into competes only with what overlaps its parts,
      and what overlaps only parts yet to come is itself within reach of them.

    The second condition holds back the neighbours of open groups, but not the neighbours of those: what stays open
    is bounded by a row of windows, however dense the canopy. The same holds, upside down, for ``above``.
    """
    n = len(candidates)
    group = components(n, [relations.links])
    cluster = components(n, [relations.conflicts, relations.links, _rivals(candidates, relations, group, config)])
    gap = reach(config) + 1e-3  # room for rounding
    reached = (candidates.boxes[:, 3] + gap >= below) | (candidates.boxes[:, 1] - gap <= above)
    growing = np.zeros(n, np.bool_)
    growing[group[reached & candidates.cut]] = True
    held = np.zeros(n, np.bool_)
    held[cluster[reached]] = True
    i, j = relations.touching
    held[cluster[j[growing[group[i]]]]] = True
    held[cluster[i[growing[group[j]]]]] = True
    return np.asarray(~held[cluster])


def _rivals(candidates: Candidates, relations: _Relations, group: Index, config: MergeConfig) -> Pairs:
    """Return overlapping pairs that may end up in crowns in conflict, at least one of them joined.

    A crown joined from some of a group lies within the box around the whole group, and holds the box around at least
    one linked pair. With U and V such outer boxes (or a candidate itself), and u and v the least areas, a conflict
    by IoU needs |U ∩ V| > iou_threshold · max(u, v), one by coverage |U ∩ V| > ios_threshold · min(u, v).
    """
    a, b = relations.links
    if not len(a):
        return a, b
    n, boxes, cut = len(group), candidates.boxes, candidates.cut
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    np.minimum.at(low, group, boxes[:, :2])
    np.maximum.at(high, group, boxes[:, 2:])
    pairs = np.concatenate([np.minimum(boxes[a, :2], boxes[b, :2]), np.maximum(boxes[a, 2:], boxes[b, 2:])], axis=1)
    smallest = np.full(n, np.inf)
    np.minimum.at(smallest, group[a], area(pairs))
    linked = np.isfinite(smallest)[group]
    outer = np.where(linked[:, None], np.concatenate([low, high], axis=1)[group], boxes)
    least = np.where(linked, smallest[group], area(boxes))

    views = ((boxes, area(boxes)), (outer, least))

    def meet(i: Index, j: Index) -> Mask:
        rival = np.zeros(len(i), np.bool_)
        for (box_i, least_i), (box_j, least_j) in itertools.product(views, views):
            shared, u, v = intersection(box_i[i], box_j[j]), least_i[i], least_j[j]
            rival |= shared > SLACK * config.iou_threshold * np.maximum(u, v)
            rival |= cut[i] & (shared > SLACK * config.ios_threshold * u)
            rival |= cut[j] & (shared > SLACK * config.ios_threshold * v)
        return rival

    some = filter_pairs(relations.touching, lambda i, j: np.asarray((group[i] != group[j]) & (linked[i] | linked[j])))
    return filter_pairs(some, meet)
