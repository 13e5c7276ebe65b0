"""Writing the table of zones, beside the crowns or anywhere else."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyogrio

from treedet.errors import OutputError
from treedet.vectors.crowns_writer import check_names, errors_told, refuse_existing
from treedet.vectors.gdal_writers import gdal_crs

LAYER = "zones"
DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
SUFFIXES = (*DRIVERS, ".parquet", ".csv")
"""Suffixes of tables of zones; ``.csv`` holds no polygons."""


def zones_beside(output: str | Path) -> Path:
    """Return where the table of zones goes that belongs to crowns.

    >>> zones_beside("out/crowns.gpkg").name, zones_beside("crowns.json").name, zones_beside("crowns").name
    ('crowns-zones.gpkg', 'crowns-zones.csv', 'crowns-zones.parquet')
    """
    path = Path(output)
    suffix = {".json": ".csv", "": ".parquet"}.get(path.suffix.lower(), path.suffix)
    return path.with_name(f"{path.stem}-zones{suffix}")


def check_zones_target(path: str | Path, *, overwrite: bool) -> None:
    """Find out before any work whether a table of zones can be written.

    Args:
        path: The output file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The suffix names no format, the folder is missing, or the file exists.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path}: suffix {path.suffix!r} names no format for a table of zones; accepted are {', '.join(SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise OutputError(f"can not write {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise OutputError(f"can not write {path}: it is a folder; give the name of a file")
    if not overwrite:
        refuse_existing(path)


def write_zones(table: gpd.GeoDataFrame, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a table of zones to the format its suffix names, whole or not at all.

    Args:
        table: One row per zone, with its polygon.
        path: ``.gpkg`` (layer ``zones``), ``.shp``, ``.fgb``, ``.geojson`` (longitude and latitude), ``.parquet``, or
            ``.csv`` without polygons.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file can not be written, or a Shapefile would cut the name of a column.
    """
    path = Path(path)
    check_zones_target(path, overwrite=overwrite)
    check_names([str(name) for name in table.columns if name != table.active_geometry_name], path)
    with errors_told(path), tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        _write(table, Path(folder) / (path.stem + path.suffix.lower()))
        # The file that makes the others of a Shapefile visible comes last.
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.suffix == path.suffix.lower()):
            part.replace(path if part.suffix == path.suffix.lower() else path.with_suffix(part.suffix))


def _write(table: gpd.GeoDataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        pd.DataFrame(table.drop(columns=table.active_geometry_name)).to_csv(path, index=False, float_format="%.6g")
        return
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
        return
    options: Mapping[str, dict[str, Any]] = {
        ".gpkg": {"layer_options": {"GEOMETRY_NAME": "geometry"}},
        ".geojson": {"RFC7946": "YES"},
    }
    known = table if table.crs is None else table.set_crs(gdal_crs(table.crs), allow_override=True)
    with warnings.catch_warnings():
        # Without a CRS coordinates are pixels; the writer of crowns says so.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.write_dataframe(
            known,
            path,
            layer=LAYER if path.suffix == ".gpkg" else path.stem,
            driver=DRIVERS[path.suffix],
            promote_to_multi=path.suffix != ".geojson",
            **options.get(path.suffix, {}),
        )
