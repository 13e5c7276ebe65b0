"""Annotated and predicted crowns of a map as one ground, without a raster that tells how long a map unit is."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine
from shapely.geometry.base import BaseGeometry

from treedet.core import crowns as crowns_table
from treedet.core.grid import Grid, metres_per_unit
from treedet.errors import CrsMismatchError, UnknownGsdError
from treedet.evaluation.ground import Place, Side, in_metres
from treedet.rasters.georeference import metric_grid
from treedet.vectors.annotations import read_polygons
from treedet.vectors.crs import bring_to
from treedet.vectors.truth import Annotations, on_raster


def on_map(
    annotated: Annotations, found: Annotations, *, gsd: float | None = None, aoi: str | os.PathLike[str] | None = None
) -> tuple[Place, Side, Side]:
    """Bring annotated and predicted crowns of a map together, in metres on the ground.

    Args:
        annotated: The truth; its CRS is that of the result, unless it has none.
        found: The predictions; they are brought to that CRS.
        gsd: Metres per map unit, where neither file has a CRS.
        aoi: Vector file with the polygons inside which every crown is annotated.

    Returns:
        The ground, its truth and its predictions.

    Raises:
        CrsMismatchError: Truth and predictions, or the AOI, do not overlap, or nothing leads from CRS to CRS.
        UnknownGsdError: Neither a CRS nor ``gsd`` tells the length of a map unit.
        CrownsError: The AOI can not be read.
    """
    crs = found.table.crs if annotated.table.crs is None else annotated.table.crs
    annotated = _brought(annotated, crs, other=found.path)
    found = _brought(found, crs, other=annotated.path)
    ours, theirs = (_bounds(side.table.geometry.to_numpy()) for side in (annotated, found))
    if len(found.table) and not ((ours[:2] <= theirs[2:]) & (theirs[:2] <= ours[2:])).all():
        raise CrsMismatchError(
            f"{found.path} spans {_words(theirs, crs)} and {annotated.path} {_words(ours, crs)}, which do not "
            "overlap; check that both are of the same place, or state the CRS of a file with crs= (--crs EPSG:...)"
        )
    native = _grid_around(np.vstack([ours, theirs]), crs, gsd, annotated.path)
    local = metric_grid(native)[0] if crs is not None else native
    tables = [on_raster(side, native) for side in (annotated, found)]
    boxes = [in_metres(local.to_pixels(_moved(t.geometry.to_numpy(), native, local)), local) for t in tables]
    area = None if aoi is None else _area(aoi, native, local, other=annotated.path)
    hectares = math.nan if area is None else float(shapely.area(area)) / 1e4
    place = Place(annotated.path, crs, hectares, area, annotated.points)
    sides = [Side(table, found_boxes) for table, found_boxes in zip(tables, boxes, strict=True)]
    ignored = [mask for side in sides if (mask := place.ignored(side.boxes)) is not None]
    if ignored and np.concatenate(ignored).all():
        raise CrsMismatchError(
            f"no crown of {annotated.path} or {found.path} has its centre in the AOI {aoi}; check that they are of "
            "the same place, and their CRS"
        )
    return place, sides[0], sides[1]


def _brought(side: Annotations, crs: pyproj.CRS | None, *, other: str) -> Annotations:
    table = side.table
    shapes = np.asarray(table.geometry.to_numpy(), dtype=object)
    if len(table):
        shapes = bring_to(shapes, table.crs, crs, where=side.path, other=other)
    placed = gpd.GeoDataFrame(
        table.drop(columns="geometry"), geometry=gpd.GeoSeries(shapes, index=table.index, crs=crs)
    )
    return replace(side, table=placed[list(table.columns)])


def _bounds(shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return the bounds of all geometries, float64 ``[4]``; NaN where there is none."""
    return np.asarray(shapely.total_bounds(shapes) if len(shapes) else np.full(4, np.nan), dtype=np.float64)


def _words(bounds: npt.NDArray[np.float64], crs: pyproj.CRS | None) -> str:
    digits = 5 if crs is not None and crs.is_geographic else 1
    left, bottom, right, top = (f"{value:.{digits}f}" for value in bounds)
    return f"x {left} to {right}, y {bottom} to {top}"


def _grid_around(bounds: npt.NDArray[np.float64], crs: pyproj.CRS | None, gsd: float | None, path: str) -> Grid:
    """Return a grid of about one metre that holds all bounds ``[K, 4]``, with a margin."""
    left, bottom = np.fmin.reduce(bounds[:, :2], axis=0).tolist()
    right, top = np.fmax.reduce(bounds[:, 2:], axis=0).tolist()
    if crs is not None:
        wide, high = metres_per_unit(crs, (left + right) / 2, (bottom + top) / 2)
    elif gsd is not None:
        wide, high = gsd, gsd
    else:
        raise UnknownGsdError(
            f"{path} and the predictions have no CRS, so the length of a map unit is unknown; state it with crs= "
            "(--crs EPSG:...), or give metres per map unit with gsd= (--gsd 1)"
        )
    transform = Affine(1 / wide, 0, left - 1 / wide, 0, -1 / high, top + 1 / high)
    width, height = math.ceil((right - left) * wide) + 2, math.ceil((top - bottom) * high) + 2
    return Grid(crs, transform, width, height, wide, high)


def _moved(shapes: npt.NDArray[np.object_], native: Grid, local: Grid) -> npt.NDArray[np.object_]:
    """Return geometries of the map in the CRS of the local grid."""
    if native.crs is None or local.crs is None or local is native:
        return shapes
    return crowns_table.reproject(shapes, native.crs, local.crs)


def _area(aoi: str | os.PathLike[str], native: Grid, local: Grid, *, other: str) -> BaseGeometry:
    """Return an AOI in metres of the local grid."""
    polygons = read_polygons(os.fspath(aoi), crs=native.crs, other=other)
    pixels = local.geometries_to_pixels(_moved(np.array([polygons], dtype=object), native, local))[0]
    scale = np.array([local.gsd_x, local.gsd_y])
    area: BaseGeometry = shapely.make_valid(shapely.transform(pixels, lambda xy: xy * scale))
    return area
