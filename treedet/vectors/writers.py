"""Crowns into the format that the output's suffix names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely

from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import OutputError
from treedet.vectors.coco import CocoWriter
from treedet.vectors.columns import Layout, require
from treedet.vectors.crowns_writer import (
    CrownsWriter,
    ImageSizes,
    Target,
    WriteOptions,
    check_names,
    errors_told,
    refuse_existing,
)
from treedet.vectors.crs import bring_to
from treedet.vectors.csv_table import CsvWriter
from treedet.vectors.gdal_writers import GeoPackageWriter, ShapefileWriter, StagedWriter
from treedet.vectors.geojson import GeoJSONWriter
from treedet.vectors.geoparquet import GeoParquetWriter
from treedet.vectors.partitions import Partition, PartitionedWriter, check_folder, check_partition
from treedet.vectors.shapes import Shape

__all__ = ["SUFFIXES", "CrownsWriter", "WriteOptions", "check_target", "open_writer", "write_area", "write_crowns"]

WRITERS: Mapping[str, type[CrownsWriter]] = {
    ".gpkg": GeoPackageWriter,
    ".shp": ShapefileWriter,
    ".geojson": GeoJSONWriter,
    ".parquet": GeoParquetWriter,
    ".fgb": StagedWriter,
    ".csv": CsvWriter,
    ".json": CocoWriter,
}
SUFFIXES: tuple[str, ...] = tuple(WRITERS)
"""Suffixes of outputs; ``.json`` is COCO."""

CHUNK_ROWS = 100_000

GridOf: TypeAlias = Callable[[str], Grid]


def check_target(
    path: str | Path, *, overwrite: bool, schema: LabelSchema | None = None, partition: Partition | None = None
) -> None:
    """Find out before any work whether an output can be written.

    Args:
        path: The output file.
        overwrite: Whether an existing file may be replaced.
        schema: Names of classes and attributes, to check that a Shapefile can hold their columns.
        partition: Whether the output is a folder; see :class:`WriteOptions`.

    Raises:
        OutputError: The suffix names no format, the folder is missing, the file exists, or a column name is too
            long for a Shapefile.
    """
    path = Path(path)
    check_partition(partition)
    if partition is not None:
        check_folder(path, overwrite=overwrite)
        return
    if path.suffix.lower() not in WRITERS:
        raise OutputError(
            f"{path}: suffix {path.suffix!r} names no format for crowns; accepted are {', '.join(SUFFIXES)}, or a "
            "folder with partition= (--partition source or cell)"
        )
    if not path.parent.is_dir():
        raise OutputError(f"can not write {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise OutputError(f"can not write {path}: it is a folder; give the name of a file")
    if not overwrite:
        refuse_existing(path)
    check_names(list(Layout.of_schema(schema or LabelSchema()).dtypes), path)


def open_writer(
    path: str | Path,
    *,
    schema: LabelSchema,
    crs: pyproj.CRS | None,
    raster_size: ImageSizes,
    options: WriteOptions | None = None,
) -> CrownsWriter:
    """Return a writer that takes crowns in parts and leaves one file, whole or not at all.

    Args:
        path: The output file; its suffix names the format.
        schema: Names of classes and attributes.
        crs: CRS of the crowns, or None where they are in pixels.
        raster_size: Width and height of the raster in pixels, or those of several by ``source``; COCO notes them.
        options: Overwriting, shape and WKT.

    Raises:
        OutputError: The output can not be written (see :func:`check_target`), or is GeoJSON without a CRS that
            leads to longitude and latitude.
    """
    options = options or WriteOptions()
    check_target(path, overwrite=options.overwrite, schema=schema, partition=options.partition)
    return _open(Target(Path(path), Layout.of_schema(schema), crs, raster_size, options))


def _open(target: Target) -> CrownsWriter:
    return (WRITERS[target.suffix] if target.options.partition is None else PartitionedWriter)(target)


def write_crowns(
    table: gpd.GeoDataFrame,
    path: str | Path,
    *,
    overwrite: bool = False,
    shape: Shape = "box",
    metadata: Mapping[str, object] | None = None,
    grid_of: GridOf | None = None,
    partition: Partition | None = None,
) -> None:
    """Write a whole crowns table to the format its suffix names.

    Args:
        table: Crowns with the columns of the contract.
        path: The output file: ``.gpkg``, ``.shp``, ``.geojson``, ``.parquet``, ``.fgb``, ``.csv`` or COCO ``.json``.
        overwrite: Replace an existing file.
        shape: Geometry written: ``box`` (as in the table), ``ellipse`` inscribed in the box, or ``point``.
        metadata: Facts to store with the crowns, JSON-able.
        grid_of: Returns the grid of the raster that a ``source`` names. CSV and COCO hold pixels; without it, and
            for crowns on a map, a CSV holds WKT instead and COCO is refused.
        partition: Write a folder of GeoParquet with a file for each raster (``source``) or each square kilometre
            (``cell``).

    Raises:
        OutputError: The file can not be written.
        MissingColumnError: A column of the contract is absent.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, partition=partition)
    layout = Layout.of_table(table)
    require(table, layout, where="the crowns table")
    check_names(list(layout.dtypes), path)
    sizes = None
    if grid_of is not None:
        grids = {str(name): grid_of(str(name)) for name in table["source"].unique()}
        sizes = {name: (grid.width, grid.height) for name, grid in grids.items()}
    options = WriteOptions(overwrite=overwrite, shape=shape, partition=partition)
    with _open(Target(path, layout, table.crs, sizes, options)) as writer:
        for part in _parts(table):
            writer.append(part, _pixel_boxes(part, grid_of))
        writer.finish(metadata)


def write_area(
    area: shapely.Polygon | shapely.MultiPolygon, path: str | Path, *, crs: pyproj.CRS | None, overwrite: bool = False
) -> None:
    """Write an area of interest as a GeoPackage with the one layer ``aoi``.

    Args:
        area: The area.
        path: The output file, ``.gpkg``.
        crs: CRS of the area.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file can not be written.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    temporary.unlink(missing_ok=True)
    table = gpd.GeoDataFrame(geometry=[area], crs=crs)
    try:
        with errors_told(path):
            pyogrio.write_dataframe(table, temporary, layer="aoi", driver="GPKG")
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _parts(table: gpd.GeoDataFrame) -> Iterator[gpd.GeoDataFrame]:
    for first in range(0, max(len(table), 1), CHUNK_ROWS):
        yield table.iloc[first : first + CHUNK_ROWS]


def _pixel_boxes(table: gpd.GeoDataFrame, grid_of: GridOf | None) -> npt.NDArray[np.float64] | None:
    geometries = np.asarray(table.geometry.to_numpy(), dtype=object)
    if grid_of is None:
        return None if table.crs is not None else np.asarray(shapely.bounds(geometries), dtype=np.float64)
    boxes = np.zeros((len(table), 4))
    for name in table["source"].unique():
        grid, rows = grid_of(str(name)), (table["source"] == name).to_numpy()
        boxes[rows] = grid.to_pixels(bring_to(geometries[rows], table.crs, grid.crs, where=str(name)))
    return boxes
