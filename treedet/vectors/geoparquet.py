"""GeoParquet 1.1: row groups as crowns arrive, the ``geo`` metadata at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from treedet.vectors.columns import arrow_schema, to_arrow, with_geometry
from treedet.vectors.crowns_writer import METADATA_KEY, CrownsWriter, Target

NAMES = pa.dictionary(pa.int32(), pa.string())
GROUP_ROWS = 65_536
"""Small parts are gathered into row groups of about this size: each group costs a reader a seek."""


class Extent:
    """Bounds and kinds of geometries, as they come."""

    def __init__(self) -> None:
        self.types: set[str] = set()
        self.bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, geometries: npt.NDArray[np.object_]) -> None:
        """Take geometries."""
        if len(geometries):
            _, first = np.unique(shapely.get_type_id(geometries), return_index=True)
            self.types |= {str(shape.geom_type) for shape in geometries[first]}
            found = np.asarray(shapely.total_bounds(geometries))
            low, high = self.bounds[:2], self.bounds[2:]
            self.bounds = np.concatenate([np.minimum(low, found[:2]), np.maximum(high, found[2:])])

    def geo(self, crs: pyproj.CRS | None, *, covering: str | None = None) -> str:
        """Return the ``geo`` metadata of https://geoparquet.org/releases/v1.1.0 (WKB, PROJJSON, planar edges).

        Args:
            crs: The CRS.
            covering: Column with the box of each row.
        """
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self.types),
            # A missing entry would mean longitude and latitude; null says that the CRS is unknown.
            "crs": None if crs is None else crs.to_json_dict(),
            "edges": "planar",
        }
        if np.isfinite(self.bounds).all():
            column["bbox"] = self.bounds.tolist()
        if covering is not None:
            column["covering"] = {"bbox": {side: [covering, side] for side in ("xmin", "ymin", "xmax", "ymax")}}
        return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}})


class RowGroups:
    """One Parquet file, written by row groups.

    Args:
        path: The file.
        schema: Its columns.
        collector: Takes the metadata of the file when it is closed.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, collector: list[pq.FileMetaData] | None = None) -> None:
        self.path, self.extent = path, Extent()
        self.waiting = 0
        self._parts: list[pa.Table] = []
        self._schema = schema
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(
            path, schema, compression="zstd", metadata_collector=collector
        )

    def add(self, part: pa.Table, geometries: npt.NDArray[np.object_]) -> None:
        """Take rows and their geometries; a row group is written when there are enough."""
        self._parts.append(part.cast(self._schema))
        self.waiting += part.num_rows
        self.extent.add(geometries)
        if self.waiting >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a row group."""
        if self._parts and self._writer is not None:
            self._writer.write_table(pa.concat_tables(self._parts))
        self._parts, self.waiting = [], 0

    def close(self, metadata: dict[str, str] | None = None) -> None:
        """Complete the file, with key-value metadata; without any it is abandoned. Called more than once."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if metadata is not None:
            if self._parts:
                writer.write_table(pa.concat_tables(self._parts))
            writer.add_key_value_metadata(metadata)
        self._parts, self.waiting = [], 0
        writer.close()


class GeoParquetWriter(CrownsWriter):
    """Writes one file of GeoParquet."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._parquet: RowGroups | None = None

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        part = with_geometry(to_arrow(table, self.target.layout, names_as=NAMES), geometries)
        if self._parquet is None:
            self._parquet = RowGroups(self.file, part.schema)
        self._parquet.add(part, geometries)

    def _finish(self, metadata: str) -> bool:
        if self._parquet is None:
            self._parquet = RowGroups(self.file, empty_schema(self.target))
        geo = self._parquet.extent.geo(self.target.crs)
        self._parquet.close({"geo": geo, METADATA_KEY: metadata})
        return True

    def _close(self) -> None:
        if self._parquet is not None:
            self._parquet.close()


def empty_schema(target: Target) -> pa.Schema:
    """Return the columns of a file without crowns."""
    columns = arrow_schema(target.layout, names_as=NAMES)
    return columns.insert(0, pa.field("geometry", pa.binary()))
