"""From pixels of a grid to the coordinates that zones are measured in: the same pixels, or a map that grids share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from treedet.core.boxes import corners
from treedet.core.grid import Grid
from treedet.core.scanlines import ellipses_in_boxes, ellipses_of_axes
from treedet.inference.zone_tally import ZoneTally

Floats = npt.NDArray[np.float64]

LEVEL = 1e-6
"""Share of its side by which a rectangle may lean and is still taken for an upright one."""


class Way:
    """Brings crowns and valid ground of a grid to zones.

    Args:
        grid: The grid they are on.
        crs: CRS of the map that zones are measured on; None where they are measured in pixels of the grid.
    """

    def __init__(self, grid: Grid, crs: pyproj.CRS | None = None) -> None:
        self._grid, self._mapped = grid, crs is not None
        self._transformer: pyproj.Transformer | None = None
        if crs is not None and grid.crs is not None and grid.crs is not crs:
            self._transformer = _between(grid.crs, crs)

    def points(self, xy: Floats) -> Floats:
        """Return points of the grid ``[..., 2]`` in the coordinates of zones."""
        if not self._mapped:
            return xy
        t, (x, y) = self._grid.transform, np.moveaxis(xy, -1, 0)
        east, north = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
        if self._transformer is not None:
            east, north = self._transformer.transform(east, north)
        return np.stack([east, north], axis=-1)

    def ellipses(self, boxes: Floats) -> Floats:
        """Return the ellipses inscribed in boxes ``[N, 4]``; see :func:`ellipses_of_axes`."""
        if not self._mapped:
            return ellipses_in_boxes(boxes)
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        middle = self.points(centre)
        u, v = (self.points(centre + half * axis) - middle for axis in ((1, 0), (0, 1)))
        return ellipses_of_axes(middle, u, v)

    def add_ground(self, rectangles: npt.NDArray[np.int32], tally: ZoneTally) -> None:
        """Hand valid ground ``[M, 4]`` to a tally."""
        boxes = rectangles.astype(np.float64)
        if not self._mapped:
            tally.add_valid(boxes)
            return
        placed = self.points(corners(boxes).astype(np.float64))
        low, high = placed.min(axis=1), placed.max(axis=1)
        # A corner of an upright rectangle has the x of one side and the y of another.
        lean = np.minimum(np.abs(placed - low[:, None]), np.abs(placed - high[:, None])).max(initial=0.0)
        if lean <= LEVEL * (high - low).min(initial=np.inf):
            tally.add_valid(np.concatenate([low, high], axis=1))
        else:
            tally.add_valid_polygons(np.asarray(shapely.polygons(placed), dtype=object))


@lru_cache(maxsize=8)
def _between(source: pyproj.CRS, target: pyproj.CRS) -> pyproj.Transformer | None:
    """Return what leads from one CRS to another, None where they are the same."""
    return None if source == target else pyproj.Transformer.from_crs(source, target, always_xy=True)
