"""Stems measured in the field to mapped crowns, one to one: larger trees choose first, and doubt is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from treedet.core.boxes import Boxes
from treedet.core.neighbours import overlapping_pairs
from treedet.errors import ConfigError
from treedet.metrics.assignment import Bools, Floats, Index

MATCHED, AMBIGUOUS, UNMATCHED = "matched", "ambiguous", "unmatched"
FATES = (MATCHED, AMBIGUOUS, UNMATCHED)
"""What becomes of a stem."""
REACH_M = 1.0
"""Metres beyond a crown's radius within which a stem may be its own where nothing else is asked for."""
SAME_COST = 1.2
"""Costs that differ by at most this factor are about the same."""
SAME_SIZE = 1.1
"""Sizes that differ by at most this factor are about the same."""
POINT_HALF_M = 1e-3
"""Half the side of the square that stands for a stem where candidates are looked for; what it finds is checked."""
LEAST_RADIUS_M = 0.05
"""Radius that a narrower crown is given in the cost."""


@dataclass(frozen=True, eq=False)
class StemMatching:
    """What became of each stem.

    Attributes:
        fate: Object ``[N]``, one of :data:`FATES`.
        crown: Int64 ``[N]``, position of the crown of a matched stem, and of the best crown of an ambiguous one,
            whose label that crown does not get; -1 for unmatched stems.
        distance_m: Float64 ``[N]``, metres from the stem to the centre of that crown; NaN without one.
        rival_crown: Int64 ``[N]``, second crown that an ambiguous stem may belong to; else -1.
        rival_stem: Int64 ``[N]``, stem that took the best crown of an unmatched one, or that an ambiguous one can
            not be told from; else -1.
    """

    fate: npt.NDArray[np.object_]
    crown: Index
    distance_m: Floats
    rival_crown: Index
    rival_stem: Index

    @property
    def matched(self) -> Bools:
        """Bool ``[N]``: stems that have a crown."""
        return np.asarray(self.fate == MATCHED, dtype=bool)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Crowns that each stem may have, by stem and then from the cheapest.

    Attributes:
        stem: Int64 ``[P]``.
        crown: Int64 ``[P]``.
        distance_m: Float64 ``[P]``, from the stem to the crown's centre.
        cost: Float64 ``[P]``, that distance over the crown's radius.
    """

    stem: Index
    crown: Index
    distance_m: Floats
    cost: Floats


def candidates(stems: Floats, crowns: Boxes, *, max_distance: float | None = None) -> Candidates:
    """Return the crowns in which stems lie (ellipse inscribed in the box), or whose centre is near enough.

    Args:
        stems: Float64 ``[N, 2]``, ``(x, y)`` in metres; a stem that is nowhere (NaN) has no candidate.
        crowns: Float64 ``[M, 4]``, boxes in the same metres; one without area has no stem.
        max_distance: Metres from stem to centre; None for the crown's radius and one metre.

    Raises:
        ConfigError: ``max_distance`` is not a positive number.

    >>> found = candidates(np.array([[2.0, 2], [9, 9]]), np.array([[0.0, 0, 4, 4]]))
    >>> found.stem.tolist(), found.crown.tolist(), found.cost.tolist()
    ([0], [0], [0.0])
    """
    if max_distance is not None and not (np.isfinite(max_distance) and max_distance > 0):
        raise ConfigError(f"max_distance must be a positive number of metres, found {max_distance}; or leave it out")
    stems = np.asarray(stems, np.float64).reshape(-1, 2)
    crowns = np.asarray(crowns, np.float64).reshape(-1, 4)
    centre, half = (crowns[:, :2] + crowns[:, 2:]) / 2, (crowns[:, 2:] - crowns[:, :2]) / 2
    solid = np.flatnonzero((half > 0).all(axis=1))
    radius = np.maximum(half.mean(axis=1), LEAST_RADIUS_M)
    near = radius + REACH_M if max_distance is None else np.full(len(crowns), max_distance)
    reach = np.maximum(near, half.max(axis=1, initial=0.0))[:, None]
    somewhere = np.flatnonzero(np.isfinite(stems).all(axis=1))
    points = stems[somewhere]
    dots = np.hstack([points - POINT_HALF_M, points + POINT_HALF_M])
    stem, crown = overlapping_pairs(dots, np.hstack([centre - reach, centre + reach])[solid])
    stem, crown = somewhere[stem], solid[crown]
    off = stems[stem] - centre[crown]
    distance = np.hypot(off[:, 0], off[:, 1])
    kept = (((off / half[crown]) ** 2).sum(axis=1) <= 1) | (distance <= near[crown])
    stem, crown, distance = stem[kept], crown[kept], distance[kept]
    cost = distance / radius[crown]
    # Places rather than positions settle ties, so that the order of rows does not.
    order = np.lexsort((crown, centre[crown, 1], centre[crown, 0], cost, stem))
    return Candidates(stem[order], crown[order], distance[order], cost[order])


def match_stems(
    stems: Floats, crowns: Boxes, *, sizes: Floats | None = None, max_distance: float | None = None
) -> StemMatching:
    """Match stems to crowns one to one, larger stems first.

    A stem may have a crown in which it lies, or whose centre is within ``max_distance``. From the largest to the
    smallest each takes, of the crowns that are left, that with the least distance to the centre over the radius.
    Stems of one size, or without any, take turns by that cost, and those without a size come last.

    A stem is *ambiguous* where a second crown was left at about the same cost (20 %), or where a stem of about the
    same size (10 %) that ended without a crown is about as near to its crown, or nearer. Its best crown is kept back:
    no smaller tree may have it. The order of stems does not matter.

    Args:
        stems: Float64 ``[N, 2]``, ``(x, y)`` in metres; NaN for a stem that is nowhere.
        crowns: Float64 ``[M, 4]``, boxes in the same metres.
        sizes: Float64 ``[N]``, such as diameters or heights; NaN where unknown. None where all are.
        max_distance: Metres from stem to centre; None for the crown's radius and one metre.

    Raises:
        ConfigError: ``max_distance`` is not a positive number.

    >>> found = match_stems(np.array([[1.5, 2.0], [2, 2.1]]), np.array([[0.0, 0, 4, 4]]), sizes=np.array([40.0, 9]))
    >>> found.fate.tolist(), found.rival_stem.tolist()
    (['matched', 'unmatched'], [-1, 0])
    """
    stems = np.asarray(stems, np.float64).reshape(-1, 2)
    found = candidates(stems, crowns, max_distance=max_distance)
    count = len(stems)
    size = np.full(count, np.nan) if sizes is None else np.asarray(sizes, np.float64)
    rank = np.where(np.isnan(size), -np.inf, size)
    at = found.stem
    turn = np.lexsort((np.arange(len(at)), stems[at, 1], stems[at, 0], found.cost, -rank[at]))
    chosen, second, holder = _take_turns(found, turn, count, len(crowns))
    torn = second >= 0
    has = chosen >= 0
    rival_crown = np.where(torn, _at(found.crown, second), -1)
    rival_stem = np.full(count, -1, np.int64)
    # The best candidate of a stem is its first.
    wanting, first = np.unique(at, return_index=True)
    late = ~has[wanting]
    rival_stem[wanting[late]] = holder[found.crown[first[late]]]
    disputed, rival = _disputes(found, chosen, holder, size)
    rival_stem[disputed] = rival
    fate = np.where(has, MATCHED, UNMATCHED).astype(object)
    fate[torn] = AMBIGUOUS
    fate[disputed] = AMBIGUOUS
    # Who came too late in a dispute is told with the crown it wanted.
    too_late = disputed[~has[disputed]]
    chosen[too_late] = first[np.searchsorted(wanting, too_late)]
    crown = np.where(chosen >= 0, _at(found.crown, chosen), -1)
    distance = np.where(chosen >= 0, _at(found.distance_m, chosen), np.nan)
    return StemMatching(fate, crown.astype(np.int64), distance, rival_crown.astype(np.int64), rival_stem)


def _at(values: npt.NDArray[np.generic], positions: Index) -> npt.NDArray[np.generic]:
    """Return values at positions, any for a position of -1."""
    return values[positions] if len(values) else np.zeros(len(positions), values.dtype)


def _take_turns(found: Candidates, turn: Index, stems: int, crowns: int) -> tuple[Index, Index, Index]:
    """Let stems choose, and return the pair of each stem, its second pair where it is torn, and each crown's stem."""
    stem, crown, cost = found.stem.tolist(), found.crown.tolist(), found.cost.tolist()
    chosen, second, holder = [-1] * stems, [-1] * stems, [-1] * crowns
    end = len(stem)
    for pair in turn.tolist():
        mine, wanted = stem[pair], crown[pair]
        if chosen[mine] >= 0 or holder[wanted] >= 0:
            continue
        chosen[mine], holder[wanted] = pair, mine
        limit = cost[pair] * SAME_COST
        other = pair + 1
        while other < end and stem[other] == mine and cost[other] <= limit:
            if holder[crown[other]] < 0:
                second[mine] = other
                break
            other += 1
    return np.array(chosen, np.int64), np.array(second, np.int64), np.array(holder, np.int64)


def _disputes(found: Candidates, chosen: Index, holder: Index, size: Floats) -> tuple[Index, Index]:
    """Return stems that can not be told from another one at a crown, each once, and that other one."""
    holds = holder[found.crown]
    # A stem that ended without a crown has its best one taken by somebody.
    best = np.concatenate([[True], found.stem[1:] != found.stem[:-1]])[: len(found.stem)]
    open_ = np.flatnonzero(best & (chosen[found.stem] < 0) & (holds >= 0))
    late, early = found.stem[open_], holds[open_]
    alike = (size[early] <= size[late] * SAME_SIZE) | (np.isnan(size[early]) & np.isnan(size[late]))
    near = found.cost[open_] <= found.cost[chosen[early]] * SAME_COST
    late, early = late[alike & near], early[alike & near]
    both, other = np.concatenate([late, early]), np.concatenate([early, late])
    stems, first = np.unique(both, return_index=True)
    return stems, other[first]
