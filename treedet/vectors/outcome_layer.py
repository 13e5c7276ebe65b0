"""What became of every crown as a GeoPackage that opens in QGIS coloured by outcome."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely

from treedet.errors import OutputError
from treedet.vectors.crowns_writer import errors_told
from treedet.vectors.gdal_writers import gdal_crs
from treedet.vectors.qgis_style import Outline, outline_style, store

HIT, MISS, FALSE_ALARM, CONFUSION = "hit", "miss", "false alarm", "confusion"

OUTLINES = {
    HIT: Outline("#009e73"),
    CONFUSION: Outline("#cc79a7", width_mm="0.5"),
    MISS: Outline("#cc3311", style="dash", width_mm="0.6"),
    FALSE_ALARM: Outline("#e69f00", width_mm="0.5"),
}
"""Green, purple and orange of Okabe and Ito (2008), red of Tol (2021); misses are dashed, so colour is not needed."""

COLUMNS = ("outcome", "label", "truth_label", "score", "iou", "distance_m", "raster", "geometry")
LAYER = "outcomes"
POINT_LAYER = "missed_points"


def write_outcomes(path: Path, table: gpd.GeoDataFrame) -> None:
    """Write outcomes as the layer ``outcomes``, with its style; missed stems go into a layer ``missed_points``.

    Args:
        path: The GeoPackage to write, new.
        table: Columns ``outcome`` (hit, miss, false alarm or confusion), ``label``, ``truth_label``, ``score``,
            ``iou``, ``distance_m``, ``raster`` and ``geometry``, in one CRS or none; any further ones follow them.

    Raises:
        OutputError: The file exists, or can not be written.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path} exists already; write to another file, or remove it first")
    points = np.asarray(shapely.get_type_id(table.geometry.to_numpy()) == shapely.GeometryType.POINT, dtype=bool)
    with errors_told(path), tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        _write(table[~points], temporary, layer=LAYER)
        if points.any():
            _write(table[points], temporary, layer=POINT_LAYER)
        temporary.replace(path)


def _write(table: gpd.GeoDataFrame, path: Path, *, layer: str) -> None:
    points = layer == POINT_LAYER
    kinds = set(np.unique(shapely.get_type_id(table.geometry.to_numpy())).tolist())
    polygons = kinds <= {shapely.GeometryType.POLYGON}
    with warnings.catch_warnings():
        # Without a CRS coordinates are pixels; the report says so.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.write_dataframe(
            _in_order(table) if table.crs is None else _known(table),
            path,
            layer=layer,
            driver="GPKG",
            geometry_type="Point" if points else ("Polygon" if polygons else "Unknown"),
            layer_options={"GEOMETRY_NAME": "geometry"},
        )
    store(path, outline_style("outcome", OUTLINES, points=points), layer=layer, geometry_column="geometry")


def _known(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the table with its CRS as GDAL understands it best."""
    return _in_order(table).set_crs(gdal_crs(table.crs), allow_override=True)


def _in_order(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]
