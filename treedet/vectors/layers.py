"""Opening files of geometries: layers, the metadata beside or inside them, and one error for what can not be read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.errors
import shapely
import shapely.errors

from treedet.errors import CrownsError
from treedet.vectors.columns import Layout
from treedet.vectors.crowns_writer import METADATA_KEY, SIDECAR
from treedet.vectors.gdal_writers import LAYER

logger = logging.getLogger("treedet")

PARQUET = (".parquet", ".geoparquet")
METADATA_FILE = "_metadata"
"""In a folder of GeoParquet: what all of its files hold, without the rows."""


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what was stored with crowns about the run that found them; empty where nothing was.

    Args:
        path: The file of crowns; GeoPackage and GeoParquet hold it inside, others have it in a file beside them.
    """
    path = Path(path)
    if path.suffix.lower() == ".gpkg":
        with readable(path):
            text = (pyogrio.read_info(path, layer=first_layer(path)).get("layer_metadata") or {}).get(METADATA_KEY)
    elif is_parquet(path):
        with readable(path):
            file = path / METADATA_FILE if path.is_dir() else path
            text = (pq.read_metadata(file).metadata or {}).get(METADATA_KEY.encode())
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


@contextmanager
def readable(path: Path) -> Iterator[None]:
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
        # GDAL goes on with advice on drivers, which nobody can follow here.
        lines = str(error).strip().partition("; It might help")[0].splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise CrownsError(
            f"can not read {path}: {reason}; is it complete, and of the format its suffix says?"
        ) from error


def existing(path: str | Path) -> Path:
    """Return a path; a CrownsError says that nothing is there."""
    path = Path(path)
    if not path.exists():
        raise CrownsError(f"there is no file {path}; check the path")
    return path


def read_layer(path: Path, *, polygons: bool = False) -> gpd.GeoDataFrame:
    """Read one layer of a vector file into a table with geometries."""
    _require_shx(path)
    # Coordinates that are no numbers are found by whoever checks them.
    with readable(path), np.errstate(invalid="ignore"):
        if is_parquet(path):
            return gpd.read_parquet(path)
        table = pyogrio.read_dataframe(path, layer=first_layer(path, polygons=polygons), use_arrow=True)
    if not isinstance(table, gpd.GeoDataFrame):
        raise CrownsError(f"{path} holds a table without geometries; accepted are vector files")
    return table


def _require_shx(path: Path) -> None:
    """Raise a CrownsError for a Shapefile without its index, which GDAL would only restore by writing beside it."""
    if path.suffix.lower() != ".shp" or any(path.with_suffix(suffix).exists() for suffix in (".shx", ".SHX")):
        return
    raise CrownsError(
        f"{path} lacks {path.with_suffix('.shx').name}; a Shapefile is .shp, .shx and .dbf together (and .prj for "
        "its CRS): copy the missing file beside it, or save the layer anew in a GIS"
    )


def is_parquet(path: Path) -> bool:
    """Tell whether a path is GeoParquet: a file, or a folder of files beside a ``_metadata``."""
    return path.suffix.lower() in PARQUET or (path / METADATA_FILE).is_file()


def first_layer(path: Path, *, polygons: bool = False) -> str | int:
    """Return the name of the layer to read: ``crowns``, else the first with geometries (or with polygons)."""
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(path) if kind is not None]
    wanted = [name for name, kind in layers if "Polygon" in kind] if polygons else []
    names = wanted or [name for name, _ in layers]
    if LAYER in names and not polygons:
        return LAYER
    if len(names) > 1:
        what = " of polygons" if wanted else ""
        logger.info("%s has %d layers%s; the first, %r, is read", path, len(names), what, names[0])
    return names[0] if names else 0


def layout_of(metadata: dict[str, Any]) -> Layout | None:
    """Return the names of classes and attributes that metadata hold; None where they hold none."""
    facts = metadata.get("crowns")
    if not isinstance(facts, dict) or "classes" not in facts:
        return None
    named = {str(name): tuple(values) for name, values in facts.get("attributes", {}).items()}
    return Layout(tuple(facts["classes"]), named)
