"""Reading zones: the polygons that crowns are counted by, with their names, repaired and in the CRS wanted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.core.zones import Zones
from treedet.errors import CrownsError, MissingColumnError
from treedet.vectors.crs import bring_to
from treedet.vectors.layers import existing, read_layer

logger = logging.getLogger("treedet")

LISTED = 3
"""Names that a message lists."""


def read_zones(
    path: str | Path, *, crs: pyproj.CRS | None, zone_id: str | None = None, other: str = "the raster"
) -> Zones:
    """Read the polygons of a file as zones.

    Invalid polygons are repaired, features without an area left out, and features with the same name are one zone;
    each is said. A file without CRS is taken to be in ``crs``, with a notice.

    Args:
        path: Any vector file; of several layers the first with polygons is read.
        crs: CRS wanted; None takes coordinates as they are.
        zone_id: Column with the names of zones, text or whole numbers; by default they are numbered from 1 in the
            order of the file.
        other: How messages call what has that CRS.

    Raises:
        CrownsError: The file is missing, can not be read or holds no polygon, or a zone has no name.
        MissingColumnError: There is no column ``zone_id``.
        CrsMismatchError: Its CRS can not be brought to ``crs``.
    """
    path = existing(path)
    table = read_layer(path, polygons=True)
    if zone_id is not None and (zone_id not in table.columns or zone_id == table.active_geometry_name):
        columns = [str(name) for name in table.columns if name != table.active_geometry_name]
        raise MissingColumnError(
            f"{path} has no column {zone_id!r} for the names of zones; it has {', '.join(columns) or 'none'}: give "
            "one of them with zone_id= (--zone_id), or none to number the zones"
        )
    shapes, kept = _repaired(np.asarray(table.geometry.to_numpy(), dtype=object), path)
    ids = _ids(table, zone_id, path)[kept]
    moved = bring_to(shapes, table.crs, crs, where=str(path), other=other)
    # Repaired again: a transformation may turn a sliver inside out.
    return _one_each(Zones(ids, _areas(shapely.make_valid(moved)), crs, f"zones {path}"), zone_id, path)


def _repaired(shapes: npt.NDArray[np.object_], path: Path) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Return valid polygons, and the rows they come from."""
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    flat = np.asarray(shapely.force_2d(shapes), dtype=object)
    invalid = there & ~shapely.is_valid(flat)
    flat[invalid] = shapely.make_valid(flat[invalid])
    areas = _areas(flat)
    kept = there & (shapely.area(areas) > 0)
    if not kept.any():
        kinds = sorted({str(shape.geom_type) for shape in shapes[there]})
        raise CrownsError(
            f"{path} holds no polygon, found {', '.join(kinds) or 'no geometry at all'}; zones are polygons, such as "
            "stands or plots with an area"
        )
    if mended := int((invalid & kept).sum()):
        logger.info("%s: %d invalid polygons are repaired", path, mended)
    if lost := int((~kept).sum()):
        logger.info("%s: %d of %d features have no area and are left out", path, lost, len(shapes))
    rows = np.flatnonzero(kept)
    return np.asarray(areas[rows]), rows


def _areas(shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return what has an area of each geometry; an empty polygon where nothing has."""
    found = np.asarray(shapes, dtype=object).copy()
    polygonal = np.isin(shapely.get_type_id(found), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    for i in np.flatnonzero(~polygonal):
        parts = shapely.get_parts(found[i]) if found[i] is not None else np.array([], dtype=object)
        found[i] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2]) if len(parts) else shapely.Polygon()
    return found


def _ids(table: gpd.GeoDataFrame, zone_id: str | None, path: Path) -> npt.NDArray[Any]:
    """Return the names of zones, object ``[N]``; whole numbers that a file holds as decimals are whole again."""
    if zone_id is None:
        return np.arange(1, len(table) + 1).astype(object)
    column = table[zone_id]
    missing = (column.isna() | (column.astype("str").str.strip() == "")).to_numpy(dtype=bool)
    if missing.any():
        raise CrownsError(
            f"{path}: {missing.sum()} of {len(table)} zones have no {zone_id!r}, the first is feature "
            f"{int(np.flatnonzero(missing)[0]) + 1}; fill it in, or leave zone_id (--zone_id) out to number the zones"
        )
    if pd.api.types.is_numeric_dtype(column) and (column % 1 == 0).all():
        column = column.astype("int64")
    elif not pd.api.types.is_numeric_dtype(column):
        column = column.astype("str")
    return np.array(column.tolist(), dtype=object)


def _one_each(zones: Zones, zone_id: str | None, path: Path) -> Zones:
    """Return zones with the features of each name put together."""
    codes, names = pd.factorize(zones.ids)
    if len(names) == len(zones):
        return zones
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    several = [group for group in groups if len(group) > 1]
    listed = ", ".join(str(zones.ids[group[0]]) for group in several[:LISTED])
    logger.info(
        "%s: %d zones come from several features with the same %r (%s%s); each is counted as one zone",
        path,
        len(several),
        zone_id,
        listed,
        ", ..." if len(several) > LISTED else "",
    )
    firsts = zones.take(np.array([group[0] for group in groups]))
    polygons = firsts.polygons.copy()
    for i, group in enumerate(groups):
        if len(group) > 1:
            polygons[i] = shapely.union_all(zones.polygons[group])
    return Zones(firsts.ids, polygons, zones.crs, zones.name)
