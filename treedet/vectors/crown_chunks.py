"""Crowns of any file in parts, for whoever need not hold them all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely

from treedet.errors import CrownsError
from treedet.vectors.annotations import PIXEL_FORMATS, read_crowns
from treedet.vectors.layers import METADATA_FILE, existing, first_layer, is_parquet, read_metadata, readable

CHUNK_ROWS = 65_536
_SIDES = ("xmin", "ymin", "xmax", "ymax")
FIGURES = ("label", "diameter_m", "crown_m2")
"""Columns that are read beside the geometry and the attributes."""


@dataclass(frozen=True)
class CrownChunk:
    """Some crowns of a file.

    Attributes:
        geometries: Object ``[N]``.
        columns: Those of ``label``, ``diameter_m``, ``crown_m2`` and the attributes that the file has.
    """

    geometries: npt.NDArray[np.object_]
    columns: pd.DataFrame


@dataclass(frozen=True)
class CrownsFile:
    """A file of crowns, of this package or any other tool.

    Attributes:
        path: The file, or a folder of GeoParquet.
        crs: Its CRS, or None.
        metadata: What was stored about the run.
        attributes: Columns ``x`` that have an ``x_p`` beside them.
    """

    path: Path
    crs: pyproj.CRS | None
    metadata: dict[str, Any]
    attributes: tuple[str, ...]
    _names: tuple[str, ...]
    _geometry: str

    @classmethod
    def open(cls, path: str | Path) -> CrownsFile:
        """Look at a file.

        Raises:
            CrownsError: It is missing, or can not be read.
        """
        path = existing(path)
        geometry = "geometry"
        if path.suffix.lower() in PIXEL_FORMATS:
            table = read_crowns(path)
            names, crs = [str(name) for name in table.columns], table.crs
        elif is_parquet(path):
            with readable(path):
                found = pa.dataset.dataset(path, format="parquet")
                footer = next(iter(found.get_fragments())).metadata.metadata or {}
            names = list(found.schema.names)
            geometry, crs = _geo(footer, path)
        else:
            with readable(path):
                info = pyogrio.read_info(path, layer=first_layer(path))
            if info["geometry_type"] is None:
                raise CrownsError(f"{path} holds a table without geometries; accepted are files of crowns")
            names = [str(name) for name in info["fields"]]
            crs = None if info["crs"] is None else pyproj.CRS.from_user_input(info["crs"])
        attributes = tuple(name for name in names if f"{name}_p" in names)
        wanted = tuple(name for name in (*FIGURES, *attributes) if name in names)
        return cls(path, crs, read_metadata(path), attributes, wanted, geometry)

    def bounds(self) -> tuple[float, float, float, float] | None:
        """Return ``(xmin, ymin, xmax, ymax)`` of all geometries, None where there are none.

        Raises:
            CrownsError: The file breaks off.
        """
        found = self._stored_bounds()
        if found is None:
            boxes = [shapely.total_bounds(chunk.geometries) for chunk in self.chunks()]
            ends = np.array(boxes).reshape(-1, 4)
            ends = ends[~np.isnan(ends).any(axis=1)]
            found = [*ends[:, :2].min(axis=0), *ends[:, 2:].max(axis=0)] if len(ends) else None
        if found is None or not np.isfinite(found).all():
            return None
        xmin, ymin, xmax, ymax = map(float, found)
        return xmin, ymin, xmax, ymax

    def _stored_bounds(self) -> Sequence[float] | None:
        """Return what the file says about itself, if it does."""
        with readable(self.path):
            if self.path.suffix.lower() in PIXEL_FORMATS:
                return None
            if not is_parquet(self.path):
                info = pyogrio.read_info(self.path, layer=first_layer(self.path), force_total_bounds=True)
                return list(info["total_bounds"]) if info["total_bounds"] is not None else None
            file = self.path / METADATA_FILE if self.path.is_dir() else self.path
            if not file.is_file():
                return None
            geo = json.loads((pq.read_metadata(file).metadata or {}).get(b"geo", b"{}"))
            box = geo.get("columns", {}).get(self._geometry, {}).get("bbox")
            return box if box is not None and len(box) == len(_SIDES) else None

    def chunks(self) -> Iterator[CrownChunk]:
        """Yield the crowns in the order of the file.

        Raises:
            CrownsError: The file breaks off.
        """
        if self.path.suffix.lower() in PIXEL_FORMATS:
            table = read_crowns(self.path)
            shapes = np.asarray(table.geometry.to_numpy(), dtype=object)
            yield CrownChunk(shapes, pd.DataFrame(table[list(self._names)]))
            return
        with readable(self.path):
            for batch in self._batches():
                columns = pa.Table.from_batches([batch])
                wkb = columns[self._geometry_in(columns)].to_numpy()
                shapes = np.asarray(shapely.from_wkb(wkb), dtype=object)
                yield CrownChunk(shapes, columns.select(list(self._names)).to_pandas())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if is_parquet(self.path):
            found = pa.dataset.dataset(self.path, format="parquet")
            yield from found.to_batches(columns=[*self._names, self._geometry], batch_size=CHUNK_ROWS)
            return
        with pyogrio.open_arrow(
            self.path,
            layer=first_layer(self.path),
            columns=list(self._names),
            batch_size=CHUNK_ROWS,
            use_pyarrow=True,
        ) as (_, reader):
            yield from reader

    def _geometry_in(self, table: pa.Table) -> str:
        """Return the column of geometries: GDAL calls it as the file does, or wkb_geometry."""
        return str(next(name for name in table.column_names if name not in self._names and name != "OGC_FID"))


def _geo(footer: dict[bytes, bytes], path: Path) -> tuple[str, pyproj.CRS | None]:
    """Return the column of geometries and the CRS that GeoParquet names."""
    text = footer.get(b"geo")
    if text is None:
        raise CrownsError(f"{path} holds a table without geometries; accepted is GeoParquet")
    geo = json.loads(text)
    name = str(geo["primary_column"])
    # Nothing said means longitude and latitude.
    crs = geo["columns"][name].get("crs", "OGC:CRS84")
    return name, None if crs is None else pyproj.CRS.from_user_input(crs)
