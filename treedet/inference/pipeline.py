"""Plan → stream → detect → merge → sink: knows order, nothing about networks or files.

Windows are worked off row by row. What a row closes is handed to the sink together with what it leaves open, so
that a sink on disk can take up the run after any row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.boxes import open_sides
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid, Window
from treedet.core.suppression import MergeConfig
from treedet.inference.candidates import Candidates, concat, place
from treedet.inference.ground import valid_rectangles
from treedet.inference.merge import CrownMerger
from treedet.inference.parts import RowFacts
from treedet.models.base import WindowDetector
from treedet.rasters.raster import Raster, Tile
from treedet.rasters.stream import StreamConfig, stream_tiles
from treedet.rasters.tiling import TilePlan


@dataclass(frozen=True)
class Job:
    """What is looked for, and where.

    Attributes:
        plan: Windows on the model grid.
        threshold: Least score of a detection.
        merge: Rule of suppression.
        aoi: Area of interest in pixels of the model grid; None for everything.
        batch_size: Windows given to the detector at once.
        stream: Threads and queue of the readers.
    """

    plan: TilePlan
    threshold: float
    merge: MergeConfig
    aoi: BaseGeometry | None = None
    batch_size: int = 1
    stream: StreamConfig = field(default_factory=StreamConfig)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        windows: Windows done, those of an interrupted run included.
        total: Windows in the plan.
        crowns: Crowns found so far.
    """

    windows: int
    total: int
    crowns: int


class Sink(Protocol):
    """Takes what each row of windows gives."""

    def finish_row(self, row: int, closed: CrownArrays, open_: Candidates, facts: RowFacts) -> None:
        """Keep the crowns a row closed, and what it leaves open."""


def run(
    raster: Raster,
    detector: WindowDetector,
    job: Job,
    sink: Sink,
    *,
    first_row: int = 0,
    last_row: int | None = None,
    open_: Candidates | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> None:
    """Find the crowns of a raster and hand them to a sink, row by row.

    Args:
        raster: Open raster.
        detector: Finds crowns in windows.
        job: What and where.
        sink: Takes closed crowns.
        first_row: Row of windows to start with.
        last_row: Row before which to stop; None for the last one.
        open_: Detections left open above the first row, after a resume. None where another run takes the rows above:
            what could meet a detection of theirs then stays open.
        watch: Called after each batch of windows.
    """
    if open_ is None:
        merger = CrownMerger(job.merge, above=job.plan.bottom_above(first_row))
    else:
        merger = CrownMerger(job.merge)
        merger.restore(open_)
    progress = _Counter(job.plan, first_row, watch)
    started = time.perf_counter()
    rows = range(len(job.plan.rows))[first_row:last_row]
    stream = stream_tiles(raster, job.plan, config=job.stream, first_row=first_row, last_row=last_row)
    with closing(stream) as tiles:
        by_row = groupby(tiles, key=lambda item: item[0])
        upcoming = next(by_row, None)
        for row in rows:
            found, facts = [no_candidates(detector)], RowFacts()
            if upcoming is not None and upcoming[0] == row:
                for batch in _batches((tile for _, tile in upcoming[1]), job.batch_size):
                    candidates, counted = _detect(batch, detector, job, row)
                    found.append(candidates)
                    facts += counted
                    progress.add(len(batch), len(candidates))
                upcoming = next(by_row, None)
            closed = merger.push(concat(found), next_top=job.plan.next_top(row))
            progress.settle(len(closed), len(merger.open))
            now = time.perf_counter()
            facts += RowFacts(seconds=now - started)
            started = now
            sink.finish_row(row, crowns_in(closed, job), merger.open, facts)


def no_candidates(detector: WindowDetector) -> Candidates:
    """Return no candidates, with the attributes of the detector."""
    return Candidates.empty({name: len(values) for name, values in detector.spec.labels.attributes.items()})


class _Counter:
    def __init__(self, plan: TilePlan, first_row: int, watch: Callable[[Progress], None] | None) -> None:
        self.total = plan.n_windows
        self.windows = sum(len(row) for row in plan.rows[:first_row])
        self.crowns = self.closed = 0
        self.watch = watch

    def add(self, windows: int, crowns: int) -> None:
        self.windows += windows
        self.crowns += crowns
        if self.watch is not None:
            self.watch(Progress(self.windows, self.total, self.crowns))

    def settle(self, closed: int, open_: int) -> None:
        """Count crowns rather than candidates once a row is merged."""
        self.closed += closed
        self.crowns = self.closed + open_


def _batches(tiles: Iterator[Tile], size: int) -> Iterator[list[Tile]]:
    batch: list[Tile] = []
    for tile in tiles:
        batch.append(tile)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _detect(batch: list[Tile], detector: WindowDetector, job: Job, row: int) -> tuple[Candidates, RowFacts]:
    """Return the candidates of a batch of tiles of one row, and what was counted."""
    grid = job.plan.grid
    seen = [tile for tile in batch if not tile.is_empty]
    valid_px = sum(_valid_ground(tile, job) for tile in seen)
    facts = RowFacts(windows=len(batch), skipped=len(batch) - len(seen), valid_px=valid_px)
    for tile in seen:
        facts += RowFacts(ground=_valid_rectangles(tile, job.plan))
    if not seen:
        return no_candidates(detector), facts
    sides = [open_sides(tile.window.box, width=grid.width, height=grid.height) for tile in seen]
    pixels = seen[0].pixels[None] if len(seen) == 1 else np.stack([tile.pixels for tile in seen])
    before = time.perf_counter()
    found = detector.detect(pixels, sides=sides, threshold=job.threshold, merge=job.merge)
    facts += RowFacts(network_s=time.perf_counter() - before)
    placed = []
    for tile, detections in zip(seen, found, strict=True):
        # Counted in the full plan, so that an AOI does not change how ties are broken.
        number = row * len(job.plan.lefts) + job.plan.lefts.index(tile.window.col)
        placed.append(on_valid_ground(place(detections, tile.window, number), tile, grid))
    return concat(placed), facts


def on_valid_ground(candidates: Candidates, tile: Tile, grid: Grid) -> Candidates:
    """Drop candidates whose centre is nodata, and mark those that touch the end of valid imagery.

    Args:
        candidates: Placed candidates of one tile.
        tile: The tile.
        grid: The model grid, whose border ends the imagery too.
    """
    boxes = candidates.boxes
    edge = (
        (boxes[:, 0] <= 1) | (boxes[:, 1] <= 1) | (boxes[:, 2] >= grid.width - 1) | (boxes[:, 3] >= grid.height - 1)
    )
    if tile.valid.all():
        return candidates.with_edge(edge)
    left, top = tile.window.col, tile.window.row
    height, width = tile.valid.shape
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (left, top)).astype(np.int64)
    inside = tile.valid[np.clip(centre[:, 1], 0, height - 1), np.clip(centre[:, 0], 0, width - 1)]
    # A summed-area table answers for every box at once whether it holds or touches an invalid pixel.
    table = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(np.cumsum(~tile.valid, axis=0, dtype=np.int32), axis=1, out=table[1:, 1:])
    low = np.floor(boxes[:, :2] - (left, top)).astype(np.int64) - 1
    high = np.ceil(boxes[:, 2:] - (left, top)).astype(np.int64) + 1
    x0, x1 = np.clip(low[:, 0], 0, width), np.clip(high[:, 0], 0, width)
    y0, y1 = np.clip(low[:, 1], 0, height), np.clip(high[:, 1], 0, height)
    invalid = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
    return candidates.with_edge(edge | (invalid > 0)).take(inside)


def _valid_ground(tile: Tile, job: Job) -> float:
    """Count the valid pixels of a tile inside the AOI that no earlier tile of the plan counts."""
    core = _core(tile.window, job.plan)
    valid = tile.valid[: core.height, : core.width]
    if job.aoi is None:
        return float(np.count_nonzero(valid))
    inside: BaseGeometry = shapely.intersection(shapely.box(*core.box), job.aoi)
    return float(shapely.area(inside)) if valid.all() else _valid_within(inside, valid, core)


def _valid_within(inside: BaseGeometry, valid: npt.NDArray[np.bool_], core: Window) -> float:
    """Return the valid area inside a geometry, in pixels: each row is measured along its middle."""
    y = core.row + np.arange(core.height) + 0.5
    ends = np.stack([np.full_like(y, core.col), y, np.full_like(y, core.right), y], axis=-1)
    lines = shapely.intersection(shapely.linestrings(ends.reshape(-1, 2, 2)), inside)
    pieces, row = shapely.get_parts(lines, return_index=True)
    filled = ~shapely.is_empty(pieces)
    x, row = shapely.bounds(pieces[filled])[:, [0, 2]] - core.col, row[filled, None]
    column = np.clip(x.astype(np.int64), 0, core.width - 1)
    before = np.cumsum(valid, axis=1, dtype=np.int32)[row, column] - valid[row, column]
    reached = before + (x - column) * valid[row, column]
    return float((reached[:, 1] - reached[:, 0]).sum())


def _valid_rectangles(tile: Tile, plan: TilePlan) -> npt.NDArray[np.int32]:
    """Return the valid ground of a tile that no earlier tile of the plan has."""
    core = _core(tile.window, plan)
    return valid_rectangles(tile.valid[: core.height, : core.width], left=core.col, top=core.row, gsd=plan.grid.gsd_y)


def _core(window: Window, plan: TilePlan) -> Window:
    """Return the part of a window from its corner to where the next windows of the full plan begin."""
    right = _next_start(window.col, plan.width, plan.grid.width, plan.lefts)
    bottom = _next_start(window.row, plan.height, plan.grid.height, plan.tops)
    return Window(window.row, window.col, bottom - window.row, right - window.col)


def _next_start(start: int, side: int, size: int, starts: tuple[int, ...]) -> int:
    after = starts.index(start) + 1
    return starts[after] if after < len(starts) else min(start + side, size)


def crowns_in(closed: Candidates, job: Job) -> CrownArrays:
    """Return closed candidates as crowns, without those whose centre is outside the AOI."""
    crowns = CrownArrays(
        boxes=closed.boxes,
        scores=closed.scores,
        classes=closed.classes,
        cut=closed.cut,
        edge=closed.edge,
        attributes=closed.attributes,
    )
    if job.aoi is None or not len(crowns):
        return crowns
    centres = crowns.centres
    return crowns.take(np.asarray(shapely.contains_xy(job.aoi, centres[:, 0], centres[:, 1]), dtype=bool))
