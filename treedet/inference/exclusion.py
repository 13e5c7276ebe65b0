"""Where crowns are dropped: polygons of a file, such as buildings, on any number of rasters."""

from __future__ import annotations

import logging

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.grid import Grid
from treedet.rasters.raster import Raster
from treedet.vectors.annotations import read_polygons

log = logging.getLogger("treedet")


class Exclusion:
    """Polygons that no crown may have its centre in; read once for each CRS.

    Args:
        path: Vector file with polygons; None excludes nothing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._trees: dict[str, shapely.STRtree] = {}
        self._met = False

    def on(self, raster: Raster, grid: Grid) -> BaseGeometry | None:
        """Return the polygons that lie on a raster, valid and prepared for queries; None where none does.

        Args:
            raster: The raster, which need not be open.
            grid: The grid wanted, made by ``raster.grid.at_gsd``; the result is in its pixels.

        Raises:
            CrownsError: The file can not be used.
        """
        if self._path is None:
            return None
        tree = self._tree(self._path, raster.source_crs)
        native = raster.native_grid
        (outline,) = native.to_map(np.array([native.full_window.box], dtype=np.float64))
        # A layer of buildings may be of a whole country: only those near the raster are brought to its pixels.
        near = np.asarray(tree.geometries, dtype=object)[tree.query(outline, predicate="intersects")]
        if not len(near):
            return None
        self._met = True
        found: BaseGeometry = shapely.union_all(shapely.make_valid(raster.to_grid(near, grid)))
        shapely.prepare(found)
        return found

    def say_unmet(self, where: str) -> None:
        """Say so if polygons were wanted and none lay on any raster.

        Args:
            where: How the message calls the rasters.
        """
        if self._path is not None and not self._met:
            log.info("exclude %s: no polygon lies on %s, so nothing is dropped", self._path, where)

    def _tree(self, path: str, crs: pyproj.CRS | None) -> shapely.STRtree:
        key = "" if crs is None else crs.srs
        if key not in self._trees:
            self._trees[key] = shapely.STRtree(shapely.get_parts(read_polygons(path, crs=crs)))
        return self._trees[key]
