"""Formats that GDAL writes: GeoPackage, Shapefile and FlatGeobuf.

Parts are staged in a temporary Arrow file and streamed to GDAL once, at the end: one pass with the spatial index
built last takes a third of the time of appending part by part, and memory stays constant either way.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyogrio
import pyproj
import shapely

from treedet.errors import OutputError
from treedet.vectors import qgis_style
from treedet.vectors.columns import arrow_schema, to_arrow, with_geometry
from treedet.vectors.crowns_writer import METADATA_KEY, CrownsWriter, Target

logger = logging.getLogger("treedet")

LAYER = "crowns"
DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf"}
DBF_STRING_BYTES = 254
BATCH_ROWS = 65_536


class StagedWriter(CrownsWriter):
    """Stages crowns as Arrow batches and lets GDAL write them once.

    What a driver needs differently is a few lines in a subclass.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._staged = self._folder / "staged.arrow"
        self._stage: pa.ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None
        self._types: set[int] = set()

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        part = with_geometry(to_arrow(self._fitted(table), self.target.layout), geometries)
        if self._schema is None:
            self._schema = self._file_schema(part.schema)
            self._stage = pa.ipc.new_file(str(self._staged), self._schema)
        if self._stage is not None:
            self._stage.write_table(part.cast(self._schema), max_chunksize=BATCH_ROWS)
        self._types |= set(np.unique(shapely.get_type_id(geometries)).tolist())

    def _finish(self, metadata: str) -> bool:
        if self._stage is None:
            schema = self._file_schema(arrow_schema(self.target.layout).insert(0, pa.field("geometry", pa.binary())))
            self._write(pa.RecordBatchReader.from_batches(schema, iter(())), metadata)
        else:
            self._close()
            with pa.memory_map(str(self._staged)) as source, pa.ipc.open_file(source) as staged:
                self._write(pa.RecordBatchReader.from_batches(staged.schema, _batches(staged)), metadata)
        self._staged.unlink(missing_ok=True)
        found = pyogrio.read_info(self.file, layer=self._layer, force_feature_count=True)["features"]
        if max(found, 0) != self.rows:
            raise OutputError(
                f"can not write {self.target.path}: {self.rows} crowns were given, {found} arrived; disk full?"
            )
        return False

    def _write(self, reader: pa.RecordBatchReader, metadata: str) -> None:
        crs = self.target.crs
        with warnings.catch_warnings():
            # Crowns without a CRS are said so once, by the base class.
            warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
            pyogrio.write_arrow(
                reader,
                self.file,
                layer=self._layer,
                driver=DRIVERS[self.target.suffix],
                geometry_name="geometry",
                geometry_type=self._geometry_type,
                crs=None if crs is None else gdal_crs(crs),
                encoding="UTF-8",
                **self._driver_options(metadata),
            )

    @property
    def _layer(self) -> str:
        return self.file.stem

    @property
    def _geometry_type(self) -> str:
        if self.target.options.shape == "point":
            return "Point"
        return "Polygon" if self._types <= {shapely.GeometryType.POLYGON} else "Unknown"

    def _fitted(self, table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Return the table as the format can hold it."""
        return table

    def _file_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the Arrow schema as the format can hold it."""
        return schema

    def _driver_options(self, metadata: str) -> dict[str, object]:
        return {}

    def _close(self) -> None:
        if self._stage is not None:
            stage, self._stage = self._stage, None
            stage.close()


class GeoPackageWriter(StagedWriter):
    """Layer ``crowns`` with the run's metadata (the GeoPackage metadata extension) and a style for QGIS."""

    def _finish(self, metadata: str) -> bool:
        super()._finish(metadata)
        style = qgis_style.layer_style(
            self.target.layout.classes,
            self.target.layout.attributes,
            points=self.target.options.shape == "point",
            colour_by=self.target.options.colour_by,
        )
        qgis_style.store(self.file, style, layer=LAYER, geometry_column="geometry")
        return True

    @property
    def _layer(self) -> str:
        return LAYER

    def _driver_options(self, metadata: str) -> dict[str, object]:
        return {"layer_metadata": {METADATA_KEY: metadata}, "layer_options": {"GEOMETRY_NAME": "geometry"}}


class ShapefileWriter(StagedWriter):
    """Truth as 0 and 1, and ``source`` cut on its left, where paths differ least, to what a DBF field holds."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._shortened = False

    @property
    def _geometry_type(self) -> str:
        # One Shapefile type holds polygons and multipolygons.
        return "Point" if self.target.options.shape == "point" else "Polygon"

    def _fitted(self, table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        sources = table["source"].astype("category")
        names = [str(name) for name in sources.cat.categories]
        short = {name: shorten(name) for name in names}
        if any(short[name] != name for name in names):
            if not self._shortened:
                logger.info(
                    "%s: a Shapefile holds %d bytes of text; longer paths in 'source' lose their beginning",
                    self.target.path,
                    DBF_STRING_BYTES,
                )
            self._shortened = True
            return table.assign(source=table["source"].map(short).astype("str"))
        return table

    def _file_schema(self, schema: pa.Schema) -> pa.Schema:
        for i, column in enumerate(schema):
            if pa.types.is_boolean(column.type):
                schema = schema.set(i, column.with_type(pa.int32()))
        return schema


def shorten(text: str, *, limit: int = DBF_STRING_BYTES) -> str:
    """Return the end of a text that fits into ``limit`` bytes of UTF-8, never half a character.

    >>> shorten("plots/Kärnten/a.tif", limit=12)
    'rnten/a.tif'
    >>> shorten("a.tif", limit=12)
    'a.tif'
    """
    return text.encode()[-limit:].decode(errors="ignore")


def gdal_crs(crs: pyproj.CRS) -> str:
    """Return an EPSG code where it says exactly the same, else WKT, which keeps local and compound CRSs.

    >>> gdal_crs(pyproj.CRS(32633))
    'EPSG:32633'
    """
    code = crs.to_epsg(min_confidence=100)
    return f"EPSG:{code}" if code is not None else crs.to_wkt()


def _batches(staged: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    for i in range(staged.num_record_batches):
        yield staged.get_batch(i)
