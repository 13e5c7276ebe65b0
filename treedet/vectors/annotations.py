"""Readers of crowns and of areas of interest; pixel formats are in :mod:`treedet.vectors.pixel_boxes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.core.grid import Grid
from treedet.errors import CrownsError
from treedet.vectors.columns import restore
from treedet.vectors.crs import bring_to
from treedet.vectors.layers import existing, layout_of, read_layer, read_metadata, readable
from treedet.vectors.pixel_boxes import BOX, BoxAnnotations, read_boxes

__all__ = ["BoxAnnotations", "read_boxes", "read_crowns", "read_metadata", "read_polygons"]

PIXEL_FORMATS = (".csv", ".json")
POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def read_crowns(path: str | Path, *, grid: Grid | None = None) -> gpd.GeoDataFrame:
    """Read a crowns table that treedet wrote, with the dtypes of the contract.

    Args:
        path: A file of any format that crowns are written to.
        grid: Grid of the raster. Pixel boxes (CSV, COCO) are placed on the map by it, other geometries are brought
            to its CRS. Without it pixel boxes stay pixels, and geometries stay in the CRS of the file.

    Returns:
        One row per crown; without rows where the file has none.

    Raises:
        CrownsError: The file is missing or can not be read.
        MissingColumnError: It lacks a column of the contract.
        CrsMismatchError: Its CRS can not be brought to that of the grid.
    """
    path = existing(path)
    metadata = read_metadata(path)
    layout = layout_of(metadata)
    if path.suffix.lower() in PIXEL_FORMATS:
        table = _from_pixels(path, metadata, grid)
    else:
        table = read_layer(path)
        if grid is not None:
            moved = bring_to(
                np.asarray(table.geometry.to_numpy(), dtype=object), table.crs, grid.crs, where=str(path)
            )
            table = table.set_geometry(gpd.GeoSeries(moved, index=table.index, crs=grid.crs))
    table = restore(table, layout, where=str(path))
    # FlatGeobuf stores features in the order of its spatial index.
    return table.sort_values("crown_id", ignore_index=True) if path.suffix.lower() == ".fgb" else table


def read_polygons(path: str | Path, *, crs: pyproj.CRS | None, other: str = "the raster") -> shapely.MultiPolygon:
    """Read an area of interest: the union of all polygons of a file.

    Invalid polygons are repaired. A file without CRS is taken to be in ``crs``, with a notice; so is one whose local
    CRS has the same name and unit but no transformation.

    Args:
        path: Any vector file; of several layers the first with polygons is read.
        crs: CRS wanted, the raster's; None takes coordinates as they are.
        other: How messages call what has that CRS.

    Raises:
        CrownsError: The file is missing, can not be read or holds no polygon.
        CrsMismatchError: Its CRS can not be brought to ``crs``.
    """
    path = existing(path)
    table = read_layer(path, polygons=True)
    shapes = np.asarray(table.geometry.to_numpy(), dtype=object)
    shapes = shapely.force_2d(shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))])
    repaired = _polygons_in(shapely.make_valid(shapes))
    if not len(repaired):
        kinds = sorted({str(kind) for kind in table.geom_type.dropna().unique()})
        raise CrownsError(
            f"{path} holds no polygon, found {', '.join(kinds) or 'no geometry at all'}; an area of interest needs "
            "polygons"
        )
    # Repaired again: a transformation may turn a sliver inside out.
    moved = shapely.make_valid(bring_to(repaired, table.crs, crs, where=str(path), other=other))
    return shapely.MultiPolygon(_polygons_in(np.array([shapely.union_all(_polygons_in(moved))])).tolist())


def _polygons_in(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return all polygons in geometries, collections taken apart; what has no area is dropped."""
    parts = np.asarray(geometries, dtype=object)
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():
        parts = shapely.get_parts(parts)
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return np.asarray(parts[kept], dtype=object)


def _from_pixels(path: Path, metadata: dict[str, Any], grid: Grid | None) -> gpd.GeoDataFrame:
    """Read CSV or COCO: WKT on the map where the file has it, else boxes, on the map where there is a grid."""
    header = _header(path) if path.suffix.lower() == ".csv" else ()
    if header and not set(BOX) <= set(header) and "wkt" in header:
        return _from_wkt(path, metadata, grid)
    boxes = read_boxes(path).boxes
    pixels = boxes[BOX].to_numpy()
    geometries = shapely.box(*pixels.T) if grid is None else grid.to_map(pixels)
    columns = boxes.drop(columns=[*BOX, "x", "y", "lon", "lat", "wkt"], errors="ignore")
    return gpd.GeoDataFrame(
        columns.rename(columns={"image_path": "source"}), geometry=geometries, crs=None if grid is None else grid.crs
    )


def _header(path: Path) -> tuple[str, ...]:
    with readable(path):
        return tuple(pd.read_csv(path, nrows=0).columns)


def _from_wkt(path: Path, metadata: dict[str, Any], grid: Grid | None) -> gpd.GeoDataFrame:
    with readable(path):
        # A class may be called NA or TRUE; what the file leaves empty is missing, and nothing else.
        named = [name for name in _header(path) if name == "label" or f"{name}_p" in _header(path)]
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(named, str))
        geometries = np.asarray(shapely.from_wkt(rows["wkt"].to_numpy(dtype=object)), dtype=object)
    stored = (metadata.get("crowns") or {}).get("crs")
    crs = pyproj.CRS.from_wkt(stored) if stored else None
    if grid is not None:
        geometries, crs = bring_to(geometries, crs, grid.crs, where=str(path)), grid.crs
    columns = rows.drop(columns=["x", "y", "lon", "lat", "wkt"]).rename(columns={"image_path": "source"})
    return gpd.GeoDataFrame(columns, geometry=geometries, crs=crs)
