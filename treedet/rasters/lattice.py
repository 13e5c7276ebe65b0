"""Which files lie on one pixel grid, and which of those touch: plain geometry of many files at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from treedet.core.grid import Grid

OFF_GRID_PX = 0.05
"""Pixels by which files may miss each other's grid: rounding of what a writer noted, and far below what shows."""


@dataclass(frozen=True)
class Cluster:
    """Files of one pixel grid that touch, each directly or through others.

    Attributes:
        files: Their positions, int64 ``[N]`` in rising order.
        corners: Int64 ``[N, 2]``, row and column of each one's first pixel on the common grid.
    """

    files: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int64]


def clusters(grids: Sequence[Grid]) -> list[Cluster]:
    """Return the files that belong together, in the order of the first file of each.

    Args:
        grids: The grid of each file's own pixels. Files without a place on the map belong to nothing.
    """
    found: list[Cluster] = []
    family = _families(grids)
    for number in np.unique(family):
        files = np.flatnonzero(family == number)
        places = _places(grids, files)
        phase = _phases(places)
        for one in np.unique(phase):
            chosen = phase == one
            # Rounded from the first of them, whose fraction of a pixel all share.
            here, places_here = files[chosen], places[chosen]
            corners = np.rint(places_here - places_here[0]).astype(np.int64)
            sizes = np.array([(grids[i].height, grids[i].width) for i in here], np.int64)
            component = touching(corners, sizes)
            for piece in np.unique(component):
                inside = component == piece
                found.append(Cluster(here[inside], corners[inside]))
    return sorted(found, key=lambda cluster: int(cluster.files[0]))


def touching(corners: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of the piece of ground that each rectangle belongs to, int64 ``[N]``.

    Args:
        corners: Int64 ``[N, 2]``, row and column.
        sizes: Int64 ``[N, 2]``, rows and columns.

    >>> touching(np.array([(0, 0), (0, 10), (30, 30)]), np.array([(10, 10)] * 3)).tolist()
    [0, 0, 1]
    """
    i, j = meeting(corners, corners + sizes)
    graph = coo_array((np.ones(len(i), np.bool_), (i, j)), shape=(len(corners), len(corners)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def meeting(
    low: npt.NDArray[np.int64] | npt.NDArray[np.float64], high: npt.NDArray[np.int64] | npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of rectangles that overlap or touch, each once, as two int64 arrays of positions."""
    shapes = shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1])
    i, j = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    once = i < j
    return i[once].astype(np.int64), j[once].astype(np.int64)


def same_crs(systems: Sequence[pyproj.CRS | None]) -> npt.NDArray[np.int64]:
    """Return a number for each CRS, the same for equal ones, int64 ``[N]``; negative ones for None."""
    known: list[pyproj.CRS] = []
    by_id: dict[int, int] = {}
    numbers = np.empty(len(systems), np.int64)
    for position, crs in enumerate(systems):
        if crs is None:
            numbers[position] = -1 - position
            continue
        # Equality of two CRSs is slow; files that name theirs in the same words share one object.
        if id(crs) not in by_id:
            by_id[id(crs)] = next((n for n, other in enumerate(known) if other == crs), len(known))
            known += [crs] if by_id[id(crs)] == len(known) else []
        numbers[position] = by_id[id(crs)]
    return numbers


def _families(grids: Sequence[Grid]) -> npt.NDArray[np.int64]:
    """Return a number for each CRS, size and direction of pixels, int64 ``[N]``."""
    systems = same_crs([grid.crs for grid in grids])
    steps = np.array([(g.transform.a, g.transform.b, g.transform.d, g.transform.e) for g in grids])
    sides = np.array([max(g.width, g.height) for g in grids], np.float64)
    firsts: list[int] = []
    family = np.empty(len(grids), np.int64)
    for i in range(len(grids)):
        known = np.array(firsts, np.int64)
        scale = np.abs(steps[i]).max()
        off_px = np.abs(steps[known] - steps[i]).max(axis=1, initial=0.0) / scale * sides[i]
        fits = np.flatnonzero((systems[known] == systems[i]) & (off_px < OFF_GRID_PX))
        family[i] = fits[0] if len(fits) else len(firsts)
        if not len(fits):
            firsts.append(i)
    return family


def _places(grids: Sequence[Grid], files: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rows and columns of the files' first pixels on the grid of the first of them, float64 ``[N, 2]``."""
    inverse = ~grids[int(files[0])].transform
    x, y = np.array([(grids[i].transform.c, grids[i].transform.f) for i in files]).T
    return np.stack([inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c], axis=1)


def _phases(places: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a number for each fraction of a pixel at which files begin, int64 ``[N]``."""
    steps = 1000
    rounded = np.rint(places * steps).astype(np.int64) % steps
    distinct, which = np.unique(rounded, axis=0, return_inverse=True)
    near = cKDTree(distinct / steps, boxsize=1.0).query_pairs(OFF_GRID_PX, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(near), np.bool_), near.reshape(-1, 2).T), shape=(len(distinct), len(distinct)))
    return np.asarray(connected_components(graph, directed=False)[1][which.ravel()], np.int64)
