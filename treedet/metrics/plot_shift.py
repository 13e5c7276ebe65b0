"""The one shift that brings the stems of a plot onto mapped crowns: the error of its centre, found by agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from treedet.core.boxes import Boxes
from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats, Index

LEAST_STEMS = 5
"""Stems below which a plot is not shifted."""
MOST_STEMS = 200
"""Stems that are looked at, the largest: more tell nothing new about two numbers."""
STEP_M = 0.5
FINER_M = (0.1,)
"""Finer steps of the search, each within one step of the one before."""
LEAST_GAIN = 0.02
"""Gain in agreement below which a plot stays where it is."""
SURE = 3.0
"""Standard errors by which the gain must exceed zero."""
APART_M = 2.0
"""Metres from the best shift beyond which another is a different answer."""
CHUNK = 1 << 21
"""Pairs of a stem and a crown, times shifts, that are looked at in one go."""
LEAST_RADIUS_M = 0.5
"""Radius that a smaller crown is given, so that it can still be found on the grid of shifts."""


@dataclass(frozen=True)
class PlotShift:
    """The shift of one plot.

    Attributes:
        dx: Metres that stems are moved to the east.
        dy: Metres that stems are moved to the north.
        before: Agreement where the stems are said to be, 0 to 1; NaN without stems.
        after: Agreement after the shift.
        reason: Why the plot was not shifted; empty where it was.
    """

    dx: float
    dy: float
    before: float
    after: float
    reason: str = ""


def find_shift(
    stems: Floats, crowns: Boxes, *, tree: cKDTree | None = None, max_shift: float = 5.0, sizes: Floats | None = None
) -> PlotShift:
    """Search the shift of a plot that agrees best with crowns.

    The agreement is the mean over stems of ``exp(-(d / r)^2)`` at the crown where it is highest, with the distance
    ``d`` to its centre and its radius ``r``: a stem far from any crown adds nothing, wherever it is. A shift is taken
    only where at least five stems speak, the gain exceeds 0.02 and three standard errors (of the paired differences
    of the stems), and no other shift agrees about as well.

    Args:
        stems: Float64 ``[N, 2]``, ``(x, y)`` in metres; those that are nowhere (NaN) say nothing.
        crowns: Float64 ``[M, 4]``, boxes in the same metres.
        tree: Of the centres of all crowns, where many plots are searched.
        max_shift: Metres; 0 shifts nothing.
        sizes: Float64 ``[N]``; of more than 200 stems the largest are looked at.

    Raises:
        ConfigError: ``max_shift`` is negative or no number.

    >>> x, y = np.meshgrid([5.0, 17, 31], [5.0, 15, 29])
    >>> centres = np.column_stack([x.ravel(), y.ravel()]) + np.arange(9)[:, None] % 4
    >>> found = find_shift(centres + [1.5, -1.0], np.hstack([centres - 2, centres + 2]))
    >>> round(found.dx, 1), round(found.dy, 1), round(found.after, 2)
    (-1.5, 1.0, 1.0)
    """
    if not (math.isfinite(max_shift) and max_shift >= 0):
        raise ConfigError(f"max_shift must be a number of metres that is not negative, found {max_shift}")
    pairs = _Pairs.of(_largest(stems, sizes), crowns, tree=tree, reach=max_shift)
    nowhere = np.zeros(2)
    here = pairs.agreement(nowhere[None])[0]
    before = float(here.mean()) if len(here) else math.nan
    if max_shift == 0:
        return PlotShift(0.0, 0.0, before, before, "no shift asked for")
    if len(here) < LEAST_STEMS:
        return PlotShift(0.0, 0.0, before, before, f"fewer than {LEAST_STEMS} stems")
    grid = _grid(nowhere, math.ceil(max_shift / STEP_M), STEP_M, max_shift)
    coarse = pairs.agreement(grid)
    means = coarse.mean(axis=1)
    best = grid[means.argmax()]
    apart = np.hypot(*(grid - best).T) > APART_M
    other = coarse[apart][means[apart].argmax()] if apart.any() else np.zeros(len(here))
    for step, finer in pairwise((STEP_M, *FINER_M)):
        near = _grid(best, round(step / finer), finer, max_shift)
        best = near[pairs.agreement(near).mean(axis=1).argmax()]
    there = pairs.agreement(best[None])[0]
    after = float(there.mean())
    if after - before < LEAST_GAIN or not _surely(there - here, SURE):
        return PlotShift(0.0, 0.0, before, before, "no clear gain")
    if not _surely(there - other, 1.0):
        return PlotShift(0.0, 0.0, before, before, "other shifts agree about as well")
    return PlotShift(float(best[0]), float(best[1]), before, after)


def _surely(gain: Floats, errors: float) -> bool:
    return bool(gain.mean() > errors * gain.std(ddof=1) / math.sqrt(len(gain)))


def _largest(stems: Floats, sizes: Floats | None) -> Floats:
    """Return the stems that are somewhere, of many the largest."""
    stems = np.asarray(stems, np.float64).reshape(-1, 2)
    somewhere = np.isfinite(stems).all(axis=1)
    size = np.zeros(len(stems)) if sizes is None else np.nan_to_num(np.asarray(sizes, np.float64), nan=-np.inf)
    stems, size = stems[somewhere], size[somewhere]
    if len(stems) <= MOST_STEMS:
        return stems
    # Stems of one size are taken from all over the plot, by digits of their places, whatever the order of rows.
    mixed = np.modf(np.abs(stems[:, 0] * 7919.0 + stems[:, 1] * 104729.0))[0]
    return np.asarray(stems[np.lexsort((mixed, -size))[:MOST_STEMS]])


def _grid(centre: Floats, steps: int, step: float, most: float) -> Floats:
    """Return shifts ``[S, 2]`` around one, none longer than allowed, the shortest first."""
    along = np.arange(-steps, steps + 1) * step
    x, y = np.meshgrid(centre[0] + along, centre[1] + along)
    shifts = np.column_stack([x.ravel(), y.ravel()])
    length = np.hypot(shifts[:, 0], shifts[:, 1])
    order = np.argsort(length, kind="stable")
    return np.asarray(shifts[order][length[order] <= most + 1e-9], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Stems and the crowns that any shift may bring them to.

    Attributes:
        off: Float64 ``[P, 2]``, from the crown's centre to the stem, sorted by stem.
        radius: Float64 ``[P]``.
        start: Int64 ``[K]``, first pair of each stem that has any.
        lonely: Stems without any.
    """

    off: Floats
    radius: Floats
    start: Index
    lonely: int

    @classmethod
    def of(cls, stems: Floats, crowns: Boxes, *, tree: cKDTree | None, reach: float) -> _Pairs:
        crowns = np.asarray(crowns, np.float64).reshape(-1, 4)
        centre, half = (crowns[:, :2] + crowns[:, 2:]) / 2, (crowns[:, 2:] - crowns[:, :2]) / 2
        if not len(stems) or not len(crowns):
            return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), len(stems))
        radius = np.maximum(half.mean(axis=1), LEAST_RADIUS_M)
        tree = cKDTree(centre) if tree is None else tree
        # Beyond twice its radius a crown adds less than 0.02; wide crowns are few, so the usual one sets the reach.
        near = tree.query_ball_point(stems, reach + 2 * float(np.quantile(radius, 0.9)))
        counts = np.array([len(found) for found in near], np.int64)
        crown = np.concatenate([np.asarray(found, np.int64) for found in near])
        stem = np.repeat(np.arange(len(stems)), counts)
        start = np.concatenate([[0], np.cumsum(counts)[:-1]])[counts > 0].astype(np.int64)
        return cls(stems[stem] - centre[crown], radius[crown], start, int((counts == 0).sum()))

    def agreement(self, shifts: Floats) -> Floats:
        """Return the agreement of each stem at each shift, float64 ``[S, N]``."""
        if not len(self.start):
            return np.zeros((len(shifts), self.lonely))
        found = np.zeros((len(shifts), len(self.start) + self.lonely))
        rows = max(1, CHUNK // len(self.radius))
        for first in range(0, len(shifts), rows):
            part = shifts[first : first + rows]
            x = (self.off[:, 0] + part[:, :1]) / self.radius
            y = (self.off[:, 1] + part[:, 1:]) / self.radius
            least = np.minimum.reduceat(x * x + y * y, self.start, axis=1)
            found[first : first + rows, : len(self.start)] = np.exp(-least)
        return found
