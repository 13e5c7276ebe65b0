"""Zones: polygons with names that crowns are counted by, such as stands or the cells of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from treedet.errors import ConfigError

MAX_CELLS = 250_000
"""Cells of a grid that are laid out; more take hours to look at in a GIS."""


@dataclass(frozen=True)
class Zones:
    """Polygons with names.

    Attributes:
        ids: Object ``[Z]``: text or whole numbers, none of them twice.
        polygons: Object ``[Z]`` of valid polygons and multipolygons; they may overlap.
        crs: Their CRS, or None for pixels of a raster without one.
        name: How messages call them.
    """

    ids: npt.NDArray[Any]
    polygons: npt.NDArray[np.object_]
    crs: pyproj.CRS | None
    name: str

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: npt.NDArray[Any]) -> Zones:
        """Return the zones at ``index`` (positions or mask)."""
        return replace(self, ids=self.ids[index], polygons=self.polygons[index])


def locate(polygons: npt.NDArray[np.object_], xy: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return which points lie in which polygons.

    A point inside several polygons is in each of them. One on their borders alone is in the first of those, so that
    polygons that share a border share no point.

    Args:
        polygons: Object ``[P]``.
        xy: Float64 ``[N, 2]``.

    Returns:
        Int64 ``[2, K]``: the points and, for each, a polygon; sorted by point.

    >>> squares = shapely.box([0, 1], 0, [1, 2], 1)
    >>> locate(squares, np.array([[0.5, 0.5], [1.0, 0.5], [3.0, 0.5]])).tolist()
    [[0, 1], [0, 0]]
    """
    if not len(xy) or not len(polygons):
        return np.zeros((2, 0), dtype=np.int64)
    low, high = xy.min(axis=0), xy.max(axis=0)
    bounds = shapely.bounds(polygons)
    near = np.flatnonzero(((bounds[:, :2] <= high) & (bounds[:, 2:] >= low)).all(axis=1))
    points = np.asarray(shapely.points(xy), dtype=object)
    # The tree holds points, so that each polygon is prepared once and then asked for many.
    asked, point = shapely.STRtree(points).query(polygons[near], predicate="covers")
    pairs = np.stack([point, near[asked]]).astype(np.int64)
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    several = np.zeros(pairs.shape[1], dtype=bool)
    again = pairs[0, 1:] == pairs[0, :-1]
    several[1:] |= again
    several[:-1] |= again
    inside = ~several
    inside[several] = shapely.contains_properly(polygons[pairs[1, several]], points[pairs[0, several]])
    has_inside = np.zeros(len(xy), dtype=bool)
    has_inside[pairs[0, inside]] = True
    first = np.concatenate([[True], ~again])[: pairs.shape[1]]
    return np.asarray(pairs[:, inside | (first & ~has_inside[pairs[0]])])


def cells(bounds: npt.ArrayLike, side_m: float, *, crs: pyproj.CRS | None, unit_m: float) -> Zones:
    """Return the square cells of a grid that cover an extent, or several, each cell once.

    Cell borders lie on multiples of the side, so grids of different rasters in one CRS coincide.

    Args:
        bounds: ``(xmin, ymin, xmax, ymax)`` in the CRS; or ``[N, 4]`` of these.
        side_m: Side of a cell in metres.
        crs: A projected CRS, or None for pixels.
        unit_m: Metres per unit of the CRS (map units: scale factors of the projection are left out).

    Raises:
        ConfigError: The side is no positive number, or there would be too many cells.

    >>> cells((5, 12, 25, 18), 10, crs=None, unit_m=1.0).ids.tolist()
    ['0_10', '10_10', '20_10']
    """
    if not (math.isfinite(side_m) and side_m > 0):
        raise ConfigError(f"grid must be the side of a cell in metres, a positive number, found {side_m}")
    side = side_m / unit_m
    boxes = np.atleast_2d(np.asarray(bounds, np.float64))
    first = np.floor(boxes[:, :2] / side)
    count = np.maximum(np.ceil(boxes[:, 2:] / side) - first, 1)
    # Neighbouring files lie on the same cells.
    spans = np.unique(np.concatenate([first, count], axis=1), axis=0)
    total = spans[:, 2:].prod(axis=1).sum()
    if total > MAX_CELLS:
        raise ConfigError(
            f"cells of {side_m:g} m make {total:,.0f} of them over this extent, at most {MAX_CELLS:,} are "
            "accepted; give a larger side with grid= (--grid)"
        )
    row, column = np.unique(np.concatenate([_within(*span) for span in spans]), axis=0).T
    x, y = column * side, row * side
    ids = np.array([f"{_whole(a)}_{_whole(b)}" for a, b in zip(x, y, strict=True)], dtype=object)
    squares = np.asarray(shapely.box(x, y, x + side, y + side), dtype=object)
    return Zones(ids, squares, crs, f"cells of {side_m:g} m")


def _within(column: float, row: float, columns: float, rows: float) -> npt.NDArray[np.float64]:
    """Return the rows and columns of the cells of a rectangle, float64 ``[K, 2]``."""
    found = np.stack(np.meshgrid(row + np.arange(rows), column + np.arange(columns), indexing="ij"), axis=-1)
    return found.reshape(-1, 2)


def _whole(value: float) -> str:
    """Return a coordinate without decimals it does not need.

    >>> _whole(500000.0), _whole(0.30000000000000004)
    ('500000', '0.3')
    """
    return f"{value:.10g}" if abs(value - round(value)) > 1e-9 else str(round(value))
