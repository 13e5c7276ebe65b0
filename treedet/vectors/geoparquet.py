"""GeoParquet 1.1: row groups as crowns arrive, the ``geo`` metadata at the end."""

from __future__ import annotations

import json
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from treedet.vectors.columns import arrow_schema, to_arrow, with_geometry
from treedet.vectors.crowns_writer import METADATA_KEY, CrownsWriter, Target

NAMES = pa.dictionary(pa.int32(), pa.string())
GROUP_ROWS = 65_536
"""Small parts are gathered into row groups of about this size: each group costs a reader a seek."""


class GeoParquetWriter(CrownsWriter):
    """Writes the layout of https://geoparquet.org/releases/v1.1.0 (WKB, PROJJSON, bounds, planar edges)."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._parquet: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._schema: pa.Schema | None = None
        self._types: set[str] = set()
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        part = with_geometry(to_arrow(table, self.target.layout, names_as=NAMES), geometries)
        if self._schema is None:
            self._schema = part.schema
        self._waiting.append(part.cast(self._schema))
        if len(geometries):
            self._types |= {str(g.geom_type) for g in _one_of_each_type(geometries)}
            low, high = self._bounds[:2], self._bounds[2:]
            bounds = np.asarray(shapely.total_bounds(geometries))
            self._bounds = np.concatenate([np.minimum(low, bounds[:2]), np.maximum(high, bounds[2:])])
        if sum(part.num_rows for part in self._waiting) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._schema is None:
            columns = arrow_schema(self.target.layout, names_as=NAMES)
            self._schema = columns.insert(0, pa.field("geometry", pa.binary()))
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self.file, self._schema, compression="zstd")
        if self._waiting:
            self._parquet.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def _finish(self, metadata: str) -> bool:
        self._flush()
        if self._parquet is not None:
            self._parquet.add_key_value_metadata({"geo": json.dumps(self._geo()), METADATA_KEY: metadata})
        self._close()
        return True

    def _geo(self) -> dict[str, Any]:
        crs = self.target.crs
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self._types),
            # A missing entry would mean longitude and latitude; null says that the CRS is unknown.
            "crs": None if crs is None else crs.to_json_dict(),
            "edges": "planar",
        }
        if np.isfinite(self._bounds).all():
            column["bbox"] = self._bounds.tolist()
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}

    def _close(self) -> None:
        if self._parquet is not None:
            parquet, self._parquet = self._parquet, None
            parquet.close()


def _one_of_each_type(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    _, first = np.unique(shapely.get_type_id(geometries), return_index=True)
    return geometries[first]
