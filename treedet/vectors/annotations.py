"""Readers of crowns and of areas of interest; pixel formats are in :mod:`treedet.vectors.pixel_boxes`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.errors
import pyproj
import shapely
import shapely.errors

from treedet.core.grid import Grid
from treedet.errors import CrownsError
from treedet.vectors.columns import Layout, restore
from treedet.vectors.crowns_writer import METADATA_KEY, SIDECAR
from treedet.vectors.crs import bring_to
from treedet.vectors.gdal_writers import LAYER
from treedet.vectors.pixel_boxes import BOX, BoxAnnotations, read_boxes

__all__ = ["BoxAnnotations", "read_boxes", "read_crowns", "read_metadata", "read_polygons"]

logger = logging.getLogger("treedet")

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
    path = _existing(path)
    metadata = read_metadata(path)
    layout = _layout_of(metadata)
    if path.suffix.lower() in PIXEL_FORMATS:
        table = _from_pixels(path, metadata, grid)
    else:
        table = _read_file(path)
        if grid is not None:
            moved = bring_to(
                np.asarray(table.geometry.to_numpy(), dtype=object), table.crs, grid.crs, where=str(path)
            )
            table = table.set_geometry(gpd.GeoSeries(moved, index=table.index, crs=grid.crs))
    table = restore(table, layout, where=str(path))
    # FlatGeobuf stores features in the order of its spatial index.
    return table.sort_values("crown_id", ignore_index=True) if path.suffix.lower() == ".fgb" else table


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what was stored with crowns about the run that found them; empty where nothing was.

    Args:
        path: The file of crowns; GeoPackage and GeoParquet hold it inside, others have it in a file beside them.
    """
    path = Path(path)
    if path.suffix.lower() == ".gpkg":
        with _readable(path):
            text = (pyogrio.read_info(path, layer=_first_layer(path)).get("layer_metadata") or {}).get(METADATA_KEY)
    elif path.suffix.lower() == ".parquet":
        with _readable(path):
            text = (pq.read_metadata(path).metadata or {}).get(METADATA_KEY.encode())
    else:
        sidecar = path.with_name(path.name + SIDECAR)
        text = sidecar.read_text(encoding="utf-8") if sidecar.exists() else None
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise CrownsError(
            f"the metadata of {path} is not JSON ({error}); remove it, or write the crowns again"
        ) from error
    return found if isinstance(found, dict) else {}


def read_polygons(path: str | Path, *, crs: pyproj.CRS | None) -> shapely.MultiPolygon:
    """Read an area of interest: the union of all polygons of a file.

    Invalid polygons are repaired. A file without CRS is taken to be in ``crs``, with a notice; so is one whose local
    CRS has the same name and unit but no transformation.

    Args:
        path: Any vector file; of several layers the first with polygons is read.
        crs: CRS wanted, the raster's; None takes coordinates as they are.

    Raises:
        CrownsError: The file is missing, can not be read or holds no polygon.
        CrsMismatchError: Its CRS can not be brought to ``crs``.
    """
    path = _existing(path)
    table = _read_file(path, polygons=True)
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
    moved = shapely.make_valid(bring_to(repaired, table.crs, crs, where=str(path)))
    return shapely.MultiPolygon(_polygons_in(np.array([shapely.union_all(_polygons_in(moved))])).tolist())


def _polygons_in(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return all polygons in geometries, collections taken apart; what has no area is dropped."""
    parts = np.asarray(geometries, dtype=object)
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():
        parts = shapely.get_parts(parts)
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return np.asarray(parts[kept], dtype=object)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a library says about a file it can not read into one CrownsError."""
    try:
        yield
    except CrownsError:
        raise
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pa.ArrowException,
        shapely.errors.ShapelyError,
        OSError,
        ValueError,
    ) as error:
        reason = str(error).strip().splitlines()
        raise CrownsError(f"can not read {path}: {reason[0] if reason else type(error).__name__}") from error


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise CrownsError(f"there is no file {path}; check the path")
    return path


def _read_file(path: Path, *, polygons: bool = False) -> gpd.GeoDataFrame:
    """Read one layer of a vector file into a table with geometries."""
    with _readable(path):
        if path.suffix.lower() == ".parquet":
            return gpd.read_parquet(path)
        table = pyogrio.read_dataframe(path, layer=_first_layer(path, polygons=polygons), use_arrow=True)
    if not isinstance(table, gpd.GeoDataFrame):
        raise CrownsError(f"{path} holds a table without geometries; accepted are vector files")
    return table


def _first_layer(path: Path, *, polygons: bool = False) -> str | int:
    """Name of the layer to read: ``crowns``, else the first with geometries (with polygons, if asked for)."""
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(path) if kind is not None]
    wanted = [name for name, kind in layers if "Polygon" in kind] if polygons else []
    names = wanted or [name for name, _ in layers]
    if LAYER in names and not polygons:
        return LAYER
    if len(wanted) > 1:
        logger.info("%s has %d layers of polygons; the first, %r, is read", path, len(wanted), wanted[0])
    return names[0] if names else 0


def _layout_of(metadata: dict[str, Any]) -> Layout | None:
    facts = metadata.get("crowns")
    if not isinstance(facts, dict) or "classes" not in facts:
        return None
    named = {str(name): tuple(values) for name, values in facts.get("attributes", {}).items()}
    return Layout(tuple(facts["classes"]), named)


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
    with _readable(path):
        return tuple(pd.read_csv(path, nrows=0).columns)


def _from_wkt(path: Path, metadata: dict[str, Any], grid: Grid | None) -> gpd.GeoDataFrame:
    with _readable(path):
        rows = pd.read_csv(path)
        geometries = np.asarray(shapely.from_wkt(rows["wkt"].to_numpy(dtype=object)), dtype=object)
    stored = (metadata.get("crowns") or {}).get("crs")
    crs = pyproj.CRS.from_wkt(stored) if stored else None
    if grid is not None:
        geometries, crs = bring_to(geometries, crs, grid.crs, where=str(path)), grid.crs
    columns = rows.drop(columns=["x", "y", "lon", "lat", "wkt"]).rename(columns={"image_path": "source"})
    return gpd.GeoDataFrame(columns, geometry=geometries, crs=crs)
