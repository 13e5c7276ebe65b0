"""GeoParquet in a folder of files, by raster or by cell of ground, with a ``_metadata`` that says what each holds.

Each row has its box in the column ``bbox`` (a covering by GeoParquet 1.1), and ``_metadata`` its range in each row
group, so that readers skip what lies elsewhere.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from treedet.core.grid import axis_unit
from treedet.errors import ConfigError, OutputError
from treedet.vectors.columns import to_arrow, with_geometry
from treedet.vectors.crowns_writer import METADATA_KEY, CrownsWriter, Target
from treedet.vectors.geoparquet import NAMES, Extent, RowGroups, empty_schema
from treedet.vectors.layers import METADATA_FILE

Partition: TypeAlias = Literal["source", "cell"]

CELL_M = 1000.0
"""Side of a cell of ground in metres; in degrees a hundredth of a degree, without a CRS 10,000 pixels."""
CELL_DEGREES = 0.01
CELL_PX = 10_000.0
OPEN_FILES = 64
"""Files that are written to at the same time; the one untouched for longest is closed for another."""
HELD_ROWS = 262_144
"""Rows that wait for their row group, over all files."""
BOX = "bbox"


class PartitionedWriter(CrownsWriter):
    """Writes a folder of GeoParquet, in memory that depends on neither crowns nor files."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.file.mkdir()
        self._open: dict[str, RowGroups] = {}
        self._numbers: dict[str, int] = defaultdict(int)
        self._closed: list[pq.FileMetaData] = []
        self._extent = Extent()
        self._schema: pa.Schema | None = None

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        part = _with_boxes(with_geometry(to_arrow(table, self.target.layout, names_as=NAMES), geometries), geometries)
        if self._schema is None:
            self._schema = self._labelled(part.schema)
        names, codes = self._names(table, geometries)
        for code, name in enumerate(names):
            rows = np.flatnonzero(codes == code)
            file = self._file(name)
            file.add(part.take(rows), geometries[rows])
            if file.waiting and sum(each.waiting for each in self._open.values()) >= HELD_ROWS:
                max(self._open.values(), key=lambda each: each.waiting).flush()

    def _names(
        self, table: gpd.GeoDataFrame, geometries: npt.NDArray[np.object_]
    ) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return names of files, and the position among them for each row."""
        if self.target.options.partition == "source":
            codes, sources = pd.factorize(table["source"])
            return [_of_source(str(source)) for source in sources], codes
        side = _cell_side(self.target.crs)
        corner = np.floor(shapely.get_coordinates(shapely.centroid(geometries)) / side) * side
        places, codes = np.unique(corner, axis=0, return_inverse=True)
        return [f"x{x:.10g}_y{y:.10g}" for x, y in places], codes.reshape(-1)

    def _file(self, name: str) -> RowGroups:
        """Return the open file of a name, as the last one touched."""
        if name in self._open:
            self._open[name] = self._open.pop(name)
            return self._open[name]
        if len(self._open) >= OPEN_FILES:
            self._complete(next(iter(self._open)))
        self._numbers[name] += 1
        number = self._numbers[name]
        path = self.file / f"{name}{f'-{number}' if number > 1 else ''}.parquet"
        self._open[name] = RowGroups(path, self._schema, collector=self._closed)
        return self._open[name]

    def _complete(self, name: str) -> None:
        file = self._open.pop(name)
        file.close({"geo": file.extent.geo(self.target.crs, covering=BOX)})
        self._closed[-1].set_file_path(file.path.name)
        low, high = file.extent.bounds[:2], file.extent.bounds[2:]
        self._extent.types |= file.extent.types
        self._extent.bounds = np.concatenate(
            [np.minimum(self._extent.bounds[:2], low), np.maximum(self._extent.bounds[2:], high)]
        )

    def _finish(self, metadata: str) -> bool:
        if self._schema is None:
            schema = empty_schema(self.target)
            self._schema = self._labelled(schema.append(pa.field(BOX, _BOX_TYPE)))
        if not self._open and not self._closed:
            # A reader takes the columns from a file, even one without rows.
            self._file("none")
        for name in list(self._open):
            self._complete(name)
        about = {"geo": self._extent.geo(self.target.crs, covering=BOX), METADATA_KEY: metadata}
        pq.write_metadata(
            self._schema.with_metadata(about), self.file / METADATA_FILE, metadata_collector=self._closed
        )
        return True

    def _labelled(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns with what is known of geometries before any came: readers of folders look there."""
        return schema.with_metadata({"geo": Extent().geo(self.target.crs, covering=BOX)})

    def _close(self) -> None:
        for file in self._open.values():
            file.close()

    def _publish(self) -> None:
        path = self.target.path
        check_folder(path, overwrite=self.target.options.overwrite)
        if path.is_dir():
            path.replace(self._folder / "replaced")
        elif path.exists():
            path.unlink()
        self.file.replace(path)


def check_partition(partition: str | None) -> None:
    """Raise a ConfigError for a word that names no way to part crowns."""
    if partition is not None and partition not in get_args(Partition):
        raise ConfigError(f"partition {partition!r} is unknown: accepted are {', '.join(get_args(Partition))}")


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Find out whether a folder of GeoParquet can be written.

    Args:
        path: The folder; an empty one may be there.
        overwrite: Replace an older one; a folder that holds anything else is never touched.

    Raises:
        OutputError: It can not.
    """
    if path.suffix.lower() not in ("", ".parquet"):
        raise OutputError(
            f"{path}: crowns parted by source or cell go into a folder of GeoParquet; give a name without suffix, or "
            "one ending in .parquet"
        )
    if not path.parent.is_dir():
        raise OutputError(f"can not write {path}: there is no folder {path.parent}; make it first")
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    other = [name for name in found if not name.endswith(".parquet") and name != METADATA_FILE]
    if other or (found and METADATA_FILE not in found):
        raise OutputError(
            f"{path} holds other files ({(other or found)[0]}) than crowns that treedet wrote, so it stays; "
            "name a new folder"
        )
    if (found or path.is_file()) and not overwrite:
        raise OutputError(f"{path} exists already; allow it to be replaced with overwrite=True (--overwrite)")


_BOX_TYPE = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])


def _with_boxes(part: pa.Table, geometries: npt.NDArray[np.object_]) -> pa.Table:
    sides = [pa.array(side) for side in shapely.bounds(geometries).reshape(-1, 4).T]
    return part.append_column(pa.field(BOX, _BOX_TYPE), pa.StructArray.from_arrays(sides, fields=list(_BOX_TYPE)))


def _of_source(source: str) -> str:
    """Return a file name for a raster: its own, and what tells apart rasters of the same name.

    >>> _of_source("north/a.tif"), _of_source("south/a.tif")
    ('a-5dd13ce3', 'a-e29f8b8b')
    """
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(source).stem)
    return f"{stem or 'raster'}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def _cell_side(crs: pyproj.CRS | None) -> float:
    if crs is None:
        return CELL_PX
    return CELL_DEGREES if crs.is_geographic else CELL_M / axis_unit(crs)
