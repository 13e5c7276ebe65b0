"""In which coordinates zones and crowns meet: pixels of a raster, or the map."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import reproject
from treedet.core.grid import Grid, axis_unit, metres_per_unit
from treedet.core.ground_scale import square_metres
from treedet.core.zones import Zones, cells
from treedet.errors import CrsMismatchError
from treedet.inference.zone_ground import LINE_M
from treedet.inference.zone_options import ZoneOptions
from treedet.rasters.raster import Raster
from treedet.vectors.zones import read_zones

logger = logging.getLogger("treedet")

WIDEST_M = 50.0
"""No crown reaches further from its centre."""


@dataclass(frozen=True)
class PlacedZones:
    """Zones where crowns are counted by them.

    Attributes:
        zones: The zones, with their polygons in the CRS of the crowns.
        polygons: Object ``[Z]``, the same in the coordinates that everything is measured in.
        m2: Square metres of ground per square unit of those, float64 ``[Z]`` or one number.
        unit_m: Metres per unit along x and along y.
        extent: ``(xmin, ymin, xmax, ymax)`` in those coordinates, beyond which there are neither crowns nor imagery.
    """

    zones: Zones
    polygons: npt.NDArray[np.object_]
    m2: npt.NDArray[np.float64] | float
    unit_m: tuple[float, float]
    extent: tuple[float, float, float, float]

    @property
    def line(self) -> float:
        """The distance of lines that ground is measured along, in units."""
        return LINE_M / self.unit_m[1]


def zones_on_raster(
    options: ZoneOptions, raster: Raster, grid: Grid, *, area: BaseGeometry | None = None
) -> PlacedZones:
    """Return zones in pixels of a raster.

    Args:
        options: The zones.
        raster: The raster.
        grid: Its grid that pixels are counted on, made by ``raster.grid.at_gsd``.
        area: Area of interest in pixels of it, beyond which no cells are laid out.

    Raises:
        CrownsError: The zones can not be read.
        CrsMismatchError: No zone lies on the raster.
        ConfigError: There would be too many cells.
    """
    zones, polygons = _read(options, raster, grid) if options.grid is None else _laid_out(options.grid, raster, grid)
    if options.grid is not None:
        seen = shapely.box(0, 0, grid.width, grid.height) if area is None else area
        shapely.prepare(seen)
        near = np.asarray(shapely.intersects(seen, polygons))
        zones, polygons = zones.take(near), polygons[near]
    extent = (0.0, 0.0, float(grid.width), float(grid.height))
    return PlacedZones(zones, polygons, grid.gsd_x * grid.gsd_y, (grid.gsd_x, grid.gsd_y), extent)


def zones_on_map(
    options: ZoneOptions,
    crs: pyproj.CRS | None,
    extents: npt.NDArray[np.float64],
    *,
    pixel_m: float = 1.0,
    other: str,
) -> PlacedZones:
    """Return zones in the coordinates of crowns.

    Args:
        options: The zones.
        crs: CRS of the crowns; None for pixels.
        extents: Float64 ``[N, 4]``, where crowns or imagery are, which cells are laid out over.
        pixel_m: Metres per pixel, where there is no CRS.
        other: How messages call the crowns, or the imagery.

    Raises:
        CrownsError: The zones can not be read.
        CrsMismatchError: No zone lies among the crowns, or some lie where the CRS is not defined.
        ConfigError: There would be too many cells.
    """
    xmin, ymin, xmax, ymax = bounds = (*extents[:, :2].min(axis=0).tolist(), *extents[:, 2:].max(axis=0).tolist())
    if options.grid is not None:
        zones = _cells_on_map(options.grid, crs, extents, pixel_m=pixel_m)
    else:
        zones = read_zones(options.zones or "", crs=crs, zone_id=options.zone_id, other=other)
        if not meeting_extents(zones, extents).any():
            found = tuple(round(float(v), 1) for v in shapely.total_bounds(zones.polygons))
            raise CrsMismatchError(
                f"{zones.name}: none of {len(zones):,} lies on {other}; they span {found}, and that "
                f"{tuple(round(v, 1) for v in bounds)}; check that both are of the same place, and their CRS"
            )
    if crs is None:
        return PlacedZones(zones, zones.polygons, pixel_m**2, (pixel_m, pixel_m), _wider(bounds, (pixel_m, pixel_m)))
    m2 = square_metres(crs, shapely.get_coordinates(shapely.centroid(zones.polygons)))
    if not (m2 > 0).all():
        raise CrsMismatchError(
            f"{zones.name}: {int((~(m2 > 0)).sum())} of {len(zones):,} lie outside the area where "
            f"{crs.name!r}, the CRS of {other}, is defined; check both CRSs"
        )
    unit_m = metres_per_unit(crs, (xmin + xmax) / 2, (ymin + ymax) / 2)
    return PlacedZones(zones, zones.polygons, m2, unit_m, _wider(bounds, unit_m))


def meeting_extents(zones: Zones, extents: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which zones may share ground with some extents ``[N, 4]``: their boxes meet; bool ``[Z]``."""
    found = np.zeros(len(zones), np.bool_)
    tree = shapely.STRtree(np.asarray(shapely.box(*extents.T), dtype=object))
    found[tree.query(shapely.envelope(zones.polygons), predicate="intersects")[0]] = True
    return found


def _wider(
    bounds: tuple[float, float, float, float], unit_m: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return an extent with a margin for crowns of which only the centre is known."""
    x, y = (WIDEST_M / side for side in unit_m)
    return bounds[0] - x, bounds[1] - y, bounds[2] + x, bounds[3] + y


def _read(options: ZoneOptions, raster: Raster, grid: Grid) -> tuple[Zones, npt.NDArray[np.object_]]:
    """Return the zones of a file in the raster's CRS, and their polygons in pixels."""
    zones = read_zones(options.zones or "", crs=raster.source_crs, zone_id=options.zone_id)
    polygons = shapely.make_valid(raster.to_grid(zones.polygons, grid))
    bounds = shapely.bounds(polygons)
    off = (bounds[:, 2:] <= 0).any(axis=1) | (bounds[:, :2] >= [grid.width, grid.height]).any(axis=1)
    if off.all():
        found = tuple(round(float(v), 1) for v in shapely.total_bounds(polygons))
        raise CrsMismatchError(
            f"{zones.name}: none of {len(zones):,} overlaps {raster.path}; in pixels of the raster they span "
            f"{found}, the raster 0 to {grid.width} and 0 to {grid.height}; check that both are of the same place, "
            "and their CRS"
        )
    if off.any():
        logger.info("%s: %d of %d lie off the raster; their rows are empty", zones.name, off.sum(), len(zones))
    return zones, np.asarray(polygons, dtype=object)


def _laid_out(side_m: float, raster: Raster, grid: Grid) -> tuple[Zones, npt.NDArray[np.object_]]:
    """Return the cells over a raster in its CRS, and their polygons in pixels.

    Where the CRS is in degrees, they are squares of the local metric grid that the raster is read on.
    """
    corners = grid.to_map(np.array([[0.0, 0.0, grid.width, grid.height]]))
    unit_m = raster.facts.gsd if grid.crs is None else axis_unit(grid.crs)
    xmin, ymin, xmax, ymax = shapely.total_bounds(corners).tolist()
    zones = cells((xmin, ymin, xmax, ymax), side_m, crs=grid.crs, unit_m=unit_m)
    polygons = grid.geometries_to_pixels(zones.polygons)
    if grid.crs is not None and raster.source_crs is not None and grid.crs != raster.source_crs:
        moved = reproject(zones.polygons, grid.crs, raster.source_crs)
        zones = replace(zones, polygons=moved, crs=raster.source_crs)
    return zones, polygons


def _cells_on_map(
    side_m: float, crs: pyproj.CRS | None, extents: npt.NDArray[np.float64], *, pixel_m: float
) -> Zones:
    """Return the cells over some extents; where the CRS is in degrees, they are squares of the UTM zone there."""
    if crs is None or not crs.is_geographic:
        return cells(extents, side_m, crs=crs, unit_m=pixel_m if crs is None else axis_unit(crs))
    boxes = gpd.GeoSeries(shapely.box(*extents.T), crs=crs)
    metric = boxes.estimate_utm_crs()
    zones = cells(boxes.to_crs(metric).bounds.to_numpy(), side_m, crs=metric, unit_m=axis_unit(metric))
    return replace(zones, polygons=reproject(zones.polygons, metric, crs), crs=crs)
