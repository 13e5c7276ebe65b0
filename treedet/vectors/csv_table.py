"""CSV: ``image_path,xmin,ymin,xmax,ymax,label,score`` in pixels, the other columns, and where each crown is."""

from __future__ import annotations

import logging

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyproj
import shapely
from pyproj.exceptions import ProjError

from treedet.vectors.columns import arrow_schema, to_arrow
from treedet.vectors.crowns_writer import CrownsWriter, Target
from treedet.vectors.geojson import WGS84

logger = logging.getLogger("treedet")

BOX = ("xmin", "ymin", "xmax", "ymax")
PLACE = ("x", "y", "lon", "lat")
PIXEL_DECIMALS, METRE_DECIMALS, DEGREE_DECIMALS = 4, 4, 9


class CsvWriter(CrownsWriter):
    """Appends rows as they come; ``image_path`` is the table's ``source``."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._csv: pa.csv.CSVWriter | None = None
        self._schema: pa.Schema | None = None
        self._map_decimals = (
            DEGREE_DECIMALS if target.crs is not None and target.crs.is_geographic else METRE_DECIMALS
        )
        self._to_lonlat: pyproj.Transformer | None = None
        if target.crs is not None:
            try:
                self._to_lonlat = pyproj.Transformer.from_crs(target.crs, WGS84, always_xy=True)
            except ProjError:
                logger.info("%s: lon and lat stay empty, nothing leads there from %r", target.path, target.crs.name)

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        columns = to_arrow(table, self.target.layout)
        if boxes_px is not None:
            for name, values in zip(BOX, np.round(boxes_px, PIXEL_DECIMALS).T, strict=True):
                columns = columns.append_column(name, pa.array(values))
        for name, place in zip(PLACE, self._places(geometries), strict=True):
            columns = columns.append_column(name, pa.array(place, type=pa.float64(), from_pandas=True))
        if self.target.options.wkt or boxes_px is None:
            wkt = shapely.to_wkt(geometries, rounding_precision=self._map_decimals)
            columns = columns.append_column("wkt", pa.array(wkt, type=pa.string()))
        rows = columns.rename_columns({"source": "image_path"}).select(_order(columns.column_names))
        if self._csv is None:
            if boxes_px is None:
                logger.info(
                    "%s: pixels of the raster are not known, so geometries are written as WKT", self.target.path
                )
            self._schema = rows.schema
            self._csv = pa.csv.CSVWriter(str(self.file), self._schema)
        self._csv.write_table(rows.cast(self._schema))

    def _places(self, geometries: npt.NDArray[np.object_]) -> list[npt.NDArray[np.float64]]:
        centres = shapely.centroid(geometries)
        x, y = shapely.get_x(centres), shapely.get_y(centres)
        lon, lat = np.full(len(x), np.nan), np.full(len(x), np.nan)
        if self._to_lonlat is not None and len(x):
            lon, lat = self._to_lonlat.transform(x, y)
            outside = ~(np.isfinite(lon) & np.isfinite(lat))
            lon, lat = np.where(outside, np.nan, lon), np.where(outside, np.nan, lat)
        decimals = (self._map_decimals, self._map_decimals, DEGREE_DECIMALS, DEGREE_DECIMALS)
        return [np.round(values, digits) for values, digits in zip((x, y, lon, lat), decimals, strict=True)]

    def _finish(self, metadata: str) -> bool:
        if self._csv is None:
            schema = arrow_schema(self.target.layout)
            for name in (*BOX, *PLACE):
                schema = schema.append(pa.field(name, pa.float64()))
            if self.target.options.wkt:
                schema = schema.append(pa.field("wkt", pa.string()))
            empty = schema.empty_table().rename_columns({"source": "image_path"})
            with pa.csv.CSVWriter(str(self.file), empty.select(_order(schema.names)).schema):
                pass
        self._close()
        return False

    def _close(self) -> None:
        if self._csv is not None:
            writer, self._csv = self._csv, None
            writer.close()


def _order(names: list[str]) -> list[str]:
    """Column names of the file in their order, from those of a table with ``source``."""
    first = ["image_path", *(name for name in BOX if name in names), "label", "score"]
    last = [name for name in (*PLACE, "wkt") if name in names]
    middle = [name for name in names if name not in {*first, *last, "source"}]
    return [*first, *middle, *last]
