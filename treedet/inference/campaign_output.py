"""Where the crowns of many rasters go: one table, or one file for each raster."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from treedet.core.labels import LabelSchema
from treedet.core.placed import Placed
from treedet.inference.gather import Piece, Totals
from treedet.inference.output import Filters
from treedet.inference.watching import Observer
from treedet.rasters.connecting import is_remote
from treedet.vectors.crowns_writer import CrownsWriter, WriteOptions
from treedet.vectors.writers import check_target, open_writer

BATCH_ROWS = 20_000
"""Crowns gathered before they are made into a table: a table of few costs as much as one of many."""
BATCH_PIECES = 500


class OneTable:
    """Crowns of all rasters in one file, with ids that run through.

    Args:
        writer: Writes the file.
        crs: Its CRS.
        filters: Which crowns are kept.
        labels: Names of classes and attributes.
        totals: Adds up what is written.
        observer: Looks at the crowns that are written.
    """

    def __init__(
        self,
        writer: CrownsWriter,
        *,
        crs: pyproj.CRS | None,
        filters: Filters,
        labels: LabelSchema,
        totals: Totals,
        observer: Observer | None = None,
    ) -> None:
        self.own_crs, self.crs = False, crs
        self._writer, self._filters, self._totals, self._observer = writer, filters, totals, observer
        self._attributes = {name: len(values) for name, values in labels.attributes.items()}
        self._waiting: list[tuple[Piece, Placed]] = []
        self._rows = self._waiting_rows = 0

    def take(self, piece: Piece, placed: Placed) -> None:
        """Take the crowns of a piece; they are written once there are many."""
        self._waiting.append((piece, placed))
        self._waiting_rows += len(placed)
        if self._waiting_rows >= BATCH_ROWS or len(self._waiting) >= BATCH_PIECES:
            self._flush()

    def finish(self) -> None:
        """Write what is left; a file without crowns still has its columns."""
        self._flush()
        if not self._rows:
            self._append(Placed.concat([], self._attributes))

    def _append(self, placed: Placed) -> np.ndarray[Any, np.dtype[np.bool_]]:
        kept, table = self._filters.rows(placed, crs=self.crs, first_id=self._rows + 1)
        if len(table) or not self._rows:
            self._writer.append(table, placed.boxes_px[kept])
        self._rows += len(table)
        return kept

    def _flush(self) -> None:
        if not self._waiting:
            return
        kept = self._append(Placed.concat([placed for _, placed in self._waiting], self._attributes))
        start = 0
        for piece, placed in self._waiting:
            crowns = placed.crowns.take(kept[start : start + len(placed)])
            start += len(placed)
            self._totals.add(piece, crowns)
            if self._observer is not None:
                self._observer.observe(crowns, piece.setup.job.plan.grid, ground=piece.ground)
        self._waiting, self._waiting_rows = [], 0


class PerRaster:
    """Crowns in one file for each raster, in its own CRS, with ids from 1.

    A raster's file is written once nothing above or below can add to it, so only a row of rasters waits in memory.

    Args:
        paths: File to write for each raster.
        filters: Which crowns are kept.
        labels: Names of classes and attributes.
        totals: Adds up what is written.
        options: How files are written.
        metadata: What to store in each, by raster.
        observer: Looks at the crowns that are written.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        *,
        filters: Filters,
        labels: LabelSchema,
        totals: Totals,
        options: WriteOptions,
        metadata: Callable[[str], dict[str, Any]],
        observer: Observer | None = None,
    ) -> None:
        self.own_crs = True
        self.crs: pyproj.CRS | None = None
        self._paths, self._filters, self._labels, self._totals = paths, filters, labels, totals
        self._options, self._metadata, self._observer = options, metadata, observer
        self._attributes = {name: len(values) for name, values in labels.attributes.items()}
        self._waiting: dict[str, list[Placed]] = defaultdict(list)
        self._unwritten: list[tuple[float, str]] = []
        self._ground = -1

    def take(self, piece: Piece, placed: Placed) -> None:
        """Take the crowns of a piece, and write the rasters that are complete with it."""
        if piece.ground != self._ground:
            self._begin(piece)
        kept = np.ones(len(placed), np.bool_)
        if self._filters.text and len(placed):
            kept, _ = self._filters.rows(placed, crs=piece.setup.crs, first_id=1)
        left = placed.take(kept)
        self._totals.add(piece, left.crowns)
        if self._observer is not None:
            self._observer.observe(left.crowns, piece.setup.job.plan.grid, ground=piece.ground)
        for source in np.unique(left.sources.astype(str)).tolist():
            self._waiting[source].append(left.take(left.sources == source))
        while self._unwritten and (piece.last or self._unwritten[-1][0] <= piece.settled):
            self._write(self._unwritten.pop()[1], piece)

    def finish(self) -> None:
        """Do nothing: the last piece of a ground completes its rasters."""

    def _begin(self, piece: Piece) -> None:
        members = piece.setup.raster.members
        scale = piece.setup.job.plan.grid.height / piece.setup.raster.grid.height
        bottoms = (members.boxes[:, 3] * scale).tolist()
        self._ground = piece.ground
        # The last is written first: those that end furthest north.
        self._unwritten = sorted(zip(bottoms, members.paths, strict=True), reverse=True)

    def _write(self, source: str, piece: Piece) -> None:
        placed = Placed.concat(self._waiting.pop(source, []), self._attributes)
        path = self._paths[source]
        path.parent.mkdir(parents=True, exist_ok=True)
        size = piece.setup.raster.members.sizes[source]
        crs = piece.setup.crs
        with open_writer(path, schema=self._labels, crs=crs, raster_size=size, options=self._options) as writer:
            kept, table = self._filters.rows(placed, crs=crs, first_id=1)
            writer.append(table, placed.boxes_px[kept])
            writer.finish(self._metadata(source))


def paths_per_raster(output: Path, rasters: Sequence[str]) -> dict[str, Path]:
    """Return the file to write for each raster, in a folder, in subfolders where the rasters are in some.

    Args:
        output: The folder; or a file name, whose suffix names the format and whose stem the folder.
        rasters: Their paths.

    >>> found = paths_per_raster(Path("out.csv"), ["a/1.tif", "a/b/1.tif", "a/b/1.png", "a/../a/b/c/2.tif"])
    >>> [path.as_posix() for path in found.values()]
    ['out/1.csv', 'out/b/1.tif.csv', 'out/b/1.png.csv', 'out/b/c/2.csv']
    """
    suffix = output.suffix or ".gpkg"
    folder = output.with_suffix("")
    # Absolute, so that no path leads out of the folder.
    parents = [os.path.dirname(path if is_remote(path) else os.path.abspath(path)) for path in rasters]  # noqa: PTH100, PTH120 -- paths may be URLs
    try:
        common = os.path.commonpath(parents)
    except ValueError:
        common = ""
    relative = [os.path.relpath(parent, common) if common else parent for parent in parents]
    places = [Path(*(part for part in Path(place).parts if part not in ("..", os.sep))) for place in relative]
    stems = [folder / place / Path(path).stem for place, path in zip(places, rasters, strict=True)]
    often = Counter(stems)
    return {
        path: stem.with_name((stem.name if often[stem] == 1 else Path(path).name) + suffix)
        for path, stem in zip(rasters, stems, strict=True)
    }


def check_targets(paths: Mapping[str, Path], output: Path, *, overwrite: bool, schema: LabelSchema) -> None:
    """Find out before any work whether the files of each raster can be written.

    Raises:
        OutputError: One can not.
    """
    folder = output.with_suffix("")
    # What the folder will be in has to be there; the folder itself is made.
    check_target(folder.parent / f"x{output.suffix or '.gpkg'}", overwrite=True, schema=schema)
    for path in paths.values():
        if path.exists():
            check_target(path, overwrite=overwrite, schema=schema)
