"""Annotations of any format as rows: the format is told by suffix and content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.errors import CrownsError, MissingColumnError
from treedet.vectors.box_rows import BOX, BoxRows, text_of, without_area
from treedet.vectors.coco_boxes import load_coco
from treedet.vectors.csv_boxes import OUTLINES, csv_boxes, numbers, outlines, says_empty, text_table
from treedet.vectors.label_studio import is_label_studio, load_label_studio
from treedet.vectors.layers import existing, read_layer, read_metadata
from treedet.vectors.truth_columns import PLACES, absent
from treedet.vectors.truth_rows import Rows
from treedet.vectors.voc import load_voc, voc_files
from treedet.vectors.yolo import is_yolo, label_files, load_yolo

MAP_SUFFIXES = (".shp", ".gpkg", ".geojson", ".parquet", ".geoparquet", ".fgb")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
ACCEPTED = (
    f"{', '.join(MAP_SUFFIXES)}, .csv, Pascal VOC .xml, COCO or Label Studio .json, YOLO .txt, or a folder of "
    "Pascal VOC or YOLO files"
)
GEOJSON_TYPES = ("FeatureCollection", "Feature", "GeometryCollection", "Polygon", "MultiPolygon", "Point")
PLACE_NAMES = (PLACES, ("easting", "northing"), ("lon", "lat"), ("longitude", "latitude"))
DEGREES = ("lon", "longitude")
WGS84 = pyproj.CRS.from_epsg(4326)


def open_rows(path: str | Path, columns: Mapping[str, str], *, crs: pyproj.CRS | None) -> Rows:
    """Read annotations of any format.

    Args:
        path: A file, or a folder of Pascal VOC or YOLO files.
        columns: Names asked for, ours to the file's.
        crs: CRS of the coordinates, overriding what the file says.

    Raises:
        CrownsError: The file is missing, of no known format, or can not be read.
        MissingColumnError: A CSV has no coordinates.
    """
    path = existing(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return _of_boxes(_load_folder(path), path)
    if suffix in MAP_SUFFIXES:
        return _of_layer(path, crs)
    if suffix == ".txt" and is_yolo(path):
        return _of_boxes(load_yolo(path), path)
    if suffix in TEXT_SUFFIXES:
        return _of_csv(path, columns, crs)
    if suffix == ".xml":
        return _of_boxes(load_voc(path), path)
    if suffix == ".json":
        return _of_json(path, crs)
    raise CrownsError(f"{path}: suffix {path.suffix!r} names no format for crowns; accepted are {ACCEPTED}")


def _load_folder(folder: Path) -> BoxRows:
    voc, yolo = voc_files(folder), label_files(folder)
    if voc and yolo:
        raise CrownsError(
            f"{folder} holds {len(voc)} .xml and {len(yolo)} .txt; Pascal VOC and YOLO need folders of their own"
        )
    if not voc and not yolo:
        raise CrownsError(f"{folder} holds neither Pascal VOC .xml nor YOLO .txt; accepted are {ACCEPTED}")
    return load_voc(folder) if voc else load_yolo(folder)


def _of_layer(path: Path, crs: pyproj.CRS | None) -> Rows:
    table = read_layer(path)
    columns = pd.DataFrame(table.drop(columns=table.active_geometry_name))
    return Rows(
        str(path),
        _numbered(columns),
        np.asarray(table.geometry.to_numpy(), dtype=object),
        crs=table.crs if crs is None else crs,
        metadata=read_metadata(path),
    )


def _of_json(path: Path, crs: pyproj.CRS | None) -> Rows:
    try:
        data = json.loads(text_of(path))
    except ValueError as error:
        raise CrownsError(f"{path} is not JSON: {error}; is it complete?") from error
    if isinstance(data, dict) and data.get("type") in GEOJSON_TYPES:
        return _of_layer(path, crs)
    if is_label_studio(data):
        return _of_boxes(load_label_studio(data, path), path)
    return _of_boxes(load_coco(path), path)


def _of_boxes(found: BoxRows, path: Path) -> Rows:
    boxes = found.corners
    return Rows(
        str(path),
        found.boxes.drop(columns=["image_path", *BOX]),
        _drawn(boxes),
        sources=found.boxes["image_path"].to_numpy(dtype=object),
        images=found.images,
        sizes=found.sizes,
        normalised=found.normalised,
        boxes=boxes,
        label="label",
        metadata={} if path.is_dir() else read_metadata(path),
        place=found.place,
        notices=found.notices,
    )


def _of_csv(path: Path, columns: Mapping[str, str], crs: pyproj.CRS | None) -> Rows:
    table = text_table(path)
    lower = {str(name).lower(): str(name) for name in reversed(table.columns)}
    table = table.rename(columns={lower[name]: name for name in ("image_path", *BOX) if name in lower})
    image = "image_path" in table.columns
    boxes = None
    metadata = read_metadata(path)
    if set(BOX) <= set(table.columns) and "x" not in columns:
        if not image:
            raise MissingColumnError(
                f"{path} has boxes in pixels but no column 'image_path'; it has {list(table.columns)}: add the name "
                "of the raster to each row"
            )
        boxes = csv_boxes(table, path)
        shapes, on_map, used = _drawn(boxes), False, list(BOX)
    else:
        shapes, stated, used = _csv_shapes(table, path, columns)
        stored = (metadata.get("crowns") or {}).get("crs")
        crs = crs or stated or (pyproj.CRS.from_wkt(stored) if stored else None)
        # Outlines beside the name of an image are its pixels, unless the file says where on earth they are.
        on_map = crs is not None or not image or _any_said(table, "lon")
    others = _numbered(table.drop(columns=[*used, "image_path", "source"], errors="ignore"))
    if on_map:
        return Rows(str(path), others, shapes, crs=crs, metadata=metadata, place=_line)
    empty = says_empty(boxes) if boxes is not None else shapely.is_empty(shapes) | shapely.is_missing(shapes)
    names = table["image_path"].str.strip()
    return Rows(
        str(path),
        others[~empty],
        shapes[~empty],
        sources=names[~empty].to_numpy(dtype=object),
        images=tuple(dict.fromkeys(names)),
        boxes=None if boxes is None else boxes[~empty],
        metadata=metadata,
        place=_line,
    )


def _csv_shapes(
    table: pd.DataFrame, path: Path, columns: Mapping[str, str]
) -> tuple[npt.NDArray[np.object_], pyproj.CRS | None, list[str]]:
    """Return outlines or points of a CSV, the CRS that their columns tell, and those columns."""
    lower = {str(name).lower(): str(name) for name in reversed(table.columns)}
    outline = next((lower[name] for name in OUTLINES if name in lower), None)
    if outline is not None and "x" not in columns:
        return outlines(table[outline], path), None, [outline]
    if ("x" in columns) != ("y" in columns):
        raise MissingColumnError(f"{path}: columns= names only one of x and y; points need both (--columns.x, .y)")
    pair = (columns["x"], columns["y"]) if "x" in columns else None
    for ours, theirs in zip(PLACES, pair or (), strict=False):
        if theirs not in table.columns:
            raise absent(theirs, ours, table, str(path))
    pair = pair or next(((lower[x], lower[y]) for x, y in PLACE_NAMES if {x, y} <= set(lower)), None)
    if pair is None:
        raise MissingColumnError(
            f"{path} has no coordinates; it has {list(table.columns)}, accepted are xmin, ymin, xmax, ymax with "
            "image_path, an outline as WKT in wkt or geometry, or points in x and y (columns=, --columns.x E)"
        )
    xy = np.column_stack([numbers(table[name], path) for name in pair])
    shapes = np.asarray(shapely.points(xy), dtype=object)
    shapes[np.isnan(xy).all(axis=1)] = None
    return shapes, WGS84 if pair[0].lower() in DEGREES else None, list(pair)


def _drawn(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """Return boxes ``[N, 4]`` as polygons; those without area are empty."""
    shapes = np.full(len(boxes), shapely.Polygon(), dtype=object)
    sound = ~without_area(boxes)
    shapes[sound] = shapely.box(*boxes[sound].T)
    return shapes


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index counts rows from 1, as the attribute table of a GIS does."""
    return table.set_axis(pd.RangeIndex(1, len(table) + 1), axis=0)


def _line(row: int) -> str:
    return f"line {row + 1}"


def _any_said(table: pd.DataFrame, name: str) -> bool:
    return name in table.columns and bool((table[name].str.strip() != "").any())
