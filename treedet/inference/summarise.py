"""Crowns of a file counted by zones, after the fact."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import reproject
from treedet.core.grid import Window
from treedet.core.scanlines import ellipses_of_axes
from treedet.errors import ConfigError, CrownsError
from treedet.inference.ground import STRIP_M, valid_rectangles
from treedet.inference.zone_facts import ZoneFacts, with_polygons
from treedet.inference.zone_frame import PlacedZones, zones_on_map, zones_on_raster
from treedet.inference.zone_options import ZoneOptions
from treedet.inference.zone_tally import ZoneCrowns, ZoneTally
from treedet.rasters.raster import Raster
from treedet.vectors.annotations import read_polygons
from treedet.vectors.crown_chunks import CrownChunk, CrownsFile
from treedet.vectors.crs import bring_to, relation
from treedet.vectors.shapes import conjugate_axes

logger = logging.getLogger("treedet")

READ_PX = 1024
"""Side of the windows that nodata is looked for in."""

Place = Callable[[npt.NDArray[np.object_]], npt.NDArray[np.object_]]


@dataclass(frozen=True)
class Summarised:
    """Crowns counted by zones.

    Attributes:
        table: One row per zone with its polygon, in the CRS of the crowns, or of the raster where one is given.
        facts: How crowns fell into zones.
    """

    table: gpd.GeoDataFrame
    facts: ZoneFacts


def summarise(
    crowns: str | Path,
    zoning: ZoneOptions,
    *,
    raster: str | Path | None = None,
    exclude: str | None = None,
    gsd: float | None = None,
) -> Summarised:
    """Count the crowns of a file by zones; see the table in ``docs/zones.md``.

    The file is read in parts, so it may be larger than memory.

    Args:
        crowns: Crowns that treedet wrote, or polygons of any other tool.
        zoning: Polygons of a file, or the side of the cells of a grid.
        raster: The raster they were found on, for the ground that is not nodata; without it all ground of a zone
            counts.
        exclude: Vector file with polygons in which crowns are dropped.
        gsd: Metres per pixel, for crowns without CRS whose file does not tell, or a raster without one.

    Raises:
        ConfigError: There is nothing to count by, or the size of a pixel is not known.
        CrownsError: A file of geometries can not be used.
        RasterError: The raster can not be used.
    """
    if not zoning.wanted:
        raise ConfigError("there is nothing to count by; give zones= (--zones FILE) or grid= (--grid 100)")
    file = CrownsFile.open(crowns)
    with ExitStack() as stack:
        opened = None if raster is None else stack.enter_context(Raster.open(str(raster), gsd=gsd))
        if opened is None:
            placed = _on_map(file, zoning, gsd)
            place: Place = _as_they_are
            logger.info("all ground of zones counts as hectares; give raster= (--raster) to leave nodata out")
        else:
            grid = opened.grid.at_gsd(max(opened.grid.gsd, STRIP_M))
            placed, place = zones_on_raster(zoning, opened, grid), _onto(file, opened)
        tally = stack.enter_context(
            ZoneTally(
                replace(placed.zones, polygons=placed.polygons),
                m2=placed.m2,
                line=placed.line,
                extent=placed.extent,
                classes=_classes(file),
            )
        )
        dropped = _dropped(exclude, file)
        for chunk in file.chunks():
            tally.add(_seen(chunk, file, placed, place, dropped))
        if opened is not None:
            for rectangles in _valid_ground(opened, placed):
                tally.add_valid(rectangles)
        table = with_polygons(tally.table(), placed.zones, placed.zones.polygons, all_rows=zoning.grid is None)
        return Summarised(table, ZoneFacts.of(table, tally, ""))


def _as_they_are(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    return geometries


def _onto(file: CrownsFile, raster: Raster) -> Place:
    """Return what brings geometries of the file into the pixels that nodata is known on."""
    grid = raster.grid.at_gsd(max(raster.grid.gsd, STRIP_M))
    # Asked once about nothing, so that what is done is checked and said once.
    bring_to(np.zeros(0, dtype=object), file.crs, raster.source_crs, where=str(file.path))
    moves = relation(file.crs, raster.source_crs) == "transform"

    def place(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        if moves and file.crs is not None and raster.source_crs is not None:
            geometries = reproject(geometries, file.crs, raster.source_crs)
        return raster.to_grid(geometries, grid)

    return place


def _on_map(file: CrownsFile, zoning: ZoneOptions, gsd: float | None) -> PlacedZones:
    """Return the zones in the coordinates of the crowns."""
    pixel_m = gsd if gsd is not None else file.metadata.get("gsd")
    if file.crs is None and not (isinstance(pixel_m, float) and math.isfinite(pixel_m) and pixel_m > 0):
        raise ConfigError(
            f"{file.path} has no CRS and does not tell the size of a pixel; give it in metres with gsd= (--gsd 0.1)"
        )
    bounds = file.bounds()
    if bounds is None:
        raise CrownsError(
            f"{file.path} holds no crown, so there is no ground to lay zones on; give raster= (--raster)"
        )
    return zones_on_map(zoning, file.crs, np.array([bounds]), pixel_m=float(pixel_m or 1.0), other=str(file.path))


def _classes(file: CrownsFile) -> dict[str, list[str]]:
    """Return the names of classes that the run's metadata hold, by column."""
    facts = file.metadata.get("crowns")
    if not isinstance(facts, dict) or "classes" not in facts:
        return {}
    return {"label": list(facts["classes"]), **{name: list(v) for name, v in facts.get("attributes", {}).items()}}


def _dropped(exclude: str | None, file: CrownsFile) -> BaseGeometry | None:
    """Return the polygons that crowns are dropped in, in the CRS of the crowns."""
    if exclude is None:
        return None
    polygons: BaseGeometry = read_polygons(exclude, crs=file.crs, other=str(file.path))
    shapely.prepare(polygons)
    return polygons


def _seen(
    chunk: CrownChunk, file: CrownsFile, placed: PlacedZones, place: Place, dropped: BaseGeometry | None
) -> ZoneCrowns:
    """Return crowns of a file as zones see them."""
    shapes, columns = chunk.geometries, chunk.columns
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if dropped is not None:
        middle = shapely.centroid(shapes)
        there &= ~np.asarray(shapely.contains_xy(dropped, shapely.get_x(middle), shapely.get_y(middle)), dtype=bool)
    shapes, columns = shapes[there], columns[there]
    centre, u, v = conjugate_axes(place(shapes), ellipses=_shape(file) == "ellipse")
    if len(shapes) and (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        u, v = _circles(columns, placed.unit_m, file.path)
    # Ground lengths of the sides of boxes; of a file of ours the column says the same.
    sides = 2 * np.hypot(*(np.stack([u, v]) * placed.unit_m).transpose(2, 0, 1)).mean(axis=0)
    return ZoneCrowns(
        centres=centre,
        ellipses=ellipses_of_axes(centre, u, v),
        diameters=_diameters(columns, sides),
        names={
            name: pd.Categorical(columns[name].astype("category"))
            for name in ("label", *file.attributes)
            if name in columns
        },
    )


def _diameters(columns: pd.DataFrame, sides: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what the table says, and where it says nothing, as of crowns drawn by hand, the boxes' sides ``[N]``."""
    if "diameter_m" not in columns:
        return sides
    told = pd.to_numeric(columns["diameter_m"], errors="coerce").to_numpy(np.float64)
    return np.where(np.isfinite(told), told, sides)


def _shape(file: CrownsFile) -> str:
    facts = file.metadata.get("crowns")
    return str(facts.get("shape", "box")) if isinstance(facts, dict) else "box"


def _circles(
    columns: pd.DataFrame, unit_m: tuple[float, float], path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return half axes of circles as large as the crowns that a file of points states."""
    if "crown_m2" not in columns:
        raise CrownsError(
            f"{path} holds points without a column 'crown_m2', so the ground below crowns is not known; give polygons"
        )
    radius = np.sqrt(columns["crown_m2"].to_numpy(np.float64) / math.pi)
    none = np.zeros(len(radius))
    return np.column_stack([radius / unit_m[0], none]), np.column_stack([none, radius / unit_m[1]])


def _valid_ground(raster: Raster, placed: PlacedZones) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the valid ground of the windows of a raster that a zone touches, as rectangles ``[M, 4]``."""
    grid = raster.grid.at_gsd(max(raster.grid.gsd, STRIP_M))
    tree = shapely.STRtree(placed.polygons)
    yield np.zeros((0, 4))
    for row in range(0, grid.height, READ_PX):
        for col in range(0, grid.width, READ_PX):
            window = Window(row, col, min(READ_PX, grid.height - row), min(READ_PX, grid.width - col))
            if len(tree.query(shapely.box(*window.box))):
                valid = raster.read_on(grid, window).valid
                yield valid_rectangles(valid, left=col, top=row, gsd=grid.gsd_y).astype(np.float64)
