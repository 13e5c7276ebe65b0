"""What every writer of crowns shares: a folder for temporary files, checks of what is appended, and publishing."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyogrio.errors
import pyproj
import shapely

from treedet.errors import CrownsError, DegenerateCrownError, OutputError, TreedetError
from treedet.vectors.columns import Layout, extras, require
from treedet.vectors.crs import same_ground
from treedet.vectors.shapes import Shape, check_shape, drawn

logger = logging.getLogger("treedet")

METADATA_KEY = "treedet_run"
"""Under this name the run's metadata lies inside a GeoPackage or GeoParquet file."""
SIDECAR = ".meta.json"
SHAPEFILE_PARTS = (".dbf", ".shx", ".prj", ".cpg")
STALE = {
    ".shp": (*SHAPEFILE_PARTS, ".qix", ".sbn", ".sbx", ".fix"),
    ".gpkg": (".gpkg-wal", ".gpkg-shm", ".gpkg-journal"),
}
"""What an older output leaves beside a new one that would contradict it: indices, write-ahead logs."""
SHAPEFILE_NAME_LENGTH = 10

ImageSizes = tuple[int, int] | Mapping[str, tuple[int, int]] | None


@dataclass(frozen=True)
class WriteOptions:
    """How crowns are written.

    Attributes:
        overwrite: Replace an existing output.
        shape: Geometry written: ``box`` (the crown's own polygon), ``ellipse`` or ``point``.
        wkt: Add the geometry as well-known text to a CSV.
        colour_by: Column that colours the style in a GeoPackage; None for status, else species, else another
            attribute, else the label.
        partition: Write a folder of GeoParquet with a file for each raster (``source``) or each square kilometre
            (``cell``); None writes one file.
    """

    overwrite: bool = False
    shape: Shape = "box"
    wkt: bool = False
    colour_by: str | None = None
    partition: Literal["source", "cell"] | None = None

    def __post_init__(self) -> None:
        check_shape(self.shape)


@dataclass(frozen=True)
class Target:
    """Where crowns go, and what is known before the first of them.

    Attributes:
        path: The output file.
        layout: Names of classes and attributes.
        crs: CRS of the tables that will be appended, or None where they are in pixels.
        image_sizes: Width and height of the raster in pixels, for all crowns or by ``source``; None if unknown.
        options: How to write.
    """

    path: Path
    layout: Layout
    crs: pyproj.CRS | None
    image_sizes: ImageSizes = None
    options: WriteOptions = field(default_factory=WriteOptions)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, which names the format."""
        return self.path.suffix.lower()


@contextmanager
def errors_told(path: Path) -> Iterator[None]:
    """Turn whatever a library says about a file that can not be written into one OutputError."""
    try:
        yield
    except TreedetError:
        raise
    except OSError as error:
        raise OutputError(f"can not write {path}: {error.strerror or error}") from error
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FeatureError,
        pyogrio.errors.FieldError,
        pyogrio.errors.GeometryError,
        pyogrio.errors.CRSError,
        pa.ArrowException,
        sqlite3.Error,
    ) as error:
        reason = str(error).strip().splitlines()
        raise OutputError(f"can not write {path}: {reason[0] if reason else type(error).__name__}") from error


class CrownsWriter(ABC):
    """Takes crowns in parts and leaves one file, whole or not at all.

    Everything is written to a hidden folder beside the target and renamed by :meth:`finish`. Used as a context
    manager; leaving the context without :meth:`finish` removes what was written and leaves an older file as it was.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows = 0
        self._extras: list[str] | None = None
        if target.crs is None:
            logger.info("%s: there is no CRS, so coordinates are pixels, y downwards", target.path)
        with errors_told(target.path):
            folder = tempfile.mkdtemp(prefix=f".{target.path.stem[:40]}.", dir=target.path.parent)
        self._folder = Path(folder)
        self.file = self._folder / (target.path.stem + target.suffix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def append(self, table: gpd.GeoDataFrame, boxes_px: npt.NDArray[np.float64] | None) -> None:
        """Add crowns.

        Args:
            table: Crowns with the contract's columns, in the writer's CRS; further columns are kept, and must be
                the same in every part.
            boxes_px: Float64 ``[N, 4]``, ``(xmin, ymin, xmax, ymax)`` in pixels of the native raster; CSV and COCO
                write them. None where nobody knows them: a CSV then holds WKT instead, and COCO is refused.

        Raises:
            OutputError: The file can not be written: disk full, no permission.
            CrownsError: The table breaks the contract.
        """
        self._check(table, boxes_px)
        geometries = drawn(np.asarray(table.geometry.to_numpy(), dtype=object), self.target.options.shape)
        with errors_told(self.target.path):
            self._append(table, geometries, boxes_px)
        self.rows += len(table)

    def finish(self, metadata: Mapping[str, object] | None = None) -> None:
        """Write what belongs at the end (metadata, styles, indices) and rename the file to its target.

        Args:
            metadata: What is known about the run, JSON-able. Formats that hold none get it as
                ``<output file>.meta.json``, and nothing where it is empty.

        Raises:
            OutputError: The file can not be written.
        """
        with errors_told(self.target.path):
            if not self._finish(self._metadata(metadata)) and metadata:
                sidecar = self._folder / (self.target.path.name + SIDECAR)
                sidecar.write_text(self._metadata(metadata, indent=1), encoding="utf-8")
            self._publish()
        self.discard()

    def discard(self) -> None:
        """Remove what was written and not published."""
        # Closing flushes, which fails again on a full disk; the file is going away.
        with suppress(OSError, pa.ArrowException):
            self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @abstractmethod
    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        """Write a checked part; ``geometries`` are the crowns in the shape wanted."""

    @abstractmethod
    def _finish(self, metadata: str) -> bool:
        """Complete ``self.file`` and return True if the metadata (JSON) went inside."""

    def _close(self) -> None:  # noqa: B027 - writers without an open file have nothing to do
        """Close open files; called more than once."""

    def _check(self, table: gpd.GeoDataFrame, boxes_px: npt.NDArray[np.float64] | None) -> None:
        target = self.target
        require(table, target.layout, where="the crowns table")
        if boxes_px is not None and boxes_px.shape != (len(table), 4):
            raise CrownsError(f"boxes_px must have shape ({len(table)}, 4), found {boxes_px.shape}")
        if table.crs is not None and not (target.crs is not None and same_ground(table.crs, target.crs)):
            raise CrownsError(
                f"crowns in {table.crs.name!r} do not go into a file in {target.crs.name if target.crs else None!r}"
            )
        further = extras(table, target.layout)
        if self._extras is None:
            check_names([*target.layout.dtypes, *further], target.path)
            self._extras = further
        elif further != self._extras:
            raise CrownsError(f"each part must have the same columns: first {self._extras}, now {further}")
        geometries = table.geometry.to_numpy()
        empty = shapely.is_missing(geometries) | shapely.is_empty(geometries)
        if empty.any():
            row = int(np.flatnonzero(empty)[0])
            raise DegenerateCrownError(
                f"column 'geometry', row {row} of {len(table)}: there is no geometry; drop the row"
            )

    def _metadata(self, metadata: Mapping[str, object] | None, indent: int | None = None) -> str:
        layout, crs = self.target.layout, self.target.crs
        facts: dict[str, Any] = {
            "classes": list(layout.classes),
            "attributes": {name: list(names) for name, names in layout.attributes.items()},
            "shape": self.target.options.shape,
            "crs": None if crs is None else crs.to_wkt(),
        }
        return json.dumps({**(metadata or {}), "crowns": facts}, indent=indent, ensure_ascii=False, default=str)

    def _publish(self) -> None:
        path = self.target.path
        if not self.target.options.overwrite:
            refuse_existing(path)
        for stale in STALE.get(self.target.suffix, ()):
            path.with_suffix(stale).unlink(missing_ok=True)
        path.with_name(path.name + SIDECAR).unlink(missing_ok=True)
        # The file that makes the others visible comes last, so that nobody opens half a Shapefile.
        for part in sorted(self._folder.iterdir(), key=lambda part: part == self.file):
            part.replace(path if part == self.file else path.parent / part.name)


def refuse_existing(path: Path) -> None:
    """Raise an OutputError if an output, or a part of it, is there already."""
    parts = [path, *(path.with_suffix(s) for s in SHAPEFILE_PARTS[:2] if path.suffix.lower() == ".shp")]
    for part in parts:
        if part.exists():
            raise OutputError(f"{part} exists already; allow it to be replaced with overwrite=True (--overwrite)")


def check_names(names: Iterable[str], path: Path) -> None:
    """Raise an OutputError for a column that a Shapefile would cut."""
    too_long = [name for name in names if len(name.encode()) > SHAPEFILE_NAME_LENGTH]
    if path.suffix.lower() == ".shp" and too_long:
        raise OutputError(
            f"a Shapefile cuts column names at {SHAPEFILE_NAME_LENGTH} characters, found {', '.join(too_long)}; "
            "write a GeoPackage (.gpkg) instead, or shorten the attribute or class to 8 characters"
        )
